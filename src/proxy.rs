//! The Pingora edge: from a socket to the gateway's decision and on to the backend.
//!
//! The [`ProxyHttp`] implementation delegates each hook in a few lines; what a hook means stands
//! in the module it names.

mod account;
mod activity;
mod body;
mod caps;
mod context;
mod courier;
mod doorstep;
mod failure;
mod farewell;
mod forward;
mod gate;
mod h2;
mod head;
mod link;
mod listener;
mod own;
mod patience;
mod request;
mod respond;
mod snapshot;
mod trace;
mod upstream;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::STRICT_TRANSPORT_SECURITY;
use http::{Method, StatusCode};
use pingora::apps::HttpServerOptions;
use pingora::http::ResponseHeader;
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Peer as _};
use pingora::{Error, ErrorSource, ErrorType};

pub use self::body::BODY_MAX;
pub use self::context::Context;
pub use self::farewell::Farewell;
pub use self::listener::{Entrance, Entrances, Listeners};
pub use self::snapshot::Snapshot;
pub use self::upstream::{Before, Caretaker, ResolveError, Resolver, SystemResolver, Upstream};

use self::account::{Ending, Notes, Teller};
use self::activity::Activity;
use self::caps::Door;
use self::context::{Admitted, Asked, Judged};
use self::doorstep::Doorstep;
use self::failure::{failure_kind, failure_status, is_own_fault, outcome_at_end};
use self::forward::{Origin, Scheme};
use self::own::Afterwards;
use self::request::Arrival;
use self::respond::{BackendFailure, Terms, Told};
use self::trace::{Ids, Traced};
use self::upstream::Asker;
use crate::decision::failure::ByHead;
use crate::decision::policy::Target;
use crate::decision::route::RouteIndex;
use crate::decision::tally::Outcome;
use crate::decision::verdict::Permit;
use crate::gateway::{Admission, AnswerWatch, Attempt, Exchange as _, Gateway};
use crate::otp::Task;
use crate::telemetry::AccessLog;
#[cfg(feature = "otlp")]
use crate::telemetry::otlp::Spans;

/// How an upstream without any server shows among Pingora's errors.
const NO_SERVER: ErrorType = ErrorType::HTTPStatus(StatusCode::SERVICE_UNAVAILABLE.as_u16());

/// The proxy: the gateway's decisions applied to Pingora's sessions.
pub struct Edge {
    gateway: Arc<Gateway>,
    live: Arc<ArcSwap<Snapshot>>,
    farewell: Farewell,
    ids: Arc<Ids>,
    teller: Teller,
}

impl Edge {
    /// `ids_secret` is of this process alone: what ids of requests are made from.
    pub fn new(
        gateway: Arc<Gateway>,
        live: Arc<ArcSwap<Snapshot>>,
        access: Arc<AccessLog>,
        ids_secret: &[u8; 16],
    ) -> Edge {
        let ids = Arc::new(Ids::new(ids_secret));
        let teller = Teller {
            clock: gateway.clock().clone(),
            access,
            #[cfg(feature = "otlp")]
            ids: Arc::clone(&ids),
            #[cfg(feature = "otlp")]
            spans: None,
        };
        Edge { gateway, live, farewell: Farewell::default(), ids, teller }
    }

    /// By which the edge is told to take its leave.
    pub fn farewell(&self) -> Farewell {
        self.farewell.clone()
    }

    /// By which requests are seen to that come whole.
    fn doorstep(&self) -> Doorstep {
        Doorstep {
            gateway: Arc::clone(&self.gateway),
            live: Arc::clone(&self.live),
            ids: Arc::clone(&self.ids),
            farewell: self.farewell.clone(),
            teller: self.teller.clone(),
        }
    }

    /// Who comes in at a listener.
    fn door(&self) -> Arc<Door> {
        let metrics = self.gateway.metrics().edge();
        Door::new(Arc::clone(&self.live), self.gateway.clock().clone(), metrics)
    }

    /// The same, telling a collector of its requests.
    #[cfg(feature = "otlp")]
    pub fn with_spans(self, spans: Spans) -> Edge {
        Edge { teller: Teller { spans: Some(spans), ..self.teller }, ..self }
    }

