//! The only reader of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::decision::time::{Span, Timestamp};

/// Where the gateway reads the time from: the machine, or a test's hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Wall time read once, carried on by the monotonic clock: a step of the wall clock
    /// can neither open a window nor hold one shut.
    System {
        anchor: Instant,
        anchor_us: u64,
    },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock, anchored to the wall time of this call.
    pub fn system() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock(Source::System {
            anchor: Instant::now(),
            anchor_us: u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX),
        })
    }

    /// A clock that stands still until its [`ManualClock`] is turned.
    pub fn manual(start: Timestamp) -> (Clock, ManualClock) {
        let now_us = Arc::new(AtomicU64::new(start.as_micros()));
        (Clock(Source::Manual(Arc::clone(&now_us))), ManualClock(now_us))
    }

    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// The time now. Never runs backwards within a process.
    pub fn now(&self) -> Timestamp {
        self.read().1
    }

    /// A stopwatch started now and the time now, by one look at the machine's clock.
    pub fn read(&self) -> (Stopwatch, Timestamp) {
        let instant = Instant::now();
        let now = match &self.0 {
            Source::System { anchor, anchor_us } => {
                let elapsed = u64::try_from(instant.duration_since(*anchor).as_micros()).unwrap_or(u64::MAX);
                Timestamp::from_micros(anchor_us.saturating_add(elapsed))
            }
            Source::Manual(now_us) => Timestamp::from_micros(now_us.load(Ordering::Acquire)),
        };
        (Stopwatch(instant), now)
    }
}

/// Measures how long something took. It runs by the machine's clock even where the time of day
/// is turned by hand: it decides nothing.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// From the start of this one to the start of a later one.
    pub fn until(&self, later: Stopwatch) -> Duration {
        later.0.duration_since(self.0)
    }
}

/// The hand that turns a manual [`Clock`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Span) {
        self.0.fetch_add(by.as_millis().saturating_mul(1000), Ordering::AcqRel);
    }
}
