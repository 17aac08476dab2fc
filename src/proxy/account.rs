//! What is remembered of a request on its way, where somebody wants to hear of it once it is over.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, Method};

use super::Snapshot;
use super::respond::Told;
#[cfg(feature = "otlp")]
use super::trace::Ids;
use super::trace::Traced;
use crate::clock::{Clock, Stopwatch};
use crate::decision::route::RouteIndex;
use crate::decision::time::Timestamp;
use crate::decision::trace::Sampled;
#[cfg(feature = "otlp")]
use crate::decision::trace::SpanId;
use crate::gateway::{Admission, Head};
#[cfg(feature = "otlp")]
use crate::telemetry::otlp::{Placed, Spans};
use crate::telemetry::{AccessLines, AccessLog, Account, Verdict};

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
    /// Where somebody will want to hear of a request.
    pub(super) fn if_wanted(
        admission: &Admission,
        head: Head<'_>,
        snapshot: &Snapshot,
        traced: &Traced,
    ) -> Option<Box<Notes>> {
        let is_picked = snapshot.trace.sampler.is_some() && traced.own.sampled == Sampled::Yes;
        let is_wanted = snapshot.access_lines != AccessLines::Off || is_picked;
        is_wanted.then(|| Box::new(Notes::of(admission, head, snapshot)))
    }

    fn of(admission: &Admission, head: Head<'_>, snapshot: &Snapshot) -> Notes {
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
    fn placed(traced: &Traced, span: SpanId) -> Option<Placed> {
        let (own, parent) = (traced.own, traced.parent);
        (own.sampled == Sampled::Yes).then_some(Placed { span, parent, told: own })
    }

    /// Tells `tell` all of it.
    fn close(
        &self,
        end: &Ending<'_>,
        snapshot: &Snapshot,
        watch: Stopwatch,
        tell: impl FnOnce(&Account<'_>),
    ) {
        let trace = end.traced.and_then(Traced::known).map(|trace| trace.text());
        let routes = snapshot.policies.rules.routes();
        tell(&Account {
            at: self.at,
            method: self.method.as_str(),
            path: &self.path,
            host: self.host.as_deref(),
            status: end.told.map(|told| told.status.as_u16()),
            bytes_out: end.told.map_or(0, |told| told.body_bytes as u64),
            route: self.route.and_then(|index| routes.get(index.0)).map_or("-", |route| route.name()),
            verdict: self.verdict,
            keys: &self.keys,
            client: self.client,
            user_agent: end.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()),
            request_id: end.traced.and_then(Traced::request_id),
            trace_id: trace.as_ref().and_then(|trace| std::str::from_utf8(trace).ok()),
            total: self.watch.until(watch),
            decision: self.decision,
            body_wait: self.body_wait,
            backend: end.asked_at.zip(self.answered_at).map(|(asked, answered)| asked.until(answered)),
            server: self.server,
            asked: end.asked_at.map(|asked| self.watch.until(asked)),
        });
    }
}

/// How a request ended.
pub(super) struct Ending<'a> {
    /// What the client was told, if anything.
    pub(super) told: Option<Told>,
    pub(super) headers: &'a HeaderMap,
    /// When the server had it that was asked last.
    pub(super) asked_at: Option<Stopwatch>,
    pub(super) traced: Option<&'a Traced>,
}

/// Tells of requests that are over, one by one, where somebody wants to hear of them.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) clock: Clock,
    pub(super) access: Arc<AccessLog>,
    #[cfg(feature = "otlp")]
    pub(super) ids: Arc<Ids>,
    #[cfg(feature = "otlp")]
    pub(super) spans: Option<Spans>,
}

impl Teller {
    pub(super) fn tell(&self, notes: &Notes, snapshot: &Snapshot, end: &Ending<'_>) {
        notes.close(end, snapshot, self.clock.stopwatch(), |account| {
            if snapshot.access_lines.want(account.status) {
                self.access.note(account);
            }
            #[cfg(feature = "otlp")]
            if let (Some(spans), Some(_), Some(traced)) = (&self.spans, snapshot.trace.sampler, end.traced)
                && let Some(placed) = Notes::placed(traced, self.ids.span())
            {
                spans.note(account, placed);
            }
        });
    }
}
