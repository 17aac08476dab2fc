//! What lasts: blocks, events and one-time codes in one SQLite file, and the [`Book`] of blocks that requests ask.
//!
//! ```text
//! note(event) ─► queue ─┐                                   ┌─► events, counts by hour
//! block(…) ─► Book ─► queue ─► the writer, one thread ─► journal.db
//!                         ◄── Durable, once it is on disk ──┘   ▲
//!                                       queries, read only ─────┘
//! ```
//!
//! **Nobody waits for the disk** but who wants to be sure of a block, and that for a second at most.
//! The gateway decides by the book. When the disk fails, blocks hold in memory and are written once it
//! is back; events are lost, and counted.
//!
//! Records of one-time codes ([`Journal::amend`]) are the other way about: what is not on disk is not done.
//!
//! **What the file gives away.** A copy or a backup of it must not be a list of customers: phone
//! numbers, e-mails and users are sealed (AES-256-GCM) under a key that stands in another file, beside
//! a keyed hash to find them by and a masked text to show. Equal identifiers have equal hashes, so a copy
//! tells that two rows are about the same person, not about whom. Client addresses and user agents are
//! plain: they tell who attacks, and are searched by tools that have no key.

mod block;
mod block_rows;
mod book;
mod event;
mod event_rows;
mod feed;
mod file;
mod foreign;
mod identifier;
mod ledger;
mod ledger_rows;
mod outbox;
mod parcel;
mod query;
mod queue;
mod seal;
mod standing;
mod text;
mod tidy;
mod top;
mod writer;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use self::file::{Place, Trouble};
use self::ledger::Ledger;
use self::queue::{Change, Changes, Queue, What};
use self::seal::Sealer;
use self::standing::Standing;
use self::tidy::{Held, Kept};
use self::writer::Writer;
use crate::clock::Clock;
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};
use crate::telemetry::{Dropped, JournalMetrics};

pub use self::block::{BlockId, BlockRecord, Ended, Reason};
pub use self::block_rows::{EndedBlock, EndedCursor};
pub use self::book::{BLOCKS_MAX, BlockFilter, BlockPlace, BlockQuery, BlockSort, Book, Placed, Sight};
pub use self::event::{Event, EventKind, Severity};
pub use self::event_rows::{EventCursor, EventRow};
pub use self::feed::{Feed, Happening};
pub use self::foreign::Adoption;
pub use self::identifier::Identifier;
pub use self::ledger::{Amend, RECORDS_MAX, Unkept};
pub use self::outbox::{Lift, Outbox, Telling};
pub use self::parcel::Parcels;
pub use self::query::{EndedFilter, EventFilter, HourCount};
pub use self::standing::Settled;
pub use self::top::{TopIdentifier, TopReason, TopRoute, Tops};

/// What a journal is opened with.
pub struct JournalSpec {
    /// Where `journal.db` is; made if it is not there. None where nothing can be kept.
    pub folder: Option<PathBuf>,
    /// How long events are kept.
    pub retention: Span,
    /// Seals identifiers. Under another one, earlier rows show them masked alone.
    pub seal_key: [u8; 32],
    /// A fixed text, hashed under the secret of today's keys: tells whether blocks in the file were
    /// made under another.
    pub hash_check: KeyHash,
}

/// The journal. A clone is another handle to the same; when the last one goes, what was noted is
/// still written.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    _in_use: Arc<InUse>,
}

/// Whether something will outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    Yes,
    /// The disk fails or is slow: it holds in memory, and is written as soon as that is possible.
    No,
}

/// Why a question has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JournalError {
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
}

/// What handles and writer share.
struct Shared {
    queue: Queue,
    book: Book,
    ledger: Ledger,
    outbox: Outbox,
    /// Up to where other gateways were heard before this process began.
    heard_up_to: Mutex<Option<Box<str>>>,
    place: Place,
    clock: Clock,
    metrics: JournalMetrics,
    standing: watch::Sender<Standing>,
    /// Goes up whenever a broken file is replaced.
    generation: AtomicU64,
    late: Late,
    feed: Feed,
}

