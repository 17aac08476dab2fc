use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyHash, KeyHasher, KeyPart, KeySpec, LimitId, Missing, PartTag};
use crate::decision::limit::{BlockRule, Limit, OnStoreError, Rule, Shown, WhileBlocked, Window, Windows};
use crate::decision::tally::{Aftermath, Outcome, Settlement};
use crate::decision::time::Span;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn limit(name: &str, windows: &[(u32, u64)]) -> Limit {
    let list = windows.iter().enumerate().map(|(index, &(max, span_s))| Window {
        label: format!("w{index}").into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_secs(span_s),
    });
    Limit {
        id: LimitId::derive(&[name]),
        policy: name.into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule: Rule::Windows(Windows::new(list.collect(), NonZeroU32::MIN).unwrap()),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::Quota,
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

fn key(limit: &Limit, value: u64) -> KeyHash {
    let mut writer = KeyHasher::new([3; 16]).key(limit.id);
    writer.push(PartTag::Ip, &value.to_le_bytes());
    writer.finish()
}

fn charge(limit: &Limit, value: u64) -> Charge<'_> {
    Charge { key: key(limit, value), limit }
}

fn blocked_until(tallies: &Tallies) -> Option<Timestamp> {
    match tallies.list[0].judgement {
        Judgement::Blocked { until, .. } => Some(until),
        _ => None,
    }
}

fn admits(tallies: &Tallies) -> bool {
    tallies.list.iter().all(|tally| tally.judgement == Judgement::Admits)
}

#[test]
fn a_refusal_charges_nothing_anywhere() {
    let store = MemoryStore::new(1000);
    let (wide, narrow) = (limit("wide", &[(5, 60)]), limit("narrow", &[(1, 60)]));
    let both = [charge(&wide, 1), charge(&narrow, 2)];
    assert!(admits(&store.take(&both, NOW)));
    for _ in 0..10 {
        assert!(!admits(&store.take(&both, NOW)));
    }
    assert_eq!(store.peek(&[charge(&wide, 1)], NOW).list[0].windows[0].used, 1);
}

#[test]
fn peeking_charges_nothing() {
    let store = MemoryStore::new(1000);
    let limit = limit("l", &[(1, 60)]);
    for _ in 0..3 {
        assert!(admits(&store.peek(&[charge(&limit, 1)], NOW)));
    }
    assert!(admits(&store.take(&[charge(&limit, 1)], NOW)));
    assert!(!admits(&store.peek(&[charge(&limit, 1)], NOW)));
}

#[test]
fn a_shadow_limit_never_stands_in_the_way_and_counts_what_passes() {
    let store = MemoryStore::new(1000);
    let enforced = limit("enforced", &[(3, 60)]);
    let shadow = Limit { mode: Mode::Shadow, ..limit("shadow", &[(1, 60)]) };
    let charges = [charge(&enforced, 1), charge(&shadow, 1)];
    for round in 0..3 {
        let tallies = store.take(&charges, NOW);
        assert_eq!(tallies.list[0].judgement, Judgement::Admits, "round {round}");
        assert_eq!(tallies.list[1].judgement == Judgement::Admits, round == 0, "round {round}");
    }
    assert_ne!(store.take(&charges, NOW).list[0].judgement, Judgement::Admits);
    let untouched = Limit { mode: Mode::Shadow, ..limit("untouched", &[(9, 60)]) };
    store.take(&[charge(&enforced, 1), charge(&untouched, 1)], NOW);
    assert_eq!(store.peek(&[charge(&untouched, 1)], NOW).list[0].windows[0].used, 0);
}

#[test]
fn an_exceeded_limit_blocks_its_key_and_the_next_block_is_longer() {
    let store = MemoryStore::new(1000);
    let block = BlockRule {
        span: Span::from_secs(100),
        factor_percent: 200,
        max: Span::from_secs(300),
        forget: Span::from_secs(1000),
        while_blocked: WhileBlocked::Stands,
    };
    let limit = Limit { block: Some(block), ..limit("l", &[(1, 10)]) };
    let mut now = NOW;
    for expected_s in [100, 200, 300, 300] {
        assert!(admits(&store.take(&[charge(&limit, 1)], now)));
        let until = now.plus(Span::from_secs(expected_s));
        for _ in 0..3 {
            // Trying again while blocked neither prolongs the block nor counts.
            assert_eq!(blocked_until(&store.take(&[charge(&limit, 1)], now)), Some(until));
        }
        let just_before = Timestamp::from_micros(until.as_micros() - 1);
        assert!(!admits(&store.take(&[charge(&limit, 1)], just_before)));
        now = until;
    }
    let much_later = now.plus(Span::from_secs(2000));
    assert!(admits(&store.take(&[charge(&limit, 1)], much_later)));
    let until = much_later.plus(Span::from_secs(100));
    assert_eq!(blocked_until(&store.take(&[charge(&limit, 1)], much_later)), Some(until));
}

#[test]
fn a_block_shorter_than_its_window_ends_with_the_window() {
    let store = MemoryStore::new(1000);
    let block = BlockRule {
        span: Span::from_secs(3),
        factor_percent: 200,
        max: Span::from_secs(60),
        forget: Span::from_secs(1000),
        while_blocked: WhileBlocked::Stands,
    };
    let limit = Limit { block: Some(block), ..limit("l", &[(1, 60)]) };
    assert!(admits(&store.take(&[charge(&limit, 1)], NOW)));
    let until = NOW.plus(Span::from_secs(60));
    assert_eq!(blocked_until(&store.take(&[charge(&limit, 1)], NOW)), Some(until));
    assert_eq!(store.size(NOW).blocks, 1);
    assert!(admits(&store.take(&[charge(&limit, 1)], until)), "the announced time is honest");
    assert_eq!(store.size(until).blocks, 0, "a block that is over is only remembered");
}

/// 64 threads on one key with a standing clock: exactly the smallest window is admitted, ever.
#[test]
fn parallel_takes_admit_exactly_the_maximum() {
    const THREADS: usize = 64;
    const ROUNDS: usize = 10_000;
    let store = MemoryStore::new(100_000);
    let limits = [limit("a", &[(3, 60), (5, 3600)]), limit("b", &[(7, 60)])];
    let admitted: Vec<AtomicU32> = (0..ROUNDS).map(|_| AtomicU32::new(0)).collect();
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, limits, admitted, start) = (&store, &limits, &admitted, &start);
            scope.spawn(move || {
                start.wait();
                for (value, admitted) in (0_u64..).zip(admitted) {
                    // Half of the threads name the limits the other way round.
                    let mut charges = [charge(&limits[0], value), charge(&limits[1], value)];
                    if thread % 2 == 1 {
                        charges.reverse();
                    }
                    if admits(&store.take(&charges, NOW)) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    for (round, admitted) in admitted.iter().enumerate() {
        assert_eq!(admitted.load(Ordering::Relaxed), 3, "round {round}");
    }
}

/// Five million newcomers against room for one million: nobody counted is forgotten, nobody new
/// goes uncounted, and the table stays within its bound.
#[test]
fn a_flood_of_keys_pushes_nobody_out() {
    const KEYS_MAX: usize = 1_000_000;
    const FLOOD: u64 = 5_000_000;
    let store = MemoryStore::new(KEYS_MAX);
    let limit_of_three = limit("three", &[(2, 60), (3, 3600)]);
    let block = BlockRule {
        span: Span::from_secs(3600),
        factor_percent: 100,
        max: Span::from_secs(3600),
        forget: Span::ZERO,
        while_blocked: WhileBlocked::Stands,
    };
    let blocking = Limit { block: Some(block), ..limit("blocking", &[(1, 10)]) };
    let (victim, blocked) = (u64::MAX, u64::MAX - 1);
    assert!(admits(&store.take(&[charge(&limit_of_three, victim)], NOW)));
    assert!(admits(&store.take(&[charge(&limit_of_three, victim)], NOW)));
    assert!(admits(&store.take(&[charge(&blocking, blocked)], NOW)));
    assert!(!admits(&store.take(&[charge(&blocking, blocked)], NOW)));

    let mut shared = 0_u64;
    for value in 0..FLOOD {
        shared += u64::from(store.take(&[charge(&limit_of_three, value)], NOW).shared);
    }

    let size = store.size(NOW);
    assert!(size.keys <= KEYS_MAX as u64, "{size:?}");
    assert!(size.shared <= KEYS_MAX as u64 / 4, "{size:?}");
    assert!(shared >= FLOOD - KEYS_MAX as u64 - 1, "{shared} were told that they share a counter");
    assert_eq!(store.peek(&[charge(&limit_of_three, victim)], NOW).list[0].windows[0].used, 2);
    assert!(!admits(&store.take(&[charge(&limit_of_three, victim)], NOW)));
    assert!(!admits(&store.take(&[charge(&blocking, blocked)], NOW)));

    // A newcomer during the flood gets at most its quota, and exactly as before when it is over.
    let newcomer = u64::MAX - 2;
    let during = (0..10).filter(|_| admits(&store.take(&[charge(&limit_of_three, newcomer)], NOW))).count();
    assert!(during <= 2);
    let later = NOW.plus(Span::from_secs(2 * 3600));
    store.sweep(later);
    assert_eq!(store.size(later).keys, 0);
    assert_eq!(store.size(later).shared, 0);
    let after = (0..10).filter(|_| admits(&store.take(&[charge(&limit_of_three, newcomer)], later))).count();
    assert_eq!(after, 2);
}

/// Who was counted together with others and then gets a counter of its own keeps what it used.
#[test]
fn leaving_a_shared_counter_forgets_nothing() {
    let store = MemoryStore::new(1);
    let (short, long) = (limit("short", &[(9, 1)]), limit("long", &[(2, 3600)]));
    assert!(admits(&store.take(&[charge(&short, 1)], NOW)));
    for _ in 0..2 {
        let tallies = store.take(&[charge(&long, 7)], NOW);
        assert!(admits(&tallies));
        assert_eq!(tallies.shared, 1);
    }
    assert!(!admits(&store.take(&[charge(&long, 7)], NOW)));
    let room_again = NOW.plus(Span::from_secs(10));
    let tallies = store.take(&[charge(&long, 7)], room_again);
    assert!(!admits(&tallies), "two were used within the hour");
    let hour_later = NOW.plus(Span::from_secs(3600));
    assert!(admits(&store.take(&[charge(&long, 7)], hour_later)));
}

fn failures(name: &str, max: u32) -> Limit {
    let Rule::Windows(windows) = limit(name, &[(max, 3600)]).rule else { unreachable!() };
    let key =
        KeySpec { parts: [KeyPart::User].into_iter().collect(), form: Form::Text, missing: Missing::Ip };
    Limit { rule: Rule::Failures(windows), key, ..limit(name, &[(max, 3600)]) }
}

fn settle(store: &MemoryStore, charge: Charge<'_>, held: Held, outcome: Outcome) -> Aftermath {
    store.settle(&[Settlement { charge, held, outcome }], NOW).remove(0)
}

#[test]
fn an_attempt_is_reserved_with_all_other_charges_or_not_at_all() {
    let store = MemoryStore::new(1000);
    let (tries, narrow) = (failures("tries", 3), limit("narrow", &[(1, 60)]));
    let both = [charge(&tries, 1), charge(&narrow, 2)];
    let first = store.take(&both, NOW);
    assert_eq!(first.list[0].held, Some(Held::Store(NOW)));
    assert_eq!(first.list[1].held, None, "requests are charged for good");
    for _ in 0..10 {
        let refused = store.take(&both, NOW);
        assert!(!admits(&refused));
        assert_eq!(refused.list[0].held, None);
    }
    // Two more are under way at once, beside the first.
    for _ in 0..2 {
        assert!(admits(&store.take(&[charge(&tries, 1)], NOW)));
    }
    let full = store.take(&[charge(&tries, 1)], NOW);
    assert!(matches!(full.list[0].judgement, Judgement::Pending { .. }));
}

#[test]
fn the_failure_that_uses_up_the_last_try_begins_the_block() {
    let store = MemoryStore::new(1000);
    let span = Span::from_secs(7200);
    let while_blocked = WhileBlocked::Stands;
    let block = BlockRule { span, factor_percent: 100, max: span, forget: span, while_blocked };
    let tries = Limit { block: Some(block), ..failures("tries", 2) };
    let attempt = |outcome| {
        let held = store.take(&[charge(&tries, 1)], NOW).list[0].held.expect("it is admitted");
        settle(&store, charge(&tries, 1), held, outcome)
    };
    assert_eq!(attempt(Outcome::Success), Aftermath { judgement: Judgement::Admits, failures: 0 });
    assert_eq!(attempt(Outcome::Failure), Aftermath { judgement: Judgement::Admits, failures: 1 });
    let last = attempt(Outcome::Failure);
    let until = NOW.plus(span);
    let began = Some(Block { until, level: 0, forget_at: until.plus(span) });
    assert_eq!(last, Aftermath { judgement: Judgement::Blocked { until, began }, failures: 2 });
    assert_eq!(blocked_until(&store.take(&[charge(&tries, 1)], NOW)), Some(until));
    // Let go, a key starts anew: nothing of what it did is held against it.
    store.forget(key(&tries, 1));
    assert_eq!(attempt(Outcome::Failure), Aftermath { judgement: Judgement::Admits, failures: 1 });
}

#[test]
fn keys_without_a_slot_fail_no_more_often_than_their_limit_says() {
    const TRIES: u32 = 3;
    let store = MemoryStore::new(64);
    let tries = failures("tries", TRIES);
    let mut without_a_slot = 0;
    for value in 0..2_000 {
        let mut failed = 0;
        for _ in 0..10 {
            let taken = store.take(&[charge(&tries, value)], NOW);
            without_a_slot += taken.shared;
            if let Some(held) = taken.list[0].held {
                settle(&store, charge(&tries, value), held, Outcome::Failure);
                failed += 1;
            }
        }
        assert!(failed <= TRIES, "{value} failed {failed} times");
    }
    assert!(without_a_slot > 0, "the table was never full");
}
