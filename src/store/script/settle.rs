//! Settling attempts, and forgetting keys.

use std::sync::LazyLock;

use smallvec::SmallVec;

use super::super::remote::{Call, Piece, Script, StoreError};
use super::{Answer, kept_ms, pack, u48};
use crate::decision::block::Block;
use crate::decision::counter::{LEASE, Packed};
use crate::decision::tally::{Aftermath, Charge, Held, Judgement, Outcome, Settlement};
use crate::decision::time::Timestamp;

static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("states.lua"), include_str!("settle.lua"))));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget.lua")));

/// What a store did with the attempts of one call.
#[derive(Clone, Debug)]
pub(in crate::store) struct Closed {
    /// By the clock that the counters go by.
    pub(in crate::store) now: Timestamp,
    /// One for each attempt.
    pub(in crate::store) after: SmallVec<[After; 2]>,
}

/// What a key says once its attempt is settled, and what it holds, in the store's time.
#[derive(Clone, Debug)]
pub(in crate::store) struct After {
    pub(in crate::store) aftermath: Aftermath,
    pub(in crate::store) state: Packed,
}

/// Settles attempts that [`super::take`] reserved. `names` are those of their keys.
pub(in crate::store) fn settle(
    settlements: &[Settlement<'_>],
    names: SmallVec<[String; 4]>,
    time: Option<Timestamp>,
) -> Call<'static> {
    let time = time.map(|now| now.as_micros().to_string()).unwrap_or_default();
    let mut args: SmallVec<[Vec<u8>; 8]> = SmallVec::with_capacity(1 + 2 * settlements.len());
    args.push(time.into_bytes());
    for settlement in settlements {
        args.push(terms(settlement));
        args.push(kept_ms(settlement.charge.limit).to_string().into_bytes());
    }
    Call { script: &SETTLE, keys: names, args }
}

/// Forgets what stands under a name.
pub(in crate::store) fn forget(name: String) -> Call<'static> {
    Call { script: &FORGET, keys: SmallVec::from_iter([name]), args: SmallVec::new() }
}

/// The outcome and the end of the lease stand before the limit.
fn terms(settlement: &Settlement<'_>) -> Vec<u8> {
    let outcome = match settlement.outcome {
        Outcome::Neither => 0,
        Outcome::Failure => 1,
        Outcome::Success => 2,
    };
    let mut terms = vec![outcome];
    terms.extend(u48(held_at(settlement).ceil_millis() + LEASE.as_millis()));
    terms.extend(pack(settlement.charge.limit));
    terms
}

fn held_at(settlement: &Settlement<'_>) -> Timestamp {
    let (Held::Store(at) | Held::Node(at)) = settlement.held;
    at
}

impl Closed {
    /// Reads what the script of [`settle`] answered.
    pub(in crate::store) fn read(
        pieces: Vec<Piece>,
        settlements: &[Settlement<'_>],
    ) -> Result<Closed, StoreError> {
        let charges: SmallVec<[Charge<'_>; 4]> = settlements.iter().map(|it| it.charge).collect();
        let Answer { now, said, states } = Answer::read(pieces, &charges)?;
        let after = settlements.iter().zip(states).map(|(settlement, state)| close(settlement, state, now));
        let closed = Closed { now, after: after.collect() };
        let begun = closed.after.iter().filter(|after| after.began()).count();
        // The script and this program read one state alike, or one of them is not to be trusted.
        if u64::try_from(begun) == Ok(said) {
            Ok(closed)
        } else {
            Err(StoreError::Garbage("blocks that do not fit their states".into()))
        }
    }
}

impl After {
    fn began(&self) -> bool {
        match self.aftermath.judgement {
            Judgement::Blocked { began, .. } => began.is_some(),
            Judgement::Admits
            | Judgement::Exceeded { .. }
            | Judgement::Waits { .. }
            | Judgement::Pending { .. }
            | Judgement::Undecided { .. } => false,
        }
    }
}

/// What the script does with a key that it found in this state.
fn close(settlement: &Settlement<'_>, mut state: Packed, now: Timestamp) -> After {
    let limit = settlement.charge.limit;
    let mut aftermath = state.counter.settle(limit, held_at(settlement), settlement.outcome, now);
    let is_blocked = state.block.is_some_and(|block| block.until > now);
    if let (Outcome::Failure, Some(rule), Some(retry_at)) =
        (settlement.outcome, &limit.block, aftermath.judgement.retry_at())
        && !is_blocked
    {
        let block = Block::next(state.block, rule, retry_at, now);
        aftermath.judgement = Judgement::Blocked { until: block.until, began: Some(block) };
        state.block = Some(block);
    }
    After { aftermath, state }
}
