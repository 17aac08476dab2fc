//! A mistake of ours in any phase of a request: it alone fails, and what was counted stays true.

use std::net::SocketAddr;

use pingora::apps::ServerApp as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::activity::Activity;
use super::gate::Gate;
use super::h2::Host;
use super::link::{Link, Protocol, Socket};
use super::wire::{Connection, Guard, Wire};
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::{self, Environment};
use crate::decision::ipset::IpSet;
use crate::decision::key::{KeyHash, KeyHasher};
use crate::decision::listener::{ClientLimits, Http2Limits};
use crate::decision::time::{Span, Timestamp};
use crate::gateway::Policies;
use crate::journal::{Journal, JournalSpec};
use crate::store::{ScriptTime, Store};
use crate::telemetry::AccessLines;
use crate::telemetry::Metrics;

const RULES: &str = r#"
routes:
  - { name: all, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1000/hour } }] }
  - { name: login, match: { path: /login }, upstream: app, limits: [{ key: ip, count: failures, windows: { tries: 3/hour } }] }
  - { name: body, match: { path: /body }, upstream: app, limits: [{ key: body.email, windows: { w: 2/hour } }] }
"#;

/// An edge that makes a mistake where a request's `X-Trip` says so.
struct Tripping(Edge);

fn trip(session: &Session, place: &str) {
    let asked = session.req_header().headers.get("x-trip").and_then(|value| value.to_str().ok());
    assert!(asked != Some(place), "a mistake in {place}");
}

#[async_trait]
impl ProxyHttp for Tripping {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        self.0.new_ctx()
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        self.0.init_downstream_modules(modules);
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<()> {
        trip(session, "before early_request_filter");
        self.0.early_request_filter(session, ctx).await?;
        trip(session, "after early_request_filter");
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        trip(session, "before request_filter");
        let is_answered = self.0.request_filter(session, ctx).await?;
        trip(session, "after request_filter");
        Ok(is_answered)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        trip(session, "before upstream_peer");
        let peer = self.0.upstream_peer(session, ctx).await?;
        trip(session, "after upstream_peer");
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        self.0.fail_to_connect(session, peer, ctx, error)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        trip(session, "before response_filter");
        self.0.response_filter(session, response, ctx).await?;
        trip(session, "after response_filter");
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        trip(session, "before response_body_filter");
        let pause = self.0.response_body_filter(session, body, end_of_stream, ctx)?;
        trip(session, "after response_body_filter");
        Ok(pause)
    }

