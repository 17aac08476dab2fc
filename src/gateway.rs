//! The shell around the decision: all control flow of a request stands in [`Gateway::admit`].

mod policies;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN};
use http::{HeaderMap, Method};
use smallvec::SmallVec;

pub use self::policies::Policies;

use self::policies::CauseLabels;

use crate::clock::Clock;
use crate::decision::body::{Fields, Media, read_fields};
use crate::decision::client::Client;
use crate::decision::key::{FieldPath, KeyHasher};
use crate::decision::limit::Mode;
use crate::decision::path::NormalPath;
use crate::decision::plan::{Facts, Plan};
use crate::decision::policy::{Route, Standing};
use crate::decision::refusal::Refusal;
use crate::decision::reject;
use crate::decision::route::RouteIndex;
use crate::decision::time::Timestamp;
use crate::decision::verdict::{Cause, Grounds, Permit, conclude};
use crate::store::Store;
use crate::store::snapshot::Snapshots;
use crate::telemetry::{FailureLog, Metrics, RefusalLine, RefusalLog, StoreGauges, Verdict};

/// Decides every request. Lives as long as the process; the policies come and go.
pub struct Gateway {
    store: Store,
    clock: Clock,
    hasher: KeyHasher,
    metrics: Metrics,
    refusals: RefusalLog,
    failures: FailureLog,
}

/// The head of a request as the edge sees it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// In the spelling that the backend gets.
    pub method: &'a Method,
    /// The target without its query, as the client sent it.
    pub path: &'a str,
    pub query: &'a str,
    /// The authority of the target, which stands above the Host field (RFC 9112 §3.2.2).
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// Who is at the other end of the connection.
    pub peer: IpAddr,
}

impl<'a> Head<'a> {
    fn host(&self) -> &'a str {
        let field = || self.headers.get(HOST).and_then(|host| host.to_str().ok());
        self.authority.or_else(field).unwrap_or_default()
    }
}

/// One request, as far as the gateway needs the edge for it.
pub trait Exchange: Send {
    fn head(&self) -> Head<'_>;

    fn has_body(&mut self) -> bool;

    /// The whole body, which is still forwarded byte for byte afterwards.
    fn read_body(&mut self) -> impl Future<Output = Result<Bytes, BodyUnread>> + Send;
}

/// Why a body could not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUnread {
    TooLarge,
    TimedOut,
    ClientGone,
}

/// What became of a request, and what was learnt about it on the way.
#[derive(Debug)]
pub struct Admission {
    pub client: Client,
    pub route: Option<RouteIndex>,
    /// The one form of the path that the backend gets.
    pub path: Option<NormalPath>,
    pub decided_at: Timestamp,
    pub outcome: Result<Permit, Refusal>,
}

/// What is known of a request while it is being decided.
struct Seen {
    client: Client,
    route: Option<RouteIndex>,
    path: Option<NormalPath>,
    decided_at: Timestamp,
    /// How long the request's own body was waited for.
    waited: Duration,
    shadowed: SmallVec<[Cause; 1]>,
    shared: u32,
}

impl Gateway {
    /// How many refusals a second are worth a line each.
    const REFUSAL_LINES_A_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
    const FAILURE_LINES_A_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

