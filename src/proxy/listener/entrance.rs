//! How connections get in, as the file has it now.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;

use crate::decision::ipset::IpSet;
use crate::decision::listener::{ClientLimits, Http2Limits};
use crate::proxy::forward::Scheme;
use crate::tls::ServerTls;

/// What a listener demands of a connection, and offers it. Each connection keeps the one that it came in by.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub tls: Option<ServerTls>,
    /// HTTP/2 without TLS, by prior knowledge.
    pub h2c: bool,
    /// Who says in a PROXY header whom it speaks for.
    pub speakers: IpSet,
    /// Every request is sent on to https, on this port.
    pub redirect_port: Option<u16>,
    /// `Strict-Transport-Security` on every answer.
    pub hsts: Option<HeaderValue>,
    /// How much of the gateway clients may hold that come in here.
    pub limits: ClientLimits,
    pub http2: Http2Limits,
}

impl Entrance {
    /// Whether a client may choose HTTP/2 here.
    pub(super) fn speaks_http2(&self) -> bool {
        self.h2c || self.tls.is_some()
    }

    /// What backends are told of how clients came.
    pub(in crate::proxy) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// Whether this peer begins with a PROXY header, and is believed.
    pub(super) fn believes(&self, peer: SocketAddr) -> bool {
        !self.speakers.is_empty() && self.speakers.contains(peer.ip())
    }
}

/// The entrances of all listeners, in the order of the file, by the address that the file has for them. A reload
/// exchanges what is behind them.
#[derive(Debug)]
pub struct Entrances(Box<[(SocketAddr, ArcSwap<Entrance>)]>);

impl Entrances {
    pub fn new(entrances: impl IntoIterator<Item = (SocketAddr, Entrance)>) -> Entrances {
        let place = |(address, entrance)| (address, ArcSwap::from_pointee(entrance));
        Entrances(entrances.into_iter().map(place).collect())
    }

    /// New connections come in by these; those that are open stay as they are, and so do listeners that are not
    /// among these. What has no listener yet gets none.
    pub fn replace(&self, mut entrances: Vec<(SocketAddr, Entrance)>) {
        for (address, place) in &self.0 {
            // Several may ask for a port of the system's choice: they are told apart by their order.
            if let Some(index) = entrances.iter().position(|(of, _)| of == address) {
                place.store(Arc::new(entrances.remove(index).1));
            }
        }
    }

    pub(super) fn now(&self, index: usize) -> Option<Arc<Entrance>> {
        self.0.get(index).map(|(_, place)| place.load_full())
    }
}
