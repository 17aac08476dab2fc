//! How connections get in, as the file has it now.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;

use crate::decision::ipset::IpSet;
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
}

impl Entrance {
    /// Whether a client may choose HTTP/2 here.
    pub(super) fn speaks_http2(&self) -> bool {
        self.h2c || self.tls.is_some()
    }

    /// Whether this peer begins with a PROXY header, and is believed.
    pub(super) fn believes(&self, peer: SocketAddr) -> bool {
        !self.speakers.is_empty() && self.speakers.contains(peer.ip())
    }
}

/// The entrances of all listeners, in the order of the file. A reload exchanges what is behind them.
#[derive(Debug)]
pub struct Entrances(Box<[ArcSwap<Entrance>]>);

impl Entrances {
    pub fn new(entrances: impl IntoIterator<Item = Entrance>) -> Entrances {
        Entrances(entrances.into_iter().map(ArcSwap::from_pointee).collect())
    }

    /// New connections come in by these; those that are open stay as they are. In the order of the listeners.
    pub fn replace(&self, entrances: impl IntoIterator<Item = Entrance>) {
        for (place, entrance) in self.0.iter().zip(entrances) {
            place.store(Arc::new(entrance));
        }
    }

    pub(super) fn now(&self, index: usize) -> Option<Arc<Entrance>> {
        self.0.get(index).map(ArcSwap::load_full)
    }
}
