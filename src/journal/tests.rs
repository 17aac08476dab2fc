//! The journal as the gateway uses it, on a disk of its own.

mod cleaning;
mod durability;
mod ledger;
mod privacy;
mod queries;
mod standing;
mod trouble;

use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::clock::ManualClock;
use crate::decision::block::Block;
use crate::telemetry::Metrics;

pub(super) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(super) const DAY: Span = Span::from_secs(86_400);

/// A folder, a clock and what was counted; journals come and go on it.
pub(super) struct Desk {
    folder: tempfile::TempDir,
    clock: Clock,
    hand: ManualClock,
    metrics: Metrics,
}

impl Desk {
    pub(super) fn new() -> Desk {
        let (clock, hand) = Clock::manual(START);
        let folder = tempfile::tempdir().unwrap();
        Desk { folder, clock, hand, metrics: Metrics::new().unwrap() }
    }

    fn spec(&self) -> JournalSpec {
        JournalSpec {
            folder: Some(self.data()),
            retention: Span::from_secs(30 * 86_400),
            seal_key: [7; 32],
            hash_check: KeyHash::from_u128(42),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    pub(super) fn open(&self) -> Journal {
        self.open_as(self.spec(), Pace::default())
    }

    fn open_as(&self, spec: JournalSpec, pace: Pace) -> Journal {
        let pace = Pace { retry_every: Duration::from_millis(20), ..pace };
        Journal::open_at_pace(spec, self.metrics.journal(), self.clock.clone(), pace)
    }

    /// What a metric says; zero if it was never told.
    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The names of the files that were moved aside, oldest first.
    fn broken(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.data()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut broken: Vec<_> =
            names.filter(|name| name.contains(".broken-") && !name.ends_with("-wal")).collect();
        broken.sort();
        broken
    }

    fn sql<T: rusqlite::types::FromSql>(&self, question: &str) -> T {
        let connection = rusqlite::Connection::open(self.file("journal.db")).unwrap();
        connection.query_row(question, [], |row| row.get(0)).unwrap()
    }
}

/// Waits for what the writer does in its own time.
pub(super) fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..15_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{what}: not within half a minute");
}

pub(super) fn key(number: u64) -> KeyHash {
    KeyHash::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// A block of the key of this number, from now on for so many seconds.
pub(super) fn block(number: u64, now: Timestamp, lasts_s: u64) -> Arc<BlockRecord> {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let until = now.plus(Span::from_secs(lasts_s));
    Arc::new(BlockRecord {
        id: BlockId::new(now, random),
        key: key(number),
        key_kind: "body.email+ip".into(),
        identifier: identifier(number),
        reason: Reason::Limit,
        route: Some("login".into()),
        policy: Some("strict".into()),
        attempts: 6,
        created_at: now,
        block: Block { until, level: 2, forget_at: until.plus(DAY) },
        by: None,
        spec: Some("{\"for\":\"ever\"}".into()),
    })
}

fn identifier(number: u64) -> Identifier {
    Identifier::new(&[("body.email", &format!("person{number}@example.com")), ("ip", "192.0.2.1")])
}

fn event(kind: EventKind, at: Timestamp) -> Event {
    Event {
        route: Some("login".into()),
        policy: Some("strict".into()),
        key: Some("body.email+ip".into()),
        window: Some("hourly".into()),
        client: Some(IpAddr::from([192, 0, 2, 1])),
        user_agent: Some("curl/8".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        detail: Some("a test".into()),
        ..Event::new(kind, at)
    }
}

fn all(limit: usize) -> EventFilter<'static> {
    EventFilter { limit, ..EventFilter::default() }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}
