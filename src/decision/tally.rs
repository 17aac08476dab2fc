//! What a store answers: how full each window of each charge was, before anything was charged.

use smallvec::SmallVec;

use super::key::KeyHash;
use super::limit::Limit;
use super::time::Timestamp;

/// One limit that a request wants to be counted by.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    pub key: KeyHash,
    pub limit: &'a Limit,
}

/// How full one window was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowTally {
    /// Events counted in the window, never fewer than there were.
    pub used: u32,
    /// When the first of them leaves it; `None` while nothing is counted.
    pub frees_at: Option<Timestamp>,
}

/// What a counter says to one more charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Admits,
    /// Some window is full. Nothing changes while the key is refused, so at `retry_at` the
    /// charge is admitted, and not earlier.
    Exceeded {
        /// The window that opens last.
        window: u8,
        retry_at: Timestamp,
    },
    Blocked {
        until: Timestamp,
    },
    /// The store gave no answer, and the limit lets nobody through then.
    Undecided {
        /// When the store may be back.
        retry_at: Timestamp,
    },
}

/// The answer of one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub judgement: Judgement,
    /// In the order of the limit's windows; one entry for a smooth limit.
    pub windows: SmallVec<[WindowTally; 3]>,
}

impl Tally {
    /// Of a counter that was not asked, and is not in the way.
    pub fn unasked() -> Tally {
        Tally { judgement: Judgement::Admits, windows: SmallVec::new() }
    }

    /// The same tally with every time in it passed through `map`.
    pub fn with_times(mut self, map: impl Fn(Timestamp) -> Timestamp) -> Tally {
        self.judgement = match self.judgement {
            Judgement::Admits => Judgement::Admits,
            Judgement::Exceeded { window, retry_at } => {
                Judgement::Exceeded { window, retry_at: map(retry_at) }
            }
            Judgement::Blocked { until } => Judgement::Blocked { until: map(until) },
            Judgement::Undecided { retry_at } => Judgement::Undecided { retry_at: map(retry_at) },
        };
        for window in &mut self.windows {
            window.frees_at = window.frees_at.map(&map);
        }
        self
    }
}

/// The answers to all charges of a request, in their order.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    pub list: SmallVec<[Tally; 4]>,
    /// How many of the charges had no counter of their own because the table is full, and
    /// were counted together with others: possibly too strictly, never too leniently.
    pub shared: u32,
}
