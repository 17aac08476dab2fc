//! A store that several gateways share, with what a node needs to do without it for a while:
//! a deadline, a breaker, what the node knows already, and what each limit says then.

mod attempts;
mod breaker;
mod codes;
mod deny;
mod exchange;
mod watch;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};
use tokio::sync::Notify;
use tokio::time::timeout;

use self::breaker::{Breaker, Tripped};
use self::deny::{Asker, DenyCache};
use super::memory::MemoryStore;
use super::remote::call::{Answer, Call};
use super::remote::{Lane, Remote, StoreError};
use super::script::{self, Outcome, Settled, Taken};
use super::spec::{Place, RedisPlace, SharedSpec};
use crate::clock::Clock;
use crate::decision::key::{KeyHash, KeyHasher};
use crate::decision::limit::{Mode, OnStoreError};
use crate::decision::tally::{Charge, Held, Judgement, Tallies, Tally};
use crate::decision::time::{Span, Timestamp};
use crate::telemetry::StoreMetrics;

/// Whose clock the shared counters go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptTime {
    /// The server's own, so that the clocks of the gateways do not matter.
    Server,
    /// What each call says: for tests that turn the time by hand.
    Caller,
}

/// The shared store as one node sees it.
pub(super) struct SharedStore {
    remote: Remote,
    /// Names of keys begin with it: the operator's prefix and the version of their format.
    name_prefix: Box<str>,
    timeout: Duration,
    time: ScriptTime,
    clock: Clock,
    breakers: Box<[Breaker]>,
    tripped: Notify,
    denied: DenyCache,
    /// What this node knows of its keys, by the store's clock: what goes on while the store is away.
    local: MemoryStore,
    /// Whoever knows what names are hashed under must not be able to aim at a part of our table.
    rekey: KeyHasher,
    /// How far the store's clock is ahead of ours, as last seen, microseconds.
    ahead_us: AtomicI64,
    metrics: StoreMetrics,
}

/// The charges of a request that one call can make, by their numbers.
struct Group {
    lane: Lane,
    members: SmallVec<[usize; 4]>,
    /// Of the keys; gone once they are asked.
    names: SmallVec<[String; 2]>,
}

/// The version of names and of what stands under them: gateways of two versions keep apart.
const FORMAT: &str = "1:";
/// A client is asked to come back when a store that is away may have been found again.
const AWAY_RETRY: Span = Span::from_secs(2);

impl SharedStore {
    pub(super) fn new(
        spec: &SharedSpec,
        local: MemoryStore,
        rekey: KeyHasher,
        metrics: StoreMetrics,
        clock: Clock,
        time: ScriptTime,
    ) -> SharedStore {
        let SharedSpec { place, prefix, timeout, secret: _ } = spec;
        let remote = Remote::of(place, prefix, *timeout);
        let lanes = usize::from(remote.lanes());
        metrics.set_open(0, lanes);
        SharedStore {
            remote,
            name_prefix: format!("{prefix}{FORMAT}").into(),
            timeout: *timeout,
            time,
            clock,
            breakers: (0..lanes).map(|_| Breaker::default()).collect(),
            tripped: Notify::new(),
            denied: DenyCache::new(),
            local,
            rekey,
            ahead_us: AtomicI64::new(0),
            metrics,
        }
    }

    /// See [`super::Store::take`].
    pub(super) async fn take(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        if charges.is_empty() {
            return Tallies::default();
        }
        if let Some(refused) = self.refused_in_node(charges, now, Asker::Taker) {
            return refused;
        }
        let mut groups = self.groups(charges);
        let charge = |group| self.charge(charges, group, now);
        let taken: SmallVec<[Result<Taken, StoreError>; 2]> = match groups.as_mut_slice() {
            // Nothing to wait for others with.
            [only] => smallvec![charge(only).await],
            several => join_all(several.iter_mut().map(charge)).await.into(),
        };
        self.settle(charges, &groups, &taken, now).await
    }

