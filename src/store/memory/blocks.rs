//! Keys that are blocked for a time, and how long the next block would be.

use std::collections::{BTreeSet, HashMap};

use crate::decision::key::KeyHash;
use crate::decision::limit::BlockRule;
use crate::decision::time::Timestamp;

/// The blocks of one shard: bounded, the oldest-expiring give way.
#[derive(Debug)]
pub(super) struct Blocks {
    by_key: HashMap<KeyHash, Block>,
    by_end: BTreeSet<(Timestamp, KeyHash)>,
    blocks_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    until: Timestamp,
    /// How many blocks came before this one without a pause of `forget`.
    level: u32,
    forget_at: Timestamp,
}

impl Blocks {
    pub(super) fn new(blocks_max: usize) -> Blocks {
        Blocks { by_key: HashMap::new(), by_end: BTreeSet::new(), blocks_max }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn blocked_until(&self, key: KeyHash, now: Timestamp) -> Option<Timestamp> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(&key).map(|block| block.until).filter(|&until| until > now)
    }

    pub(super) fn start(&mut self, key: KeyHash, rule: &BlockRule, now: Timestamp) -> Timestamp {
        let level = match self.remove(key) {
            Some(earlier) if earlier.forget_at > now => earlier.level.saturating_add(1),
            Some(_) | None => 0,
        };
        if self.by_key.len() >= self.blocks_max
            && let Some(&(_, ends_first)) = self.by_end.first()
        {
            self.remove(ends_first);
        }
        let until = now.plus(rule.span_at(level));
        self.by_key.insert(key, Block { until, level, forget_at: until.plus(rule.forget) });
        self.by_end.insert((until, key));
        until
    }

    /// Drops blocks that are over and forgotten.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let over: Vec<KeyHash> =
            self.by_end.iter().take_while(|(end, _)| *end <= now).map(|&(_, key)| key).collect();
        for key in over {
            if self.by_key.get(&key).is_some_and(|block| block.forget_at <= now) {
                self.remove(key);
            }
        }
    }

    fn remove(&mut self, key: KeyHash) -> Option<Block> {
        let block = self.by_key.remove(&key)?;
        self.by_end.remove(&(block.until, key));
        Some(block)
    }
}
