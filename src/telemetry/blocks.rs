//! One line a block, and few of them while many begin.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::lines::LineBudget;
use crate::decision::time::Timestamp;

/// Writes which blocks began to the log, at most so many lines a second.
pub struct BlockLog {
    budget: LineBudget,
}

/// What a block says of itself. Nothing in it tells a phone or an e-mail.
#[derive(Clone, Copy, Debug)]
pub struct BlockLine<'a> {
    pub reason: &'static str,
    pub route: Option<&'a str>,
    pub policy: Option<&'a str>,
    /// What is blocked: `ip`, `body.username+ip`.
    pub key: &'a str,
    /// Who is blocked, masked.
    pub identifier: &'a str,
    /// Whose request began it.
    pub client: IpAddr,
    pub attempts: u32,
    pub for_s: u64,
}

impl BlockLog {
    pub fn new(lines_per_second: NonZeroU32) -> BlockLog {
        BlockLog { budget: LineBudget::new(lines_per_second) }
    }

    /// Writes the line, or counts it as suppressed.
    pub fn began(&self, line: &BlockLine<'_>, now: Timestamp) {
        self.report_suppressed(now);
        if self.budget.admit(now) {
            tracing::warn!(
                reason = line.reason,
                route = line.route,
                policy = line.policy,
                key = line.key,
                identifier = line.identifier,
                client = %line.client,
                attempts = line.attempts,
                for_s = line.for_s,
                "blocked"
            );
        }
    }

    /// Tells how many lines were suppressed, if that is due.
    pub fn report_suppressed(&self, now: Timestamp) {
        if let Some(count) = self.budget.take_suppressed(now) {
            tracing::warn!(count, "suppressed lines about blocks");
        }
    }
}
