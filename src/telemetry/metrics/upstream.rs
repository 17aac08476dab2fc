//! What is counted of an upstream: its answers, their time, its failures, and which of its servers are well.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use super::family::Family;

/// From a backend on the same machine to one that hangs, seconds.
const ANSWER_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Why an upstream gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No connection could be made.
    Connect,
    /// It did not prove who it is, or does not speak TLS.
    Tls,
    /// It took longer than allowed.
    Timeout,
    /// It closed the connection, or said what is not HTTP.
    Closed,
    /// None of its names has an address.
    NoServer,
}

impl UpstreamFailure {
    pub(super) const ALL: [UpstreamFailure; 5] = [
        UpstreamFailure::Connect,
        UpstreamFailure::Tls,
        UpstreamFailure::Timeout,
        UpstreamFailure::Closed,
        UpstreamFailure::NoServer,
    ];

    fn label(self) -> &'static str {
        match self {
            UpstreamFailure::Connect => "connect",
            UpstreamFailure::Tls => "tls",
            UpstreamFailure::Timeout => "timeout",
            UpstreamFailure::Closed => "closed",
            UpstreamFailure::NoServer => "no_server",
        }
    }
}

/// The hundreds of a status, and one class for what is none.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What an upstream did so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamCounts {
    pub name: Box<str>,
    /// By the hundreds of their status; the first are those that have none.
    pub responses: [u64; CLASSES.len()],
    pub failures: u64,
    /// Addresses that its servers have.
    pub addresses: u64,
    /// Those of them that are well.
    pub addresses_up: u64,
}

/// The metrics of one upstream.
#[derive(Clone)]
pub struct UpstreamMetrics {
    seconds: Histogram,
    classes: [IntCounter; CLASSES.len()],
    failures: [IntCounter; UpstreamFailure::ALL.len()],
    retries: IntCounter,
    fails_open: IntGauge,
}

/// The metrics of one server of an upstream, as it stands in the file.
#[derive(Clone)]
pub struct ServerMetrics {
    addresses: IntGauge,
    up: IntGauge,
    ejections: IntCounter,
    failed_checks: IntCounter,
    failed_lookups: IntCounter,
}

