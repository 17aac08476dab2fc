//! The one thing that a shared store must be able to do: run a script over some keys, atomically.

pub(super) mod call;
pub(super) mod error_reply;

use thiserror::Error;

use self::call::{Answer, Bundle, Call, Piece};
use super::redis::{RedisCluster, RedisNode};
use super::upstash::Upstash;
use crate::telemetry::StoreFailure;

/// A part of a store that fails by itself: it has a breaker of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane(pub(super) u8);

/// Why a store gave no answer that can be used. Whatever it is, the charge may have been made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum StoreError {
    #[error("no answer in time")]
    Timeout,
    #[error("not connected: {0}")]
    Disconnected(Box<str>),
    #[error("the credentials are refused: {0}")]
    Auth(Box<str>),
    #[error("the server takes no writes: it is a replica")]
    ReadOnly,
    #[error("the server is loading its data")]
    Loading,
    #[error("the server is out of memory")]
    OutOfMemory,
    #[error("the cluster is being rearranged: {0}")]
    Cluster(Box<str>),
    /// Somebody else uses a key of ours.
    #[error("a key holds something that is not ours")]
    WrongType,
    #[error("the answer makes no sense: {0}")]
    Garbage(Box<str>),
    #[error("the server refused: {0}")]
    Refused(Box<str>),
}

/// What an error says of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// The store as a whole cannot work: no further request need find that out.
    Away,
    /// One call failed; several in a row mean that the store is away.
    Stumbled,
    /// One key is unusable; the store is well.
    Local,
}

impl StoreError {
    /// As metrics know it.
    pub(super) fn kind(&self) -> StoreFailure {
        match self {
            StoreError::Timeout => StoreFailure::Timeout,
            StoreError::Disconnected(_) => StoreFailure::Disconnected,
            StoreError::Auth(_) => StoreFailure::Auth,
            StoreError::ReadOnly => StoreFailure::ReadOnly,
            StoreError::Loading => StoreFailure::Loading,
            StoreError::OutOfMemory => StoreFailure::OutOfMemory,
            StoreError::Cluster(_) => StoreFailure::Cluster,
            StoreError::WrongType => StoreFailure::WrongType,
            StoreError::Garbage(_) => StoreFailure::Garbage,
            StoreError::Refused(_) => StoreFailure::Refused,
        }
    }

    /// Whether it is sure that the call changed nothing, and another try may find the store in order.
    pub(super) fn nothing_ran(&self) -> bool {
        match self {
            StoreError::ReadOnly | StoreError::Loading | StoreError::Cluster(_) => true,
            // A connection may end after a call was run and before it was answered.
            StoreError::Disconnected(_)
            | StoreError::Timeout
            | StoreError::Auth(_)
            | StoreError::OutOfMemory
            | StoreError::WrongType
            | StoreError::Garbage(_)
            | StoreError::Refused(_) => false,
        }
    }

    pub(super) fn weight(&self) -> Weight {
        match self {
            StoreError::Disconnected(_)
            | StoreError::Auth(_)
            | StoreError::ReadOnly
            | StoreError::Loading
            | StoreError::OutOfMemory => Weight::Away,
            StoreError::Timeout
            | StoreError::Cluster(_)
            | StoreError::Garbage(_)
            | StoreError::Refused(_) => Weight::Stumbled,
            StoreError::WrongType => Weight::Local,
        }
    }
}

/// The shared stores there are.
#[derive(Debug)]
pub(super) enum Remote {
    Node(RedisNode),
    Cluster(RedisCluster),
    Upstash(Upstash),
}

impl Remote {
    /// How many lanes there are, at least one.
    pub(super) fn lanes(&self) -> u8 {
        match self {
            Remote::Node(_) | Remote::Upstash(_) => 1,
            Remote::Cluster(cluster) => cluster.lanes(),
        }
    }

    /// The lane of a key.
    pub(super) fn lane(&self, key: &str) -> Lane {
        match self {
            Remote::Node(_) | Remote::Upstash(_) => Lane(0),
            Remote::Cluster(cluster) => cluster.lane(key),
        }
    }

    /// Whether one call may name both keys.
    pub(super) fn share_a_call(&self, one: &str, other: &str) -> bool {
        match self {
            Remote::Node(_) | Remote::Upstash(_) => true,
            Remote::Cluster(cluster) => cluster.share_a_slot(one, other),
        }
    }

    /// Runs a script: one round trip if the server knows it, two if not; half of one more if the
    /// call waits for another that is under way. Never retried where it may have run. The caller
    /// holds the deadline; dropping the future is safe.
    pub(super) async fn run(&self, call: Call) -> Result<Answer, StoreError> {
        match self {
            Remote::Node(node) => node.run(call).await,
            Remote::Cluster(cluster) => cluster.run(&call).await,
            Remote::Upstash(upstash) => upstash.run(&call).await,
        }
    }

    /// Runs a script that decides no requests, by itself; otherwise as [`Remote::run`].
    pub(super) async fn run_bundle(&self, bundle: &Bundle<'_>) -> Result<Vec<Piece>, StoreError> {
        match self {
            Remote::Node(node) => node.run_bundle(bundle).await,
            Remote::Cluster(cluster) => cluster.run_bundle(bundle).await,
            Remote::Upstash(upstash) => upstash.run_bundle(bundle).await,
        }
    }

    /// Whether a lane can be written to, connecting anew if it must. Has a deadline of its own,
    /// a second at most.
    pub(super) async fn probe(&self, lane: Lane) -> Result<(), StoreError> {
        match self {
            Remote::Node(node) => node.probe().await,
            Remote::Cluster(cluster) => cluster.probe(lane).await,
            Remote::Upstash(upstash) => upstash.probe().await,
        }
    }

    /// What an operator should know of how the server is set up; nothing if all is well or it
    /// does not tell.
    pub(super) async fn advice(&self) -> Option<String> {
        match self {
            Remote::Node(node) => node.advice().await,
            Remote::Cluster(cluster) => cluster.advice().await,
            Remote::Upstash(_) => None,
        }
    }
}
