//! One shard of the table: an index over slots, the shared counters, the blocks.
//!
//! A full shard does not forget anybody. A key that finds no room is counted in two counters
//! that it shares with others of its kind: each counts at least what the key did, so whoever is
//! admitted by one of them may be admitted, and nobody slips through uncounted.

mod frozen;

use std::collections::HashMap;

use hashbrown::HashTable;
use smallvec::SmallVec;

pub(super) use self::frozen::{Full, Part, Record};

use super::blocks::Blocks;
use super::slab::{Slab, Slot, SlotKey};
use crate::decision::block::Block;
use crate::decision::counter::Counter;
use crate::decision::key::KeyHash;
use crate::decision::limit::{BlockRule, Limit};
use crate::decision::tally::{Aftermath, Charge, Judgement, Outcome, Settlement, Tally};
use crate::decision::time::{Span, Timestamp};

pub(super) struct Shard {
    index: HashTable<u32>,
    slab: Slab,
    keys_max: usize,
    /// The next slot to look at for a spent counter.
    hand: u32,
    shared: HashMap<SharedKey, Counter>,
    shared_max: usize,
    blocks: Blocks,
    /// How often something was counted, settled, blocked or forgotten.
    changes: u64,
}

/// A shared counter: which limit, which row, which of its counters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SharedKey {
    limit: crate::decision::key::LimitId,
    row: u8,
    column: u8,
}

/// What one charge found.
pub(super) struct Seen {
    pub(super) tally: Tally,
    pub(super) is_shared: bool,
}

/// How many keys a shard makes room for before it has seen any: 5 bytes each.
const INDEXED_AT_ONCE: usize = 1 << 18;
/// Shared counters a limit and row, in each shard.
const COLUMNS: u8 = 64;
const ROWS: u8 = 2;

