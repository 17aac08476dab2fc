//! The block of one key, and how long the next one would be.

use super::limit::{BlockRule, WhileBlocked};
use super::time::Timestamp;

/// A key is blocked until then, and remembered a while longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub until: Timestamp,
    /// How many blocks came before this one without a pause of the rule's `forget`.
    pub level: u16,
    pub forget_at: Timestamp,
}

impl Block {
    /// The block that follows on `earlier`.
    ///
    /// One that ended before its limit admits the key again would announce a time at which the
    /// next request is refused, and start the next, longer block: it lasts until `retry_at` at least.
    pub fn next(earlier: Option<Block>, rule: &BlockRule, retry_at: Timestamp, now: Timestamp) -> Block {
        let level = match earlier {
            Some(earlier) if earlier.forget_at > now => earlier.level.saturating_add(1),
            Some(_) | None => 0,
        };
        let until = now.plus(rule.span_at(u32::from(level))).max(retry_at);
        Block { until, level, forget_at: until.plus(rule.forget) }
    }

    /// The same block after another request of its key; none if nothing changes.
    pub fn after_another(self, rule: Option<&BlockRule>, now: Timestamp) -> Option<Block> {
        let rule = rule?;
        match rule.while_blocked {
            WhileBlocked::Stands => None,
            WhileBlocked::Prolongs => {
                let until = now.plus(rule.span_at(u32::from(self.level)));
                (until > self.until).then(|| Block { until, forget_at: until.plus(rule.forget), ..self })
            }
        }
    }
}
