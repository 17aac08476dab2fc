//! The API of operators: its endpoints, who gets to them, and what they all work with.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};

use super::auth::{Caller, Doorman, NoRandomness, Role, is_of_our_page};
use super::minutes::Minutes;
use super::reply::Fault;
use super::server::Peer;
use super::{
    RouteText, WatchRoom, blocks, codes, export, input, keys, logs, openapi, rules, session, stats, stream,
};
use crate::decision::time::Timestamp;
use crate::gateway::{Gateway, Policies};
use crate::journal::{Event, EventKind};
use crate::telemetry::Metrics;

/// What the endpoints work with.
pub(super) struct Api {
    pub(super) gateway: Arc<Gateway>,
    pub(super) doorman: Doorman,
    pub(super) store_kind: Box<str>,
    pub(super) started_at: Timestamp,
    pub(super) streams: stream::Streams,
    pub(super) minutes: Minutes,
    pub(super) exports: Arc<Semaphore>,
    policies: Arc<dyn Fn() -> Arc<Policies> + Send + Sync>,
    routes: Arc<dyn Fn() -> Arc<Box<[RouteText]>> + Send + Sync>,
    reload: mpsc::Sender<()>,
    /// Whoever looks through all blocks or events: a few at a time.
    turns: Semaphore,
}

const TURNS: usize = 4;
const EXPORTS: usize = 2;

const PREFIX: &str = "/api/v1";
const CSRF: &str = "x-csrf-token";

/// All that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Session,
    Blocks,
    BlocksExport,
    Unblock,
    Stats,
    Codes,
    Logs,
    LogsExport,
    Routes,
    Keys,
    Reload,
    Stream,
}

impl Endpoint {
    const ALL: [Endpoint; 12] = [
        Endpoint::Session,
        Endpoint::Blocks,
        Endpoint::BlocksExport,
        Endpoint::Unblock,
        Endpoint::Stats,
        Endpoint::Codes,
        Endpoint::Logs,
        Endpoint::LogsExport,
        Endpoint::Routes,
        Endpoint::Keys,
        Endpoint::Reload,
        Endpoint::Stream,
    ];

    const fn path(self) -> &'static str {
        match self {
            Endpoint::Session => "/session",
            Endpoint::Blocks => "/blocked-identifiers",
            Endpoint::BlocksExport => "/blocked-identifiers/export",
            Endpoint::Unblock => "/unblock-identifier",
            Endpoint::Stats => "/rate-limit-stats",
            Endpoint::Codes => "/otp-stats",
            Endpoint::Logs => "/rate-limit-logs",
            Endpoint::LogsExport => "/rate-limit-logs/export",
            Endpoint::Routes => "/routes",
            Endpoint::Keys => "/keys",
            Endpoint::Reload => "/reload",
            Endpoint::Stream => "/stream",
        }
    }

    /// What answers those who are known.
    fn handlers(self) -> MethodRouter<Arc<Api>> {
        match self {
            Endpoint::Session => get(session::show).delete(session::logout),
            Endpoint::Blocks => get(blocks::list).post(blocks::create),
            Endpoint::BlocksExport => get(export::blocks),
            Endpoint::Unblock => post(blocks::unblock),
            Endpoint::Stats => get(stats::show),
            Endpoint::Codes => get(codes::show),
            Endpoint::Logs => get(logs::list),
            Endpoint::LogsExport => get(export::logs),
            Endpoint::Routes => get(rules::list),
            Endpoint::Keys => delete(keys::clear).get(keys::show),
            Endpoint::Reload => post(reload),
            Endpoint::Stream => get(stream::open),
        }
    }
}

impl Api {
    pub(super) fn new(room: WatchRoom, ended: watch::Receiver<bool>) -> Result<Api, NoRandomness> {
        let WatchRoom { gateway, policies, routes, reload, access, store_kind } = room;
        Ok(Api {
            doorman: Doorman::new(&access)?,
            started_at: gateway.clock().now(),
            streams: stream::Streams::new(ended),
            minutes: Minutes::default(),
            exports: Arc::new(Semaphore::new(EXPORTS)),
            turns: Semaphore::new(TURNS),
            gateway,
            store_kind,
            policies,
            routes,
            reload,
        })
    }

