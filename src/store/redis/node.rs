//! One node: a server of its own, or the master that Sentinels name.

use std::time::Duration;

use super::super::remote::{Call, Piece, StoreError};
use super::advice::{self, Role};
use super::link::Finder;
use super::script::Standing;
use super::sentinel::Sentinels;
use super::server::Server;
use super::url::RedisUrl;
use super::wire::Patience;

/// One server, or the master that sentinels name.
#[derive(Debug)]
pub(in crate::store) struct RedisNode {
    server: Server,
    probe_key: Box<str>,
}

impl RedisNode {
    /// Connects when it is first used. `prefix` begins the name of the key that probes write;
    /// `timeout` is how long callers wait for an answer.
    pub(in crate::store) fn new(url: RedisUrl, prefix: &str, timeout: Duration) -> RedisNode {
        RedisNode::found_by(Finder::Known(url, Patience::beyond(timeout)), prefix)
    }

    /// `node` tells how to log in to the master, by default not at all.
    pub(in crate::store) fn by_sentinel(
        master: &str,
        sentinels: Vec<RedisUrl>,
        node: Option<RedisUrl>,
        prefix: &str,
        timeout: Duration,
    ) -> RedisNode {
        let sentinels = Sentinels::new(master, sentinels, node, Patience::beyond(timeout));
        RedisNode::found_by(Finder::Sentinels(sentinels), prefix)
    }

    fn found_by(finder: Finder, prefix: &str) -> RedisNode {
        RedisNode { server: Server::new(finder), probe_key: format!("{prefix}1:probe").into() }
    }

    pub(in crate::store) async fn run(&self, call: &Call<'_>) -> Result<Vec<Piece>, StoreError> {
        Ok(self.server.run(call, Standing::Owner).await?)
    }

    pub(in crate::store) async fn probe(&self) -> Result<(), StoreError> {
        Ok(self.server.probe(&self.probe_key).await?)
    }

    pub(in crate::store) async fn advice(&self) -> Option<String> {
        advice::of(&self.server, Role::Single).await
    }
}
