//! The counter of one key: one small state that answers every window of its limit.
//!
//! A counter starts as the exact times of its last ten admissions, in one cache line together
//! with its key. One that sees more grows a longer ring for the windows of up to 64 events and
//! conservative buckets for the larger ones. Errors are one-sided throughout: an event may be
//! counted a little too long, never too short, so no window of length W ever holds more than N.

mod attempts;
mod buckets;
mod frozen;
mod keep;
mod many;
mod packed;
mod ring;
mod smooth;

use smallvec::SmallVec;

pub use self::attempts::{LEASE, UNDER_WAY_MAX};
pub use self::packed::{Packed, Unreadable};
pub use self::smooth::next_arrival;

use self::attempts::Attempts;
use self::keep::Keep;
use self::many::Many;
use self::ring::RingHead;
use super::limit::{Limit, Rule, Windows};
use super::tally::{Aftermath, Judgement, Outcome, Tally, WindowTally};
use super::time::Timestamp;

/// How many admissions a counter holds without growing.
const FEW: usize = 10;

/// The state of one key under one limit. 48 bytes unless it has grown.
#[derive(Clone, Debug)]
pub struct Counter(State);

#[derive(Clone, Debug)]
enum State {
    /// The exact times of the last admissions.
    Few {
        head: RingHead,
        keep: Keep,
        times: [u32; FEW],
    },
    Many(Box<Many>),
    /// The theoretical arrival time of GCRA, nanoseconds since the epoch.
    Smooth {
        arrival_ns: u64,
    },
    /// What is counted are failures.
    Attempts(Box<Attempts>),
}

/// What one window says to a charge: how full it is and, if full, when it opens.
struct WindowState {
    tally: WindowTally,
    opens_at: Option<Timestamp>,
}

impl Default for Counter {
    fn default() -> Counter {
        Counter(State::Few { head: RingHead::default(), keep: Keep::default(), times: [0; FEW] })
    }
}

impl Counter {
    /// What this counter says to one more charge of `cost`, changing nothing.
    pub fn tally(&self, rule: &Rule, cost: u32, now: Timestamp) -> Tally {
        match rule {
            Rule::Windows(windows) => self.tally_windows(windows, cost, now),
            Rule::Smooth(quota) => smooth::tally(quota, self.arrival_ns(), cost, now),
            Rule::Failures(_) | Rule::Backoff(_) => match &self.0 {
                State::Attempts(attempts) => attempts.tally(rule, now),
                State::Few { .. } | State::Many(_) | State::Smooth { .. } => {
                    Attempts::default().tally(rule, now)
                }
            },
        }
    }

    /// Charges `cost` events; of a limit that counts failures, reserves one attempt. Call only after
    /// a tally at the same `now` admitted it.
    pub fn charge(&mut self, rule: &Rule, cost: u32, now: Timestamp) {
        match rule {
            Rule::Windows(windows) => self.charge_windows(windows, cost, now),
            Rule::Smooth(quota) => {
                let arrival_ns = smooth::charge(quota, self.arrival_ns(), cost, now);
                self.0 = State::Smooth { arrival_ns };
            }
            Rule::Failures(_) | Rule::Backoff(_) => {
                let mut attempts = self.take_attempts();
                attempts.reserve(rule, now);
                self.0 = State::Attempts(attempts);
            }
        }
    }

    /// Settles an attempt that was reserved by a charge at `held_at`.
    pub fn settle(
        &mut self,
        limit: &Limit,
        held_at: Timestamp,
        outcome: Outcome,
        now: Timestamp,
    ) -> Aftermath {
        let mut attempts = self.take_attempts();
        let settled = attempts.settle(limit, held_at, outcome, now);
        self.0 = State::Attempts(attempts);
        settled
    }

    fn take_attempts(&mut self) -> Box<Attempts> {
        match std::mem::take(self).0 {
            State::Attempts(attempts) => attempts,
            State::Few { .. } | State::Many(_) | State::Smooth { .. } => Box::default(),
        }
    }

    fn arrival_ns(&self) -> Option<u64> {
        match &self.0 {
            State::Smooth { arrival_ns } => Some(*arrival_ns),
            State::Few { .. } | State::Many(_) | State::Attempts(_) => None,
        }
    }

    /// Whether the counter says nothing any more that an empty one would not.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        let now_ms = now.floor_millis();
        match &self.0 {
            State::Few { head, keep, times } => {
                head.newest(times).is_none_or(|newest| now_ms >= newest.saturating_add(keep.as_millis()))
            }
            State::Many(many) => now_ms >= many.spent_at_ms(),
            State::Smooth { arrival_ns } => now_ms >= arrival_ns.div_ceil(1_000_000),
            State::Attempts(attempts) => attempts.is_spent(now),
        }
    }

    fn tally_windows(&self, windows: &Windows, cost: u32, now: Timestamp) -> Tally {
        let mut judgement = Judgement::Admits;
        let mut opens_last = Timestamp::default();
        let mut list: SmallVec<[WindowTally; 3]> = SmallVec::new();
        for (index, window) in windows.list().iter().enumerate() {
            let state = match &self.0 {
                State::Few { head, times, .. } => head.window(times, window, cost, now),
                State::Many(many) => many.window(window, cost, now),
                State::Smooth { .. } | State::Attempts(_) => {
                    WindowState { tally: WindowTally::default(), opens_at: None }
                }
            };
            list.push(state.tally);
            if let Some(retry_at) = state.opens_at
                && retry_at >= opens_last
            {
                opens_last = retry_at;
                judgement = Judgement::Exceeded { window: index as u8, retry_at };
            }
        }
        Tally { judgement, windows: list, held: None }
    }

    fn charge_windows(&mut self, windows: &Windows, cost: u32, now: Timestamp) {
        let longest = windows.longest();
        if let State::Many(many) = &self.0
            && now.floor_millis() >= many.spent_at_ms()
        {
            // Nobody is held to what is long over: few events are counted exactly again.
            *self = Counter::default();
        }
        if let State::Few { head, keep, times } = &mut self.0 {
            if head.has_room_for(times, cost, longest, now) {
                *keep = Keep::at_least(longest);
                (0..cost).for_each(|_| head.push(times, now));
                return;
            }
            self.0 = State::Many(Box::new(Many::grown_from(head, times, windows, now)));
        }
        match &mut self.0 {
            State::Many(many) => many.charge(windows, cost, now),
            // A rule never changes between windows and smooth under one key: that is part of
            // the limit's identity.
            State::Few { .. } | State::Smooth { .. } | State::Attempts(_) => {
                let mut many = Many::new(windows);
                many.charge(windows, cost, now);
                self.0 = State::Many(Box::new(many));
            }
        }
    }
}

#[cfg(test)]
mod tests;