    pub(super) fn policies(&self) -> Arc<Policies> {
        (self.policies)()
    }

    pub(super) fn routes(&self) -> Arc<Box<[RouteText]>> {
        (self.routes)()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.gateway.clock().now()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.gateway.metrics()
    }

    /// Runs what takes long or reads the disk where it holds up nobody, when its turn comes.
    pub(super) async fn scan<T: Send + 'static>(
        self: &Arc<Api>,
        work: impl FnOnce(&Api) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let _turn = self.turns.acquire().await.map_err(|_| Fault::Broken)?;
        let api = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&api)).await.map_err(|_| Fault::Broken)?
    }

    /// Takes down in the audit trail what somebody did.
    pub(super) fn audit(&self, caller: &Caller, what: &str) {
        let detail = Some(format!("by {}: {what}", caller.name).into());
        self.gateway.journal().note(Event { detail, ..Event::new(EventKind::Admin, self.now()) });
    }
}

/// The endpoints. Whatever is not named as open wants to know who calls.
pub(super) fn router(api: Arc<Api>) -> Router {
    let guarded = Endpoint::ALL.into_iter().fold(Router::new(), |router, endpoint| {
        router.route(&format!("{PREFIX}{}", endpoint.path()), endpoint.handlers())
    });
    let guarded = guarded.layer(middleware::from_fn_with_state(Arc::clone(&api), guard));
    let open = Router::new()
        .route(&format!("{PREFIX}{}", Endpoint::Session.path()), post(session::login))
        .route("/api/openapi.json", get(openapi::document))
        .layer(middleware::from_fn(only_our_pages));
    guarded.merge(open).with_state(api)
}

/// Lets in whoever is known and may do what the request does.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let head = Head { method: request.method(), uri: request.uri(), headers: request.headers(), peer };
    match let_in(&api, &head) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    }
}

/// What tells whether a request may go on.
struct Head<'r> {
    method: &'r Method,
    uri: &'r Uri,
    headers: &'r HeaderMap,
    peer: Option<Peer>,
}

fn let_in(api: &Api, head: &Head<'_>) -> Result<Caller, Fault> {
    if !is_of_our_page(head.uri, head.headers) {
        return Err(FOREIGN);
    }
    let Peer(peer) = head.peer.ok_or(Fault::Broken)?;
    let caller = api.doorman.recognise(head.headers, peer, api.now())?;
    if matches!(*head.method, Method::GET | Method::HEAD) {
        return Ok(caller);
    }
    let is_logout = head.uri.path().strip_prefix(PREFIX) == Some(Endpoint::Session.path());
    if caller.role != Role::Admin && !is_logout {
        return Err(Fault::Forbidden("A viewer may look, not change."));
    }
    if !api.doorman.trusts(&caller, head.headers.get(CSRF).and_then(|value| value.to_str().ok())) {
        return Err(Fault::Forbidden("Send the session's csrf as X-CSRF-Token."));
    }
    if *head.method == Method::POST && !input::is_json(head.headers) {
        return Err(Fault::NotJson);
    }
    Ok(caller)
}

const FOREIGN: Fault = Fault::Forbidden("This was sent by a page of another origin.");

async fn only_our_pages(request: Request, next: Next) -> Response {
    if is_of_our_page(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    FOREIGN.into_response()
}

/// `POST /api/v1/reload`
async fn reload(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Fault> {
    api.audit(&caller, "reload");
    match api.reload.try_send(()) {
        // A full channel means that a reload is due already.
        Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {
            Ok((axum::http::StatusCode::ACCEPTED, Json(json!({}))).into_response())
        }
        Err(mpsc::error::TrySendError::Closed(())) => {
            Err(Fault::Unavailable("The gateway is stopping.".into()))
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}
