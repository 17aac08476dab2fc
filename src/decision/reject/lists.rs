//! Lists of texts, looked up by hash: as many as there are disposable mail domains, in little room.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use thiserror::Error;

/// A set of texts. All of them stand in one text, behind one another: an entry costs its length and
/// ten to twenty bytes.
#[derive(Clone, Default)]
pub struct TextList {
    text: String,
    table: HashTable<Span>,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

/// A list takes no more entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a list has at most {} entries", TextList::ENTRIES_MAX)]
pub struct ListFull;

impl TextList {
    pub const ENTRIES_MAX: usize = 1_000_000;

    /// Adds an entry; one that is there already changes nothing.
    ///
    /// # Errors
    /// If there are [`TextList::ENTRIES_MAX`] others.
    pub fn insert(&mut self, entry: &str) -> Result<(), ListFull> {
        let TextList { text, table, hasher } = self;
        let hash = hasher.hash_one(entry);
        if table.find(hash, |span| span.of(text) == entry).is_some() {
            return Ok(());
        }
        let (Ok(start), Ok(len)) = (u32::try_from(text.len()), u32::try_from(entry.len())) else {
            return Err(ListFull);
        };
        if table.len() >= TextList::ENTRIES_MAX {
            return Err(ListFull);
        }
        text.push_str(entry);
        table.insert_unique(hash, Span { start, len }, |span| hasher.hash_one(span.of(text)));
        Ok(())
    }

    /// Gives back the room that was held for more entries.
    pub fn shrink(&mut self) {
        let TextList { text, table, hasher } = self;
        text.shrink_to_fit();
        table.shrink_to_fit(|span| hasher.hash_one(span.of(text)));
    }

    fn contains(&self, entry: &str) -> bool {
        self.table.find(self.hasher.hash_one(entry), |span| span.of(&self.text) == entry).is_some()
    }
}

impl Span {
    fn of(self, text: &str) -> &str {
        let start = self.start as usize;
        text.get(start..start + self.len as usize).unwrap_or_default()
    }
}

impl fmt::Debug for TextList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextList({})", self.table.len())
    }
}

/// Several lists that are looked up as one. Rules share those that come from the same file.
#[derive(Clone, Debug, Default)]
pub struct TextLists(Box<[Arc<TextList>]>);

impl TextLists {
    pub fn contains(&self, entry: &str) -> bool {
        self.0.iter().any(|list| list.contains(entry))
    }

    /// How many entries there are; one that stands in two of the lists is counted twice.
    pub fn entries(&self) -> usize {
        self.0.iter().map(|list| list.table.len()).sum()
    }

    /// What they take, bytes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|list| list.text.capacity() + list.table.allocation_size()).sum()
    }
}

impl FromIterator<Arc<TextList>> for TextLists {
    fn from_iter<I: IntoIterator<Item = Arc<TextList>>>(lists: I) -> TextLists {
        TextLists(lists.into_iter().collect())
    }
}
