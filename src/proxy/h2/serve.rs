//! Serves a connection of HTTP/2: takes its requests in, and ends it when its time is over.
//!
//! In the place of Pingora's own loop, which knows one set of limits for all listeners, waits for a preface as long
//! as it takes, and ends idle connections without a word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection as H2Connection;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, HttpSession, handshake};
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest, Stream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::pipe::{Pipe, Watched};
use super::watch::{Fault, length};
use crate::decision::listener::ClientLimits;
use crate::proxy::activity::{Activity, Overdue};
use crate::proxy::link::Link;
use crate::proxy::wire::{Connection, Guard, Wire};
use crate::telemetry::EdgeMetrics;

/// How long a client has for taking our leave in, and for what it asked before it heard of it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What serves the requests of a connection, and tells of it.
pub(in crate::proxy) struct Host<A> {
    pub(in crate::proxy) proxy: Arc<A>,
    pub(in crate::proxy) metrics: EdgeMetrics,
    pub(in crate::proxy) activity: Arc<Activity>,
    /// Whether the process takes its leave.
    pub(in crate::proxy) stop: watch::Receiver<bool>,
    /// Whether it waits no longer for those who have not got as far as HTTP.
    pub(in crate::proxy) cut: watch::Receiver<bool>,
}

/// Serves a connection that begins with the client's preface, to its end.
pub(in crate::proxy) async fn serve<A: HttpServerApp + Send + Sync + 'static>(
    link: Link,
    peer: SocketAddr,
    connection: Arc<Connection>,
    mut host: Host<A>,
) {
    let entrance = Arc::clone(&connection.entrance);
    let limits = entrance.limits;
    let watched = Arc::new(Watched::new(&limits, &entrance.http2));
    // A client that does not take what its answers are made of is looked after as one of HTTP/1 is.
    let _underway = host.activity.begin();
    let pipe = Pipe::new(Arc::clone(&watched), Arc::clone(&host.activity));
    let wire = Wire::new(link, Guard::Http2(pipe), peer, connection);
    let digest = Arc::new(Digest {
        ssl_digest: None,
        timing_digest: Vec::new(),
        proxy_digest: wire.get_proxy_digest(),
        socket_digest: wire.get_socket_digest(),
    });
    let greeting = handshake(Box::new(wire), Some(super::options(&limits, &entrance.http2)));
    let greeted = tokio::select! {
        biased;
        greeted = timeout(length(limits.header_timeout), greeting) => greeted,
        () = told(&mut host.cut) => return,
    };
    match greeted {
        Ok(Ok(conn)) => {
            let errors_max = entrance.http2.error_resets;
            Served {
                conn,
                digest,
                watched,
                host,
                limits,
                errors_max,
                busy: Arc::new(()),
                accepted: 0,
                rejected: 0,
            }
            .run()
            .await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a client left before it asked for anything"),
        Err(_) => host.metrics.overdue(Overdue::Head.name()),
    }
}

/// Returns once that is so, or nobody is left who could say it.
async fn told(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|is_so| *is_so).await;
}

struct Served<A> {
    conn: H2Connection<Stream, Bytes>,
    digest: Arc<Digest>,
    watched: Arc<Watched>,
    host: Host<A>,
    limits: ClientLimits,
    /// Requests that are none: so many are borne.
    errors_max: u32,
    /// Every request holds it.
    busy: Arc<()>,
    /// Requests that were taken in; wraps around.
    accepted: u32,
    rejected: u32,
}

/// A request of a connection that goes on.
struct Underway {
    _busy: Arc<()>,
    metrics: EdgeMetrics,
}

impl Drop for Underway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.metrics.panicked();
            tracing::error!("a mistake in the gateway ended a request; the others go on");
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Its client was told that it will end: it goes on as long as it has requests.
    Parting,
}

/// What a connection waited for without a request, and since when.
struct Idle {
    stage: Stage,
    accepted: u32,
    waited: Duration,
}