    pub fn new(store: Store, clock: Clock, hasher: KeyHasher, metrics: Metrics) -> Gateway {
        let refusals = RefusalLog::new(Gateway::REFUSAL_LINES_A_SECOND);
        let failures = FailureLog::new(Gateway::FAILURE_LINES_A_SECOND);
        Gateway { store, clock, hasher, metrics, refusals, failures }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether the store answers; one in memory always does.
    pub fn store_is_up(&self) -> bool {
        self.store.is_up()
    }

    /// Looks after the connection to a shared store until it is dropped.
    pub async fn watch_store(&self) {
        self.store.watch().await;
    }

    /// Gives back what spent counters hold.
    pub fn sweep(&self) {
        self.store.sweep(self.clock.now());
    }

    /// Writes the counters down, if they end with this process and anything was counted. Blocks until it is done.
    pub fn save(&self, snapshots: &Snapshots) {
        snapshots.save(&self.store);
    }

    /// Tells the log how many lines it was spared, if any.
    pub fn report_suppressed(&self) {
        let now = self.clock.now();
        self.refusals.report_suppressed(now);
        self.failures.report_suppressed(now);
    }

    /// Notes that a backend gave no answer.
    pub fn backend_failed(&self, upstream: &str, reason: &str) {
        self.failures.failed(upstream, reason, self.clock.now());
    }

    /// Brings the gauges up to date, before a scrape.
    pub fn refresh_gauges(&self) {
        let size = self.store.size(self.clock.now());
        self.metrics.set_store(StoreGauges {
            keys: size.keys,
            keys_max: size.keys_max,
            overflow_keys: size.shared,
            blocks: size.blocks,
        });
    }

    /// Decides one request: charges all of its limits, or none.
    pub async fn admit(&self, policies: &Policies, exchange: &mut impl Exchange) -> Admission {
        let (watch, decided_at) = self.clock.read();
        let head = exchange.head();
        let mut seen = Seen {
            client: policies.rules.client.identify(head.peer, head.headers),
            route: None,
            path: None,
            decided_at,
            waited: Duration::ZERO,
            shadowed: SmallVec::new(),
            shared: 0,
        };
        let outcome = self.decide(policies, exchange, &mut seen).await;
        self.metrics.decided(watch.elapsed().saturating_sub(seen.waited));
        self.record(policies, &seen, &outcome, exchange.head());
        let Seen { client, route, path, decided_at, .. } = seen;
        Admission { client, route, path, decided_at, outcome }
    }

    async fn decide(
        &self,
        policies: &Policies,
        exchange: &mut impl Exchange,
        seen: &mut Seen,
    ) -> Result<Permit, Refusal> {
        let rules = &policies.rules;
        let head = exchange.head();
        let standing = rules.access.standing(seen.client.address);
        if standing == Standing::Denied {
            return Err(Refusal::Denied);
        }
        // Pingora refuses it, but not in lower case.
        if *head.method == Method::CONNECT {
            return Err(Refusal::Malformed { detail: "CONNECT is not supported.".into() });
        }
        seen.path = Some(NormalPath::parse(head.path)?);
        let path = seen.path.as_ref().ok_or(Refusal::NoRoute)?;
        let preflight = preflight_method(&head);
        let method = preflight.as_ref().unwrap_or(head.method);
        let index = rules.table().find(|| head.host(), method, path).ok_or(Refusal::NoRoute)?;
        seen.route = Some(index);
        let route = rules.route(index);
        if let Some(byte) = path.risky().iter().find(|&byte| !route.allowed_risky().contains(byte)) {
            return Err(Refusal::risky_path(byte));
        }
        if standing == Standing::Allowed || preflight.is_some() {
            return Ok(Permit::exempt());
        }
        let user = if route.needs_user() {
            policies.users.identify(head.headers, seen.client.peer_is_trusted, seen.decided_at)
        } else {
            None
        };
        let user = user.as_ref().map(|user| user.as_bytes());
        let mut plan = Plan::without_body(route, &facts(head, seen, path, user), &self.hasher)?;
        if !route.body_fields().is_empty() {
            // The cheap no: who is refused by what the head tells need not have the body read.
            let looked = self.store.peek(&plan.charges(route), seen.decided_at).await;
            conclude(route, plan.limits(), &looked, seen.decided_at).outcome?;
            let watch = self.clock.stopwatch();
            let fields = read_body_fields(route, exchange).await?;
            seen.waited = watch.elapsed();
            seen.decided_at = self.clock.now();
            reject::judge(route.rejects(), &fields)?;
            plan.add_body(route, &facts(exchange.head(), seen, path, user), &fields, &self.hasher)?;
        }
        let tallies = self.store.take(&plan.charges(route), seen.decided_at).await;
        let conclusion = conclude(route, plan.limits(), &tallies, seen.decided_at);
        seen.shadowed = conclusion.shadowed;
        seen.shared = tallies.shared;
        Ok(conclusion.outcome?)
    }

    /// Counts what became of a request, and writes the one line of a refusal.
    fn record(&self, policies: &Policies, seen: &Seen, outcome: &Result<Permit, Refusal>, head: Head<'_>) {
        let handles = policies.handles(seen.route);
        for _ in 0..seen.shared {
            self.metrics.overflowed();
        }
        for &cause in &seen.shadowed {
            handles.count_cause(cause, Mode::Shadow);
        }
        let refusal = match outcome {
            Ok(permit) => {
                return handles.count(match permit.grounds() {
                    Grounds::Charged => Verdict::Admitted,
                    Grounds::Exempt => Verdict::Exempt,
                });
            }
            Err(refusal) => refusal,
        };
        let verdict = verdict_of(refusal);
        handles.count(verdict);
        let mut line = RefusalLine {
            route: handles.name(),
            verdict,
            status: refusal.status().as_u16(),
            policy: None,
            key: None,
            window: None,
            rule: None,
            retry_after_s: None,
            client: seen.client.address,
            method: head.method.as_str(),
            path: head.path,
        };
        let labels = match refusal {
            Refusal::Limited(limited) => {
                limited.all.iter().for_each(|&cause| handles.count_cause(cause, Mode::Enforce));
                line.retry_after_s = Some(seen.decided_at.until(limited.retry_at).ceil_secs());
                handles.labels(limited.cause)
            }
            Refusal::Rejected { rule, .. } => handles.reject_labels(*rule),
            Refusal::Malformed { .. }
            | Refusal::UriTooLong
            | Refusal::Denied
            | Refusal::NoRoute
            | Refusal::BodyTimedOut
            | Refusal::BodyTooLarge
            | Refusal::Unsupported { .. }
            | Refusal::StoreAway { .. }
            | Refusal::ClientGone => CauseLabels::default(),
        };
        (line.policy, line.key, line.window, line.rule) =
            (labels.policy, labels.key, labels.window, labels.rule);
        self.refusals.refused(&line, seen.decided_at);
    }
}

fn facts<'a>(head: Head<'a>, seen: &'a Seen, path: &'a NormalPath, user: Option<&'a [u8]>) -> Facts<'a> {
    Facts { client: &seen.client, user, headers: head.headers, path, query: head.query }
}

/// The method that a CORS preflight asks about; none if the request is not one.
fn preflight_method(head: &Head<'_>) -> Option<Method> {
    if *head.method != Method::OPTIONS || !head.headers.contains_key(ORIGIN) {
        return None;
    }
    let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

async fn read_body_fields(route: &Route, exchange: &mut impl Exchange) -> Result<Fields, Refusal> {
    if !exchange.has_body() {
        return Ok(Fields::default());
    }
    let media = Media::of(exchange.head().headers)?;
    let body = exchange.read_body().await?;
    let wanted: SmallVec<[&FieldPath; 4]> = route.body_fields().iter().collect();
    Ok(read_fields(&media, &body, &wanted)?)
}

impl From<BodyUnread> for Refusal {
    fn from(unread: BodyUnread) -> Refusal {
        match unread {
            BodyUnread::TooLarge => Refusal::BodyTooLarge,
            BodyUnread::TimedOut => Refusal::BodyTimedOut,
            BodyUnread::ClientGone => Refusal::ClientGone,
        }
    }
}

fn verdict_of(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::Malformed { .. } | Refusal::UriTooLong => Verdict::Malformed,
        Refusal::Denied => Verdict::Denied,
        Refusal::NoRoute => Verdict::NoRoute,
        Refusal::Rejected { .. } => Verdict::Rejected,
        Refusal::StoreAway { .. } => Verdict::StoreAway,
        Refusal::BodyTimedOut | Refusal::BodyTooLarge | Refusal::Unsupported { .. } | Refusal::ClientGone => {
            Verdict::BodyRefused
        }
        Refusal::Limited(limited) => match limited.cause {
            Cause::Window(_) => Verdict::Limited,
            Cause::Block { .. } => Verdict::Blocked,
        },
    }
}
