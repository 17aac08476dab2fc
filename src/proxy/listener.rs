//! Accepts connections, and ends them in an orderly way.

mod entrance;
mod opening;
mod proxy_protocol;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::{HttpServerApp, ServerApp};
use pingora::proxy::HttpProxy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

pub use self::entrance::{Entrance, Entrances};

use self::opening::{Opened, open};
use super::Edge;
use super::activity::Activity;
use super::h2::Resets;
use super::link::{Link, Protocol};
use super::wire::{Connection, Wire};

/// How long to wait when the process is out of file descriptors.
const OUT_OF_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(50);

/// The public listeners of a running gateway.
pub struct Listeners {
    proxy: Arc<HttpProxy<Edge>>,
    stop: watch::Sender<bool>,
    /// Every connection holds a sender: the channel closes with the last of them.
    all_closed: mpsc::Receiver<()>,
}

/// What every connection task needs.
#[derive(Clone)]
struct Shared {
    proxy: Arc<HttpProxy<Edge>>,
    stop: watch::Receiver<bool>,
    is_open: mpsc::Sender<()>,
}

impl Listeners {
    /// Starts accepting on all of them, in the current runtime; `entrances` are in the same order.
    pub fn start(
        proxy: HttpProxy<Edge>,
        listeners: Vec<TcpListener>,
        entrances: &Arc<Entrances>,
    ) -> Listeners {
        let proxy = Arc::new(proxy);
        let (stop, stopped) = watch::channel(false);
        let (is_open, all_closed) = mpsc::channel(1);
        let shared = Shared { proxy: Arc::clone(&proxy), stop: stopped, is_open };
        for (index, listener) in listeners.into_iter().enumerate() {
            tokio::spawn(accept_all(listener, Arc::clone(entrances), index, shared.clone()));
        }
        Listeners { proxy, stop, all_closed }
    }

    /// Stops accepting, closes idle connections, and lets requests in flight finish for at
    /// most `drain`. Whether all of them did.
    pub async fn stop(mut self, drain: Duration) -> bool {
        // Without receivers nothing is left to stop.
        let _ = self.stop.send(true);
        self.proxy.http_cleanup().await;
        tokio::time::timeout(drain, self.all_closed.recv()).await.is_ok()
    }
}

async fn accept_all(listener: TcpListener, entrances: Arc<Entrances>, index: usize, shared: Shared) {
    let mut stop = shared.stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                if let Some(entrance) = entrances.now(index) {
                    tokio::spawn(serve(tcp, peer, entrance, shared.clone()));
                }
            }
            Err(error) if is_about_one_connection(&error) => {
                tracing::debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections right now");
                tokio::time::sleep(OUT_OF_DESCRIPTORS_PAUSE).await;
            }
        }
    }
}

/// Serves one connection, until it ends or has been unused for too long.
async fn serve(tcp: TcpStream, peer: SocketAddr, entrance: Arc<Entrance>, shared: Shared) {
    let Shared { proxy, mut stop, is_open } = shared;
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "a client left as it was accepted");
        return;
    }
    let opened = tokio::select! {
        biased;
        opened = open(tcp, peer, &entrance) => opened,
        _ = stop.wait_for(|stopped| *stopped) => return,
    };
    let Opened { mut link, peer, client_cert } = match opened {
        Ok(opened) => opened,
        Err(fault) => {
            tracing::debug!(%peer, %fault, "a connection was refused");
            return;
        }
    };
    let (activity, resets) = (Activity::default(), Resets::default());
    let connection = Arc::new(Connection { entrance, client_cert, activity, resets });
    let served = Arc::clone(&connection);
    // A task of their own: else every step of a request would look at the timer too.
    let mut requests = tokio::spawn(async move {
        // Held until the last answer was written, so that a drain waits for it.
        let _is_open = is_open;
        let Some(protocol) = protocol_of(&mut link, &served, &mut stop).await else { return };
        if protocol == Protocol::Http2 {
            // Pingora ends it when it has no request; until then it counts as used.
            served.activity.begin();
        }
        let wire = Wire::new(link, protocol, peer, served);
        let mut stream = proxy.process_new(Box::new(wire), &stop).await;
        while let Some(reused) = stream {
            stream = proxy.process_new(reused, &stop).await;
        }
    });
    tokio::select! {
        biased;
        _ = &mut requests => {}
        () = connection.activity.unused() => requests.abort(),
        () = connection.resets.too_many() => {
            tracing::debug!("a client took back too many requests");
            requests.abort();
        }
    }
}

/// What the client speaks; nothing if it left, or we leave, before that is known.
async fn protocol_of(
    link: &mut Link,
    connection: &Connection,
    stop: &mut watch::Receiver<bool>,
) -> Option<Protocol> {
    if !connection.entrance.speaks_http2() {
        return Some(Protocol::Http1);
    }
    let told = tokio::select! {
        biased;
        told = link.protocol() => told,
        _ = stop.wait_for(|stopped| *stopped) => return None,
    };
    match told {
        Ok(protocol) => Some(protocol),
        Err(error) => {
            tracing::debug!(%error, "a client left before it asked for anything");
            None
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
