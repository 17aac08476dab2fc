//! Connections of the admin listener, within bounds that no client can wear down: so many at a
//! time, so long for a request head, so long for an answer to be taken.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

/// A request head larger than this is refused, bytes.
const HEAD_MAX: usize = 16 * 1024;
/// How long to wait when no connection can be accepted, for want of file descriptors above all.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Who is at the other end of the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Past this many connections the next ones wait to be accepted.
    pub(super) connections: usize,
    /// For the whole head of a request; also how long a connection may idle.
    pub(super) head: Duration,
    /// For how long a client may take nothing of its answer.
    pub(super) stall: Duration,
    /// For requests in flight when the end has come.
    pub(super) drain: Duration,
}

impl Bounds {
    pub(super) const DEFAULT: Bounds = Bounds {
        connections: 256,
        head: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        drain: Duration::from_secs(5),
    };
}

pub(super) async fn serve(
    router: Router,
    bounds: Bounds,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    let (end, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < bounds.connections => match accepted {
                Ok((stream, peer)) => {
                    let router = router.clone().layer(Extension(Peer(peer.ip().to_canonical())));
                    connections.spawn(connection(stream, router, bounds, ended.clone()));
                }
                Err(_) => sleep(ACCEPT_RETRY).await,
            },
        }
    }
    drop(listener);
    drop(end);
    // Those still there after that are cut off with the set.
    let _ = timeout(bounds.drain, async { while connections.join_next().await.is_some() {} }).await;
}

/// Serves one connection until it ends, or until the request in flight is answered once `ended`
/// has lost its sender.
async fn connection(stream: TcpStream, router: Router, bounds: Bounds, mut ended: watch::Receiver<()>) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(HEAD_MAX);
    let io = TokioIo::new(StallGuard::new(stream, bounds.stall));
    let mut serving = pin!(builder.serve_connection(io, TowerToHyperService::new(router)));
    tokio::select! {
        // A client that went away is no news.
        _ = serving.as_mut() => return,
        _ = ended.changed() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// A stream whose writes fail once the peer has taken nothing for too long.
struct StallGuard {
    stream: TcpStream,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl StallGuard {
    fn new(stream: TcpStream, patience: Duration) -> StallGuard {
        StallGuard { stream, patience, stalled: None }
    }

    fn guard<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.guard(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.guard(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.guard(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.guard(cx, shut)
    }
}
