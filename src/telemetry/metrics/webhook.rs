//! What is counted of alerts.

use prometheus::{IntCounter, Registry};

use super::family::Family;

/// The metrics of the webhook. A clone is another handle to the same.
#[derive(Clone)]
pub struct WebhookMetrics {
    delivered: IntCounter,
    failed: IntCounter,
    dropped: IntCounter,
}

impl WebhookMetrics {
    pub(super) fn new(registry: &Registry) -> Result<WebhookMetrics, prometheus::Error> {
        let deliveries = Family::new(
            registry,
            "tollgate_webhook_deliveries_total",
            "Alerts by what became of them: delivered, failed after all tries, dropped because too many waited.",
            ["result"],
            IntCounter::with_opts,
        )?;
        let [delivered, failed, dropped] =
            ["delivered", "failed", "dropped"].map(|result| deliveries.child([result]));
        Ok(WebhookMetrics { delivered, failed, dropped })
    }

    pub fn delivered(&self) {
        self.delivered.inc();
    }

    pub fn failed(&self) {
        self.failed.inc();
    }

    pub fn dropped(&self, count: u64) {
        self.dropped.inc_by(count);
    }
}
