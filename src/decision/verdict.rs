//! What becomes of a request: a permit to be proxied, or a refusal that says why.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::block::Block;
use super::headers::{Quota, WindowIndex};
use super::limit::{Limit, Mode, Rule, Shown};
use super::policy::Route;
use super::tally::{Judgement, Tallies, Tally};
use super::time::{Span, Timestamp};

/// The proof that a request was admitted: nothing is proxied without one.
#[derive(Debug)]
pub struct Permit {
    quota: Option<Quota>,
    grounds: Grounds,
}

/// Why a request was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// Its limits were charged, or it has none.
    Charged,
    /// It is not counted: a CORS preflight, or an address on the allow list.
    Exempt,
}

impl Permit {
    /// For a request that is not counted.
    pub(crate) fn exempt() -> Permit {
        Permit { quota: None, grounds: Grounds::Exempt }
    }

    pub fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    pub fn grounds(&self) -> Grounds {
        self.grounds
    }
}

/// What the limits say to a request.
#[derive(Debug)]
pub struct Conclusion {
    pub outcome: Result<Permit, Refused>,
    /// The limits in shadow mode that would have refused it.
    pub shadowed: SmallVec<[Cause; 1]>,
    /// The enforced blocks that it began.
    pub began: SmallVec<[Began; 1]>,
}

/// A block that a request began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Began {
    /// The number of the limit in its route.
    pub limit: u8,
    pub block: Block,
    /// What was counted in the fullest window.
    pub attempts: u32,
}

/// Why the limits do not let a request through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Limited(Limited),
    /// No limit is known to be exceeded, but one that must not be passed unseen could not be asked.
    Undecided {
        /// The number of the limit in its route.
        limit: u8,
        retry_at: Timestamp,
    },
}

/// A refusal by a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub cause: Cause,
    /// Waiting until then succeeds if nothing else is sent meanwhile.
    pub retry_at: Timestamp,
    pub quota: Option<Quota>,
    /// Every enforced limit that refused.
    pub all: SmallVec<[Cause; 2]>,
}

/// What refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Window(WindowIndex),
    /// The key is blocked after exceeding this limit of the route.
    Block {
        limit: u8,
    },
    /// The key has to wait after failures in a row.
    Backoff {
        limit: u8,
    },
    /// Attempts under way could use up what is left.
    Pending {
        limit: u8,
    },
}

impl Cause {
    pub fn limit(self) -> usize {
        match self {
            Cause::Window(of) => usize::from(of.limit),
            Cause::Block { limit } | Cause::Backoff { limit } | Cause::Pending { limit } => {
                usize::from(limit)
            }
        }
    }
}

/// Judges the tallies of the limits `charged` (their numbers in the route, in the order of the
/// tallies). `Retry-After` is the maximum over all that refuse: waiting that long satisfies each.
pub fn conclude(route: &Route, charged: &[u8], tallies: &Tallies, now: Timestamp) -> Conclusion {
    let mut shadowed = SmallVec::new();
    let mut began = SmallVec::new();
    let mut all: SmallVec<[Cause; 2]> = SmallVec::new();
    let mut last: Option<(Timestamp, Cause)> = None;
    let mut undecided: Option<(u8, Timestamp)> = None;
    let judged = || {
        charged
            .iter()
            .zip(&tallies.list)
            .filter_map(|(&index, tally)| Some((index, route.limits().get(usize::from(index))?, tally)))
    };
    for (index, limit, tally) in judged() {
        if let Judgement::Undecided { retry_at } = tally.judgement
            && limit.mode == Mode::Enforce
        {
            undecided = undecided.or(Some((index, retry_at)));
        }
        let Some((retry_at, cause)) = refusal(index, tally) else { continue };
        match limit.mode {
            Mode::Shadow => shadowed.push(cause),
            Mode::Enforce => {
                all.push(cause);
                if let Judgement::Blocked { began: Some(block), .. } = tally.judgement {
                    let attempts = tally.windows.iter().map(|window| window.used).max().unwrap_or_default();
                    began.push(Began { limit: index, block, attempts });
                }
                if last.is_none_or(|(latest, _)| retry_at > latest) {
                    last = Some((retry_at, cause));
                }
            }
        }
    }
    let tightest = |charged| {
        let shown =
            judged().filter(|(_, limit, _)| limit.shown == Shown::Quota && limit.mode == Mode::Enforce);
        let quotas = shown.flat_map(|(index, limit, tally)| quotas(index, limit, tally, charged, now));
        let tightest =
            quotas.min_by_key(|(fullness, quota)| (*fullness, quota.remaining, Reverse(quota.resets_at)));
        tightest.map(|(_, quota)| quota)
    };
    let outcome = match (last, undecided) {
        (None, None) => Ok(Permit { quota: tightest(Charged::Yes), grounds: Grounds::Charged }),
        (Some((retry_at, cause)), _) => {
            Err(Refused::Limited(Limited { cause, retry_at, quota: tightest(Charged::No), all }))
        }
        (None, Some((limit, retry_at))) => Err(Refused::Undecided { limit, retry_at }),
    };
    Conclusion { outcome, shadowed, began }
}

