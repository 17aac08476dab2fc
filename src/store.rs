//! Where counters live: one atomic step for all charges of a request.

pub mod memory;
pub mod redis;
mod remote;
pub mod spec;
pub mod upstash;

use crate::decision::tally::{Charge, Tallies};
use crate::decision::time::Timestamp;

use self::memory::MemoryStore;

/// A place for counters. The set of stores is closed, so calls cost no indirection.
#[derive(Debug)]
pub enum Store {
    Memory(MemoryStore),
}

/// What a store holds right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    pub keys: u64,
    pub keys_max: u64,
    /// Counters shared by keys that found the table full.
    pub shared: u64,
    pub blocks: u64,
}

impl Store {
    /// Charges every limit of a request, or none: if one that is enforced does not admit,
    /// nothing is charged anywhere. A limit in shadow mode is charged if it admits and the
    /// request goes through. A refusal starts the block of the limits that have one.
    pub async fn take(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        match self {
            Store::Memory(memory) => memory.take(charges, now),
        }
    }

    /// The same answer without charging anything.
    pub async fn peek(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        match self {
            Store::Memory(memory) => memory.peek(charges, now),
        }
    }

    pub fn size(&self, now: Timestamp) -> StoreSize {
        match self {
            Store::Memory(memory) => memory.size(now),
        }
    }

    /// Gives back the room of counters that say nothing any more.
    pub fn sweep(&self, now: Timestamp) {
        match self {
            Store::Memory(memory) => memory.sweep(now),
        }
    }
}