impl<A: HttpServerApp + Send + Sync + 'static> Served<A> {
    async fn run(mut self) {
        let mut idle = Idle { stage: Stage::Open, accepted: 0, waited: Duration::ZERO };
        let mut pause = self.pause(&idle);
        let mut timer = std::pin::pin!(sleep(pause));
        loop {
            tokio::select! {
                biased;
                () = told(&mut self.host.stop), if idle.stage == Stage::Open => {
                    self.part(&mut idle);
                }
                accepted = HttpSession::from_h2_conn(&mut self.conn, Arc::clone(&self.digest)) => {
                    match accepted {
                        Ok(Some(H2Accept::Session(session))) => self.begin(session),
                        Ok(Some(H2Accept::Rejected)) if self.rejected < self.errors_max => self.rejected += 1,
                        Ok(Some(H2Accept::Rejected)) => return self.end_over(Fault::Malformed).await,
                        Ok(None) => return,
                        Err(error) => {
                            tracing::debug!(%error, "a connection of HTTP/2 ended");
                            return;
                        }
                    }
                    continue;
                }
                () = self.watched.attention() => {
                    if let Some(fault) = self.watched.fault() {
                        return self.end_over(fault).await;
                    }
                }
                () = &mut timer => {
                    let looked = self.watched.watch.lock().look(pause);
                    looked.given_up.iter().for_each(|overdue| self.host.metrics.overdue(overdue.name()));
                    if let Some(overdue) = looked.end {
                        self.host.metrics.overdue(overdue.name());
                        return self.end(Reason::ENHANCE_YOUR_CALM).await;
                    }
                    if self.is_over(&mut idle, pause) {
                        return;
                    }
                }
            }
            pause = self.pause(&idle);
            timer.set(sleep(pause));
        }
    }

    fn pause(&self, idle: &Idle) -> Duration {
        let pause = self.watched.watch.lock().pause();
        match idle.stage {
            Stage::Open => pause,
            Stage::Parting => pause.min(LAST_WORDS),
        }
    }

    fn begin(&mut self, session: HttpSession) {
        self.accepted = self.accepted.wrapping_add(1);
        let (proxy, stop) = (Arc::clone(&self.host.proxy), self.host.stop.clone());
        let underway = Underway { _busy: Arc::clone(&self.busy), metrics: self.host.metrics.clone() };
        tokio::spawn(async move {
            // Dropped when the request is over, also by a mistake in it.
            let _underway = underway;
            proxy.process_new_http(ServerSession::new_http2(session), &stop).await;
        });
    }

    /// Whether a connection without a request has used up its time, or a request came before the client heard that it
    /// had: that one is still served.
    fn is_over(&mut self, idle: &mut Idle, pause: Duration) -> bool {
        if Arc::strong_count(&self.busy) > 1 || self.accepted != idle.accepted {
            (idle.accepted, idle.waited) = (self.accepted, Duration::ZERO);
            return false;
        }
        idle.waited += pause;
        match idle.stage {
            Stage::Open if idle.waited >= length(self.limits.idle_timeout) => {
                self.host.metrics.overdue(Overdue::Idle.name());
                self.part(idle);
                false
            }
            Stage::Open => false,
            Stage::Parting => idle.waited >= LAST_WORDS,
        }
    }

    fn part(&mut self, idle: &mut Idle) {
        self.conn.graceful_shutdown();
        (idle.stage, idle.waited) = (Stage::Parting, Duration::ZERO);
    }

    async fn end_over(self, fault: Fault) {
        self.host.metrics.malformed(fault.label());
        tracing::debug!(fault = fault.label(), "a client of HTTP/2 was sent away");
        self.end(fault.reason()).await;
    }

    /// Ends the connection with all that is on it, and says why.
    async fn end(mut self, reason: Reason) {
        self.conn.abrupt_shutdown(reason);
        let rest = async {
            while let Ok(Some(_)) = HttpSession::from_h2_conn(&mut self.conn, Arc::clone(&self.digest)).await
            {
            }
        };
        // In time or not, it is over.
        let _ = timeout(LAST_WORDS, rest).await;
    }
}