impl Shard {
    pub(super) fn new(keys_max: usize) -> Shard {
        Shard {
            // Made once: growing would hold the lock for milliseconds, and leave the old tables behind.
            index: HashTable::with_capacity(keys_max.min(INDEXED_AT_ONCE)),
            slab: Slab::default(),
            keys_max,
            hand: 0,
            shared: HashMap::new(),
            shared_max: (keys_max / 4).max(usize::from(COLUMNS * ROWS)),
            blocks: Blocks::new((keys_max / 4).max(16)),
            changes: 0,
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.index.len()
    }

    pub(super) fn shared(&self) -> usize {
        self.shared.len()
    }

    pub(super) fn blocks(&self, now: Timestamp) -> usize {
        self.blocks.count(now)
    }

    /// What the counter of a charge says, changing nothing but to make room.
    pub(super) fn tally(&mut self, charge: &Charge<'_>, now: Timestamp) -> Seen {
        let Limit { rule, cost, .. } = charge.limit;
        if let Some(block) = self.blocks.standing(charge.key, now) {
            let judgement = Judgement::Blocked { until: block.until, began: None };
            return Seen { tally: Tally { judgement, ..Tally::unasked() }, is_shared: false };
        }
        if let Some(index) = self.find(charge.key) {
            let tally = self.slab.get(index).counter.tally(rule, cost.get(), now);
            return Seen { tally, is_shared: false };
        }
        let is_shared = self.is_full(now);
        if !is_shared && self.shared.is_empty() {
            return Seen { tally: Counter::default().tally(rule, cost.get(), now), is_shared };
        }
        Seen { tally: self.shared_tally(charge, now), is_shared }
    }

    /// Makes a charge that [`Shard::tally`] admitted.
    pub(super) fn charge(&mut self, charge: &Charge<'_>, now: Timestamp) {
        let Limit { rule, cost, .. } = charge.limit;
        self.changes += 1;
        if let Some(index) = self.find(charge.key) {
            self.slab.get_mut(index).counter.charge(rule, cost.get(), now);
            return;
        }
        if self.is_full(now) {
            for key in shared_keys(charge) {
                self.shared.entry(key).or_default().charge(rule, cost.get(), now);
            }
            return;
        }
        // Who was counted together with others goes on from what they counted.
        let mut counter = self.most_lenient_shared(charge, now).unwrap_or_default();
        counter.charge(rule, cost.get(), now);
        self.insert(charge.key, counter);
        self.sweep(2, now);
    }

    /// Settles an attempt that [`Shard::charge`] reserved. A failure that uses up what the key had
    /// begins its block.
    pub(super) fn settle(
        &mut self,
        settlement: &Settlement<'_>,
        held_at: Timestamp,
        now: Timestamp,
    ) -> Aftermath {
        let Settlement { charge, outcome, .. } = settlement;
        self.changes += 1;
        let mut settled = match self.find(charge.key) {
            Some(index) => self.slab.get_mut(index).counter.settle(charge.limit, held_at, *outcome, now),
            None => match self.settle_shared(charge, held_at, *outcome, now) {
                Some(settled) => settled,
                None => self.settle_anew(charge, held_at, *outcome, now),
            },
        };
        if let (Some(rule), Outcome::Failure, Some(retry_at)) =
            (&charge.limit.block, outcome, settled.judgement.retry_at())
            && self.blocks.standing(charge.key, now).is_none()
        {
            let block = self.blocks.start(charge.key, rule, retry_at, now);
            settled.judgement = Judgement::Blocked { until: block.until, began: Some(block) };
        }
        settled
    }

    /// Of a key without a slot: in all the counters that it shares; none if it shares none.
    fn settle_shared(
        &mut self,
        charge: &Charge<'_>,
        held_at: Timestamp,
        outcome: Outcome,
        now: Timestamp,
    ) -> Option<Aftermath> {
        let mut settled: Option<Aftermath> = None;
        for key in shared_keys(charge) {
            if let Some(counter) = self.shared.get_mut(&key) {
                let row = counter.settle(charge.limit, held_at, outcome, now);
                settled = match settled {
                    Some(lenient) if lenient.failures <= row.failures => Some(lenient),
                    Some(_) | None => Some(row),
                };
            }
        }
        settled
    }

    /// Of a key of which nothing is held: it was forgotten since, or another store counted it until now.
    fn settle_anew(
        &mut self,
        charge: &Charge<'_>,
        held_at: Timestamp,
        outcome: Outcome,
        now: Timestamp,
    ) -> Aftermath {
        let mut counter = Counter::default();
        let settled = counter.settle(charge.limit, held_at, outcome, now);
        if !counter.is_spent(now) && !self.is_full(now) {
            self.insert(charge.key, counter);
        }
        settled
    }

    /// See [`super::MemoryStore::hold`]. One that ends later stays.
    pub(super) fn hold(&mut self, key: KeyHash, block: Block, now: Timestamp) {
        if self.blocks.standing(key, now).is_none_or(|standing| standing.until < block.until) {
            self.changes += 1;
            self.blocks.put(key, block);
        }
    }

    /// Forgets what a key counted, and its block with all that came before it.
    pub(super) fn forget(&mut self, key: KeyHash) {
        self.changes += 1;
        let slot = SlotKey::of(key);
        let slab = &self.slab;
        if let Ok(entry) = self.index.find_entry(slot.hash(), |&index| slab.get(index).key == slot) {
            let (index, _) = entry.remove();
            self.slab.remove(index);
        }
        self.blocks.lift(key);
    }

    /// Makes a block longer if its rule says so of requests that come while it stands.
    pub(super) fn prolong(&mut self, charge: &Charge<'_>, now: Timestamp) -> Option<Timestamp> {
        let standing = self.blocks.standing(charge.key, now)?;
        let block = standing.after_another(charge.limit.block.as_ref(), now)?;
        self.changes += 1;
        self.blocks.put(charge.key, block);
        Some(block.until)
    }

    /// See [`super::MemoryStore::learn`].
    pub(super) fn learn(&mut self, key: KeyHash, counter: Counter, block: Option<Block>, now: Timestamp) {
        match self.find(key) {
            Some(index) => self.slab.get_mut(index).counter = counter,
            None if self.is_full(now) => {}
            None => {
                self.insert(key, counter);
                self.sweep(2, now);
            }
        }
        match block {
            Some(block) => self.blocks.put(key, block),
            None => self.blocks.lift(key),
        }
    }

    /// Starts the next block of a key, which ends no earlier than its limit admits it again.
    pub(super) fn block(
        &mut self,
        key: KeyHash,
        rule: &BlockRule,
        retry_at: Timestamp,
        now: Timestamp,
    ) -> Block {
        self.changes += 1;
        self.blocks.start(key, rule, retry_at, now)
    }

    /// Drops what is over among blocks and shared counters; the number of slots to sweep.
    pub(super) fn begin_sweep(&mut self, now: Timestamp) -> usize {
        self.shared.retain(|_, counter| !counter.is_spent(now));
        self.blocks.forget_old(now);
        self.slab.extent() as usize
    }

    /// Looks at the next `slots` slots and removes spent counters.
    pub(super) fn sweep(&mut self, slots: usize, now: Timestamp) {
        let extent = self.slab.extent();
        for _ in 0..slots.min(extent as usize) {
            self.hand = if self.hand + 1 < extent { self.hand + 1 } else { 0 };
            let slot = self.slab.get(self.hand);
            if !slot.key.is_vacant() && slot.counter.is_spent(now) {
                let (key, hand) = (slot.key, self.hand);
                if let Ok(entry) = self.index.find_entry(key.hash(), |&index| index == hand) {
                    entry.remove();
                }
                self.slab.remove(hand);
            }
        }
    }

    fn find(&self, key: KeyHash) -> Option<u32> {
        let key = SlotKey::of(key);
        self.index.find(key.hash(), |&index| self.slab.get(index).key == key).copied()
    }

    fn insert(&mut self, key: KeyHash, counter: Counter) {
        let key = SlotKey::of(key);
        let index = self.slab.insert(Slot { key, counter });
        let slab = &self.slab;
        self.index.insert_unique(key.hash(), index, |&index| slab.get(index).key.hash());
    }

    /// Whether there is no room for one more key, after looking for some.
    fn is_full(&mut self, now: Timestamp) -> bool {
        const LOOKED_AT: usize = 16;
        if self.index.len() >= self.keys_max {
            self.sweep(LOOKED_AT, now);
        }
        self.index.len() >= self.keys_max
    }

    /// Admitted if one of the rows admits: each counts at least what this key did.
    fn shared_tally(&self, charge: &Charge<'_>, now: Timestamp) -> Tally {
        let Limit { rule, cost, .. } = charge.limit;
        let keys = shared_keys(charge);
        let has_room = self.shared.len() + keys.len() <= self.shared_max;
        if !has_room && keys.iter().any(|key| !self.shared.contains_key(key)) {
            let retry_at = now.plus(Span::from_secs(1));
            return Tally {
                held: None,
                judgement: Judgement::Exceeded { window: 0, retry_at },
                windows: SmallVec::new(),
            };
        }
        let counter = self.most_lenient_shared(charge, now).unwrap_or_default();
        counter.tally(rule, cost.get(), now)
    }

    /// The shared counter of a key that admits it soonest; none if one row counted nothing.
    fn most_lenient_shared(&self, charge: &Charge<'_>, now: Timestamp) -> Option<Counter> {
        let Limit { rule, cost, .. } = charge.limit;
        let rows: Option<SmallVec<[&Counter; 2]>> =
            shared_keys(charge).iter().map(|key| self.shared.get(key)).collect();
        let opens_at =
            |counter: &Counter| counter.tally(rule, cost.get(), now).judgement.retry_at().unwrap_or(now);
        rows?.into_iter().min_by_key(|counter| opens_at(counter)).cloned()
    }
}

/// The counters that a key shares, one in each row.
fn shared_keys(charge: &Charge<'_>) -> [SharedKey; ROWS as usize] {
    let bits = (charge.key.as_u128() >> 64) as u32;
    let limit = charge.limit.id;
    std::array::from_fn(|row| {
        let column = (bits >> (row * 8)) as u8 % COLUMNS;
        SharedKey { limit, row: row as u8, column }
    })
}
