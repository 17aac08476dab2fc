//! One client connection as Pingora sees it: a link that gathers its writes.
//!
//! Header and body of an answer leave in one write if together they fit the buffer, as every
//! refusal does. The peer's address is known from `accept`, so nobody asks the kernel again.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter, ReadBuf};

use super::activity::{Activity, Underway};
use super::context::Judged;
use super::gate::Gate;
use super::h2::Pipe;
use super::link::Link;
use super::listener::Entrance;
use super::own::Said;

/// What is gathered before it is written, bytes.
const WRITE_BUFFER: usize = 4096;

pub(super) struct Wire {
    tcp: BufWriter<Link>,
    digest: Arc<SocketDigest>,
    peer: IpAddr,
    guard: Guard,
    connection: Arc<Connection>,
    /// What we said that no write held yet.
    said: Mutex<Option<Said>>,
    leaving: Leaving,
    /// What was found out about the request that is read next.
    judged: Mutex<Option<Box<Judged>>>,
}

/// What the bytes of a connection go through.
pub(super) enum Guard {
    Http1(Box<Gate>),
    Http2(Pipe),
}

/// What is to be written before anything else.
#[derive(Default)]
struct Leaving {
    bytes: Vec<u8>,
    written: usize,
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

impl Guard {
    fn poll_read(
        &mut self,
        tcp: &mut BufWriter<Link>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Guard::Http1(gate) => gate.poll_read(tcp, cx, buf),
            Guard::Http2(pipe) => pipe.poll_read(tcp, cx, buf),
        }
    }

    fn poll_write(
        &mut self,
        tcp: &mut BufWriter<Link>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Guard::Http1(gate) => gate.poll_write(tcp, cx, bytes),
            Guard::Http2(pipe) => pipe.poll_write(tcp, cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        tcp: &mut BufWriter<Link>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Guard::Http1(gate) => gate.poll_write_vectored(tcp, cx, slices),
            Guard::Http2(pipe) => pipe.poll_write_vectored(tcp, cx, slices),
        }
    }

    fn poll_flush(&mut self, tcp: &mut BufWriter<Link>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Guard::Http1(gate) => gate.poll_flush(tcp, cx),
            Guard::Http2(pipe) => pipe.poll_flush(tcp, cx),
        }
    }

    fn poll_shutdown(&mut self, tcp: &mut BufWriter<Link>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Guard::Http1(_) => Pin::new(tcp).poll_shutdown(cx),
            Guard::Http2(pipe) => pipe.poll_shutdown(tcp, cx),
        }
    }
}

