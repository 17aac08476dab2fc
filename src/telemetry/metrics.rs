//! Prometheus metrics. Every label value comes from the configuration or from a closed set,
//! never from a client, and every handle is resolved before the first request that counts by it.

mod access;
mod data_dir;
mod edge;
mod family;
mod journal;
mod mirror;
mod route;
mod sms;
#[cfg(feature = "otlp")]
mod spans;
mod store;
mod upstream;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Encoder as _, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};

use crate::decision::limit::Mode;
use crate::decision::time::Timestamp;
use family::Family;

pub use access::AccessMetrics;
pub use data_dir::DataDirMetrics;
pub use edge::EdgeMetrics;
pub use journal::{Dropped, JournalMetrics};
pub use mirror::{MirrorDropped, MirrorMetrics, Mirrored};
pub use route::{KeptOut, LimitLabels, RouteMetrics, Verdict};
pub use sms::{ProviderLabels, ProviderMetrics, SmsMetrics};
#[cfg(feature = "otlp")]
pub use spans::SpanMetrics;
pub use store::{StoreFailure, StoreMetrics};
pub use upstream::{ServerMetrics, UpstreamCounts, UpstreamFailure, UpstreamMetrics};
pub use webhook::WebhookMetrics;

/// From what a decision in memory costs to what a store across the network costs, seconds.
const DECISION_BUCKETS: [f64; 16] = [
    250e-9, 500e-9, 1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3,
    10e-3, 25e-3,
];

/// All metrics of the process. A clone is another handle to the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    routes: route::Families,
    upstreams: upstream::Families,
    decision_seconds: Histogram,
    reloads_ok: Reloads,
    reloads_failed: Reloads,
    store_keys: IntGauge,
    store_keys_max: IntGauge,
    store_overflow_keys: IntGauge,
    store_blocks: IntGauge,
    store_overflows: IntCounter,
    store: StoreMetrics,
    data_dir: DataDirMetrics,
    access: AccessMetrics,
    journal: JournalMetrics,
    mirror: MirrorMetrics,
    webhook: WebhookMetrics,
    sms: SmsMetrics,
    edge: EdgeMetrics,
    #[cfg(feature = "otlp")]
    spans: SpanMetrics,
    suspicions: Family<IntCounter, 2>,
    certificates: Family<IntGauge, 1>,
}

/// The reloads of one result.
struct Reloads {
    count: IntCounter,
    last_at: Gauge,
}

/// How full the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreGauges {
    /// Counters held.
    pub keys: u64,
    /// The bound of `keys`.
    pub keys_max: u64,
    /// Counters held in the shared overflow, past the bound.
    pub overflow_keys: u64,
    /// Keys blocked now.
    pub blocks: u64,
}

impl Metrics {
    /// A registry of its own, with nothing counted yet.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| registered(&registry, IntGauge::new(name, help)?);
        let counter = |name: &str, help: &str| registered(&registry, IntCounter::new(name, help)?);

        let reload_counts = Family::new(
            &registry,
            "tollgate_config_reloads_total",
            "Reloads of the configuration, by result.",
            ["result"],
            IntCounter::with_opts,
        )?;
        let reload_times = Family::new(
            &registry,
            "tollgate_config_last_reload_timestamp_seconds",
            "When the configuration was last reloaded, by result, seconds since the epoch; 0 if never.",
            ["result"],
            Gauge::with_opts,
        )?;
        let reloads =
            |result| Reloads { count: reload_counts.child([result]), last_at: reload_times.child([result]) };
        let decision = HistogramOpts::new(
            "tollgate_decision_seconds",
            "Time from the facts of a request to the verdict, store included.",
        );
        let decision = Histogram::with_opts(decision.buckets(DECISION_BUCKETS.to_vec()))?;

