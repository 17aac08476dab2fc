//! One line a backend failure, and few of them while a backend is away.

use std::num::NonZeroU32;

use super::lines::LineBudget;
use crate::decision::time::Timestamp;

/// Writes what backends failed to do to the log, at most so many lines a second.
pub struct FailureLog {
    budget: LineBudget,
}

impl FailureLog {
    pub fn new(lines_per_second: NonZeroU32) -> FailureLog {
        FailureLog { budget: LineBudget::new(lines_per_second) }
    }

    /// Writes the line, or counts it as suppressed. `reason` is Pingora's name of the error: it
    /// holds nothing of the request.
    pub fn failed(&self, upstream: &str, reason: &str, request_id: Option<&str>, now: Timestamp) {
        self.report_suppressed(now);
        if self.budget.admit(now) {
            tracing::warn!(upstream, reason, request_id, "the backend gave no answer");
        }
    }

    /// Tells how many lines were suppressed, if that is due.
    pub fn report_suppressed(&self, now: Timestamp) {
        if let Some(count) = self.budget.take_suppressed(now) {
            tracing::warn!(count, "suppressed lines about backends that gave no answer");
        }
    }
}