impl Wire {
    pub(super) fn new(link: Link, guard: Guard, peer: SocketAddr, connection: Arc<Connection>) -> Wire {
        let digest = SocketDigest::from_raw_fd(link.as_raw_fd());
        // A new digest holds no address yet, so this cannot fail.
        let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(peer)));
        let tcp = BufWriter::with_capacity(WRITE_BUFFER, link);
        let (said, leaving, judged) = (Mutex::default(), Leaving::default(), Mutex::default());
        Wire { tcp, digest: Arc::new(digest), peer: peer.ip(), guard, connection, said, leaving, judged }
    }

    /// Writes what was said and is to leave first.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(said) = self.said.get_mut().take_if(|said| matches!(said, Said::Answer(_)))
            && let Said::Answer(answer) = said
        {
            self.leaving = Leaving { bytes: answer, written: 0 };
        }
        let Leaving { bytes, written } = &mut self.leaving;
        while let Some(rest @ [_, ..]) = bytes.get(*written..) {
            match ready!(self.guard.poll_write(&mut self.tcp, cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        if *written > 0 {
            self.leaving = Leaving::default();
        }
        Poll::Ready(Ok(()))
    }

    /// The next request, if it comes whole and at once and before anything of it was read; it is to be answered, or put
    /// back. None: whoever reads next finds what is there.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Vec<u8>>>> {
        match &mut self.guard {
            Guard::Http1(gate) => {
                let knew = gate.awaits_body();
                let polled = gate.poll_request(&mut self.tcp, cx);
                if !knew && gate.awaits_body() {
                    self.tcp.get_ref().acknowledge();
                }
                polled
            }
            Guard::Http2(_) => Poll::Ready(Ok(None)),
        }
    }

    /// Leaves to whoever reads next what came of a request that is not whole. Whether there is any.
    pub(super) fn give_back(&mut self) -> bool {
        match &mut self.guard {
            Guard::Http1(gate) => {
                let has_begun = gate.is_gathering();
                gate.give_back(&[]);
                has_begun
            }
            Guard::Http2(_) => false,
        }
    }

    /// Leaves a request to whoever reads next.
    pub(super) fn put_back(&mut self, request: Vec<u8>) {
        match &mut self.guard {
            Guard::Http1(gate) => gate.put_back(request),
            Guard::Http2(_) => {}
        }
    }

    /// Leaves a request to Pingora that was decided already.
    pub(super) fn hand_over(&mut self, request: Vec<u8>, judged: Judged) {
        *self.judged.get_mut() = Some(Box::new(judged));
        self.put_back(request);
    }

    /// Ready once the client has stopped sending for good: nobody waits for an answer any more. It may be missed where
    /// more has come than was asked for.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tcp.get_ref().poll_gone(cx)
    }

    /// Has a request under way for as long as what this gives is kept.
    pub(super) fn underway(&self) -> Option<Underway> {
        match &self.guard {
            Guard::Http1(gate) => Some(gate.activity().begin()),
            Guard::Http2(_) => None,
        }
    }

    /// Says so much to the client, and sees to it that it leaves.
    pub(super) async fn send(&mut self, text: &[u8]) -> io::Result<()> {
        self.write_all(text).await?;
        self.flush().await
    }

    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Takes in a head of Pingora's that fields of ours belong to. Whether it did.
    fn join(&mut self, bytes: &[u8]) -> bool {
        let said = self.said.get_mut();
        let Some(joined) = said.as_ref().and_then(|said| said.joined_to(bytes)) else { return false };
        *said = None;
        self.leaving = Leaving { bytes: joined, written: 0 };
        true
    }
}

fn wire_of(session: &Session) -> Option<&Wire> {
    session.as_downstream().stream()?.as_any().downcast_ref::<Wire>()
}

/// Whether a request came by HTTP/1: then it has its connection for itself.
pub(super) fn speaks_http1(session: &Session) -> bool {
    wire_of(session).is_some()
}

/// Says something on the connection of a request of HTTP/1, in place of what was said and not written yet.
pub(super) fn say(session: &Session, said: Said) {
    if let Some(wire) = wire_of(session) {
        *wire.said.lock() = Some(said);
    }
}

/// What was found out about a request before Pingora read it.
pub(super) fn judged(session: &Session) -> Option<Box<Judged>> {
    wire_of(session)?.judged.lock().take()
}

/// The connection that a request came by.
pub(super) fn connection_of(session: &Session) -> Option<&Connection> {
    match wire_of(session) {
        Some(wire) => Some(&wire.connection),
        // A request of HTTP/2 has a stream of the connection, and of the connection nothing but this.
        None => {
            let told = session.as_downstream().digest()?.proxy_digest.as_ref()?.user_data.as_ref()?;
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
    match &wire_of(session)?.guard {
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
        wire.guard.poll_read(&mut wire.tcp, cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let wire = self.get_mut();
        ready!(wire.poll_leave(cx))?;
        if !wire.join(buf) {
            return wire.guard.poll_write(&mut wire.tcp, cx, buf);
        }
        // It is ours now; what does not fit leaves before what is written next.
        match wire.poll_leave(cx) {
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let wire = self.get_mut();
        ready!(wire.poll_leave(cx))?;
        wire.guard.poll_flush(&mut wire.tcp, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        let Wire { guard, tcp, .. } = &mut *self;
        guard.poll_shutdown(tcp, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        if self.said.get_mut().is_some() {
            return self.poll_write(cx, first);
        }
        let wire = self.get_mut();
        ready!(wire.poll_leave(cx))?;
        wire.guard.poll_write_vectored(&mut wire.tcp, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        let left = poll_fn(|cx| self.poll_leave(cx)).await;
        let ended = match left {
            Ok(()) => {
                let Wire { guard, tcp, .. } = self;
                match guard {
                    Guard::Http1(gate) => gate.end(tcp).await,
                    Guard::Http2(pipe) => poll_fn(|cx| pipe.poll_shutdown(tcp, cx)).await,
                }
            }
            Err(error) => Err(error),
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
