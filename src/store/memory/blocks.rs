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

    /// How many keys are blocked; those that are only remembered do not count.
    pub(super) fn count(&self, now: Timestamp) -> usize {
        self.by_end.len() - self.over(now).count()
    }

    pub(super) fn blocked_until(&self, key: KeyHash, now: Timestamp) -> Option<Timestamp> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(&key).map(|block| block.until).filter(|&until| until > now)
    }

    /// A block that ended before its limit admits the key again would announce a time at which
    /// the next request is refused, and start the next, longer block.
    pub(super) fn start(
        &mut self,
        key: KeyHash,
        rule: &BlockRule,
        retry_at: Timestamp,
        now: Timestamp,
    ) -> Timestamp {
        let level = match self.remove(key) {
            Some(earlier) if earlier.forget_at > now => earlier.level.saturating_add(1),
            Some(_) | None => 0,
        };
        if self.by_key.len() >= self.blocks_max
            && let Some(&(_, ends_first)) = self.by_end.first()
        {
            self.remove(ends_first);
        }
        let until = now.plus(rule.span_at(level)).max(retry_at);
        self.by_key.insert(key, Block { until, level, forget_at: until.plus(rule.forget) });
        self.by_end.insert((until, key));
        until
    }

    /// Drops blocks that are over and forgotten.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let over: Vec<KeyHash> = self.over(now).collect();
        for key in over {
            if self.by_key.get(&key).is_some_and(|block| block.forget_at <= now) {
                self.remove(key);
            }
        }
    }

    fn over(&self, now: Timestamp) -> impl Iterator<Item = KeyHash> + '_ {
        self.by_end.iter().take_while(move |(end, _)| *end <= now).map(|&(_, key)| key)
    }

    fn remove(&mut self, key: KeyHash) -> Option<Block> {
        let block = self.by_key.remove(&key)?;
        self.by_end.remove(&(block.until, key));
        Some(block)
    }
}
