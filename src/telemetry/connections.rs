//! Lines about connections that were one too many, and few of them.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::lines::LineBudget;
use crate::decision::time::Timestamp;

/// Writes what connections were refused to the log, a line a second at most.
pub struct ConnectionLog {
    budget: LineBudget,
}

impl Default for ConnectionLog {
    fn default() -> ConnectionLog {
        ConnectionLog { budget: LineBudget::new(NonZeroU32::MIN) }
    }
}

impl ConnectionLog {
    /// Writes the line, or counts it as suppressed. `limit` is the key of the listener that allows no more.
    pub fn refused(&self, peer: IpAddr, limit: &'static str, now: Timestamp) {
        if let Some(count) = self.budget.take_suppressed(now) {
            tracing::warn!(count, "suppressed lines about refused connections");
        }
        if self.budget.admit(now) {
            tracing::warn!(%peer, limit, "refused a connection: there are as many as the listener allows");
        }
    }
}
