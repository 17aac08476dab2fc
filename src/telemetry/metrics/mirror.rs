//! What is counted of the exchange with the gateways that share a store.

use prometheus::{Gauge, IntCounter, Registry};

use super::family::Family;
use crate::decision::time::Span;

/// What gateways tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    Blocks,
    Unblocks,
    Events,
}

/// What was not told, or was told in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorDropped {
    /// Blocks for which the store has no room; they hold where they began.
    Blocks,
    /// Events past what waits, or whose telling failed.
    Events,
    /// What others told under another secret, or in a later version.
    Unreadable,
    /// Times at which notices of others were gone before they were heard: blocks are read anew, events are lost.
    Gaps,
}

/// The metrics of the exchange. A clone is another handle to the same.
#[derive(Clone)]
pub struct MirrorMetrics {
    lag_seconds: Gauge,
    published: [IntCounter; 3],
    applied: [IntCounter; 3],
    dropped: [IntCounter; 4],
}

impl MirrorMetrics {
    pub(super) fn new(registry: &Registry) -> Result<MirrorMetrics, prometheus::Error> {
        const WHAT: [&str; 3] = ["blocks", "unblocks", "events"];
        let counters = |name, help| Family::new(registry, name, help, ["what"], IntCounter::with_opts);
        let published = counters(
            "tollgate_mirror_published_total",
            "What this gateway told those that share its store; a block again when the store lost it.",
        )?;
        let applied =
            counters("tollgate_mirror_applied_total", "What this gateway took over from the others.")?;
        let dropped = counters(
            "tollgate_mirror_dropped_total",
            "What was not told or not understood; gaps are times at which others were not heard quickly enough.",
        )?;
        Ok(MirrorMetrics {
            lag_seconds: super::registered(
                registry,
                Gauge::new(
                    "tollgate_mirror_lag_seconds",
                    "Age of the newest notice of another gateway when this one took it over.",
                )?,
            )?,
            published: WHAT.map(|what| published.child([what])),
            applied: WHAT.map(|what| applied.child([what])),
            dropped: ["blocks", "events", "unreadable", "gaps"].map(|what| dropped.child([what])),
        })
    }

    pub fn set_lag(&self, lag: Span) {
        self.lag_seconds.set(lag.as_millis() as f64 / 1e3);
    }

    pub fn published(&self, what: Mirrored, count: u64) {
        self.published[what as usize].inc_by(count);
    }

    pub fn applied(&self, what: Mirrored) {
        self.applied[what as usize].inc();
    }

    pub fn dropped(&self, what: MirrorDropped, count: u64) {
        self.dropped[what as usize].inc_by(count);
    }
}
