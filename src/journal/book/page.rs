//! Lists of blocks for operators: filtered, sorted, a page at a time.
//!
//! A page is looked for among all blocks, for nobody keeps them sorted. What is kept of each shard is the best
//! of it alone, and each lock is held as long as one shard takes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering as AtomicOrdering;

use memchr::memchr2_iter;

use super::glance::Glance;
use super::{Book, Entry, Padded};
use crate::decision::time::Timestamp;
use crate::journal::block::{BlockId, BlockRecord, Reason};

/// Which blocks; all that are given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockFilter<'a> {
    /// A part of the identifier as it is seen, in either case; or all of it or of one of its values, as it is.
    pub search: Option<&'a str>,
    pub sight: Sight,
    /// The kind of key: `body.email+ip`.
    pub key_kind: Option<&'a str>,
    pub reason: Option<Reason>,
    pub route: Option<&'a str>,
    pub policy: Option<&'a str>,
}

/// How much of identifiers somebody sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    #[default]
    Masked,
    Full,
}

/// What blocks are sorted by; those that are equal, by their id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSort {
    CreatedAt,
    ExpiresAt,
    /// As it is seen.
    Identifier,
    Attempts,
}

/// A page of blocks.
#[derive(Clone, Copy, Debug)]
pub struct BlockQuery<'a> {
    pub filter: BlockFilter<'a>,
    pub sort: BlockSort,
    pub is_descending: bool,
    /// The last block of the page before.
    pub after: Option<&'a BlockPlace>,
    pub limit: usize,
}

/// A place in a sorted list of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// What the block there is sorted by; of a text, its beginning.
    pub number: u64,
    /// The whole of it if it is a text.
    pub text: Box<str>,
    pub id: BlockId,
}

/// A block on its way into a page: the one that goes first is the least.
struct Candidate<'q> {
    query: &'q BlockQuery<'q>,
    number: u64,
    record: Arc<BlockRecord>,
}

impl BlockFilter<'_> {
    fn admits(&self, entry: &Entry) -> bool {
        if self.reason.is_some_and(|reason| reason != entry.reason) {
            return false;
        }
        let BlockFilter { search, key_kind, route, policy, .. } = *self;
        if search.is_none() && key_kind.is_none() && route.is_none() && policy.is_none() {
            return true;
        }
        if search.is_some_and(|search| !self.sight.may_find(Glance::of(search), entry)) {
            return false;
        }
        let record = &*entry.record;
        key_kind.is_none_or(|kind| *record.key_kind == *kind)
            && route.is_none_or(|route| record.route.as_deref() == Some(route))
            && policy.is_none_or(|policy| record.policy.as_deref() == Some(policy))
            && search.is_none_or(|search| self.sight.finds(search, record))
    }
}

impl Sight {
    /// The identifier of a block as it is seen.
    pub fn of(self, record: &BlockRecord) -> &str {
        match self {
            Sight::Masked => record.identifier.masked(),
            Sight::Full => record.identifier.expose(),
        }
    }

    fn glance(self, entry: &Entry) -> Glance {
        match self {
            Sight::Masked => entry.masked,
            Sight::Full => entry.full,
        }
    }

    /// Whether [`Sight::finds`] may find it; only a no is certain.
    fn may_find(self, search: Glance, entry: &Entry) -> bool {
        match self {
            Sight::Masked => entry.masked.may_hold(search) || entry.full.may_hold(search),
            Sight::Full => entry.full.may_hold(search),
        }
    }

    /// Who sees masks only finds what they show, and what he knows already.
    fn finds(self, search: &str, record: &BlockRecord) -> bool {
        has_within(self.of(record), search)
            || (self == Sight::Masked
                && (record.identifier.expose() == search
                    || record.identifier.parts().any(|part| part == search)))
    }
}

/// Whether `search` stands in a text, in either case of its ASCII letters.
fn has_within(text: &str, search: &str) -> bool {
    let (text, search) = (text.as_bytes(), search.as_bytes());
    let Some(first) = search.first() else { return true };
    let (lower, upper) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    memchr2_iter(lower, upper, text)
        .any(|at| text.get(at..at + search.len()).is_some_and(|found| found.eq_ignore_ascii_case(search)))
}

