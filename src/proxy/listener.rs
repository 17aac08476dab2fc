//! Accepts connections, and ends them in an orderly way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::{HttpServerApp, ServerApp};
use pingora::proxy::HttpProxy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::Edge;
use super::activity::Activity;
use super::wire::Wire;

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
    /// Starts accepting on all of them, in the current runtime.
    pub fn start(proxy: HttpProxy<Edge>, listeners: Vec<TcpListener>) -> Listeners {
        let proxy = Arc::new(proxy);
        let (stop, stopped) = watch::channel(false);
        let (is_open, all_closed) = mpsc::channel(1);
        let shared = Shared { proxy: Arc::clone(&proxy), stop: stopped, is_open };
        for listener in listeners {
            tokio::spawn(accept_all(listener, shared.clone()));
        }
        Listeners { proxy, stop, all_closed }
    }

    /// Stops accepting; from here on each answer is the last on its connection. Those without a request are closed
    /// once `linger` is over: who has just been answered may be about to ask again.
    pub async fn close(&mut self, linger: Duration) {
        // Without receivers nothing is left to stop.
        let _ = self.stop.send(true);
        // Late or not, the others are closed now.
        let _ = tokio::time::timeout(linger, self.all_closed.recv()).await;
        self.proxy.http_cleanup().await;
    }

    /// Lets requests in flight finish for at most `drain`; whether all of them did.
    pub async fn finish(&mut self, drain: Duration) -> bool {
        tokio::time::timeout(drain, self.all_closed.recv()).await.is_ok()
    }
}

async fn accept_all(listener: TcpListener, shared: Shared) {
    let mut stop = shared.stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                tokio::spawn(serve(tcp, peer, shared.clone()));
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
async fn serve(tcp: TcpStream, peer: SocketAddr, shared: Shared) {
    let Shared { proxy, stop, is_open } = shared;
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "a client left as it was accepted");
        return;
    }
    let activity = Arc::new(Activity::default());
    let wire = Wire::new(tcp, peer, Arc::clone(&activity));
    // A task of their own: else every step of a request would look at the timer too.
    let mut requests = tokio::spawn(async move {
        // Held until the last answer was written, so that a drain waits for it.
        let _is_open = is_open;
        let mut stream = proxy.process_new(Box::new(wire), &stop).await;
        while let Some(reused) = stream {
            stream = proxy.process_new(reused, &stop).await;
        }
    });
    tokio::select! {
        biased;
        _ = &mut requests => {}
        () = activity.unused() => requests.abort(),
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
