//! A limit as the operator declared it, in types that only hold sound values.

use std::num::NonZeroU32;

use thiserror::Error;

use super::ipset::IpSet;
use super::key::{KeySpec, LimitId};
use super::time::Span;

/// At most `max` in ANY rolling window of length `span`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub label: Box<str>,
    pub max: NonZeroU32,
    pub span: Span,
}

/// One limit of a policy.
#[derive(Clone, Debug)]
pub struct Limit {
    pub id: LimitId,
    /// The policy (or route) it was declared in.
    pub policy: Box<str>,
    pub key: KeySpec,
    pub rule: Rule,
    /// What one request costs.
    pub cost: NonZeroU32,
    pub mode: Mode,
    /// Addresses this limit does not count.
    pub exempt: IpSet,
    pub shown: Shown,
    pub block: Option<BlockRule>,
    pub on_store_error: OnStoreError,
}

/// What a limit does while the shared store gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreError {
    /// Goes on in this node, from what it knew: exact in each node, not across them.
    #[default]
    Local,
    /// Lets nobody through: 503.
    Closed,
    /// Lets everybody through.
    Open,
}

/// What is done with the verdict of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    /// Decided, counted and logged, never refused.
    Shadow,
}

/// What clients are told of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Limit headers and Retry-After.
    Quota,
    /// Retry-After alone.
    RetryAfter,
}

/// For how long a key is blocked once it exceeds its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRule {
    /// The first block.
    pub span: Span,
    /// Each further block is so many times longer, in hundredths (200 = twice).
    pub factor_percent: u32,
    pub max: Span,
    /// After so long without a block the ladder starts anew.
    pub forget: Span,
    pub while_blocked: WhileBlocked,
}

/// What a request of a blocked key does to its block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhileBlocked {
    /// Nothing: the block ends when it was said to.
    #[default]
    Stands,
    /// The block lasts its whole length from that request on. Its length does not grow.
    Prolongs,
}

impl BlockRule {
    /// The length of the block number `level`, counted from zero.
    pub fn span_at(&self, level: u32) -> Span {
        grown(self.span, self.factor_percent, self.max, level)
    }
}

/// `first`, so many times grown by a factor in hundredths, and never above `max`.
fn grown(first: Span, factor_percent: u32, max: Span, times: u32) -> Span {
    let mut ms = first.as_millis();
    for _ in 0..times {
        let next_ms = ms.saturating_mul(u64::from(factor_percent)) / 100;
        if ms >= max.as_millis() || next_ms == ms {
            break;
        }
        ms = next_ms;
    }
    Span::from_millis(ms.min(max.as_millis()))
}

/// How long a key must wait after failures in a row: `base · factor^(n − 1)`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Span,
    /// Each further wait is so many times longer, in hundredths (200 = twice), at least 100.
    pub factor_percent: u32,
    pub max: Span,
    /// So long after a wait is over without another failure, the next one is a first again.
    pub forget: Span,
}

impl Backoff {
    /// How long to wait after `failures` in a row; nothing after none.
    pub fn wait(&self, failures: u32) -> Span {
        match failures.checked_sub(1) {
            None => Span::ZERO,
            Some(times) => grown(self.base, self.factor_percent, self.max, times),
        }
    }
}

/// The arithmetic of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Requests, in rolling windows.
    Windows(Windows),
    /// Requests, at an even pace.
    Smooth(Smooth),
    /// Failed attempts, in rolling windows. One whose outcome is not known yet counts as failed.
    Failures(Windows),
    /// Failed attempts in a row, each followed by a longer wait. One attempt at a time.
    Backoff(Backoff),
}

impl Rule {
    /// How long a counter matters after its last event.
    pub(super) fn retention(&self) -> Span {
        match self {
            Rule::Windows(windows) | Rule::Failures(windows) => windows.longest(),
            Rule::Smooth(smooth) => smooth.refill(),
            Rule::Backoff(backoff) => backoff.max.plus(backoff.forget),
        }
    }

    /// Whether what is counted is told by the backend's answer.
    pub fn counts_failures(&self) -> bool {
        match self {
            Rule::Windows(_) | Rule::Smooth(_) => false,
            Rule::Failures(_) | Rule::Backoff(_) => true,
        }
    }
}

/// Several windows over the same key: checked together, charged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    list: Box<[Window]>,
    ring_max: u32,
    longest: Span,
}

