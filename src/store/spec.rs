//! What the configuration says of a store, in types that hold only what can be used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::redis::RedisUrl;
use super::upstash::UpstashUrl;

/// Which store, and how large a table each node keeps.
#[derive(Clone, Debug)]
pub struct StoreSpec {
    /// The bound of the node's own table.
    pub max_keys: usize,
    /// The folder of what outlives the process.
    pub data_dir: PathBuf,
    pub kind: StoreKind,
}

#[derive(Clone, Debug)]
pub enum StoreKind {
    Memory,
    Shared(SharedSpec),
}

/// A store that several gateways share.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub enum Place {
    Redis(RedisPlace),
    Upstash { url: UpstashUrl, token: SecretString },
}

/// Redis or Valkey, in one of its three forms.
#[derive(Clone, Debug)]
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

impl SharedSpec {
    /// What keys are hashed under: the secret that was given, or else what opens the store. None
    /// if the store is open to everybody.
    pub fn hashing_secret(&self) -> Option<SecretString> {
        let secret = self.secret.clone().or_else(|| match &self.place {
            Place::Redis(redis) => redis.password(),
            Place::Upstash { token, .. } => Some(token.clone()),
        });
        secret.filter(|secret| !secret.expose_secret().is_empty())
    }
}

impl RedisPlace {
    /// The URLs of the servers themselves, not of what names them.
    pub fn urls(&self) -> &[RedisUrl] {
        match self {
            RedisPlace::Single(url) => std::slice::from_ref(url),
            RedisPlace::Cluster(urls) => urls,
            RedisPlace::Sentinel { node, .. } => node.as_slice(),
        }
    }

    /// The name of the master, and who knows where it is.
    pub fn sentinel(&self) -> Option<(&str, &[RedisUrl])> {
        match self {
            RedisPlace::Single(_) | RedisPlace::Cluster(_) => None,
            RedisPlace::Sentinel { master, sentinels, node: _ } => Some((master, sentinels)),
        }
    }

    pub fn is_cluster(&self) -> bool {
        match self {
            RedisPlace::Cluster(_) => true,
            RedisPlace::Single(_) | RedisPlace::Sentinel { .. } => false,
        }
    }

    /// The first password that opens the data.
    fn password(&self) -> Option<SecretString> {
        self.urls().iter().find_map(RedisUrl::password)
    }
}

/// For operators: no address, no credentials.
impl fmt::Display for StoreSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            StoreKind::Memory => write!(f, "memory, {} keys", self.max_keys),
            StoreKind::Shared(SharedSpec { place, prefix, timeout, secret: _ }) => {
                write!(f, "{place}, prefix {prefix}, {timeout:?}")
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Redis(RedisPlace::Single(_)) => f.write_str("Redis"),
            Place::Redis(RedisPlace::Cluster(nodes)) => {
                write!(f, "Redis cluster by {}", Count(nodes, "node"))
            }
            Place::Redis(RedisPlace::Sentinel { master, sentinels, node: _ }) => {
                write!(f, "Redis `{master}` by {}", Count(sentinels, "sentinel"))
            }
            Place::Upstash { .. } => f.write_str("Upstash"),
        }
    }
}

/// `1 node`, `3 nodes`.
struct Count<'a>(&'a [RedisUrl], &'static str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0.len(), self.1)
    }
}
