//! What is remembered of a request on its way, where somebody wants to hear of it once it is over.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Method;
use http::header::USER_AGENT;
use pingora::proxy::Session;

use super::Snapshot;
use super::context::Context;
use super::trace::Traced;
use crate::clock::{Clock, Stopwatch};
use crate::decision::route::RouteIndex;
use crate::decision::time::Timestamp;
#[cfg(feature = "otlp")]
use crate::decision::trace::{Sampled, SpanId};
use crate::gateway::{Admission, Head};
#[cfg(feature = "otlp")]
use crate::telemetry::otlp::Placed;
use crate::telemetry::{Account, Verdict};

/// Boxed in the context, and made only where lines or spans are asked for.
pub(super) struct Notes {
    watch: Stopwatch,
    at: Timestamp,
    decision: Duration,
    body_wait: Duration,
    method: Method,
    /// As the client sent it.
    path: Box<str>,
    host: Option<Box<str>>,
    route: Option<RouteIndex>,
    verdict: Verdict,
    keys: Vec<Box<str>>,
    client: IpAddr,
    /// The server that was asked last.
    pub(super) server: Option<SocketAddr>,
    pub(super) answered_at: Option<Stopwatch>,
}

impl Notes {
    pub(super) fn of(admission: &Admission, head: Head<'_>, snapshot: &Snapshot) -> Notes {
        let timing = admission.timing;
        let host = head.host();
        Notes {
            watch: timing.watch,
            at: timing.began_at,
            decision: timing.decision,
            body_wait: timing.body_wait,
            method: head.method.clone(),
            path: head.path.into(),
            host: (!host.is_empty()).then(|| host.into()),
            route: admission.route,
            verdict: admission.verdict,
            keys: admission.keys(&snapshot.policies.rules),
            client: admission.client.address,
            server: None,
            answered_at: None,
        }
    }

    /// Where its spans belong, if they are wanted; `span` is a new id.
    #[cfg(feature = "otlp")]
    pub(super) fn placed(traced: &Traced, span: SpanId) -> Option<Placed> {
        let (own, parent) = (traced.own, traced.parent);
        (own.sampled == Sampled::Yes).then_some(Placed { span, parent, told: own })
    }

    /// Tells `tell` all of it.
    pub(super) fn close(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        ctx: &Context,
        clock: &Clock,
        tell: impl FnOnce(&Account<'_>),
    ) {
        let trace = ctx.traced.as_ref().and_then(Traced::known).map(|trace| trace.text());
        let asked_at = ctx.asked.as_ref().map(|asked| asked.at);
        let by_pingora = || session.response_written().map(|answer| answer.status);
        let status = ctx.told.map_or_else(by_pingora, |told| Some(told.status));
        let body_bytes = ctx.told.map_or_else(|| session.body_bytes_sent(), |told| told.body_bytes);
        let routes = snapshot.policies.rules.routes();
        tell(&Account {
            at: self.at,
            method: self.method.as_str(),
            path: &self.path,
            host: self.host.as_deref(),
            status: status.map(|status| status.as_u16()),
            bytes_out: body_bytes as u64,
            route: self.route.and_then(|index| routes.get(index.0)).map_or("-", |route| route.name()),
            verdict: self.verdict,
            keys: &self.keys,
            client: self.client,
            user_agent: session.req_header().headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()),
            request_id: ctx.request_id(),
            trace_id: trace.as_ref().and_then(|trace| std::str::from_utf8(trace).ok()),
            total: self.watch.until(clock.stopwatch()),
            decision: self.decision,
            body_wait: self.body_wait,
            backend: asked_at.zip(self.answered_at).map(|(asked, answered)| asked.until(answered)),
            server: self.server,
            asked: asked_at.map(|asked| self.watch.until(asked)),
        });
    }
}
