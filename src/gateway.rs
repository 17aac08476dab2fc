//! The shell around the decision: all control flow of a request stands in [`Gateway::admit`].

mod answer;
mod attempt;
mod codes;
mod events;
mod exchange;
mod explain;
mod guard;
mod inspect;
mod memo;
mod mirror;
mod operator;
mod policies;
mod record;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use ring::rand::SystemRandom;
use smallvec::SmallVec;

pub use self::answer::AnswerWatch;
pub use self::attempt::Attempt;
pub use self::exchange::{BodyUnread, Exchange, Head};
pub use self::explain::{Counted, Explained, UserSeen};
pub use self::inspect::{Asked, KeyState, Question, WindowState};
pub use self::memo::note_of;
pub use self::mirror::MirrorSpec;
pub use self::operator::{BlockOrder, OrderFault};
pub use self::policies::Policies;

use self::attempt::{Holding, Sender};
use self::events::{Flush, Repeats};

use crate::clock::{Clock, Stopwatch};
use crate::decision::body::{Fields, Media, read_fields};
use crate::decision::client::Client;
use crate::decision::key::{FieldPath, KeyHasher};
use crate::decision::otp::OtpRoute;
use crate::decision::path::NormalPath;
use crate::decision::plan::{Facts, Plan};
use crate::decision::policy::{Route, Standing, Target};
use crate::decision::refusal::Refusal;
use crate::decision::reject;
use crate::decision::route::RouteIndex;
use crate::decision::tally::Tallies;
use crate::decision::time::Timestamp;
use crate::decision::verdict::{Began, Cause, Permit, conclude};
use crate::identity::UserId;
use crate::journal::{Event, EventKind, Journal};
use crate::otp::Task;
use crate::store::snapshot::Snapshots;
use crate::store::{Availability, Store};
use crate::telemetry::{BlockLog, FailureLog, Metrics, RefusalLog, StoreGauges, Verdict};

/// Decides every request. Lives as long as the process; the policies come and go.
pub struct Gateway {
    store: Arc<Store>,
    clock: Clock,
    hasher: KeyHasher,
    metrics: Metrics,
    journal: Journal,
    repeats: Repeats,
    random: SystemRandom,
    refusals: RefusalLog,
    failures: FailureLog,
    blocks: BlockLog,
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
    /// What is to be settled once the backend has answered. Few requests reserve anything.
    pub attempt: Option<Box<Attempt>>,
    /// What the gateway is to do itself, on a route of one-time codes.
    pub task: Option<Task>,
    pub verdict: Verdict,
    /// The limits of the route that it was charged with, or would have been.
    pub charged: SmallVec<[u8; 8]>,
    pub timing: Timing,
}

/// How long the verdict took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Runs since the head of the request was there.
    pub watch: Stopwatch,
    pub began_at: Timestamp,
    /// Ours up to the verdict, store included.
    pub decision: Duration,
    /// Waiting for the client's body.
    pub body_wait: Duration,
}

/// Where a request belongs.
enum Place<'p> {
    /// No limit is asked.
    Exempt,
    Codes(OtpRoute, Standing),
    Limits(RouteIndex, &'p Route),
}

/// What is known of a request while it is being decided.
struct Seen {
    client: Client,
    route: Option<RouteIndex>,
    path: Option<NormalPath>,
    decided_at: Timestamp,
    /// How long the request's own body was waited for.
    waited: Duration,
    user: Option<UserId>,
    fields: Option<Fields>,
    plan: Plan,
    shadowed: SmallVec<[Cause; 1]>,
    began: SmallVec<[Began; 1]>,
    attempt: Option<Box<Attempt>>,
    shared: u32,
    /// Of routes of one-time codes: what is asked for, and where the code goes.
    task: Option<Task>,
    destination: Option<Box<str>>,
}

impl Gateway {
    /// How many refusals a second are worth a line each.
    const REFUSAL_LINES_A_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
    const FAILURE_LINES_A_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
    const BLOCK_LINES_A_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();

