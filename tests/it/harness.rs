//! What the integration tests stand on: a scripted backend that keeps every byte it was sent, a client that sends
//! exactly what a test says, and real Redis servers that a test can kill.
//!
//! Waiting is for an event, or for what is said when it is asked again; bounded by [`PATIENCE`] where nothing else
//! is told.

pub(crate) mod backend;
pub(crate) mod binary;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod h2;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod providers;
pub(crate) mod redis;
pub(crate) mod tls;
pub(crate) mod upstash;
mod wire;

mod tests;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use wire::{Headers, PATIENCE};

/// How often something is asked for what it does not tell by itself.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Asks until there is an answer, and hands it over; panics with `what` was waited for if none comes in time.
pub(crate) async fn eventually<T>(what: &str, within: Duration, ask: impl AsyncFn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < within, "waited {within:?} for {what} in vain");
        sleep(ASK_EVERY).await;
    }
}
