//! Keys that are known to be refused, so that an attack on one of them stays in this node.
//!
//! Nothing is charged while a key is refused, so its retry time stands. The store is still asked
//! once a second, by one request at a time: an operator may have let the key go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::decision::key::KeyHash;
use crate::decision::limit::Mode;
use crate::decision::tally::{Charge, Judgement, Tally};
use crate::decision::time::{Span, Timestamp};

/// The refused keys that this node knows, bounded.
#[derive(Debug)]
pub(super) struct DenyCache {
    shards: Box<[Mutex<HashMap<KeyHash, Denied>>]>,
    /// How many keys are held: most of the time none, and then nothing is locked.
    held: AtomicUsize,
}

#[derive(Debug)]
struct Denied {
    until: Timestamp,
    ask_at: Timestamp,
    tally: Tally,
}

/// What each charge of a request would be told, where that is known.
pub(super) type Known = SmallVec<[Option<Tally>; 4]>;

/// What a request wants to know of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// Goes on to the store if one of its keys is due.
    Taker,
    /// Only looks.
    Looker,
}

impl DenyCache {
    const SHARDS: usize = 16;
    const KEYS_A_SHARD: usize = 4096;
    const ASK_EVERY: Span = Span::from_secs(1);

    pub(super) fn new() -> DenyCache {
        let shards = (0..DenyCache::SHARDS).map(|_| Mutex::default()).collect();
        DenyCache { shards, held: AtomicUsize::new(0) }
    }

    /// What is known of each charge, if one of them is known to be refused and not due to be asked about.
    pub(super) fn refuses(&self, charges: &[Charge<'_>], now: Timestamp, asker: Asker) -> Option<Known> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let known: Known = charges.iter().map(|charge| self.known(charge, now, asker)).collect();
        known.iter().any(Option::is_some).then_some(known)
    }

    /// Notes what the store said to a charge.
    pub(super) fn note(&self, charge: &Charge<'_>, tally: &Tally, now: Timestamp) {
        let (until, windows) = match tally.judgement {
            Judgement::Exceeded { retry_at, .. } => (retry_at, tally.windows.clone()),
            // Of a key that is blocked already nothing else is told.
            Judgement::Blocked { until, .. } => (until, SmallVec::new()),
            Judgement::Waits { retry_at } => (retry_at, SmallVec::new()),
            // Attempts under way are settled at any time.
            Judgement::Pending { .. } => return,
            Judgement::Admits | Judgement::Undecided { .. } => return self.forget(charge.key),
        };
        // Whom each request blocks for longer, each request is told to the store of.
        if charge.limit.mode == Mode::Shadow || charge.limit.prolongs_blocks() {
            return;
        }
        // Only one request began the block, and it is not asked again.
        let judgement = match tally.judgement {
            Judgement::Blocked { until, .. } => Judgement::Blocked { until, began: None },
            other @ (Judgement::Admits
            | Judgement::Exceeded { .. }
            | Judgement::Waits { .. }
            | Judgement::Pending { .. }
            | Judgement::Undecided { .. }) => other,
        };
        let tally = Tally { judgement, windows, held: None };
        let mut shard = self.shard(charge.key).lock();
        if shard.len() >= DenyCache::KEYS_A_SHARD && !shard.contains_key(&charge.key) {
            let before = shard.len();
            shard.retain(|_, denied| denied.until > now);
            self.held.fetch_sub(before - shard.len(), Ordering::AcqRel);
            if shard.len() >= DenyCache::KEYS_A_SHARD {
                return;
            }
        }
        let denied = Denied { until, ask_at: now.plus(DenyCache::ASK_EVERY), tally };
        if shard.insert(charge.key, denied).is_none() {
            self.held.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn known(&self, charge: &Charge<'_>, now: Timestamp, asker: Asker) -> Option<Tally> {
        let mut shard = self.shard(charge.key).lock();
        let denied = shard.get_mut(&charge.key)?;
        if denied.until <= now {
            shard.remove(&charge.key);
            self.held.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        if denied.ask_at <= now {
            if asker == Asker::Taker {
                denied.ask_at = now.plus(DenyCache::ASK_EVERY);
            }
            return None;
        }
        Some(denied.tally.clone())
    }

    /// Nothing is known of a key any more.
    pub(super) fn forget(&self, key: KeyHash) {
        if self.held.load(Ordering::Acquire) > 0 && self.shard(key).lock().remove(&key).is_some() {
            self.held.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn shard(&self, key: KeyHash) -> &Mutex<HashMap<KeyHash, Denied>> {
        &self.shards[key.as_u128() as usize % DenyCache::SHARDS]
    }
}
