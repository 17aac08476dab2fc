//! What gateways that share a store tell each other besides counting: blocks, that blocks were lifted, and events.
//!
//! The store keeps two keys in one slot for it: a hash of the blocks in force, and a stream of what was told of late.
//! It sees of each block which key it is of, its id and its end, for these decide what stands; all else is sealed.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::remote::StoreError;
use super::shared::SharedStore;
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;

/// The other gateways, by way of the store.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'s>(pub(super) &'s SharedStore);

/// Something that is told.
#[derive(Clone, Debug)]
pub struct Notice {
    pub subject: Subject,
    /// At most [`SEALED_MAX`] bytes.
    pub sealed: Vec<u8>,
}

/// What a notice is about, as far as the store must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A key is blocked. It changes nothing where the key is blocked for as long already, or was let go since.
    Block {
        mark: Mark,
        end: End,
    },
    /// A block was lifted, and all that were made of its key before it.
    Lift(Mark),
    Event,
}

/// A block, and until when it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub key: KeyHash,
    /// Ids sort by when they were made.
    pub id: [u8; 16],
    /// By the store's clock.
    pub until: Timestamp,
}

/// What the end of a block does to a known, later one of the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It gives way.
    Latest,
    /// It takes its place: an operator said so.
    Ordered,
}

/// A notice of another gateway.
#[derive(Clone, Debug)]
pub struct Heard {
    pub subject: Subject,
    /// When it was told, by the store's clock.
    pub told_at: Timestamp,
    /// Empty if it is longer than any that is told.
    pub sealed: Vec<u8>,
}

/// A place in the stream: what was told up to there was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    ms: u64,
    nth: u64,
}

/// Goes with the blocks in force: another one, or none, says that the store lost them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch(pub(super) Box<[u8]>);

/// What was told since a place.
#[derive(Clone, Debug)]
pub struct News {
    /// The store's clock.
    pub now: Timestamp,
    pub epoch: Option<Epoch>,
    /// The newest entry that there is.
    pub newest: Cursor,
    /// Up to where this goes.
    pub upto: Cursor,
    /// Entries are gone that came after the place.
    pub has_gap: bool,
    pub heard: Vec<Heard>,
    /// How many notices are of a kind that this version does not know.
    pub strange: u64,
}

/// Some of the blocks in force, lifts that are still remembered among them.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where the next one begins; none after the last.
    pub next: Option<Scan>,
    pub heard: Vec<Heard>,
    /// As of [`News`].
    pub strange: u64,
}

/// A place among the blocks in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan(pub(super) Box<[u8]>);

/// Whether a page is read, or is only rid of what is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Marks,
    Nothing,
}

/// What became of notices.
#[derive(Clone, Debug)]
pub struct Told {
    pub epoch: Epoch,
    /// Marks that found no room, for there are a million.
    pub crowded: u64,
}

/// Why nothing was exchanged. What was told may have arrived all the same.
#[derive(Clone, Debug, Error)]
pub enum ExchangeFault {
    /// The store is not asked, for it is known to be away.
    #[error("the store is away")]
    Away,
    #[error("{0}")]
    Failed(Box<str>),
}

/// What one notice may weigh, bytes.
pub const SEALED_MAX: usize = 32 * 1024;
/// So many notices are told in one call.
pub const TOLD_MAX: usize = 64;

impl Exchange<'_> {
    /// How often it is well to ask for news.
    pub fn pace(&self) -> Duration {
        self.0.exchange_pace()
    }

    /// Tells the other gateways; [`TOLD_MAX`] notices at most. `epoch` is what a store without any gets, and `own` names
    /// this gateway.
    pub async fn tell(&self, epoch: &str, own: &str, notices: &[Notice]) -> Result<Told, ExchangeFault> {
        self.0.tell_others(epoch, own, notices).await
    }

    /// What others than `own` told since; with no place, nothing but where the stream is now.
    pub async fn hear(&self, since: Option<Cursor>, own: &str) -> Result<News, ExchangeFault> {
        self.0.hear_others(since, own).await
    }

    /// A page of what is in force. Of what stood there all the while each is in one of the pages.
    pub async fn page(&self, from: Option<&Scan>, reading: Reading) -> Result<Page, ExchangeFault> {
        self.0.page_in_force(from, reading).await
    }
}

impl Cursor {
    /// Before all entries.
    pub const START: Cursor = Cursor { ms: 0, nth: 0 };

    /// As `Display` writes it.
    pub fn parse(text: &str) -> Option<Cursor> {
        let (ms, nth) = text.split_once('-')?;
        Some(Cursor { ms: ms.parse().ok()?, nth: nth.parse().ok()? })
    }

    /// When the entry there was told, by the store's clock.
    pub(super) fn told_at(self) -> Timestamp {
        Timestamp::from_millis(self.ms)
    }
}

/// As the store spells it.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.nth)
    }
}

impl From<StoreError> for ExchangeFault {
    fn from(error: StoreError) -> ExchangeFault {
        ExchangeFault::Failed(error.to_string().into())
    }
}
