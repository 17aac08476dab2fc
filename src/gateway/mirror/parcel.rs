//! Blocks, lifts and events as notices: sealed, and in the store's time.

use std::sync::Arc;

use crate::decision::block::Block;
use crate::decision::time::Timestamp;
use crate::journal::{BlockRecord, Event, Lift, Parcels, Reason, Telling};
use crate::store::exchange::{End, Heard, Mark, Notice, SEALED_MAX, Subject};

/// What notices are made and read by.
pub(super) struct Post {
    pub(super) parcels: Parcels,
    /// What the others call this gateway.
    pub(super) name: Box<str>,
    /// How far the store's clock is ahead of ours, microseconds.
    pub(super) ahead_us: i64,
}

/// What another gateway told, in our time.
#[derive(Debug)]
pub(super) enum Received {
    Block(Arc<BlockRecord>),
    Lift(Arc<Lift>),
    Event(Box<Event>),
}

impl Post {
    /// Of what just happened. None if it cannot be told: no kind of it is that long.
    pub(super) fn notice(&self, news: &Telling) -> Option<Notice> {
        match news {
            Telling::Block(record) => {
                let end = match record.reason {
                    Reason::Operator => End::Ordered,
                    Reason::Limit | Reason::Failures | Reason::Suspicion => End::Latest,
                };
                self.block(record, end)
            }
            Telling::Lift(lift) => self.lift(lift),
        }
    }

    /// Of what happened at some time: nobody's later word gives way to it.
    pub(super) fn again(&self, news: &Telling) -> Option<Notice> {
        match news {
            Telling::Block(record) => self.block(record, End::Latest),
            Telling::Lift(lift) => self.lift(lift),
        }
    }

    pub(super) fn event(&self, event: &Event) -> Option<Notice> {
        let event = Event { at: self.there(event.at), ..event.clone() };
        within_bounds(Subject::Event, self.parcels.seal_event(&event, &self.name)?)
    }

    /// None of what cannot be read, or is not about what it says.
    pub(super) fn open(&self, heard: &Heard) -> Option<Received> {
        match heard.subject {
            Subject::Block { mark, end: _ } => {
                let record = self.parcels.open_block(&heard.sealed)?;
                let record = in_time(&record, |at| self.here(at));
                is_about(mark, &self.mark_of(&record)).then(|| Received::Block(Arc::new(record)))
            }
            Subject::Lift(mark) => {
                let lift = self.parcels.open_lift(&heard.sealed)?;
                let lift = Lift { at: self.here(lift.at), until: self.here(lift.until), ..lift };
                is_about(mark, &self.mark_of_lift(&lift)).then(|| Received::Lift(Arc::new(lift)))
            }
            Subject::Event => {
                let event = self.parcels.open_event(&heard.sealed)?;
                Some(Received::Event(Box::new(Event { at: self.here(event.at), ..event })))
            }
        }
    }

    /// The store's time in ours.
    pub(super) fn here(&self, at: Timestamp) -> Timestamp {
        moved(at, self.ahead_us.saturating_neg())
    }

    fn there(&self, at: Timestamp) -> Timestamp {
        moved(at, self.ahead_us)
    }

    fn block(&self, record: &BlockRecord, end: End) -> Option<Notice> {
        let sealed = self.parcels.seal_block(&in_time(record, |at| self.there(at)))?;
        within_bounds(Subject::Block { mark: self.mark_of(record), end }, sealed)
    }

    fn lift(&self, lift: &Lift) -> Option<Notice> {
        let told = Lift { at: self.there(lift.at), until: self.there(lift.until), ..lift.clone() };
        within_bounds(Subject::Lift(self.mark_of_lift(lift)), self.parcels.seal_lift(&told)?)
    }

    fn mark_of(&self, record: &BlockRecord) -> Mark {
        Mark { key: record.key, id: record.id.to_bytes(), until: self.there(record.block.until) }
    }

    fn mark_of_lift(&self, lift: &Lift) -> Mark {
        Mark { key: lift.key, id: lift.id.to_bytes(), until: self.there(lift.until) }
    }
}

/// A time that one clock shows when another shows this one.
pub(super) fn moved(at: Timestamp, by_us: i64) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_add_signed(by_us))
}

fn in_time(record: &BlockRecord, time: impl Fn(Timestamp) -> Timestamp) -> BlockRecord {
    let Block { until, level, forget_at } = record.block;
    BlockRecord {
        created_at: time(record.created_at),
        block: Block { until: time(until), level, forget_at: time(forget_at) },
        ..record.clone()
    }
}

/// Whether what was sealed belongs to the mark that the store went by.
fn is_about(mark: Mark, sealed: &Mark) -> bool {
    (mark.key, mark.id) == (sealed.key, sealed.id)
}

fn within_bounds(subject: Subject, sealed: Vec<u8>) -> Option<Notice> {
    (sealed.len() <= SEALED_MAX).then_some(Notice { subject, sealed })
}