/// Tells the log of blocks that are not on disk, now and then.
#[derive(Default)]
struct Late {
    count: AtomicU64,
    due_us: AtomicU64,
}

/// Lets the writer end with the last handle.
struct InUse(Arc<Shared>);

/// What tests set in another way.
#[derive(Clone, Copy)]
struct Pace {
    retry_every: Duration,
    event_rows_max: u64,
    pages_max: Option<u32>,
}

/// How long one waits for the disk.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a shutdown waits for what is left to be written.
const CLOSING_PATIENCE: Duration = Duration::from_secs(10);

impl Journal {
    /// Opens the journal and loads the blocks in force: a matter of milliseconds, of seconds with a
    /// million blocks. What is wrong with the file is told to the log and the metrics, and does not
    /// keep the gateway from working.
    pub fn open(spec: JournalSpec, metrics: JournalMetrics, clock: Clock) -> Journal {
        Journal::open_at_pace(spec, metrics, clock, Pace::default())
    }

    fn open_at_pace(spec: JournalSpec, metrics: JournalMetrics, clock: Clock, pace: Pace) -> Journal {
        let kept = Kept { events: spec.retention, rows_max: pace.event_rows_max };
        let shared = Arc::new(Shared::new(spec, metrics, clock, pace.pages_max));
        let writer = Writer::start(Arc::clone(&shared), kept, pace.retry_every);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        if let Err(error) = thread.spawn(move || writer.run()) {
            tracing::error!(why = %error, "the journal has no thread to write: blocks hold in memory alone");
        }
        let _in_use = Arc::new(InUse(Arc::clone(&shared)));
        Journal { shared, _in_use }
    }

    /// The blocks in force.
    pub fn book(&self) -> &Book {
        &self.shared.book
    }

    /// Takes an event down. Never waits: with 8192 in the queue it is dropped and counted.
    pub fn note(&self, event: Event) {
        let event = event.bounded();
        if event.node.is_none() {
            self.shared.outbox.note(&event);
        }
        self.shared.feed.tell(|| Happening::Event(Arc::new(event.clone())));
        if !self.shared.queue.push_event(event) {
            self.shared.metrics.dropped(Dropped::Events, 1);
        }
    }

    /// Puts a block in force at once; tells when it is on disk, after a second at the latest.
    ///
    /// The call does it, whether or not the future is awaited. [`Book::put`] says what becomes of a key
    /// that is blocked already.
    pub fn block(&self, record: Arc<BlockRecord>) -> impl Future<Output = Durable> + Send + use<> {
        let (done, on_disk) = oneshot::channel();
        self.shared.queue.push_changes(|| ((), self.put(record, done)));
        durable(on_disk, Arc::clone(&self.shared))
    }

    /// The same of a block that lasts longer from now on. None, and nothing is done, if its key was let go or
    /// blocked anew since the caller looked: what an operator ended must not come back.
    pub fn prolong(&self, record: Arc<BlockRecord>) -> impl Future<Output = Option<Durable>> + Send + use<> {
        let (done, on_disk) = oneshot::channel();
        // Ends are pushed under the same lock, so none comes between the look and the change.
        let is_held = self.shared.queue.push_changes(|| {
            if self.shared.book.holds(record.key, record.id) {
                (true, self.put(record, done))
            } else {
                (false, Changes::new())
            }
        });
        let shared = Arc::clone(&self.shared);
        async move {
            match is_held {
                true => Some(durable(on_disk, shared).await),
                false => None,
            }
        }
    }

