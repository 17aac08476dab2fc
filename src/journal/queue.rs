//! What waits for the writer. Bounded on all sides, and nobody waits to put something in.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::block::{BlockRecord, Ended};
use super::event::Event;
use super::ledger::Record;
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;

/// So many events wait at most; one more is dropped.
pub(super) const EVENTS_MAX: usize = 8192;
/// So many events are written at once.
pub(super) const BATCH: usize = 4096;
/// So many blocks, ends of blocks and records wait at most.
const CHANGES_MAX: usize = 65_536;
/// How long events wait for others to be written with.
const LINGER: Duration = Duration::from_millis(50);

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    work: Work,
    is_shut: bool,
}

/// All that waits, taken at once.
#[derive(Default)]
pub(super) struct Work {
    pub(super) events: Vec<Event>,
    pub(super) changes: Vec<Change>,
    /// Changes were left out: the file must be made to agree with book and ledger.
    pub(super) is_behind: bool,
    pub(super) tidy: Option<Timestamp>,
    /// Up to where other gateways were heard.
    pub(super) heard_up_to: Option<Box<str>>,
    /// The file of this generation was found broken by who read it.
    pub(super) broken: Option<u64>,
    /// Nobody needs the writer any more, or these wait for all to be written.
    pub(super) is_last: bool,
    pub(super) closers: Vec<oneshot::Sender<()>>,
}

/// A change to blocks or records, in the order in which book and ledger saw it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) what: What,
    /// Told once it is on disk; dropped if that fails.
    pub(super) done: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
pub(super) enum What {
    Put(Arc<BlockRecord>),
    End { key: KeyHash, at: Timestamp, how: Ended, by: Option<Box<str>> },
    Keep(KeyHash, Record),
}

/// Blocks that one step of the book changes: the one, and the one that gave way to it.
pub(super) type Changes = SmallVec<[Change; 2]>;

impl Queue {
    pub(super) fn new() -> Queue {
        Queue { state: Mutex::default(), wake: Condvar::new() }
    }

    /// `false` if there is no room, or nobody to write.
    pub(super) fn push_event(&self, event: Event) -> bool {
        let mut state = self.state.lock();
        if state.is_shut || state.work.events.len() >= EVENTS_MAX {
            return false;
        }
        state.work.events.push(event);
        if matches!(state.work.events.len(), 1 | BATCH) {
            self.wake.notify_one();
        }
        true
    }

    /// Runs a step of the book or the ledger and puts in what it changed: the file sees changes in their order.
    pub(super) fn push_changes<T>(&self, step: impl FnOnce() -> (T, Changes)) -> T {
        let mut state = self.state.lock();
        let (out, changes) = step();
        if state.is_shut || changes.is_empty() {
            return out;
        }
        if state.work.changes.len() + changes.len() > CHANGES_MAX {
            state.work.is_behind = true;
        } else {
            state.work.changes.extend(changes);
        }
        self.wake.notify_one();
        out
    }

    pub(super) fn ask_for_tidying(&self, now: Timestamp) {
        self.state.lock().work.tidy = Some(now);
        self.wake.notify_one();
    }

    pub(super) fn note_place(&self, place: &str) {
        self.state.lock().work.heard_up_to = Some(place.into());
        self.wake.notify_one();
    }

    pub(super) fn tell_broken(&self, generation: u64) {
        self.state.lock().work.broken = Some(generation);
        self.wake.notify_one();
    }

    /// Lets the writer end once all is written; `closer` is told then, or dropped.
    pub(super) fn close(&self, closer: Option<oneshot::Sender<()>>) {
        let mut state = self.state.lock();
        if state.is_shut {
            return;
        }
        state.work.is_last = true;
        state.work.closers.extend(closer);
        self.wake.notify_one();
    }

    /// Takes nothing any more; drops what waits. How many events that were.
    pub(super) fn shut(&self) -> usize {
        let mut state = self.state.lock();
        state.is_shut = true;
        mem::take(&mut state.work).events.len()
    }

    /// Takes nothing any more, if nothing came since the last look.
    pub(super) fn shut_if_empty(&self) -> bool {
        let mut state = self.state.lock();
        state.is_shut =
            state.work.events.is_empty() && state.work.changes.is_empty() && state.work.heard_up_to.is_none();
        state.is_shut
    }

    /// How many events wait.
    pub(super) fn events(&self) -> usize {
        self.state.lock().work.events.len()
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.state.lock().work.changes.is_empty()
    }

    pub(super) fn take_changes(&self) -> Vec<Change> {
        mem::take(&mut self.state.lock().work.changes)
    }

    /// All that waits: at once what is urgent, events once they are many or have waited. With
    /// nothing to do it waits for `patience`, or for as long as it takes.
    pub(super) fn take(&self, patience: Option<Duration>) -> Work {
        let mut state = self.state.lock();
        if !state.work.is_urgent() && state.work.events.is_empty() {
            match patience {
                Some(patience) => {
                    self.wake.wait_for(&mut state, patience);
                }
                None => self.wake.wait(&mut state),
            }
        }
        if !state.work.is_urgent() && !state.work.events.is_empty() && patience != Some(Duration::ZERO) {
            self.wake.wait_while_for(&mut state, |state| !state.work.is_urgent(), LINGER);
        }
        mem::take(&mut state.work)
    }
}

impl Work {
    fn is_urgent(&self) -> bool {
        !self.changes.is_empty()
            || self.events.len() >= BATCH
            || self.is_behind
            || self.tidy.is_some()
            || self.heard_up_to.is_some()
            || self.broken.is_some()
            || self.is_last
    }
}
