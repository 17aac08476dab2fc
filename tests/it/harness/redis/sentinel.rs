//! A master, its replica, and the sentinels that put the one in the place of the other.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use super::port::Port;
use super::{AGREEMENT, RedisServer, Reply, eventually};

const SENTINELS: usize = 3;

/// The name that the sentinels know the master by.
const MASTER: &str = "mymaster";

/// A pair of servers that sentinels watch.
pub(crate) struct Watched {
    pair: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl Watched {
    pub(crate) async fn start() -> Watched {
        let quickly = ["--repl-diskless-sync-delay", "0"];
        let master = RedisServer::with(&quickly).await;
        let replica = RedisServer::with(&quickly).await;
        let port = master.port.number.to_string();
        replica.must(&["REPLICAOF", "127.0.0.1", &port]).await;
        eventually("the replica to be in step", AGREEMENT, async || {
            (replica.info("replication", "master_link_status").await? == "up").then_some(())
        })
        .await;
        let sentinels: Vec<RedisServer> = (0..SENTINELS).map(|_| sentinel(&master)).collect();
        let watched = Watched { pair: [master, replica], sentinels };
        watched.sentinels_agree().await;
        watched
    }

    pub(crate) const fn master_name(&self) -> &'static str {
        MASTER
    }

    /// What a configuration names the sentinels by.
    pub(crate) fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }

    /// The server that all sentinels name as the master, and that takes writes.
    pub(crate) async fn master(&self) -> Option<&RedisServer> {
        let mut named = Vec::new();
        for sentinel in &self.sentinels {
            named.push(named_by(sentinel).await?);
        }
        let master = self.pair.iter().find(|server| server.is_running && server.address() == named[0])?;
        let agreed = named.iter().all(|address| *address == master.address());
        let is_master = master.info("replication", "role").await? == "master";
        (agreed && is_master).then_some(master)
    }

    /// Kills the master; returns once the process is gone, the sentinels do not know yet.
    pub(crate) async fn kill_master(&mut self) {
        let address = self.master().await.expect("a master that all agree on").address();
        for server in self.pair.iter_mut().filter(|server| server.address() == address) {
            server.kill_9();
        }
    }

    /// Waits until the server that lives takes writes. Returns the last moment at which it certainly took none.
    pub(crate) async fn wait_for_promotion(&self) -> Instant {
        let living = self.pair.iter().find(|server| server.is_running).expect("a server that lives");
        let last = Cell::new(Instant::now());
        eventually("the replica to take writes", AGREEMENT, async || {
            let asked = Instant::now();
            if living.info("replication", "role").await? == "master" {
                return Some(());
            }
            last.set(asked);
            None
        })
        .await;
        last.get()
    }

    /// Waits until all sentinels name the other server as the master.
    pub(crate) async fn wait_for_failover(&self) {
        eventually("the replica to be the master", AGREEMENT, async || self.master().await.map(|_| ())).await;
    }

    async fn sentinels_agree(&self) {
        eventually("three sentinels that can agree on a failover", AGREEMENT, async || {
            for sentinel in &self.sentinels {
                let others = sentinel.try_command(&["SENTINEL", "CKQUORUM", MASTER]).await.ok()?;
                matches!(&others, Reply::Simple(ok) if ok.starts_with("OK 3 usable")).then_some(())?;
                let replicas = sentinel.try_command(&["SENTINEL", "REPLICAS", MASTER]).await.ok()?;
                (replicas.array().len() == 1).then_some(())?;
            }
            self.master().await.map(|_| ())
        })
        .await;
    }
}

/// A sentinel keeps what it learns in its configuration file, so it has one.
fn sentinel(master: &RedisServer) -> RedisServer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = format!(
        "sentinel monitor {MASTER} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {MASTER} 500\n\
         sentinel failover-timeout {MASTER} 3000\nsentinel parallel-syncs {MASTER} 1\n",
        master.port.number
    );
    std::fs::write(folder.path().join("sentinel.conf"), file).expect("a file");
    RedisServer::spawn_on(Port::free(), folder, vec!["sentinel.conf".to_owned(), "--sentinel".to_owned()])
}

async fn named_by(sentinel: &RedisServer) -> Option<SocketAddr> {
    let named = sentinel.try_command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await.ok()?;
    let Reply::Array(named) = named else { return None };
    let mut words = named.into_iter().map(Reply::text);
    format!("{}:{}", words.next()?, words.next()?).parse().ok()
}
