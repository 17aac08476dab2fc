//! The one thread that writes.
//!
//! It takes all that waits and writes it, blocks before events: whoever waits for a block waits for
//! one transaction, which takes all blocks that came meanwhile. While the disk fails, it drops
//! events and lets blocks be in memory alone; it tries again every few seconds, sooner where another
//! program had the file locked, and once the disk is back it writes all that is in force.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Shared;
use super::event::Event;
use super::file::{self, JournalFile, Trouble};
use super::queue::{Change, Work};
use super::standing::Standing;
use super::tidy::{self, Chore, Kept, Progress};
use crate::clock::Stopwatch;
use crate::telemetry::Dropped;

pub(super) struct Writer {
    shared: Arc<Shared>,
    kept: Kept,
    retry_every: Duration,
    file: Option<JournalFile>,
    /// Whether the book has seen what the file holds.
    is_loaded: bool,
    /// Whether the log was told last that the journal is written; `None` before the first line.
    told: Option<bool>,
    tried: Stopwatch,
    /// How long after that it is tried again.
    pause: Duration,
    chores: VecDeque<Chore>,
}

/// When a file is tried again that another program had locked; twice as long each time.
const HELD_PAUSE: Duration = Duration::from_millis(50);

impl Writer {
    /// With the file open and its blocks in the book, if that is possible now.
    pub(super) fn start(shared: Arc<Shared>, kept: Kept, retry_every: Duration) -> Writer {
        let tried = shared.clock.stopwatch();
        let mut writer = Writer {
            shared,
            kept,
            retry_every,
            file: None,
            is_loaded: false,
            told: None,
            tried,
            pause: Duration::ZERO,
            chores: VecDeque::new(),
        };
        writer.open();
        writer
    }

    /// Until nobody needs it any more.
    pub(super) fn run(mut self) {
        let mut closers = Vec::new();
        let mut is_last = false;
        loop {
            let work = self.shared.queue.take(self.patience(is_last));
            is_last |= work.is_last;
            if self.file.is_none() && self.tried.elapsed() >= self.pause {
                self.open();
            }
            closers.extend(self.work_off(work));
            if is_last && self.shared.queue.shut_if_empty() {
                break;
            }
        }
        // What is left over is caught up with by the next start: chores repeat themselves.
        if let Some(file) = self.file.take()
            && let Err(trouble) = file.checkpoint()
        {
            tracing::warn!(why = %trouble, "the log of the journal could not be emptied; the next start reads it");
        }
        drop(self);
        tell(closers);
    }

    /// How long to wait for work.
    fn patience(&self, is_last: bool) -> Option<Duration> {
        if is_last {
            return Some(Duration::ZERO);
        }
        match &self.file {
            None => Some(self.pause.saturating_sub(self.tried.elapsed()).max(Duration::from_millis(1))),
            Some(_) if !self.chores.is_empty() => Some(Duration::ZERO),
            Some(_) => None,
        }
    }

    fn work_off(&mut self, work: Work) -> Vec<oneshot::Sender<()>> {
        if work.broken == Some(self.shared.generation.load(Ordering::Acquire)) && self.file.is_some() {
            self.mend(Trouble::Broken("found while it was read".to_owned()));
        }
        self.write_changes(work.changes);
        self.write_events(&work.events);
        if let Some(place) = work.heard_up_to {
            // Without it the events of the time in between are missed, no more.
            let _ = self.attempt(|file, _| file.note_place(&place));
        }
        if work.is_behind {
            self.chores.retain(|chore| !chore.is_of_agreement());
            self.chores.extend(tidy::agreement(self.shared.held()));
        }
        if let Some(now) = work.tidy {
            self.chores.retain(|chore| chore.is_of_agreement());
            self.chores.extend(tidy::clean_up(self.kept, now));
        }
        self.take_a_step();
        work.closers
    }

    fn write_changes(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let watch = self.shared.clock.stopwatch();
        let written = self.attempt(|file, shared| file.change(&shared.place.sealer, &changes));
        if written.is_some() {
            self.shared.metrics.committed(watch.elapsed());
            tell(changes.into_iter().filter_map(|change| change.done));
        }
    }

    fn write_events(&mut self, events: &[Event]) {
        let mut rest = events;
        while !rest.is_empty() {
            let watch = self.shared.clock.stopwatch();
            let written = self.attempt(|file, shared| {
                file.add_events(&shared.place.sealer, rest, || shared.queue.has_changes())
            });
            let Some(written) = written else {
                return self.shared.metrics.dropped(Dropped::Events, rest.len() as u64);
            };
            self.shared.metrics.committed(watch.elapsed());
            let (done, left) = rest.split_at(written.min(rest.len()));
            done.iter().for_each(|event| self.shared.metrics.wrote(event.kind as usize));
            rest = left;
            let changes = self.shared.queue.take_changes();
            self.write_changes(changes);
        }
    }

