//! The whole gateway without sockets: each rule against a model of its own, too simple to be wrong.

mod backoff;
mod blocks;
mod consistency;
mod events;
mod model;
mod operator;
mod suspicion;
mod windows;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::config::{self, Environment};
use crate::decision::key::KeyHash;
use crate::decision::tally::Outcome;
use crate::decision::time::Span;
use crate::decision::verdict::Cause;
use crate::journal::{EventFilter, JournalSpec};
use crate::store::ScriptTime;

/// Where the clock starts. All times in these tests are milliseconds after it.
const START_MS: u64 = 1_800_000_000_000;
/// As many events as one question is answered with.
const PAGE: usize = 10_000;

/// A gateway with its rules, a clock that the test turns, and a journal on disk.
struct Stage {
    gateway: Gateway,
    policies: Policies,
    hand: ManualClock,
    folder: TempDir,
}

/// One request, put together by hand.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: &'static str,
    headers: HeaderMap,
    peer: IpAddr,
    body: Option<Bytes>,
}

/// What became of a request, without its numbers of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Admitted,
    /// A window is full until then.
    Full(u64),
    Blocked(u64),
    Waits(u64),
    Pending(u64),
    /// Blocked on all routes.
    Banned(u64),
    Denied,
}

impl Stage {
    /// `rules` is the file without version, listeners and upstreams.
    fn set(rules: &str) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        Stage::with_journal_at("data", rules, folder)
    }

    /// With the journal in this folder of the folder, or what may be there instead.
    fn with_journal_at(data: &str, rules: &str, folder: TempDir) -> Stage {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(START_MS));
        let metrics = Metrics::new().unwrap();
        let config = config(folder.path(), rules);
        let hasher = KeyHasher::new([7; 16]);
        let node_secret = KeyHasher::new([9; 16]);
        let store =
            Store::open(&config.store, node_secret, metrics.store(), clock.clone(), ScriptTime::Caller);
        let journal = Journal::open(spec(&folder.path().join(data)), metrics.journal(), clock.clone());
        let policies = Policies::new(config.rules, config.user, &metrics);
        let gateway = Gateway::new(store, clock, hasher, metrics, journal);
        Stage { gateway, policies, hand, folder }
    }

    fn journal_file(&self) -> PathBuf {
        self.folder.path().join("data/journal.db")
    }

    /// The journal as the next process finds it, once this one is closed.
    fn reopened(&self) -> Journal {
        let metrics = Metrics::new().unwrap();
        Journal::open(spec(&self.folder.path().join("data")), metrics.journal(), self.gateway.clock().clone())
    }

    /// Milliseconds since the start.
    fn now_ms(&self) -> u64 {
        ms(self.gateway.clock().now())
    }

    fn advance(&self, ms: u64) {
        self.hand.advance(Span::from_millis(ms));
    }

    async fn admit(&self, mut ask: Ask) -> Admission {
        self.gateway.admit(&self.policies, &mut ask).await
    }

    /// What the gateway says to a request of which nothing else is of interest.
    async fn ask(&self, ask: Ask) -> Said {
        said(&self.admit(ask).await.outcome)
    }

    /// Asks, and lets the backend give this outcome if it is asked at all.
    async fn attempt(&self, ask: Ask, outcome: Outcome) -> Said {
        let admission = self.admit(ask).await;
        if let Some(attempt) = admission.attempt {
            self.gateway.observe(&self.policies, *attempt, outcome).await;
        }
        said(&admission.outcome)
    }

    /// The value of a metric; zero while there is none.
    fn metric(&self, series: &str) -> u64 {
        self.gateway.refresh_gauges();
        let page = self.gateway.metrics().render();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// The sum over all series of a metric whose labels hold this text.
    fn metrics_with(&self, name: &str, label: &str) -> u64 {
        let page = self.gateway.metrics().render();
        let lines =
            page.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// Until when whom is blocked, as operators see it: the kind of key, its values, milliseconds.
    fn blocked(&self) -> BTreeMap<(String, String), u64> {
        let now = self.gateway.clock().now();
        let records = self.gateway.journal().book().snapshot(now);
        let entry = |record: Arc<crate::journal::BlockRecord>| {
            let whom = (record.key_kind.to_string(), record.identifier.expose().to_owned());
            (whom, ms(record.block.until))
        };
        records.into_iter().map(entry).collect()
    }

    /// Closes the journal; how many events of each kind it holds, each counted as often as it stands for.
    async fn close(&self) -> BTreeMap<EventKind, u64> {
        self.gateway.close().await;
        let journal = self.gateway.journal();
        let everything = EventFilter { limit: PAGE, ..EventFilter::default() };
        let rows = journal.events(&everything).unwrap();
        let mut by_row: BTreeMap<EventKind, u64> = BTreeMap::new();
        for row in &rows {
            *by_row.entry(row.event.kind).or_default() += u64::from(row.event.count);
        }
        let mut by_hour: BTreeMap<EventKind, u64> = BTreeMap::new();
        let far = Timestamp::from_millis(START_MS * 2);
        for hour in journal.hours(Timestamp::default(), far, None).unwrap() {
            *by_hour.entry(hour.kind).or_default() += hour.count;
        }
        assert!(rows.len() == PAGE || by_row == by_hour, "rows and hours differ: {by_row:?}, {by_hour:?}");
        by_hour
    }
}

impl Ask {
    fn new(method: Method, path: &'static str) -> Ask {
        Ask { method, path, headers: HeaderMap::new(), peer: client(1), body: None }
    }

    fn get(path: &'static str) -> Ask {
        Ask::new(Method::GET, path)
    }

    /// A POST of this JSON.
    fn post(path: &'static str, body: &serde_json::Value) -> Ask {
        Ask::new(Method::POST, path).body("application/json", body.to_string())
    }

    /// A sign-in under this name.
    fn sign_in(username: &str) -> Ask {
        Ask::post("/login", &serde_json::json!({ "username": username, "password": "x" }))
    }

    fn body(self, media: &'static str, body: impl Into<Bytes>) -> Ask {
        Ask { body: Some(body.into()), ..self }.header("content-type", media)
    }

    fn header(mut self, name: &'static str, value: &str) -> Ask {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// From the client of this number.
    fn from(self, number: u8) -> Ask {
        Ask { peer: client(number), ..self }
    }
}

impl Exchange for Ask {
    fn head(&self) -> Head<'_> {
        let Ask { method, path, headers, peer, .. } = self;
        Head {
            method,
            path,
            query: "",
            authority: None,
            headers,
            peer: *peer,
            client_cert: None,
            request_id: None,
            trace: None,
        }
    }

    fn has_body(&mut self) -> bool {
        self.body.is_some()
    }

    async fn read_body(&mut self) -> Result<Bytes, BodyUnread> {
        Ok(self.body.clone().unwrap_or_default())
    }
}

fn spec(folder: &Path) -> JournalSpec {
    let folder = folder.to_owned();
    let retention = Span::from_secs(30 * 86_400);
    JournalSpec { folder: Some(folder), retention, seal_key: [5; 32], hash_check: KeyHash::from_u128(42) }
}

fn client(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

fn config(folder: &Path, rules: &str) -> config::Config {
    let path = folder.join("gateway.yaml");
    let head =
        "version: 1\nlisten: [{ address: 127.0.0.1:0 }]\nupstreams: { app: { servers: [127.0.0.1:8000] } }\n";
    std::fs::write(&path, format!("{head}{rules}")).unwrap();
    config::load(&path, &Environment::empty()).unwrap_or_else(|refused| panic!("{refused}\n{rules}")).config
}

fn said(outcome: &Result<Permit, Refusal>) -> Said {
    match outcome {
        Ok(_) => Said::Admitted,
        Err(Refusal::Limited(limited)) => {
            let retry_ms = ms(limited.retry_at);
            match limited.cause {
                Cause::Window(_) => Said::Full(retry_ms),
                Cause::Block { .. } => Said::Blocked(retry_ms),
                Cause::Backoff { .. } => Said::Waits(retry_ms),
                Cause::Pending { .. } => Said::Pending(retry_ms),
            }
        }
        Err(Refusal::Banned { until, .. }) => Said::Banned(ms(*until)),
        Err(Refusal::Denied) => Said::Denied,
        Err(other) => panic!("no such refusal is expected here: {other:?}"),
    }
}

/// A point in time, after the start.
fn ms(at: Timestamp) -> u64 {
    assert_eq!(at.floor_millis(), at.ceil_millis(), "whole milliseconds in, whole milliseconds out");
    at.floor_millis().checked_sub(START_MS).unwrap()
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// Plays a scene to its end on a runtime of its own.
fn play<T>(scene: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(scene)
}
