//! What is counted of a store that gateways share.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use super::family::Family;
use crate::decision::limit::OnStoreError;

/// From a socket on the same machine to the deadline of a store across the internet, seconds.
const ROUND_TRIP_BUCKETS: [f64; 13] =
    [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 150e-3, 250e-3];

/// Why a shared store gave no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFailure {
    Timeout,
    Disconnected,
    Auth,
    ReadOnly,
    Loading,
    OutOfMemory,
    Cluster,
    WrongType,
    Garbage,
    Refused,
}

/// The metrics of the shared store. A clone is another handle to the same.
#[derive(Clone)]
pub struct StoreMetrics {
    up: IntGauge,
    open_lanes: IntGauge,
    failures: [IntCounter; StoreFailure::ALL.len()],
    fallbacks: [IntCounter; 3],
    refused_in_node: IntCounter,
    refunds: IntCounter,
    unsettled: IntCounter,
    round_trip_seconds: Histogram,
}

impl StoreFailure {
    const ALL: [StoreFailure; 10] = [
        StoreFailure::Timeout,
        StoreFailure::Disconnected,
        StoreFailure::Auth,
        StoreFailure::ReadOnly,
        StoreFailure::Loading,
        StoreFailure::OutOfMemory,
        StoreFailure::Cluster,
        StoreFailure::WrongType,
        StoreFailure::Garbage,
        StoreFailure::Refused,
    ];

    fn label(self) -> &'static str {
        match self {
            StoreFailure::Timeout => "timeout",
            StoreFailure::Disconnected => "disconnected",
            StoreFailure::Auth => "auth",
            StoreFailure::ReadOnly => "read_only",
            StoreFailure::Loading => "loading",
            StoreFailure::OutOfMemory => "out_of_memory",
            StoreFailure::Cluster => "cluster",
            StoreFailure::WrongType => "wrong_type",
            StoreFailure::Garbage => "garbage",
            StoreFailure::Refused => "refused",
        }
    }
}

impl StoreMetrics {
    pub(super) fn new(registry: &Registry) -> Result<StoreMetrics, prometheus::Error> {
        let gauge = |name: &str, help: &str| super::registered(registry, IntGauge::new(name, help)?);
        let counter = |name: &str, help: &str| super::registered(registry, IntCounter::new(name, help)?);
        let failures = Family::new(
            registry,
            "tollgate_store_errors_total",
            "Calls to the shared store without an answer that can be used, by kind.",
            ["kind"],
            IntCounter::with_opts,
        )?;
        let fallbacks = Family::new(
            registry,
            "tollgate_store_fallback_decisions_total",
            "Charges decided without the shared store, by what their limit says of that.",
            ["policy"],
            IntCounter::with_opts,
        )?;
        let round_trip = HistogramOpts::new(
            "tollgate_store_round_trip_seconds",
            "Time of one call to the shared store, with the wait for its turn, failed ones included.",
        );
        Ok(StoreMetrics {
            up: gauge("tollgate_store_up", "1 while the store answers; a store in memory always does.")?,
            open_lanes: gauge(
                "tollgate_store_breaker_open",
                "Parts of the shared store that are not called because they failed.",
            )?,
            failures: StoreFailure::ALL.map(|failure| failures.child([failure.label()])),
            fallbacks: ["local", "closed", "open"].map(|policy| fallbacks.child([policy])),
            refused_in_node: counter(
                "tollgate_store_refused_in_node_total",
                "Requests refused by what this node knew already, without a call to the shared store.",
            )?,
            refunds: counter(
                "tollgate_store_refunds_total",
                "Charges taken back because another part of the cluster refused the request.",
            )?,
            unsettled: counter(
                "tollgate_store_unsettled_total",
                "Attempts whose outcome the shared store was not told; it counts them as failed when their lease ends.",
            )?,
            round_trip_seconds: super::registered(
                registry,
                Histogram::with_opts(round_trip.buckets(ROUND_TRIP_BUCKETS.to_vec()))?,
            )?,
        })
    }

    /// `open` of `of` parts of the store are not called now, because they failed.
    pub fn set_open(&self, open: usize, of: usize) {
        self.up.set(i64::from(open < of));
        self.open_lanes.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub fn called(&self, took: Duration) {
        self.round_trip_seconds.observe(took.as_secs_f64());
    }

    pub fn failed(&self, failure: StoreFailure) {
        self.failures[failure as usize].inc();
    }

    /// A charge was decided without the store.
    pub fn fell_back(&self, policy: OnStoreError) {
        self.fallbacks[policy as usize].inc();
    }

    pub fn refused_in_node(&self) {
        self.refused_in_node.inc();
    }

    pub fn refunded(&self) {
        self.refunds.inc();
    }

    /// The store was not told what became of so many attempts.
    pub fn unsettled(&self, attempts: usize) {
        self.unsettled.inc_by(attempts as u64);
    }
}
