//! What the gateway runs by.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};

use crate::decision::ipset::IpSet;
use crate::decision::listener::{ClientLimits, Http2Limits};
use crate::decision::policy::Rules;
use crate::decision::time::Span;
use crate::decision::trace::TraceRules;
use crate::decision::upstream::UpstreamSpec;
use crate::http_client::HttpUrl;
use crate::identity::UserRules;
use crate::otp::spec::OtpSpec;
use crate::store::spec::{Place, StoreKind, StoreSpec};
use crate::tls::ServerTls;

pub use super::file::admin::{Identifiers, Role};
pub use super::file::server::{AccessLog, LogFormat};

/// A sound configuration.
#[derive(Debug)]
pub struct Config {
    pub rules: Rules,
    pub user: UserRules,
    /// In the order of [`UpstreamIndex`](crate::decision::policy::UpstreamIndex).
    pub upstreams: Vec<UpstreamSpec>,
    pub store: Arc<StoreSpec>,
    pub listen: Vec<ListenerSpec>,
    pub admin: AdminSpec,
    pub log: LogFormat,
    /// Which requests get a line of their own.
    pub access_log: AccessLog,
    pub trace: TraceRules,
    /// Where spans of requests go, if anywhere.
    pub spans: Option<SpansSpec>,
    /// How long events are kept.
    pub retention: Span,
    /// Who is told what happens, if anybody.
    pub webhook: Option<WebhookSpec>,
    /// One-time codes, if a route has to do with them.
    pub otp: Option<OtpSpec>,
    /// Worker threads; 0 is one a core.
    pub workers: usize,
    pub drain: DrainSpec,
    /// What each route matches, as it was written, in the order of the file.
    pub texts: Vec<RouteText>,
}

/// A public listener.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    pub address: SocketAddr,
    pub tls: Option<ServerTls>,
    /// HTTP/2 by prior knowledge, where there is no TLS.
    pub h2c: bool,
    /// Who says in a PROXY header whom it speaks for.
    pub proxy_protocol: IpSet,
    /// The port of https that requests are sent on to.
    pub redirect_to_https: Option<u16>,
    /// How long browsers are to come by https alone.
    pub hsts: Option<Span>,
    /// What one client may take.
    pub limits: ClientLimits,
    pub http2: Http2Limits,
}

/// How the process takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSpec {
    /// How long `/readyz` says no before connections are refused.
    pub delay: Span,
    /// How long requests in flight may finish after that.
    pub within: Span,
}

/// The listener for operators.
#[derive(Clone, Debug)]
pub struct AdminSpec {
    pub address: SocketAddr,
    /// Who may use it; without any, whoever is on this machine.
    pub tokens: Vec<AdminToken>,
    /// How viewers see identifiers.
    pub identifiers: Identifiers,
    /// Whether /metrics, /healthz and /readyz need no token.
    pub metrics_public: bool,
    /// Whether /readyz fails while the store is away and a limit refuses for that.
    pub ready_needs_store: bool,
}

/// Somebody who may use the admin API.
#[derive(Clone, Debug)]
pub struct AdminToken {
    pub name: Box<str>,
    pub secret: SecretString,
    pub role: Role,
}

/// Who is told what happens.
#[derive(Clone, Debug)]
pub struct WebhookSpec {
    pub url: HttpUrl,
    /// What each request is signed with.
    pub secret: SecretString,
}

/// A collector of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpansSpec {
    pub url: HttpUrl,
    /// Values are hidden in Debug.
    pub headers: HeaderMap,
}

/// What a route matches, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteText {
    /// `POST`, `GET, PUT`, or `any method`.
    pub methods: Box<str>,
    pub host: Option<Box<str>>,
    pub path: Box<str>,
    /// The name of the upstream, or `one-time codes: send`.
    pub upstream: Box<str>,
}

/// What a running gateway cannot change without a restart.
#[derive(Clone, Debug)]
pub struct Frozen {
    listen: Vec<SocketAddr>,
    admin: AdminSpec,
    workers: usize,
    drain: DrainSpec,
    store: Arc<StoreSpec>,
    log: LogFormat,
    retention: Span,
    webhook: Option<WebhookSpec>,
    spans: Option<SpansSpec>,
}

impl Frozen {
    pub fn of(config: &Config) -> Frozen {
        Frozen {
            listen: config.listen.iter().map(|listener| listener.address).collect(),
            admin: config.admin.clone(),
            workers: config.workers,
            drain: config.drain,
            store: Arc::clone(&config.store),
            log: config.log,
            retention: config.retention,
            webhook: config.webhook.clone(),
            spans: config.spans.clone(),
        }
    }

    /// What another configuration would have otherwise, by key path.
    pub fn differences(&self, other: &Config) -> Vec<&'static str> {
        let Frozen { listen, admin, workers, drain, store, log, retention, webhook, spans } =
            Frozen::of(other);
        let differs = [
            ("listen", self.listen != listen),
            ("admin.address", self.admin.address != admin.address),
            ("server.workers", self.workers != workers),
            ("server.drain_delay", self.drain.delay != drain.delay),
            ("server.drain", self.drain.within != drain.within),
            ("store.max_keys", self.store.max_keys != store.max_keys),
            ("store.data_dir", self.store.data_dir != store.data_dir),
            ("admin.tokens", !same_tokens(&self.admin.tokens, &admin.tokens)),
            ("admin.identifiers", self.admin.identifiers != admin.identifiers),
            ("admin.metrics_public", self.admin.metrics_public != admin.metrics_public),
            ("admin.ready_needs_store", self.admin.ready_needs_store != admin.ready_needs_store),
            ("events.log", self.log != log),
            ("events.retention", self.retention != retention),
            ("events.otlp", self.spans != spans),
            ("events.webhook", !same_webhooks(self.webhook.as_ref(), webhook.as_ref())),
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

fn same_tokens(a: &[AdminToken], b: &[AdminToken]) -> bool {
    let alike = |(a, b): (&AdminToken, &AdminToken)| {
        a.name == b.name && a.role == b.role && same(Some(&a.secret), Some(&b.secret))
    };
    a.len() == b.len() && a.iter().zip(b).all(alike)
}

fn same_webhooks(a: Option<&WebhookSpec>, b: Option<&WebhookSpec>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.url == b.url && same(Some(&a.secret), Some(&b.secret)),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn same(a: Option<&SecretString>, b: Option<&SecretString>) -> bool {
    a.map(ExposeSecret::expose_secret) == b.map(ExposeSecret::expose_secret)
}
