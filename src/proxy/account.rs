//! What is remembered of a request on its way, where somebody wants to hear of it once it is over.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, Method};
use pingora::proxy::Session;

use super::Snapshot;
use super::trace::Traced;
use crate::clock::{Clock, Stopwatch};
use crate::decision::route::RouteIndex;
use crate::decision::time::Timestamp;
use crate::decision::trace::TraceContext;
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
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "spans alone are placed by it"))]
    traced: Traced,
    /// The server that was asked last.
    pub(super) server: Option<SocketAddr>,
    pub(super) answered_at: Option<Stopwatch>,
}

impl Notes {
    pub(super) fn of(admission: &Admission, head: Head<'_>, traced: Traced, snapshot: &Snapshot) -> Notes {
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
            traced,
            server: None,
            answered_at: None,
        }
    }

    /// Where its spans belong, if they are wanted; `span` is a new id.
    #[cfg(feature = "otlp")]
    pub(super) fn placed(&self, span: SpanId) -> Option<Placed> {
        let Traced { own, parent } = self.traced;
        (own.sampled == Sampled::Yes).then_some(Placed { span, parent, told: own })
    }

    /// Tells `tell` all of it. `asked_at` is when the last server was asked.
    pub(super) fn close(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        asked_at: Option<Stopwatch>,
        clock: &Clock,
        tell: impl FnOnce(&Account<'_>),
    ) {
        let headers = &session.req_header().headers;
        let trace = TraceContext::of(headers).map(|context| context.trace.text());
        let status = session.response_written().map(|answer| answer.status.as_u16());
        let routes = snapshot.policies.rules.routes();
        tell(&Account {
            at: self.at,
            method: self.method.as_str(),
            path: &self.path,
            host: self.host.as_deref(),
            status,
            bytes_out: session.body_bytes_sent() as u64,
            route: self.route.and_then(|index| routes.get(index.0)).map_or("-", |route| route.name()),
            verdict: self.verdict,
            keys: &self.keys,
            client: self.client,
            user_agent: text(headers, &USER_AGENT),
            request_id: snapshot.trace.request_id.as_ref().and_then(|name| text(headers, name)),
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

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
