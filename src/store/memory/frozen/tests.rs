use std::num::NonZeroU32;

use super::*;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyHasher, KeyPart, KeySpec, LimitId, Missing, PartTag};
use crate::decision::limit::{
    BlockRule, Limit, Mode, OnStoreError, Rule, Shown, WhileBlocked, Window, Windows,
};
use crate::decision::tally::{Charge, Judgement, Tallies};
use crate::decision::time::Span;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const BLOCK: BlockRule = BlockRule {
    span: Span::from_secs(100),
    factor_percent: 200,
    max: Span::from_secs(1000),
    forget: Span::from_secs(5000),
    while_blocked: WhileBlocked::Stands,
};

fn limit(name: &str, max: u32, span_s: u64, block: Option<BlockRule>) -> Limit {
    let window =
        Window { label: "w".into(), max: NonZeroU32::new(max).unwrap(), span: Span::from_secs(span_s) };
    Limit {
        id: LimitId::derive(&[name]),
        policy: name.into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule: Rule::Windows(Windows::new(vec![window], NonZeroU32::MIN).unwrap()),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::Quota,
        block,
        on_store_error: OnStoreError::Local,
    }
}

fn charge(limit: &Limit, value: u64) -> Charge<'_> {
    let mut writer = KeyHasher::new([3; 16]).key(limit.id);
    writer.push(PartTag::Ip, &value.to_le_bytes());
    Charge { key: writer.finish(), limit }
}

fn take(store: &MemoryStore, limit: &Limit, value: u64, now: Timestamp) -> Judgement {
    store.take(&[charge(limit, value)], now).list[0].judgement
}

fn blocked_until(judgement: Judgement) -> Option<Timestamp> {
    match judgement {
        Judgement::Blocked { until, .. } => Some(until),
        _ => None,
    }
}

fn peek(store: &MemoryStore, limit: &Limit, value: u64, now: Timestamp) -> Tallies {
    store.peek(&[charge(limit, value)], now)
}

fn frames(store: &MemoryStore, now: Timestamp) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    store
        .freeze(now, |frame| {
            frames.push(frame.to_vec());
            Ok(())
        })
        .unwrap();
    frames
}

fn thawed(frames: &[Vec<u8>], from: &MemoryStore, like: &MemoryStore, at: Resumed) -> (MemoryStore, u64) {
    let mut thawing = Thawing::new(like, from.shards(), at).unwrap();
    frames.iter().for_each(|frame| thawing.frame(frame).unwrap());
    thawing.finish()
}

/// Through frames into a store that could hold as much.
fn restarted(store: &MemoryStore, now: Timestamp) -> MemoryStore {
    let (back, left_out) = thawed(&frames(store, now), store, store, Resumed::new(now, now));
    assert_eq!(left_out, 0);
    back
}

#[test]
fn thousands_of_keys_come_back_as_they_were() {
    const KEYS: u64 = 20_000;
    let store = MemoryStore::new(100_000);
    let limits = [limit("short", 5, 60, None), limit("wide", 200, 3600, None)];
    for value in 0..KEYS {
        for limit in &limits {
            (0..value % 13).for_each(|_| {
                take(&store, limit, value, NOW);
            });
        }
    }
    let frames = frames(&store, NOW);
    assert!(frames.iter().all(|frame| frame.len() < 32 * 1024), "a lock is held for a short while");
    let (back, _) = thawed(&frames, &store, &store, Resumed::new(NOW, NOW));
    assert_eq!(back.size(NOW), store.size(NOW));
    let later = NOW.plus(Span::from_secs(30));
    for value in 0..KEYS {
        for limit in &limits {
            assert_eq!(peek(&back, limit, value, later).list, peek(&store, limit, value, later).list);
        }
    }
}

#[test]
fn what_is_spent_stays_away() {
    let store = MemoryStore::new(1000);
    let (short, long) = (limit("short", 2, 10, None), limit("long", 2, 3600, None));
    take(&store, &short, 1, NOW);
    take(&store, &long, 1, NOW);
    let minute_later = NOW.plus(Span::from_secs(60));
    assert_eq!(restarted(&store, minute_later).size(minute_later).keys, 1);
    // Also what was not spent when it was written.
    let (back, left_out) = thawed(&frames(&store, NOW), &store, &store, Resumed::new(NOW, minute_later));
    assert_eq!((back.size(minute_later).keys, left_out), (1, 0));
}

#[test]
fn a_block_and_its_ladder_survive() {
    let store = MemoryStore::new(1000);
    let limit = limit("blocking", 1, 10, Some(BLOCK));
    let blocked = |store: &MemoryStore, now: Timestamp, expected_s| {
        let until = now.plus(Span::from_secs(expected_s));
        assert_eq!(blocked_until(take(store, &limit, 1, now)), Some(until));
        until
    };
    take(&store, &limit, 1, NOW);
    let until = blocked(&store, NOW, 100);
    let store = restarted(&store, NOW);
    assert_eq!(blocked_until(take(&store, &limit, 1, NOW)), Some(until));
    assert_eq!(take(&store, &limit, 1, until), Judgement::Admits);
    // Over, but remembered: the next is longer.
    let store = restarted(&store, until);
    blocked(&store, until, 200);
    // And forgotten in time.
    let forgotten = until.plus(Span::from_secs(200 + 5000));
    let store = restarted(&store, forgotten);
    assert_eq!(store.size(forgotten).blocks, 0);
    take(&store, &limit, 1, forgotten);
    blocked(&store, forgotten, 100);
}