    /// Puts a record into the book; what is to be written for it.
    fn put(&self, record: Arc<BlockRecord>, done: oneshot::Sender<()>) -> Changes {
        let shared = &*self.shared;
        let Shared { book, outbox, metrics, .. } = shared;
        let now = shared.clock.now();
        let placed = book.put(record, now);
        if placed.is_new {
            metrics.block_started(placed.record.reason as usize);
        }
        let mut changes = Changes::new();
        if let Some(displaced) = placed.displaced {
            metrics.block_displaced();
            let what = What::End { key: displaced.key, at: now, how: Ended::Displaced, by: None };
            changes.push(Change { what, done: None });
        }
        outbox.tell(Telling::Block(Arc::clone(&placed.record)));
        shared.feed.tell(|| Happening::Blocked(Arc::clone(&placed.record)));
        changes.push(Change { what: What::Put(placed.record), done: Some(done) });
        changes
    }

    /// Ends the block of a key at once, forgets the earlier ones, and notes who did it. The future
    /// gives the block that was in force once its end is on disk, after a second at the latest; the
    /// call does it all, whether or not it is awaited.
    pub fn unblock(
        &self,
        key: KeyHash,
        by: Option<&str>,
        now: Timestamp,
    ) -> impl Future<Output = Option<Arc<BlockRecord>>> + Send + use<> {
        let (done, on_disk) = oneshot::channel();
        let Shared { queue, book, outbox, .. } = &*self.shared;
        let lifted = queue.push_changes(|| {
            let lifted = book.lift(key);
            let mut changes = Changes::new();
            if let Some(record) = &lifted {
                let lift = Arc::new(Lift::of(record, by, now));
                outbox.remember(&lift, now);
                outbox.tell(Telling::Lift(lift));
                let what = What::End { key, at: now, how: Ended::Lifted, by: by.map(Box::from) };
                changes.push(Change { what, done: Some(done) });
            }
            (lifted, changes)
        });
        let was_held = lifted.is_some();
        let in_force = lifted.filter(|record| record.block.until > now);
        if let Some(record) = &in_force {
            self.shared.feed.tell(|| Happening::Unblocked(Arc::clone(record)));
            self.note(unblocked(record, by, now));
        }
        let shared = Arc::clone(&self.shared);
        async move {
            if was_held {
                durable(on_disk, shared).await;
            }
            in_force
        }
    }

    /// Events, newest first. Reads the disk: not for an async thread.
    pub fn events(&self, filter: &EventFilter<'_>) -> Result<Vec<EventRow>, JournalError> {
        self.ask(|connection, shared| query::events(connection, &shared.place.sealer, filter))
    }

    /// Blocks that are over, the one that ended last first. Reads the disk: not for an async thread.
    pub fn ended_blocks(&self, filter: &EndedFilter<'_>) -> Result<Vec<EndedBlock>, JournalError> {
        self.ask(|connection, shared| {
            query::ended_blocks(connection, &shared.place.sealer, filter, shared.clock.now())
        })
    }

    /// How many events of each kind the hours had that lie in this span, in part or whole; oldest
    /// first, without hours that had none. Reads the disk: not for an async thread.
    pub fn hours(
        &self,
        since: Timestamp,
        until: Timestamp,
        route: Option<&str>,
    ) -> Result<Vec<HourCount>, JournalError> {
        self.ask(|connection, _| query::hours(connection, since, until, route))
    }

    /// What was most frequent in a span of time. Reads the disk: not for an async thread.
    pub fn tops(&self, since: Timestamp, until: Timestamp, limit: usize) -> Result<Tops, JournalError> {
        self.ask(|connection, shared| top::tops(connection, &shared.place.sealer, since, until, limit))
    }

    /// What happens from now on, as it happens.
    pub fn feed(&self) -> &Feed {
        &self.shared.feed
    }

    /// How many events wait to be written.
    pub fn waiting(&self) -> usize {
        self.shared.queue.events()
    }

