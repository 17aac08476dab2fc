//! All blocks in force, in memory: asked on every request.
//!
//! A key that nobody blocks costs one atomic load while the book is empty, and a look into one
//! shard otherwise; neither allocates. Blocks that are over stay until their rule forgets them,
//! for the next one of the key follows on them.

mod glance;
mod page;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;
use parking_lot::RwLock;

use self::glance::Glance;
use super::block::{BlockId, BlockRecord, Reason};
use crate::decision::block::Block;
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};

pub use self::page::{BlockFilter, BlockPlace, BlockQuery, BlockSort, Sight};

/// The blocks in force and those that are remembered, bounded; where there is no room the one of
/// its shard that ends first gives way.
pub struct Book {
    shards: Box<[Padded]>,
    /// How many are held: most of the time none, and then nothing is locked.
    held: AtomicUsize,
    shard_max: usize,
}

/// On cache lines of its own, so that neighbours do not slow each other down.
#[repr(align(128))]
struct Padded(RwLock<Shard>);

#[derive(Default)]
struct Shard {
    by_key: HashTable<Entry>,
    by_end: BTreeSet<(Timestamp, KeyHash)>,
}

/// What requests ask of a record stands beside it, and what lists are sorted by.
struct Entry {
    key: KeyHash,
    until: Timestamp,
    created_at: Timestamp,
    attempts: u32,
    reason: Reason,
    /// Of the identifier in full, and of its mask.
    full: Glance,
    masked: Glance,
    record: Arc<BlockRecord>,
}

/// What became of a record that was put into the book.
#[derive(Clone, Debug)]
pub struct Placed {
    /// As it is held: of a key that was blocked already, with the identity of that block.
    pub record: Arc<BlockRecord>,
    /// Whether the key was not blocked before.
    pub is_new: bool,
    /// The one that gave way.
    pub displaced: Option<Arc<BlockRecord>>,
}

/// What a block of another gateway did to the book.
pub(super) struct Adopted {
    /// Whether a block of the same key, by another id, gave way to it.
    pub(super) replaces: bool,
    /// One of another key that gave way.
    pub(super) displaced: Option<Arc<BlockRecord>>,
}

/// How many blocks are held at most, over all shards.
pub const BLOCKS_MAX: usize = 1_000_000;

impl Book {
    const SHARDS: usize = 64;

    pub(super) fn new() -> Book {
        Book::bounded(Book::SHARDS, BLOCKS_MAX)
    }

    /// `shards` is a power of two.
    pub(super) fn bounded(shards: usize, blocks_max: usize) -> Book {
        Book {
            shards: (0..shards).map(|_| Padded(RwLock::default())).collect(),
            held: AtomicUsize::new(0),
            shard_max: (blocks_max / shards).max(1),
        }
    }

