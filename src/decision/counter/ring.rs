//! The exact times of the newest admissions, oldest overwritten first.
//!
//! Admit at `t` iff the N-th newest admission is at least W old: then fewer than N lie in the
//! trailing window, and no window of length W ever holds more than N. One append charges every
//! window, and one ring of the largest N answers them all.

use super::WindowState;
use crate::decision::bytes::{self, Reader};
use crate::decision::limit::Window;
use crate::decision::tally::WindowTally;
use crate::decision::time::{Resumed, Span, Timestamp};

/// 2020-01-01, so that seconds since then fit 32 bits until 2156.
const ORIGIN_MS: u64 = 1_577_836_800_000;

/// Where a ring begins and what its times count from. The times themselves, milliseconds since
/// the base, stand beside it: inline or on the heap.
///
/// The base is kept as bytes so that the whole counter packs into 48 of them.
#[derive(Clone, Debug, Default)]
pub(super) struct RingHead {
    base_s: [u8; 4],
    next: u8,
    len: u8,
}

impl RingHead {
    pub(super) fn newest(&self, times: &[u32]) -> Option<u64> {
        self.nth_newest(times, 1)
    }

    /// The time of the n-th newest admission, milliseconds since the epoch; 1 is the newest.
    fn nth_newest(&self, times: &[u32], n: u32) -> Option<u64> {
        if n == 0 || n > u32::from(self.len) {
            return None;
        }
        let capacity = times.len();
        let index = (usize::from(self.next) + capacity - n as usize) % capacity;
        times.get(index).map(|&offset_ms| self.base_ms() + u64::from(offset_ms))
    }

    /// All times, oldest first.
    pub(super) fn oldest_first<'a>(&'a self, times: &'a [u32]) -> impl Iterator<Item = u64> + 'a {
        (1..=u32::from(self.len)).rev().filter_map(|n| self.nth_newest(times, n))
    }

    /// How full a window is and, if `cost` more does not fit, when it will.
    pub(super) fn window(&self, times: &[u32], window: &Window, cost: u32, now: Timestamp) -> WindowState {
        let used = self.count_within(times, window.span, now);
        let leaves = |n: u32| {
            let admitted_ms = self.nth_newest(times, n)?;
            Some(Timestamp::from_millis(admitted_ms).plus(window.span))
        };
        let max = window.max.get();
        // With the event number max − cost + 1 gone, exactly max − cost are left.
        let opens_at = if used.saturating_add(cost) > max { leaves(max + 1 - cost.min(max)) } else { None };
        WindowState { tally: WindowTally { used, frees_at: leaves(used) }, opens_at }
    }

    /// How many of the admissions lie in the trailing window.
    fn count_within(&self, times: &[u32], span: Span, now: Timestamp) -> u32 {
        let now_ms = now.floor_millis();
        let is_within = |n| {
            self.nth_newest(times, n)
                .is_some_and(|admitted| now_ms.saturating_sub(admitted) < span.as_millis())
        };
        let (mut within, mut beyond) = (0, u32::from(self.len) + 1);
        while beyond - within > 1 {
            let middle = within + (beyond - within) / 2;
            if is_within(middle) {
                within = middle;
            } else {
                beyond = middle;
            }
        }
        within
    }

    /// Whether `cost` appends would overwrite only what lies outside the longest window.
    pub(super) fn has_room_for(&self, times: &[u32], cost: u32, longest: Span, now: Timestamp) -> bool {
        let kept = self.count_within(times, longest, now);
        kept.saturating_add(cost) as usize <= times.len()
    }

    /// Appends one admission.
    pub(super) fn push(&mut self, times: &mut [u32], now: Timestamp) {
        self.push_ms(times, now.ceil_millis());
    }

    pub(super) fn push_ms(&mut self, times: &mut [u32], at_ms: u64) {
        // A clock that ran backwards must not make an old event look young again.
        let at_ms = self.newest(times).map_or(at_ms, |newest| newest.max(at_ms)).max(ORIGIN_MS);
        if self.len == 0 {
            self.set_base_ms(at_ms);
        } else if at_ms - self.base_ms() > u64::from(u32::MAX) {
            self.rebase(times, at_ms);
        }
        let offset_ms = u32::try_from(at_ms - self.base_ms()).unwrap_or(u32::MAX);
        let capacity = times.len();
        if let Some(slot) = times.get_mut(usize::from(self.next)) {
            *slot = offset_ms;
            self.next = ((usize::from(self.next) + 1) % capacity) as u8;
            self.len = (usize::from(self.len) + 1).min(capacity) as u8;
        }
    }

    /// See [`super::frozen`].
    pub(super) fn freeze(&self, times: &[u32], to: &mut Vec<u8>) {
        to.push(self.len);
        let mut oldest_first = self.oldest_first(times);
        if let Some(first) = oldest_first.next() {
            bytes::put(to, first, 6);
            oldest_first.for_each(|at_ms| bytes::put(to, at_ms.saturating_sub(first), 4));
        }
    }

    /// Reads what [`RingHead::freeze`] wrote, into `times` that are empty.
    pub(super) fn thaw(reader: &mut Reader<'_>, times: &mut [u32], resumed: Resumed) -> Option<RingHead> {
        let count = reader.number(1)?;
        if count > times.len() as u64 {
            return None;
        }
        let mut head = RingHead::default();
        let mut first = None;
        for _ in 0..count {
            let at_ms = match first {
                None => *first.insert(reader.number(6)?),
                Some(first) => first + reader.number(4)?,
            };
            head.push_ms(times, resumed.past_ms(at_ms));
        }
        Some(head)
    }

    /// Moves the base so that `at_ms` is in reach. What falls out of reach is 49 days old:
    /// older than any window.
    fn rebase(&mut self, times: &mut [u32], at_ms: u64) {
        let out_of_reach_ms = at_ms.saturating_sub(u64::from(u32::MAX) - 1000);
        let kept: smallvec::SmallVec<[u64; 64]> =
            self.oldest_first(times).filter(|&ms| ms > out_of_reach_ms).collect();
        *self = RingHead::default();
        self.set_base_ms(kept.first().copied().unwrap_or(at_ms));
        for ms in kept {
            self.push_ms(times, ms);
        }
        if self.len == 0 {
            self.set_base_ms(at_ms);
        }
    }

    fn base_ms(&self) -> u64 {
        ORIGIN_MS + u64::from(u32::from_le_bytes(self.base_s)) * 1000
    }

    fn set_base_ms(&mut self, at_ms: u64) {
        let base_s = (at_ms - ORIGIN_MS.min(at_ms)) / 1000;
        self.base_s = u32::try_from(base_s).unwrap_or(u32::MAX).to_le_bytes();
    }
}
