//! What is counted of the folder that outlives the process.

use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

use crate::decision::time::Timestamp;

/// The metrics of the data folder. A clone is another handle to the same.
#[derive(Clone)]
pub struct DataDirMetrics {
    up: IntGauge,
    snapshot_seconds: Gauge,
    snapshot_at: Gauge,
    snapshot_failures: IntCounter,
}

impl DataDirMetrics {
    pub(super) fn new(registry: &Registry) -> Result<DataDirMetrics, prometheus::Error> {
        let gauge = |name: &str, help: &str| super::registered(registry, Gauge::new(name, help)?);
        Ok(DataDirMetrics {
            up: super::registered(
                registry,
                IntGauge::new(
                    "tollgate_data_dir_up",
                    "1 if what is kept on disk can be, 0 if it ends with the process.",
                )?,
            )?,
            snapshot_seconds: gauge(
                "tollgate_snapshot_seconds",
                "How long it took to write the counters to disk the last time.",
            )?,
            snapshot_at: gauge(
                "tollgate_snapshot_last_timestamp_seconds",
                "The state of what time the counters on disk are, seconds since the epoch; 0 before the first of this process.",
            )?,
            snapshot_failures: super::registered(
                registry,
                IntCounter::new(
                    "tollgate_snapshot_failures_total",
                    "How often the counters could not be written to disk.",
                )?,
            )?,
        })
    }

    /// Whether the folder can be used.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// The counters as of `at` are on disk.
    pub fn saved(&self, took: Duration, at: Timestamp) {
        self.snapshot_seconds.set(took.as_secs_f64());
        self.snapshot_at.set(at.as_micros() as f64 / 1e6);
    }

    pub fn save_failed(&self) {
        self.snapshot_failures.inc();
    }
}
