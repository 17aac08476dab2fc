//! Counters in this process: a sharded table of keyed hashes, bounded by `max_keys`.
//!
//! The locks of all shards that a request touches are taken in ascending order, every counter is
//! asked, then every counter is charged: all or none, without refunds and without deadlock.

mod blocks;
mod frozen;
mod shard;
mod slab;

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

pub(super) use self::frozen::Thawing;

use self::shard::Shard;
use super::StoreSize;
use crate::decision::block::Block;
use crate::decision::counter::Counter;
use crate::decision::key::KeyHash;
use crate::decision::limit::Mode;
use crate::decision::tally::{Aftermath, Charge, Held, Judgement, Settlement, Tallies};
use crate::decision::time::Timestamp;

/// The embedded store.
pub struct MemoryStore {
    shards: Box<[Padded]>,
    keys_max: usize,
}

/// A shard on cache lines of its own, so that neighbours do not slow each other down.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    Charge,
    Look,
}

type Guards<'s> = SmallVec<[(usize, MutexGuard<'s, Shard>); 4]>;

impl MemoryStore {
    const SHARDS_MIN: usize = 64;

    /// A store for at most `keys_max` counters of their own.
    pub fn new(keys_max: usize) -> MemoryStore {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Few keys, few shards: else the rounding would exceed the bound.
        let shards = (cores * 4).next_power_of_two().max(MemoryStore::SHARDS_MIN);
        MemoryStore::with_shards(keys_max, shards.min((keys_max / 16).next_power_of_two().max(1)))
    }

    /// With a number of shards that is a power of two.
    fn with_shards(keys_max: usize, shards: usize) -> MemoryStore {
        let each = (keys_max / shards).max(1);
        MemoryStore {
            shards: (0..shards).map(|_| Padded(Mutex::new(Shard::new(each)))).collect(),
            keys_max: each * shards,
        }
    }

    /// See [`super::Store::take`].
    pub fn take(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        self.run(charges, now, Intent::Charge)
    }

    /// See [`super::Store::settle`]. All that were held here are settled, whoever else counts.
    pub fn settle(&self, settlements: &[Settlement<'_>], now: Timestamp) -> SmallVec<[Aftermath; 4]> {
        let settle = |settlement: &Settlement<'_>| {
            let (Held::Store(held_at) | Held::Node(held_at)) = settlement.held;
            self.shards[self.shard_at(settlement.charge.key)].0.lock().settle(settlement, held_at, now)
        };
        settlements.iter().map(settle).collect()
    }

    /// See [`super::Store::hold`].
    pub(super) fn hold(&self, key: KeyHash, block: Block, now: Timestamp) {
        self.shards[self.shard_at(key)].0.lock().hold(key, block, now);
    }

    /// See [`super::Store::forget`].
    pub fn forget(&self, key: KeyHash) {
        self.shards[self.shard_at(key)].0.lock().forget(key);
    }

    /// Holds what another store says of keys, in the place of what was held of them. Keys that
    /// find no room are left out.
    pub(super) fn learn(&self, key: KeyHash, counter: Counter, block: Option<Block>, now: Timestamp) {
        self.shards[self.shard_at(key)].0.lock().learn(key, counter, block, now);
    }

    /// See [`super::Store::peek`].
    pub fn peek(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        self.run(charges, now, Intent::Look)
    }

    pub fn size(&self, now: Timestamp) -> StoreSize {
        let mut size = StoreSize { keys_max: self.keys_max as u64, ..StoreSize::default() };
        for shard in &self.shards {
            let shard = shard.0.lock();
            size.keys += shard.keys() as u64;
            size.shared += shard.shared() as u64;
            size.blocks += shard.blocks(now) as u64;
        }
        size
    }

    /// Removes every spent counter, holding each lock for a short stretch at a time.
    pub fn sweep(&self, now: Timestamp) {
        const STRETCH: usize = 1024;
        for shard in &self.shards {
            let mut rest = shard.0.lock().begin_sweep(now);
            while rest > 0 {
                shard.0.lock().sweep(STRETCH, now);
                rest = rest.saturating_sub(STRETCH);
            }
        }
    }

    fn run(&self, charges: &[Charge<'_>], now: Timestamp, intent: Intent) -> Tallies {
        let mut guards = self.lock(charges);
        let mut tallies = Tallies::default();
        for charge in charges {
            let seen = self.shard(&mut guards, charge).tally(charge, now);
            tallies.shared += u32::from(seen.is_shared);
            tallies.list.push(seen.tally);
        }
        let admitted = charges.iter().zip(&tallies.list).all(|(charge, tally)| match charge.limit.mode {
            Mode::Enforce => tally.judgement == Judgement::Admits,
            Mode::Shadow => true,
        });
        for (charge, tally) in charges.iter().zip(&mut tallies.list) {
            match tally.judgement {
                Judgement::Admits if admitted && intent == Intent::Charge => {
                    self.shard(&mut guards, charge).charge(charge, now);
                    tally.held = charge.limit.rule.counts_failures().then_some(Held::Store(now));
                }
                Judgement::Exceeded { retry_at, .. } => {
                    if let Some(rule) = &charge.limit.block {
                        let shard = self.shard(&mut guards, charge);
                        let block = shard.block(charge.key, rule, retry_at, now);
                        tally.judgement = Judgement::Blocked { until: block.until, began: Some(block) };
                    }
                }
                Judgement::Blocked { until, began: None } => {
                    let longer = self.shard(&mut guards, charge).prolong(charge, now);
                    tally.judgement = Judgement::Blocked { until: longer.unwrap_or(until), began: None };
                }
                Judgement::Admits
                | Judgement::Blocked { .. }
                | Judgement::Waits { .. }
                | Judgement::Pending { .. }
                | Judgement::Undecided { .. } => {}
            }
        }
        tallies
    }

    /// The locks of all shards that the charges touch, taken in ascending order.
    fn lock(&self, charges: &[Charge<'_>]) -> Guards<'_> {
        let mut wanted: SmallVec<[usize; 4]> = charges.iter().map(|charge| self.shard_of(charge)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.into_iter().map(|index| (index, self.shards[index].0.lock())).collect()
    }

    fn shard<'g>(&self, guards: &'g mut Guards<'_>, charge: &Charge<'_>) -> &'g mut Shard {
        let wanted = self.shard_of(charge);
        // Locked for exactly these charges, so it is there.
        let position = guards.iter().position(|(index, _)| *index == wanted).unwrap_or_default();
        &mut guards[position].1
    }

    fn shard_of(&self, charge: &Charge<'_>) -> usize {
        self.shard_at(charge.key)
    }

    fn shard_at(&self, key: KeyHash) -> usize {
        (key.as_u128() >> 96) as usize & (self.shards.len() - 1)
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("keys_max", &self.keys_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
