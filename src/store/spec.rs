//! What the configuration says of a store, in types that hold only what can be used.

use std::time::Duration;

use secrecy::SecretString;

use super::redis::RedisUrl;
use super::upstash::UpstashUrl;

/// Which store, and how large a table each node keeps.
#[derive(Debug)]
pub struct StoreSpec {
    /// The bound of the node's own table.
    pub max_keys: usize,
    pub kind: StoreKind,
}

#[derive(Debug)]
pub enum StoreKind {
    Memory,
    Shared(SharedSpec),
}

/// A store that several gateways share.
#[derive(Debug)]
pub struct SharedSpec {
    pub place: Place,
    /// What the names of all keys begin with.
    pub prefix: Box<str>,
    /// How long one call may take, the connection being there.
    pub timeout: Duration,
    /// What keys are hashed under; the same in every gateway that shares the store.
    pub secret: Option<SecretString>,
}

/// Where the shared state is.
#[derive(Debug)]
pub enum Place {
    Redis(RedisPlace),
    Upstash { url: UpstashUrl, token: SecretString },
}

/// Redis or Valkey, in one of its three forms.
#[derive(Debug)]
pub enum RedisPlace {
    Single(RedisUrl),
    /// Some of the nodes of a cluster; the others are found through them.
    Cluster(Vec<RedisUrl>),
    Sentinel {
        master: Box<str>,
        sentinels: Vec<RedisUrl>,
        /// Credentials, database and TLS of the master; its host does not count.
        node: Option<RedisUrl>,
    },
}