        let inner = Inner {
            routes: route::Families::new(&registry)?,
            upstreams: upstream::Families::new(&registry)?,
            decision_seconds: registered(&registry, decision)?,
            reloads_ok: reloads("ok"),
            reloads_failed: reloads("failed"),
            store_keys: gauge("tollgate_store_keys", "Counters held in memory.")?,
            store_keys_max: gauge("tollgate_store_keys_max", "Bound of the counters held in memory.")?,
            store_overflow_keys: gauge(
                "tollgate_store_overflow_keys",
                "Shared counters in use for keys past the bound.",
            )?,
            store_blocks: gauge("tollgate_store_blocks", "Keys that are blocked now.")?,
            store_overflows: counter(
                "tollgate_store_overflows_total",
                "Charges that went to a shared counter because the table was full.",
            )?,
            store: StoreMetrics::new(&registry)?,
            data_dir: DataDirMetrics::new(&registry)?,
            access: AccessMetrics::new(&registry)?,
            journal: JournalMetrics::new(&registry)?,
            mirror: MirrorMetrics::new(&registry)?,
            webhook: WebhookMetrics::new(&registry)?,
            sms: SmsMetrics::new(&registry)?,
            edge: EdgeMetrics::new(&registry)?,
            #[cfg(feature = "otlp")]
            spans: SpanMetrics::new(&registry)?,
            suspicions: Family::new(
                &registry,
                "tollgate_suspicions_total",
                "Keys that went past a threshold of suspicion, by what they are; mode=\"shadow\" were let go.",
                ["key", "mode"],
                IntCounter::with_opts,
            )?,
            certificates: Family::new(
                &registry,
                "tollgate_certificate_end_timestamp_seconds",
                "When the first of a listener's certificates ends, seconds since the epoch.",
                ["listener"],
                IntGauge::with_opts,
            )?,
            registry: registry.clone(),
        };
        register_process(&registry)?;
        Ok(Metrics(Arc::new(inner)))
    }

    /// The handles of one route. A route of the same name goes on counting where it was.
    pub fn route(&self, route: &str, limits: &[LimitLabels<'_>]) -> RouteMetrics {
        self.0.routes.handles(route, limits)
    }

    /// The handles of one upstream, by its name in the configuration.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        self.0.upstreams.handles(name)
    }

    /// The handles of one server of an upstream, as it stands in the configuration.
    pub fn server(&self, upstream: &str, server: &str) -> ServerMetrics {
        self.0.upstreams.of_server(upstream, server)
    }

    /// The counter of one rule of suspicion, by what it suspects.
    pub fn suspicion(&self, key: &str, mode: Mode) -> IntCounter {
        let mode = match mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        };
        self.0.suspicions.child([key, mode])
    }

    /// The handles of the store.
    pub fn store(&self) -> StoreMetrics {
        self.0.store.clone()
    }

    /// The handles of the folder that outlives the process.
    pub fn data_dir(&self) -> DataDirMetrics {
        self.0.data_dir.clone()
    }

    /// The handles of the access log.
    pub fn access(&self) -> AccessMetrics {
        self.0.access.clone()
    }

    /// The handles of the journal.
    pub fn journal(&self) -> JournalMetrics {
        self.0.journal.clone()
    }

    /// The handles of what gateways tell each other.
    pub fn mirror(&self) -> MirrorMetrics {
        self.0.mirror.clone()
    }

    /// The handles of the webhook.
    pub fn webhook(&self) -> WebhookMetrics {
        self.0.webhook.clone()
    }

    /// The handles of one-time codes and their providers.
    pub fn sms(&self) -> SmsMetrics {
        self.0.sms.clone()
    }

    /// The handles of the public listeners.
    pub fn edge(&self) -> EdgeMetrics {
        self.0.edge.clone()
    }

    /// The handles of the export of spans.
    #[cfg(feature = "otlp")]
    pub fn spans(&self) -> SpanMetrics {
        self.0.spans.clone()
    }

    /// Drops the series of routes and upstreams that are not among these any more.
    pub fn retain(&self, routes: &[&str], upstreams: &[&str]) {
        self.0.routes.retain(routes);
        self.0.upstreams.retain(upstreams);
    }

    /// Drops the series of servers that are not kept, by upstream and server.
    pub fn retain_servers(&self, is_kept: impl Fn(&str, &str) -> bool) {
        self.0.upstreams.retain_servers(is_kept);
    }

    /// When the first certificate of each listener with TLS ends, by its address, seconds since the epoch.
    pub fn certificates(&self, ends: &[(String, u64)]) {
        let listeners: Vec<&str> = ends.iter().map(|(listener, _)| listener.as_str()).collect();
        self.0.certificates.retain(&listeners);
        for (listener, ends_at_s) in ends {
            self.0.certificates.child([listener]).set(i64::try_from(*ends_at_s).unwrap_or(i64::MAX));
        }
    }

    /// All requests of the routes that there are, and how many of them were refused.
    pub fn requests(&self) -> (u64, u64) {
        self.0.routes.requests()
    }

    /// What each upstream did, by name.
    pub fn upstreams(&self) -> Vec<UpstreamCounts> {
        self.0.upstreams.counts()
    }

    /// A verdict was reached.
    pub fn decided(&self, took: Duration) {
        self.0.decision_seconds.observe(took.as_secs_f64());
    }

    pub fn reload_succeeded(&self, at: Timestamp) {
        self.0.reloads_ok.count(at);
    }

    pub fn reload_failed(&self, at: Timestamp) {
        self.0.reloads_failed.count(at);
    }

    pub fn set_store(&self, gauges: StoreGauges) {
        let shown = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.0.store_keys.set(shown(gauges.keys));
        self.0.store_keys_max.set(shown(gauges.keys_max));
        self.0.store_overflow_keys.set(shown(gauges.overflow_keys));
        self.0.store_blocks.set(shown(gauges.blocks));
    }

    /// A charge went to a shared counter because the table was full.
    pub fn overflowed(&self) {
        self.0.store_overflows.inc();
    }

    /// Everything, in the text exposition format 0.0.4. Reads `/proc`: not for an async thread.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        match prometheus::TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# the metrics cannot be written: {error}\n"),
        }
    }
}

impl Reloads {
    fn count(&self, at: Timestamp) {
        self.count.inc();
        self.last_at.set(at.as_micros() as f64 / 1e6);
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// What is true of the process as a whole; the resources it uses can be read on Linux alone.
fn register_process(registry: &Registry) -> Result<(), prometheus::Error> {
    let build = Opts::new("tollgate_build_info", "1, with the version that runs.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    registered(registry, IntGauge::with_opts(build)?)?.set(1);
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(())
}

#[cfg(test)]
mod tests;
