//! Slots of one cache line each, allocated a chunk at a time so that nothing is ever moved.

use crate::decision::counter::Counter;
use crate::decision::key::KeyHash;

/// One key and its counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) key: SlotKey,
    pub(super) counter: Counter,
}

/// The bits of a key; zero while the slot is vacant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotKey([u64; 2]);

impl SlotKey {
    pub(super) fn of(key: KeyHash) -> SlotKey {
        let bits = key.as_u128();
        SlotKey([bits as u64, (bits >> 64) as u64])
    }

    /// The key that these bits are of.
    pub(super) fn as_key(self) -> KeyHash {
        let [low, high] = self.0;
        KeyHash::from_u128(u128::from(high) << 64 | u128::from(low))
    }

    /// What the index hashes by.
    pub(super) fn hash(self) -> u64 {
        self.0[0]
    }

    pub(super) fn is_vacant(self) -> bool {
        self == SlotKey::default()
    }
}

/// Slots allocated at once: 4 KiB. From 8 KiB on, the allocator puts a power of two into its next
/// size, a quarter more.
const CHUNK: usize = 64;

/// A growing array of slots with a list of the vacant ones.
#[derive(Default)]
pub(super) struct Slab {
    chunks: Vec<Box<[Slot]>>,
    vacant: Vec<u32>,
    used: u32,
}

impl Slab {
    /// How many slots were ever used: the range to sweep.
    pub(super) fn extent(&self) -> u32 {
        self.used
    }

    pub(super) fn get(&self, index: u32) -> &Slot {
        let index = index as usize;
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Slot {
        let index = index as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    pub(super) fn insert(&mut self, slot: Slot) -> u32 {
        let index = self.vacant.pop().unwrap_or_else(|| {
            if self.used as usize == self.chunks.len() * CHUNK {
                self.chunks.push(vec![Slot::default(); CHUNK].into_boxed_slice());
            }
            self.used += 1;
            self.used - 1
        });
        *self.get_mut(index) = slot;
        index
    }

    pub(super) fn remove(&mut self, index: u32) {
        *self.get_mut(index) = Slot::default();
        self.vacant.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }
}
