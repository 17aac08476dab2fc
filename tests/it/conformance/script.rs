//! Limits of every kind, and random requests that are charged by several of them.

use std::num::NonZeroU32;

use tollgate::decision::ipset::IpSet;
use tollgate::decision::key::{FieldPath, Form, KeyHasher, KeyPart, KeySpec, LimitId, Missing, PartTag};
use tollgate::decision::limit::{
    Backoff, BlockRule, Limit, Mode, OnStoreError, Rule, Shown, Smooth, WhileBlocked, Window, Windows,
};
use tollgate::decision::tally::{Charge, Outcome};
use tollgate::decision::time::Span;

/// Which requests are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Any,
    /// A limit with large windows stands alone. On a cluster its charge may be taken back, and a
    /// counter that has grown sub-buckets for it keeps them.
    LargeAlone,
}

pub(super) struct Step<'l> {
    pub(super) gap_ms: u64,
    pub(super) charges: Vec<Charge<'l>>,
    /// How many requests come at once.
    pub(super) times: u64,
}

/// What happens to attempts that are under way, between requests.
pub(super) enum Between {
    /// So many of them are settled together.
    Settle(usize),
    /// A key is forgotten.
    Forget,
}

fn limit(name: &str, rule: Rule, cost: u32) -> Limit {
    Limit {
        id: LimitId::derive(&[name]),
        policy: name.into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule,
        cost: NonZeroU32::new(cost).unwrap(),
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::Quota,
        block: None,
        on_store_error: OnStoreError::Closed,
    }
}

fn windows(list: &[(u32, u64)], cost: u32) -> Rule {
    Rule::Windows(list_of(list, cost))
}

fn failures(list: &[(u32, u64)]) -> Rule {
    Rule::Failures(list_of(list, 1))
}

fn list_of(list: &[(u32, u64)], cost: u32) -> Windows {
    let list = list.iter().map(|&(max, span_ms)| Window {
        label: format!("{max}-{span_ms}").into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_millis(span_ms),
    });
    Windows::new(list.collect(), NonZeroU32::new(cost).unwrap()).unwrap()
}

fn smooth(burst: u32, replenish_one_ns: u64) -> Rule {
    Rule::Smooth(Smooth { burst: NonZeroU32::new(burst).unwrap(), replenish_one_ns })
}

fn backoff(base_ms: u64, factor_percent: u32, max_s: u64) -> Rule {
    Rule::Backoff(Backoff {
        base: Span::from_millis(base_ms),
        factor_percent,
        max: Span::from_secs(max_s),
        forget: Span::from_secs(30),
    })
}

/// Counted by an account, which a success clears.
fn of_account(limit: Limit) -> Limit {
    let account = KeyPart::Body(FieldPath::parse("username").unwrap());
    let key = KeySpec { parts: [account, KeyPart::Ip].into_iter().collect(), ..limit.key };
    Limit { key, ..limit }
}

