use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::decision::counter::LEASE;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{Backoff, Limit, Mode, OnStoreError, Rule, Shown, Smooth, Window, Windows};
use crate::decision::tally::{Judgement, Outcome};
use crate::decision::time::Span;

const START_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + ms)
}

fn windows(list: &[(u32, u64)]) -> Rule {
    let list = list.iter().enumerate().map(|(index, &(max, span_ms))| Window {
        label: format!("w{index}").into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_millis(span_ms),
    });
    Rule::Windows(Windows::new(list.collect(), NonZeroU32::MIN).unwrap())
}

fn smooth(burst: u32, replenish_one_ns: u64) -> Rule {
    Rule::Smooth(Smooth { burst: NonZeroU32::new(burst).unwrap(), replenish_one_ns })
}

fn backoff(base_ms: u64, factor_percent: u32) -> Rule {
    Rule::Backoff(Backoff {
        base: Span::from_millis(base_ms),
        factor_percent,
        max: Span::from_secs(3600),
        forget: Span::from_secs(900),
    })
}

/// Charges whatever is admitted of so many tries at each of these times.
fn counted(rule: &Rule, tries: &[(u64, u32)]) -> Counter {
    let mut counter = Counter::default();
    for &(ms, times) in tries {
        for _ in 0..times {
            if counter.tally(rule, 1, at(ms)).judgement == Judgement::Admits {
                counter.charge(rule, 1, at(ms));
            }
        }
    }
    counter
}

fn frozen(counter: &Counter) -> Vec<u8> {
    let mut bytes = Vec::new();
    counter.freeze(&mut bytes);
    bytes
}

fn thawed(bytes: &[u8], saved_at: Timestamp, now: Timestamp) -> Counter {
    let mut reader = Reader::new(bytes);
    let counter = Counter::thaw(&mut reader, Resumed::new(saved_at, now)).unwrap();
    assert!(reader.is_empty(), "{} bytes are left", reader.len());
    counter
}

fn rules() -> impl Strategy<Value = Rule> {
    let window = || (prop_oneof![1_u32..=12, 13_u32..=64, 65_u32..500, 70_000_u32..90_000], 1_u64..30_000);
    let listed = prop::collection::vec(window(), 1..=4).prop_map(|list| windows(&list));
    let failures = prop::collection::vec(window(), 1..=2).prop_map(|list| match windows(&list) {
        Rule::Windows(windows) => Rule::Failures(windows),
        other => other,
    });
    let waits = (1_u64..5_000, 100_u32..300).prop_map(|(ms, factor)| backoff(ms, factor));
    prop_oneof![4 => listed, 2 => failures, 1 => waits, 1 => (1_u32..50, 1_u64..2_000_000_000).prop_map(|(b, ns)| smooth(b, ns))]
}

fn tries() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let gap = prop_oneof![3 => Just(0_u64), 6 => 1_u64..400, 1 => 400_u64..20_000];
    prop::collection::vec((gap, 1_u32..40), 0..40).prop_map(|gaps| {
        let mut ms = 0;
        gaps.into_iter()
            .map(|(gap, times)| {
                ms += gap;
                (ms, times)
            })
            .collect()
    })
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(4_000))]

    /// Whatever was counted, all that it will ever say is said by what comes back, also as it goes on counting.
    #[test]
    fn what_comes_back_answers_as_what_was_kept(
        rule in rules(),
        other in rules(),
        tries in tries(),
        later_ms in prop::collection::vec(prop_oneof![0_u64..40_000, 100_000_u64..200_000], 1..20),
    ) {
        let mut kept = counted(&rule, &tries);
        let saved_ms = tries.last().map_or(0, |&(ms, _)| ms);
        let mut back = thawed(&frozen(&kept), at(saved_ms), at(saved_ms));
        let mut moments: Vec<u64> = later_ms.iter().map(|ms| saved_ms + ms).collect();
        moments.sort_unstable();
        for ms in moments {
            let now = at(ms);
            let tally = kept.tally(&rule, 1, now);
            prop_assert_eq!(&back.tally(&rule, 1, now), &tally);
            prop_assert_eq!(back.tally(&other, 1, now), kept.tally(&other, 1, now));
            prop_assert_eq!(back.is_spent(now), kept.is_spent(now));
            prop_assert_eq!(frozen(&back), frozen(&kept));
            if tally.judgement == Judgement::Admits {
                kept.charge(&rule, 1, now);
                back.charge(&rule, 1, now);
            }
        }
    }

    /// Set back, a clock neither locks out nor lets off: what comes back is as full as it was, and empties in time.
    #[test]
    fn a_clock_that_was_set_back_holds_nobody_longer(
        rule in rules(),
        tries in tries(),
        back_ms in 1_u64..100_000_000_000,
    ) {
        let kept = counted(&rule, &tries);
        let saved_at = at(tries.last().map_or(0, |&(ms, _)| ms));
        let now = Timestamp::from_millis(saved_at.floor_millis() - back_ms);
        let back = thawed(&frozen(&kept), saved_at, now);
        let (then, today) = (kept.tally(&rule, 1, saved_at), back.tally(&rule, 1, now));
        for (then, today) in then.windows.iter().zip(&today.windows) {
            prop_assert!(today.used >= then.used, "{:?} became {:?}", then, today);
        }
        // A sub-bucket more is what a window may be stretched by.
        let longest_ms = match &rule {
            Rule::Windows(windows) => windows.longest().as_millis() * 33 / 32 + 4,
            Rule::Failures(windows) => LEASE.as_millis() + windows.longest().as_millis() * 33 / 32 + 4,
            Rule::Backoff(_) => 0,
            Rule::Smooth(smooth) => smooth.refill().as_millis() + 1,
        };
        let over = back.tally(&rule, 1, now.plus(Span::from_millis(longest_ms)));
        prop_assert!(over.windows.iter().all(|window| window.used == 0), "{:?}", over);
    }

    /// Whatever the bytes, they are read or refused, and what was read can be asked and charged.
    #[test]
    fn garbage_is_refused_or_counts(
        rule in rules(),
        tag in 0_u8..6,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        saved_ms in 0_u64..2_000,
    ) {
        let bytes: Vec<u8> = std::iter::once(tag).chain(bytes).collect();
        if let Some(counter) = Counter::thaw(&mut Reader::new(&bytes), Resumed::new(at(saved_ms), at(1_000))) {
            ask_and_charge(counter, &rule);
        }
    }

    /// One flipped byte in what was kept is the garbage that comes closest.
    #[test]
    fn a_flipped_byte_is_refused_or_counts(
        rule in rules(),
        tries in tries(),
        place in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let mut bytes = frozen(&counted(&rule, &tries));
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Some(counter) = Counter::thaw(&mut Reader::new(&bytes), Resumed::new(at(0), at(50_000))) {
            ask_and_charge(counter, &rule);
        }
    }
}

