//! What the admin listener answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::Mutex;

use super::api::{self, Api};
use super::host::HostRule;
use super::page;
use super::{Phase, Readiness, StoreState};
use crate::telemetry::metrics::Metrics;

const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const PUBLIC_PATHS: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// What machines ask for.
pub(super) struct Health {
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) metrics_public: bool,
    pub(super) gauges: Arc<dyn Fn(&Metrics) + Send + Sync>,
    pub(super) store_state: StoreStates,
}

pub(super) fn router(health: Health, api: Arc<Api>, listening: SocketAddr) -> Router {
    let is_open = health.metrics_public || api.doorman.asks();
    let for_machines = if is_open {
        Router::new()
            .route("/metrics", get(metrics).with_state(Scrape::new(health.metrics, health.gauges)))
            .route("/healthz", get(self::health))
            .route("/readyz", get(readiness).with_state((health.readiness, health.store_state)))
    } else {
        PUBLIC_PATHS.into_iter().fold(Router::new(), |router, path| router.route(path, get(unauthorized)))
    };
    let for_machines = match health.metrics_public {
        true => for_machines,
        false => for_machines.layer(middleware::from_fn_with_state(Arc::clone(&api), api::guard)),
    };
    for_machines
        .merge(api::router(api))
        .merge(page::router())
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "Nothing is here.") })
        .method_not_allowed_fallback(|| async {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "This path does not know that method.")
        })
        .layer(middleware::from_fn_with_state(HostRule::of(listening), only_known_hosts))
        .layer(middleware::map_response(harden))
}

/// What a scrape needs. One is rendered at a time: scrapers cannot pile up work.
#[derive(Clone)]
struct Scrape {
    metrics: Metrics,
    gauges: Arc<dyn Fn(&Metrics) + Send + Sync>,
    turn: Arc<Mutex<()>>,
}

impl Scrape {
    fn new(metrics: Metrics, gauges: Arc<dyn Fn(&Metrics) + Send + Sync>) -> Scrape {
        Scrape { metrics, gauges, turn: Arc::default() }
    }
}

async fn metrics(State(scrape): State<Scrape>) -> Response {
    let _turn = scrape.turn.lock().await;
    let rendered = tokio::task::spawn_blocking(move || {
        (scrape.gauges)(&scrape.metrics);
        scrape.metrics.render()
    });
    match rendered.await {
        Ok(text) => ([(CONTENT_TYPE, EXPOSITION)], text).into_response(),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be read."),
    }
}

async fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

type StoreStates = Arc<dyn Fn() -> StoreState + Send + Sync>;

async fn readiness(State((readiness, store_state)): State<(Readiness, StoreStates)>) -> Response {
    let (store, missed) = match store_state() {
        StoreState::Up => ("up", false),
        StoreState::Down => ("down", false),
        StoreState::Missed => ("down", true),
    };
    let (status, phase) = match readiness.phase() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Phase::Ready if missed => (StatusCode::SERVICE_UNAVAILABLE, "ready"),
        Phase::Ready => (StatusCode::OK, "ready"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    (status, Json(json!({"phase": phase, "store": store}))).into_response()
}

async fn unauthorized() -> Response {
    let answer =
        refusal(StatusCode::UNAUTHORIZED, "This needs a token: set admin.metrics_public to do without.");
    ([(WWW_AUTHENTICATE, "Bearer")], answer).into_response()
}

async fn only_known_hosts(State(rule): State<HostRule>, request: Request, next: Next) -> Response {
    if rule.admits(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    refusal(
        StatusCode::MISDIRECTED_REQUEST,
        "This listens on loopback and answers to localhost and loopback addresses alone.",
    )
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({"detail": detail}))).into_response()
}
