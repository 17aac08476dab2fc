//! Keeps an eye on the store: finds out that it is away before a request does, and that it is back.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::SharedStore;
use crate::store::Availability;
use crate::store::remote::{Lane, StoreError};

/// How often a store that answers is asked whether it still does.
const WHILE_UP: Duration = Duration::from_secs(1);
/// How often one that does not is asked whether it is back.
const WHILE_AWAY: Duration = Duration::from_millis(250);
/// A probe that takes longer is given up.
const PROBE_DEADLINE: Duration = Duration::from_millis(1500);

/// What the log was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Up,
    Partly,
    Away,
}

impl SharedStore {
    /// Probes for ever, at intervals; drop it to stop.
    pub(in crate::store) async fn watch(&self, note: &(dyn Fn(Availability) + Sync)) {
        let mut told = Told::Nothing;
        let mut advised = None;
        loop {
            let lanes = 0..self.remote.lanes();
            join_all(lanes.map(|lane| self.probe(Lane(lane)))).await;
            let open = self.open_lanes();
            self.metrics.set_open(open, self.breakers.len());
            told = self.tell(told, open, note);
            if open == 0 {
                let advice = self.remote.advice().await;
                if advice != advised
                    && let Some(advice) = &advice
                {
                    tracing::warn!("{advice}");
                }
                advised = advice.or(advised);
            }
            let pause = if open == 0 { WHILE_UP } else { WHILE_AWAY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.tripped.notified() => {
                    told = self.tell(told, self.open_lanes(), note);
                    // A server that answers probes and nothing else is not asked in a circle.
                    tokio::time::sleep(WHILE_AWAY).await;
                }
            }
        }
    }

    async fn probe(&self, lane: Lane) {
        let watch = self.clock.stopwatch();
        let answer = timeout(PROBE_DEADLINE, self.remote.probe(lane)).await;
        let breaker = self.breaker(lane);
        match answer.unwrap_or(Err(StoreError::Timeout)) {
            // A store that answers too late for requests is not back. The first answer over a new
            // connection may be late; the next one tells.
            Ok(()) if watch.elapsed() > self.timeout => {}
            Ok(()) => {
                breaker.close();
            }
            Err(error) => {
                self.metrics.failed(error.kind());
                breaker.open(error);
            }
        }
    }

    /// One line a transition.
    fn tell(&self, told: Told, open: usize, note: &(dyn Fn(Availability) + Sync)) -> Told {
        let lanes = self.breakers.len();
        let state = match open {
            0 => Told::Up,
            open if open < lanes => Told::Partly,
            _ => Told::Away,
        };
        if state == told {
            return told;
        }
        let why = self.breakers.iter().find(|breaker| breaker.is_open()).and_then(super::Breaker::why);
        let why = why.map(|error| error.to_string()).unwrap_or_default();
        match state {
            Told::Nothing => {}
            Told::Up if told == Told::Nothing => tracing::info!("the shared store answers"),
            Told::Up => {
                note(Availability::Up);
                tracing::info!("the shared store is back");
            }
            Told::Partly => {
                note(Availability::Partly);
                tracing::error!(
                    why,
                    "a part of the shared store is away; limits go on as on_store_error says"
                );
            }
            Told::Away => {
                note(Availability::Away);
                tracing::error!(why, "the shared store is away; limits go on as on_store_error says");
            }
        }
        state
    }
}
