//! Whether a connection is in use, and the end of one that is not.
//!
//! Pingora would arm a timer for every request that a connection waits for. Here one timer a
//! connection looks now and then whether anything happened. A connection counts as unused until
//! the whole head of a request is there, so dripping one byte at a time does not keep it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How many looks in a row must find it unused: it is kept for 60 to 75 seconds.
const UNUSED_LOOKS: u32 = 5;

/// What happens on one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    has_request: AtomicBool,
    /// Requests begun; wraps around.
    requests: AtomicU32,
}

impl Activity {
    /// The head of a request is there.
    pub(super) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.has_request.store(true, Ordering::Release);
    }

    /// The request is done.
    pub(super) fn end(&self) {
        self.has_request.store(false, Ordering::Release);
    }

    /// Returns once the connection has been unused for a minute.
    pub(super) async fn unused(&self) {
        let mut seen = self.requests.load(Ordering::Relaxed);
        let mut looks = 0;
        while looks < UNUSED_LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            let requests = self.requests.load(Ordering::Relaxed);
            let is_unused = requests == seen && !self.has_request.load(Ordering::Acquire);
            looks = if is_unused { looks + 1 } else { 0 };
            seen = requests;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outlives(activity: &Activity, span_s: u64) -> bool {
        tokio::time::timeout(Duration::from_secs(span_s), activity.unused()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_connection_ends_after_a_minute() {
        let activity = Activity::default();
        assert!(outlives(&activity, 60).await);
        assert!(!outlives(&activity, 76).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_keeps_it_however_long_it_takes() {
        let activity = Activity::default();
        activity.begin();
        assert!(outlives(&activity, 100_000).await);
        activity.end();
        assert!(!outlives(&activity, 91).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_used_now_and_then_is_kept() {
        let activity = Activity::default();
        let uses = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                activity.begin();
                activity.end();
            }
        };
        tokio::select! {
            () = activity.unused() => panic!("ended while it was used"),
            () = uses => {}
        }
    }
}
