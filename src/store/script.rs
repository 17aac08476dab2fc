//! The scripts by which a shared store charges, and what goes in and out of them.
//!
//! A script only checks and appends. It answers with the states as it found them, and what they
//! mean (how much is left, when to try again) is worked out here, by the same code as in memory.
//!
//! A limit is packed as little-endian numbers:
//!
//! ```text
//! kind u8 (0 windows, 1 smooth, 2 failures, 3 backoff) | enforced u8 | cost u32 | longest u48 ms | has a block u8 | windows u8 | ring u8
//! windows × (max u32, span u48 ms)   or   burst u32, period u64 ns
//!                                    or   base u48 ms, factor u32 %, max u48 ms, forget u48 ms
//! block: span u48 ms, factor u32 %, max u48 ms, forget u48 ms
//! flags u8: 1 if requests of a blocked key prolong its block, 2 if its key names an account
//! ```
//!
//! `ring` is how many exact times the windows of up to 64 need. How states are packed is told at
//! [`Packed`].

mod settle;

use std::sync::LazyLock;

use smallvec::SmallVec;

use super::remote::StoreError;
use super::remote::call::{Answer, Call, Entry, Script, Terms};
use crate::decision::block::Block;
use crate::decision::counter::{Packed, Unreadable};
use crate::decision::limit::{BlockRule, Limit, Mode, Rule, WhileBlocked};
use crate::decision::tally::{Charge, Held, Judgement, Tally};
use crate::decision::time::Timestamp;

pub(super) use self::settle::{After, Closed, forget, settle};

static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(include_str!("script/states.lua"), include_str!("script/take.lua")))
});
static REFUND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("script/refund.lua")));

/// What a store did with the charges of one call.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// By the clock that the counters go by.
    pub(super) now: Timestamp,
    pub(super) charged: bool,
    /// The state of each key before the call.
    states: SmallVec<[Packed; 4]>,
}

/// What became of the request that a call was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Admitted,
    /// Another part of the store refused it: what was charged is given back.
    Refused,
}

/// One charge with what its key said to it, and what is known of the key now.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) after: Packed,
}

/// Charges all of `charges`, or none. `names` are those of their keys.
pub(super) fn take(
    charges: &[Charge<'_>],
    names: impl Iterator<Item = String>,
    time: Option<Timestamp>,
) -> Call {
    let time = time.map(|now| now.as_micros().to_string()).unwrap_or_default();
    Call { script: &TAKE, head: time, entries: entries(charges, names) }
}

/// Takes back what `taken` charged.
pub(super) fn refund(charges: &[Charge<'_>], names: impl Iterator<Item = String>, taken: &Taken) -> Call {
    Call { script: &REFUND, head: taken.now.ceil_millis().to_string(), entries: entries(charges, names) }
}

fn entries(charges: &[Charge<'_>], names: impl Iterator<Item = String>) -> SmallVec<[Entry; 2]> {
    let terms = |limit: &Limit| Terms { limit: pack(limit), kept_ms: kept_ms(limit) };
    names.zip(charges).map(|(key, charge)| Entry { key, terms: terms(charge.limit) }).collect()
}

/// The states that a script answered with.
fn states<'c>(
    answer: &Answer,
    charges: impl Iterator<Item = &'c Charge<'c>>,
) -> Result<SmallVec<[Packed; 4]>, StoreError> {
    let read = |(charge, state): (&Charge<'_>, &Option<Vec<u8>>)| match state {
        None => Ok(Packed::default()),
        Some(bytes) => Packed::read(bytes, &charge.limit.rule).map_err(|Unreadable| StoreError::WrongType),
    };
    charges.zip(&answer.states).map(read).collect()
}

impl Taken {
    /// Reads what the script of [`take`] answered.
    pub(super) fn read(answer: &Answer, charges: &[Charge<'_>]) -> Result<Taken, StoreError> {
        let (now, charged) = (answer.now, answer.said == 1);
        let taken = Taken { now, charged, states: states(answer, charges.iter())? };
        let admitted = charges.iter().zip(&taken.states).all(|(charge, state)| {
            charge.limit.mode == Mode::Shadow
                || judge(charge.limit, state, now).0.judgement == Judgement::Admits
        });
        // The script and this program read one state alike, or one of them is not to be trusted.
        if admitted == charged {
            Ok(taken)
        } else {
            Err(StoreError::Garbage("a verdict that does not fit its states".into()))
        }
    }

    /// Those of the charges that were made. One in shadow mode may not have been.
    pub(super) fn made<'c>(&self, charges: &[Charge<'c>]) -> SmallVec<[Charge<'c>; 4]> {
        let admits = |(charge, state): &(&Charge<'_>, &Packed)| {
            judge(charge.limit, state, self.now).0.judgement == Judgement::Admits
        };
        let made = charges.iter().zip(&self.states).filter(|_| self.charged).filter(admits);
        made.map(|(charge, _)| *charge).collect()
    }

    /// What each charge met, and what its key holds once all is settled, in the store's time.
    pub(super) fn outcomes<'t>(
        &'t self,
        charges: &'t [Charge<'_>],
        settled: Settled,
    ) -> impl Iterator<Item = Outcome> + 't {
        let stays = self.charged && settled == Settled::Admitted;
        charges.iter().zip(&self.states).map(move |(Charge { limit, .. }, state)| {
            let (mut tally, block) = judge(limit, state, self.now);
            let mut after = Packed { block, ..state.clone() };
            if stays && tally.judgement == Judgement::Admits {
                after.counter.charge(&limit.rule, limit.cost.get(), self.now);
                tally.held = limit.rule.counts_failures().then_some(Held::Store(self.now));
            }
            Outcome { tally, after }
        })
    }
}

