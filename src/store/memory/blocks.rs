//! Keys that are blocked for a time, and how long the next block would be.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use crate::decision::block::Block;
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

impl Blocks {
    pub(super) fn new(blocks_max: usize) -> Blocks {
        Blocks { by_key: HashMap::new(), by_end: BTreeSet::new(), blocks_max }
    }

    /// How many keys are blocked; those that are only remembered do not count.
    pub(super) fn count(&self, now: Timestamp) -> usize {
        self.by_end.len() - self.over(now).count()
    }

    pub(super) fn standing(&self, key: KeyHash, now: Timestamp) -> Option<Block> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(&key).copied().filter(|block| block.until > now)
    }

    /// Starts the next block of a key. See [`Block::next`].
    pub(super) fn start(
        &mut self,
        key: KeyHash,
        rule: &BlockRule,
        retry_at: Timestamp,
        now: Timestamp,
    ) -> Block {
        let block = Block::next(self.remove(key), rule, retry_at, now);
        self.put(key, block);
        block
    }

    /// Holds a block, whatever was held of its key before.
    pub(super) fn put(&mut self, key: KeyHash, block: Block) {
        self.remove(key);
        if self.by_key.len() >= self.blocks_max
            && let Some(&(_, ends_first)) = self.by_end.first()
        {
            self.remove(ends_first);
        }
        self.by_key.insert(key, block);
        self.by_end.insert((block.until, key));
    }

    /// Forgets the block of a key and all that came before it.
    pub(super) fn lift(&mut self, key: KeyHash) {
        if !self.by_key.is_empty() {
            self.remove(key);
        }
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

    /// The blocks that end after this one, those that end first at first; all of them after none.
    pub(super) fn after(
        &self,
        last: Option<(Timestamp, KeyHash)>,
    ) -> impl Iterator<Item = (KeyHash, Block)> + '_ {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let ends = self.by_end.range((from, Bound::Unbounded));
        ends.filter_map(|(_, key)| Some((*key, *self.by_key.get(key)?)))
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