    /// How many events were lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.metrics.dropped_so_far(Dropped::Events)
    }

    /// Lets go what is old: blocks that ended 30 days ago, failures after 7 days, events after the
    /// retention or past ten million. The writer does it in small steps, and this does not wait for it.
    /// For once an hour.
    pub fn tidy(&self, now: Timestamp) {
        self.shared.book.forget_old(now);
        self.shared.ledger.forget_old(now);
        self.shared.queue.ask_for_tidying(now);
    }

    /// Sets the gauges: how many events wait, how many blocks are in force.
    pub fn refresh(&self, now: Timestamp) {
        let Shared { queue, book, metrics, .. } = &*self.shared;
        metrics.set_queue(queue.events());
        metrics.set_blocks(book.count_by_reason(now).map(|(_, count)| count));
    }

    /// Whether what is noted gets to the disk.
    pub fn is_up(&self) -> bool {
        *self.shared.standing.borrow() == Standing::Up
    }

    /// Writes all that waits and closes the file; waits ten seconds at most. What comes later is
    /// dropped and counted.
    pub fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        let (closer, closed) = oneshot::channel();
        self.shared.queue.close(Some(closer));
        async move {
            if timeout(CLOSING_PATIENCE, closed).await.is_err() {
                tracing::error!("the journal could not be closed in time: what was not written is lost");
            }
        }
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&rusqlite::Connection, &Shared) -> Result<T, Trouble>,
    ) -> Result<T, JournalError> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let connection = file::open_to_read(&self.shared.place);
        let answer = connection.and_then(|connection| question(&connection, &self.shared));
        answer.map_err(|trouble| {
            if let Trouble::Broken(_) = trouble {
                self.shared.queue.tell_broken(generation);
            }
            JournalError::Unreadable(trouble.to_string())
        })
    }
}

async fn durable(on_disk: oneshot::Receiver<()>, shared: Arc<Shared>) -> Durable {
    match timeout(PATIENCE, on_disk).await {
        Ok(Ok(())) => Durable::Yes,
        Ok(Err(_)) | Err(_) => {
            shared.metrics.dropped(Dropped::Blocks, 1);
            shared.late.tell(shared.clock.now());
            Durable::No
        }
    }
}

/// The event of an operator who ended a block.
fn unblocked(record: &BlockRecord, by: Option<&str>, now: Timestamp) -> Event {
    Event {
        route: record.route.clone(),
        policy: record.policy.clone(),
        key: Some(Arc::clone(&record.key_kind)),
        identifier: Some(record.identifier.clone()),
        detail: by.map(|by| format!("by {by}").into()),
        ..Event::new(EventKind::Unblocked, now)
    }
}

impl Shared {
    fn new(spec: JournalSpec, metrics: JournalMetrics, clock: Clock, pages_max: Option<u32>) -> Shared {
        let sealer = Sealer::new(&spec.seal_key);
        Shared {
            queue: Queue::new(),
            book: Book::new(),
            ledger: Ledger::new(),
            outbox: Outbox::default(),
            heard_up_to: Mutex::default(),
            place: Place { folder: spec.folder, sealer, hash_check: spec.hash_check, pages_max },
            clock,
            metrics,
            standing: watch::Sender::new(Standing::Down),
            generation: AtomicU64::new(0),
            late: Late::default(),
            feed: Feed::new(),
        }
    }

    fn held(&self) -> Held<'_> {
        Held { sealer: &self.place.sealer, book: &self.book, ledger: &self.ledger }
    }

    fn set_standing(&self, standing: Standing) {
        self.metrics.set_up(standing == Standing::Up);
        self.standing.send_replace(standing);
    }
}

impl Late {
    const EVERY: Span = Span::from_secs(10);

    fn tell(&self, now: Timestamp) {
        self.count.fetch_add(1, Ordering::AcqRel);
        let due_us = self.due_us.load(Ordering::Acquire);
        let next_us = now.plus(Late::EVERY).as_micros();
        let is_ours = now.as_micros() >= due_us
            && self.due_us.compare_exchange(due_us, next_us, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if is_ours {
            let count = self.count.swap(0, Ordering::AcqRel);
            tracing::warn!(count, "blocks began or ended without being on disk; they hold in memory");
        }
    }
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { retry_every: Duration::from_secs(5), event_rows_max: 10_000_000, pages_max: None }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.queue.close(None);
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("book", &self.shared.book).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
