//! The counter against an exact log of admissions, which is slow, simple and beyond doubt.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::decision::limit::{Smooth, Window};
use crate::decision::time::Span;

const START_MS: u64 = 1_800_000_000_000;

fn window(max: u32, span_ms: u64) -> Window {
    Window {
        label: format!("{max}/{span_ms}").into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_millis(span_ms),
    }
}

fn rule(windows: &[(u32, u64)]) -> Rule {
    let list = windows.iter().map(|&(max, span_ms)| window(max, span_ms)).collect();
    Rule::Windows(Windows::new(list, NonZeroU32::MIN).unwrap())
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + ms)
}

/// Every admission ever made, newest last.
#[derive(Default)]
struct ExactLog(Vec<u64>);

impl ExactLog {
    fn count_within(&self, span_ms: u64, now_ms: u64) -> u32 {
        self.0.iter().filter(|&&admitted| now_ms - admitted < span_ms).count() as u32
    }

    fn admits(&self, windows: &[(u32, u64)], cost: u32, now_ms: u64) -> bool {
        windows.iter().all(|&(max, span_ms)| self.count_within(span_ms, now_ms) + cost <= max)
    }

    /// The first millisecond at which `cost` more would be admitted: found by trying them at
    /// the moments at which something leaves a window.
    fn retry_at_ms(&self, windows: &[(u32, u64)], cost: u32, now_ms: u64) -> u64 {
        let leaves =
            windows.iter().flat_map(|&(_, span_ms)| self.0.iter().map(move |admitted| admitted + span_ms));
        let mut moments: Vec<u64> = leaves.filter(|&moment| moment > now_ms).collect();
        moments.sort_unstable();
        moments.into_iter().find(|&moment| self.admits(windows, cost, moment)).unwrap()
    }

    fn charge(&mut self, cost: u32, now_ms: u64) {
        (0..cost).for_each(|_| self.0.push(now_ms));
    }
}

fn exact_windows() -> impl Strategy<Value = Vec<(u32, u64)>> {
    prop::collection::vec((1_u32..=64, 1_u64..5_000), 1..=3).prop_map(|mut windows| {
        windows.dedup();
        windows.sort_unstable();
        windows.dedup();
        windows
    })
}

fn arrivals(count: usize) -> impl Strategy<Value = Vec<(u64, u32)>> {
    let gap = prop_oneof![4 => Just(0_u64), 8 => 1_u64..40, 3 => 40_u64..900, 1 => 900_u64..9_000];
    let cost = prop_oneof![8 => Just(1_u32), 1 => 2_u32..6];
    prop::collection::vec((gap, cost), 1..count)
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(60_000))]

    /// Decision, remaining, first departure and retry time: all as the log says.
    #[test]
    fn a_ring_decides_as_the_exact_log(windows in exact_windows(), arrivals in arrivals(60)) {
        let rule = rule(&windows);
        let smallest = windows.iter().map(|&(max, _)| max).min().unwrap();
        let (mut counter, mut log) = (Counter::default(), ExactLog::default());
        let mut now_ms = START_MS;
        for (gap_ms, cost) in arrivals {
            now_ms += gap_ms;
            let cost = cost.min(smallest);
            let now = Timestamp::from_millis(now_ms);
            let tally = counter.tally(&rule, cost, now);
            for (&(_, span_ms), seen) in windows.iter().zip(&tally.windows) {
                prop_assert_eq!(seen.used, log.count_within(span_ms, now_ms));
                let oldest = log.0.iter().find(|&&admitted| now_ms - admitted < span_ms);
                let frees_at = oldest.map(|admitted| Timestamp::from_millis(admitted + span_ms));
                prop_assert_eq!(seen.frees_at, frees_at);
            }
            let retry_at = match tally.judgement {
                Judgement::Admits => None,
                Judgement::Exceeded { retry_at, .. } => Some(retry_at),
                Judgement::Blocked { .. }
                | Judgement::Waits { .. }
                | Judgement::Pending { .. }
                | Judgement::Undecided { .. } => {
                        unreachable!("a counter counts, and no more")
                    }
            };
            if log.admits(&windows, cost, now_ms) {
                prop_assert_eq!(retry_at, None);
                counter.charge(&rule, cost, now);
                log.charge(cost, now_ms);
            } else {
                let expected = log.retry_at_ms(&windows, cost, now_ms);
                prop_assert_eq!(retry_at, Some(Timestamp::from_millis(expected)));
            }
        }
    }
}

fn large_windows() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let large = (65_u32..400, 1_000_u64..20_000);
    let small = (1_u32..=64, 200_u64..20_000);
    (prop::collection::vec(large, 1..=2), prop::option::of(small)).prop_map(|(mut windows, small)| {
        windows.extend(small);
        windows.sort_unstable();
        windows.dedup();
        windows
    })
}