impl BlockQuery<'_> {
    fn number(&self, entry: &Entry) -> u64 {
        match self.sort {
            BlockSort::CreatedAt => entry.created_at.as_micros(),
            BlockSort::ExpiresAt => entry.until.as_micros(),
            BlockSort::Attempts => u64::from(entry.attempts),
            BlockSort::Identifier => self.filter.sight.glance(entry).head,
        }
    }

    /// Where this block stands in a list of this sort.
    pub fn place(&self, record: &BlockRecord) -> BlockPlace {
        let (number, text) = match self.sort {
            BlockSort::CreatedAt => (record.created_at.as_micros(), ""),
            BlockSort::ExpiresAt => (record.block.until.as_micros(), ""),
            BlockSort::Attempts => (u64::from(record.attempts), ""),
            BlockSort::Identifier => {
                let text = self.filter.sight.of(record);
                (Glance::of(text).head, text)
            }
        };
        BlockPlace { number, text: text.into(), id: record.id }
    }

    /// Which goes first; what is behind the number is looked at only if it has to be.
    fn compare<'r>(
        &self,
        number: u64,
        record: &'r BlockRecord,
        other: u64,
        text_and_id: impl FnOnce() -> (&'r str, BlockId),
    ) -> Ordering {
        let ordering = number.cmp(&other).then_with(|| {
            let (text, id) = text_and_id();
            let by_text = match self.sort {
                BlockSort::Identifier => self.filter.sight.of(record).cmp(text),
                BlockSort::CreatedAt | BlockSort::ExpiresAt | BlockSort::Attempts => Ordering::Equal,
            };
            by_text.then_with(|| record.id.cmp(&id))
        });
        if self.is_descending { ordering.reverse() } else { ordering }
    }

    fn is_after(&self, number: u64, record: &BlockRecord) -> bool {
        self.after.is_none_or(|place| {
            self.compare(number, record, place.number, || (&place.text, place.id)) == Ordering::Greater
        })
    }
}

impl Book {
    /// With so many, the walk is shared between threads.
    const MANY: usize = 50_000;
    const THREADS_MAX: usize = 4;

    /// One page of the blocks in force. Looks at all of them: not for an async thread.
    pub fn page(&self, query: &BlockQuery<'_>, now: Timestamp) -> Vec<Arc<BlockRecord>> {
        let mut best = self.walk(|shards| best_of(shards, query, now));
        best.sort_unstable();
        best.truncate(query.limit);
        best.into_iter().map(|candidate| candidate.record).collect()
    }

    /// All blocks in force that a filter admits, in no order.
    pub fn matching(&self, filter: &BlockFilter<'_>, now: Timestamp) -> Vec<Arc<BlockRecord>> {
        self.walk(|shards| {
            let mut found = Vec::new();
            for shard in shards {
                let shard = shard.0.read();
                let admitted = shard.by_key.iter().filter(|entry| entry.until > now && filter.admits(entry));
                found.extend(admitted.map(|entry| Arc::clone(&entry.record)));
            }
            found
        })
    }

    /// What is found in all shards, in no order.
    fn walk<T: Send>(&self, find: impl Fn(&[Padded]) -> Vec<T> + Sync) -> Vec<T> {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(Book::THREADS_MAX);
        if threads == 1 || self.held.load(AtomicOrdering::Acquire) < Book::MANY {
            return find(&self.shards);
        }
        std::thread::scope(|scope| {
            let parts = self.shards.chunks(self.shards.len().div_ceil(threads));
            let walks: Vec<_> = parts.map(|shards| scope.spawn(|| find(shards))).collect();
            let found = walks.into_iter().map(|walk| match walk.join() {
                Ok(found) => found,
                // A part of a list must not pass for the whole.
                Err(panic) => std::panic::resume_unwind(panic),
            });
            found.flatten().collect()
        })
    }
}

/// Those of some shards that could be on the page.
fn best_of<'q>(shards: &[Padded], query: &'q BlockQuery<'q>, now: Timestamp) -> Vec<Candidate<'q>> {
    let mut best: BinaryHeap<Candidate<'q>> = BinaryHeap::new();
    for shard in shards {
        let shard = shard.0.read();
        for entry in shard.by_key.iter().filter(|entry| entry.until > now) {
            let number = query.number(entry);
            let is_full = best.len() >= query.limit;
            let is_behind = |last: &Candidate<'_>| {
                let of_last = || (query.filter.sight.of(&last.record), last.record.id);
                query.compare(number, &entry.record, last.number, of_last) != Ordering::Less
            };
            if is_full && best.peek().is_none_or(is_behind) {
                continue;
            }
            if !query.is_after(number, &entry.record) || !query.filter.admits(entry) {
                continue;
            }
            if is_full {
                best.pop();
            }
            best.push(Candidate { query, number, record: Arc::clone(&entry.record) });
        }
    }
    best.into_vec()
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let of_other = || (self.query.filter.sight.of(&other.record), other.record.id);
        self.query.compare(self.number, &self.record, other.number, of_other)
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

#[cfg(test)]
mod tests;