    /// Ready for [`Listeners::start`].
    pub fn into_proxy(self, conf: &Arc<ServerConf>) -> HttpProxy<Edge> {
        let mut options = HttpServerOptions::default();
        // It is the gateway that refuses them, in words of its own, and tells of it.
        options.allow_connect_method_proxying = true;
        let mut proxy = http_proxy(conf, self);
        proxy.server_options = Some(options);
        proxy
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

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<()> {
        ctx.underway = wire::activity_of(session).map(Activity::begin);
        Ok(())
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        if ctx.attempt.is_some() {
            self.settle(outcome_at_end(error, ctx), ctx).await;
        }
        if let Some(notes) = ctx.notes.take() {
            self.tell(session, &notes, ctx);
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        // Behind a CONNECT comes what is no HTTP.
        if self.farewell.has_begun() || session.req_header().method == Method::CONNECT {
            session.set_keepalive(None);
        }
        let judged = match wire::judged(session) {
            Some(judged) => Some(judged),
            None => self.judge(session, ctx).await?.map(Box::new),
        };
        // It was sent elsewhere.
        let Some(judged) = judged else { return Ok(true) };
        let Judged { snapshot, traced, admission, notes, afterwards } = *judged;
        if afterwards == Afterwards::Close {
            session.set_keepalive(None);
        }
        let (snapshot, traced) = (&*ctx.snapshot.insert(snapshot), &*ctx.traced.insert(traced));
        ctx.notes = notes;
        let terms = Terms { snapshot, traced: Some(traced) };
        let permit = match admission.outcome {
            Ok(permit) => permit,
            Err(refusal) => {
                let told = respond::refuse(session, terms, admission.route, &refusal, admission.decided_at);
                ctx.told = Some(told.await?);
                return Ok(true);
            }
        };
        if !self.farewell.decides() {
            // Its body took so long that the counters went to another process before they counted it.
            return Err(Error::explain(ErrorType::HTTPStatus(503), "decided too late"));
        }
        let Some(route) = admission.route else {
            return Err(Error::explain(ErrorType::InternalError, "a permit without a route"));
        };
        if let Target::Otp(_) = snapshot.policies.rules.route(route).target() {
            // Boxed, for few requests are answered so.
            let told = self.answer_itself(session, terms, route, (admission.task, admission.attempt), permit);
            ctx.told = Some(Box::pin(told).await?);
            return Ok(true);
        }
        ctx.attempt = admission.attempt;
        ctx.admitted = Some(Admitted { route, permit, client: admission.client });
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        ctx.attempts += 1;
        let (at, now) = self.gateway.clock().read();
        let Some((admitted, upstream)) = ctx.admitted.as_ref().zip(ctx.upstream()) else {
            return Err(Error::explain(ErrorType::InternalError, "a request without a permit"));
        };
        let asker = Asker { client: &admitted.client, tried: &ctx.tried };
        let Some(server) = upstream.next(&admitted.permit, &asker, now) else {
            return Err(Error::explain(NO_SERVER, "none of the names has an address").into_up());
        };
        let mut peer = server.peer();
        ctx.asked = Some(Asked { server, at, has_answered: false });
        if let Some(notes) = &mut ctx.notes {
            notes.server = peer.address().as_inet().copied();
        }
        if !forward::has_hop_by_hop(&session.req_header().headers) {
            // Nothing to strip, and Pingora would look for each of those fields in turn.
            peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        } else if session.is_upgrade_req() {
            upstream::carry(&mut peer);
        }
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing of the request has reached a server yet, so another may be asked.
        let may_retry = ctx.has_retries_left();
        if !is_own_fault(&error) {
            self.gave_no_answer(ctx);
        }
        self.decide_retry(&mut error, may_retry, ctx);
        error
    }

    /// In place of Pingora's rule, which also sends bodies again, and knows no bound of ours.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        // The connection was closed before the request came to it, or was to be given up anyway. That tells nothing of
        // the server; but nobody knows whether the request was read.
        error.retry.decide_reuse(client_reused);
        let is_stale = error.retry();
        let nothing_came = ctx.asked.as_ref().is_some_and(|asked| !asked.has_answered);
        let can_be_sent_anew = session.req_header().method.is_idempotent() && session.is_body_empty();
        let may_retry = is_stale && nothing_came && can_be_sent_anew && ctx.has_retries_left();
        // A server that waits for the rest of a slow client's body owes no answer yet.
        let owes_an_answer = nothing_came && session.as_downstream_mut().is_body_done();
        if !is_stale && owes_an_answer && *error.esource() == ErrorSource::Upstream {
            self.gave_no_answer(ctx);
        }
        self.decide_retry(&mut error, may_retry, ctx);
        error
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if let Some(asked) = &mut ctx.asked {
            asked.has_answered = true;
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // From here on both sides may be silent for as long as the upstream's read timeout lets them.
            session.set_read_timeout(None);
        } else if response.status.is_informational() {
            return Ok(());
        }
        if self.farewell.has_begun() {
            session.set_keepalive(None);
        }
        let (answered_at, now) = self.gateway.clock().read();
        if let (Some(upstream), Some(asked)) = (ctx.upstream(), &ctx.asked) {
            upstream.metrics().answered(response.status.as_u16(), asked.at.until(answered_at));
            asked.server.answered();
        }
        if let Some(hsts) = wire::entrance_of(session).and_then(|entrance| entrance.hsts.clone()) {
            response.insert_header(STRICT_TRANSPORT_SECURITY, hsts)?;
        }
        if let Some(notes) = &mut ctx.notes {
            notes.answered_at = Some(answered_at);
        }
        if ctx.attempt.is_some() {
            self.learn(response, ctx).await;
        }
        let Some(terms) = ctx.terms() else { return Ok(()) };
        respond::add_ours(session, response, terms, ctx.quota(), now)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(answer) = &mut ctx.answer {
            body.iter().for_each(|part| answer.pass(part));
            if end_of_stream {
                answer.end();
            }
        }
        Ok(None)
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
            self.gateway.backend_failed(upstream.name(), error.etype().as_str(), ctx.request_id());
        }
        // What was begun must not be ended as if it were whole: it breaks off.
        let has_begun = session.response_written().is_some_and(|head| !head.status.is_informational());
        if let Some(status) = status.filter(|_| !has_begun) {
            let now = self.gateway.clock().now();
            let retry_after =
                ctx.upstream().map(Upstream::retry_after).filter(|_| *error.etype() == NO_SERVER);
            let failure = BackendFailure { status, retry_after };
            if let Err(error) = respond::backend_failed(session, ctx.terms(), ctx.quota(), failure, now).await
            {
                tracing::debug!(%error, "a client left before its answer");
            }
        }
        let error_code = status.map_or(0, |status| status.as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }
}

impl Edge {
    /// Decides a request, and makes of one that is admitted the one that backends get. None: it was sent to another port.
    async fn judge(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<Option<Judged>> {
        let snapshot = self.live.load_full();
        if let Some(port) = wire::entrance_of(session).and_then(|entrance| entrance.redirect_port) {
            let terms = Terms { snapshot: &snapshot, traced: None };
            ctx.told = Some(respond::redirect(session, terms, port).await?);
            return Ok(None);
        }
        if let Some(limits) = wire::entrance_of(session).map(|entrance| entrance.limits) {
            h2::settle(session.req_header_mut(), &limits)?;
        }
        let mut arrival = Arrival::new(session);
        let is_trusted = snapshot.policies.rules.client.trusts(arrival.peer());
        // Before anything is decided: what is counted by must be what the backend reads.
        let traced = trace::enter(arrival.header_mut(), &snapshot.trace, is_trusted, &self.ids)?;
        if snapshot.counts_ids {
            traced.put_on(arrival.header_mut(), &snapshot.trace)?;
        }
        arrival.known_by(&traced);
        let admission = self.gateway.admit(&snapshot.policies, &mut arrival).await;
        let notes = Notes::if_wanted(&admission, arrival.head(), &snapshot, &traced);
        let peer = arrival.peer();
        if admission.outcome.is_ok() {
            send_on(session, &snapshot, &traced, &admission, peer)?;
        }
        Ok(Some(Judged { snapshot, traced, admission, notes, afterwards: Afterwards::KeepAlive }))
    }

    /// Answers a request of a route without a backend.
    async fn answer_itself(
        &self,
        session: &mut Session,
        terms: Terms<'_>,
        route: RouteIndex,
        (task, attempt): (Option<Task>, Option<Box<Attempt>>),
        permit: Permit,
    ) -> pingora::Result<Told> {
        let Some(task) = task else { return respond::preflight(session, terms).await };
        let answer = self.gateway.perform(&terms.snapshot.policies, route, task, attempt).await;
        let now = self.gateway.clock().now();
        respond::answer(session, terms, (route, permit.quota()), answer, now).await
    }

    /// The server that was asked counts as silent once more.
    fn gave_no_answer(&self, ctx: &mut Context) {
        if let (Some(upstream), Some(asked)) = (ctx.upstream(), &ctx.asked) {
            upstream.unanswered(&asked.server, self.gateway.clock().now());
        }
    }

    fn decide_retry(&self, error: &mut Error, may_retry: bool, ctx: &mut Context) {
        error.set_retry(may_retry);
        if may_retry {
            ctx.upstream().inspect(|upstream| upstream.metrics().retried());
            ctx.tried.extend(ctx.asked.take().map(|asked| asked.server));
        }
    }

    /// Learns from the head of an answer. A client that sees it is counted already.
    async fn learn(&self, response: &ResponseHeader, ctx: &mut Context) {
        match ctx.failure_rule().map(|rule| rule.by_head(response.status)) {
            Some(ByHead::Told(outcome)) => self.settle(outcome, ctx).await,
            Some(ByHead::InTheBody { otherwise }) => {
                ctx.answer = Some(Box::new(AnswerWatch::new(&response.headers, otherwise)));
            }
            None => {}
        }
    }

    /// Tells of a request that is over.
    fn tell(&self, session: &Session, notes: &Notes, ctx: &Context) {
        let Some(snapshot) = &ctx.snapshot else { return };
        let by_pingora = || {
            let status = session.response_written()?.status;
            Some(Told { status, body_bytes: session.body_bytes_sent() })
        };
        let end = Ending {
            told: ctx.told.or_else(by_pingora),
            headers: &session.req_header().headers,
            asked_at: ctx.asked.as_ref().map(|asked| asked.at),
            traced: ctx.traced.as_ref(),
        };
        self.teller.tell(notes, snapshot, &end);
    }

    async fn settle(&self, outcome: Outcome, ctx: &mut Context) {
        if let (Some(attempt), Some(snapshot)) = (ctx.attempt.take(), &ctx.snapshot) {
            Box::pin(self.gateway.observe(&snapshot.policies, *attempt, outcome)).await;
        }
    }
}

/// Makes of a client's request the one that backends get, if it goes to one.
fn send_on(
    session: &mut Session,
    snapshot: &Snapshot,
    traced: &Traced,
    admission: &Admission,
    peer: IpAddr,
) -> pingora::Result<()> {
    let rules = &snapshot.policies.rules;
    let (Some(path), Some(route)) = (&admission.path, admission.route.map(|index| rules.route(index))) else {
        return Err(Error::explain(ErrorType::InternalError, "a permit without a path and a route"));
    };
    if !snapshot.counts_ids {
        traced.put_on(session.req_header_mut(), &snapshot.trace)?;
    }
    let origin = Origin {
        peer,
        peer_is_trusted: admission.client.peer_is_trusted,
        user_header: snapshot.policies.users.trusted_header(),
        overrides: route.override_headers(),
        scheme: wire::entrance_of(session).map_or(Scheme::Http, Entrance::scheme),
        // What is compressed could not be read.
        reads_answer: route.failure().is_some_and(|rule| !rule.members.is_empty()),
    };
    forward::rewrite(session.req_header_mut(), path.as_str(), &origin)
}

#[cfg(test)]
mod tests;