proptest! {
    #![proptest_config(cases(40_000))]

    /// Whatever arrives, no rolling window of the true times holds more than its maximum, and a
    /// refusal's retry time is honest: one millisecond less is refused, exactly then is not.
    #[test]
    fn buckets_never_admit_more_than_the_maximum(windows in large_windows(), arrivals in arrivals(160)) {
        let rule = rule(&windows);
        let (mut counter, mut log) = (Counter::default(), ExactLog::default());
        let mut now_ms = START_MS;
        for (gap_ms, burst) in arrivals {
            now_ms += gap_ms / 8;
            let now = Timestamp::from_millis(now_ms);
            for _ in 0..burst * 4 {
                match counter.tally(&rule, 1, now).judgement {
                    Judgement::Admits => {
                        prop_assert!(log.admits(&windows, 1, now_ms), "one too many at {}", now_ms);
                        counter.charge(&rule, 1, now);
                        log.charge(1, now_ms);
                    }
                    Judgement::Exceeded { retry_at, .. } => {
                        prop_assert!(retry_at > now);
                        let early = Timestamp::from_micros(retry_at.as_micros() - 1);
                        prop_assert_ne!(counter.tally(&rule, 1, early).judgement, Judgement::Admits);
                        prop_assert_eq!(counter.tally(&rule, 1, retry_at).judgement, Judgement::Admits);
                    }
                    Judgement::Blocked { .. }
                | Judgement::Waits { .. }
                | Judgement::Pending { .. }
                | Judgement::Undecided { .. } => {
                        unreachable!("a counter counts, and no more")
                    }
                }
            }
        }
    }

    /// A limit may change its numbers at any time: what was counted stays counted, as far as the
    /// old limit still knew it.
    #[test]
    fn a_changed_limit_keeps_the_counts(
        before in large_windows(),
        arrivals in arrivals(80),
        longest_max in 1_u32..500,
    ) {
        let (mut counter, mut log) = (Counter::default(), ExactLog::default());
        let old_rule = rule(&before);
        let mut now_ms = START_MS;
        for (gap_ms, burst) in arrivals {
            now_ms += gap_ms / 8;
            for _ in 0..burst * 4 {
                let now = Timestamp::from_millis(now_ms);
                if counter.tally(&old_rule, 1, now).judgement == Judgement::Admits {
                    counter.charge(&old_rule, 1, now);
                    log.charge(1, now_ms);
                }
            }
        }
        let span_ms = before.iter().map(|&(_, span_ms)| span_ms).max().unwrap();
        let after = [(longest_max, span_ms)];
        let new_rule = rule(&after);
        let now = Timestamp::from_millis(now_ms);
        let truly_used = log.count_within(span_ms, now_ms);
        prop_assert!(counter.tally(&new_rule, 1, now).windows[0].used >= truly_used.min(longest_max));
        if counter.tally(&new_rule, 1, now).judgement == Judgement::Admits {
            prop_assert!(log.admits(&after, 1, now_ms));
            counter.charge(&new_rule, 1, now);
            prop_assert!(counter.tally(&new_rule, 1, now).windows[0].used > truly_used.min(longest_max - 1));
        }
    }
}

/// Under constant pressure buckets admit at least 98 % of what exact counting would.
#[test]
fn buckets_admit_98_percent_of_exact() {
    for (max, span_ms) in [(100_u32, 60_000_u64), (1_000, 60_000), (65, 3_600_000), (100_000, 3_600_000)] {
        let rule = rule(&[(max, span_ms)]);
        let step_ms = (span_ms / u64::from(max) / 3).max(1);
        let mut counter = Counter::default();
        let mut admitted = 0_u64;
        let rounds = 20;
        let mut ms = 0;
        while ms < rounds * span_ms {
            let tries = if step_ms == 1 { 3 * u64::from(max) / span_ms + 1 } else { 1 };
            for _ in 0..tries {
                if counter.tally(&rule, 1, at(ms)).judgement == Judgement::Admits {
                    counter.charge(&rule, 1, at(ms));
                    admitted += 1;
                }
            }
            ms += step_ms;
        }
        let exact = u64::from(max) * rounds;
        assert!(admitted * 100 >= exact * 98, "{max}/{span_ms} ms: {admitted} of {exact}");
        assert!(admitted <= exact, "{max}/{span_ms} ms: {admitted} of {exact}");
    }
}

/// Sub-millisecond arrivals: the true distance is never shorter than the window.
#[test]
fn rounding_to_milliseconds_never_shortens_a_window() {
    let rule = rule(&[(1, 1_000)]);
    for arrived_us in [0_u64, 1, 499, 500, 999] {
        let mut counter = Counter::default();
        let arrived = Timestamp::from_micros(START_MS * 1000 + arrived_us);
        counter.charge(&rule, 1, arrived);
        for later_us in (998_000..1_003_000).step_by(100) {
            let later = Timestamp::from_micros(arrived.as_micros() + later_us);
            if counter.tally(&rule, 1, later).judgement == Judgement::Admits {
                assert!(later_us >= 1_000_000, "admitted {later_us} µs after");
                assert!(later_us <= 1_002_000, "refused until {later_us} µs after");
                break;
            }
        }
    }
}

