//! What is counted of spans for a collector.

use prometheus::{IntCounter, Registry};

use super::family::Family;

/// The metrics of the export of spans. A clone is another handle to the same.
#[derive(Clone)]
pub struct SpanMetrics {
    exported: IntCounter,
    failed: IntCounter,
    dropped: IntCounter,
}

impl SpanMetrics {
    pub(super) fn new(registry: &Registry) -> Result<SpanMetrics, prometheus::Error> {
        let requests = Family::new(
            registry,
            "tollgate_otlp_requests_total",
            "Requests whose spans were to be exported, by what became of them: exported, failed after all tries, \
             dropped because too many waited.",
            ["result"],
            IntCounter::with_opts,
        )?;
        let [exported, failed, dropped] =
            ["exported", "failed", "dropped"].map(|result| requests.child([result]));
        Ok(SpanMetrics { exported, failed, dropped })
    }

    pub fn exported(&self, count: u64) {
        self.exported.inc_by(count);
    }

    pub fn failed(&self, count: u64) {
        self.failed.inc_by(count);
    }

    pub fn dropped(&self, count: u64) {
        self.dropped.inc_by(count);
    }
}
