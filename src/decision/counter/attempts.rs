//! The attempts of one key under a limit that counts failures: those that failed, those under way.
//!
//! An attempt is reserved before it is proxied and settled by the backend's answer. Until then it
//! counts as failed, so that a thousand guesses at once get no more tries than a thousand in a row.
//! One that nobody settles, because its gateway died, has failed when its lease ends.

use smallvec::SmallVec;

use super::Counter;
use crate::decision::bytes::{self, Reader};
use crate::decision::limit::{Backoff, Limit, Rule, Window, Windows};
use crate::decision::tally::{Aftermath, Judgement, Outcome, Tally, WindowTally};
use crate::decision::time::{Resumed, Span, Timestamp};

/// How long an attempt may be under way: longer than a backend is waited for.
pub const LEASE: Span = Span::from_secs(120);
/// How many attempts of one key may be under way: their leases are read for each decision.
pub const UNDER_WAY_MAX: usize = 1024;
/// When to ask again while attempts under way could use up what is left.
const PENDING_RETRY: Span = Span::from_secs(1);

#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    /// When the lease of each attempt under way ends, milliseconds since the epoch, in ascending order.
    leases: SmallVec<[u64; 2]>,
    failed: Failed,
    /// How long any of this matters after its time, milliseconds.
    keep_ms: u64,
}

/// What is known of failures. One rule uses one of the two.
#[derive(Clone, Debug, Default)]
struct Failed {
    in_windows: Counter,
    in_a_row: u32,
    last_ms: u64,
}

impl Attempts {
    /// From what another store kept. `leases` may be in any order.
    pub(super) fn of_parts(
        rule: &Rule,
        mut leases: SmallVec<[u64; 2]>,
        in_windows: Counter,
        in_a_row: u32,
        last_ms: u64,
    ) -> Attempts {
        leases.sort_unstable();
        let failed = Failed { in_windows, in_a_row, last_ms };
        Attempts { leases, failed, keep_ms: rule.retention().as_millis() }
    }

    /// What the key says to one more attempt.
    pub(super) fn tally(&self, rule: &Rule, now: Timestamp) -> Tally {
        if self.leases.first().is_some_and(|&end_ms| end_ms <= now.floor_millis()) {
            let mut lapsed = self.clone();
            lapsed.lapse(rule, now);
            return lapsed.tally(rule, now);
        }
        let mut tally = self.failed.tally(rule, now);
        if tally.judgement == Judgement::Admits && self.could_fill(rule, &tally) {
            tally.judgement = Judgement::Pending { retry_at: now.plus(PENDING_RETRY) };
        }
        tally
    }

    /// Reserves one attempt. Call only after a tally at the same `now` admitted it.
    pub(super) fn reserve(&mut self, rule: &Rule, now: Timestamp) {
        self.lapse(rule, now);
        self.keep_ms = rule.retention().as_millis();
        let end_ms = lease_end_ms(now);
        let after = self.leases.partition_point(|&other_ms| other_ms <= end_ms);
        self.leases.insert(after, end_ms);
    }

    /// Settles the attempt that was reserved at `held_at`; what the key says afterwards.
    pub(super) fn settle(
        &mut self,
        limit: &Limit,
        held_at: Timestamp,
        outcome: Outcome,
        now: Timestamp,
    ) -> Aftermath {
        let rule = &limit.rule;
        let end_ms = lease_end_ms(held_at);
        // One whose lease has ended failed then, whatever is said of it now.
        self.lapse(rule, now);
        let held = self.leases.iter().position(|&other_ms| other_ms == end_ms);
        if let Some(index) = held {
            self.leases.remove(index);
        }
        self.keep_ms = rule.retention().as_millis();
        match outcome {
            // A key that was forgotten, or a store that lost it, knows nothing of the lease.
            Outcome::Failure if held.is_some() || now.floor_millis() < end_ms => self.failed.count(rule, now),
            Outcome::Success if limit.key.names_an_account() => self.failed.in_a_row = 0,
            Outcome::Failure | Outcome::Success | Outcome::Neither => {}
        }
        let tally = self.failed.tally(rule, now);
        Aftermath { judgement: tally.judgement, failures: self.failed.counting(rule, &tally, now) }
    }

    pub(super) fn is_spent(&self, now: Timestamp) -> bool {
        let now_ms = now.floor_millis();
        let is_over = |at_ms: u64| now_ms >= at_ms.saturating_add(self.keep_ms);
        self.leases.last().is_none_or(|&end_ms| is_over(end_ms))
            && is_over(self.failed.last_ms)
            && self.failed.in_windows.is_spent(now)
    }

