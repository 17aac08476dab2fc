//! What the gateway runs by.

use std::net::SocketAddr;
use std::time::Duration;

use crate::decision::policy::Rules;
use crate::identity::UserRules;

pub use super::file::server::LogFormat;
pub use super::value::address::ServerAddress;

/// A sound configuration.
#[derive(Debug)]
pub struct Config {
    pub rules: Rules,
    pub user: UserRules,
    /// In the order of [`UpstreamIndex`](crate::decision::policy::UpstreamIndex).
    pub upstreams: Vec<UpstreamSpec>,
    pub store: StoreSpec,
    pub listen: Vec<SocketAddr>,
    pub admin: AdminSpec,
    pub log: LogFormat,
    /// Worker threads; 0 is one a core.
    pub workers: usize,
    /// What each route matches, as it was written, in the order of the file.
    pub texts: Vec<RouteText>,
}

/// Servers that answer alike, taken in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    pub name: Box<str>,
    /// At least one.
    pub servers: Vec<ServerAddress>,
    pub connect_timeout: Duration,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    /// How often a request is tried again that never reached a server.
    pub retries: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSpec {
    /// The bound of the table.
    pub max_keys: usize,
}

/// The listener for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminSpec {
    pub address: SocketAddr,
    /// Whether /metrics, /healthz and /readyz need no token.
    pub metrics_public: bool,
}

/// What a route matches, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteText {
    /// `POST`, `GET, PUT`, or `any method`.
    pub methods: Box<str>,
    pub host: Option<Box<str>>,
    pub path: Box<str>,
    /// The name of the upstream.
    pub upstream: Box<str>,
}

/// What differs between two configurations and cannot change while the gateway runs, by key path.
pub fn frozen_differences(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut differences = Vec::new();
    if old.listen != new.listen {
        differences.push("listen");
    }
    if old.admin.address != new.admin.address {
        differences.push("admin.address");
    }
    if old.workers != new.workers {
        differences.push("server.workers");
    }
    if old.store.max_keys != new.store.max_keys {
        differences.push("store.max_keys");
    }
    differences
}