#[test]
fn a_clock_that_was_set_back_prolongs_no_block() {
    let store = MemoryStore::new(1000);
    let limit = limit("blocking", 1, 10, Some(BLOCK));
    take(&store, &limit, 1, NOW);
    take(&store, &limit, 1, NOW);
    let year_ago = Timestamp::from_millis(NOW.floor_millis() - 365 * 86_400_000);
    let (back, _) = thawed(&frames(&store, NOW), &store, &store, Resumed::new(NOW, year_ago));
    let until = year_ago.plus(Span::from_secs(100));
    assert_eq!(blocked_until(take(&back, &limit, 1, year_ago)), Some(until));
    assert_eq!(take(&back, &limit, 1, until), Judgement::Admits);
}

/// Who found the table full is counted together with others; a restart during the flood changes nothing about it,
/// however many shards there are afterwards.
#[test]
fn the_flood_goes_on() {
    let small = MemoryStore::with_shards(64, 4);
    let limit = limit("three", 3, 3600, None);
    for value in 0..5_000 {
        take(&small, &limit, value, NOW);
    }
    assert!(small.size(NOW).shared > 0);
    let refused = |store: &MemoryStore| {
        let judged = (0..5_000).map(|value| peek(store, &limit, value, NOW).list[0].judgement);
        judged.map(|judgement| judgement != Judgement::Admits).collect::<Vec<_>>()
    };
    let before = refused(&small);
    assert!(before.iter().any(|&refused| refused));
    let frames = frames(&small, NOW);
    let at = Resumed::new(NOW, NOW);
    for (like, shards) in [(&MemoryStore::with_shards(64, 4), 4), (&MemoryStore::with_shards(16, 1), 4)] {
        let (back, _) = thawed(&frames, &small, like, at);
        assert_eq!(back.shards(), shards);
        assert_eq!(refused(&thawed(&frames, &small, &small, at).0), before);
    }
    let (wider, left_out) = thawed(&frames, &small, &MemoryStore::with_shards(4096, 32), at);
    assert_eq!((wider.shards(), left_out), (32, 0));
    let still = refused(&wider);
    assert!(before.iter().zip(&still).all(|(before, still)| still >= before), "nobody is let off");
}

#[test]
fn the_bound_holds_for_what_comes_back() {
    let store = MemoryStore::new(10_000);
    let limit = limit("l", 3, 3600, None);
    (0..5_000).for_each(|value| {
        take(&store, &limit, value, NOW);
    });
    let smaller = MemoryStore::new(1_000);
    let (back, left_out) = thawed(&frames(&store, NOW), &store, &smaller, Resumed::new(NOW, NOW));
    let size = back.size(NOW);
    assert!(size.keys <= size.keys_max && size.keys_max <= 1_000, "{size:?}");
    assert_eq!(size.keys + left_out, 5_000);
}

#[test]
fn what_is_no_frame_is_refused() {
    let store = MemoryStore::new(1000);
    let limit = limit("l", 3, 3600, Some(BLOCK));
    (0..5).for_each(|_| {
        take(&store, &limit, 1, NOW);
    });
    let at = Resumed::new(NOW, NOW);
    for frame in frames(&store, NOW) {
        for end in 1..frame.len() {
            let mut thawing = Thawing::new(&store, store.shards(), at).unwrap();
            assert!(thawing.frame(&frame[..end]).is_none(), "{end}");
        }
    }
    for bytes in [&b"x"[..], b"k", &[b'k'; 40], &[b's'; 40], &[b'k', 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut thawing = Thawing::new(&store, store.shards(), at).unwrap();
        assert!(thawing.frame(bytes).is_none(), "{bytes:?}");
    }
    for shards in [0, 3, 8192] {
        assert!(Thawing::new(&store, shards, at).is_none(), "{shards}");
    }
}

#[test]
fn every_change_is_noticed_and_a_look_is_none() {
    let store = MemoryStore::new(1000);
    let limit = limit("l", 1, 3600, Some(BLOCK));
    let mut seen = vec![store.changes()];
    take(&store, &limit, 1, NOW);
    seen.push(store.changes());
    take(&store, &limit, 1, NOW);
    seen.push(store.changes());
    assert!(seen.is_sorted_by(|a, b| a < b), "a count and a block: {seen:?}");
    take(&store, &limit, 1, NOW);
    peek(&store, &limit, 2, NOW);
    store.sweep(NOW);
    assert_eq!(store.changes(), seen[2]);
}
