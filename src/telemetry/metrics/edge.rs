//! What is counted of connections and of what is no request yet.

use prometheus::{IntCounter, IntGauge, Registry};

use super::family::Family;
use super::registered;

/// The metrics of the public listeners. A clone is another handle to the same.
#[derive(Clone)]
pub struct EdgeMetrics {
    open: IntGauge,
    shut_out: Family<IntCounter, 1>,
    overdue: Family<IntCounter, 1>,
    malformed: Family<IntCounter, 1>,
    accept_errors: IntCounter,
    panics: IntCounter,
}

impl EdgeMetrics {
    pub(super) fn new(registry: &Registry) -> Result<EdgeMetrics, prometheus::Error> {
        let open = IntGauge::new("tollgate_connections", "Connections of clients that are open now.")?;
        let accept_errors = IntCounter::new(
            "tollgate_accept_errors_total",
            "Times that no connection could be accepted, as without file descriptors.",
        )?;
        let panics = IntCounter::new(
            "tollgate_panics_total",
            "Connections that ended by a mistake in the gateway itself.",
        )?;
        Ok(EdgeMetrics {
            open: registered(registry, open)?,
            shut_out: Family::new(
                registry,
                "tollgate_connections_refused_total",
                "Connections closed as they were accepted, by the key of the listener that allows no more.",
                ["limit"],
                IntCounter::with_opts,
            )?,
            overdue: Family::new(
                registry,
                "tollgate_connections_timed_out_total",
                "Connections ended because the client was too slow, by what it was slow with.",
                ["awaited"],
                IntCounter::with_opts,
            )?,
            malformed: Family::new(
                registry,
                "tollgate_malformed_requests_total",
                "Requests refused before they were read, by what was wrong with them.",
                ["fault"],
                IntCounter::with_opts,
            )?,
            accept_errors: registered(registry, accept_errors)?,
            panics: registered(registry, panics)?,
        })
    }

    /// Shows zeros from the start for all values that these labels may have.
    pub fn declare(
        &self,
        limits: impl IntoIterator<Item = &'static str>,
        awaited: impl IntoIterator<Item = &'static str>,
        faults: impl IntoIterator<Item = &'static str>,
    ) {
        let declare = |family: &Family<IntCounter, 1>, value| drop(family.child([value]));
        limits.into_iter().for_each(|limit| declare(&self.shut_out, limit));
        awaited.into_iter().for_each(|awaited| declare(&self.overdue, awaited));
        faults.into_iter().for_each(|fault| declare(&self.malformed, fault));
    }

    pub fn opened(&self) {
        self.open.inc();
    }

    pub fn closed(&self) {
        self.open.dec();
    }

    /// A connection was one too many, by this key of its listener.
    pub fn shut_out(&self, limit: &'static str) {
        self.shut_out.child([limit]).inc();
    }

    /// A client was too slow with this.
    pub fn overdue(&self, awaited: &'static str) {
        self.overdue.child([awaited]).inc();
    }

    /// What came was no request, for this reason.
    pub fn malformed(&self, fault: &'static str) {
        self.malformed.child([fault]).inc();
    }

    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    pub fn panicked(&self) {
        self.panics.inc();
    }
}