    /// Until when a key is blocked.
    pub fn until(&self, key: KeyHash, now: Timestamp) -> Option<Timestamp> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.shard(key).read().find(key).map(|entry| entry.until).filter(|&until| until > now)
    }

    /// The block of a key that is in force.
    pub fn get(&self, key: KeyHash, now: Timestamp) -> Option<Arc<BlockRecord>> {
        self.last(key).filter(|record| record.block.until > now)
    }

    /// The block of a key, in force or remembered.
    pub fn last(&self, key: KeyHash) -> Option<Arc<BlockRecord>> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.shard(key).read().find(key).map(|entry| Arc::clone(&entry.record))
    }

    /// What the next block of a key follows on: one in force, or over and not forgotten.
    pub fn earlier(&self, key: KeyHash, now: Timestamp) -> Option<Block> {
        self.last(key).map(|record| record.block).filter(|block| block.forget_at.max(block.until) > now)
    }

    /// Holds a block, in memory alone: [`Journal::block`](super::Journal::block) writes it down too.
    ///
    /// A key that is blocked already keeps its block's id and time of making. Its end is not moved
    /// nearer, but by an operator. A block that is over is taken up again under its own id.
    pub fn put(&self, record: Arc<BlockRecord>, now: Timestamp) -> Placed {
        let mut shard = self.shard(record.key).write();
        let (record, is_new) = match shard.find(record.key) {
            Some(held) if held.until > now || held.record.id == record.id => {
                (prolonged(&held.record, record), false)
            }
            Some(_) | None => (record, true),
        };
        let before = shard.by_key.len();
        let displaced = shard.insert(Arc::clone(&record), self.shard_max);
        self.count(before, shard.by_key.len());
        Placed { record, is_new, displaced }
    }

    /// Takes the block of a key out, in force or remembered, in memory alone:
    /// [`Journal::unblock`](super::Journal::unblock) writes it down too.
    pub fn lift(&self, key: KeyHash) -> Option<Arc<BlockRecord>> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut shard = self.shard(key).write();
        let lifted = shard.remove(key);
        self.held.fetch_sub(usize::from(lifted.is_some()), Ordering::AcqRel);
        lifted
    }

    /// Holds a block that another gateway began or changed, in memory alone. None if what is held of the key
    /// stands: it is the same, or lasts longer.
    pub(super) fn adopt(&self, record: Arc<BlockRecord>, now: Timestamp) -> Option<Adopted> {
        let mut shard = self.shard(record.key).write();
        let held = shard.find(record.key).filter(|held| held.until > now);
        let replaces = match held {
            Some(held) if !gives_way(&held.record, &record) => return None,
            Some(held) => held.record.id != record.id,
            None => false,
        };
        let before = shard.by_key.len();
        let displaced = shard.insert(record, self.shard_max);
        self.count(before, shard.by_key.len());
        Some(Adopted { replaces, displaced })
    }

    /// Takes the block of a key out if it is the one of this id or was made before it.
    pub(super) fn lift_up_to(&self, key: KeyHash, last: BlockId) -> Option<Arc<BlockRecord>> {
        let mut shard = self.shard(key).write();
        shard.find(key).filter(|held| held.record.id <= last)?;
        let lifted = shard.remove(key);
        self.held.fetch_sub(usize::from(lifted.is_some()), Ordering::AcqRel);
        lifted
    }

    /// The block of this id, in force or remembered. Looks at all of them: not for requests.
    pub fn find(&self, id: BlockId) -> Option<Arc<BlockRecord>> {
        self.shards.iter().find_map(|shard| {
            let shard = shard.0.read();
            let found = shard.by_key.iter().find(|entry| entry.record.id == id);
            found.map(|entry| Arc::clone(&entry.record))
        })
    }

    /// How many keys are blocked; those that are only remembered do not count.
    pub fn len(&self, now: Timestamp) -> usize {
        self.count_by_reason(now).iter().map(|(_, count)| usize::try_from(*count).unwrap_or(usize::MAX)).sum()
    }

    pub fn is_empty(&self, now: Timestamp) -> bool {
        self.len(now) == 0
    }

    /// How many keys are blocked, by why.
    pub fn count_by_reason(&self, now: Timestamp) -> [(Reason, u64); Reason::ALL.len()] {
        let mut counts = Reason::ALL.map(|reason| (reason, 0));
        for shard in &self.shards {
            let shard = shard.0.read();
            for entry in shard.by_key.iter().filter(|entry| entry.until > now) {
                counts[entry.reason as usize].1 += 1;
            }
        }
        counts
    }

    /// Drops blocks that are over and forgotten; which.
    pub fn forget_old(&self, now: Timestamp) -> Vec<Arc<BlockRecord>> {
        let mut forgotten = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.0.write();
            let before = shard.by_key.len();
            shard.forget_old(now, &mut forgotten);
            self.count(before, shard.by_key.len());
        }
        forgotten
    }

    /// Blocks in force and those that are over and not forgotten, in no order.
    pub fn remembered(&self) -> impl Iterator<Item = Arc<BlockRecord>> + '_ {
        (0..self.shards.len()).flat_map(|shard| self.records(shard))
    }

    /// All blocks in force, in no order.
    pub fn snapshot(&self, now: Timestamp) -> Vec<Arc<BlockRecord>> {
        let shards = 0..self.shards.len();
        let mut all: Vec<_> = shards.flat_map(|shard| self.records(shard)).collect();
        all.retain(|record| record.block.until > now);
        all
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// All that one shard holds, remembered ones too.
    pub(super) fn records(&self, shard: usize) -> Vec<Arc<BlockRecord>> {
        let records =
            |shard: &Padded| shard.0.read().by_key.iter().map(|entry| Arc::clone(&entry.record)).collect();
        self.shards.get(shard).map(records).unwrap_or_default()
    }

    /// Whether this block is the one that is held of its key.
    pub(super) fn holds(&self, key: KeyHash, id: BlockId) -> bool {
        self.shard(key).read().find(key).is_some_and(|entry| entry.record.id == id)
    }

    /// Whether nothing is held, not even a block that is over.
    pub fn is_blank(&self) -> bool {
        self.held.load(Ordering::Acquire) == 0
    }

    /// Holds what was written down once; of several blocks of a key the one that was made last.
    /// `false` if that leaves out one that is in force.
    pub(super) fn restore(&self, record: Arc<BlockRecord>, now: Timestamp) -> bool {
        let mut shard = self.shard(record.key).write();
        let mut is_whole = true;
        if let Some(held) = shard.find(record.key) {
            let (newer, older) =
                if held.record.id > record.id { (&held.record, &record) } else { (&record, &held.record) };
            is_whole = older.block.until <= now;
            if Arc::ptr_eq(newer, &held.record) {
                return is_whole;
            }
        }
        let before = shard.by_key.len();
        let displaced = shard.insert(record, self.shard_max);
        self.count(before, shard.by_key.len());
        is_whole && displaced.is_none_or(|displaced| displaced.block.until <= now)
    }

    fn count(&self, before: usize, after: usize) {
        self.held.fetch_add(after.saturating_sub(before), Ordering::AcqRel);
        self.held.fetch_sub(before.saturating_sub(after), Ordering::AcqRel);
    }

    fn shard(&self, key: KeyHash) -> &RwLock<Shard> {
        &self.shards[(key.as_u128() >> 96) as usize & (self.shards.len() - 1)].0
    }
}