/// GCRA pacing: never more than `burst + rate · t` in any time t.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smooth {
    /// How many requests may come at once.
    pub burst: NonZeroU32,
    /// The time in which one request's worth of quota returns, nanoseconds, at least 1.
    pub replenish_one_ns: u64,
}

/// Why a rule cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    #[error("a limit needs at least one window")]
    NoWindow,
    #[error("a limit has at most {} windows", Windows::COUNT_MAX)]
    TooManyWindows,
    #[error("window {label:?} is longer than {}", Windows::SPAN_MAX)]
    TooLong { label: Box<str> },
    #[error("window {label:?} is shorter than a millisecond")]
    TooShort { label: Box<str> },
    #[error("a cost of {cost} can never fit into window {label:?} of {max}")]
    CostTooHigh { label: Box<str>, cost: u32, max: u32 },
    #[error("window {label:?} is there twice")]
    SameLabel { label: Box<str> },
}

impl Windows {
    pub const COUNT_MAX: usize = 8;
    /// A ring keeps its times as 32-bit milliseconds, which reach 49 days.
    pub const SPAN_MAX: Span = Span::from_secs(31 * 86_400);
    /// Windows up to this many events are counted exactly, event by event.
    pub const RING_MAX: u32 = 64;

    pub fn new(list: Vec<Window>, cost: NonZeroU32) -> Result<Windows, RuleError> {
        if list.is_empty() {
            return Err(RuleError::NoWindow);
        }
        if list.len() > Windows::COUNT_MAX {
            return Err(RuleError::TooManyWindows);
        }
        for (index, window) in list.iter().enumerate() {
            let label = || window.label.clone();
            if window.span > Windows::SPAN_MAX {
                return Err(RuleError::TooLong { label: label() });
            }
            if window.span == Span::ZERO {
                return Err(RuleError::TooShort { label: label() });
            }
            if cost > window.max {
                return Err(RuleError::CostTooHigh {
                    label: label(),
                    cost: cost.get(),
                    max: window.max.get(),
                });
            }
            if list[..index].iter().any(|earlier| earlier.label == window.label) {
                return Err(RuleError::SameLabel { label: label() });
            }
        }
        let exact = list.iter().map(|window| window.max.get()).filter(|&max| max <= Windows::RING_MAX);
        let ring_max = exact.max().unwrap_or(0);
        let longest = list.iter().map(|window| window.span).max().unwrap_or_default();
        Ok(Windows { list: list.into_boxed_slice(), ring_max, longest })
    }

    pub fn list(&self) -> &[Window] {
        &self.list
    }

    /// The largest `max` among the windows that a ring answers; zero if there is none.
    pub fn ring_max(&self) -> u32 {
        self.ring_max
    }

    /// The windows too large for a ring.
    pub(super) fn bucketed(&self) -> impl Iterator<Item = &Window> {
        self.list.iter().filter(|window| window.is_bucketed())
    }

    pub fn longest(&self) -> Span {
        self.longest
    }
}

impl Window {
    pub(super) fn is_bucketed(&self) -> bool {
        self.max.get() > Windows::RING_MAX
    }
}

impl Limit {
    /// How long a counter of this limit matters after its last event.
    pub fn retention(&self) -> Span {
        self.rule.retention()
    }

    /// Whether a request of a blocked key makes its block longer.
    pub fn prolongs_blocks(&self) -> bool {
        self.block.is_some_and(|block| match block.while_blocked {
            WhileBlocked::Stands => false,
            WhileBlocked::Prolongs => true,
        })
    }

    /// Whether it refuses requests because the shared store is away.
    pub fn needs_the_store(&self) -> bool {
        match (self.mode, self.on_store_error) {
            (Mode::Enforce, OnStoreError::Closed) => true,
            (Mode::Enforce, OnStoreError::Local | OnStoreError::Open) => false,
            (Mode::Shadow, OnStoreError::Local | OnStoreError::Closed | OnStoreError::Open) => false,
        }
    }
}

impl Smooth {
    /// The time in which an empty allowance becomes full again.
    pub fn refill(&self) -> Span {
        let ns = self.replenish_one_ns.saturating_mul(u64::from(self.burst.get()));
        Span::from_millis(ns.div_ceil(1_000_000))
    }
}
