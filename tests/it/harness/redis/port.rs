//! Ports for servers that choose none by themselves, and that come back on the port they had.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Where no system takes the ports of outgoing connections and of listeners on port 0 from, so that none of them
/// can sit down on the port of a server that is dead for a while.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Who holds a port holds it at this address too, which no server uses.
const RESERVED_AT: Ipv4Addr = Ipv4Addr::new(127, 99, 99, 99);

/// A port of 127.0.0.1 that nothing else of this or another run of the tests will take.
pub(super) struct Port {
    pub(super) number: u16,
    _reserved: TcpListener,
}

impl Port {
    pub(super) fn free() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Runs at the same time begin at places of their own, so that they seldom try the same.
        let run = (std::process::id() % 200) as u16 * 100;
        let mut tries = (0..COUNT).map(|_| {
            let offset = (run + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
            FIRST + offset
        });
        let found = tries.find_map(|number| {
            let reserved = TcpListener::bind((RESERVED_AT, number)).ok()?;
            let _free = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
            Some(Port { number, _reserved: reserved })
        });
        found.expect("a free port")
    }
}