#[derive(Clone, Copy)]
enum Charged {
    Yes,
    No,
}

fn refusal(index: u8, tally: &Tally) -> Option<(Timestamp, Cause)> {
    match tally.judgement {
        Judgement::Admits | Judgement::Undecided { .. } => None,
        Judgement::Exceeded { window, retry_at } => {
            Some((retry_at, Cause::Window(WindowIndex { limit: index, window })))
        }
        Judgement::Blocked { until, .. } => Some((until, Cause::Block { limit: index })),
        Judgement::Waits { retry_at } => Some((retry_at, Cause::Backoff { limit: index })),
        Judgement::Pending { retry_at } => Some((retry_at, Cause::Pending { limit: index })),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fullness {
    Refuses,
    Admits,
}

/// The state of each window as it is after this request.
fn quotas<'a>(
    index: u8,
    limit: &'a Limit,
    tally: &'a Tally,
    charged: Charged,
    now: Timestamp,
) -> impl Iterator<Item = (Fullness, Quota)> + 'a {
    tally.windows.iter().enumerate().map(move |(window, seen)| {
        let window = u8::try_from(window).unwrap_or(u8::MAX);
        let max = limit.window_max(window);
        let left = max.saturating_sub(seen.used);
        let of = WindowIndex { limit: index, window };
        match tally.judgement {
            Judgement::Exceeded { window: full, retry_at } if full == window => {
                (Fullness::Refuses, Quota { of, limit: max, remaining: left, resets_at: retry_at })
            }
            Judgement::Exceeded { .. }
            | Judgement::Admits
            | Judgement::Blocked { .. }
            | Judgement::Waits { .. }
            | Judgement::Pending { .. }
            | Judgement::Undecided { .. } => {
                let (remaining, first_return) = match charged {
                    Charged::Yes => {
                        (left.saturating_sub(limit.cost.get()), now.plus(limit.returns_after(window)))
                    }
                    Charged::No => (left, now),
                };
                let resets_at = seen.frees_at.unwrap_or(first_return);
                (Fullness::Admits, Quota { of, limit: max, remaining, resets_at })
            }
        }
    })
}

impl Limit {
    /// How long after a charge its quota returns.
    fn returns_after(&self, window: u8) -> Span {
        match &self.rule {
            Rule::Windows(windows) | Rule::Failures(windows) => {
                windows.list().get(usize::from(window)).map_or(Span::ZERO, |window| window.span)
            }
            Rule::Backoff(_) => Span::ZERO,
            Rule::Smooth(smooth) => Span::from_millis(smooth.replenish_one_ns.div_ceil(1_000_000)),
        }
    }

    /// The size of a window; of a smooth limit, its burst.
    pub fn window_max(&self, window: u8) -> u32 {
        match &self.rule {
            Rule::Windows(windows) | Rule::Failures(windows) => {
                windows.list().get(usize::from(window)).map_or(0, |window| window.max.get())
            }
            Rule::Smooth(smooth) => smooth.burst.get(),
            // One attempt at a time.
            Rule::Backoff(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests;