#[test]
fn the_three_windows_of_a_login_in_plain_numbers() {
    let rule = rule(&[(2, 60_000), (3, 3_600_000), (10, 86_400_000)]);
    let mut counter = Counter::default();
    let judge = |counter: &Counter, ms| counter.tally(&rule, 1, at(ms)).judgement;
    for ms in [0, 10] {
        assert_eq!(judge(&counter, ms), Judgement::Admits);
        counter.charge(&rule, 1, at(ms));
    }
    assert_eq!(judge(&counter, 20), Judgement::Exceeded { window: 0, retry_at: at(60_000) });
    counter.charge(&rule, 1, at(60_000));
    assert_eq!(judge(&counter, 60_001), Judgement::Exceeded { window: 1, retry_at: at(3_600_000) });
    assert_eq!(judge(&counter, 3_599_999), Judgement::Exceeded { window: 1, retry_at: at(3_600_000) });
    assert_eq!(judge(&counter, 3_600_000), Judgement::Admits);
}

#[test]
fn times_beyond_the_reach_of_32_bits_are_carried_over() {
    let rule = rule(&[(3, 30 * 86_400_000)]);
    let mut counter = Counter::default();
    let day_ms = 86_400_000;
    // A year of one event every 11 days: never three within 30 days and a fourth.
    for step in 0..33 {
        let now = at(step * 11 * day_ms);
        assert_eq!(counter.tally(&rule, 1, now).judgement, Judgement::Admits, "step {step}");
        counter.charge(&rule, 1, now);
        assert_eq!(counter.tally(&rule, 1, now).windows[0].used, (step as u32 + 1).min(3), "step {step}");
    }
}

#[test]
fn a_clock_that_runs_backwards_frees_nothing() {
    for windows in [vec![(2, 60_000)], vec![(80, 60_000)]] {
        let rule = rule(&windows);
        let mut counter = Counter::default();
        for _ in 0..windows[0].0 {
            counter.charge(&rule, 1, at(100_000));
        }
        assert_ne!(counter.tally(&rule, 1, at(5_000)).judgement, Judgement::Admits);
        assert_eq!(counter.tally(&rule, 1, at(165_000)).judgement, Judgement::Admits);
    }
}

#[test]
fn a_spent_counter_is_one_that_says_nothing_any_more() {
    for windows in [vec![(2_u32, 60_000_u64)], vec![(80, 60_000)], vec![(20, 60_000)]] {
        let rule = rule(&windows);
        let mut counter = Counter::default();
        (0..windows[0].0).for_each(|_| counter.charge(&rule, 1, at(0)));
        assert!(!counter.is_spent(at(59_999)), "{windows:?}");
        assert!(counter.is_spent(at(60_000 * 5 / 4)), "{windows:?}");
        assert_eq!(counter.tally(&rule, 1, at(60_000 * 5 / 4)).windows[0].used, 0, "{windows:?}");
    }
    assert!(Counter::default().is_spent(at(0)));
}

#[test]
fn smooth_admits_its_burst_then_its_rate() {
    let burst = NonZeroU32::new(5).unwrap();
    let rule = Rule::Smooth(Smooth { burst, replenish_one_ns: 20_000_000 });
    let mut counter = Counter::default();
    for used in 0..5 {
        let tally = counter.tally(&rule, 1, at(0));
        assert_eq!((tally.judgement, tally.windows[0].used), (Judgement::Admits, used));
        counter.charge(&rule, 1, at(0));
    }
    let full = counter.tally(&rule, 1, at(0));
    assert_eq!(full.judgement, Judgement::Exceeded { window: 0, retry_at: at(20) });
    assert_eq!(full.windows[0], WindowTally { used: 5, frees_at: Some(at(20)) });
    assert_eq!(counter.tally(&rule, 1, at(19)).judgement, full.judgement);
    assert_eq!(counter.tally(&rule, 1, at(20)).judgement, Judgement::Admits);
    assert_eq!(
        counter.tally(&rule, 3, at(40)).judgement,
        Judgement::Exceeded { window: 0, retry_at: at(60) }
    );
    assert!(!counter.is_spent(at(99)));
    assert!(counter.is_spent(at(100)));
}

#[test]
fn smooth_keeps_its_contract_of_burst_plus_rate() {
    let burst = NonZeroU32::new(10).unwrap();
    let rule = Rule::Smooth(Smooth { burst, replenish_one_ns: 7_000_000 });
    let (mut counter, mut admitted) = (Counter::default(), 0_u64);
    for ms in 0..10_000 {
        for _ in 0..2 {
            if counter.tally(&rule, 1, at(ms)).judgement == Judgement::Admits {
                counter.charge(&rule, 1, at(ms));
                admitted += 1;
            }
        }
    }
    assert_eq!(admitted, 10 + 9_999 / 7);
}
