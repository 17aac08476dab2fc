//! Sockets that the service manager has opened before the gateway is there, and keeps when it is gone: sd_listen_fds(3).
//!
//! Nobody is refused while one process ends and the next one starts, for the socket stays: the kernel keeps who comes
//! until somebody accepts. They are told apart by the address that they are bound to.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use secrecy::ExposeSecret as _;
use thiserror::Error;

use super::handover::SOCKETS_MAX;
use crate::config::Environment;

/// Of the first socket; the others follow.
const FIRST: usize = 3;
/// What sockets without a name are called, here as there.
const NAMELESS: &str = "unknown";

/// The sockets of the service manager that can be listened on.
#[derive(Debug, Default)]
pub struct Activation {
    sockets: Vec<Open>,
    faults: Vec<Fault>,
}

#[derive(Debug)]
struct Open {
    /// A unit's, for people.
    name: String,
    at: SocketAddr,
    listener: TcpListener,
}

/// Why a socket that is promised is not listened on. The gateway starts all the same: it can open its own.
#[derive(Debug, Error)]
enum Fault {
    #[error("{0} is not a number, so no socket of the service manager is listened on")]
    NoNumber(&'static str),
    #[error("LISTEN_FDS is more than {SOCKETS_MAX}, so no socket of the service manager is listened on")]
    TooMany,
    #[error("descriptor {descriptor} of the service manager ({name:?}) cannot be listened on: {reason}")]
    NoListener { descriptor: usize, name: String, reason: io::Error },
}

impl Activation {
    /// What speaks of these sockets, and concerns this process alone.
    pub(crate) const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"];

    /// What `environment`, which is the process's, says that it was given. To be asked once, and before anything else is opened.
    pub fn of_process(environment: &Environment) -> Activation {
        let count = match promised(environment, std::process::id()) {
            Ok(0) => return Activation::default(),
            Ok(count) => count,
            Err(fault) => return Activation { sockets: Vec::new(), faults: vec![fault] },
        };
        let mut names = names(environment);
        let mut given = ListenFd::from_env();
        let mut activation = Activation::default();
        for index in 0..count {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or_else(|| NAMELESS.to_owned());
            match listening(&mut given, index) {
                Ok((at, listener)) => activation.sockets.push(Open { name, at, listener }),
                Err(reason) => {
                    let descriptor = FIRST + index;
                    activation.faults.push(Fault::NoListener { descriptor, name, reason });
                }
            }
        }
        activation
    }

    /// The socket for an address that the file names; no other, for that may be one that more people reach.
    pub(super) fn take(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let index = self.sockets.iter().position(|open| open.at == wanted)?;
        let Open { name, at, listener } = self.sockets.remove(index);
        tracing::info!(address = %at, name, "listening on a socket that the service manager keeps");
        Some(listener)
    }

    /// Who else has the port of `wanted`, and how it is called: `[::]:80` is in the way of `0.0.0.0:80`.
    pub(super) fn rival(&self, wanted: SocketAddr) -> Option<(SocketAddr, &str)> {
        let rival = self.sockets.iter().find(|open| open.at.port() == wanted.port())?;
        Some((rival.at, &rival.name))
    }

    /// To the log, which is not there yet when they are found.
    pub(super) fn tell_faults(&self) {
        self.faults.iter().for_each(|fault| tracing::warn!("{fault}"));
    }

    /// Whoever connects to them waits for ever, for the service manager keeps them open.
    pub(super) fn tell_left_over(&self) {
        for Open { name, at, .. } in &self.sockets {
            tracing::warn!(
                address = %at,
                name,
                "the service manager keeps a socket that nobody is served on: neither `listen` nor `admin.address` \
                 names its address, or another socket has it"
            );
        }
    }
}

/// How many there are for the process `pid`.
fn promised(environment: &Environment, pid: u32) -> Result<usize, Fault> {
    let number = |name: &'static str| -> Result<Option<u32>, Fault> {
        let Ok(value) = environment.read(name) else { return Ok(None) };
        value.expose_secret().parse().map(Some).map_err(|_| Fault::NoNumber(name))
    };
    // Variables that speak to another process, which started this one, are none of its business.
    if number("LISTEN_PID")? != Some(pid) {
        return Ok(0);
    }
    let count = usize::try_from(number("LISTEN_FDS")?.unwrap_or(0)).unwrap_or(usize::MAX);
    if count > SOCKETS_MAX { Err(Fault::TooMany) } else { Ok(count) }
}

/// In the order of the sockets; fewer, or empty ones, if not all have one.
fn names(environment: &Environment) -> impl Iterator<Item = String> + use<> {
    let names = environment.read("LISTEN_FDNAMES").ok();
    let names = names.map(|names| names.expose_secret().split(':').map(str::to_owned).collect::<Vec<_>>());
    names.unwrap_or_default().into_iter()
}

/// No program that this one starts has it by accident.
fn listening(given: &mut ListenFd, index: usize) -> io::Result<(SocketAddr, TcpListener)> {
    let listener = given.take_tcp_listener(index)?.ok_or(io::ErrorKind::NotFound)?;
    if !accepts(&listener)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?, listener))
}

#[cfg(target_os = "linux")]
fn accepts(listener: &TcpListener) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(listener)?)
}

/// Not every system can tell, and none of the others has such a service manager.
#[cfg(not(target_os = "linux"))]
fn accepts(_: &TcpListener) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests;
