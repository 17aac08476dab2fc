//! The sockets of a configuration.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::TcpListener;

use super::activation::Activation;
use super::bind::{BindError, bind};
use super::handover::Inherited;
use crate::config::Config;

/// The sockets, before anybody is served.
pub(super) struct Bound {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin_listener: TcpListener,
    pub(super) admin_address: SocketAddr,
}

impl Bound {
    /// What was inherited and is not in the file any more is closed; the service manager's are told, for it keeps them.
    pub(super) fn of(
        config: &Config,
        mut inherited: Inherited,
        mut activation: Activation,
    ) -> Result<Bound, BindError> {
        activation.tell_faults();
        let mut bind = |address, key| bind(address, key, &mut inherited, &mut activation);
        let listeners = config.listen.iter().map(|spec| bind(spec.address, "listen"));
        let listeners = listeners.collect::<Result<Vec<TcpListener>, BindError>>()?;
        let admin_listener = bind(config.admin.address, "admin.address")?;
        activation.tell_left_over();
        let bound = |listener: &TcpListener| listener.local_addr().map_err(BindError::unknown);
        let addresses = listeners.iter().map(bound).collect::<Result<Vec<SocketAddr>, BindError>>()?;
        let admin_address = bound(&admin_listener)?;
        Ok(Bound { listeners, addresses, admin_listener, admin_address })
    }

    /// The same sockets once more, for the next process.
    pub(super) fn copies(&self) -> Result<Vec<OwnedFd>, BindError> {
        let all = self.listeners.iter().chain([&self.admin_listener]);
        all.map(|listener| listener.as_fd().try_clone_to_owned().map_err(BindError::unknown)).collect()
    }
}