/// What a state says to one more charge, and the block that stands after it.
fn judge(limit: &Limit, state: &Packed, now: Timestamp) -> (Tally, Option<Block>) {
    if let Some(block) = state.block
        && block.until > now
    {
        let block = block.after_another(limit.block.as_ref(), now).unwrap_or(block);
        let judgement = Judgement::Blocked { until: block.until, began: None };
        return (Tally { judgement, ..Tally::unasked() }, Some(block));
    }
    let mut tally = state.counter.tally(&limit.rule, limit.cost.get(), now);
    match (tally.judgement, &limit.block) {
        (Judgement::Exceeded { retry_at, .. }, Some(rule)) => {
            let block = Block::next(state.block, rule, retry_at, now);
            tally.judgement = Judgement::Blocked { until: block.until, began: Some(block) };
            (tally, Some(block))
        }
        (
            Judgement::Admits
            | Judgement::Exceeded { .. }
            | Judgement::Blocked { .. }
            | Judgement::Waits { .. }
            | Judgement::Pending { .. }
            | Judgement::Undecided { .. },
            _,
        ) => (tally, state.block),
    }
}

fn pack(limit: &Limit) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let (kind, windows, ring) = match &limit.rule {
        Rule::Windows(windows) => (0, windows.list().len() as u8, windows.ring_max() as u8),
        Rule::Smooth(_) => (1, 1, 0),
        Rule::Failures(windows) => (2, windows.list().len() as u8, windows.ring_max() as u8),
        Rule::Backoff(_) => (3, 0, 0),
    };
    bytes.push(kind);
    bytes.push(u8::from(limit.mode == Mode::Enforce));
    bytes.extend(limit.cost.get().to_le_bytes());
    bytes.extend(u48(limit.retention().as_millis()));
    bytes.extend([u8::from(limit.block.is_some()), windows, ring]);
    match &limit.rule {
        Rule::Windows(windows) | Rule::Failures(windows) => {
            for window in windows.list() {
                bytes.extend(window.max.get().to_le_bytes());
                bytes.extend(u48(window.span.as_millis()));
            }
        }
        Rule::Smooth(smooth) => {
            bytes.extend(smooth.burst.get().to_le_bytes());
            bytes.extend(smooth.replenish_one_ns.to_le_bytes());
        }
        Rule::Backoff(backoff) => {
            bytes.extend(u48(backoff.base.as_millis()));
            bytes.extend(backoff.factor_percent.to_le_bytes());
            bytes.extend(u48(backoff.max.as_millis()));
            bytes.extend(u48(backoff.forget.as_millis()));
        }
    }
    let mut flags = if limit.key.names_an_account() { 2 } else { 0 };
    if let Some(BlockRule { span, factor_percent, max, forget, while_blocked }) = &limit.block {
        bytes.extend(u48(span.as_millis()));
        bytes.extend(factor_percent.to_le_bytes());
        bytes.extend(u48(max.as_millis()));
        bytes.extend(u48(forget.as_millis()));
        flags |= match while_blocked {
            WhileBlocked::Stands => 0,
            WhileBlocked::Prolongs => 1,
        };
    }
    bytes.push(flags);
    bytes
}

/// How long a key may matter: a sub-bucket, and the rounding of times, longer than its longest window.
fn kept_ms(limit: &Limit) -> u64 {
    let longest_ms = limit.retention().as_millis();
    longest_ms + longest_ms.div_ceil(64) + 2
}

fn u48(number: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = number.min((1 << 48) - 1).to_le_bytes();
    [a, b, c, d, e, f]
}
