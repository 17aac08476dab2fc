//! A counter that has seen more than a few: a longer ring, and buckets for the large windows.

use smallvec::SmallVec;

use super::WindowState;
use super::buckets::Buckets;
use super::ring::RingHead;
use crate::decision::bytes::{self, Reader};
use crate::decision::limit::{Window, Windows};
use crate::decision::tally::WindowTally;
use crate::decision::time::{Resumed, Span, Timestamp};

#[derive(Clone, Debug)]
pub(super) struct Many {
    head: RingHead,
    /// As many as the largest of the small windows admits.
    times: Box<[u32]>,
    /// One for each large window, in the order of the limit.
    buckets: SmallVec<[Buckets; 1]>,
    longest_ms: u64,
}

impl Many {
    pub(super) fn new(windows: &Windows) -> Many {
        Many {
            head: RingHead::default(),
            times: vec![0; windows.ring_max() as usize].into_boxed_slice(),
            buckets: windows.bucketed().map(Buckets::new).collect(),
            longest_ms: windows.longest().as_millis(),
        }
    }

    /// From what another store kept: a ring with its times, and the buckets of the large windows.
    pub(super) fn of_parts(
        head: RingHead,
        times: Box<[u32]>,
        buckets: SmallVec<[Buckets; 1]>,
        longest: Span,
    ) -> Many {
        Many { head, times, buckets, longest_ms: longest.as_millis() }
    }

    pub(super) fn grown_from(head: &RingHead, times: &[u32], windows: &Windows, now: Timestamp) -> Many {
        let events = head.oldest_first(times).map(|at_ms| (at_ms, 1));
        Many::with_events(events, windows, now)
    }

    /// See [`super::frozen`].
    pub(super) fn freeze(&self, to: &mut Vec<u8>) {
        bytes::put(to, self.longest_ms, 6);
        bytes::put(to, self.times.len() as u64, 1);
        self.head.freeze(&self.times, to);
        bytes::put(to, self.buckets.len() as u64, 1);
        self.buckets.iter().for_each(|buckets| buckets.freeze(to));
    }

    pub(super) fn thaw(reader: &mut Reader<'_>, resumed: Resumed) -> Option<Many> {
        let longest_ms = reader.number(6)?;
        let mut times = vec![0; reader.number(1)? as usize].into_boxed_slice();
        let head = RingHead::thaw(reader, &mut times, resumed)?;
        let count = reader.number(1)? as usize;
        if count > Windows::COUNT_MAX {
            return None;
        }
        let buckets = (0..count).map(|_| Buckets::thaw(reader, resumed)).collect::<Option<_>>()?;
        Some(Many { head, times, buckets, longest_ms })
    }

    pub(super) fn window(&self, window: &Window, cost: u32, now: Timestamp) -> WindowState {
        if !window.is_bucketed() && self.times.len() >= window.max.get() as usize {
            return self.head.window(&self.times, window, cost, now);
        }
        if let Some(buckets) = self.buckets.iter().find(|buckets| buckets.fit(window)) {
            return buckets.window(window, cost, now);
        }
        // The limit changed since the last charge: answer from the events that are known.
        let events = self.events(now);
        let reshaped = Windows::new(vec![window.clone()], std::num::NonZeroU32::MIN);
        match reshaped {
            Ok(windows) => Many::with_events(events.into_iter(), &windows, now).window(window, cost, now),
            Err(_) => WindowState { tally: WindowTally::default(), opens_at: None },
        }
    }

    pub(super) fn charge(&mut self, windows: &Windows, cost: u32, now: Timestamp) {
        if !self.fits(windows) {
            *self = Many::with_events(self.events(now).into_iter(), windows, now);
        }
        self.add(now.ceil_millis(), cost);
    }

    /// When nothing of this is in any window any more, milliseconds.
    pub(super) fn spent_at_ms(&self) -> u64 {
        let ring = self.head.newest(&self.times).map_or(0, |newest| newest.saturating_add(self.longest_ms));
        self.buckets.iter().map(Buckets::spent_at_ms).fold(ring, u64::max)
    }

    fn with_events(events: impl Iterator<Item = (u64, u32)>, windows: &Windows, now: Timestamp) -> Many {
        let mut many = Many::new(windows);
        for (at_ms, count) in events {
            // The end of the newest bucket may lie ahead; its events do not.
            many.add(at_ms.min(now.ceil_millis()), count);
        }
        many
    }

    fn add(&mut self, at_ms: u64, count: u32) {
        for _ in 0..count.min(u32::try_from(self.times.len()).unwrap_or(u32::MAX)) {
            self.head.push_ms(&mut self.times, at_ms);
        }
        for buckets in &mut self.buckets {
            buckets.add(at_ms, count);
        }
    }

    fn fits(&self, windows: &Windows) -> bool {
        let mut bucketed = windows.bucketed();
        let buckets_fit = self.buckets.iter().all(|buckets| bucketed.next().is_some_and(|w| buckets.fit(w)));
        self.times.len() == windows.ring_max() as usize
            && buckets_fit
            && bucketed.next().is_none()
            && self.longest_ms == windows.longest().as_millis()
    }

    /// What is known of the past, oldest first, for a limit that has changed shape. Each event
    /// is placed at its true time or later: from the finest source that reaches back to it.
    fn events(&self, now: Timestamp) -> Vec<(u64, u32)> {
        let mut events: Vec<(u64, u32)> = Vec::new();
        let ring: Vec<u64> = self.head.oldest_first(&self.times).collect();
        // A full ring has forgotten what came before its oldest time.
        let mut known_from_ms = match ring.first() {
            Some(&oldest) if ring.len() == self.times.len() => oldest,
            Some(_) | None if self.times.is_empty() => u64::MAX,
            Some(_) | None => 0,
        };
        events.extend(ring.into_iter().map(|at_ms| (at_ms, 1)));
        let mut by_span: Vec<&Buckets> = self.buckets.iter().collect();
        by_span.sort_by_key(|buckets| buckets.span_ms());
        for buckets in by_span {
            // A bucket that reaches into the known part is taken whole: some of it may count twice.
            let unknown = buckets.live_ranges(now).filter(|(range_ms, _)| *range_ms.start() <= known_from_ms);
            events.extend(unknown.map(|(range_ms, count)| (*range_ms.end(), count)));
            let reaches_ms = now.floor_millis().saturating_sub(buckets.span_ms());
            known_from_ms = known_from_ms.min(reaches_ms);
        }
        events.sort_unstable();
        events
    }
}
