//! The bytes of one client connection, whatever carries them: a socket, or TLS on one.
//!
//! Something is read before Pingora reads: a PROXY header, or what tells HTTP/2 from HTTP/1.1. What was read
//! too much of is handed out again before the socket is asked for more.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket of which something may have been read already.
pub(super) struct Socket {
    tcp: TcpStream,
    early: SmallVec<[u8; 64]>,
}

/// A connection as HTTP sees it.
pub(super) enum Link {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Socket {
        Socket { tcp, early: SmallVec::new() }
    }

    /// What was read and is not taken yet.
    pub(super) fn early(&self) -> &[u8] {
        &self.early
    }

    /// Reads until at least one byte more was read early, and no more than so many in all. Whether the peer goes on.
    pub(super) async fn read_early(&mut self, bytes_max: usize) -> io::Result<bool> {
        let before = self.early.len();
        self.early.resize(bytes_max.max(before), 0);
        let read = self.tcp.read(&mut self.early[before..]).await;
        self.early.truncate(before + *read.as_ref().unwrap_or(&0));
        read.map(|count| count > 0)
    }

    /// Takes so many bytes off what was read early.
    pub(super) fn take_early(&mut self, count: usize) {
        self.early.drain(..count.min(self.early.len()));
    }

    /// Tells HTTP/2 by prior knowledge from HTTP/1.1, as soon as one byte differs.
    async fn sniff(&mut self) -> io::Result<Protocol> {
        loop {
            if self.early.starts_with(PREFACE) {
                return Ok(Protocol::Http2);
            }
            if !PREFACE.starts_with(&self.early) || !self.read_early(PREFACE.len()).await? {
                return Ok(Protocol::Http1);
            }
        }
    }
}

impl Link {
    /// What the client speaks. On TLS that was agreed on; without it, a client of HTTP/2 begins with its preface.
    ///
    /// # Errors
    /// What reading from the socket gives. Waits for as long as the client says nothing.
    pub(super) async fn protocol(&mut self) -> io::Result<Protocol> {
        match self {
            Link::Plain(socket) => socket.sniff().await,
            Link::Tls(stream) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Ok(Protocol::Http2),
                Some(_) | None => Ok(Protocol::Http1),
            },
        }
    }
}

impl Link {
    fn tcp(&self) -> &TcpStream {
        match self {
            Link::Plain(socket) => &socket.tcp,
            Link::Tls(stream) => &stream.get_ref().0.tcp,
        }
    }

    /// Tells the other side at once that what it sent is here. Many hold a second small piece back until they know
    /// (RFC 9293 §3.7.4), and a receiver that has nothing to say takes 40 ms to tell.
    pub(super) fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::net::sockopt::set_tcp_quickack(self.tcp(), true) {
            tracing::debug!(%error, "a client left before the rest of its request");
        }
    }

    /// Ready once the other side sends no more.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let tcp = self.tcp();
        // Without a call to the kernel: it is told with what else there is to know of the socket.
        ready!(tcp.poll_read_ready(cx)).map_or(Poll::Ready(()), |()| {
            match tcp.ready(Interest::READABLE).now_or_never() {
                Some(Ok(ready)) if !ready.is_read_closed() => Poll::Pending,
                Some(Ok(_) | Err(_)) => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp().as_raw_fd()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let count = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..count]);
        self.early.drain(..count);
        if buf.remaining() > 0 {
            // The rest may be there already: one read in place of two.
            match Pin::new(&mut self.tcp).poll_read(cx, buf) {
                // What ends the connection is met again, when there is nothing else to hand out.
                Poll::Ready(Ok(()) | Err(_)) | Poll::Pending => {}
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Link::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, buf)) {
                // Many clients leave without a word: where a message ends, HTTP says itself.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Link::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Link::Plain(socket) => socket.is_write_vectored(),
            Link::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
