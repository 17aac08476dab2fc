//! How long a slow client is waited for.

use std::time::Duration;

/// How often those are looked at who are slow to give or take a body.
pub(super) const BODY_LOOK: Duration = Duration::from_secs(1);
/// How long a client may keep a body back, and an answer waiting, before its rate counts: phones lose their
/// network for a while, and people pause what they download.
pub(super) const BODY_PATIENCE: Duration = Duration::from_secs(30);
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// How long somebody is still waited for: what they move buys them time, and never more than they began with.
#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    left: Duration,
    /// Bytes a second.
    rate: u32,
    moved: u64,
}

impl Patience {
    pub(super) fn new(most: Duration, rate: u32, moved: u64) -> Patience {
        Patience { most, left: most, rate, moved }
    }

    /// Whether nothing of it is left, after a look in which so many bytes had been moved in all.
    pub(super) fn is_over(&mut self, is_waited_for: bool, pause: Duration, moved: u64) -> bool {
        let since = moved.saturating_sub(std::mem::replace(&mut self.moved, moved));
        if self.rate == 0 {
            return false;
        }
        let bought = Duration::from_millis(since.saturating_mul(1000) / u64::from(self.rate));
        self.left = self.left.saturating_add(bought).min(self.most);
        if is_waited_for {
            self.left = self.left.saturating_sub(pause);
        }
        self.left.is_zero()
    }
}
