use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::clock::ManualClock;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyPart, KeySpec, Missing};
use crate::decision::limit::{Limit, Mode, OnStoreError, Rule, Shown, Window, Windows};
use crate::decision::tally::Charge;
use crate::decision::time::Span;
use crate::telemetry::Metrics;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A folder, and a clock that stands still in it.
struct Desk {
    folder: tempfile::TempDir,
    metrics: Metrics,
    clock: Clock,
    hand: ManualClock,
}

impl Desk {
    fn new() -> Desk {
        let (clock, hand) = Clock::manual(START);
        Desk { folder: tempfile::tempdir().unwrap(), metrics: Metrics::new().unwrap(), clock, hand }
    }

    fn snapshots(&self) -> Snapshots {
        self.under([1; 16])
    }

    fn under(&self, secret: [u8; 16]) -> Snapshots {
        let metrics = self.metrics.data_dir();
        Snapshots::new(self.folder.path(), &KeyHasher::new(secret), metrics, self.clock.clone())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("counters.snapshot")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A store that goes on from the folder.
    fn resumed(&self) -> Store {
        let mut store = store();
        self.snapshots().load(&mut store);
        store
    }
}

fn store() -> Store {
    Store(Place::Memory(MemoryStore::new(1000)))
}

fn limit() -> Limit {
    let window = Window { label: "w".into(), max: NonZeroU32::new(5).unwrap(), span: Span::from_secs(60) };
    Limit {
        id: LimitId::derive(&["l"]),
        policy: "l".into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule: Rule::Windows(Windows::new(vec![window], NonZeroU32::MIN).unwrap()),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::Quota,
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

fn memory(store: &Store) -> &MemoryStore {
    match &store.0 {
        Place::Memory(memory) => memory,
        Place::Shared(_) => panic!("a store in memory"),
    }
}

fn count(store: &Store, key: u128, now: Timestamp) {
    memory(store).take(&[Charge { key: KeyHash::from_u128(key), limit: &limit() }], now);
}

fn used(store: &Store, key: u128, now: Timestamp) -> u32 {
    let charges = [Charge { key: KeyHash::from_u128(key), limit: &limit() }];
    memory(store).peek(&charges, now).list[0].windows[0].used
}

/// A folder in which key 7 was counted twice.
fn saved_twice() -> Desk {
    let desk = Desk::new();
    let store = store();
    count(&store, 7, START);
    count(&store, 7, START);
    desk.snapshots().save(&store);
    desk
}

#[test]
fn counts_go_on_where_they_were() {
    let desk = saved_twice();
    assert_eq!(desk.names(), ["counters.snapshot"]);
    desk.hand.advance(Span::from_secs(30));
    let now = desk.clock.now();
    assert_eq!(used(&desk.resumed(), 7, now), 2);
    assert_eq!(used(&desk.resumed(), 8, now), 0);
    desk.hand.advance(Span::from_secs(30));
    assert_eq!(used(&desk.resumed(), 7, desk.clock.now()), 0, "the time between counts");
    let page = desk.metrics.render();
    assert!(page.contains("tollgate_snapshot_last_timestamp_seconds 1800000000\n"), "{page}");
    assert!(page.contains("tollgate_snapshot_failures_total 0\n"), "{page}");
}

#[test]
fn only_what_changed_is_written() {
    let desk = Desk::new();
    let (store, snapshots) = (store(), desk.snapshots());
    snapshots.save(&store);
    assert!(desk.names().is_empty(), "nothing was counted");
    count(&store, 7, START);
    snapshots.save(&store);
    fs::remove_file(desk.path()).unwrap();
    snapshots.save(&store);
    assert!(desk.names().is_empty(), "nothing was counted since");
    count(&store, 7, START);
    snapshots.save(&store);
    assert_eq!(used(&desk.resumed(), 7, START), 2);
}

#[test]
fn nothing_is_there_at_first() {
    let desk = Desk::new();
    assert_eq!(used(&desk.resumed(), 7, START), 0);
    assert!(desk.names().is_empty());
}

/// What a log line says of a file that is not gone on from.
fn reason(desk: &Desk, snapshots: &Snapshots) -> String {
    let whole = fs::read(desk.path()).unwrap();
    let told = snapshots.read(&MemoryStore::new(1000), START).err().unwrap().to_string();
    let mut store = store();
    snapshots.load(&mut store);
    assert_eq!(used(&store, 7, START), 0, "{told}: nothing of it counts");
    assert_eq!(desk.names(), ["counters.snapshot.broken"], "{told}");
    assert_eq!(fs::read(desk.folder.path().join("counters.snapshot.broken")).unwrap(), whole);
    told
}

#[test]
fn a_torn_file_is_refused_whole_wherever_it_ends() {
    let desk = saved_twice();
    let whole = fs::read(desk.path()).unwrap();
    for length in 0..whole.len() {
        fs::write(desk.path(), &whole[..length]).unwrap();
        let expected = if length < 8 { "it is no snapshot of counters" } else { "it ends early" };
        assert_eq!(reason(&desk, &desk.snapshots()), expected, "{length}");
    }
    fs::write(desk.path(), [&whole[..], b"x"].concat()).unwrap();
    assert_eq!(reason(&desk, &desk.snapshots()), "it is damaged");
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let desk = saved_twice();
    let whole = fs::read(desk.path()).unwrap();
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        fs::write(desk.path(), bytes).unwrap();
        let told = reason(&desk, &desk.snapshots());
        let expected = match place {
            0..8 => "it is no snapshot of counters",
            8..10 => "its format is number",
            10..26 => "it was made under another secret",
            _ => "it ",
        };
        assert!(told.starts_with(expected), "{place}: {told}");
    }
}

#[test]
fn another_secret_and_a_later_version_are_told() {
    let desk = saved_twice();
    assert_eq!(reason(&desk, &desk.under([2; 16])), "it was made under another secret");
    let desk = saved_twice();
    let mut bytes = fs::read(desk.path()).unwrap();
    bytes[8..10].copy_from_slice(&(VERSION + 1).to_le_bytes());
    fs::write(desk.path(), bytes).unwrap();
    assert_eq!(reason(&desk, &desk.snapshots()), "its format is number 2, and this version reads number 1");
}

#[test]
fn a_disk_that_does_not_take_it_is_tried_again() {
    let desk = Desk::new();
    let (store, snapshots) = (store(), desk.snapshots());
    // A folder stands where the file would be written.
    let obstacle = desk.folder.path().join("counters.snapshot.new");
    fs::create_dir(&obstacle).unwrap();
    count(&store, 7, START);
    for _ in 0..2 {
        snapshots.save(&store);
    }
    assert!(snapshots.progress.lock().is_failing);
    assert!(desk.metrics.render().contains("tollgate_snapshot_failures_total 2\n"));
    fs::remove_dir(&obstacle).unwrap();
    snapshots.save(&store);
    assert!(!snapshots.progress.lock().is_failing);
    assert_eq!(used(&desk.resumed(), 7, START), 1);
}

#[test]
fn writing_takes_a_twentieth_of_the_time_at_most() {
    let snapshots = Desk::new().snapshots();
    assert_eq!(snapshots.pause(), Duration::from_secs(5));
    snapshots.progress.lock().took = Duration::from_secs(3);
    assert_eq!(snapshots.pause(), Duration::from_secs(60));
}

/// Snapshots of a store under fire: each can be gone on from, and the last one holds everything.
#[test]
fn a_snapshot_during_traffic_is_whole() {
    let desk = Desk::new();
    let (store, snapshots) = (Arc::new(store()), desk.snapshots());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..=20_000_u128).for_each(|n| count(&store, spread(n % 500 + 1), START));
            is_over.store(true, Ordering::Release);
        });
        while !is_over.load(Ordering::Acquire) {
            snapshots.save(&store);
            if desk.path().exists() {
                assert!(snapshots.read(memory(&store), START).is_ok());
            }
        }
    });
    snapshots.save(&store);
    let back = desk.resumed();
    assert_eq!(back.size(START), store.size(START));
    assert!((1..=500).all(|key| used(&back, spread(key), START) == 5));
}

/// A key with this number in it twice: one half picks the shard, the other the place in its index.
fn spread(number: u128) -> u128 {
    (number << 96) | number
}