impl Shard {
    fn find(&self, key: KeyHash) -> Option<&Entry> {
        self.by_key.find(spread(key), |entry| entry.key == key)
    }

    /// In the place of what was held of the key; the one that gave way.
    fn insert(&mut self, record: Arc<BlockRecord>, shard_max: usize) -> Option<Arc<BlockRecord>> {
        self.remove(record.key);
        let ends_first = self.by_end.first().filter(|_| self.by_key.len() >= shard_max).copied();
        let displaced = ends_first.and_then(|(_, key)| self.remove(key));
        let BlockRecord { key, reason, created_at, attempts, .. } = *record;
        let until = record.block.until;
        self.by_end.insert((until, key));
        let (full, masked) = (Glance::of(record.identifier.expose()), Glance::of(record.identifier.masked()));
        let entry = Entry { key, until, created_at, attempts, reason, full, masked, record };
        self.by_key.insert_unique(spread(key), entry, |entry| spread(entry.key));
        displaced
    }

    fn remove(&mut self, key: KeyHash) -> Option<Arc<BlockRecord>> {
        let found = self.by_key.find_entry(spread(key), |entry| entry.key == key).ok()?;
        let (entry, _) = found.remove();
        self.by_end.remove(&(entry.until, key));
        Some(entry.record)
    }

    fn forget_old(&mut self, now: Timestamp, forgotten: &mut Vec<Arc<BlockRecord>>) {
        let over: Vec<KeyHash> =
            self.by_end.iter().take_while(|(end, _)| *end <= now).map(|&(_, key)| key).collect();
        for key in over {
            if self.find(key).is_some_and(|entry| entry.record.block.forget_at <= now) {
                forgotten.extend(self.remove(key));
            }
        }
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").field("held", &self.held).finish_non_exhaustive()
    }
}

/// A keyed hash is spread evenly as it is.
fn spread(key: KeyHash) -> u64 {
    key.as_u128() as u64
}

/// Whether a block in force gives way to one that another gateway tells of. Every gateway must come to the same,
/// in whatever order it hears: of two blocks the one that ends later stands, and an end is moved nearer by an
/// operator alone. Between clocks the same time differs a little.
fn gives_way(held: &BlockRecord, told: &BlockRecord) -> bool {
    const ALIKE: Span = Span::from_secs(1);
    if held.id != told.id {
        return (told.block.until, told.id) > (held.block.until, held.id);
    }
    let is_later = told.block.until > held.block.until.plus(ALIKE);
    let is_nearer = held.block.until > told.block.until.plus(ALIKE);
    is_later || is_nearer && told.reason == Reason::Operator
}

/// The block in force, as the one that came later wants it.
fn prolonged(held: &BlockRecord, later: Arc<BlockRecord>) -> Arc<BlockRecord> {
    let keeps_its_end = held.block.until > later.block.until && later.reason != Reason::Operator;
    let (block, reason) = if keeps_its_end { (held.block, held.reason) } else { (later.block, later.reason) };
    Arc::new(BlockRecord {
        id: held.id,
        created_at: held.created_at,
        attempts: held.attempts.max(later.attempts),
        block,
        reason,
        ..BlockRecord::clone(if keeps_its_end { held } else { &later })
    })
}

#[cfg(test)]
mod tests;
