//! A shard as a snapshot keeps it: one record after another, a few at a time.
//!
//! ```text
//! k  key u128 | counter
//! s  shard u16 | limit u128 | row u8 | column u8 | counter
//! b  key u128 | until u64 µs | level u16 | forgotten at u64 µs
//! ```

use super::{COLUMNS, ROWS, Shard, SharedKey};
use crate::decision::block::Block;
use crate::decision::bytes::{self, Reader};
use crate::decision::counter::Counter;
use crate::decision::key::{KeyHash, LimitId};
use crate::decision::time::{Resumed, Timestamp};

/// How many records are written under one lock, and after how many bytes it is given back earlier.
const STRETCH: usize = 256;
const STRETCH_BYTES: usize = 16 * 1024;

const KEY_TAG: u8 = b'k';
const SHARED_TAG: u8 = b's';
const BLOCK_TAG: u8 = b'b';

/// What of a shard is still to be written.
pub(in crate::store::memory) enum Part {
    Slots { next: u32 },
    Shared { left: Vec<SharedKey> },
    Blocks { after: Option<(Timestamp, KeyHash)> },
}

/// One of the things that a shard holds.
pub(in crate::store::memory) enum Record {
    Key(KeyHash, Counter),
    Shared { shard: usize, key: SharedKey, counter: Counter },
    Block(KeyHash, Block),
}

/// There was no room for a record.
pub(in crate::store::memory) struct Full;

impl Shard {
    /// How often something was counted or blocked: whoever sees another number sees another state.
    pub(in crate::store::memory) fn changes(&self) -> u64 {
        self.changes
    }

    /// Appends some of what this shard, which is number `shard`, holds and has not told; what is left then. What is
    /// counted meanwhile may be missing or there twice: the later one is the newer one.
    pub(in crate::store::memory) fn freeze(
        &self,
        part: Part,
        shard: usize,
        now: Timestamp,
        to: &mut Vec<u8>,
    ) -> Option<Part> {
        match part {
            Part::Slots { next } => Some(self.freeze_slots(next, now, to)),
            Part::Shared { left } => Some(self.freeze_shared(left, shard, now, to)),
            Part::Blocks { after } => self.freeze_blocks(after, now, to),
        }
    }

    fn freeze_slots(&self, first: u32, now: Timestamp, to: &mut Vec<u8>) -> Part {
        let extent = self.slab.extent();
        for next in (first..extent).take(STRETCH) {
            let slot = self.slab.get(next);
            if slot.key.is_vacant() || slot.counter.is_spent(now) {
                continue;
            }
            to.push(KEY_TAG);
            bytes::put_bits(to, slot.key.as_key().as_u128());
            slot.counter.freeze(to);
            if to.len() >= STRETCH_BYTES {
                return Part::Slots { next: next + 1 };
            }
        }
        match first.saturating_add(STRETCH as u32) {
            next if next < extent => Part::Slots { next },
            _ => Part::Shared { left: self.shared.keys().copied().collect() },
        }
    }

    fn freeze_shared(
        &self,
        mut left: Vec<SharedKey>,
        shard: usize,
        now: Timestamp,
        to: &mut Vec<u8>,
    ) -> Part {
        for _ in 0..STRETCH {
            let Some(key) = left.pop() else { return Part::Blocks { after: None } };
            let Some(counter) = self.shared.get(&key).filter(|counter| !counter.is_spent(now)) else {
                continue;
            };
            to.push(SHARED_TAG);
            bytes::put(to, shard as u64, 2);
            bytes::put_bits(to, key.limit.as_u128());
            to.extend([key.row, key.column]);
            counter.freeze(to);
            if to.len() >= STRETCH_BYTES {
                break;
            }
        }
        Part::Shared { left }
    }

    fn freeze_blocks(
        &self,
        after: Option<(Timestamp, KeyHash)>,
        now: Timestamp,
        to: &mut Vec<u8>,
    ) -> Option<Part> {
        let mut last = None;
        for (key, block) in self.blocks.after(after).take(STRETCH) {
            last = Some((block.until, key));
            if block.until <= now && block.forget_at <= now {
                continue;
            }
            to.push(BLOCK_TAG);
            bytes::put_bits(to, key.as_u128());
            bytes::put(to, block.until.as_micros(), 8);
            bytes::put(to, u64::from(block.level), 2);
            bytes::put(to, block.forget_at.as_micros(), 8);
        }
        last.map(|last| Part::Blocks { after: Some(last) })
    }

    /// Holds a counter again, unless it is spent by now.
    pub(in crate::store::memory) fn thaw_key(
        &mut self,
        key: KeyHash,
        counter: Counter,
        now: Timestamp,
    ) -> Result<(), Full> {
        match self.find(key) {
            Some(index) => self.slab.get_mut(index).counter = counter,
            None if counter.is_spent(now) => {}
            None if self.index.len() >= self.keys_max => return Err(Full),
            None => self.insert(key, counter),
        }
        Ok(())
    }

    pub(in crate::store::memory) fn thaw_shared(
        &mut self,
        key: SharedKey,
        counter: Counter,
        now: Timestamp,
    ) -> Result<(), Full> {
        if counter.is_spent(now) {
            return Ok(());
        }
        if self.shared.len() >= self.shared_max && !self.shared.contains_key(&key) {
            return Err(Full);
        }
        self.shared.insert(key, counter);
        Ok(())
    }

    /// Holds a block again, unless it is over and forgotten by now.
    pub(in crate::store::memory) fn thaw_block(&mut self, key: KeyHash, block: Block, now: Timestamp) {
        if block.until > now || block.forget_at > now {
            self.blocks.put(key, block);
        }
    }
}

impl Record {
    /// The next record of those that [`Shard::freeze`] wrote; none if this is not one.
    pub(in crate::store::memory) fn read(reader: &mut Reader<'_>, resumed: Resumed) -> Option<Record> {
        match u8::try_from(reader.number(1)?).ok()? {
            KEY_TAG => {
                // All zero is what a vacant slot has in its place.
                let key = reader.bits().filter(|&bits| bits != 0).map(KeyHash::from_u128)?;
                Some(Record::Key(key, Counter::thaw(reader, resumed)?))
            }
            SHARED_TAG => {
                let shard = usize::try_from(reader.number(2)?).ok()?;
                let limit = LimitId::from_u128(reader.bits()?);
                let (row, column) = (reader.number(1)? as u8, reader.number(1)? as u8);
                if row >= ROWS || column >= COLUMNS {
                    return None;
                }
                let key = SharedKey { limit, row, column };
                Some(Record::Shared { shard, key, counter: Counter::thaw(reader, resumed)? })
            }
            BLOCK_TAG => {
                let key = KeyHash::from_u128(reader.bits()?);
                let until = resumed.time(Timestamp::from_micros(reader.number(8)?));
                let level = u16::try_from(reader.number(2)?).ok()?;
                let forget_at = resumed.time(Timestamp::from_micros(reader.number(8)?));
                Some(Record::Block(key, Block { until, level, forget_at }))
            }
            _ => None,
        }
    }
}
