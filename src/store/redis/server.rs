//! One server, over a few connections.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::super::remote::StoreError;
use super::super::remote::call::{Answer, Bundle, Call, Piece};
use super::link::{Finder, Link};
use super::script::{self, Standing};
use super::slot::crc16;
use super::wire::{Trouble, Wire, accept};

/// One alone is bound to one core of ours for reading and writing. The fewer there are, the more requests
/// share a call, and a server spends more on calls and packets than on what is in them.
pub(super) const LINKS: usize = 2;

/// For a probe, connecting included.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);

/// What a probe writes is gone soon after the last gateway is.
const PROBE_LIFE_MS: u64 = 5_000;

/// A server and the connections to it. A key always takes the same one, so that calls for it
/// run in the order in which they were made.
#[derive(Debug)]
pub(super) struct Server {
    links: [Arc<Link>; LINKS],
}

impl Server {
    /// Connects when it is first used.
    pub(super) fn new(finder: Finder) -> Server {
        let finder = Arc::new(finder);
        Server { links: std::array::from_fn(|_| Arc::new(Link::new(Arc::clone(&finder)))) }
    }

    /// Over the connection of the first key. The outer error is that of all calls.
    pub(super) async fn run(
        &self,
        calls: &[Call],
        standing: Standing,
    ) -> Result<Vec<Result<Answer, StoreError>>, Trouble> {
        let key = calls.first().map_or("", Call::first_key);
        self.link(key).with(async |wire| script::run(wire, calls, standing).await).await
    }

    /// As [`Server::run`], of a script that decides no requests.
    pub(super) async fn run_bundle(
        &self,
        bundle: &Bundle<'_>,
        standing: Standing,
    ) -> Result<Vec<Piece>, Trouble> {
        let key = bundle.keys.first().copied().unwrap_or_default();
        self.link(key).with(async |wire| script::run_bundle(wire, bundle, standing).await).await
    }

    /// The number of the connection that a key takes, below [`LINKS`].
    pub(super) fn place_of(key: &str) -> usize {
        usize::from(crc16(key.as_bytes())) % LINKS
    }

    /// Whether a key can be written over every connection, making those that are not there.
    pub(super) async fn probe(&self, key: &str) -> Result<(), Trouble> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(1).arg("PX").arg(PROBE_LIFE_MS);
        let write = async |wire: &Wire| match wire.ask(&command).await? {
            Value::Okay => Ok(()),
            _ => Err(Trouble::garbage("a write was answered by something else")),
        };
        let [one, other] = &self.links;
        let (one, other) =
            tokio::join!(one.with_in(PROBE_TIMEOUT, write), other.with_in(PROBE_TIMEOUT, write));
        one.and(other)
    }

    /// Several commands at once over one connection, within the time of a probe.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
        let ask = async |wire: &Wire| wire.ask_all(commands).await?.into_iter().map(accept).collect();
        self.link("").with_in(PROBE_TIMEOUT, ask).await
    }

    fn link(&self, key: &str) -> &Arc<Link> {
        let [first, ..] = &self.links;
        self.links.get(Server::place_of(key)).unwrap_or(first)
    }
}
