//! What is counted of the journal and of the blocks that it keeps.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use super::family::Family;

/// From a disk with a cache of its own to one that is overloaded, seconds.
const COMMIT_BUCKETS: [f64; 13] =
    [250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5];

/// What did not get to the disk in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Events: these are lost.
    Events,
    /// Blocks and their ends: in force all the same, and written once the disk takes them.
    Blocks,
    /// Steps with one-time codes: none was taken, as far as anybody was told.
    Codes,
}

/// The metrics of the journal. A clone is another handle to the same.
#[derive(Clone)]
pub struct JournalMetrics {
    up: IntGauge,
    queue: IntGauge,
    broken_files: IntCounter,
    dropped: [IntCounter; 3],
    events: [IntCounter; JournalMetrics::KINDS.len()],
    blocks: [IntGauge; JournalMetrics::REASONS.len()],
    blocks_started: [IntCounter; JournalMetrics::REASONS.len()],
    blocks_displaced: IntCounter,
    commit_seconds: Histogram,
}

impl JournalMetrics {
    /// The kinds of events, in the order of the journal's own.
    pub const KINDS: [&str; 13] = [
        "limited",
        "blocked",
        "unblocked",
        "failure",
        "backoff",
        "rejected",
        "denied",
        "suspicion",
        "reload",
        "reload_failed",
        "store_up",
        "store_down",
        "admin",
    ];
    /// Why keys are blocked, in the order of the journal's own.
    pub const REASONS: [&str; 4] = ["limit", "failures", "suspicion", "operator"];

    pub(super) fn new(registry: &Registry) -> Result<JournalMetrics, prometheus::Error> {
        let gauge = |name: &str, help: &str| super::registered(registry, IntGauge::new(name, help)?);
        let counter = |name: &str, help: &str| super::registered(registry, IntCounter::new(name, help)?);
        let counters = |name, help, label| Family::new(registry, name, help, [label], IntCounter::with_opts);
        let dropped = counters(
            "tollgate_journal_dropped_total",
            "What was not on disk in time: events are lost, blocks are in force and written later, codes are refused.",
            "what",
        )?;
        let events = counters("tollgate_journal_events_total", "Events written, by kind.", "kind")?;
        let started = counters("tollgate_blocks_started_total", "Blocks started, by reason.", "reason")?;
        let blocks = Family::new(
            registry,
            "tollgate_blocks",
            "Blocks in force in the journal's book, by reason.",
            ["reason"],
            IntGauge::with_opts,
        )?;
        let commit = HistogramOpts::new(
            "tollgate_journal_commit_seconds",
            "Time of one transaction of the journal, until it is on disk.",
        );
        Ok(JournalMetrics {
            up: gauge("tollgate_journal_up", "1 while the journal is written to disk.")?,
            queue: gauge("tollgate_journal_queue", "Events that wait to be written.")?,
            broken_files: counter(
                "tollgate_journal_broken_files_total",
                "Journals that were found broken and moved aside.",
            )?,
            dropped: ["events", "blocks", "codes"].map(|what| dropped.child([what])),
            events: JournalMetrics::KINDS.map(|kind| events.child([kind])),
            blocks: JournalMetrics::REASONS.map(|reason| blocks.child([reason])),
            blocks_started: JournalMetrics::REASONS.map(|reason| started.child([reason])),
            blocks_displaced: counter(
                "tollgate_blocks_displaced_total",
                "Blocks that ended early because there were too many.",
            )?,
            commit_seconds: super::registered(
                registry,
                Histogram::with_opts(commit.buckets(COMMIT_BUCKETS.to_vec()))?,
            )?,
        })
    }

    pub fn set_up(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
    }

    /// How many events wait to be written.
    pub fn set_queue(&self, events: usize) {
        self.queue.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// The blocks in force, in the order of [`JournalMetrics::REASONS`].
    pub fn set_blocks(&self, counts: [u64; JournalMetrics::REASONS.len()]) {
        for (gauge, count) in self.blocks.iter().zip(counts) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub fn dropped(&self, what: Dropped, count: u64) {
        self.dropped[what as usize].inc_by(count);
    }

    pub fn dropped_so_far(&self, what: Dropped) -> u64 {
        self.dropped[what as usize].get()
    }

    /// One row of the kind at this place of [`JournalMetrics::KINDS`] was written.
    pub fn wrote(&self, kind: usize) {
        self.events.get(kind).into_iter().for_each(IntCounter::inc);
    }

    /// A block for the reason at this place of [`JournalMetrics::REASONS`] began.
    pub fn block_started(&self, reason: usize) {
        self.blocks_started.get(reason).into_iter().for_each(IntCounter::inc);
    }

    pub fn block_displaced(&self) {
        self.blocks_displaced.inc();
    }

    pub fn file_broken(&self) {
        self.broken_files.inc();
    }

    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }
}
