//! One node: a server of its own, or the master that Sentinels name.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::batch::{Batcher, Road};
use super::super::remote::StoreError;
use super::super::remote::call::{Answer, Bundle, Call, Piece};
use super::advice::{self, Role};
use super::link::Finder;
use super::script::Standing;
use super::sentinel::Sentinels;
use super::server::{LINKS, Server};
use super::url::RedisUrl;
use super::wire::Patience;

/// How long calls wait for one before them that is not answered yet. Who is waited for longer is far away or
/// hangs, and to wait for it would cost those behind it their deadlines.
const HOLD: Duration = Duration::from_millis(1);

/// One server, or the master that sentinels name.
#[derive(Debug)]
pub(in crate::store) struct RedisNode {
    server: Arc<Server>,
    /// One before each connection.
    lines: [Batcher<Connection>; LINKS],
    probe_key: Box<str>,
}

/// Has the calls of a batch run. All of them take the same of the server's connections.
#[derive(Debug)]
struct Connection {
    server: Arc<Server>,
    /// How long callers wait, so that an exchange ends when the last of them has left.
    within: Duration,
}

impl RedisNode {
    /// Connects when it is first used. `prefix` begins the name of the key that probes write;
    /// `timeout` is how long callers wait for an answer.
    pub(in crate::store) fn new(url: RedisUrl, prefix: &str, timeout: Duration) -> RedisNode {
        RedisNode::found_by(Finder::Known(url, Patience::beyond(timeout)), prefix, timeout)
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
        RedisNode::found_by(Finder::Sentinels(sentinels), prefix, timeout)
    }

    fn found_by(finder: Finder, prefix: &str, within: Duration) -> RedisNode {
        let server = Arc::new(Server::new(finder));
        let connection = |_| Connection { server: Arc::clone(&server), within };
        let lines = std::array::from_fn(|place| Batcher::new(connection(place), HOLD));
        RedisNode { server, lines, probe_key: format!("{prefix}1:probe").into() }
    }

    pub(in crate::store) async fn run(&self, call: Call) -> Result<Answer, StoreError> {
        let [first, ..] = &self.lines;
        self.lines.get(Server::place_of(call.first_key())).unwrap_or(first).run(call).await?
    }

    pub(in crate::store) async fn run_bundle(&self, bundle: &Bundle<'_>) -> Result<Vec<Piece>, StoreError> {
        Ok(self.server.run_bundle(bundle, Standing::Owner).await?)
    }

    pub(in crate::store) async fn probe(&self) -> Result<(), StoreError> {
        Ok(self.server.probe(&self.probe_key).await?)
    }

    pub(in crate::store) async fn advice(&self) -> Option<String> {
        advice::of(&self.server, Role::Single).await
    }
}

impl Road for Connection {
    type Load = Call;
    type Answer = Result<Answer, StoreError>;

    /// A script holds up the server for about two microseconds a call.
    const LOADS_MAX: usize = 64;
    /// Keys.
    const WEIGHT_MAX: usize = Bundle::KEYS_MAX;
    const EXCHANGES_MAX: usize = 64;

    fn weight(call: &Call) -> usize {
        call.entries.len()
    }

    fn go_together(one: &Call, other: &Call) -> bool {
        one.goes_with(other)
    }

    async fn exchange(&self, calls: &[Call]) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
        match timeout(self.within, self.server.run(calls, Standing::Owner)).await {
            Ok(answers) => Ok(answers?),
            Err(_elapsed) => Err(StoreError::Timeout),
        }
    }
}
