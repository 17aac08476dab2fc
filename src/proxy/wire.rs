//! One client connection as Pingora sees it: a link that gathers its writes.
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
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter, ReadBuf};

use super::activity::Activity;
use super::gate::Gate;
use super::h2::Pipe;
use super::link::Link;
use super::listener::Entrance;

/// What is gathered before it is written, bytes.
const WRITE_BUFFER: usize = 4096;

pub(super) struct Wire {
    tcp: BufWriter<Link>,
    digest: Arc<SocketDigest>,
    guard: Guard,
    connection: Arc<Connection>,
}

/// What the bytes of a connection go through.
pub(super) enum Guard {
    Http1(Gate),
    Http2(Pipe),
}

/// What is known of a connection as long as it lasts.
#[derive(Debug)]
pub(super) struct Connection {
    /// The way that it came in by.
    pub(super) entrance: Arc<Entrance>,
    /// Whom the client's certificate names, which was verified.
    pub(super) client_cert: Option<Arc<str>>,
}

impl Connection {
    pub(super) fn new(entrance: Arc<Entrance>, client_cert: Option<Arc<str>>) -> Connection {
        Connection { entrance, client_cert }
    }
}

impl Wire {
    pub(super) fn new(link: Link, guard: Guard, peer: SocketAddr, connection: Arc<Connection>) -> Wire {
        let digest = SocketDigest::from_raw_fd(link.as_raw_fd());
        // A new digest holds no address yet, so this cannot fail.
        let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(peer)));
        let tcp = BufWriter::with_capacity(WRITE_BUFFER, link);
        Wire { tcp, digest: Arc::new(digest), guard, connection }
    }
}

/// The connection that a request came by.
pub(super) fn connection_of(session: &Session) -> Option<&Connection> {
    let downstream = session.as_downstream();
    match downstream.stream() {
        Some(stream) => stream.as_any().downcast_ref::<Wire>().map(|wire| &*wire.connection),
        // A request of HTTP/2 has a stream of the connection, and of the connection nothing but this.
        None => {
            let told = downstream.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?;
            told.downcast_ref::<Arc<Connection>>().map(|connection| &**connection)
        }
    }
}

/// How the connection came in that a request came by.
pub(super) fn entrance_of(session: &Session) -> Option<&Entrance> {
    connection_of(session).map(|connection| &*connection.entrance)
}

/// The activity of the connection that a request came by. One of HTTP/2 shares it with others.
pub(super) fn activity_of(session: &Session) -> Option<&Arc<Activity>> {
    let wire = session.as_downstream().stream()?.as_any().downcast_ref::<Wire>()?;
    match &wire.guard {
        Guard::Http1(gate) => Some(gate.activity()),
        Guard::Http2(_) => None,
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let wire = self.get_mut();
        match &mut wire.guard {
            Guard::Http1(gate) => gate.poll_read(&mut wire.tcp, cx, buf),
            Guard::Http2(pipe) => pipe.poll_read(&mut wire.tcp, cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let wire = self.get_mut();
        match &mut wire.guard {
            Guard::Http1(gate) => gate.poll_write(&mut wire.tcp, cx, buf),
            Guard::Http2(pipe) => pipe.poll_write(&mut wire.tcp, cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let wire = self.get_mut();
        match &mut wire.guard {
            Guard::Http1(gate) => gate.poll_flush(&mut wire.tcp, cx),
            Guard::Http2(pipe) => pipe.poll_flush(&mut wire.tcp, cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let wire = self.get_mut();
        match &mut wire.guard {
            Guard::Http1(_) => Pin::new(&mut wire.tcp).poll_shutdown(cx),
            Guard::Http2(pipe) => pipe.poll_shutdown(&mut wire.tcp, cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let wire = self.get_mut();
        match &mut wire.guard {
            Guard::Http1(gate) => gate.poll_write_vectored(&mut wire.tcp, cx, bufs),
            Guard::Http2(pipe) => pipe.poll_write_vectored(&mut wire.tcp, cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        let ended = match &mut self.guard {
            Guard::Http1(gate) => gate.end(&mut self.tcp).await,
            Guard::Http2(_) => self.tcp.shutdown().await,
        };
        if let Err(error) = ended {
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
    /// The only thing that Pingora hands on to the requests of HTTP/2 and that we can put something into.
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        match &self.guard {
            Guard::Http1(_) => None,
            Guard::Http2(_) => {
                let unused = Box::new(ResponseHeader::from(http::Response::new(()).into_parts().0));
                Some(Arc::new(ProxyDigest::new(unused, Some(Box::new(Arc::clone(&self.connection))))))
            }
        }
    }
}

impl Ssl for Wire {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match &self.guard {
            Guard::Http1(_) => Some(ALPN::H1),
            Guard::Http2(_) => Some(ALPN::H2),
        }
    }
}

impl Peek for Wire {}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("fd", &self.tcp.get_ref().as_raw_fd()).finish()
    }
}
