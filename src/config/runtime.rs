//! What the gateway runs by.

use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::decision::policy::Rules;
use crate::decision::time::Span;
use crate::decision::upstream::UpstreamSpec;
use crate::identity::UserRules;
use crate::store::spec::{Place, StoreKind, StoreSpec};

pub use super::file::server::LogFormat;

/// A sound configuration.
#[derive(Debug)]
pub struct Config {
    pub rules: Rules,
    pub user: UserRules,
    /// In the order of [`UpstreamIndex`](crate::decision::policy::UpstreamIndex).
    pub upstreams: Vec<UpstreamSpec>,
    pub store: Arc<StoreSpec>,
    pub listen: Vec<SocketAddr>,
    pub admin: AdminSpec,
    pub log: LogFormat,
    /// How long events are kept.
    pub retention: Span,
    /// Worker threads; 0 is one a core.
    pub workers: usize,
    /// What each route matches, as it was written, in the order of the file.
    pub texts: Vec<RouteText>,
}

/// The listener for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminSpec {
    pub address: SocketAddr,
    /// Whether /metrics, /healthz and /readyz need no token.
    pub metrics_public: bool,
    /// Whether /readyz fails while the store is away and a limit refuses for that.
    pub ready_needs_store: bool,
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
#[derive(Clone, Debug)]
pub struct Frozen {
    listen: Vec<SocketAddr>,
    admin: AdminSpec,
    workers: usize,
    store: Arc<StoreSpec>,
    log: LogFormat,
    retention: Span,
}

impl Frozen {
    pub fn of(config: &Config) -> Frozen {
        Frozen {
            listen: config.listen.clone(),
            admin: config.admin,
            workers: config.workers,
            store: Arc::clone(&config.store),
            log: config.log,
            retention: config.retention,
        }
    }

    /// What another configuration would have otherwise, by key path.
    pub fn differences(&self, other: &Config) -> Vec<&'static str> {
        let Frozen { listen, admin, workers, store, log, retention } = Frozen::of(other);
        let differs = [
            ("listen", self.listen != listen),
            ("admin.address", self.admin.address != admin.address),
            ("server.workers", self.workers != workers),
            ("store.max_keys", self.store.max_keys != store.max_keys),
            ("store.data_dir", self.store.data_dir != store.data_dir),
            ("admin.metrics_public", self.admin.metrics_public != admin.metrics_public),
            ("admin.ready_needs_store", self.admin.ready_needs_store != admin.ready_needs_store),
            ("events.log", self.log != log),
            ("events.retention", self.retention != retention),
        ];
        named(differs).chain(of_stores(&self.store.kind, &store.kind)).collect()
    }
}

fn named<const N: usize>(differs: [(&'static str, bool); N]) -> impl Iterator<Item = &'static str> {
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key)
}

/// Of two stores of another kind the kind alone is told: what else differs comes with it.
fn of_stores(a: &StoreKind, b: &StoreKind) -> Vec<&'static str> {
    let (a, b) = match (a, b) {
        (StoreKind::Memory, StoreKind::Memory) => return Vec::new(),
        (StoreKind::Shared(a), StoreKind::Shared(b)) => (a, b),
        (StoreKind::Memory, StoreKind::Shared(_)) | (StoreKind::Shared(_), StoreKind::Memory) => {
            return vec!["store.kind"];
        }
    };
    let (url, sentinel, token) = match (&a.place, &b.place) {
        (Place::Redis(a), Place::Redis(b)) => {
            let url = a.is_cluster() != b.is_cluster() || a.urls() != b.urls();
            (url, a.sentinel() != b.sentinel(), false)
        }
        (Place::Upstash { url: a, token: of_a }, Place::Upstash { url: b, token: of_b }) => {
            (a != b, false, !same(Some(of_a), Some(of_b)))
        }
        (Place::Redis(_), Place::Upstash { .. }) | (Place::Upstash { .. }, Place::Redis(_)) => {
            return vec!["store.kind"];
        }
    };
    let differs = [
        ("store.url", url),
        ("store.sentinel", sentinel),
        ("store.token", token),
        ("store.prefix", a.prefix != b.prefix),
        ("store.timeout", a.timeout != b.timeout),
        ("store.secret", !same(a.secret.as_ref(), b.secret.as_ref())),
    ];
    named(differs).collect()
}

fn same(a: Option<&SecretString>, b: Option<&SecretString>) -> bool {
    a.map(ExposeSecret::expose_secret) == b.map(ExposeSecret::expose_secret)
}
