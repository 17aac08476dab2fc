//! From what the file says of a listener to what the edge does about it.

use std::net::SocketAddr;

use http::HeaderValue;

use crate::config::ListenerSpec;
use crate::decision::time::Span;
use crate::proxy::Entrance;

pub(super) fn of(spec: &ListenerSpec) -> (SocketAddr, Entrance) {
    let ListenerSpec { address, tls, h2c, proxy_protocol, redirect_to_https, hsts, limits, http2 } =
        spec.clone();
    let (speakers, redirect_port, hsts) = (proxy_protocol, redirect_to_https, hsts.and_then(hsts_value));
    (address, Entrance { tls, h2c, speakers, redirect_port, hsts, limits, http2 })
}

/// When the first certificate of each listener with TLS ends, by its address, seconds since the epoch.
pub(super) fn ends(specs: &[ListenerSpec]) -> Vec<(String, u64)> {
    let end = |spec: &ListenerSpec| Some((spec.address.to_string(), spec.tls.as_ref()?.ends_at_s()));
    specs.iter().filter_map(end).collect()
}

/// RFC 6797 §6.1. Nothing but digits is put in, so it is a value.
fn hsts_value(span: Span) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("max-age={}", span.ceil_secs())).ok()
}
