//! How many log lines an attack may cost.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::decision::time::{Span, Timestamp};

/// How often suppressed lines are told of, at most.
const SUMMARY_EVERY: Span = Span::from_secs(1);
const SECOND_NS: u64 = 1_000_000_000;

/// Lets through at most so many lines in any second, and counts the others.
pub(super) struct LineBudget {
    limiter: RateLimiter<NotKeyed, InMemoryState, ToldClock, NoOpMiddleware<Duration>>,
    clock: ToldClock,
    suppressed: AtomicU64,
    summary_due_us: AtomicU64,
}

impl LineBudget {
    pub(super) fn new(lines_per_second: NonZeroU32) -> LineBudget {
        let clock = ToldClock(Arc::new(AtomicU64::new(0)));
        LineBudget {
            limiter: RateLimiter::direct_with_clock(quota(lines_per_second), clock.clone()),
            clock,
            suppressed: AtomicU64::new(0),
            summary_due_us: AtomicU64::new(0),
        }
    }

    /// Whether one more line may be written; if not, it counts as suppressed.
    pub(super) fn admit(&self, now: Timestamp) -> bool {
        self.clock.tell(now);
        if self.limiter.check().is_ok() {
            return true;
        }
        if self.suppressed.fetch_add(1, Ordering::AcqRel) == 0 {
            self.summary_due_us.fetch_max(now.plus(SUMMARY_EVERY).as_micros(), Ordering::AcqRel);
        }
        false
    }

    /// How many lines were suppressed since this was last told: a second after the first of them
    /// at the earliest, and at most once a second.
    pub(super) fn take_suppressed(&self, now: Timestamp) -> Option<NonZeroU64> {
        if self.suppressed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let due_us = self.summary_due_us.load(Ordering::Acquire);
        if now.as_micros() < due_us {
            return None;
        }
        let next_us = now.plus(SUMMARY_EVERY).as_micros();
        let ours = self.summary_due_us.compare_exchange(due_us, next_us, Ordering::AcqRel, Ordering::Acquire);
        ours.ok().and_then(|_| NonZeroU64::new(self.suppressed.swap(0, Ordering::AcqRel)))
    }
}

/// The longest beginning of `text` that fits into so many bytes and ends with a whole character.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=bytes_max.min(text.len())).rev().find(fits).unwrap_or(0);
    &text[..end]
}

/// A quarter may come at once, and the rest is spread, such that burst and refill together never
/// make more than `per_second` in any second.
fn quota(per_second: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(per_second.get() / 4).unwrap_or(NonZeroU32::MIN);
    let refill = u64::from(per_second.get() - burst.get()) + 1;
    let interval = Duration::from_nanos(SECOND_NS.div_ceil(refill));
    let paced = Quota::with_period(interval).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    paced.allow_burst(burst)
}

/// The latest time that callers told.
#[derive(Clone)]
struct ToldClock(Arc<AtomicU64>);

impl ToldClock {
    /// Later times than this, microseconds, are past what `governor` can add to.
    const LATEST_US: u64 = u64::MAX / 4000;

    fn tell(&self, now: Timestamp) {
        self.0.fetch_max(now.as_micros().min(ToldClock::LATEST_US), Ordering::AcqRel);
    }
}

impl Clock for ToldClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn budget(lines_per_second: u32) -> LineBudget {
        LineBudget::new(NonZeroU32::new(lines_per_second).unwrap())
    }

    fn at(ms: u64) -> Timestamp {
        START.plus(Span::from_millis(ms))
    }

    #[test]
    fn no_second_has_more_lines_than_allowed_and_most_seconds_nearly_as_many() {
        for allowed in [1, 2, 3, 4, 7, 10, 100, 999] {
            let budget = budget(allowed);
            let admitted: Vec<u64> = (0..5000).filter(|&ms| budget.admit(at(ms))).collect();
            for &from in &admitted {
                let in_second = admitted.iter().filter(|&&ms| (from..from + 1000).contains(&ms)).count();
                assert!(in_second <= allowed as usize, "{in_second} lines from {from} ms, allowed {allowed}");
            }
            assert!(admitted.len() as u32 >= 5 * allowed / 2, "{} of {allowed}/s", admitted.len());
        }
    }

    #[test]
    fn what_was_suppressed_is_told_once_a_second_and_adds_up() {
        let budget = budget(10);
        let (mut told, mut admitted) = (Vec::new(), 0);
        for ms in 0..10_000 {
            if let Some(count) = budget.take_suppressed(at(ms)) {
                told.push((ms, count.get()));
            }
            admitted += u64::from(budget.admit(at(ms)));
        }
        let rest = budget.take_suppressed(at(20_000)).unwrap().get();
        assert_eq!(admitted + told.iter().map(|(_, count)| count).sum::<u64>() + rest, 10_000);
        assert!((8..=10).contains(&told.len()), "{told:?}");
        assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 1000), "{told:?}");
    }

    #[test]
    fn nothing_suppressed_is_nothing_told() {
        let budget = budget(10);
        assert!(budget.admit(at(0)));
        assert_eq!(budget.take_suppressed(at(5000)), None);
    }

    #[test]
    fn no_time_breaks_it() {
        let budget = budget(10);
        for us in [0, 1, u64::MAX, u64::MAX / 4000, 0] {
            budget.admit(Timestamp::from_micros(us));
            budget.take_suppressed(Timestamp::from_micros(us));
        }
    }
}