    fn take_a_step(&mut self) {
        let Some(&chore) = self.chores.front() else { return };
        if self.file.is_none() {
            return;
        }
        let (kept, now) = (self.kept, self.shared.clock.now());
        let step = self.attempt(|file, shared| file.step(chore, shared.held(), kept, now));
        match step {
            Some(Progress::More) => {}
            Some(Progress::Done) => {
                self.chores.pop_front();
            }
            // Nothing is left half done: the next start or clean-up begins anew.
            None => self.chores.clear(),
        }
    }

    /// Does something with the file; once more with a new one if it turns out to be broken.
    fn attempt<T>(
        &mut self,
        mut work: impl FnMut(&mut JournalFile, &Shared) -> Result<T, Trouble>,
    ) -> Option<T> {
        match work(self.file.as_mut()?, &self.shared) {
            Ok(done) => return Some(done),
            Err(trouble) => self.mend(trouble),
        }
        match work(self.file.as_mut()?, &self.shared) {
            Ok(done) => Some(done),
            Err(trouble) => {
                self.lose(&trouble);
                None
            }
        }
    }

    fn open(&mut self) {
        self.tried = self.shared.clock.stopwatch();
        match self.open_and_agree() {
            Ok(()) => self.tell_up(),
            Err(trouble) => self.mend(trouble),
        }
    }

    fn open_and_agree(&mut self) -> Result<(), Trouble> {
        let Shared { place, book, ledger, clock, .. } = &*self.shared;
        let file = JournalFile::open(place, clock.now())?;
        let mut agrees = false;
        if !self.is_loaded {
            let was_blank = book.is_blank() && ledger.is_blank();
            agrees = file.load(&place.sealer, book, clock.now())? && was_blank;
            file.load_records(ledger, clock.now())?;
            *self.shared.heard_up_to.lock() = file.take_place()?;
            self.is_loaded = true;
        }
        self.file = Some(file);
        if agrees { Ok(()) } else { self.agree() }
    }

    /// Makes the file agree with book and ledger.
    fn agree(&mut self) -> Result<(), Trouble> {
        let (kept, now) = (self.kept, self.shared.clock.now());
        let shared = Arc::clone(&self.shared);
        let Some(file) = &mut self.file else { return Ok(()) };
        for chore in tidy::agreement(shared.held()) {
            file.step(chore, shared.held(), kept, now)?;
        }
        Ok(())
    }

    /// A broken file is replaced; whatever else is wrong is waited out.
    fn mend(&mut self, trouble: Trouble) {
        let why = match trouble {
            Trouble::Broken(why) => why,
            Trouble::Newer(_) | Trouble::Held(_) | Trouble::Away(_) => return self.lose(&trouble),
        };
        self.file = None;
        self.shared.metrics.file_broken();
        tracing::error!(
            why,
            "the journal is broken: it is moved aside, and a new one begins with the blocks in force"
        );
        match self.replace() {
            Ok(()) => self.tell_up(),
            Err(trouble) => self.lose(&trouble),
        }
    }

    fn replace(&mut self) -> Result<(), Trouble> {
        let Shared { place, clock, generation, .. } = &*self.shared;
        generation.fetch_add(1, Ordering::AcqRel);
        file::set_aside(place, clock.now())?;
        self.file = Some(JournalFile::open(place, clock.now())?);
        self.is_loaded = true;
        self.agree()
    }

    fn tell_up(&mut self) {
        self.pause = Duration::ZERO;
        self.shared.set_standing(Standing::Up);
        if self.told == Some(false) {
            tracing::info!("the journal is written again");
        }
        self.told = Some(true);
    }

    /// Goes on without the file until it can be written again.
    fn lose(&mut self, trouble: &Trouble) {
        self.file = None;
        self.tried = self.shared.clock.stopwatch();
        let standing = match trouble {
            Trouble::Held(_) => {
                self.pause = (self.pause * 2).max(HELD_PAUSE).min(self.retry_every);
                Standing::Held
            }
            Trouble::Broken(_) | Trouble::Newer(_) | Trouble::Away(_) => {
                self.pause = self.retry_every;
                Standing::Down
            }
        };
        self.shared.set_standing(standing);
        if self.told != Some(false) {
            tracing::error!(
                why = %trouble,
                "the journal cannot be written: blocks hold in memory alone, events are lost"
            );
        }
        self.told = Some(false);
    }
}

/// Whoever gave up waiting is not told.
fn tell(waiting: impl IntoIterator<Item = oneshot::Sender<()>>) {
    for one in waiting {
        let _ = one.send(());
    }
}

/// However it ends, nobody waits for it.
impl Drop for Writer {
    fn drop(&mut self) {
        let lost = self.shared.queue.shut();
        self.shared.metrics.dropped(Dropped::Events, lost as u64);
        self.shared.set_standing(Standing::Down);
    }
}
