//! Small records of which nobody is told before they are on disk: one-time codes, for whoever has no shared store.
//!
//! What a record says is its owner's business. Here it is bytes under a key, until a time; a step changes one
//! atomically, and the file sees the steps in the order in which they were taken.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::smallvec;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::queue::{Change, Changes, What};
use super::{Journal, PATIENCE};
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};
use crate::telemetry::Dropped;

/// All records that are kept, bounded. Where there is no room a new one is refused: none gives way to it, so that a
/// flood takes from nobody what he was given.
pub(super) struct Ledger {
    shards: Box<[Mutex<Shard>]>,
    shard_max: usize,
}

#[derive(Default)]
struct Shard {
    by_key: HashMap<KeyHash, Record>,
    swept_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) until: Timestamp,
    pub(super) bytes: Arc<[u8]>,
}

/// What a step makes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amend {
    Leave,
    /// Leaves it, and takes as long for it as to put one: the disk gets something as well.
    Feign,
    Put {
        /// When it may be forgotten.
        until: Timestamp,
        bytes: Vec<u8>,
    },
}

/// Why a step does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unkept {
    /// It was taken in memory, and nobody knows whether a restart remembers it.
    #[error("the disk fails or is slow")]
    NotDurable,
    /// Nothing was done.
    #[error("there are too many records")]
    Full,
}

/// How many records are kept at most, over all shards.
pub const RECORDS_MAX: usize = 1_000_000;

const SHARDS: usize = 64;
/// A full shard looks for records that are over no more often than this.
const SWEPT_EVERY: Span = Span::from_secs(1);
/// What is written where nothing is kept: one row, over since ever, about as long as a record is.
const DECOY: KeyHash = KeyHash::from_u128(u128::MAX);
const DECOY_BYTES: usize = 160;

impl Journal {
    /// One step on the record of a key, which is given as bytes if there is one. What the step tells, once it is on
    /// disk: after a second at the latest. A step that was begun is taken, whether or not the future is awaited to
    /// its end. Where no folder is kept at all, memory is enough.
    ///
    /// # Errors
    /// [`Unkept`]; the step was taken nevertheless if it is not on disk.
    pub async fn amend<T>(
        &self,
        key: KeyHash,
        now: Timestamp,
        step: impl FnOnce(Option<&[u8]>) -> (T, Amend),
    ) -> Result<T, Unkept> {
        let (done, on_disk) = oneshot::channel();
        let has_folder = self.shared.place.folder.is_some();
        let (out, waits) = self.shared.queue.push_changes(|| {
            let amended = self.shared.ledger.amend(key, now, step);
            match amended {
                Ok((out, Some((key, record)))) if has_folder => {
                    let changes: Changes =
                        smallvec![Change { what: What::Keep(key, record), done: Some(done) }];
                    (Ok((out, true)), changes)
                }
                Ok((out, Some(_) | None)) => (Ok((out, false)), Changes::new()),
                Err(full) => (Err(full), Changes::new()),
            }
        })?;
        if waits && !matches!(timeout(PATIENCE, on_disk).await, Ok(Ok(()))) {
            self.shared.metrics.dropped(Dropped::Codes, 1);
            return Err(Unkept::NotDurable);
        }
        Ok(out)
    }

    /// The record of a key, though it may not be on disk yet.
    pub fn record(&self, key: KeyHash, now: Timestamp) -> Option<Arc<[u8]>> {
        self.shared.ledger.get(key, now)
    }
}