    fn suppress_error_log(&self, session: &Session, ctx: &Context, error: &Error) -> bool {
        self.0.suppress_error_log(session, ctx, error)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        trip(session, "fail_to_proxy");
        self.0.fail_to_proxy(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        trip(session, "before logging");
        self.0.logging(session, error, ctx).await;
        trip(session, "after logging");
    }
}

/// A gateway in which requests go wrong.
pub(super) struct Stage {
    pub(super) address: SocketAddr,
    pub(super) hand: ManualClock,
    pub(super) metrics: Metrics,
    /// What ends with it.
    pub(super) _kept: Box<dyn std::any::Any + Send>,
}

/// Answers 401 to a login that is wrong, and 200 to everything else.
async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut seen).await {
                    if !seen.ends_with(b"\r\n\r\n") && !seen.ends_with(b"}") {
                        continue;
                    }
                    let status = if seen.starts_with(b"POST /login") { "401 Unauthorized" } else { "200 OK" };
                    seen.clear();
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// An edge in front of a backend.
pub(super) struct Ready {
    pub(super) edge: Edge,
    pub(super) limits: ClientLimits,
    pub(super) http2: Http2Limits,
    pub(super) metrics: Metrics,
    pub(super) hand: ManualClock,
    folder: TempDir,
}

impl Ready {
    pub(super) async fn made() -> Ready {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        let backend = backend().await;
        let head = format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ app: {{ servers: [\"{backend}\"] }} }}"
        );
        std::fs::write(&path, format!("{head}{RULES}")).unwrap();
        let loaded = config::load(&path, &Environment::empty());
        let config = loaded.unwrap_or_else(|refused| panic!("{refused}")).config;
        let (clock, hand) = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let metrics = Metrics::new().unwrap();
        let (secret, hasher) = (KeyHasher::new([9; 16]), KeyHasher::new([7; 16]));
        let store = Store::open(&config.store, secret, metrics.store(), clock.clone(), ScriptTime::Caller);
        let journal = JournalSpec {
            folder: None,
            retention: Span::from_secs(86_400),
            seal_key: [5; 32],
            hash_check: KeyHash::from_u128(42),
        };
        let journal = Journal::open(journal, metrics.journal(), clock.clone());
        let upstream =
            Upstream::resolve(&config.upstreams[0], &metrics, &SystemResolver, Before::Nothing, clock.now());
        let upstream = Arc::new(upstream.await.unwrap());
        let (limits, http2) = (config.listen[0].limits, config.listen[0].http2);
        let policies = Policies::new(config.rules, config.user, &metrics);
        let snapshot = Snapshot::new(policies, Box::new([upstream]), config.trace, AccessLines::Off);
        let live = Arc::new(ArcSwap::from_pointee(snapshot));
        let gateway = Arc::new(Gateway::new(store, clock, hasher, metrics.clone(), journal));
        let access = Arc::new(AccessLog::new(metrics.access()));
        let edge = Edge::new(gateway, live, access, &[3; 16]);
        Ready { edge, limits, http2, metrics, hand, folder }
    }
}

impl Stage {
    async fn set() -> Stage {
        let Ready { edge, limits, http2, metrics, hand, folder } = Ready::made().await;
        let conf = Arc::new(ServerConf { max_retries: 1, ..ServerConf::default() });
        let proxy = Arc::new(http_proxy(&conf, Tripping(edge)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let entrance = Arc::new(Entrance {
            tls: None,
            h2c: false,
            speakers: IpSet::default(),
            redirect_port: None,
            hsts: None,
            limits,
            http2,
        });
        let counted = metrics.clone();
        tokio::spawn(async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                let connection = Arc::new(Connection::new(Arc::clone(&entrance), None));
                let host = Host {
                    proxy: Arc::clone(&proxy),
                    metrics: counted.edge(),
                    activity: Arc::new(Activity::default()),
                    stop: stopped.clone(),
                    cut: stopped.clone(),
                };
                tokio::spawn(converse(Link::Plain(Socket::new(tcp)), peer, connection, host));
            }
        });
        Stage { address, hand, metrics, _kept: Box::new((stop, folder)) }
    }

    /// One request on a connection of its own: its status, if it got an answer, and what is left of its quota.
    pub(super) async fn ask(&self, request: &str, trip: &str) -> (Option<u16>, Option<u64>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        answer(&mut stream, request, trip, "close").await
    }
}

async fn converse(
    mut link: Link,
    peer: SocketAddr,
    connection: Arc<Connection>,
    host: Host<HttpProxy<Tripping>>,
) {
    if let Ok(Protocol::Http2) = link.protocol().await {
        return h2::serve(link, peer, connection, host).await;
    }
    let gate = Gate::new(connection.entrance.limits, host.activity, host.metrics);
    let wire = Wire::new(link, Guard::Http1(Box::new(gate)), peer, connection);
    host.proxy.process_new(Box::new(wire), &host.stop).await;
}

pub(super) async fn answer(
    stream: &mut TcpStream,
    request: &str,
    trip: &str,
    connection: &str,
) -> (Option<u16>, Option<u64>) {
    let (line, body) = request.split_once('\n').unwrap_or((request, ""));
    let length = body.len();
    let raw = format!(
        "{line} HTTP/1.1\r\nHost: h\r\nX-Trip: {trip}\r\nConnection: {connection}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(raw.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !(seen.ends_with(b"{}") || seen.ends_with(b"\"}")) {
        if !matches!(stream.read_buf(&mut seen).await, Ok(1..)) {
            break;
        }
    }
    let text = String::from_utf8(seen).unwrap().to_ascii_lowercase();
    let status = text.strip_prefix("http/1.1 ").and_then(|rest| rest[..3].parse().ok());
    let left = text.split_once("x-ratelimit-remaining: ").map(|(_, rest)| rest.lines().next().unwrap());
    (status, left.map(|left| left.parse().unwrap()))
}

/// Where a mistake is made, and whether the request was charged by then.
const PLACES: [(&str, u64); 12] = [
    ("before early_request_filter", 0),
    ("after early_request_filter", 0),
    ("before request_filter", 0),
    ("after request_filter", 1),
    ("before upstream_peer", 1),
    ("after upstream_peer", 1),
    ("before response_filter", 1),
    ("after response_filter", 1),
    ("before response_body_filter", 1),
    ("after response_body_filter", 1),
    ("before logging", 1),
    ("after logging", 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_own_request_and_charges_it_at_most_once() {
    let stage = Stage::set().await;
    let mut neighbour = TcpStream::connect(stage.address).await.unwrap();
    let mut left = 1000;
    for (place, charged) in PLACES {
        let (status, _) = stage.ask("GET /x", place).await;
        // What was written already when it happened may still be there.
        let is_late = place.ends_with("logging") || place.ends_with("body_filter");
        assert!(status.is_none() || is_late, "{place}: {status:?}");
        left -= charged + 1;
        let next = answer(&mut neighbour, "GET /x", "", "keep-alive").await;
        assert_eq!(next, (Some(200), Some(left)), "{place}");
    }
}

/// Makes a mistake in each of these places of a login, of which three may fail.
pub(super) async fn no_free_guess(places: &[(&str, u64)], set: impl AsyncFn() -> Stage) {
    for &(place, charged) in places {
        let stage = set().await;
        stage.ask("POST /login", place).await;
        // What was reserved is told as failed or, if nobody could tell, taken for it when its lease ends.
        stage.hand.advance(Span::from_secs(121));
        for tried in charged..3 {
            let (status, _) = stage.ask("POST /login", "").await;
            assert_eq!(status, Some(401), "{place}: {tried}");
        }
        let (status, _) = stage.ask("POST /login", "").await;
        assert_eq!(status, Some(429), "{place}");
    }
}

/// Makes a mistake in each of these places of a request that is counted by its body, twice at most.
pub(super) async fn the_body_as_it_was_charged(places: &[(&str, u64)], set: impl AsyncFn() -> Stage) {
    for &(place, charged) in places {
        let stage = set().await;
        let request = "POST /body\n{\"email\":\"a@b.c\"}";
        stage.ask(request, place).await;
        for tried in charged..2 {
            assert_eq!(stage.ask(request, "").await.0, Some(200), "{place}: {tried}");
        }
        assert_eq!(stage.ask(request, "").await.0, Some(429), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_no_free_guess() {
    no_free_guess(&PLACES, Stage::set).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_leaves_the_key_of_a_body_as_it_was_charged() {
    the_body_as_it_was_charged(&PLACES, Stage::set).await;
}

/// Over HTTP/2 a request has a task of its own: those beside it go on, and so does the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_http2_leaves_its_connection_usable() {
    let stage = Stage::set().await;
    let stream = TcpStream::connect(stage.address).await.unwrap();
    let (requests, connection) = ::h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let ask = async |trip: &str| {
        let request = http::Request::get("http://h/x").header("x-trip", trip).body(()).unwrap();
        let mut requests = requests.clone().ready().await.unwrap();
        let (answer, _) = requests.send_request(request, true).unwrap();
        answer.await.map(|answer| answer.status().as_u16())
    };
    for (place, _) in PLACES {
        let outcome = ask(place).await;
        let is_late = place.ends_with("logging") || place.ends_with("body_filter");
        assert!(outcome.is_err() || is_late, "{place}: {outcome:?}");
        assert_eq!(ask("").await.unwrap(), 200, "{place}");
    }
    let all = format!("tollgate_panics_total {}", PLACES.len());
    while !stage.metrics.render().contains(&all) {
        tokio::task::yield_now().await;
    }
}
