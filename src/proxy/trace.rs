//! The ids that a request carries on: its trace, our span of it, and the id that everybody is told.

use std::hash::Hasher as _;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::own::push_field;
use crate::decision::trace::{
    Sampled, SpanId, TRACESTATE, TraceContext, TraceId, TraceRules, Traceparent, is_request_id,
};

const TRACEPARENT_SPELT: &str = "traceparent";

/// Makes ids that nobody outside can guess, and that never repeat: a counter under a keyed hash. The key is of this
/// process alone.
pub(super) struct Ids {
    hasher: SipHasher13,
    made: AtomicU64,
}

/// How a request was traced on its way in.
pub(super) struct Traced {
    /// Our span, as the backend is told.
    pub(super) own: TraceContext,
    /// The span that sent us the request, if it named itself.
    #[cfg(feature = "otlp")]
    pub(super) parent: Option<SpanId>,
    known: Option<TraceId>,
    id: Option<RequestId>,
}

enum RequestId {
    /// A trusted proxy's, and on the request.
    Sent(HeaderValue),
    Made(HeaderValue),
}

impl Ids {
    pub(super) fn new(secret: &[u8; 16]) -> Ids {
        Ids { hasher: SipHasher13::new_with_key(secret), made: AtomicU64::new(0) }
    }

    fn bytes(&self) -> [u8; 16] {
        let mut hasher = self.hasher;
        hasher.write_u64(self.made.fetch_add(1, Ordering::Relaxed));
        let hash = hasher.finish128();
        // An id of zeros is none; no more than once in 2^64 ids is one of its halves changed by this.
        let [h1, h2] = [hash.h1, hash.h2].map(|half| half.max(1));
        ((u128::from(h1) << 64) | u128::from(h2)).to_be_bytes()
    }

    fn trace(&self) -> TraceId {
        TraceId(self.bytes())
    }

    pub(super) fn span(&self) -> SpanId {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes();
        SpanId([a, b, c, d, e, f, g, h])
    }
}

/// Finds the ids that a request goes on with, before anything is decided about it, and takes off it those that are not
/// to be believed.
///
/// A trace that the client names is carried on, whoever the client is: it groups what others record, and decides
/// nothing. A request id is believed from trusted proxies alone: it stands in our lines as the name of the request.
pub(super) fn enter(
    request: &mut RequestHeader,
    rules: &TraceRules,
    peer_is_trusted: bool,
    ids: &Ids,
) -> pingora::Result<Traced> {
    let sent = TraceContext::of(&request.headers);
    let span = ids.span();
    let sampled = match (&rules.sampler, sent) {
        (None, Some(sent)) => sent.sampled,
        // A trace that nobody wants recorded would silence the backend's own tracing.
        (None, None) => Sampled::Yes,
        // Strangers must not flood the collector.
        (Some(_), Some(sent)) if peer_is_trusted => sent.sampled,
        (Some(sampler), Some(_) | None) => sampler.pick(span),
    };
    let own = TraceContext { trace: sent.map_or_else(|| ids.trace(), |sent| sent.trace), span, sampled };
    let known = match rules.traceparent {
        Traceparent::Generated => {
            if sent.is_none() && request.headers.contains_key(TRACESTATE) {
                // It is about a trace that nobody knows (Trace Context §3.3.1.1).
                request.remove_header(&TRACESTATE);
            }
            Some(own.trace)
        }
        Traceparent::Passed => sent.map(|sent| sent.trace),
    };
    let id = match &rules.request_id {
        // A trace that begins here has the number of its first request: one thing less to look up.
        Some(name) => Some(request_id(request, name, peer_is_trusted, || {
            if sent.is_some() { ids.trace() } else { own.trace }
        })?),
        None => None,
    };
    Ok(Traced {
        own,
        #[cfg(feature = "otlp")]
        parent: sent.map(|sent| sent.span),
        known,
        id,
    })
}

fn request_id(
    request: &mut RequestHeader,
    name: &HeaderName,
    peer_is_trusted: bool,
    make: impl FnOnce() -> TraceId,
) -> pingora::Result<RequestId> {
    let mut lines = request.headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) if peer_is_trusted && is_request_id(line.as_bytes()) => {
            return Ok(RequestId::Sent(line.clone()));
        }
        (Some(_), _) => drop(request.remove_header(name)),
        (None, _) => {}
    }
    Ok(RequestId::Made(value(&make().text())?))
}

impl Traced {
    /// Whether a field of the request goes no further: it is one of those that [`Traced::push_lines`] writes, or was taken off.
    pub(super) fn stands_for(&self, name: &HeaderName, rules: &TraceRules, headers: &HeaderMap) -> bool {
        match name.as_str() {
            TRACEPARENT_SPELT => rules.traceparent == Traceparent::Generated,
            "tracestate" => !headers.contains_key(TRACESTATE),
            _ => rules.request_id.as_ref() == Some(name) && matches!(self.id, Some(RequestId::Made(_))),
        }
    }

    /// The same fields as [`Traced::put_on`] sets, as lines of a head that has none of them.
    pub(super) fn push_lines(&self, rules: &TraceRules, lines: &mut Vec<u8>) {
        match rules.traceparent {
            Traceparent::Generated => push_field(lines, TRACEPARENT_SPELT, &self.own.text()),
            Traceparent::Passed => {}
        }
        if let (Some(name), Some(RequestId::Made(id))) = (&rules.request_id, &self.id) {
            push_field(lines, name.as_str(), id.as_bytes());
        }
    }

    /// Puts the ids on the request, for its backend.
    pub(super) fn put_on(&self, request: &mut RequestHeader, rules: &TraceRules) -> pingora::Result<()> {
        match rules.traceparent {
            Traceparent::Generated => request.insert_header(TRACEPARENT_SPELT, value(&self.own.text())?)?,
            Traceparent::Passed => {}
        }
        match (&rules.request_id, &self.id) {
            (Some(name), Some(RequestId::Made(id))) => request.insert_header(name.clone(), id.clone()),
            (Some(_), Some(RequestId::Sent(_)) | None) | (None, _) => Ok(()),
        }
    }

    /// The trace that others know the request by.
    pub(super) fn known(&self) -> Option<TraceId> {
        self.known
    }

    /// What everybody is told as the name of the request.
    pub(super) fn id(&self) -> Option<&HeaderValue> {
        match self.id.as_ref()? {
            RequestId::Sent(id) | RequestId::Made(id) => Some(id),
        }
    }

    pub(super) fn request_id(&self) -> Option<&str> {
        self.id()?.to_str().ok()
    }
}

fn value(text: &[u8]) -> pingora::Result<HeaderValue> {
    HeaderValue::from_bytes(text).map_err(|_| Error::new(ErrorType::InvalidHTTPHeader))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_comes_twice_or_is_nothing_and_another_key_makes_others() {
        let ids = Ids::new(&[7; 16]);
        let made: HashSet<[u8; 16]> = (0..10_000).map(|_| ids.bytes()).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id[..8] != [0; 8] && id[8..] != [0; 8]));
        assert!(!made.contains(&Ids::new(&[8; 16]).bytes()));
    }
}
