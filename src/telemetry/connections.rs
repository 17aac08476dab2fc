//! Lines about connections that were refused, and few of them.

use std::fmt::Display;
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
    /// The same of a connection on which no HTTP began.
    pub fn never_began(&self, peer: IpAddr, reason: &dyn Display, now: Timestamp) {
        if self.has_room(now) {
            tracing::warn!(%peer, %reason, "ended a connection before HTTP began on it");
        }
    }

    /// Writes the line, or counts it as suppressed. `limit` is the key of the listener that allows no more.
    pub fn refused(&self, peer: IpAddr, limit: &'static str, now: Timestamp) {
        if self.has_room(now) {
            tracing::warn!(%peer, limit, "refused a connection: there are as many as the listener allows");
        }
    }
    fn has_room(&self, now: Timestamp) -> bool {
        if let Some(count) = self.budget.take_suppressed(now) {
            tracing::warn!(count, "suppressed lines about refused connections");
        }
        self.budget.admit(now)
    }
}
