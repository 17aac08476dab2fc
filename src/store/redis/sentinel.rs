//! Finding the master that Sentinels name.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::Value;
use tokio::time::timeout;

use super::super::remote::StoreError;
use super::error::plain;
use super::url::RedisUrl;
use super::wire::{Patience, Trouble, Wire};

/// For one Sentinel, connecting included: the next may be alive.
const ASK_TIMEOUT: Duration = Duration::from_millis(300);

/// Those who know which server is the master.
#[derive(Debug)]
pub(super) struct Sentinels {
    master: Box<str>,
    sentinels: Vec<RedisUrl>,
    /// How to log in to the master, whose place it is not.
    node: RedisUrl,
    patience: Patience,
    /// The one that led to a master last time is asked first.
    first: AtomicUsize,
}

impl Sentinels {
    pub(super) fn new(
        master: &str,
        sentinels: Vec<RedisUrl>,
        node: Option<RedisUrl>,
        patience: Patience,
    ) -> Sentinels {
        let node = node.unwrap_or_else(|| RedisUrl::plain("", 0));
        Sentinels { master: master.into(), sentinels, node, patience, first: AtomicUsize::new(0) }
    }

    /// A connection to a server that says of itself that it is the master.
    pub(super) async fn open_master(&self) -> Result<Wire, StoreError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut outcome = Err(StoreError::Disconnected("there is no Sentinel to ask".into()));
        for turn in 0..self.sentinels.len() {
            let place = (first + turn) % self.sentinels.len();
            let Some(sentinel) = self.sentinels.get(place) else { break };
            outcome = self.open_by(sentinel).await;
            if outcome.is_ok() {
                self.first.store(place, Ordering::Relaxed);
                break;
            }
        }
        outcome
    }

    async fn open_by(&self, sentinel: &RedisUrl) -> Result<Wire, StoreError> {
        let answered = timeout(ASK_TIMEOUT, self.ask(sentinel)).await;
        let (host, port) = answered.unwrap_or(Err(StoreError::Timeout))?;
        let wire = Wire::open(&self.node.at(&host, port), self.patience).await?;
        // A Sentinel that was cut off names the old one.
        match timeout(ASK_TIMEOUT, wire.ask(&redis::cmd("ROLE"))).await {
            Ok(Ok(role)) if names_a_replica(&role) => Err(StoreError::ReadOnly),
            // Who may not ask finds out at the first write.
            Ok(Ok(_) | Err(Trouble::Said(_))) => Ok(wire),
            Ok(Err(Trouble::Failed(error))) => Err(error),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    async fn ask(&self, sentinel: &RedisUrl) -> Result<(String, u16), StoreError> {
        let wire = Wire::open(sentinel, Patience { open: ASK_TIMEOUT, ..self.patience }).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&*self.master);
        let place = sentinel.host_and_port();
        match wire.ask(&question).await? {
            Value::Nil => {
                let told = format!("the Sentinel {place} knows no master {}", self.master);
                Err(StoreError::Refused(plain(&told)))
            }
            answer => read_address(&answer)
                .ok_or_else(|| StoreError::Garbage(plain(&format!("the Sentinel {place} names no address")))),
        }
    }
}

fn names_a_replica(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    matches!(parts.first(), Some(Value::BulkString(name)) if name != b"master")
}

fn read_address(answer: &Value) -> Option<(String, u16)> {
    let Value::Array(parts) = answer else { return None };
    let [Value::BulkString(host), Value::BulkString(port)] = parts.as_slice() else { return None };
    let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty() && host.len() <= 253)?;
    let port = std::str::from_utf8(port).ok()?.parse().ok().filter(|port| *port != 0)?;
    Some((host.to_owned(), port))
}
