//! What operators are given: the admin listener with the configuration in its words, and alerts.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::admin::{Access, Admin, Readiness, Role, RouteText, StoreState, Token, WatchRoom};
use crate::alert::Webhook;
use crate::config::{self, AdminSpec, Config, WebhookSpec};
use crate::gateway::{Gateway, Policies};
use crate::journal::Sight;
use crate::proxy::Snapshot;
use crate::store::spec::{Place, StoreKind, StoreSpec};
use crate::telemetry::{AccessLines, Metrics};

/// The running gateway, as far as operators look at it and act on it.
pub(super) struct Parts<'a> {
    pub(super) spec: &'a AdminSpec,
    pub(super) store_kind: Box<str>,
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) live: &'a Arc<ArcSwap<Snapshot>>,
    /// What the routes of `live` match.
    pub(super) routes: &'a Arc<ArcSwap<Box<[RouteText]>>>,
    pub(super) reload: &'a mpsc::Sender<()>,
    pub(super) readiness: &'a Readiness,
}

pub(super) fn admin(parts: Parts<'_>) -> Admin {
    let Parts { spec, store_kind, gateway, live, routes, reload, readiness } = parts;
    let room = WatchRoom {
        gateway: Arc::clone(gateway),
        policies: policies(live),
        routes: self::routes(routes),
        reload: reload.clone(),
        access: access(spec),
        store_kind,
    };
    Admin {
        metrics: gateway.metrics().clone(),
        readiness: readiness.clone(),
        metrics_public: spec.metrics_public,
        gauges: gauges(gateway),
        store_state: store_state(gateway, live, spec.ready_needs_store),
        room,
    }
}

/// Tells the webhook what happens, until the gateway stops.
pub(super) fn alerts(
    spec: WebhookSpec,
    gateway: &Gateway,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<> {
    let webhook = Webhook { url: spec.url, secret: spec.secret };
    let (journal, clock) = (gateway.journal().clone(), gateway.clock().clone());
    webhook.watch(journal, gateway.metrics().webhook(), clock, stopped)
}

/// Which requests get a line of their own.
pub(super) fn access_lines(written: config::AccessLog) -> AccessLines {
    match written {
        config::AccessLog::Off => AccessLines::Off,
        config::AccessLog::Errors => AccessLines::Errors,
        config::AccessLog::All => AccessLines::All,
    }
}

/// What each route matches, for people.
pub(super) fn route_texts(config: &Config) -> Box<[RouteText]> {
    let texts = config.rules.routes().iter().zip(&config.texts).map(|(route, text)| RouteText {
        name: route.name().into(),
        matches: format!("{} {}{}", text.methods, text.host.as_deref().unwrap_or_default(), text.path).into(),
        upstream: text.upstream.clone(),
    });
    texts.collect()
}

fn policies(live: &Arc<ArcSwap<Snapshot>>) -> Arc<dyn Fn() -> Arc<Policies> + Send + Sync> {
    let live = Arc::clone(live);
    Arc::new(move || Arc::clone(&live.load().policies))
}

fn routes(routes: &Arc<ArcSwap<Box<[RouteText]>>>) -> Arc<dyn Fn() -> Arc<Box<[RouteText]>> + Send + Sync> {
    let routes = Arc::clone(routes);
    Arc::new(move || routes.load_full())
}

fn access(admin: &AdminSpec) -> Access {
    let tokens = admin.tokens.iter().map(|token| Token {
        name: token.name.clone(),
        secret: token.secret.clone(),
        role: match token.role {
            config::Role::Viewer => Role::Viewer,
            config::Role::Admin => Role::Admin,
        },
    });
    let viewers_see = match admin.identifiers {
        config::Identifiers::Masked => Sight::Masked,
        config::Identifiers::Full => Sight::Full,
    };
    Access { tokens: tokens.collect(), viewers_see }
}

pub(super) fn store_kind(spec: &StoreSpec) -> Box<str> {
    let word = match &spec.kind {
        StoreKind::Memory => "memory",
        StoreKind::Shared(shared) => match shared.place {
            Place::Redis(_) => "redis",
            Place::Upstash { .. } => "upstash",
        },
    };
    word.into()
}

fn gauges(gateway: &Arc<Gateway>) -> Arc<dyn Fn(&Metrics) + Send + Sync> {
    let gateway = Arc::clone(gateway);
    Arc::new(move |_: &Metrics| gateway.refresh_gauges())
}

fn store_state(
    gateway: &Arc<Gateway>,
    live: &Arc<ArcSwap<Snapshot>>,
    ready_needs_store: bool,
) -> Arc<dyn Fn() -> StoreState + Send + Sync> {
    let (gateway, live) = (Arc::clone(gateway), Arc::clone(live));
    Arc::new(move || {
        super::store::state(gateway.store_is_up(), &live.load().policies.rules, ready_needs_store)
    })
}
