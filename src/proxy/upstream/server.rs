//! One address of a server: how it is connected to, and what is known of its health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use pingora::{Error, ErrorType, OrErr as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::{Kept, dial};

use crate::decision::time::{Span, Timestamp};
use crate::decision::upstream::balance::{Candidate, fingerprint};
use crate::decision::upstream::health::{Health, Standing};
use crate::decision::upstream::{CheckSpec, EjectSpec, Protocol, ServerSpec, TlsSpec, UpstreamSpec};

/// Finds out that an unused connection is dead, and keeps it known to what lies between. Pingora's
/// own idle timeout would cost every request a timer.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// Requests at a time on one connection of HTTP/2. Servers say how many they take; few take more.
const H2_STREAMS: usize = 100;
/// How soon a connection of HTTP/2 is found dead, whose requests may wait for long.
const H2_PING_EVERY: Duration = Duration::from_secs(30);

/// One address of a server.
pub(in crate::proxy) struct Server {
    pub(super) address: SocketAddr,
    /// Which server of the file it belongs to.
    pub(super) entry: usize,
    id: u64,
    weight: u32,
    peer: HttpPeer,
    direct: Option<Direct>,
    /// Shared with the server that stands for it under another configuration.
    known: Arc<Known>,
}

/// A server that is spoken to in HTTP/1.1 and in clear: there is nothing to it that takes Pingora.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Direct {
    connect_timeout: Duration,
    pub(in crate::proxy) read_timeout: Duration,
    pub(in crate::proxy) write_timeout: Duration,
}

/// What is known of an address, whatever configuration asks it.
pub(super) struct Known {
    /// Unused connections in clear.
    kept: Kept,
    state: Mutex<State>,
    /// Whether an answer changes anything: most find nothing to change and take no lock.
    has_strikes: AtomicBool,
}

struct State {
    health: Health,
    /// What the log was told last.
    told: Standing,
    /// Why the last check failed, if it did.
    reason: Option<Box<str>>,
}

/// A server whose standing is another one than before.
pub(super) struct News {
    pub(super) standing: Standing,
    pub(super) reason: Option<Box<str>>,
}

impl Known {
    pub(super) fn nothing() -> Known {
        let state = State { health: Health::default(), told: Standing::Up, reason: None };
        Known { kept: Kept::default(), state: Mutex::new(state), has_strikes: AtomicBool::new(false) }
    }
}

impl Server {
    pub(super) fn new(
        address: SocketAddr,
        entry: usize,
        spec: &UpstreamSpec,
        server: &ServerSpec,
        authorities: Option<&Arc<CaType>>,
        known: Arc<Known>,
    ) -> Server {
        Server {
            address,
            entry,
            id: fingerprint(address.to_string().as_bytes()),
            weight: server.weight,
            peer: peer(address, spec, server.tls.as_ref(), authorities),
            direct: Direct::to(spec, server),
            known,
        }
    }

    /// How it is spoken to without Pingora, if it can be.
    pub(in crate::proxy) fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    /// A connection that was used before and is not used now.
    pub(in crate::proxy) fn kept(&self) -> Option<TcpStream> {
        self.known.kept.take()
    }

    /// Keeps a connection on which all was said and read.
    pub(in crate::proxy) fn keep(&self, tcp: TcpStream) {
        self.known.kept.put(tcp);
    }

    /// Closes connections that the server has closed.
    pub(super) fn tidy(&self) {
        self.known.kept.tidy();
    }

    /// A new connection in clear.
    ///
    /// # Errors
    /// As Pingora tells them, of upstreams.
    pub(in crate::proxy) async fn connect(&self, direct: &Direct) -> pingora::Result<TcpStream> {
        let Ok(dialed) = timeout(direct.connect_timeout, dial(self.address)).await else {
            let told = format!("no connection to the server {} in time", self.address);
            return Err(Error::explain(ErrorType::ConnectTimedout, told).into_up());
        };
        let tcp = dialed.map_err(|error| error.into_up())?;
        let set = tcp.set_nodelay(true).or_err(ErrorType::ConnectError, "the server left at once");
        set.and_then(|()| set_tcp_keepalive(&tcp, &KEEPALIVE)).map_err(|error| error.into_up())?;
        Ok(tcp)
    }

