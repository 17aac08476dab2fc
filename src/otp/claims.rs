//! Requests that must not be made twice, for whoever has no shared store. In memory alone: a restart forgets them, and
//! who asks again then is sent the same code, if the limits let him.

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;

use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};

/// What is known of a request that names itself (`Idempotency-Key`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is to be made, and answered or released.
    Yours,
    /// Another one like it is under way.
    Pending,
    /// It was made, and this was the answer.
    Answered(Vec<u8>),
    /// Another one bore the same name.
    Mismatch,
}

/// What an answer may weigh, bytes.
pub const ANSWER_MAX: usize = 2048;
/// How many claims are held at most.
const CLAIMS_MAX: usize = 100_000;
/// A full table looks for claims that are over no more often than this.
const SWEPT_EVERY: Span = Span::from_secs(1);

/// The claims of one gateway, bounded.
#[derive(Default)]
pub(super) struct Claims(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_key: HashMap<KeyHash, Held>,
    swept_at: Timestamp,
}

struct Held {
    print: [u8; 16],
    until: Timestamp,
    answer: Option<Box<[u8]>>,
}

/// There are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Claims {
    pub(super) fn claim(
        &self,
        key: KeyHash,
        print: [u8; 16],
        now: Timestamp,
        kept: Span,
    ) -> Result<Claim, Full> {
        let mut table = self.0.lock();
        if let Some(held) = table.by_key.get(&key).filter(|held| held.until > now) {
            return Ok(match &held.answer {
                _ if held.print != print => Claim::Mismatch,
                None => Claim::Pending,
                Some(answer) => Claim::Answered(answer.to_vec()),
            });
        }
        if !table.by_key.contains_key(&key) && !table.has_room(now) {
            return Err(Full);
        }
        table.by_key.insert(key, Held { print, until: now.plus(kept), answer: None });
        Ok(Claim::Yours)
    }

    pub(super) fn answer(&self, key: KeyHash, bytes: &[u8], now: Timestamp, kept: Span) {
        if let Some(held) = self.0.lock().by_key.get_mut(&key).filter(|held| held.until > now) {
            held.answer = Some(bytes.into());
            held.until = now.plus(kept);
        }
    }

    pub(super) fn release(&self, key: KeyHash) {
        let mut table = self.0.lock();
        if table.by_key.get(&key).is_some_and(|held| held.answer.is_none()) {
            table.by_key.remove(&key);
        }
    }
}

impl Table {
    fn has_room(&mut self, now: Timestamp) -> bool {
        if self.by_key.len() >= CLAIMS_MAX && now >= self.swept_at.plus(SWEPT_EVERY) {
            self.swept_at = now;
            self.by_key.retain(|_, held| held.until > now);
        }
        self.by_key.len() < CLAIMS_MAX
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_claims_is_refused_until_some_are_over() {
        let (claims, now) = (Claims::default(), Timestamp::from_millis(1_800_000_000_000));
        let claim = |number: usize, now, kept_s| {
            claims.claim(KeyHash::from_u128(number as u128), [1; 16], now, Span::from_secs(kept_s))
        };
        for number in 0..CLAIMS_MAX {
            assert_eq!(claim(number, now, if number == 0 { 5 } else { 10 }), Ok(Claim::Yours));
        }
        assert_eq!(claim(CLAIMS_MAX, now, 10), Err(Full));
        assert_eq!(claim(1, now, 10), Ok(Claim::Pending));
        let later = now.plus(Span::from_secs(5));
        assert_eq!(claim(CLAIMS_MAX, later, 10), Ok(Claim::Yours));
        assert_eq!(claim(CLAIMS_MAX + 1, later, 10), Err(Full));
    }
}
