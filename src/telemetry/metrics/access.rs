//! What is counted of the access log.

use prometheus::{IntCounter, Registry};

use super::family::Family;

/// The metrics of the access log. A clone is another handle to the same.
#[derive(Clone)]
pub struct AccessMetrics {
    noted: IntCounter,
    dropped: IntCounter,
}

impl AccessMetrics {
    pub(super) fn new(registry: &Registry) -> Result<AccessMetrics, prometheus::Error> {
        let lines = Family::new(
            registry,
            "tollgate_access_log_lines_total",
            "Lines of the access log by what became of them: noted, or dropped because too many waited to be written.",
            ["result"],
            IntCounter::with_opts,
        )?;
        let [noted, dropped] = ["noted", "dropped"].map(|result| lines.child([result]));
        Ok(AccessMetrics { noted, dropped })
    }

    /// A line is in the queue.
    pub fn noted(&self) {
        self.noted.inc();
    }

    pub fn dropped(&self) {
        self.dropped.inc();
    }
}
