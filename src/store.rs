//! Where counters live: one atomic step for all charges of a request.

mod batch;
pub mod codes;
pub mod durable;
pub mod exchange;
pub mod memory;
pub mod redis;
mod remote;
mod script;
mod shared;
pub mod snapshot;
pub mod spec;
pub mod upstash;

use smallvec::SmallVec;

use crate::clock::Clock;
use crate::decision::block::Block;
use crate::decision::key::{KeyHash, KeyHasher};
use crate::decision::tally::{Aftermath, Charge, Settlement, Tallies};
use crate::decision::time::Timestamp;
use crate::telemetry::StoreMetrics;

use self::codes::Codes;
use self::exchange::Exchange;
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

/// How far a key is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Forgotten {
    Everywhere,
    /// In this gateway alone: the shared store gave no answer, and the others still go by it.
    Here,
}

/// How much of a shared store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Up,
    Partly,
    Away,
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

    /// Looks after the connection to a shared store until it is dropped; `note` is told of each change.
    pub async fn watch(&self, note: &(dyn Fn(Availability) + Sync)) {
        match &self.0 {
            Place::Memory(_) => std::future::pending().await,
            Place::Shared(shared) => shared.watch(note).await,
        }
    }

    /// Holds a block that was known before this process began, and what the next one follows on.
    pub fn hold(&self, key: KeyHash, block: Block, now: Timestamp) {
        match &self.0 {
            Place::Memory(memory) => memory.hold(key, block, now),
            // The store itself remembers; this node looks at its journal's book first.
            Place::Shared(_) => {}
        }
    }

    /// Charges every limit of a request, or none: if one that is enforced does not admit,
    /// nothing is charged anywhere. A limit in shadow mode is charged if it admits and the
    /// request goes through. A refusal starts the block of the limits that have one.
    pub async fn take(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        match &self.0 {
            Place::Memory(memory) => memory.take(charges, now),
            Place::Shared(shared) => Box::pin(shared.take(charges, now)).await,
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

    /// What is known here of these keys, for people: of a shared store, what this node last learnt of it.
    pub fn look(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        match &self.0 {
            Place::Memory(memory) => memory.peek(charges, now),
            Place::Shared(shared) => shared.look(charges, now),
        }
    }

    /// Settles attempts that [`Store::take`] reserved, each where it was reserved; what each key says
    /// afterwards. A failure that uses up what its key had begins the block of its limit.
    pub async fn settle(&self, settlements: &[Settlement<'_>], now: Timestamp) -> SmallVec<[Aftermath; 4]> {
        match &self.0 {
            Place::Memory(memory) => memory.settle(settlements, now),
            Place::Shared(shared) => shared.settle_attempts(settlements, now).await,
        }
    }

    /// Forgets all that is known of a key: what it counted, its block, and those before it.
    /// Other gateways that share the store know of it within a second.
    pub async fn forget(&self, key: KeyHash) -> Forgotten {
        match &self.0 {
            Place::Memory(memory) => {
                memory.forget(key);
                Forgotten::Everywhere
            }
            Place::Shared(shared) => shared.forget(key).await,
        }
    }

    /// Forgets what this node knows of a key that another gateway let go; see [`Store::forget`].
    pub fn forget_in_node(&self, key: KeyHash) {
        match &self.0 {
            Place::Memory(memory) => memory.forget(key),
            Place::Shared(shared) => shared.forget_in_node(key),
        }
    }

    /// The gateways that share the store. None if it is this one's alone.
    pub fn exchange(&self) -> Option<Exchange<'_>> {
        match &self.0 {
            Place::Memory(_) => None,
            Place::Shared(shared) => Some(Exchange(shared)),
        }
    }

    /// The one-time codes that gateways share. None if the store is this one's alone: they are in its journal then.
    pub fn codes(&self) -> Option<Codes<'_>> {
        match &self.0 {
            Place::Memory(_) => None,
            Place::Shared(shared) => Some(Codes(shared)),
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