    /// The blocks that the journal holds are in force from the first request on.
    pub fn new(
        store: impl Into<Arc<Store>>,
        clock: Clock,
        hasher: KeyHasher,
        metrics: Metrics,
        journal: Journal,
    ) -> Gateway {
        let store = store.into();
        let refusals = RefusalLog::new(Gateway::REFUSAL_LINES_A_SECOND);
        let failures = FailureLog::new(Gateway::FAILURE_LINES_A_SECOND);
        let blocks = BlockLog::new(Gateway::BLOCK_LINES_A_SECOND);
        let (repeats, random) = (Repeats::new(), SystemRandom::new());
        for record in journal.book().remembered() {
            store.hold(record.key, record.block, clock.now());
        }
        Gateway { store, clock, hasher, metrics, journal, repeats, random, refusals, failures, blocks }
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
        let note = |availability: Availability| {
            let kind = match availability {
                Availability::Up => EventKind::StoreUp,
                Availability::Partly | Availability::Away => EventKind::StoreDown,
            };
            self.journal.note(Event::new(kind, self.clock.now()));
        };
        self.store.watch(&note).await;
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Gives back what spent counters hold.
    pub fn sweep(&self) {
        self.store.sweep(self.clock.now());
    }

    /// Writes the counters down, if they end with this process and anything was counted. Blocks until it is done.
    pub fn save(&self, snapshots: &Snapshots) {
        snapshots.save(&self.store);
    }

    /// Cleans up what the journal need not keep any more.
    pub fn tidy_journal(&self) {
        self.journal.tidy(self.clock.now());
    }

    /// Hands the journal what was only counted so far, and waits until all of it is on disk.
    pub async fn close(&self) {
        self.repeats.flush(&self.journal, Flush::All, self.clock.now());
        self.journal.close().await;
    }

    /// Tells the log how many lines it was spared, if any.
    pub fn report_suppressed(&self) {
        let now = self.clock.now();
        self.refusals.report_suppressed(now);
        self.failures.report_suppressed(now);
        self.blocks.report_suppressed(now);
        self.repeats.flush(&self.journal, Flush::Old, now);
    }

    /// Notes that a backend gave no answer to the request of this id.
    pub fn backend_failed(&self, upstream: &str, reason: &str, request_id: Option<&str>) {
        self.failures.failed(upstream, reason, request_id, self.clock.now());
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
        self.journal.refresh(self.clock.now());
    }

    /// Decides one request: charges all of its limits, or none.
    pub async fn admit(&self, policies: &Policies, exchange: &mut impl Exchange) -> Admission {
        let (watch, began_at) = self.clock.read();
        let mut seen = Seen::of(policies, exchange.head(), began_at);
        let outcome = self.decide(policies, exchange, &mut seen).await;
        self.concede(policies, exchange, seen, outcome, (watch, began_at)).await
    }

    /// Does what follows from a decision.
    async fn concede(
        &self,
        policies: &Policies,
        exchange: &impl Exchange,
        seen: Seen,
        mut outcome: Result<Permit, Refusal>,
        (watch, began_at): (Stopwatch, Timestamp),
    ) -> Admission {
        let decision = watch.elapsed().saturating_sub(seen.waited);
        self.metrics.decided(decision);
        let verdict = self.record(policies, &seen, &outcome, exchange.head());
        if seen.has_consequences(policies, &outcome) || self.prolonged(policies, &seen, &outcome).is_some() {
            // Boxed like all that few requests await: a future is as large as the largest that it awaits, and
            // Pingora moves those of its hooks for every request.
            let told = Box::pin(self.consequences(policies, &seen, &outcome, exchange.head()));
            let banned_until = told.await;
            if let (Err(Refusal::Limited(limited)), Some(until)) = (&mut outcome, banned_until) {
                // Who comes back when it was told to must not find itself banned.
                limited.retry_at = limited.retry_at.max(until);
            }
        }
        let Seen { client, route, path, decided_at, attempt, task, plan, waited: body_wait, .. } = seen;
        let timing = Timing { watch, began_at, decision, body_wait };
        let charged = plan.into_limits();
        Admission { client, route, path, decided_at, outcome, attempt, task, verdict, charged, timing }
    }

    async fn decide(
        &self,
        policies: &Policies,
        exchange: &mut impl Exchange,
        seen: &mut Seen,
    ) -> Result<Permit, Refusal> {
        let (index, route) = match self.place(policies, &exchange.head(), seen)? {
            Place::Exempt => return Ok(Permit::exempt()),
            Place::Codes(otp, standing) => {
                return Box::pin(self.decide_codes(policies, otp, standing, exchange, seen)).await;
            }
            Place::Limits(index, route) => (index, route),
        };
        self.plan(policies, route, exchange.head(), seen)?;
        if !route.body_fields().is_empty() {
            Box::pin(self.decide_body(route, exchange, seen)).await?;
        }
        let tallies = self.store.take(&seen.plan.charges(route), seen.decided_at).await;
        let permit = self.concluded(route, &tallies, seen)?;
        if route.failure().is_some() {
            seen.attempt = Some(Box::new(self.attempt(policies, index, seen, &tallies, exchange.head())?));
        }
        Ok(permit)
    }

    /// By which rules a request is decided.
    fn place<'p>(
        &self,
        policies: &'p Policies,
        head: &Head<'_>,
        seen: &mut Seen,
    ) -> Result<Place<'p>, Refusal> {
        let rules = &policies.rules;
        let standing = rules.access.standing(seen.client.address);
        if standing == Standing::Denied {
            return Err(Refusal::Denied);
        }
        // No backend is to open a way to elsewhere, or to say back what we told it of the client.
        if matches!(*head.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        let path = seen.path.insert(NormalPath::parse(head.path)?);
        let preflight = preflight_method(head);
        let method = preflight.as_ref().unwrap_or(head.method);
        let index = rules.table().find(|| head.host(), method, path).ok_or(Refusal::NoRoute)?;
        seen.route = Some(index);
        let route = rules.route(index);
        if let Some(byte) = path.risky().iter().find(|&byte| !route.allowed_risky().contains(byte)) {
            return Err(Refusal::risky_path(byte));
        }
        Ok(match route.target() {
            Target::Otp(otp) if preflight.is_none() => Place::Codes(otp, standing),
            Target::Otp(_) => Place::Exempt,
            Target::Upstream(_) if standing == Standing::Allowed || preflight.is_some() => Place::Exempt,
            Target::Upstream(_) => Place::Limits(index, route),
        })
    }

