//! One client connection as Pingora sees it: a TCP stream that gathers its writes.
//!
//! Header and body of an answer leave in one write if together they fit the buffer, as every
//! refusal does. The peer's address is known from `accept`, so nobody asks the kernel again.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;
use super::gate::Gate;

/// What is gathered before it is written, bytes.
const WRITE_BUFFER: usize = 4096;

pub(super) struct Wire {
    tcp: BufWriter<TcpStream>,
    digest: Arc<SocketDigest>,
    gate: Gate,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream, peer: SocketAddr, gate: Gate) -> Wire {
        let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        // A new digest holds no address yet, so this cannot fail.
        let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(peer)));
        Wire { tcp: BufWriter::with_capacity(WRITE_BUFFER, tcp), digest: Arc::new(digest), gate }
    }
}

/// The activity of the connection that a request came by.
pub(super) fn activity_of(session: &Session) -> Option<&Arc<Activity>> {
    let wire = session.as_downstream().stream()?.as_any().downcast_ref::<Wire>()?;
    Some(wire.gate.activity())
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let wire = self.get_mut();
        wire.gate.poll_read(&mut wire.tcp, cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let wire = self.get_mut();
        wire.gate.poll_write(&mut wire.tcp, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let wire = self.get_mut();
        wire.gate.poll_flush(&mut wire.tcp, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let wire = self.get_mut();
        wire.gate.poll_write_vectored(&mut wire.tcp, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        if let Err(error) = self.gate.end(&mut self.tcp).await {
            tracing::debug!(%error, "the client was gone before the connection was shut down");
        }
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.tcp.get_ref().as_raw_fd()
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl Ssl for Wire {}

impl Peek for Wire {}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("fd", &self.tcp.get_ref().as_raw_fd()).finish()
    }
}