    /// What this node knows without asking. See [`super::Store::peek`].
    pub(super) fn peek(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        if let Some(refused) = self.refused_in_node(charges, now, Asker::Looker) {
            return refused;
        }
        if self.open_lanes() == 0 {
            return unasked(charges);
        }
        let goes_on_here = |charge: &Charge<'_>| {
            charge.limit.on_store_error == OnStoreError::Local
                && self.breaker(self.remote.lane(&self.name(charge.key))).is_open()
        };
        let away: SmallVec<[usize; 4]> =
            (0..charges.len()).filter(|&index| charges.get(index).is_some_and(goes_on_here)).collect();
        let mut tallies = unasked(charges);
        let locals = self.locally(&pick(charges, &away), now, MemoryStore::peek);
        put(&mut tallies, &away, locals);
        tallies
    }

    /// What this node last learnt of these keys. See [`super::Store::look`].
    pub(super) fn look(&self, charges: &[Charge<'_>], now: Timestamp) -> Tallies {
        Tallies { list: self.locally(charges, now, MemoryStore::peek), shared: 0 }
    }

    /// The refusal of a request of whose keys one is known to be refused. All that it tells comes
    /// from what this node knows, so that the time to wait is that of all its keys.
    fn refused_in_node(&self, charges: &[Charge<'_>], now: Timestamp, asker: Asker) -> Option<Tallies> {
        let known = self.denied.refuses(charges, now, asker)?;
        let mut tallies = Tallies { list: self.locally(charges, now, MemoryStore::peek), shared: 0 };
        for ((charge, place), known) in charges.iter().zip(&mut tallies.list).zip(known) {
            match known {
                // A table without room for the key knows nothing of it.
                Some(denied) if place.judgement == Judgement::Admits => *place = denied,
                Some(_) => {}
                // This request starts a block. Every node must learn of it, so the store has to.
                None if charge.limit.block.is_some() && place.judgement != Judgement::Admits => return None,
                None => {}
            }
        }
        self.metrics.refused_in_node();
        Some(tallies)
    }

    pub(super) fn local(&self) -> &MemoryStore {
        &self.local
    }

    /// The time that the node's own counters go by.
    pub(super) fn store_time(&self, now: Timestamp) -> Timestamp {
        shift(now, self.ahead_us.load(Ordering::Acquire))
    }

    /// Whether any part of the store answers, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.open_lanes() < self.breakers.len()
    }

    fn open_lanes(&self) -> usize {
        self.breakers.iter().filter(|breaker| breaker.is_open()).count()
    }

    fn breaker(&self, lane: Lane) -> &Breaker {
        // There is a breaker for every lane that the remote names.
        &self.breakers[usize::from(lane.0) % self.breakers.len()]
    }

    /// `tg:1:` and 22 letters: a keyed hash, from which nobody reads what was counted.
    fn name(&self, key: KeyHash) -> String {
        let mut name = String::with_capacity(self.name_prefix.len() + 22);
        name.push_str(&self.name_prefix);
        URL_SAFE_NO_PAD.encode_string(key.as_u128().to_be_bytes(), &mut name);
        name
    }

    fn groups(&self, charges: &[Charge<'_>]) -> SmallVec<[Group; 2]> {
        let mut groups: SmallVec<[Group; 2]> = SmallVec::new();
        for (index, charge) in charges.iter().enumerate() {
            let name = self.name(charge.key);
            let together = |group: &&mut Group| {
                group.names.first().is_some_and(|first| self.remote.share_a_call(first, &name))
            };
            match groups.iter_mut().find(together) {
                Some(group) => {
                    group.members.push(index);
                    group.names.push(name);
                }
                None => {
                    let (lane, members) = (self.remote.lane(&name), SmallVec::from_slice(&[index]));
                    groups.push(Group { lane, members, names: smallvec![name] });
                }
            }
        }
        groups
    }

    async fn charge(
        &self,
        charges: &[Charge<'_>],
        group: &mut Group,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let charges = pick(charges, &group.members);
        let names = std::mem::take(&mut group.names).into_iter();
        let answer = self.call(group.lane, script::take(&charges, names, self.time_of(now))).await?;
        Taken::read(&answer, &charges).inspect_err(|error| self.failed(group.lane, error))
    }

    /// What a script is told of the time.
    fn time_of(&self, now: Timestamp) -> Option<Timestamp> {
        match self.time {
            ScriptTime::Server => None,
            ScriptTime::Caller => Some(now),
        }
    }

    /// One call, if its part of the store is not known to be away; never longer than the deadline.
    async fn call(&self, lane: Lane, call: Call) -> Result<Answer, StoreError> {
        let breaker = self.breaker(lane);
        if breaker.is_open() {
            return Err(breaker.why().unwrap_or(StoreError::Timeout));
        }
        self.call_within(self.timeout, lane, call).await
    }

    /// One call, whatever is known of the store.
    async fn call_within(&self, time: Duration, lane: Lane, call: Call) -> Result<Answer, StoreError> {
        let watch = self.clock.stopwatch();
        let answer = timeout(time, self.remote.run(call)).await;
        self.metrics.called(watch.elapsed());
        let answer = answer.unwrap_or(Err(StoreError::Timeout));
        match &answer {
            Ok(_) => self.breaker(lane).succeeded(self.clock.now()),
            Err(error) => self.failed(lane, error),
        }
        answer
    }

    fn failed(&self, lane: Lane, error: &StoreError) {
        self.metrics.failed(error.kind());
        if self.breaker(lane).failed(error, self.clock.now()) == Tripped::Now {
            self.metrics.set_open(self.open_lanes(), self.breakers.len());
            self.tripped.notify_one();
        }
    }

    /// From what each part of the store said to what the request is told: all charged, or none.
    async fn settle(
        &self,
        charges: &[Charge<'_>],
        groups: &[Group],
        taken: &[Result<Taken, StoreError>],
        now: Timestamp,
    ) -> Tallies {
        let mut tallies = unasked(charges);
        let mut away: SmallVec<[usize; 4]> = SmallVec::new();
        let mut admitted = true;
        for (group, taken) in groups.iter().zip(taken) {
            match taken {
                Ok(taken) => admitted &= taken.charged,
                Err(_) => away.extend(group.members.iter().copied()),
            }
        }
        if !away.is_empty() {
            let fallen = self.fall_back(&pick(charges, &away), admitted, now);
            let enforced = pick(charges, &away);
            admitted &= enforced.iter().zip(&fallen.list).all(|(charge, tally)| {
                charge.limit.mode == Mode::Shadow || tally.judgement == Judgement::Admits
            });
            tallies.shared += fallen.shared;
            put(&mut tallies, &away, fallen.list);
        }
        let settled = if admitted { Settled::Admitted } else { Settled::Refused };
        for (group, taken) in groups.iter().zip(taken) {
            if let Ok(taken) = taken {
                let learnt = self.learn(&pick(charges, &group.members), taken, settled, now);
                put(&mut tallies, &group.members, learnt);
            }
        }
        if settled == Settled::Refused {
            let charged =
                groups.iter().zip(taken).filter_map(|(group, taken)| Some((group, taken.as_ref().ok()?)));
            let made =
                charged.map(|(group, taken)| (group, taken, taken.made(&pick(charges, &group.members))));
            let refunds = made
                .filter(|(_, _, made)| !made.is_empty())
                .map(|(group, taken, made)| self.refund(made, group, taken));
            join_all(refunds).await;
        }
        tallies
    }

    /// Keeps what a call told, and brings its tallies to this node's time.
    ///
    /// The store spoke somewhere between the call and its answer. Whoever asked counts from the
    /// call on, so what is left to wait is as the store said; what is kept for later counts from
    /// the answer on, so that nobody is told to come back too early.
    fn learn(
        &self,
        charges: &[Charge<'_>],
        taken: &Taken,
        settled: Settled,
        now: Timestamp,
    ) -> SmallVec<[Tally; 4]> {
        let arrived = self.arrived(now);
        let (asked_us, kept_us) = (ahead_us(taken.now, now), ahead_us(taken.now, arrived));
        self.ahead_us.store(kept_us, Ordering::Release);
        let outcomes = charges.iter().zip(taken.outcomes(charges, settled));
        let tallies = outcomes.map(|(charge, Outcome { tally, after })| {
            self.local.learn(self.rekey.rekey(charge.key), after.counter, after.block, taken.now);
            let kept = tally.clone().with_times(|at| shift(at, kept_us.saturating_neg()));
            self.denied.note(charge, &kept, arrived);
            tally.with_times(|at| shift(at, asked_us.saturating_neg()))
        });
        tallies.collect()
    }

    /// When the answer to something asked at `asked` is here: now.
    fn arrived(&self, asked: Timestamp) -> Timestamp {
        match self.time {
            ScriptTime::Server => self.clock.now(),
            ScriptTime::Caller => asked,
        }
    }

    /// What each limit wants done without the store. Nothing is charged if the others refused already.
    fn fall_back(&self, charges: &[Charge<'_>], admitted: bool, now: Timestamp) -> Tallies {
        let is_closed = |charge: &Charge<'_>| {
            charge.limit.on_store_error == OnStoreError::Closed && charge.limit.mode == Mode::Enforce
        };
        let charge_local = admitted && !charges.iter().any(is_closed);
        let locals: SmallVec<[usize; 4]> = (0..charges.len())
            .filter(|&index| {
                charges.get(index).is_some_and(|c| c.limit.on_store_error == OnStoreError::Local)
            })
            .collect();
        let mut tallies = Tallies::default();
        for charge in charges {
            self.metrics.fell_back(charge.limit.on_store_error);
            tallies.list.push(match charge.limit.on_store_error {
                OnStoreError::Local | OnStoreError::Open => Tally::unasked(),
                OnStoreError::Closed => {
                    let judgement = Judgement::Undecided { retry_at: now.plus(AWAY_RETRY) };
                    Tally { judgement, ..Tally::unasked() }
                }
            });
        }
        let act = if charge_local { MemoryStore::take } else { MemoryStore::peek };
        let judged = self.locally(&pick(charges, &locals), now, act);
        put(&mut tallies, &locals, judged);
        tallies
    }

    /// Asks this node's own table, which goes by the store's clock.
    fn locally(
        &self,
        charges: &[Charge<'_>],
        now: Timestamp,
        act: fn(&MemoryStore, &[Charge<'_>], Timestamp) -> Tallies,
    ) -> SmallVec<[Tally; 4]> {
        let ahead_us = self.ahead_us.load(Ordering::Acquire);
        let own: SmallVec<[Charge<'_>; 4]> = charges
            .iter()
            .map(|charge| Charge { key: self.rekey.rekey(charge.key), limit: charge.limit })
            .collect();
        let tallies = act(&self.local, &own, shift(now, ahead_us));
        tallies
            .list
            .into_iter()
            .map(|tally| {
                let held = tally.held.map(|(Held::Store(at) | Held::Node(at))| Held::Node(at));
                Tally { held, ..tally.with_times(|at| shift(at, ahead_us.saturating_neg())) }
            })
            .collect()
    }

    async fn refund(&self, charges: SmallVec<[Charge<'_>; 4]>, group: &Group, taken: &Taken) {
        let names = charges.iter().map(|charge| self.name(charge.key));
        // What cannot be given back stays charged: too strict for a while, never too lenient.
        if self.call(group.lane, script::refund(&charges, names, taken)).await.is_ok() {
            self.metrics.refunded();
        }
    }
}

impl Remote {
    fn of(place: &Place, prefix: &str, timeout: Duration) -> Remote {
        use super::redis::{RedisCluster, RedisNode};
        match place {
            Place::Redis(RedisPlace::Single(url)) => {
                Remote::Node(RedisNode::new(url.clone(), prefix, timeout))
            }
            Place::Redis(RedisPlace::Sentinel { master, sentinels, node }) => {
                Remote::Node(RedisNode::by_sentinel(master, sentinels.clone(), node.clone(), prefix, timeout))
            }
            Place::Redis(RedisPlace::Cluster(nodes)) => {
                Remote::Cluster(RedisCluster::new(nodes.clone(), prefix, timeout))
            }
            Place::Upstash { url, token } => {
                Remote::Upstash(super::upstash::Upstash::new(url.clone(), token.clone(), prefix, timeout))
            }
        }
    }
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").field("remote", &self.remote).finish_non_exhaustive()
    }
}

fn unasked(charges: &[Charge<'_>]) -> Tallies {
    Tallies { list: charges.iter().map(|_| Tally::unasked()).collect(), shared: 0 }
}

fn pick<'c>(charges: &[Charge<'c>], members: &[usize]) -> SmallVec<[Charge<'c>; 4]> {
    members.iter().filter_map(|&index| charges.get(index).copied()).collect()
}

fn put(tallies: &mut Tallies, members: &[usize], list: impl IntoIterator<Item = Tally>) {
    for (&index, tally) in members.iter().zip(list) {
        if let Some(place) = tallies.list.get_mut(index) {
            *place = tally;
        }
    }
}

/// How far `theirs` is ahead of `ours`, microseconds.
fn ahead_us(theirs: Timestamp, ours: Timestamp) -> i64 {
    theirs.as_micros().wrapping_sub(ours.as_micros()).cast_signed()
}

fn shift(at: Timestamp, by_us: i64) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_add_signed(by_us))
}
