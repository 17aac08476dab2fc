//! A stand-in for Upstash: its REST interface, with a real Redis behind it.
//!
//! Knows what the gateway relies on and no more: the bearer token, `POST /pipeline` and `POST /`, base64 for texts
//! where the client wants it, an error for each command, and the first line of a script that only Upstash knows.

mod desk;
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::wire::Wire;
use desk::Desk;

/// What the stand-in does about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Serve,
    /// Has the commands run, and answers so much later.
    ServeLate(Duration),
    /// Never answers and runs nothing, until it is told to behave otherwise.
    Hang,
    /// Runs nothing and answers this status.
    Fail(u16),
    /// Runs nothing and answers 200 with this body.
    Say(&'static str),
    /// Closes the connection without a byte.
    HangUp,
}

/// A server on its own port of 127.0.0.1; gone, with its connections, when dropped.
pub(crate) struct Upstash {
    address: SocketAddr,
    desk: Arc<Desk>,
    accepting: JoinHandle<()>,
}

impl Upstash {
    pub(crate) async fn start(redis: SocketAddr, token: &str) -> Upstash {
        Upstash::start_at((Ipv4Addr::LOCALHOST, 0).into(), redis, token).await
    }

    /// On a given address: one that was dropped comes back there.
    pub(crate) async fn start_at(address: SocketAddr, redis: SocketAddr, token: &str) -> Upstash {
        let listener = TcpListener::bind(address).await.expect("a port for the stand-in");
        let address = listener.local_addr().expect("the stand-in's address");
        let desk = Arc::new(Desk::new(redis, token));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&desk)));
        Upstash { address, desk, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds for every request that is not answered yet and those to come.
    pub(crate) fn behave(&self, manner: Manner) {
        self.desk.manner.send_replace(manner);
    }

    /// How many commands came with each request so far, whatever became of them.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.desk.batches.borrow().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.desk.batches.borrow().len()
    }

    pub(crate) fn commands(&self) -> usize {
        self.desk.batches.borrow().iter().sum()
    }

    /// Closes the port and all connections, and returns once the port is free.
    pub(crate) async fn stop(mut self) {
        self.accepting.abort();
        let _aborted = (&mut self.accepting).await;
    }
}

impl Drop for Upstash {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    // Owned here, so that the connections end with the task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let desk = Arc::clone(&desk);
        connections.spawn(async move { desk.converse(Wire::new(stream)).await });
    }
}
