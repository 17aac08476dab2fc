//! Redis and Valkey: one node (found by name or by Sentinel), or a cluster.

use std::time::Duration;

use secrecy::SecretString;
use thiserror::Error;

use super::remote::{Call, Lane, Piece, StoreError};

/// `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. Shows itself
/// without credentials.
#[derive(Clone)]
pub struct RedisUrl(SecretString);

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RedisUrlFault {
    #[error("this is not a Redis URL")]
    Malformed,
}

impl RedisUrl {
    pub fn parse(text: &SecretString) -> Result<RedisUrl, RedisUrlFault> {
        Ok(RedisUrl(text.clone()))
    }

    /// The password, if the URL has one.
    pub fn password(&self) -> Option<SecretString> {
        None
    }
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisUrl")
    }
}

/// One server, or the master that sentinels name.
#[derive(Debug)]
pub(super) struct RedisNode {}

impl RedisNode {
    /// Connects when it is first used. `prefix` begins the name of the key that probes write.
    pub(super) fn new(_url: RedisUrl, _prefix: &str, _timeout: Duration) -> RedisNode {
        RedisNode {}
    }

    pub(super) fn by_sentinel(
        _master: &str,
        _sentinels: Vec<RedisUrl>,
        _node: Option<RedisUrl>,
        _prefix: &str,
        _timeout: Duration,
    ) -> RedisNode {
        RedisNode {}
    }

    pub(super) async fn run(&self, _call: &Call<'_>) -> Result<Vec<Piece>, StoreError> {
        Err(StoreError::Timeout)
    }

    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        Err(StoreError::Timeout)
    }

    pub(super) async fn advice(&self) -> Option<String> {
        None
    }
}

/// A cluster, known by some of its nodes.
#[derive(Debug)]
pub(super) struct RedisCluster {}

impl RedisCluster {
    pub(super) fn new(_nodes: Vec<RedisUrl>, _prefix: &str, _timeout: Duration) -> RedisCluster {
        RedisCluster {}
    }

    pub(super) fn lanes(&self) -> u8 {
        16
    }

    pub(super) fn lane(&self, _key: &str) -> Lane {
        Lane(0)
    }

    pub(super) fn share_a_slot(&self, _one: &str, _other: &str) -> bool {
        false
    }

    pub(super) async fn run(&self, _call: &Call<'_>) -> Result<Vec<Piece>, StoreError> {
        Err(StoreError::Timeout)
    }

    pub(super) async fn probe(&self, _lane: Lane) -> Result<(), StoreError> {
        Err(StoreError::Timeout)
    }

    pub(super) async fn advice(&self) -> Option<String> {
        None
    }
}
