//! Settling attempts, and forgetting keys.

use std::sync::LazyLock;

use smallvec::{SmallVec, smallvec};

use super::super::remote::StoreError;
use super::super::remote::call::{Answer, Call, Entry, Script, Terms};
use super::{kept_ms, pack, states, u48};
use crate::decision::block::Block;
use crate::decision::counter::{LEASE, Packed};
use crate::decision::tally::{Aftermath, Held, Judgement, Outcome, Settlement};
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
    names: impl Iterator<Item = String>,
    time: Option<Timestamp>,
) -> Call {
    let head = time.map(|now| now.as_micros().to_string()).unwrap_or_default();
    let entries = names.zip(settlements).map(|(key, settlement)| Entry { key, terms: terms(settlement) });
    Call { script: &SETTLE, head, entries: entries.collect() }
}

/// Forgets what stands under a name.
pub(in crate::store) fn forget(name: String) -> Call {
    let terms = Terms { limit: Vec::new(), kept_ms: 0 };
    Call { script: &FORGET, head: String::new(), entries: smallvec![Entry { key: name, terms }] }
}

/// The outcome and the end of the lease stand before the limit.
fn terms(settlement: &Settlement<'_>) -> Terms {
    let outcome = match settlement.outcome {
        Outcome::Neither => 0,
        Outcome::Failure => 1,
        Outcome::Success => 2,
    };
    let limit = settlement.charge.limit;
    let mut packed = vec![outcome];
    packed.extend(u48(held_at(settlement).ceil_millis() + LEASE.as_millis()));
    packed.extend(pack(limit));
    Terms { limit: packed, kept_ms: kept_ms(limit) }
}

fn held_at(settlement: &Settlement<'_>) -> Timestamp {
    let (Held::Store(at) | Held::Node(at)) = settlement.held;
    at
}

impl Closed {
    /// Reads what the script of [`settle`] answered.
    pub(in crate::store) fn read(
        answer: &Answer,
        settlements: &[Settlement<'_>],
    ) -> Result<Closed, StoreError> {
        let states = states(answer, settlements.iter().map(|settlement| &settlement.charge))?;
        let now = answer.now;
        let after = settlements.iter().zip(states).map(|(settlement, state)| close(settlement, state, now));
        let closed = Closed { now, after: after.collect() };
        let begun = closed.after.iter().filter(|after| after.began()).count();
        // The script and this program read one state alike, or one of them is not to be trusted.
        if i64::try_from(begun) == Ok(answer.said) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::counter::UNDER_WAY_MAX;

    #[test]
    fn scripts_know_how_long_and_how_many_attempts_may_be_under_way() {
        let lease_ms = LEASE.as_millis();
        let states = format!("local LEASE, UNDER_WAY_MAX = {lease_ms}, {UNDER_WAY_MAX}\n");
        assert!(include_str!("states.lua").contains(&states));
        assert!(
            include_str!("refund.lua")
                .contains(&format!("ends = unpack('<I2', state, first), first + 2, at_ms + {lease_ms}\n"))
        );
    }
}
