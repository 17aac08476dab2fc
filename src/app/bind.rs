//! Binds addresses, and says whose they are if they are taken.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

use super::handover::Inherited;

const BACKLOG: i32 = 4096;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("{address} ({key}) is in use by another program")]
    InUse { address: SocketAddr, key: &'static str },
    #[error("cannot listen on {address} ({key}): {reason}")]
    Refused { address: SocketAddr, key: &'static str, reason: io::Error },
    #[error("cannot tell which address is listened on: {0}")]
    Unknown(io::Error),
}

impl BindError {
    pub(super) fn unknown(error: io::Error) -> BindError {
        BindError::Unknown(error)
    }
}

/// Listens on an address that the file names at `key`, or goes on where the process before this one did.
pub(super) fn bind(
    address: SocketAddr,
    key: &'static str,
    inherited: &mut Inherited,
) -> Result<TcpListener, BindError> {
    let listening = match inherited.take(address) {
        // It does not block: whoever bound it saw to that.
        Some(listener) => TcpListener::from_std(listener),
        None => listen(address),
    };
    listening.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, key },
        _ => BindError::Refused { address, key, reason: error },
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Zero asks for one thread a core.
pub(super) fn thread_count(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}
