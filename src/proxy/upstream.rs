//! The backends: which server is asked, and how long each step may take.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use thiserror::Error;

use crate::decision::time::Span;
use crate::decision::upstream::{Protocol, UpstreamSpec};
use crate::decision::verdict::Permit;
use crate::telemetry::{Metrics, UpstreamMetrics};

/// Finds out that an unused connection is dead, and keeps it known to what lies between. Pingora's
/// own idle timeout would cost every request a timer.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// Requests at a time on one connection of HTTP/2. Servers say how many they take; few take more.
const H2_STREAMS: usize = 100;
/// How soon a connection of HTTP/2 is found dead, whose requests may wait for long.
const H2_PING_EVERY: Duration = Duration::from_secs(30);

/// The servers of one backend, asked in turn.
pub struct Upstream {
    name: Box<str>,
    servers: Box<[HttpPeer]>,
    turn: AtomicUsize,
    retries: u32,
    metrics: UpstreamMetrics,
}

/// A server whose name could not be resolved.
#[derive(Debug, Error)]
#[error("upstream {upstream:?}: cannot resolve {server:?}: {reason}")]
pub struct ResolveError {
    pub upstream: Box<str>,
    pub server: Box<str>,
    pub reason: Box<str>,
}

impl Upstream {
    /// Resolves the names of the servers.
    pub async fn resolve(spec: &UpstreamSpec, metrics: &Metrics) -> Result<Upstream, ResolveError> {
        let mut servers = Vec::with_capacity(spec.servers.len());
        for server in &spec.servers {
            let failed = |reason: String| ResolveError {
                upstream: spec.name.clone(),
                server: server.clone(),
                reason: reason.into(),
            };
            let found =
                tokio::net::lookup_host(&**server).await.map_err(|error| failed(error.to_string()))?;
            let before = servers.len();
            servers.extend(found.map(|address| peer(address, spec)));
            if servers.len() == before {
                return Err(failed("the name has no address".to_owned()));
            }
        }
        Ok(Upstream {
            name: spec.name.clone(),
            servers: servers.into_boxed_slice(),
            turn: AtomicUsize::new(0),
            retries: spec.retries,
            metrics: metrics.upstream(&spec.name),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    pub(super) fn retries(&self) -> u32 {
        self.retries
    }

    /// The next server. Only who was admitted has a permit to ask with.
    pub(super) fn next(&self, _: &Permit) -> Option<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.servers.len().max(1);
        self.servers.get(turn).cloned().map(Box::new)
    }
}

fn peer(address: SocketAddr, spec: &UpstreamSpec) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    let duration = |span: Span| Some(Duration::from_millis(span.as_millis()));
    peer.options.connection_timeout = duration(spec.connect_timeout);
    peer.options.total_connection_timeout = duration(spec.connect_timeout);
    peer.options.read_timeout = duration(spec.read_timeout);
    // While a request is written its answer is waited for already, so a longer one never ends first.
    peer.options.write_timeout =
        if spec.write_timeout < spec.read_timeout { duration(spec.write_timeout) } else { None };
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    match spec.protocol {
        Protocol::Http1 => {}
        Protocol::Http2 => {
            peer.options.set_http_version(2, 2);
            peer.options.max_h2_streams = H2_STREAMS;
            peer.options.h2_ping_interval = Some(H2_PING_EVERY);
        }
    }
    peer
}
