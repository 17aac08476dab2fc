//! Pacing by GCRA, with the arithmetic of the `governor` crate over a state store of our own.
//!
//! The store hands the old state in and keeps the new one as a proposal, so that a charge can be
//! judged first and made later, together with all the others of its request.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use smallvec::smallvec;

use crate::decision::limit::Smooth;
use crate::decision::tally::{Judgement, Tally, WindowTally};
use crate::decision::time::Timestamp;

/// What a charge of `cost` would find, given the stored theoretical arrival time.
pub(super) fn tally(quota: &Smooth, arrival_ns: Option<u64>, cost: u32, now: Timestamp) -> Tally {
    let now_ns = nanos(now);
    let one_ns = quota.replenish_one_ns;
    let ahead_ns = arrival_ns.unwrap_or(0).saturating_sub(now_ns);
    let used = u32::try_from(ahead_ns.div_ceil(one_ns)).unwrap_or(u32::MAX).min(quota.burst.get());
    // All of the used quota but the oldest unit returns later than this.
    let frees_at = (used > 0).then(|| {
        let later_units_ns = u64::from(used - 1).saturating_mul(one_ns);
        timestamp(now_ns.saturating_add(ahead_ns.saturating_sub(later_units_ns)))
    });
    let judgement = match decide(quota, arrival_ns, cost, now) {
        Ok(_) => Judgement::Admits,
        Err(retry_at) => Judgement::Exceeded { window: 0, retry_at },
    };
    Tally { judgement, windows: smallvec![WindowTally { used, frees_at }], held: None }
}

/// The theoretical arrival time after a charge that [`tally`] admitted.
pub(super) fn charge(quota: &Smooth, arrival_ns: Option<u64>, cost: u32, now: Timestamp) -> u64 {
    match decide(quota, arrival_ns, cost, now) {
        Ok(next_ns) => next_ns,
        Err(_) => arrival_ns.unwrap_or_default(),
    }
}

/// The theoretical arrival time after one more, for whoever keeps the state himself; none if there is no room for one.
pub fn next_arrival(quota: &Smooth, arrival_ns: Option<u64>, now: Timestamp) -> Option<u64> {
    decide(quota, arrival_ns, 1, now).ok()
}

/// The next arrival time, or when to try again.
fn decide(quota: &Smooth, arrival_ns: Option<u64>, cost: u32, now: Timestamp) -> Result<u64, Timestamp> {
    let state = Proposal { old: arrival_ns.map(Nanos::from), new: Cell::new(None) };
    let clock = HandClock(Cell::new(Nanos::from(0)));
    let period = Duration::from_nanos(quota.replenish_one_ns.max(1));
    let gcra = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
    // Made at time zero, so that stored arrival times count from the epoch.
    let limiter: RateLimiter<NotKeyed, Proposal, HandClock, NoOpMiddleware<Nanos>> =
        RateLimiter::new(gcra.allow_burst(quota.burst), state, clock);
    limiter.clock().0.set(Nanos::from(nanos(now)));
    let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN);
    match limiter.check_n(cost) {
        Ok(Ok(())) => Ok(limiter.into_state_store().new.get().map_or(0, |next| next.as_u64())),
        Ok(Err(not_until)) => Err(timestamp(not_until.earliest_possible().duration_since(0.into()).as_u64())),
        // A cost above the burst is refused when the configuration is loaded.
        Err(_) => Err(now.plus(quota.refill())),
    }
}

fn nanos(at: Timestamp) -> u64 {
    at.as_micros().saturating_mul(1000)
}

fn timestamp(ns: u64) -> Timestamp {
    Timestamp::from_micros(ns.div_ceil(1000))
}

/// The state of one key, with the change that was not made yet.
struct Proposal {
    old: Option<Nanos>,
    new: Cell<Option<Nanos>>,
}

impl StateStore for Proposal {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = f(self.old)?;
        self.new.set(Some(next));
        Ok(outcome)
    }
}

/// A clock that shows what it was set to.
#[derive(Clone, Debug)]
struct HandClock(Cell<Nanos>);

impl Clock for HandClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}
