//! What the writer does besides: in small steps, so that blocks never wait for long.

use std::collections::VecDeque;

use rusqlite::{Transaction, TransactionBehavior};

use super::block_rows;
use super::book::Book;
use super::event::EventKind;
use super::event_rows;
use super::file::{JournalFile, Trouble};
use super::ledger::Ledger;
use super::ledger_rows;
use super::seal::Sealer;
use crate::decision::time::{Span, Timestamp};

/// How long blocks are kept that are over.
const ENDED_KEPT: Span = Span::from_secs(30 * 86_400);
/// How long failed attempts are kept: they tell who tries to log in.
const FAILURES_KEPT: Span = Span::from_secs(7 * 86_400);
/// Rows of one step.
const STEP: usize = 1000;

/// How long events are kept, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) events: Span,
    pub(super) rows_max: u64,
}

/// One thing to be done, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// The file's blocks that the book does not hold are ended.
    EndStrangers,
    /// One shard of the book is written.
    PutShard(usize),
    /// One shard of the ledger is written.
    PutRecords(usize),
    DropEndedBlocks(Timestamp),
    DropRecords(Timestamp),
    DropEvents {
        kind: EventKind,
        before: Timestamp,
    },
    DropOldEvents {
        before: Timestamp,
    },
    DropTooManyEvents,
    Shrink,
    Checkpoint,
}

/// Whether a chore is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    More,
}

/// What the file is a copy of, and what it is sealed with.
#[derive(Clone, Copy)]
pub(super) struct Held<'s> {
    pub(super) sealer: &'s Sealer,
    pub(super) book: &'s Book,
    pub(super) ledger: &'s Ledger,
}

impl Chore {
    /// Whether it is of those that [`agreement`] gives.
    pub(super) fn is_of_agreement(self) -> bool {
        match self {
            Chore::EndStrangers | Chore::PutShard(_) | Chore::PutRecords(_) => true,
            Chore::DropEndedBlocks(_)
            | Chore::DropRecords(_)
            | Chore::DropEvents { .. }
            | Chore::DropOldEvents { .. }
            | Chore::DropTooManyEvents
            | Chore::Shrink
            | Chore::Checkpoint => false,
        }
    }
}

/// What makes the file agree with book and ledger.
pub(super) fn agreement(held: Held<'_>) -> impl Iterator<Item = Chore> + use<> {
    let blocks = (0..held.book.shards()).map(Chore::PutShard);
    let records = (0..held.ledger.shards()).map(Chore::PutRecords);
    std::iter::once(Chore::EndStrangers).chain(blocks).chain(records)
}

/// The chores of one clean-up.
pub(super) fn clean_up(kept: Kept, now: Timestamp) -> VecDeque<Chore> {
    let failures = earlier(now, FAILURES_KEPT);
    VecDeque::from([
        Chore::DropEndedBlocks(now),
        Chore::DropRecords(now),
        Chore::DropEvents { kind: EventKind::Failure, before: failures },
        Chore::DropEvents { kind: EventKind::Backoff, before: failures },
        Chore::DropOldEvents { before: earlier(now, kept.events) },
        Chore::DropTooManyEvents,
        Chore::Shrink,
        Chore::Checkpoint,
    ])
}

impl JournalFile {
    pub(super) fn step(
        &mut self,
        chore: Chore,
        held: Held<'_>,
        kept: Kept,
        now: Timestamp,
    ) -> Result<Progress, Trouble> {
        let Held { sealer, book, ledger } = held;
        match chore {
            Chore::EndStrangers => self.end_strangers(book, now).map(|()| Progress::Done),
            Chore::PutShard(shard) => self.put_shard(sealer, book, shard).map(|()| Progress::Done),
            Chore::PutRecords(shard) => self.put_records(ledger, shard).map(|()| Progress::Done),
            Chore::DropRecords(now) => Ok(more_after(ledger_rows::drop_old(&self.connection, now, STEP)?)),
            Chore::DropEndedBlocks(now) => {
                Ok(more_after(block_rows::drop_ended(&self.connection, earlier(now, ENDED_KEPT), STEP)?))
            }
            Chore::DropEvents { kind, before } => {
                self.drop_events(&format!("kind = {}", kind as i64), before, STEP)
            }
            Chore::DropOldEvents { before } => self.drop_old_events(before),
            Chore::DropTooManyEvents => self.drop_too_many(kept),
            Chore::Shrink => Ok(if self.shrink()? { Progress::More } else { Progress::Done }),
            Chore::Checkpoint => self.checkpoint().map(|()| Progress::Done),
        }
    }

    fn drop_old_events(&mut self, before: Timestamp) -> Result<Progress, Trouble> {
        // Hours of which some is kept are kept whole.
        self.connection.execute("DELETE FROM event_hours WHERE hour < ?1", [event_rows::hour(before)])?;
        self.drop_events("true", before, STEP)
    }

    fn drop_too_many(&mut self, kept: Kept) -> Result<Progress, Trouble> {
        let rows: i64 =
            self.connection
                .query_row("SELECT value FROM meta WHERE name = 'event_rows'", [], |row| row.get(0))?;
        let surplus = u64::try_from(rows).unwrap_or_default().saturating_sub(kept.rows_max);
        if surplus == 0 {
            return Ok(Progress::Done);
        }
        let step = usize::try_from(surplus).map_or(STEP, |surplus| surplus.min(STEP));
        self.drop_events("true", Timestamp::from_micros(u64::MAX), step)
    }

    /// Drops the oldest of the events of a condition and before a time, and keeps count.
    fn drop_events(&mut self, which: &str, before: Timestamp, step: usize) -> Result<Progress, Trouble> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let limit = i64::try_from(step).unwrap_or(i64::MAX);
        let oldest = format!("SELECT id FROM events WHERE {which} AND id < ?1 ORDER BY id LIMIT ?2");
        let sql = format!("DELETE FROM events WHERE id IN ({oldest})");
        let dropped = change.execute(&sql, (event_rows::first_id(before), limit))?;
        count_down(&change, dropped)?;
        change.commit()?;
        Ok(more_after(dropped))
    }
}

fn count_down(change: &Transaction<'_>, rows: usize) -> Result<(), Trouble> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    change.execute("UPDATE meta SET value = max(value - ?1, 0) WHERE name = 'event_rows'", [rows])?;
    Ok(())
}

/// A step that found all it may drop has more to do.
fn more_after(dropped: usize) -> Progress {
    if dropped == STEP { Progress::More } else { Progress::Done }
}

fn earlier(now: Timestamp, span: Span) -> Timestamp {
    Timestamp::from_micros(now.as_micros().saturating_sub(span.as_millis().saturating_mul(1000)))
}
