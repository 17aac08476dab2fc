//! The table as a snapshot keeps it: frames of records, each written under one short lock.

use std::io;

use super::MemoryStore;
use super::shard::{Full, Part, Record};
use crate::decision::bytes::Reader;
use crate::decision::time::{Resumed, Timestamp};

/// A table that is being read back. It takes part in nothing before it is whole.
#[derive(Debug)]
pub(in crate::store) struct Thawing {
    store: MemoryStore,
    shards_then: usize,
    resumed: Resumed,
    left_out: u64,
}

/// No table has more; the number stands in 16 bits.
const SHARDS_MAX: usize = 4096;

impl MemoryStore {
    /// How often something was counted or blocked: whoever sees another number sees another state.
    pub(in crate::store) fn changes(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(shard.0.lock().changes()))
    }

    /// What [`Thawing::new`] needs to know of this table.
    pub(in crate::store) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Hands over all that is not spent or over, a frame of about 16 KiB at a time. No lock is held while `sink` has it.
    ///
    /// # Errors
    /// Those of `sink`, after the first of which it is not called again.
    pub(in crate::store) fn freeze(
        &self,
        now: Timestamp,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut frame = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let mut left = Some(Part::Slots { next: 0 });
            while let Some(part) = left {
                left = shard.0.lock().freeze(part, number, now, &mut frame);
                if !frame.is_empty() {
                    sink(&frame)?;
                    frame.clear();
                }
            }
        }
        Ok(())
    }
}

impl Thawing {
    /// A table like `store` for what another one of `shards_then` shards held; none if no table had so many.
    ///
    /// It has at least as many shards: a shared counter belongs to the keys of its shard, and two of them cannot be
    /// put together into one that counts for all.
    pub(in crate::store) fn new(
        store: &MemoryStore,
        shards_then: usize,
        resumed: Resumed,
    ) -> Option<Thawing> {
        if !shards_then.is_power_of_two() || shards_then > SHARDS_MAX {
            return None;
        }
        let store = MemoryStore::with_shards(store.keys_max, shards_then.max(store.shards.len()));
        Some(Thawing { store, shards_then, resumed, left_out: 0 })
    }

    /// Takes in one frame; none if it is not what [`MemoryStore::freeze`] hands over.
    pub(in crate::store) fn frame(&mut self, frame: &[u8]) -> Option<()> {
        let mut reader = Reader::new(frame);
        while !reader.is_empty() {
            let record = Record::read(&mut reader, self.resumed)?;
            self.hold(record)?;
        }
        Some(())
    }

    /// The table, and how many counters found no room in it.
    pub(in crate::store) fn finish(self) -> (MemoryStore, u64) {
        (self.store, self.left_out)
    }

    fn hold(&mut self, record: Record) -> Option<()> {
        let now = self.resumed.now();
        let held = match record {
            Record::Key(key, counter) => {
                let shard = self.store.shard_at(key);
                self.store.shards[shard].0.get_mut().thaw_key(key, counter, now)
            }
            Record::Block(key, block) => {
                let shard = self.store.shard_at(key);
                self.store.shards[shard].0.get_mut().thaw_block(key, block, now);
                Ok(())
            }
            Record::Shared { shard, key, counter } => {
                if shard >= self.shards_then {
                    return None;
                }
                // The keys of one shard of then are spread over these.
                let mut held = Ok(());
                for heir in self.store.shards.iter_mut().skip(shard).step_by(self.shards_then) {
                    held = held.and(heir.0.get_mut().thaw_shared(key, counter.clone(), now));
                }
                held
            }
        };
        if let Err(Full) = held {
            self.left_out += 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
