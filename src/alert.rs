//! Telling somebody who is not looking: blocks, suspicion, outages, by signed requests.
//!
//! ```text
//! the journal's feed ─► what is worth an alert ─► a queue of 1000 ─► one request at a time, tried five times
//! ```
//!
//! What is told holds no identifier that is not masked.

mod delivery;
mod notice;

use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::delivery::Sender;
use self::notice::Notice;
use crate::clock::Clock;
use crate::http_client::HttpUrl;
use crate::journal::{EventKind, Happening, Journal};
use crate::telemetry::WebhookMetrics;

/// Who is told.
pub struct Webhook {
    pub url: HttpUrl,
    /// What each request is signed with.
    pub secret: SecretString,
}

/// So many wait at most; one more is dropped, and counted.
const QUEUE: usize = 1000;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many looks in a row find the journal away before somebody is told: it may be opening.
const LOOKS_AWAY: u32 = 10;

/// What tests set in another way.
#[derive(Clone, Copy)]
struct Pace {
    /// Before each further try.
    waits: [Duration; 4],
    look_every: Duration,
}

impl Webhook {
    /// Tells until `stopped` is true. What waits then is not told any more.
    pub async fn watch(
        self,
        journal: Journal,
        metrics: WebhookMetrics,
        clock: Clock,
        stopped: watch::Receiver<bool>,
    ) {
        self.watch_at_pace(journal, metrics, clock, stopped, Pace::default()).await;
    }

    async fn watch_at_pace(
        self,
        journal: Journal,
        metrics: WebhookMetrics,
        clock: Clock,
        mut stopped: watch::Receiver<bool>,
        pace: Pace,
    ) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let sender = Sender::new(self, metrics.clone(), clock.clone(), pace.waits);
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = gather(journal, queue, metrics, clock, pace.look_every) => {}
            () = sender.deliver(waiting) => {}
        }
    }
}

/// Puts what is worth an alert into the queue.
async fn gather(
    journal: Journal,
    queue: mpsc::Sender<Notice>,
    metrics: WebhookMetrics,
    clock: Clock,
    look_every: Duration,
) {
    let mut news = journal.feed().listen();
    let mut looks = interval(look_every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let put = |notice: Notice| {
        if queue.try_send(notice).is_err() {
            metrics.dropped(1);
        }
    };
    let mut looks_away = 0;
    loop {
        tokio::select! {
            told = news.recv() => match told {
                // Each gateway tells of its own.
                Ok(Happening::Event(event)) if event.node.is_none() && is_alarming(event.kind) => put(Notice::of_event(&event)),
                Ok(Happening::Event(_) | Happening::Blocked(_) | Happening::Unblocked(_)) => {}
                Err(RecvError::Lagged(missed)) => metrics.dropped(missed),
                Err(RecvError::Closed) => return,
            },
            _ = looks.tick() => {
                let is_up = journal.is_up();
                if is_up && looks_away >= LOOKS_AWAY {
                    put(Notice::of_journal(true, clock.now()));
                }
                looks_away = if is_up { 0 } else { looks_away.saturating_add(1) };
                if looks_away == LOOKS_AWAY {
                    put(Notice::of_journal(false, clock.now()));
                }
            }
        }
    }
}

fn is_alarming(kind: EventKind) -> bool {
    match kind {
        EventKind::Blocked
        | EventKind::Suspicion
        | EventKind::StoreDown
        | EventKind::StoreUp
        | EventKind::ReloadFailed
        | EventKind::Fraud
        | EventKind::ProviderDown
        | EventKind::ProviderUp => true,
        EventKind::Limited
        | EventKind::Unblocked
        | EventKind::Failure
        | EventKind::Backoff
        | EventKind::Rejected
        | EventKind::Denied
        | EventKind::Reload
        | EventKind::Admin
        | EventKind::CodeSent
        | EventKind::CodeUndelivered
        | EventKind::CodeVerified => false,
    }
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { waits: [1, 5, 25, 125].map(Duration::from_secs), look_every: LOOK_EVERY }
    }
}

#[cfg(test)]
mod tests;
