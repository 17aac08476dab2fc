//! How connections get in, as the file has it now.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// What a listener demands of a connection, and offers it. Each connection keeps the one that it came in by.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// HTTP/2 without TLS, by prior knowledge.
    pub h2c: bool,
}

impl Entrance {
    /// Whether a client may choose HTTP/2 here.
    pub(super) fn speaks_http2(&self) -> bool {
        self.h2c
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
