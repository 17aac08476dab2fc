//! Where counters live: one atomic step for all charges of a request.

pub mod durable;
pub mod memory;
pub mod redis;
mod remote;
mod script;
mod shared;
pub mod snapshot;
pub mod spec;
pub mod upstash;

use crate::clock::Clock;
use crate::decision::key::KeyHasher;
use crate::decision::tally::{Charge, Tallies};
use crate::decision::time::Timestamp;
use crate::telemetry::StoreMetrics;

use self::memory::MemoryStore;
pub use self::shared::ScriptTime;
use self::shared::SharedStore;
use self::spec::{StoreKind, StoreSpec};

/// A place for counters. The set of stores is closed, so calls cost no indirection.
#[derive(Debug)]
pub struct Store(Place);

#[derive(Debug)]
enum Place {
    Memory(MemoryStore),
    Shared(Box<SharedStore>),
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
    /// The store that `spec` describes. Nothing is connected yet: that happens in the runtime that
    /// uses it. `node_secret` is of this process alone.
    pub fn open(
        spec: &StoreSpec,
        node_secret: KeyHasher,
        metrics: StoreMetrics,
        clock: Clock,
        time: ScriptTime,
    ) -> Store {
        let memory = MemoryStore::new(spec.max_keys);
        match &spec.kind {
            StoreKind::Memory => {
                metrics.set_open(0, 1);
                Store(Place::Memory(memory))
            }
            StoreKind::Shared(shared) => Store(Place::Shared(Box::new(SharedStore::new(
                shared,
                memory,
                node_secret,
                metrics,
                clock,
                time,
            )))),
        }
    }

    /// Whether it answers, at least in part. A store in memory does.
    pub fn is_up(&self) -> bool {
        match &self.0 {
            Place::Memory(_) => true,
            Place::Shared(shared) => shared.is_up(),
        }
    }

    /// Looks after the connection to a shared store until it is dropped.
    pub async fn watch(&self) {
        match &self.0 {
            Place::Memory(_) => std::future::pending().await,
            Place::Shared(shared) => shared.watch().await,
        }
    }

    /// Charges every limit of a request, or none: if one that is enforced does not admit,
    /// nothing is charged anywhere. A limit in shadow mode is charged if it admits and the
    /// request goes through. A refusal starts the block of the limits that have one.
    pub async fn take(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        match &self.0 {
            Place::Memory(memory) => memory.take(charges, now),
            Place::Shared(shared) => shared.take(charges, now).await,
        }
    }

    /// The same answer without charging anything. A shared store is not asked: what this node
    /// knows to be refused is refused, and everything else passes.
    pub async fn peek(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        match &self.0 {
            Place::Memory(memory) => memory.peek(charges, now),
            Place::Shared(shared) => shared.peek(charges, now),
        }
    }

    pub fn size(&self, now: Timestamp) -> StoreSize {
        match &self.0 {
            Place::Memory(memory) => memory.size(now),
            Place::Shared(shared) => shared.local().size(shared.store_time(now)),
        }
    }

    /// Gives back the room of counters that say nothing any more.
    pub fn sweep(&self, now: Timestamp) {
        match &self.0 {
            Place::Memory(memory) => memory.sweep(now),
            Place::Shared(shared) => shared.local().sweep(shared.store_time(now)),
        }
    }
}
