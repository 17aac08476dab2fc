//! Puts onto a request what the gateway knows of it, as it is let in.
//!
//! Whose it is, its id and its trace go onto nearly every request. Pingora's maps are as large as the head that came,
//! so a field that is added later costs several times one that was in the head. Where a client names none of them
//! itself, the gate writes them in; all others get them from [`Traced::put_on`] and `forward`.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::forward::push_address;
use super::head::Letters;
use super::own::push_field;
use super::trace::{Ids, Traced};
use super::{Snapshot, forward};

/// What all listeners announce by.
#[derive(Clone)]
pub(super) struct Herald {
    pub(super) live: Arc<ArcSwap<Snapshot>>,
    pub(super) ids: Arc<Ids>,
}

/// Announces the requests of one connection.
pub(super) struct Announcer {
    herald: Herald,
    forwarded_for: Box<[u8]>,
}

/// A request whose head holds our fields already, and by what rules they were made.
pub(super) struct Announced {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) traced: Traced,
}

impl Herald {
    /// For a connection of this peer.
    pub(super) fn of_peer(self, peer: IpAddr) -> Announcer {
        let (mut address, mut line) = (smallvec::SmallVec::new(), Vec::new());
        push_address(&mut address, peer);
        push_field(&mut line, forward::X_FORWARDED_FOR_SPELT, &address);
        Announcer { herald: self, forwarded_for: line.into() }
    }
}

impl Announcer {
    /// The lines that a head of these fields gets; none where one of them may be ours, or is to be looked at first.
    pub(super) fn announce(&self, letters: Letters) -> Option<(Vec<u8>, Announced)> {
        let Herald { live, ids } = &self.herald;
        let snapshot = live.load_full();
        let id = snapshot.trace.request_id.as_ref().map(|name| name.as_str());
        if ["x-forwarded-for", "traceparent"].into_iter().chain(id).any(|ours| letters.begin(ours)) {
            return None;
        }
        let traced = Traced::anew(&snapshot.trace, ids).ok()?;
        let mut lines = Vec::with_capacity(192);
        lines.extend_from_slice(&self.forwarded_for);
        traced.push_lines(&snapshot.trace, &mut lines);
        Some((lines, Announced { snapshot, traced }))
    }
}
