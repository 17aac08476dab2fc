//! Binds addresses, and says whose they are if they are taken.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

use super::activation::Activation;
use super::handover::Inherited;

const BACKLOG: i32 = 4096;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("{address} ({key}) is in use by another program")]
    InUse { address: SocketAddr, key: &'static str },
    #[error(
        "{address} ({key}) is in use by {rival}, which the service manager opened as {name:?}: both must name the same \
         address"
    )]
    InUseByManager { address: SocketAddr, key: &'static str, rival: SocketAddr, name: String },
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

/// Listens on an address that the file names at `key`: where the process before this one did, on a socket of the service
/// manager, or on one of its own.
pub(super) fn bind(
    address: SocketAddr,
    key: &'static str,
    inherited: &mut Inherited,
    activation: &mut Activation,
) -> Result<TcpListener, BindError> {
    let listening = match inherited.take(address).or_else(|| activation.take(address)) {
        // It does not block: whoever had it before saw to that.
        Some(listener) => TcpListener::from_std(listener),
        None => listen(address),
    };
    listening.map_err(|error| match (error.kind(), activation.rival(address)) {
        (io::ErrorKind::AddrInUse, Some((rival, name))) => {
            BindError::InUseByManager { address, key, rival, name: name.to_owned() }
        }
        (io::ErrorKind::AddrInUse, None) => BindError::InUse { address, key },
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
