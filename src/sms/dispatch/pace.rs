//! How many messages a provider is given in a time.

use std::num::NonZeroU32;

use crate::decision::counter::next_arrival;
use crate::decision::limit::Smooth;
use crate::decision::rolling::Rolling;
use crate::decision::time::{Span, Timestamp};
use crate::sms::spec::Pace;

/// The windows of one provider. A message counts in all of them, or in none.
#[derive(Debug, Default)]
pub(super) struct Paced {
    windows: Vec<Window>,
}

/// At most `max` messages in any time of `span`.
///
/// A bucket that refills (`governor`) holds the rate; by itself it lets nearly twice as many through in a window that
/// begins with a burst. So the window counts as well, in pieces of which the oldest counts whole.
#[derive(Debug)]
struct Window {
    max: NonZeroU32,
    span: Span,
    /// The theoretical arrival time of the bucket, nanoseconds since the epoch.
    arrival_ns: Option<u64>,
    counted: Rolling<u64, { Window::PIECES as usize + 1 }>,
}

impl Paced {
    /// Goes by these windows from now on. Those that stay go on counting.
    pub(super) fn set(&mut self, pace: &Pace) {
        let mut old = std::mem::take(&mut self.windows);
        for &(max, span) in &pace.windows {
            let place = old.iter().position(|window| window.max == max && window.span == span);
            let window = place.map(|place| old.swap_remove(place));
            self.windows.push(window.unwrap_or_else(|| Window::new(max, span)));
        }
    }

    pub(super) fn has_room(&self, now: Timestamp) -> bool {
        self.windows.iter().all(|window| window.next(now).is_some())
    }

    /// Counts a message that there is room for.
    pub(super) fn count(&mut self, now: Timestamp) {
        for window in &mut self.windows {
            if let Some(next_ns) = window.next(now) {
                window.arrival_ns = Some(next_ns);
            }
            if let Some(count) = window.counted.at(now) {
                *count += 1;
            }
        }
    }
}

impl Window {
    const PIECES: u64 = 32;

    fn new(max: NonZeroU32, span: Span) -> Window {
        let piece = Span::from_millis(span.as_millis().div_ceil(Window::PIECES));
        Window { max, span, arrival_ns: None, counted: Rolling::new(piece) }
    }

    /// The arrival time after one more message; none if there is no room for one.
    fn next(&self, now: Timestamp) -> Option<u64> {
        if self.counted.sum(now) >= u64::from(self.max.get()) {
            return None;
        }
        let one_ns = self.span.as_millis().saturating_mul(1_000_000) / u64::from(self.max.get());
        let quota = Smooth { burst: self.max, replenish_one_ns: one_ns.max(1) };
        next_arrival(&quota, self.arrival_ns, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    fn paced(windows: &[(u32, u64)]) -> Paced {
        let window = |&(max, ms): &(u32, u64)| (NonZeroU32::new(max).unwrap(), Span::from_millis(ms));
        let mut paced = Paced::default();
        paced.set(&Pace { windows: windows.iter().map(window).collect() });
        paced
    }

    fn take(paced: &mut Paced, now: Timestamp) -> bool {
        let has_room = paced.has_room(now);
        if has_room {
            paced.count(now);
        }
        has_room
    }

    #[test]
    fn as_many_as_the_window_says_go_at_once_and_then_none() {
        let mut paced = paced(&[(60, 60_000)]);
        assert!((0..60).all(|_| take(&mut paced, at(0))));
        assert!(!take(&mut paced, at(0)));
        assert!(!take(&mut paced, at(59_999)));
        assert!(take(&mut paced, at(63_000)));
    }

    #[test]
    fn what_one_window_refuses_counts_in_none() {
        let mut paced = paced(&[(2, 1000), (3, 3_600_000)]);
        assert!(take(&mut paced, at(0)) && take(&mut paced, at(0)));
        assert!((0..100).all(|_| !take(&mut paced, at(1))));
        assert!(take(&mut paced, at(2000)), "the longer window has counted two");
        assert!(!take(&mut paced, at(4000)), "and now three");
    }

    #[test]
    fn windows_that_stay_go_on_counting() {
        let mut paced = paced(&[(1, 60_000), (5, 3_600_000)]);
        assert!(take(&mut paced, at(0)));
        let window = |max, ms| (NonZeroU32::new(max).unwrap(), Span::from_millis(ms));
        paced.set(&Pace { windows: vec![window(9, 1000), window(1, 60_000)] });
        assert!(!take(&mut paced, at(2000)));
    }

    proptest! {
        #[test]
        fn no_window_ever_has_more(
            max in 1_u32..20,
            span_ms in 100_u64..100_000,
            waits in prop::collection::vec(0_u64..10_000, 1..200),
        ) {
            let mut paced = paced(&[(max, span_ms)]);
            let mut now_ms = 0;
            let mut taken: Vec<u64> = Vec::new();
            for wait in waits {
                now_ms += wait;
                if take(&mut paced, at(now_ms)) {
                    taken.push(now_ms);
                }
                let within = taken.iter().filter(|ms| **ms + span_ms > now_ms).count();
                prop_assert!(within <= max as usize);
            }
        }
    }
}