    /// What a request is counted by, as far as its head tells; who is blocked is refused.
    fn plan(
        &self,
        policies: &Policies,
        route: &Route,
        head: Head<'_>,
        seen: &mut Seen,
    ) -> Result<(), Refusal> {
        if policies.needs_user(route) {
            seen.user = policies.users.identify(head.headers, seen.client.peer_is_trusted, seen.decided_at);
        }
        seen.plan = Plan::without_body(route, &seen.facts(head)?, &self.hasher)?;
        self.refuse_blocked(route, &seen.plan, &seen.facts(head)?, None, seen.decided_at)
    }

    /// What the limits say to a request that was charged.
    fn concluded(&self, route: &Route, tallies: &Tallies, seen: &mut Seen) -> Result<Permit, Refusal> {
        let conclusion = conclude(route, seen.plan.limits(), tallies, seen.decided_at);
        (seen.shadowed, seen.began, seen.shared) = (conclusion.shadowed, conclusion.began, tallies.shared);
        Ok(conclusion.outcome?)
    }

    /// What only the body tells: keys to be charged, values that nobody may send.
    async fn decide_body(
        &self,
        route: &Route,
        exchange: &mut impl Exchange,
        seen: &mut Seen,
    ) -> Result<(), Refusal> {
        // The cheap no: who is refused by what the head tells need not have the body read.
        let looked = self.store.peek(&seen.plan.charges(route), seen.decided_at).await;
        let conclusion = conclude(route, seen.plan.limits(), &looked, seen.decided_at);
        seen.began = conclusion.began;
        conclusion.outcome?;
        let watch = self.clock.stopwatch();
        let fields = read_body_fields(route, exchange).await?;
        seen.waited = watch.elapsed();
        seen.decided_at = self.clock.now();
        reject::judge(route.rejects(), &fields)?;
        let fields = seen.fields.insert(fields);
        let facts = Facts {
            client: &seen.client,
            user: seen.user.as_ref().map(UserId::as_bytes),
            client_cert: exchange.head().client_cert,
            headers: exchange.head().headers,
            path: seen.path.as_ref().ok_or(Refusal::NoRoute)?,
            query: exchange.head().query,
            destination: None,
        };
        seen.plan.add_body(route, &facts, fields, &self.hasher)?;
        self.refuse_blocked(route, &seen.plan, &facts, Some(fields), seen.decided_at)
    }

    /// What an admitted request reserved, until its answer tells.
    fn attempt(
        &self,
        policies: &Policies,
        index: RouteIndex,
        seen: &Seen,
        tallies: &Tallies,
        head: Head<'_>,
    ) -> Result<Attempt, Refusal> {
        let (route, facts, fields) = (policies.rules.route(index), seen.facts(head)?, seen.fields.as_ref());
        let charged = seen.plan.limits().iter().zip(seen.plan.charges(route)).zip(&tallies.list);
        let holdings = charged.filter_map(|((&limit, charge), tally)| {
            let identity = Plan::identity(limit, route, &facts, fields);
            Some(Holding { limit, key: charge.key, held: tally.held?, identity })
        });
        Ok(Attempt {
            route: index,
            holdings: holdings.collect(),
            suspects: self.suspects(policies, route, &facts, fields),
            sender: Sender::of(seen.client.address, &head),
        })
    }
}

impl Seen {
    /// What is known before anything is decided.
    fn of(policies: &Policies, head: Head<'_>, decided_at: Timestamp) -> Seen {
        Seen {
            client: policies.rules.client.identify(head.peer, head.headers),
            route: None,
            path: None,
            decided_at,
            waited: Duration::ZERO,
            user: None,
            fields: None,
            plan: Plan::default(),
            shadowed: SmallVec::new(),
            began: SmallVec::new(),
            attempt: None,
            shared: 0,
            task: None,
            destination: None,
        }
    }

    fn facts<'a>(&'a self, head: Head<'a>) -> Result<Facts<'a>, Refusal> {
        Ok(Facts {
            client: &self.client,
            user: self.user.as_ref().map(UserId::as_bytes),
            client_cert: head.client_cert,
            headers: head.headers,
            // Every request with a route has one.
            path: self.path.as_ref().ok_or(Refusal::NoRoute)?,
            query: head.query,
            destination: self.destination.as_deref(),
        })
    }
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

#[cfg(test)]
mod tests;