/// The first [`SMALL`] have no large windows of requests.
pub(super) fn limits() -> Vec<Limit> {
    let blocked = |limit: Limit, factor_percent, max_s| Limit {
        block: Some(BlockRule {
            span: Span::from_secs(2),
            factor_percent,
            max: Span::from_secs(max_s),
            forget: Span::from_secs(30),
            while_blocked: WhileBlocked::Stands,
        }),
        ..limit
    };
    let prolonged = |limit: Limit| {
        let block = limit.block.map(|block| BlockRule { while_blocked: WhileBlocked::Prolongs, ..block });
        Limit { block, ..limit }
    };
    vec![
        limit("otp", windows(&[(2, 60_000), (3, 3_600_000), (10, 86_400_000)], 1), 1),
        limit("costly", windows(&[(9, 10_000), (30, 90_000)], 3), 3),
        blocked(limit("ladder", windows(&[(3, 8_000), (5, 20_000)], 1), 1), 150, 20),
        limit("paced", smooth(5, 333_333_334), 1),
        blocked(limit("paced-costly", smooth(6, 700_000_001), 2), 100, 2),
        Limit { mode: Mode::Shadow, ..limit("shadow", windows(&[(4, 5_000)], 1), 1) },
        prolonged(blocked(limit("insistent", windows(&[(3, 8_000)], 1), 1), 150, 20)),
        limit("guesses", failures(&[(2, 4_000), (5, 90_000)]), 1),
        of_account(limit("many-guesses", failures(&[(14, 60_000), (30, 600_000)]), 1)),
        limit("very-many-guesses", failures(&[(20, 3_000), (66, 3_600_000)]), 1),
        blocked(of_account(limit("locked", failures(&[(3, 200_000)]), 1)), 200, 60),
        prolonged(blocked(limit("locked-longer", failures(&[(2, 30_000)]), 1), 150, 20)),
        of_account(limit("backoff", backoff(1_000, 200, 20), 1)),
        limit("backoff-ip", backoff(300, 150, 5), 1),
        blocked(of_account(limit("backoff-locked", backoff(2_000, 100, 2), 1)), 200, 10),
        limit("hourly-guesses", failures(&[(5, 3_600_000)]), 1),
        Limit { mode: Mode::Shadow, ..limit("shadow-guesses", failures(&[(3, 10_000)]), 1) },
        limit("api", windows(&[(70, 20_000)], 1), 1),
        limit("mixed", windows(&[(12, 4_000), (100, 60_000), (150, 200_000)], 1), 1),
        blocked(limit("large", windows(&[(80, 9_999)], 4), 4), 200, 16),
    ]
}

const SMALL: usize = 17;
/// One with a large window and no more.
pub(super) const API: usize = SMALL;

pub(super) fn charge(limit: &Limit, value: u64) -> Charge<'_> {
    let mut writer = KeyHasher::new([5; 16]).key(limit.id);
    writer.push(PartTag::Ip, &value.to_le_bytes());
    Charge { key: writer.finish(), limit }
}

/// Small numbers from a seed, the same on every machine (xorshift64*).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    /// One request: a pause, mostly short, and the limits that it is charged by.
    pub(super) fn step<'l>(&mut self, limits: &'l [Limit], shape: Shape, run: u64) -> Step<'l> {
        let gap_ms = match self.below(20) {
            0..=5 => 0,
            6..=14 => self.below(60),
            15..=17 => self.below(2_000),
            18 => self.below(30_000),
            // Now and then past the lease of an attempt.
            _ => self.below(400_000),
        };
        // Few keys, so that each is met again; a run favours some limits, so that they fill up.
        let favourite = run as usize % limits.len();
        let mut picked: Vec<usize> = Vec::new();
        for _ in 0..=self.below(3) {
            let index = if self.below(3) > 0 { favourite } else { self.below(limits.len() as u64) as usize };
            if !picked.contains(&index) {
                picked.push(index);
            }
        }
        if shape == Shape::LargeAlone && picked.iter().any(|&index| index >= SMALL) {
            picked.truncate(1);
            if picked[0] < SMALL {
                picked[0] = favourite.max(SMALL);
            }
        }
        let value = run * 10 + self.below(2);
        let charges = picked.into_iter().map(|index| charge(&limits[index], value)).collect();
        Step { gap_ms, charges, times: if self.below(8) == 0 { 1 + self.below(12) } else { 1 } }
    }

    pub(super) fn between(&mut self) -> Option<Between> {
        match self.below(100) {
            0..=49 => Some(Between::Settle(1)),
            50..=64 => Some(Between::Settle(2 + self.below(7) as usize)),
            65..=66 => Some(Between::Forget),
            _ => None,
        }
    }

    pub(super) fn outcome(&mut self) -> Outcome {
        match self.below(6) {
            0 => Outcome::Success,
            1 => Outcome::Neither,
            _ => Outcome::Failure,
        }
    }

    /// One of so many; there must be one.
    pub(super) fn one_of(&mut self, many: usize) -> usize {
        self.below(many as u64) as usize
    }
}
