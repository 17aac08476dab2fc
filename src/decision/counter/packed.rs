//! Counters as shared stores keep them.
//!
//! The first byte tells the kind: `r` for exact times, `m` for a ring with sub-buckets, `s` for pacing,
//! `f` for attempts of which the failed are counted in windows, `b` for attempts with a wait after each
//! failure; in upper case where a block of the key stands before the rest. All numbers are little-endian, all
//! times count from the epoch.
//!
//! ```text
//! block   until u56 µs | level u16 | forgotten at u56 µs
//! r       time u48 ms, oldest first, as many as fill the rest
//! m       room u8 | n u8 | sections u8 | n × time u48 ms | sections × section
//! section span u48 ms | base u48 | k u8 | k × (bucket u48, total u48)
//! s       arrival: u48 s, u32 ns
//! f       n u16 | n × end of a lease u48 ms, ascending | the failed: r or m with its tag, or nothing
//! b       n u16 | n × end of a lease u48 ms, ascending | failed in a row u32 | the last of them u48 ms
//! ```
//!
//! A bucket's total is of all events from `base` to its end, so that what is in a window is one
//! subtraction, and dropping what is old moves the base alone.

use thiserror::Error;

use super::attempts::Attempts;
use super::buckets::Buckets;
use super::keep::Keep;
use super::many::Many;
use super::ring::RingHead;
use super::{Counter, FEW, State};
use crate::decision::block::Block;
use crate::decision::bytes;
use crate::decision::limit::{Rule, Windows};
use crate::decision::time::{Span, Timestamp};

/// The state of one key as it was found.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    pub counter: Counter,
    pub block: Option<Block>,
    /// The newest exact time, milliseconds since the epoch; zero if there is none.
    pub newest_ms: u64,
}

/// The bytes are not a state of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the state of a key cannot be read")]
pub struct Unreadable;

impl Packed {
    /// Reads a state that was judged by `rule`.
    pub fn read(bytes: &[u8], rule: &Rule) -> Result<Packed, Unreadable> {
        let mut reader = Reader(bytes::Reader::new(bytes));
        let tag = reader.number(1)? as u8;
        let block = if tag.is_ascii_uppercase() { Some(reader.block()?) } else { None };
        let mut packed = Packed { block, ..Packed::default() };
        match (tag.to_ascii_lowercase(), rule) {
            (b'r', Rule::Windows(windows)) => {
                let times = reader.rest_of_times()?;
                packed.newest_ms = times.last().copied().unwrap_or_default();
                packed.counter = ring(&times, windows);
            }
            (b'm', Rule::Windows(windows)) => {
                let (many, newest_ms) = reader.many(windows)?;
                packed.newest_ms = newest_ms;
                packed.counter = Counter(State::Many(Box::new(many)));
            }
            (b's', Rule::Smooth(_)) => {
                let (seconds, ns) = (reader.number(6)?, reader.number(4)?);
                let arrival_ns = seconds.saturating_mul(1_000_000_000).saturating_add(ns);
                packed.counter = Counter(State::Smooth { arrival_ns });
            }
            (b'f', Rule::Failures(windows)) => {
                let leases = reader.leases()?;
                let failed = if reader.0.is_empty() { Counter::default() } else { reader.failed(windows)? };
                packed.counter = attempts(rule, leases, failed, 0, 0);
            }
            (b'b', Rule::Backoff(_)) => {
                let leases = reader.leases()?;
                let (in_a_row, last_ms) = (reader.number(4)? as u32, reader.number(6)?);
                packed.counter = attempts(rule, leases, Counter::default(), in_a_row, last_ms);
            }
            _ => return Err(Unreadable),
        }
        if reader.0.is_empty() { Ok(packed) } else { Err(Unreadable) }
    }
}

fn ring(times: &[u64], windows: &Windows) -> Counter {
    let mut head = RingHead::default();
    if times.len() <= FEW {
        let mut few = [0; FEW];
        times.iter().for_each(|&at_ms| head.push_ms(&mut few, at_ms));
        return Counter(State::Few { head, keep: Keep::at_least(windows.longest()), times: few });
    }
    let mut room = vec![0; times.len().max(windows.ring_max() as usize)].into_boxed_slice();
    times.iter().for_each(|&at_ms| head.push_ms(&mut room, at_ms));
    Counter(State::Many(Box::new(Many::of_parts(head, room, smallvec::SmallVec::new(), windows.longest()))))
}

fn attempts(rule: &Rule, leases: Vec<u64>, failed: Counter, in_a_row: u32, last_ms: u64) -> Counter {
    let attempts = Attempts::of_parts(rule, leases.into(), failed, in_a_row, last_ms);
    Counter(State::Attempts(Box::new(attempts)))
}

struct Reader<'b>(bytes::Reader<'b>);

impl Reader<'_> {
    /// A little-endian number of up to eight bytes.
    fn number(&mut self, width: usize) -> Result<u64, Unreadable> {
        self.0.number(width).ok_or(Unreadable)
    }

    fn block(&mut self) -> Result<Block, Unreadable> {
        let until = Timestamp::from_micros(self.number(7)?);
        let level = self.number(2)? as u16;
        Ok(Block { until, level, forget_at: Timestamp::from_micros(self.number(7)?) })
    }

    fn times(&mut self, count: usize) -> Result<Vec<u64>, Unreadable> {
        (0..count).map(|_| self.number(6)).collect()
    }

    fn leases(&mut self) -> Result<Vec<u64>, Unreadable> {
        let count = self.number(2)? as usize;
        self.times(count)
    }

    /// What failed in windows.
    fn failed(&mut self, windows: &Windows) -> Result<Counter, Unreadable> {
        match self.number(1)? as u8 {
            b'r' => Ok(ring(&self.rest_of_times()?, windows)),
            b'm' => Ok(Counter(State::Many(Box::new(self.many(windows)?.0)))),
            _ => Err(Unreadable),
        }
    }

    fn rest_of_times(&mut self) -> Result<Vec<u64>, Unreadable> {
        // A ring indexes its times with a byte.
        let count = self.0.len() / 6;
        if count > usize::from(u8::MAX) {
            return Err(Unreadable);
        }
        self.times(count)
    }

    fn many(&mut self, windows: &Windows) -> Result<(Many, u64), Unreadable> {
        let (room, count, sections) = (self.number(1)?, self.number(1)?, self.number(1)?);
        let times = self.times(count as usize)?;
        let newest_ms = times.last().copied().unwrap_or_default();
        let mut head = RingHead::default();
        let mut ring = vec![0; room.max(count) as usize].into_boxed_slice();
        times.iter().for_each(|&at_ms| head.push_ms(&mut ring, at_ms));
        let buckets = (0..sections).map(|_| self.section(windows)).collect::<Result<_, Unreadable>>()?;
        Ok((Many::of_parts(head, ring, buckets, windows.longest()), newest_ms))
    }

    fn section(&mut self, windows: &Windows) -> Result<Buckets, Unreadable> {
        let span = Span::from_millis(self.number(6)?);
        let mut before = self.number(6)?;
        let entries = self.number(1)?;
        let window = windows.bucketed().find(|window| window.span == span).ok_or(Unreadable)?;
        let mut buckets = Buckets::new(window);
        for _ in 0..entries {
            let (bucket, total) = (self.number(6)?, self.number(6)?);
            let count = total.checked_sub(before).ok_or(Unreadable)?;
            buckets.fill(bucket, u32::try_from(count).map_err(|_| Unreadable)?);
            before = total;
        }
        Ok(buckets)
    }
}

#[cfg(test)]
mod tests;
