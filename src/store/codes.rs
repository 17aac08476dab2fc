//! One-time codes in a store that several gateways share, a script a step.
//!
//! The store sees a random seed, a nonce and counts; whom a code is for is sealed, and named by a keyed hash. Times go
//! by the store's clock there; here they are those of this gateway, moved so that what is left of a code is what the
//! store says.

use smallvec::SmallVec;
use thiserror::Error;

use super::shared::SharedStore;
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};

/// The codes in the store.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'s>(pub(super) &'s SharedStore);

/// A code to be.
pub struct NewRecord {
    pub nonce: [u8; 8],
    pub seed: [u8; 32],
    pub sealed: Vec<u8>,
    pub ttl: Span,
    /// How long it is remembered after that.
    pub kept_after: Span,
    /// How long one that stands there must be good for to be sent again.
    pub resent_left: Span,
    pub attempts_max: u8,
}

/// A code as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub nonce: [u8; 8],
    pub seed: [u8; 32],
    pub sealed: Vec<u8>,
    pub opened_at: Timestamp,
    pub expires_at: Timestamp,
    pub attempts: u8,
    pub attempts_max: u8,
    pub used_at: Option<Timestamp>,
    pub sends: u16,
    /// By their numbers.
    pub notes: SmallVec<[Note; 2]>,
}

/// What is known of one attempt to deliver a code.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    pub number: u8,
    /// What is known gives way to what is of a higher rank.
    pub rank: u8,
    /// What was said first stands.
    pub began_at: Timestamp,
    pub changed_at: Timestamp,
    /// Whatever else the caller knows.
    pub about: Vec<u8>,
}

/// Whether a record is new or stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Fresh,
    Again,
}

/// What became of a guess.
#[derive(Clone, PartialEq, Eq)]
pub enum Tried {
    /// It is counted.
    Counted(Record),
    Used,
    Expired,
    Exhausted,
    Unknown,
}

/// What is known of a request that names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    Yours,
    Pending,
    Answered(Vec<u8>),
    Mismatch,
}

/// Why nothing is known of a step. It may have been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodesFault {
    #[error("the store is away, or did not answer in time")]
    Away,
    #[error("the store is out of memory")]
    Full,
    #[error("what is kept there is not ours")]
    Broken,
}

impl Codes<'_> {
    /// Puts `record` in, unless one stands there that can be sent again; that one gets what is sealed.
    pub async fn open(
        &self,
        key: KeyHash,
        record: &NewRecord,
        now: Timestamp,
    ) -> Result<(Record, Written), CodesFault> {
        self.0.open_code(key, record, now).await
    }

    /// Counts a guess, if there may be one. No nonce stands for any.
    pub async fn guess(
        &self,
        key: KeyHash,
        nonce: Option<[u8; 8]>,
        now: Timestamp,
    ) -> Result<Tried, CodesFault> {
        self.0.guess_code(key, nonce, now).await
    }

    /// Uses a code up; none if that is too late.
    pub async fn consume(
        &self,
        key: KeyHash,
        nonce: [u8; 8],
        now: Timestamp,
    ) -> Result<Option<Record>, CodesFault> {
        self.0.consume_code(key, nonce, now).await
    }

    pub async fn look(&self, key: KeyHash, now: Timestamp) -> Result<Option<Record>, CodesFault> {
        self.0.look_at_code(key, now).await
    }

    /// Takes a note down, whose times have passed; with [`Record`] whether it says anything new. At most `most` are
    /// kept, those of the highest numbers. None if there is no such code.
    pub async fn note(
        &self,
        key: KeyHash,
        nonce: [u8; 8],
        note: &Note,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<(Record, bool)>, CodesFault> {
        self.0.note_on_code(key, nonce, note, most, now).await
    }

    /// Claims a request by its name, for `kept` if it is not answered.
    pub async fn claim(
        &self,
        key: KeyHash,
        print: [u8; 16],
        now: Timestamp,
        kept: Span,
    ) -> Result<Claimed, CodesFault> {
        self.0.claim_request(key, print, now, kept).await
    }

    /// Keeps the answer to a request that is claimed still.
    pub async fn answer(
        &self,
        key: KeyHash,
        bytes: &[u8],
        now: Timestamp,
        kept: Span,
    ) -> Result<(), CodesFault> {
        self.0.answer_request(key, bytes, now, kept).await
    }

    /// Lets a claim go that is not answered.
    pub async fn release(&self, key: KeyHash) -> Result<(), CodesFault> {
        self.0.release_request(key).await
    }
}
