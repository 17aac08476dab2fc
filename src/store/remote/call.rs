//! What scripts are given, and what they answer. A script decides several requests in one go, each by itself:
//!
//! ```text
//! KEYS         the keys of the first request, then those of the next
//! ARGV[1]      for each request a byte, how many keys it has, and a byte for each of them, the number of its terms
//! ARGV[2]      what is told about all requests, text
//! ARGV[2n+1]   the n-th terms: a limit, packed
//! ARGV[2n+2]   and how long its keys are kept, milliseconds, text
//! returns      {seconds, microseconds,
//!               and for each request: a number, or the text of an error; then the state of each key, or nothing}
//! ```
//!
//! Terms that several keys share are sent once. The time is that by which the script went.

use std::borrow::Cow;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use smallvec::SmallVec;

use super::{StoreError, error_reply};
use crate::decision::time::Timestamp;

/// A script with the SHA-1 by which a server knows it.
#[derive(Debug)]
pub(in crate::store) struct Script {
    pub(in crate::store) source: String,
    pub(in crate::store) sha1: String,
}

impl Script {
    /// SHA-1 is how the protocol names scripts; nothing depends on its strength.
    pub(in crate::store) fn new(source: &str) -> Script {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
        let sha1 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Script { source: source.to_owned(), sha1 }
    }
}

/// What one request has a script do. All keys lie in one slot where the store is a cluster.
#[derive(Debug)]
pub(in crate::store) struct Call {
    pub(in crate::store) script: &'static Script,
    /// What the script is told besides; see [`Call::goes_with`].
    pub(in crate::store) head: String,
    pub(in crate::store) entries: SmallVec<[Entry; 2]>,
}

/// One key, and what it is judged by.
#[derive(Debug)]
pub(in crate::store) struct Entry {
    pub(in crate::store) key: String,
    pub(in crate::store) terms: Terms,
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Terms {
    /// Packed, so not text.
    pub(in crate::store) limit: Vec<u8>,
    pub(in crate::store) kept_ms: u64,
}

impl Call {
    pub(in crate::store) fn first_key(&self) -> &str {
        self.entries.first().map_or("", |entry| &entry.key)
    }

    /// Whether both can be decided in one go.
    pub(in crate::store) fn goes_with(&self, other: &Call) -> bool {
        std::ptr::eq(self.script, other.script) && self.head == other.head
    }
}

/// Several calls as a script takes them.
pub(in crate::store) struct Bundle<'c> {
    pub(in crate::store) script: &'static Script,
    pub(in crate::store) keys: Vec<&'c str>,
    pub(in crate::store) args: Vec<Cow<'c, [u8]>>,
}

impl<'c> Bundle<'c> {
    /// Of calls that go with each other and have [`Bundle::KEYS_MAX`] keys at most; none of no call.
    pub(in crate::store) fn of(calls: &'c [Call]) -> Option<Bundle<'c>> {
        let first = calls.first()?;
        let entries = calls.iter().map(|call| call.entries.len()).sum();
        let mut keys = Vec::with_capacity(entries);
        let mut layout = Vec::with_capacity(calls.len() + entries);
        let mut distinct: Vec<&Terms> = Vec::new();
        for call in calls {
            layout.push(call.entries.len() as u8);
            for Entry { key, terms } in &call.entries {
                let known = distinct.iter().position(|known| *known == terms).unwrap_or_else(|| {
                    distinct.push(terms);
                    distinct.len() - 1
                });
                keys.push(key.as_str());
                layout.push(known as u8 + 1);
            }
        }
        let mut args = Vec::with_capacity(2 + 2 * distinct.len());
        args.push(Cow::from(layout));
        args.push(Cow::from(first.head.as_bytes()));
        for terms in distinct {
            args.push(Cow::from(&terms.limit));
            args.push(Cow::from(terms.kept_ms.to_string().into_bytes()));
        }
        Some(Bundle { script: first.script, keys, args })
    }

    /// They are numbered by a byte, and a server does nothing else while it decides them.
    pub(in crate::store) const KEYS_MAX: usize = 128;
}

/// One element of the array that a script answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Piece {
    Nil,
    Int(i64),
    Bytes(Vec<u8>),
}

/// What a script answered to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Answer {
    /// By the clock that the script went by.
    pub(in crate::store) now: Timestamp,
    pub(in crate::store) said: i64,
    /// As many as the call has keys.
    pub(in crate::store) states: SmallVec<[Option<Vec<u8>>; 2]>,
}

/// The answers to some calls: as many, in the same order.
pub(in crate::store) fn answers(
    pieces: Vec<Piece>,
    calls: &[Call],
) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
    let mut pieces = pieces.into_iter();
    let mut number = || match pieces.next() {
        Some(Piece::Int(number)) => u64::try_from(number).map_err(|_| garbage("a time below zero")),
        Some(Piece::Bytes(_) | Piece::Nil) | None => Err(garbage("no time where one should be")),
    };
    let (seconds, micros) = (number()?, number()?);
    let now = Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros));
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        let said = match pieces.next() {
            Some(Piece::Int(said)) => Ok(said),
            Some(Piece::Bytes(text)) => Err(error_reply::read(&String::from_utf8_lossy(&text))),
            Some(Piece::Nil) | None => return Err(garbage("no verdict where one should be")),
        };
        let states = call.entries.iter().map(|_| match pieces.next() {
            Some(Piece::Nil) => Ok(None),
            Some(Piece::Bytes(state)) => Ok(Some(state)),
            Some(Piece::Int(_)) | None => Err(garbage("no state where one should be")),
        });
        let states = states.collect::<Result<_, StoreError>>()?;
        answers.push(said.map(|said| Answer { now, said, states }));
    }
    match pieces.next() {
        None => Ok(answers),
        Some(_) => Err(garbage("more than was asked for")),
    }
}

fn garbage(what: &str) -> StoreError {
    StoreError::Garbage(what.into())
}

#[cfg(test)]
mod tests;
