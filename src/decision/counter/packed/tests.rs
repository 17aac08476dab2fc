//! Reading alone: that what scripts write reads as what memory counts is shown where both run.

use std::num::NonZeroU32;

use super::*;
use crate::decision::limit::{Backoff, Smooth, Window};
use crate::decision::tally::Judgement;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn windows(list: &[(u32, u64)]) -> Rule {
    Rule::Windows(list_of(list))
}

fn failures(list: &[(u32, u64)]) -> Rule {
    Rule::Failures(list_of(list))
}

fn backoff() -> Rule {
    let (base, max, forget) = (Span::from_secs(1), Span::from_secs(60), Span::from_secs(900));
    Rule::Backoff(Backoff { base, factor_percent: 200, max, forget })
}

/// Attempts whose leases end so many milliseconds from now.
fn attempts(tag: u8, leases_ms: &[u64], failed: &[u8]) -> Vec<u8> {
    let ends = leases_ms.iter().flat_map(|ahead_ms| le(NOW.floor_millis() + ahead_ms, 6));
    [vec![tag], le(leases_ms.len() as u64, 2), ends.collect(), failed.to_vec()].concat()
}

fn judged(bytes: &[u8], rule: &Rule) -> Judgement {
    Packed::read(bytes, rule).unwrap().counter.tally(rule, 1, NOW).judgement
}

fn list_of(list: &[(u32, u64)]) -> Windows {
    let list = list.iter().map(|&(max, span_s)| Window {
        label: format!("{max}/{span_s}").into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_secs(span_s),
    });
    Windows::new(list.collect(), NonZeroU32::MIN).unwrap()
}

fn le(number: u64, width: usize) -> Vec<u8> {
    number.to_le_bytes()[..width].to_vec()
}

fn ring_of(tag: u8, ages_ms: &[u64]) -> Vec<u8> {
    let times = ages_ms.iter().flat_map(|age_ms| le(NOW.floor_millis() - age_ms, 6));
    std::iter::once(tag).chain(times).collect()
}

