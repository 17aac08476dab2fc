//! Requests and refusals of each minute of the last hour, for the page's chart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::api::Api;
use crate::decision::rfc3339;
use crate::decision::time::{Span, Timestamp};

const MINUTE: Span = Span::from_secs(60);
/// The last hour, and the minute that has begun.
const KEPT: usize = 61;
/// What is counted in between may be told a minute too late by so much.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What was seen of late; bounded.
#[derive(Debug, Default)]
pub(super) struct Minutes(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The totals that were told last: requests, refused.
    totals: (u64, u64),
    minutes: VecDeque<Minute>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Minute {
    start: Timestamp,
    requests: u64,
    refused: u64,
}

/// A minute as the API tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MinuteItem {
    at: String,
    requests: u64,
    refused: u64,
}

impl Minutes {
    /// Takes up the totals since the start of the process.
    fn note(&self, requests: u64, refused: u64, now: Timestamp) {
        let mut seen = self.0.lock();
        let start = Timestamp::from_millis(now.floor_millis() / MINUTE.as_millis() * MINUTE.as_millis());
        let (before, refused_before) = std::mem::replace(&mut seen.totals, (requests, refused));
        if seen.minutes.back().is_none_or(|last| last.start < start) {
            seen.minutes.push_back(Minute { start, requests: 0, refused: 0 });
        }
        if seen.minutes.len() > KEPT {
            seen.minutes.pop_front();
        }
        if let Some(last) = seen.minutes.back_mut() {
            last.requests += requests.saturating_sub(before);
            last.refused += refused.saturating_sub(refused_before);
        }
    }

    /// The minutes since the start of the process, the oldest first; 61 at most.
    pub(super) fn told(&self) -> Vec<MinuteItem> {
        let item = |minute: &Minute| MinuteItem {
            at: rfc3339::written(minute.start),
            requests: minute.requests,
            refused: minute.refused,
        };
        self.0.lock().minutes.iter().map(item).collect()
    }
}

/// Looks at the totals until the listener ends.
pub(super) async fn watch(api: Arc<Api>, mut ended: watch::Receiver<bool>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            _ = ticks.tick() => {}
        }
        let counted = Arc::clone(&api);
        let totals = tokio::task::spawn_blocking(move || counted.metrics().requests());
        if let Ok((requests, refused)) = totals.await {
            api.minutes.note(requests, refused, api.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_become_minutes_of_which_an_hour_is_kept() {
        let minutes = Minutes::default();
        let at = |seconds: u64| Timestamp::from_millis(1_800_000_000_000 + seconds * 1000);
        minutes.note(5, 1, at(0));
        minutes.note(7, 1, at(59));
        minutes.note(10, 4, at(60));
        let told = |at: &str, requests, refused| MinuteItem { at: at.to_owned(), requests, refused };
        assert_eq!(
            minutes.told(),
            [told("2027-01-15T08:00:00.000Z", 7, 1), told("2027-01-15T08:01:00.000Z", 3, 3)]
        );
        for minute in 2..100 {
            minutes.note(10, 4, at(minute * 60));
        }
        let all = minutes.told();
        assert_eq!((all.len(), all[0].at.as_str()), (61, "2027-01-15T08:39:00.000Z"));
        assert!(all.iter().all(|minute| minute.requests == 0));
    }
}
