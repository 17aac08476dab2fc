//! What a store answers: how full each window of each charge was, before anything was charged.

use smallvec::SmallVec;

use super::block::Block;
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
        /// The block, if it is this charge that began it.
        began: Option<Block>,
    },
    /// After failures in a row the key has to wait.
    Waits {
        retry_at: Timestamp,
    },
    /// Attempts whose outcome is not known yet could use up what is left.
    Pending {
        /// When to ask again: nobody knows when they will be settled.
        retry_at: Timestamp,
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
    /// In the order of the limit's windows; one entry for a smooth limit, none for a backoff.
    pub windows: SmallVec<[WindowTally; 3]>,
    /// Where an attempt was reserved by this charge; only a limit that counts failures reserves.
    pub held: Option<Held>,
}

/// An attempt that was reserved and has to be settled: in whose counter, and when by its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Where all gateways count.
    Store(Timestamp),
    /// In this node's own table, the store being away.
    Node(Timestamp),
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Failure,
    /// The right password: what was guessed wrongly before is forgotten, for this key alone.
    Success,
    /// Neither: the backend gave no answer, or one about something else.
    Neither,
}

/// A reserved attempt and its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Settlement<'a> {
    pub charge: Charge<'a>,
    pub held: Held,
    pub outcome: Outcome,
}

/// What a key says once an attempt of it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aftermath {
    /// To the next attempt; a block that this one began stands in it.
    pub judgement: Judgement,
    /// Failures that count against the key now: in its fullest window, or in a row.
    pub failures: u32,
}

impl Aftermath {
    /// Of a key that could not be asked.
    pub fn unknown() -> Aftermath {
        Aftermath { judgement: Judgement::Admits, failures: 0 }
    }
}

impl Judgement {
    /// When a refused charge may come again; none if it is not refused.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match *self {
            Judgement::Admits => None,
            Judgement::Exceeded { retry_at, .. }
            | Judgement::Waits { retry_at }
            | Judgement::Pending { retry_at }
            | Judgement::Undecided { retry_at } => Some(retry_at),
            Judgement::Blocked { until, .. } => Some(until),
        }
    }

    /// The same with every time in it passed through `map`.
    pub fn with_times(self, map: impl Fn(Timestamp) -> Timestamp) -> Judgement {
        match self {
            Judgement::Admits => Judgement::Admits,
            Judgement::Exceeded { window, retry_at } => {
                Judgement::Exceeded { window, retry_at: map(retry_at) }
            }
            Judgement::Blocked { until, began } => {
                let moved = |block: Block| Block {
                    until: map(block.until),
                    forget_at: map(block.forget_at),
                    ..block
                };
                Judgement::Blocked { until: map(until), began: began.map(moved) }
            }
            Judgement::Waits { retry_at } => Judgement::Waits { retry_at: map(retry_at) },
            Judgement::Pending { retry_at } => Judgement::Pending { retry_at: map(retry_at) },
            Judgement::Undecided { retry_at } => Judgement::Undecided { retry_at: map(retry_at) },
        }
    }
}

impl Tally {
    /// Of a counter that was not asked, and is not in the way.
    pub fn unasked() -> Tally {
        Tally { judgement: Judgement::Admits, windows: SmallVec::new(), held: None }
    }

    /// The same tally with every time in it passed through `map`.
    pub fn with_times(mut self, map: impl Fn(Timestamp) -> Timestamp) -> Tally {
        self.judgement = self.judgement.with_times(&map);
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
