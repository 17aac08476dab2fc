//! How many connections there may be, over all and of one address.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::Snapshot;
use super::activity::Overdue;
use super::head::Fault;
use super::listener;
use crate::clock::Clock;
use crate::decision::client::canonical;
use crate::decision::listener::ClientLimits;
use crate::decision::time::Timestamp;
use crate::telemetry::{ConnectionLog, EdgeMetrics};

/// What a client of plain HTTP is told where there is no room for it.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\
    Cache-Control: no-store\r\nConnection: close\r\nRetry-After: 5\r\n\r\n\
    {\"detail\":\"There are too many connections.\"}";

/// Who comes in at one listener.
pub(super) struct Door {
    open: AtomicU32,
    /// Of addresses that have any; no more than there are connections.
    by_ip: Mutex<HashMap<IpAddr, u32>>,
    live: Arc<ArcSwap<Snapshot>>,
    clock: Clock,
    metrics: EdgeMetrics,
    log: ConnectionLog,
}

/// Room for one connection, taken as long as this is kept. What the listener allows may change meanwhile.
pub(super) struct Seat {
    door: Arc<Door>,
    /// Whose connections it is counted among; nobody's where a proxy speaks for many.
    ip: Option<IpAddr>,
}

/// Why a connection finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Connections,
    Address,
}

impl Full {
    /// The key of the listener that says so.
    fn limit(self) -> &'static str {
        match self {
            Full::Connections => "max_connections",
            Full::Address => "max_connections_per_ip",
        }
    }
}

impl Door {
    pub(super) fn new(live: Arc<ArcSwap<Snapshot>>, clock: Clock, metrics: EdgeMetrics) -> Arc<Door> {
        let full = [Full::Connections, Full::Address].map(Full::limit);
        let faults = Fault::ALL.into_iter().map(Fault::name).chain(listener::fault_names());
        metrics.declare(full, Overdue::ALL.map(Overdue::name), faults);
        Arc::new(Door {
            open: AtomicU32::new(0),
            by_ip: Mutex::new(HashMap::new()),
            live,
            clock,
            metrics,
            log: ConnectionLog::default(),
        })
    }

    pub(super) fn metrics(&self) -> &EdgeMetrics {
        &self.metrics
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Room for a connection from this peer, if there is any.
    pub(super) fn admit(self: &Arc<Door>, peer: IpAddr, limits: &ClientLimits) -> Result<Seat, Full> {
        let mut seat = self.enter(limits)?;
        seat.count_for(peer, limits)?;
        Ok(seat)
    }

    /// Room for a connection whose peer speaks for somebody that is not known yet: see [`Seat::count_for`].
    pub(super) fn enter(self: &Arc<Door>, limits: &ClientLimits) -> Result<Seat, Full> {
        let taken = self.open.fetch_add(1, Ordering::AcqRel);
        let seat = Seat { door: Arc::clone(self), ip: None };
        self.metrics.opened();
        if taken >= limits.connections { Err(Full::Connections) } else { Ok(seat) }
    }

    /// A connection is one too many, and ends without a word.
    pub(super) fn shut_out(&self, peer: IpAddr, full: Full) {
        self.metrics.shut_out(full.limit());
        self.log.refused(peer, full.limit(), self.clock.now());
    }

    /// A connection ended before HTTP began on it, and an operator should know why.
    pub(super) fn tell_refused(&self, peer: IpAddr, reason: &dyn Display) {
        self.log.never_began(peer, reason, self.clock.now());
    }

    /// Turns a connection of plain HTTP away, and says why.
    pub(super) fn turn_away(&self, tcp: &TcpStream, peer: IpAddr, full: Full) {
        self.shut_out(peer, full);
        if let Err(error) = tcp.try_write(FULL) {
            tracing::debug!(%error, "a client without room left by itself");
        }
    }
}

impl Seat {
    /// From here on it is one of this client's connections.
    pub(super) fn count_for(&mut self, client: IpAddr, limits: &ClientLimits) -> Result<(), Full> {
        let door = Arc::clone(&self.door);
        if door.live.load().policies.rules.client.trusted.contains(canonical(client)) {
            return Ok(());
        }
        let ip = one_client(client);
        let mut by_ip = door.by_ip.lock();
        let of_ip = by_ip.entry(ip).or_insert(0);
        if *of_ip >= limits.connections_per_ip {
            return Err(Full::Address);
        }
        *of_ip += 1;
        self.ip = Some(ip);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(ip) = self.ip {
            let mut by_ip = self.door.by_ip.lock();
            match by_ip.get_mut(&ip) {
                Some(of_ip) if *of_ip > 1 => *of_ip -= 1,
                Some(_) | None => drop(by_ip.remove(&ip)),
            }
        }
        self.door.open.fetch_sub(1, Ordering::AcqRel);
        // Last: where it is seen there is room.
        self.door.metrics.closed();
    }
}

/// The address that stands for all that one client can connect from: of IPv6, a network of 64 bits.
fn one_client(peer: IpAddr) -> IpAddr {
    match canonical(peer) {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}
