//! The Pingora edge: from a socket to the gateway's decision and on to the backend.
//!
//! The [`ProxyHttp`] implementation delegates each hook in a few lines; what a hook means stands
//! in the module it names.

mod activity;
mod body;
mod context;
mod forward;
mod listener;
mod request;
mod respond;
mod upstream;
mod wire;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::StatusCode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

pub use self::context::Context;
pub use self::listener::Listeners;
pub use self::upstream::{ResolveError, Upstream};

use self::forward::Origin;
use self::request::Arrival;
use crate::gateway::{Gateway, Policies};
use crate::telemetry::UpstreamFailure;

/// One configuration in force: pinned by each request for its whole life.
pub struct Snapshot {
    pub policies: Policies,
    /// In the order of the file: what `UpstreamIndex` counts.
    pub upstreams: Box<[Upstream]>,
}

/// The proxy: the gateway's decisions applied to Pingora's sessions.
pub struct Edge {
    gateway: Arc<Gateway>,
    live: Arc<ArcSwap<Snapshot>>,
}

impl Edge {
    pub fn new(gateway: Arc<Gateway>, live: Arc<ArcSwap<Snapshot>>) -> Edge {
        Edge { gateway, live }
    }

    /// Ready for [`Listeners::start`].
    pub fn into_proxy(self, conf: &Arc<ServerConf>) -> HttpProxy<Edge> {
        http_proxy(conf, self)
    }
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::default()
    }

    /// No modules: compression is the backend's business, and each would cost every request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut Context) -> pingora::Result<()> {
        if let Some(activity) = wire::activity_of(session) {
            activity.begin();
        }
        Ok(())
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, _: &mut Context) {
        if let Some(activity) = wire::activity_of(session) {
            activity.end();
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        let snapshot = ctx.snapshot.insert(self.live.load_full());
        let admission = self.gateway.admit(&snapshot.policies, &mut Arrival::new(session)).await;
        let admission = ctx.admission.insert(admission);
        match &admission.outcome {
            Ok(_) => Ok(false),
            Err(refusal) => {
                let (route, now) = (admission.route, admission.decided_at);
                respond::refuse(session, snapshot, route, refusal, now).await.map(|()| true)
            }
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Context) -> pingora::Result<Box<HttpPeer>> {
        ctx.attempts += 1;
        ctx.asked_at = Some(self.gateway.clock().stopwatch());
        let permit = ctx.admission.as_ref().and_then(|admission| admission.outcome.as_ref().ok());
        permit
            .zip(ctx.upstream())
            .and_then(|(permit, upstream)| upstream.next(permit))
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "a request without a permit"))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing of the request has reached a server yet, so another may be asked.
        let may_retry = ctx.upstream().is_some_and(|upstream| ctx.attempts <= upstream.retries());
        error.set_retry(may_retry);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let (Some(admission), Some(snapshot)) = (&ctx.admission, &ctx.snapshot) else { return Ok(()) };
        let (Some(path), Some(route)) = (&admission.path, admission.route) else { return Ok(()) };
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(|inet| inet.ip());
        let origin = Origin {
            peer: peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            peer_is_trusted: admission.client.peer_is_trusted,
            user_header: snapshot.policies.users.trusted_header(),
            overrides: snapshot.policies.rules.route(route).override_headers(),
        };
        forward::set_path(request, path.as_str())?;
        forward::set_headers(request, &origin)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        if let (Some(upstream), Some(asked_at)) = (ctx.upstream(), ctx.asked_at) {
            upstream.metrics().answered(response.status.as_u16(), asked_at.elapsed());
        }
        let Some(snapshot) = &ctx.snapshot else { return Ok(()) };
        match ctx.quota() {
            Some((route, quota)) => {
                let now = self.gateway.clock().now();
                respond::add_limit_headers(response, snapshot, route, quota, now)
            }
            None => Ok(()),
        }
    }

    /// Pingora's own line would show the target with its query, which may hold secrets. What the
    /// operator needs to know is in the gateway's line.
    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let status = failure_status(error);
        if *error.esource() == ErrorSource::Upstream
            && let Some(upstream) = ctx.upstream()
        {
            upstream.metrics().failed(failure_kind(error));
            self.gateway.backend_failed(upstream.name(), error.etype().as_str());
        }
        if let Some(status) = status {
            let now = self.gateway.clock().now();
            let snapshot = ctx.snapshot.as_deref();
            if let Err(error) = respond::backend_failed(session, snapshot, ctx.quota(), status, now).await {
                tracing::debug!(%error, "a client left before its answer");
            }
        }
        let error_code = status.map_or(0, |status| status.as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }
}

/// What the client is told; nothing if nobody is there to be told.
fn failure_status(error: &Error) -> Option<StatusCode> {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => StatusCode::from_u16(*code).ok(),
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
        ) => Some(StatusCode::GATEWAY_TIMEOUT),
        (ErrorSource::Upstream, _) => Some(StatusCode::BAD_GATEWAY),
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(StatusCode::REQUEST_TIMEOUT),
        (ErrorSource::Downstream, _) => Some(StatusCode::BAD_REQUEST),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn failure_kind(error: &Error) -> UpstreamFailure {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            UpstreamFailure::Timeout
        }
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::BindError
        | ErrorType::SocketError => UpstreamFailure::Connect,
        // The rest of Pingora's open list of errors comes after a connection was made.
        _ => UpstreamFailure::Closed,
    }
}
