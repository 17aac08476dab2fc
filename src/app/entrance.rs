//! From what the file says of a listener to what the edge does about it.

use http::HeaderValue;

use crate::config::ListenerSpec;
use crate::decision::time::Span;
use crate::proxy::Entrance;

pub(super) fn of(spec: &ListenerSpec) -> Entrance {
    let ListenerSpec { address: _, tls, h2c, proxy_protocol, redirect_to_https, hsts } = spec.clone();
    Entrance {
        tls,
        h2c,
        speakers: proxy_protocol,
        redirect_port: redirect_to_https,
        hsts: hsts.and_then(hsts_value),
    }
}

/// RFC 6797 §6.1. Nothing but digits is put in, so it is a value.
fn hsts_value(span: Span) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("max-age={}", span.ceil_secs())).ok()
}
