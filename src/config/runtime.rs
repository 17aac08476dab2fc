//! What the gateway runs by.

use std::net::SocketAddr;

use crate::decision::policy::Rules;
use crate::decision::upstream::UpstreamSpec;
use crate::identity::UserRules;

pub use super::file::server::LogFormat;

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

/// What a running gateway cannot change without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    listen: Vec<SocketAddr>,
    admin_address: SocketAddr,
    workers: usize,
    max_keys: usize,
    metrics_public: bool,
    log: LogFormat,
}

impl Frozen {
    pub fn of(config: &Config) -> Frozen {
        Frozen {
            listen: config.listen.clone(),
            admin_address: config.admin.address,
            workers: config.workers,
            max_keys: config.store.max_keys,
            metrics_public: config.admin.metrics_public,
            log: config.log,
        }
    }

    /// What another configuration would have otherwise, by key path.
    pub fn differences(&self, other: &Config) -> Vec<&'static str> {
        let Frozen { listen, admin_address, workers, max_keys, metrics_public, log } = Frozen::of(other);
        let differs = [
            ("listen", self.listen != listen),
            ("admin.address", self.admin_address != admin_address),
            ("server.workers", self.workers != workers),
            ("store.max_keys", self.max_keys != max_keys),
            ("admin.metrics_public", self.metrics_public != metrics_public),
            ("events.log", self.log != log),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