/// What is written where nothing is kept.
pub(super) fn decoy() -> (KeyHash, Record) {
    (DECOY, Record { until: Timestamp::default(), bytes: vec![0; DECOY_BYTES].into() })
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger::bounded(SHARDS, RECORDS_MAX)
    }

    fn bounded(shards: usize, records_max: usize) -> Ledger {
        Ledger {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            shard_max: (records_max / shards).max(1),
        }
    }

    fn shard(&self, key: KeyHash) -> &Mutex<Shard> {
        // The remainder is below their number.
        &self.shards[(key.as_u128() % self.shards.len() as u128) as usize]
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn is_blank(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().by_key.is_empty())
    }

    fn get(&self, key: KeyHash, now: Timestamp) -> Option<Arc<[u8]>> {
        let shard = self.shard(key).lock();
        shard.by_key.get(&key).filter(|record| record.until > now).map(|record| Arc::clone(&record.bytes))
    }

    /// What a step tells, and what is to be written.
    fn amend<T>(
        &self,
        key: KeyHash,
        now: Timestamp,
        step: impl FnOnce(Option<&[u8]>) -> (T, Amend),
    ) -> Result<(T, Option<(KeyHash, Record)>), Unkept> {
        let mut shard = self.shard(key).lock();
        let held = shard.by_key.get(&key).filter(|record| record.until > now);
        let (out, amend) = step(held.map(|record| &*record.bytes));
        match amend {
            Amend::Leave => Ok((out, None)),
            Amend::Feign => Ok((out, Some(decoy()))),
            Amend::Put { until, bytes } => {
                if !shard.by_key.contains_key(&key) && !shard.has_room(self.shard_max, now) {
                    return Err(Unkept::Full);
                }
                let record = Record { until, bytes: bytes.into() };
                shard.by_key.insert(key, record.clone());
                Ok((out, Some((key, record))))
            }
        }
    }

    /// Takes a record in that the file holds, unless a newer one stands there. One that finds no room stays in the
    /// file and is not known.
    pub(super) fn restore(&self, key: KeyHash, record: Record) {
        let mut shard = self.shard(key).lock();
        if shard.by_key.len() < self.shard_max {
            shard.by_key.entry(key).or_insert(record);
        }
    }

    pub(super) fn records(&self, shard: usize) -> Vec<(KeyHash, Record)> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        shard.lock().by_key.iter().map(|(key, record)| (*key, record.clone())).collect()
    }

    pub(super) fn forget_old(&self, now: Timestamp) {
        self.shards.iter().for_each(|shard| shard.lock().forget_old(now));
    }
}

impl Shard {
    /// Whether one more may be held, once those are gone that are over.
    fn has_room(&mut self, shard_max: usize, now: Timestamp) -> bool {
        if self.by_key.len() >= shard_max && now >= self.swept_at.plus(SWEPT_EVERY) {
            self.swept_at = now;
            self.forget_old(now);
        }
        self.by_key.len() < shard_max
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.by_key.retain(|_, record| record.until > now);
        self.by_key.shrink_to(self.by_key.len().saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn key(number: u128) -> KeyHash {
        KeyHash::from_u128(number)
    }

    fn put(ledger: &Ledger, number: u128, until: Timestamp, now: Timestamp) -> Result<bool, Unkept> {
        let step = |held: Option<&[u8]>| (held.is_some(), Amend::Put { until, bytes: vec![1] });
        ledger.amend(key(number), now, step).map(|(was_held, _)| was_held)
    }

    #[test]
    fn where_there_is_no_room_nobody_gives_way() {
        let ledger = Ledger::bounded(1, 2);
        let later = NOW.plus(Span::from_secs(10));
        assert_eq!(put(&ledger, 1, later, NOW), Ok(false));
        assert_eq!(put(&ledger, 2, later.plus(SWEPT_EVERY), NOW), Ok(false));
        assert_eq!(put(&ledger, 3, later, NOW), Err(Unkept::Full));
        assert_eq!(put(&ledger, 1, later, NOW), Ok(true), "who is held may go on");
        // What is over makes room.
        assert_eq!(put(&ledger, 3, later, later), Ok(false));
        assert_eq!(ledger.get(key(1), NOW), None);
        assert!(ledger.get(key(2), later).is_some());
    }

    #[test]
    fn what_is_over_is_not_shown() {
        let ledger = Ledger::bounded(4, 100);
        let until = NOW.plus(Span::from_secs(1));
        assert_eq!(put(&ledger, 1, until, NOW), Ok(false));
        assert!(ledger.get(key(1), NOW).is_some());
        assert_eq!(ledger.get(key(1), until), None);
        assert_eq!(put(&ledger, 1, until.plus(Span::from_secs(1)), until), Ok(false));
        ledger.forget_old(until.plus(Span::from_secs(1)));
        assert!(ledger.is_blank());
    }

    #[test]
    fn what_the_file_holds_gives_way_to_what_is_known() {
        let ledger = Ledger::bounded(1, 2);
        let until = NOW.plus(Span::from_secs(1));
        assert_eq!(put(&ledger, 1, until, NOW), Ok(false));
        for number in 1..4 {
            ledger.restore(key(number), Record { until, bytes: vec![2].into() });
        }
        assert_eq!(ledger.get(key(1), NOW).as_deref(), Some(&[1][..]));
        assert_eq!(ledger.get(key(2), NOW).as_deref(), Some(&[2][..]));
        assert_eq!(ledger.get(key(3), NOW), None, "there is no room");
    }
}
