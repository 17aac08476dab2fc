//! Counting more events than one would list: 64 sub-buckets, each counted until all of it is out.
//!
//! An event in bucket b is counted while `now < (b + 1) · w + W`, that is for at least W: the
//! counted set contains the true one, so never more than N are admitted in any window. The price
//! is a window stretched by at most w = W / 64, so at least 64/65 of what exact counting admits.

use std::ops::RangeInclusive;

use super::WindowState;
use crate::decision::bytes::{self, Reader};
use crate::decision::limit::{Window, Windows};
use crate::decision::tally::WindowTally;
use crate::decision::time::{Resumed, Timestamp};

/// Sub-buckets a window.
const PER_WINDOW: u64 = 64;
/// Those that can be alive at once: the window's, one at each end, one for rounding.
const LEN: usize = 68;

/// The counts of one window.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    span_ms: u64,
    /// The number of the newest bucket: its start divided by the width.
    last: u64,
    /// No bucket before this one counts anything.
    oldest: u64,
    counts: Counts,
}

#[derive(Clone, Debug)]
enum Counts {
    Narrow(Box<[u16; LEN]>),
    Wide(Box<[u32; LEN]>),
}

impl Buckets {
    pub(super) fn new(window: &Window) -> Buckets {
        let counts = if window.max.get() <= u32::from(u16::MAX) {
            Counts::Narrow(Box::new([0; LEN]))
        } else {
            Counts::Wide(Box::new([0; LEN]))
        };
        Buckets { span_ms: window.span.as_millis(), last: 0, oldest: 0, counts }
    }

    /// Whether these buckets are those of `window`.
    pub(super) fn fit(&self, window: &Window) -> bool {
        let wide = matches!(self.counts, Counts::Wide(_));
        self.span_ms == window.span.as_millis() && wide == (window.max.get() > u32::from(u16::MAX))
    }

    pub(super) fn window(&self, window: &Window, cost: u32, now: Timestamp) -> WindowState {
        let used = self.sum(now);
        if used == 0 {
            return WindowState { tally: WindowTally::default(), opens_at: None };
        }
        let mut to_free = used.saturating_add(cost).saturating_sub(window.max.get());
        let mut frees_at = None;
        let mut opens_at = None;
        for (bucket, count) in self.live(now).filter(|&(_, count)| count > 0) {
            let leaves = Timestamp::from_millis(self.counted_until_ms(bucket));
            frees_at = frees_at.or(Some(leaves));
            if to_free == 0 {
                break;
            }
            to_free = to_free.saturating_sub(count);
            if to_free == 0 {
                opens_at = Some(leaves);
            }
        }
        WindowState { tally: WindowTally { used, frees_at }, opens_at }
    }

    /// Counts `cost` events at `at_ms`.
    pub(super) fn add(&mut self, at_ms: u64, cost: u32) {
        let bucket = (at_ms / self.width_ms()).max(self.last);
        let skipped = (bucket - self.last).min(LEN as u64);
        for number in (bucket - skipped + 1)..=bucket {
            self.set(number, 0);
        }
        self.last = bucket;
        self.set(bucket, self.get(bucket).saturating_add(cost));
        // Each bucket is passed once in its life.
        self.oldest = self.oldest.max((bucket + 1).saturating_sub(LEN as u64));
        while self.oldest < bucket && self.get(self.oldest) == 0 {
            self.oldest += 1;
        }
    }

    /// Counts `count` events in a bucket that is not older than those filled before.
    pub(super) fn fill(&mut self, bucket: u64, count: u32) {
        self.add(bucket.saturating_mul(self.width_ms()), count);
    }

    /// See [`super::frozen`].
    pub(super) fn freeze(&self, to: &mut Vec<u8>) {
        bytes::put(to, self.span_ms, 6);
        to.push(u8::from(matches!(self.counts, Counts::Wide(_))));
        let counted =
            || (self.oldest..=self.last).map(|bucket| (bucket, self.get(bucket))).filter(|(_, n)| *n > 0);
        bytes::put(to, counted().count() as u64, 1);
        for (bucket, count) in counted() {
            bytes::put(to, bucket, 6);
            bytes::put(to, u64::from(count), 4);
        }
    }

