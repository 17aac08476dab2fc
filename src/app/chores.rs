//! What is done beside the requests, now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::room;
use crate::config::WebhookSpec;
use crate::gateway::Gateway;

/// How often the log is told what it was spared.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How many reports go by between two sweeps of spent counters.
const REPORTS_A_SWEEP: u32 = 15;
/// And how many between two clean-ups of the journal: an hour.
const REPORTS_A_CLEANUP: u32 = 3600;

/// What is done beside requests until the gateway stops.
pub(super) fn spawn_chores(
    gateway: &Arc<Gateway>,
    webhook: Option<WebhookSpec>,
    stopped: &watch::Receiver<bool>,
) {
    tokio::spawn(tidy(Arc::clone(gateway), stopped.clone()));
    tokio::spawn(watch_store(Arc::clone(gateway), stopped.clone()));
    if let Some(webhook) = webhook {
        tokio::spawn(room::alerts(webhook, gateway, stopped.clone()));
    }
}

async fn watch_store(gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = gateway.watch_store() => {}
    }
}

async fn tidy(gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
    for round in (0..REPORTS_A_CLEANUP).cycle() {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(REPORT_EVERY) => gateway.report_suppressed(),
        }
        if round == 0 {
            gateway.tidy_journal();
        }
        if round % REPORTS_A_SWEEP > 0 {
            continue;
        }
        let gateway = Arc::clone(&gateway);
        // A full sweep of a large table takes long enough to be in the way of a worker.
        if let Err(error) = tokio::task::spawn_blocking(move || gateway.sweep()).await {
            tracing::error!(%error, "the sweep of spent counters failed");
        }
    }
}
