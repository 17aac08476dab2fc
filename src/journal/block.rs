//! A block of one key, with all that operators want to know of it.

use std::fmt;
use std::sync::Arc;

use super::identifier::Identifier;
use crate::decision::block::Block;
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;

/// Names one block for ever: a UUID of version 7, so that they sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u128);

/// Why a key is blocked. The numbers stand in files: new reasons go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// It went past a limit that blocks.
    Limit = 0,
    /// Too many attempts of it failed.
    Failures = 1,
    /// What it did over all routes added up.
    Suspicion = 2,
    /// An operator said so.
    Operator = 3,
}

/// How a block came to its end. The numbers stand in files: new ways go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ended {
    /// It had lasted as long as it should.
    Expired = 0,
    /// An operator ended it.
    Lifted = 1,
    /// There was no room for it among others that last longer.
    Displaced = 2,
    /// Its key was hashed or its identifier sealed under a secret that is not known any more.
    Unmatched = 3,
    /// Another gateway had blocked the same key for longer: that block went on.
    Replaced = 4,
}

/// One block.
#[derive(Clone, PartialEq, Eq)]
pub struct BlockRecord {
    pub id: BlockId,
    /// What the [`Book`](super::Book) is asked by.
    pub key: KeyHash,
    /// The kind of key: `body.email+ip`.
    pub key_kind: Arc<str>,
    pub identifier: Identifier,
    pub reason: Reason,
    pub route: Option<Arc<str>>,
    pub policy: Option<Arc<str>>,
    /// How many attempts led to it.
    pub attempts: u32,
    pub created_at: Timestamp,
    pub block: Block,
    /// The operator that made it.
    pub by: Option<Box<str>>,
    /// Whatever its maker wants to have back; sealed on disk.
    pub spec: Option<Box<str>>,
}

impl BlockId {
    /// The text form's length, bytes.
    const TEXT: usize = 36;

    /// From the time and 80 random bits, of which 74 are used.
    pub fn new(at: Timestamp, random: [u8; 10]) -> BlockId {
        let mut low = [0; 16];
        low[6..].copy_from_slice(&random);
        let time = u128::from(at.floor_millis() & ((1 << 48) - 1)) << 80;
        let bits = time | u128::from_be_bytes(low);
        let version = (bits & !(0xf << 76)) | (0x7 << 76);
        BlockId((version & !(0b11 << 62)) | (0b10 << 62))
    }

    /// The text form, `0190163d-8694-739b-aea5-966c26f8ad91`, in either case.
    pub fn parse(text: &str) -> Option<BlockId> {
        let bytes = text.as_bytes();
        let dashes = [8, 13, 18, 23];
        if bytes.len() != BlockId::TEXT || dashes.iter().any(|&at| bytes.get(at) != Some(&b'-')) {
            return None;
        }
        let digits: Option<Vec<u128>> = text
            .chars()
            .enumerate()
            .filter(|(at, _)| !dashes.contains(at))
            .map(|(_, c)| c.to_digit(16).map(u128::from))
            .collect();
        Some(BlockId(digits?.into_iter().fold(0, |bits, digit| (bits << 4) | digit)))
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> BlockId {
        BlockId(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & ((1 << 48) - 1)
        )
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({self})")
    }
}

impl Reason {
    /// In the order of their numbers.
    pub const ALL: [Reason; 4] = [Reason::Limit, Reason::Failures, Reason::Suspicion, Reason::Operator];

    pub const fn word(self) -> &'static str {
        match self {
            Reason::Limit => "limit",
            Reason::Failures => "failures",
            Reason::Suspicion => "suspicion",
            Reason::Operator => "operator",
        }
    }

    /// The reason of this word.
    pub fn parse(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.word() == word)
    }

    pub(super) fn from_number(number: i64) -> Option<Reason> {
        Reason::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl Ended {
    const ALL: [Ended; 5] =
        [Ended::Expired, Ended::Lifted, Ended::Displaced, Ended::Unmatched, Ended::Replaced];

    pub const fn word(self) -> &'static str {
        match self {
            Ended::Expired => "expired",
            Ended::Lifted => "lifted",
            Ended::Displaced => "displaced",
            Ended::Unmatched => "unmatched",
            Ended::Replaced => "replaced",
        }
    }

    pub(super) fn from_number(number: i64) -> Option<Ended> {
        Ended::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// Neither the key nor what the maker keeps: both may tell a value.
impl fmt::Debug for BlockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockRecord")
            .field("id", &self.id)
            .field("key_kind", &self.key_kind)
            .field("identifier", &self.identifier)
            .field("reason", &self.reason)
            .field("block", &self.block)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::JournalMetrics;

    #[test]
    fn an_id_is_a_uuid_of_version_7_with_the_time_in_front() {
        let id = BlockId::new(Timestamp::from_millis(0x0190_163d_8694), [0xff; 10]);
        assert_eq!(id.to_string(), "0190163d-8694-7fff-bfff-ffffffffffff");
        let id = BlockId::new(Timestamp::from_millis(0x0190_163d_8694), [0; 10]);
        assert_eq!(id.to_string(), "0190163d-8694-7000-8000-000000000000");
        let later = BlockId::new(Timestamp::from_millis(0x0190_163d_8695), [0; 10]);
        assert!(later > id);
    }

    #[test]
    fn the_text_of_an_id_is_read_back_and_no_other() {
        let id = BlockId::new(Timestamp::from_millis(1_800_000_000_000), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let text = id.to_string();
        assert_eq!(BlockId::parse(&text), Some(id));
        assert_eq!(BlockId::parse(&text.to_uppercase()), Some(id));
        assert_eq!(BlockId::from_bytes(id.to_bytes()), id);
        for broken in ["", &text[1..], &text.replace('-', "0"), &text.replace('-', "é"), &format!("{text}0")]
        {
            assert_eq!(BlockId::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn words_and_numbers_stay() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(Reason::from_number(number as i64), Some(reason));
            assert_eq!(Reason::parse(reason.word()), Some(reason));
            assert_eq!(JournalMetrics::REASONS[number], reason.word(), "the label of the metric");
        }
        for (number, ended) in Ended::ALL.into_iter().enumerate() {
            assert_eq!(Ended::from_number(number as i64), Some(ended));
        }
        assert_eq!((Reason::from_number(4), Ended::from_number(-1)), (None, None));
    }
}