    pub(in crate::proxy) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is connected to.
    pub(in crate::proxy) fn peer(&self) -> Box<HttpPeer> {
        Box::new(self.peer.clone())
    }

    pub(super) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known)
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) fn candidate(&self, index: usize) -> Candidate {
        Candidate { index, id: self.id, weight: self.weight }
    }

    /// It answered a request.
    pub(in crate::proxy) fn answered(&self) {
        if self.known.has_strikes.load(Ordering::Relaxed) {
            let mut state = self.known.state.lock();
            state.health.answered();
            self.known.has_strikes.store(false, Ordering::Relaxed);
        }
    }

    /// It gave a request no answer; whether it is to be ejected if there are others.
    pub(super) fn struck(&self, rules: &EjectSpec, now: Timestamp) -> bool {
        let mut state = self.known.state.lock();
        let is_too_much = state.health.struck(rules, now);
        self.known.has_strikes.store(state.health.has_strikes(), Ordering::Relaxed);
        is_too_much
    }

    pub(super) fn eject(&self, rules: &EjectSpec, now: Timestamp) {
        let mut state = self.known.state.lock();
        state.health.eject(rules, now);
        self.known.has_strikes.store(state.health.has_strikes(), Ordering::Relaxed);
    }

    /// A check was passed, or failed for this reason.
    pub(super) fn checked(&self, outcome: Result<(), Box<str>>, rules: &CheckSpec) {
        let mut state = self.known.state.lock();
        state.health.checked(outcome.is_ok(), rules);
        state.reason = outcome.err();
    }

    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        self.known.state.lock().health.standing(now)
    }

    /// What the log is to be told, once.
    pub(super) fn news(&self, now: Timestamp) -> Option<News> {
        let mut state = self.known.state.lock();
        let standing = state.health.standing(now);
        let before = std::mem::replace(&mut state.told, standing);
        (before != standing).then(|| News { standing, reason: state.reason.clone() })
    }
}

impl Direct {
    fn to(spec: &UpstreamSpec, server: &ServerSpec) -> Option<Direct> {
        match (spec.protocol, &server.tls) {
            (Protocol::Http1, None) => Some(Direct {
                connect_timeout: Duration::from_millis(spec.connect_timeout.as_millis()),
                read_timeout: Duration::from_millis(spec.read_timeout.as_millis()),
                write_timeout: Duration::from_millis(spec.write_timeout.as_millis()),
            }),
            (Protocol::Http1 | Protocol::Http2, _) => None,
        }
    }
}

/// The authorities of a server in Pingora's form.
pub(super) fn authorities(tls: &TlsSpec) -> Option<Arc<CaType>> {
    let list = tls.authorities.as_ref()?;
    // The same parser has read them already when the file was checked.
    let parsed = list.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509));
    Some(parsed.collect())
}

fn peer(
    address: SocketAddr,
    spec: &UpstreamSpec,
    tls: Option<&TlsSpec>,
    authorities: Option<&Arc<CaType>>,
) -> HttpPeer {
    // Pingora does not verify a certificate for which it has no name: ours always has one.
    let name = tls.map(|tls| tls.name.to_string()).unwrap_or_default();
    let mut peer = HttpPeer::new(address, tls.is_some(), name);
    let duration = |span: Span| Some(Duration::from_millis(span.as_millis()));
    peer.options.connection_timeout = duration(spec.connect_timeout);
    peer.options.total_connection_timeout = duration(spec.connect_timeout);
    peer.options.read_timeout = duration(spec.read_timeout);
    // While a request is written its answer is waited for already, so a longer one never ends first.
    peer.options.write_timeout =
        if spec.write_timeout < spec.read_timeout { duration(spec.write_timeout) } else { None };
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    if let Some(authorities) = authorities {
        peer.options.ca = Some(Arc::clone(authorities));
        // A connection that others vouched for must not be taken for one of these.
        let all: Vec<u8> = authorities.iter().flat_map(|one| one.borrow_raw_cert()).copied().collect();
        peer.group_key = fingerprint(&all);
    }
    match spec.protocol {
        Protocol::Http1 => {}
        Protocol::Http2 => {
            peer.options.set_http_version(2, 2);
            peer.options.max_h2_streams = H2_STREAMS;
            peer.options.h2_ping_interval = Some(H2_PING_EVERY);
        }
    }
    peer
}
