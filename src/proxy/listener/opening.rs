//! What happens on a connection before HTTP does: a proxy says whom it speaks for, TLS is agreed on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::entrance::Entrance;
use super::proxy_protocol::{self, HEADER_MAX, HeaderFault, Said};
use crate::proxy::caps::Full;
use crate::proxy::link::{Link, Socket};
use crate::tls;

/// A connection on which HTTP may begin.
pub(super) struct Opened {
    pub(super) link: Link,
    /// Who is at the other end, or whom that one speaks for.
    pub(super) peer: SocketAddr,
    /// Whom the client's certificate names.
    pub(super) client_cert: Option<Arc<str>>,
}

/// Why HTTP never began.
#[derive(Debug, Error)]
pub(super) enum OpeningFault {
    #[error(transparent)]
    Header(#[from] HeaderFault),
    #[error("TLS could not be agreed on: {0}")]
    Tls(io::Error),
    #[error("it took too long")]
    TooSlow,
    #[error("the client left: {0}")]
    Gone(#[from] io::Error),
    #[error("{0} has its connections already")]
    TooMany(IpAddr, Full),
}

impl OpeningFault {
    /// All labels, for who counts them.
    pub(super) const LABELS: [&str; 4] = ["proxy_header", "tls", "opening_too_slow", "gone"];

    /// A label for metrics; none where nothing is wrong with the connection, but that it is one too many.
    pub(super) fn label(&self) -> Option<&'static str> {
        let [header, tls, slow, gone] = OpeningFault::LABELS;
        match self {
            OpeningFault::Header(_) => Some(header),
            OpeningFault::Tls(_) => Some(tls),
            OpeningFault::TooSlow => Some(slow),
            OpeningFault::Gone(_) => Some(gone),
            OpeningFault::TooMany(..) => None,
        }
    }
}

/// Does what the entrance demands, in the time that a head has. `count` hears whom a proxy speaks for before TLS is
/// agreed on: a client that has its connections already costs no handshake.
pub(super) async fn open(
    tcp: TcpStream,
    peer: SocketAddr,
    entrance: &Entrance,
    count: impl FnOnce(IpAddr) -> Result<(), Full>,
) -> Result<Opened, OpeningFault> {
    let socket = Socket::new(tcp);
    if entrance.tls.is_none() && !entrance.believes(peer) {
        return Ok(Opened { link: Link::Plain(socket), peer, client_cert: None });
    }
    let deadline = Duration::from_millis(entrance.limits.header_timeout.as_millis());
    match tokio::time::timeout(deadline, agree(socket, peer, entrance, count)).await {
        Ok(opened) => opened,
        Err(_) => Err(OpeningFault::TooSlow),
    }
}

async fn agree(
    mut socket: Socket,
    mut peer: SocketAddr,
    entrance: &Entrance,
    count: impl FnOnce(IpAddr) -> Result<(), Full>,
) -> Result<Opened, OpeningFault> {
    if entrance.believes(peer) {
        peer = read_header(&mut socket).await?.unwrap_or(peer);
        count(peer.ip()).map_err(|full| OpeningFault::TooMany(peer.ip(), full))?;
    }
    let Some(tls) = &entrance.tls else {
        return Ok(Opened { link: Link::Plain(socket), peer, client_cert: None });
    };
    let stream = TlsAcceptor::from(tls.config()).accept(socket).await.map_err(OpeningFault::Tls)?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let client_cert = shown.and_then(tls::subject).map(Arc::from);
    Ok(Opened { link: Link::Tls(Box::new(stream)), peer, client_cert })
}

/// Takes the PROXY header off; the client that it names, if any.
async fn read_header(socket: &mut Socket) -> Result<Option<SocketAddr>, OpeningFault> {
    loop {
        match proxy_protocol::parse(socket.early())? {
            Said::Header { client, length } => {
                socket.take_early(length);
                return Ok(client);
            }
            Said::More => {
                if !socket.read_early(HEADER_MAX).await? {
                    return Err(OpeningFault::Gone(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::decision::ipset::IpSet;
    use crate::decision::listener::{ClientLimits, Http2Limits};
    use crate::decision::time::Span;

    const LIMITS: ClientLimits = ClientLimits {
        connections: 1,
        connections_per_ip: 1,
        header_timeout: Span::from_secs(10),
        idle_timeout: Span::from_secs(60),
        body_rate: 250,
        header_fields: 100,
        header_bytes: 32_768,
        uri_bytes: 8192,
    };

    fn entrance(speakers: &[&str]) -> Entrance {
        let speakers: IpSet = speakers.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap()).collect();
        let http2 = Http2Limits {
            concurrent_streams: 1,
            stream_window: 1024,
            connection_window: 65_535,
            send_buffer: 16_384,
            unseen_resets: 1,
            error_resets: 1,
            resets: 1,
            control_frames: 10,
        };
        Entrance { tls: None, h2c: true, speakers, redirect_port: None, hsts: None, limits: LIMITS, http2 }
    }

    async fn pair() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        (client, server, peer)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_come_to_the_point_is_not_waited_for() {
        let (mut client, server, peer) = pair().await;
        client.write_all(b"PROXY TCP4 203.0.113.9 ").await.unwrap();
        let fault = open(server, peer, &entrance(&["127.0.0.0/8"]), |_| Ok(())).await.err().unwrap();
        assert!(matches!(fault, OpeningFault::TooSlow), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_demanded_nothing_is_waited_for() {
        let (_client, server, peer) = pair().await;
        let opened = open(server, peer, &entrance(&["10.0.0.0/8"]), |_| Ok(())).await.unwrap();
        assert_eq!(opened.peer, peer);
    }

    #[tokio::test]
    async fn a_peer_that_leaves_amid_its_header_is_no_client() {
        let (mut client, server, peer) = pair().await;
        client.write_all(b"PROXY TCP4 203.0.113.9 ").await.unwrap();
        drop(client);
        let fault = open(server, peer, &entrance(&["127.0.0.0/8"]), |_| Ok(())).await.err().unwrap();
        assert!(matches!(fault, OpeningFault::Gone(_)), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn whom_a_proxy_speaks_for_is_counted_before_anything_else_is_waited_for() {
        for (header, client) in
            [("PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n", "203.0.113.9"), ("PROXY UNKNOWN\r\n", "127.0.0.1")]
        {
            let (mut client_side, server, peer) = pair().await;
            client_side.write_all(header.as_bytes()).await.unwrap();
            let mut counted = None;
            let count = |ip: IpAddr| {
                counted = Some(ip);
                Err(Full::Address)
            };
            let fault = open(server, peer, &entrance(&["127.0.0.0/8"]), count).await.err().unwrap();
            assert!(
                matches!(fault, OpeningFault::TooMany(ip, Full::Address) if ip.to_string() == client),
                "{fault}"
            );
            assert_eq!((counted.map(|ip| ip.to_string()).as_deref(), fault.label()), (Some(client), None));
        }
    }
}