fn ask_and_charge(mut counter: Counter, rule: &Rule) {
    for ms in [50_000, 50_001, 90_000, 5_000_000] {
        counter.is_spent(at(ms));
        if counter.tally(rule, 1, at(ms)).judgement == Judgement::Admits {
            counter.charge(rule, 1, at(ms));
        }
    }
}

#[test]
fn what_ends_early_is_refused() {
    for rule in [windows(&[(5, 60_000)]), windows(&[(40, 60_000), (200, 90_000)]), smooth(30, 1_000_000_000)]
    {
        let bytes = frozen(&counted(&rule, &[(0, 3), (500, 30), (700, 2)]));
        for length in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..length]);
            assert!(
                Counter::thaw(&mut reader, Resumed::new(at(700), at(700))).is_none(),
                "{length} {rule:?}"
            );
        }
    }
}

#[test]
fn failures_in_a_row_and_attempts_under_way_are_kept() {
    let limit = Limit {
        id: LimitId::derive(&["test"]),
        policy: "login".into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule: backoff(1_000, 200),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::RetryAfter,
        block: None,
        on_store_error: OnStoreError::Local,
    };
    let mut counter = Counter::default();
    for ms in [0, 1_000, 3_000] {
        assert_eq!(counter.tally(&limit.rule, 1, at(ms)).judgement, Judgement::Admits);
        counter.charge(&limit.rule, 1, at(ms));
        counter.settle(&limit, at(ms), Outcome::Failure, at(ms));
    }
    let judged = |counter: &Counter, ms| counter.tally(&limit.rule, 1, at(ms)).judgement;
    assert_eq!(
        judged(&thawed(&frozen(&counter), at(3_000), at(3_000)), 3_000),
        Judgement::Waits { retry_at: at(7_000) }
    );
    // However far the clock was set back, each wait is over when it would have been.
    let back = thawed(&frozen(&counter), at(3_603_000), at(3_000));
    assert_eq!(judged(&back, 3_000), Judgement::Admits, "it was an hour ago");
    let back = thawed(&frozen(&counter), at(3_000), at(1_000));
    assert_eq!(judged(&back, 1_000), Judgement::Waits { retry_at: at(5_000) });
    // Nobody settles what was under way when the gateway died: it fails when its lease ends.
    counter.charge(&limit.rule, 1, at(7_000));
    let back = thawed(&frozen(&counter), at(7_000), at(8_000));
    assert!(matches!(judged(&back, 8_000), Judgement::Pending { .. }));
    let ended_ms = 7_000 + LEASE.as_millis();
    assert_eq!(judged(&back, ended_ms), Judgement::Waits { retry_at: at(ended_ms + 8_000) });
}

/// Counters of failures hold a counter, and bytes could say that this one holds another, and so on: no stack is deep
/// enough for that.
#[test]
fn counters_do_not_nest() {
    let mut attempts = vec![ATTEMPTS_TAG];
    attempts.extend([0; 6 + 4 + 6 + 4]);
    let bytes = attempts.repeat(50_000);
    assert!(Counter::thaw(&mut Reader::new(&bytes), Resumed::new(at(0), at(0))).is_none());
}

#[test]
fn a_few_events_take_few_bytes() {
    let rule = windows(&[(2, 60_000), (3, 3_600_000)]);
    assert_eq!(frozen(&counted(&rule, &[(0, 1)])).len(), 9);
    assert_eq!(frozen(&counted(&rule, &[(0, 1), (9, 1)])).len(), 13);
}