    /// See [`super::frozen`].
    pub(super) fn freeze(&self, to: &mut Vec<u8>) {
        bytes::put(to, self.keep_ms, 6);
        bytes::put(to, u64::from(self.failed.in_a_row), 4);
        bytes::put(to, self.failed.last_ms, 6);
        bytes::put(to, self.leases.len() as u64, 4);
        self.leases.iter().for_each(|&end_ms| bytes::put(to, end_ms, 6));
        self.failed.in_windows.freeze(to);
    }

    /// Nobody settles what was under way: it has failed when its lease ends.
    pub(super) fn thaw(reader: &mut Reader<'_>, resumed: Resumed) -> Option<Attempts> {
        let keep_ms = reader.number(6)?;
        let in_a_row = u32::try_from(reader.number(4)?).ok()?;
        let last_ms = resumed.past_ms(reader.number(6)?);
        let count = reader.number(4)?;
        let ends = (0..count).map(|_| Some(resumed.time_ms(reader.number(6)?)));
        let mut leases: SmallVec<[u64; 2]> = ends.collect::<Option<_>>()?;
        leases.sort_unstable();
        let in_windows = Counter::thaw_events(reader, resumed)?;
        Some(Attempts { leases, failed: Failed { in_windows, in_a_row, last_ms }, keep_ms })
    }

    /// Whether the attempts under way leave no room for one more if all of them fail.
    fn could_fill(&self, rule: &Rule, tally: &Tally) -> bool {
        let under_way = u32::try_from(self.leases.len()).unwrap_or(u32::MAX);
        match rule {
            Rule::Failures(windows) => {
                let fills = |(window, seen): (&Window, &WindowTally)| {
                    seen.used.saturating_add(under_way) >= window.max.get()
                };
                self.leases.len() >= UNDER_WAY_MAX || windows.list().iter().zip(&tally.windows).any(fills)
            }
            Rule::Backoff(_) => under_way > 0,
            Rule::Windows(_) | Rule::Smooth(_) => false,
        }
    }

    /// Counts those as failed whose lease has ended.
    fn lapse(&mut self, rule: &Rule, now: Timestamp) {
        let ended = self.leases.partition_point(|&end_ms| end_ms <= now.floor_millis());
        for end_ms in self.leases.drain(..ended).collect::<SmallVec<[u64; 2]>>() {
            self.failed.count(rule, Timestamp::from_millis(end_ms));
        }
    }
}

impl Failed {
    fn tally(&self, rule: &Rule, now: Timestamp) -> Tally {
        match rule {
            Rule::Failures(windows) => self.in_windows.tally_windows(windows, 1, now),
            Rule::Backoff(backoff) => {
                let retry_at = self.waits_until(backoff);
                let judgement =
                    if now < retry_at { Judgement::Waits { retry_at } } else { Judgement::Admits };
                Tally { judgement, ..Tally::unasked() }
            }
            // A rule never changes its kind under one key: that is part of the limit's identity.
            Rule::Windows(_) | Rule::Smooth(_) => Tally::unasked(),
        }
    }

    fn count(&mut self, rule: &Rule, at: Timestamp) {
        match rule {
            Rule::Failures(windows) => self.count_in_windows(windows, at),
            Rule::Backoff(backoff) => {
                self.in_a_row = self.still_in_a_row(backoff, at).saturating_add(1);
                self.last_ms = self.last_ms.max(at.ceil_millis());
            }
            Rule::Windows(_) | Rule::Smooth(_) => {}
        }
    }

    fn count_in_windows(&mut self, windows: &Windows, at: Timestamp) {
        self.in_windows.charge_windows(windows, 1, at);
    }

    /// How many failures count against the key: in its fullest window, or in a row.
    fn counting(&self, rule: &Rule, tally: &Tally, now: Timestamp) -> u32 {
        match rule {
            Rule::Failures(_) => tally.windows.iter().map(|window| window.used).max().unwrap_or_default(),
            Rule::Backoff(backoff) => self.still_in_a_row(backoff, now),
            Rule::Windows(_) | Rule::Smooth(_) => 0,
        }
    }

    /// How many there are in a row; none once they are forgotten.
    fn still_in_a_row(&self, backoff: &Backoff, at: Timestamp) -> u32 {
        if at < self.waits_until(backoff).plus(backoff.forget) { self.in_a_row } else { 0 }
    }

    fn waits_until(&self, backoff: &Backoff) -> Timestamp {
        match self.in_a_row {
            0 => Timestamp::default(),
            failures => Timestamp::from_millis(self.last_ms).plus(backoff.wait(failures)),
        }
    }
}

/// Attempts of the same millisecond have the same lease: which of them is settled makes no difference.
fn lease_end_ms(held_at: Timestamp) -> u64 {
    held_at.ceil_millis().saturating_add(LEASE.as_millis())
}

#[cfg(test)]
mod tests;
