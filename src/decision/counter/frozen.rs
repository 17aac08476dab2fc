//! Counters as a snapshot keeps them: what they hold, without the rule that they were counted by.
//!
//! The first byte tells the state, what follows tells its own length. Numbers are little-endian, times count from
//! the epoch. A change of this format is a new version of the snapshot (`store/snapshot.rs`).
//!
//! ```text
//! few 1   keep u8 | ring of at most 10
//! many 2  longest window u48 ms | room u8 | ring of at most room | k u8 | k × section
//! smooth 3  arrival u64 ns
//! attempts 4  kept for u48 ms | failed in a row u32 | the last at u48 ms | n u32 × end of lease u48 ms | few or many
//! ring    n u8 | oldest u48 ms | (n − 1) × ms after the oldest u32
//! section span u48 ms | wide u8 | n u8 | n × (bucket u48, count u32)
//! ```

use super::attempts::Attempts;
use super::keep::Keep;
use super::many::Many;
use super::ring::RingHead;
use super::{Counter, FEW, State};
use crate::decision::bytes::{self, Reader};
use crate::decision::time::{Resumed, Timestamp};

const FEW_TAG: u8 = 1;
const MANY_TAG: u8 = 2;
const SMOOTH_TAG: u8 = 3;
const ATTEMPTS_TAG: u8 = 4;

impl Counter {
    /// Appends the counter to `to`.
    pub fn freeze(&self, to: &mut Vec<u8>) {
        match &self.0 {
            State::Few { head, keep, times } => {
                to.extend([FEW_TAG, keep.code()]);
                head.freeze(times, to);
            }
            State::Many(many) => {
                to.push(MANY_TAG);
                many.freeze(to);
            }
            State::Smooth { arrival_ns } => {
                to.push(SMOOTH_TAG);
                bytes::put(to, *arrival_ns, 8);
            }
            State::Attempts(attempts) => {
                to.push(ATTEMPTS_TAG);
                attempts.freeze(to);
            }
        }
    }

    /// Reads one counter off the front; none if the bytes are not what [`Counter::freeze`] writes.
    pub fn thaw(reader: &mut Reader<'_>, resumed: Resumed) -> Option<Counter> {
        let state = match u8::try_from(reader.number(1)?).ok()? {
            tag @ (FEW_TAG | MANY_TAG) => return Counter::thaw_tagged(tag, reader, resumed),
            SMOOTH_TAG => State::Smooth { arrival_ns: arrival_ns(reader.number(8)?, resumed) },
            ATTEMPTS_TAG => State::Attempts(Box::new(Attempts::thaw(reader, resumed)?)),
            _ => return None,
        };
        Some(Counter(state))
    }

    /// One that lists events and holds no other counter: bytes cannot nest.
    pub(super) fn thaw_events(reader: &mut Reader<'_>, resumed: Resumed) -> Option<Counter> {
        let tag = u8::try_from(reader.number(1)?).ok()?;
        Counter::thaw_tagged(tag, reader, resumed)
    }

    fn thaw_tagged(tag: u8, reader: &mut Reader<'_>, resumed: Resumed) -> Option<Counter> {
        let state = match tag {
            FEW_TAG => {
                let keep = Keep::of_code(u8::try_from(reader.number(1)?).ok()?);
                let mut times = [0; FEW];
                let head = RingHead::thaw(reader, &mut times, resumed)?;
                State::Few { head, keep, times }
            }
            MANY_TAG => State::Many(Box::new(Many::thaw(reader, resumed)?)),
            _ => return None,
        };
        Some(Counter(state))
    }
}

/// It lies ahead while the quota is not full. Rounded up, as all that is kept.
fn arrival_ns(then_ns: u64, resumed: Resumed) -> u64 {
    let then = Timestamp::from_micros(then_ns / 1000);
    let moved_us = then.as_micros() - resumed.time(then).as_micros();
    then_ns - moved_us * 1000
}

#[cfg(test)]
mod tests;