/// How many of something, where no more than an upstream has addresses.
fn shown(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl ServerMetrics {
    /// It has so many addresses, and so many of them are well.
    pub fn set(&self, addresses: usize, up: usize) {
        self.addresses.set(shown(addresses));
        self.up.set(shown(up));
    }

    /// It is left out for a while.
    pub fn ejected(&self) {
        self.ejections.inc();
    }

    pub fn check_failed(&self) {
        self.failed_checks.inc();
    }

    pub fn lookup_failed(&self) {
        self.failed_lookups.inc();
    }
}

impl UpstreamMetrics {
    /// A request is tried again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Whether its servers are asked though none of them is well.
    pub fn set_fails_open(&self, fails_open: bool) {
        self.fails_open.set(i64::from(fails_open));
    }

    /// It answered. `took`: from sending the request to the head of the response.
    pub fn answered(&self, status: u16, took: Duration) {
        let [other, classes @ ..] = &self.classes;
        let class = usize::from(status / 100).checked_sub(1).and_then(|index| classes.get(index));
        class.unwrap_or(other).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub fn failed(&self, failure: UpstreamFailure) {
        self.failures[failure as usize].inc();
    }
}

pub(super) struct Families {
    seconds: Family<Histogram, 1>,
    responses: Family<IntCounter, 2>,
    failures: Family<IntCounter, 2>,
    retries: Family<IntCounter, 1>,
    fails_open: Family<IntGauge, 1>,
    addresses: Family<IntGauge, 2>,
    up: Family<IntGauge, 2>,
    ejections: Family<IntCounter, 2>,
    failed_checks: Family<IntCounter, 2>,
    failed_lookups: Family<IntCounter, 2>,
}

impl Families {
    pub(super) fn new(registry: &Registry) -> Result<Families, prometheus::Error> {
        let of_server =
            |name, help| Family::new(registry, name, help, ["upstream", "server"], IntCounter::with_opts);
        let state_of_server =
            |name, help| Family::new(registry, name, help, ["upstream", "server"], IntGauge::with_opts);
        Ok(Families {
            seconds: Family::new(
                registry,
                "tollgate_upstream_seconds",
                "Time until the head of the upstream's response.",
                ["upstream"],
                |opts| Histogram::with_opts(HistogramOpts::from(opts).buckets(ANSWER_BUCKETS.to_vec())),
            )?,
            responses: Family::new(
                registry,
                "tollgate_upstream_responses_total",
                "Responses of the upstream by class of status.",
                ["upstream", "class"],
                IntCounter::with_opts,
            )?,
            failures: Family::new(
                registry,
                "tollgate_upstream_failures_total",
                "Requests that the upstream gave no response to, by reason.",
                ["upstream", "kind"],
                IntCounter::with_opts,
            )?,
            retries: Family::new(
                registry,
                "tollgate_upstream_retries_total",
                "Requests that were tried again, for nothing had read them.",
                ["upstream"],
                IntCounter::with_opts,
            )?,
            fails_open: Family::new(
                registry,
                "tollgate_upstream_fail_open",
                "1 while no server is well, so that all are asked nevertheless.",
                ["upstream"],
                IntGauge::with_opts,
            )?,
            addresses: state_of_server(
                "tollgate_upstream_server_addresses",
                "Addresses that the server has.",
            )?,
            up: state_of_server(
                "tollgate_upstream_server_up",
                "Addresses of the server that are well: neither down by their checks nor left out.",
            )?,
            ejections: of_server(
                "tollgate_upstream_ejections_total",
                "Times that an address of the server was left out for a while, for it gave no answers.",
            )?,
            failed_checks: of_server(
                "tollgate_upstream_check_failures_total",
                "Health checks that the server did not pass.",
            )?,
            failed_lookups: of_server(
                "tollgate_upstream_resolve_failures_total",
                "Times that the server's name could not be resolved.",
            )?,
        })
    }

    pub(super) fn counts(&self) -> Vec<UpstreamCounts> {
        let mut all: Vec<UpstreamCounts> = Vec::new();
        for ([name, class], counter) in self.responses.all() {
            let place = CLASSES.iter().position(|known| **known == *class);
            if all.last().is_none_or(|last| last.name != name) {
                all.push(UpstreamCounts {
                    name,
                    responses: [0; CLASSES.len()],
                    failures: 0,
                    addresses: 0,
                    addresses_up: 0,
                });
            }
            if let (Some(last), Some(place)) = (all.last_mut(), place) {
                last.responses[place] += counter.get();
            }
        }
        for ([name, _], counter) in self.failures.all() {
            if let Some(counts) = all.iter_mut().find(|counts| counts.name == name) {
                counts.failures += counter.get();
            }
        }
        for counts in &mut all {
            counts.addresses = sum_of(&self.addresses, &counts.name);
            counts.addresses_up = sum_of(&self.up, &counts.name);
        }
        all
    }

    pub(super) fn handles(&self, upstream: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            seconds: self.seconds.child([upstream]),
            classes: CLASSES.map(|class| self.responses.child([upstream, class])),
            failures: UpstreamFailure::ALL.map(|kind| self.failures.child([upstream, kind.label()])),
            retries: self.retries.child([upstream]),
            fails_open: self.fails_open.child([upstream]),
        }
    }

    pub(super) fn of_server(&self, upstream: &str, server: &str) -> ServerMetrics {
        let labels = [upstream, server];
        ServerMetrics {
            addresses: self.addresses.child(labels),
            up: self.up.child(labels),
            ejections: self.ejections.child(labels),
            failed_checks: self.failed_checks.child(labels),
            failed_lookups: self.failed_lookups.child(labels),
        }
    }

    /// Keeps the series of these servers alone.
    pub(super) fn retain_servers(&self, is_kept: impl Fn(&str, &str) -> bool) {
        let is_kept = |[upstream, server]: &[Box<str>; 2]| is_kept(upstream, server);
        for family in [&self.addresses, &self.up] {
            family.retain_where(is_kept);
        }
        for family in [&self.ejections, &self.failed_checks, &self.failed_lookups] {
            family.retain_where(is_kept);
        }
    }

    pub(super) fn retain(&self, upstreams: &[&str]) {
        self.seconds.retain(upstreams);
        self.responses.retain(upstreams);
        self.failures.retain(upstreams);
        self.retries.retain(upstreams);
        self.fails_open.retain(upstreams);
    }
}

/// All servers of an upstream together.
fn sum_of(gauges: &Family<IntGauge, 2>, upstream: &str) -> u64 {
    let of_upstream = gauges.all().into_iter().filter(|([name, _], _)| **name == *upstream);
    of_upstream.map(|(_, gauge)| u64::try_from(gauge.get()).unwrap_or(0)).sum()
}
