//! What other gateways tell: taken over as it is, and not told on.

use std::sync::Arc;

use super::block::{BlockRecord, Ended};
use super::feed::Happening;
use super::outbox::{Lift, Outbox};
use super::queue::{Change, Changes, What};
use super::{Journal, Shared};
use crate::decision::time::Timestamp;

/// What became of a block that another gateway tells of.
#[derive(Clone, Debug)]
pub enum Adoption {
    /// It is in force here too.
    Taken,
    /// It is over, or what is in force here stands.
    Known,
    /// It was lifted: whoever tells of it does not know yet.
    Lifted(Arc<Lift>),
}

impl Journal {
    /// What other gateways are to be told.
    pub fn outbox(&self) -> &Outbox {
        &self.shared.outbox
    }

    /// Up to where other gateways had been heard when the journal was closed last, in the words of
    /// [`Journal::leave_place`]. None after a crash, and the second time.
    pub fn take_place(&self) -> Option<Box<str>> {
        self.shared.heard_up_to.lock().take()
    }

    /// Notes up to where other gateways were heard; for the end, when all that was heard is noted.
    pub fn leave_place(&self, place: &str) {
        self.shared.queue.note_place(place);
    }

    /// Puts a block in force that another gateway began or changed, under the id that it has there. It is written
    /// down in time; nobody waits for that.
    pub fn adopt(&self, record: Arc<BlockRecord>, now: Timestamp) -> Adoption {
        let Shared { queue, book, outbox, feed, metrics, .. } = &*self.shared;
        if record.block.until <= now {
            return Adoption::Known;
        }
        if let Some(lift) = outbox.lifted(record.key, record.id) {
            return Adoption::Lifted(lift);
        }
        queue.push_changes(|| {
            let mut changes = Changes::new();
            let Some(adopted) = book.adopt(Arc::clone(&record), now) else {
                return (Adoption::Known, changes);
            };
            let mut end = |key, how| {
                changes.push(Change { what: What::End { key, at: now, how, by: None }, done: None });
            };
            if adopted.replaces {
                end(record.key, Ended::Replaced);
            }
            if let Some(displaced) = adopted.displaced {
                metrics.block_displaced();
                end(displaced.key, Ended::Displaced);
            }
            feed.tell(|| Happening::Blocked(Arc::clone(&record)));
            changes.push(Change { what: What::Put(record), done: None });
            (Adoption::Taken, changes)
        })
    }

    /// Ends a block that was lifted in another gateway; the one that was held here. Noted is nothing: the
    /// event comes from there too.
    pub fn let_go(&self, lift: &Arc<Lift>, now: Timestamp) -> Option<Arc<BlockRecord>> {
        let Shared { queue, book, outbox, feed, .. } = &*self.shared;
        outbox.remember(lift, now);
        queue.push_changes(|| {
            let mut changes = Changes::new();
            let lifted = book.lift_up_to(lift.key, lift.id);
            if let Some(record) = &lifted {
                feed.tell(|| Happening::Unblocked(Arc::clone(record)));
                let what = What::End { key: lift.key, at: now, how: Ended::Lifted, by: lift.by.clone() };
                changes.push(Change { what, done: None });
            }
            (lifted, changes)
        })
    }
}

#[cfg(test)]
mod tests;