    pub(super) fn thaw(reader: &mut Reader<'_>, resumed: Resumed) -> Option<Buckets> {
        let span_ms = reader.number(6)?;
        let (counts, most) = match reader.number(1)? {
            0 => (Counts::Narrow(Box::new([0; LEN])), u64::from(u16::MAX)),
            1 => (Counts::Wide(Box::new([0; LEN])), u64::from(u32::MAX)),
            _ => return None,
        };
        if span_ms == 0 || span_ms > Windows::SPAN_MAX.as_millis() {
            return None;
        }
        let mut buckets = Buckets { span_ms, last: 0, oldest: 0, counts };
        let mut total = 0_u32;
        for _ in 0..reader.number(1)? {
            let (bucket, count) = (reader.number(6)?, reader.number(4)?);
            total = total.checked_add(u32::try_from(count).ok().filter(|_| count <= most)?)?;
            // Its events came before its end, and none of them comes after now.
            let end_ms = (bucket + 1).checked_mul(buckets.width_ms())? - 1;
            buckets.add(resumed.past_ms(end_ms), count as u32);
        }
        Some(buckets)
    }

    /// When the newest bucket is out, milliseconds.
    pub(super) fn spent_at_ms(&self) -> u64 {
        if self.get(self.last) == 0 { 0 } else { self.counted_until_ms(self.last) }
    }

    pub(super) fn span_ms(&self) -> u64 {
        self.span_ms
    }

    /// The live buckets with events, oldest first: the milliseconds of each and its count.
    pub(super) fn live_ranges(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (RangeInclusive<u64>, u32)> + '_ {
        let width_ms = self.width_ms();
        let live = self.live(now).filter(|&(_, count)| count > 0);
        live.map(move |(bucket, count)| (bucket * width_ms..=(bucket + 1) * width_ms - 1, count))
    }

    fn live(&self, now: Timestamp) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.live_buckets(now).map(|bucket| (bucket, self.get(bucket)))
    }

    /// The numbers of the buckets that count at `now`: at most as many as there is room for.
    fn live_buckets(&self, now: Timestamp) -> RangeInclusive<u64> {
        let first = now.floor_millis().saturating_sub(self.span_ms) / self.width_ms();
        first.max(self.oldest)..=self.last
    }

    /// All live events. The buckets lie in at most two runs, which add up without a lookup each.
    fn sum(&self, now: Timestamp) -> u32 {
        let live = self.live_buckets(now);
        if live.is_empty() {
            return 0;
        }
        let (first, last) = ((live.start() % LEN as u64) as usize, (live.end() % LEN as u64) as usize);
        match &self.counts {
            Counts::Narrow(counts) => sum_of_runs(&counts[..], first, last, u32::from),
            Counts::Wide(counts) => sum_of_runs(&counts[..], first, last, |count| count),
        }
    }

    fn width_ms(&self) -> u64 {
        self.span_ms.div_ceil(PER_WINDOW)
    }

    fn counted_until_ms(&self, bucket: u64) -> u64 {
        (bucket + 1).saturating_mul(self.width_ms()).saturating_add(self.span_ms)
    }

    fn get(&self, bucket: u64) -> u32 {
        let index = (bucket % LEN as u64) as usize;
        match &self.counts {
            Counts::Narrow(counts) => u32::from(counts[index]),
            Counts::Wide(counts) => counts[index],
        }
    }

    fn set(&mut self, bucket: u64, count: u32) {
        let index = (bucket % LEN as u64) as usize;
        match &mut self.counts {
            // A narrow window admits at most as many as fit.
            Counts::Narrow(counts) => counts[index] = u16::try_from(count).unwrap_or(u16::MAX),
            Counts::Wide(counts) => counts[index] = count,
        }
    }
}

/// The sum from `first` to `last`, around the end if `last` lies before `first`. A window admits
/// at most `u32::MAX`, so its counts do not overflow one.
fn sum_of_runs<C: Copy>(counts: &[C], first: usize, last: usize, widen: impl Fn(C) -> u32) -> u32 {
    let sum = |run: &[C]| run.iter().fold(0_u32, |sum, &count| sum.wrapping_add(widen(count)));
    if first <= last { sum(&counts[first..=last]) } else { sum(&counts[first..]) + sum(&counts[..=last]) }
}
