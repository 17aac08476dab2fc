//! The connection for a request that asks for another protocol, as WebSocket does.
//!
//! Pingora 0.9.1 ends such an exchange right after the backend's 101 if it reads that before it has noted that the request
//! has no body (cloudflare/pingora#946): it takes the end of the request for the end of what follows. A backend
//! on the same machine is that quick whenever the machine is busy. So nothing is read from the connection in the same
//! step that wrote to it: by the next one, what was to be noted is noted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::dial::dial;

/// Sets these connections apart from all others to the same server.
const APART: u64 = 0x75_70_67_72_61_64_65;
/// Where the backend stays with HTTP nothing else is asked on the connection.
const KEPT_FOR: Duration = Duration::from_millis(1);

/// Has a request that asks for another protocol sent on a connection of its own.
pub(in crate::proxy) fn carry(peer: &mut HttpPeer) {
    peer.options.custom_l4 = Some(Arc::new(Connector));
    peer.options.idle_timeout = Some(KEPT_FOR);
    peer.group_key ^= APART;
}

#[derive(Debug)]
struct Connector;

#[async_trait]
impl L4Connect for Connector {
    /// `total_connection_timeout` of the peer bounds it.
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let Some(address) = address.as_inet().copied() else {
            return Err(Error::explain(ErrorType::InternalError, "a server without an address"));
        };
        let tcp = dial(address).await?;
        Ok(Stream::from(VirtualSocketStream::new(Box::new(Stepwise { tcp, has_written: false }))))
    }
}

/// A connection that is not read from in the step in which it was written to.
#[derive(Debug)]
struct Stepwise {
    tcp: TcpStream,
    has_written: bool,
}

impl VirtualSocket for Stepwise {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.tcp.set_nodelay(true),
            VirtualSockOpt::KeepAlive(keepalive) => {
                set_tcp_keepalive(&self.tcp, &keepalive).map_err(io::Error::other)
            }
            // An open list of Pingora's; the others are asked of no connection to a server.
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for Stepwise {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_written) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stepwise {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_there_already_is_read_a_step_after_it_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut stepwise = Stepwise { tcp, has_written: false };
        for round in 0..3 {
            server.write_all(b"early").await.unwrap();
            stepwise.tcp.readable().await.unwrap();
            stepwise.write_all(b"asked").await.unwrap();
            let mut bytes = [0; 5];
            {
                let mut buf = ReadBuf::new(&mut bytes);
                let first = std::future::poll_fn(|cx| {
                    Poll::Ready(Pin::new(&mut stepwise).poll_read(cx, &mut buf).is_pending())
                });
                assert!(first.await, "{round}");
            }
            assert_eq!(stepwise.read_exact(&mut bytes).await.unwrap(), 5);
            assert_eq!(&bytes, b"early");
        }
    }
}