#[test]
fn exact_times_count() {
    let rule = windows(&[(2, 60), (3, 3600)]);
    let packed = Packed::read(&ring_of(b'r', &[120_000, 30_000, 1_000]), &rule).unwrap();
    let tally = packed.counter.tally(&rule, 1, NOW);
    assert_eq!(tally.windows.iter().map(|window| window.used).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(packed.newest_ms, NOW.floor_millis() - 1_000);
    assert_eq!(packed.block, None);
}

#[test]
fn a_block_stands_before_the_rest() {
    let rule = windows(&[(2, 60)]);
    let mut bytes = vec![b'R'];
    bytes.extend(le(NOW.plus(Span::from_secs(9)).as_micros(), 7));
    bytes.extend(le(3, 2));
    bytes.extend(le(NOW.plus(Span::from_secs(99)).as_micros(), 7));
    bytes.extend(&ring_of(b'r', &[5, 4])[1..]);
    let packed = Packed::read(&bytes, &rule).unwrap();
    let (until, forget_at) = (NOW.plus(Span::from_secs(9)), NOW.plus(Span::from_secs(99)));
    assert_eq!(packed.block, Some(Block { until, level: 3, forget_at }));
    assert_eq!(packed.counter.tally(&rule, 1, NOW).windows[0].used, 2);
}

#[test]
fn sub_buckets_count() {
    let rule = windows(&[(100, 64)]);
    let bucket = NOW.floor_millis() / 1_000;
    let mut bytes = vec![b'm', 0, 0, 1];
    bytes.extend([le(64_000, 6), le(5, 6), vec![2]].concat());
    bytes.extend([le(bucket - 3, 6), le(45, 6), le(bucket, 6), le(47, 6)].concat());
    let packed = Packed::read(&bytes, &rule).unwrap();
    assert_eq!(packed.counter.tally(&rule, 1, NOW).windows[0].used, 42);
}

#[test]
fn pacing_has_an_arrival_time() {
    let burst = NonZeroU32::new(2).unwrap();
    let rule = Rule::Smooth(Smooth { burst, replenish_one_ns: 1_000_000_000 });
    let mut bytes = vec![b's'];
    bytes.extend([le(NOW.floor_millis() / 1_000 + 2, 6), le(0, 4)].concat());
    let tally = Packed::read(&bytes, &rule).unwrap().counter.tally(&rule, 1, NOW);
    assert_eq!(tally.judgement, Judgement::Exceeded { window: 0, retry_at: NOW.plus(Span::from_secs(1)) });
}

#[test]
fn attempts_under_way_count_beside_those_that_failed() {
    let rule = failures(&[(3, 60)]);
    let pending = Judgement::Pending { retry_at: NOW.plus(Span::from_secs(1)) };
    assert_eq!(judged(&attempts(b'f', &[], b""), &rule), Judgement::Admits);
    assert_eq!(judged(&attempts(b'f', &[1, 1], b""), &rule), Judgement::Admits);
    assert_eq!(judged(&attempts(b'f', &[1, 1, 7], b""), &rule), pending);
    assert_eq!(judged(&attempts(b'f', &[1, 1], &ring_of(b'r', &[5])), &rule), pending);
    // A lease that is over is a failure of then.
    let retry_at = NOW.plus(Span::from_secs(60));
    let exceeded = Judgement::Exceeded { window: 0, retry_at };
    assert_eq!(judged(&attempts(b'f', &[0, 0, 0], b""), &rule), exceeded);
}

#[test]
fn failures_have_sub_buckets_too() {
    let rule = failures(&[(100, 64)]);
    let bucket = NOW.floor_millis() / 1_000;
    let section = [le(64_000, 6), le(0, 6), vec![1], le(bucket, 6), le(98, 6)].concat();
    let failed = [vec![b'm', 0, 0, 1], section].concat();
    let packed = Packed::read(&attempts(b'f', &[9], &failed), &rule).unwrap();
    let tally = packed.counter.tally(&rule, 1, NOW);
    assert_eq!((tally.judgement, tally.windows[0].used), (Judgement::Admits, 98));
    assert!(matches!(judged(&attempts(b'f', &[9, 9], &failed), &rule), Judgement::Pending { .. }));
}

#[test]
fn failures_in_a_row_have_a_wait() {
    let row = |failures: u64, age_ms: u64| {
        let failed = [le(failures, 4), le(NOW.floor_millis() - age_ms, 6)].concat();
        judged(&attempts(b'b', &[], &failed), &backoff())
    };
    assert_eq!(row(0, 0), Judgement::Admits);
    assert_eq!(row(3, 1_000), Judgement::Waits { retry_at: NOW.plus(Span::from_secs(3)) });
    assert_eq!(row(3, 4_000), Judgement::Admits);
    let under_way = attempts(b'b', &[1], &[le(0, 4), le(0, 6)].concat());
    assert!(matches!(judged(&under_way, &backoff()), Judgement::Pending { .. }));
}

#[test]
fn a_block_stands_before_attempts() {
    let block = [le(NOW.as_micros() + 5, 7), le(1, 2), le(NOW.as_micros() + 9, 7)].concat();
    let bytes = [vec![b'F'], block, attempts(b'f', &[4], &ring_of(b'r', &[2]))[1..].to_vec()].concat();
    let rule = failures(&[(2, 60)]);
    let packed = Packed::read(&bytes, &rule).unwrap();
    assert_eq!(packed.block.map(|block| block.level), Some(1));
    assert_eq!(packed.counter.tally(&rule, 1, NOW).windows[0].used, 1);
}

#[test]
fn what_is_no_state_of_attempts_is_refused() {
    let check = |bytes: &[u8], rule: &Rule| {
        assert_eq!(Packed::read(bytes, rule).unwrap_err(), Unreadable, "{bytes:?}");
    };
    let (counted, waiting) = (failures(&[(2, 60)]), backoff());
    for bytes in [&b"f"[..], b"f\x00", b"f\x01\x00", b"f\x00\x00x", b"f\x00\x00r12345", b"b\x00\x00", b"r"] {
        check(bytes, &counted);
        check(bytes, &waiting);
    }
    check(&attempts(b'f', &[1], b""), &waiting);
    check(&attempts(b'b', &[], &[0; 10]), &counted);
    check(&attempts(b'b', &[], &[0; 11]), &waiting);
    check(&attempts(b'f', &[1], b""), &windows(&[(2, 60)]));
    // Of a failure that failed: attempts hold none of their kind, and no block.
    check(&attempts(b'f', &[1], &attempts(b'f', &[], b"")), &counted);
    check(&attempts(b'f', &[1], &[b'R'; 17]), &counted);
}

#[test]
fn what_is_no_state_is_refused() {
    let paced = Rule::Smooth(Smooth { burst: NonZeroU32::MIN, replenish_one_ns: 1 });
    let counted = windows(&[(2, 60)]);
    let check = |bytes: &[u8], rule: &Rule| {
        assert_eq!(Packed::read(bytes, rule).unwrap_err(), Unreadable, "{bytes:?}");
    };
    for bytes in [&b""[..], b"x", b"hello", b"r12345", b"R", b"m", b"m\x01", b"m\x00\x00\x01", b"s123"] {
        check(bytes, &counted);
    }
    check(&ring_of(b'r', &[1]), &paced);
    check(&[&[b's'][..], &[0; 10]].concat(), &counted);
    check(&ring_of(b'r', &[1; 256]), &counted);
    // A total below the one before it.
    let falling = [&[b'm', 0, 0, 1][..], &le(60_000, 6), &le(9, 6), &[1], &le(1, 6), &le(3, 6)].concat();
    check(&falling, &windows(&[(100, 60)]));
}
