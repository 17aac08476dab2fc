//! What is counted of an upstream: its answers, their time, and its failures.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};

use super::family::Family;

/// From a backend on the same machine to one that hangs, seconds.
const ANSWER_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Why an upstream gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No connection could be made.
    Connect,
    /// It took longer than allowed.
    Timeout,
    /// It closed the connection, or said what is not HTTP.
    Closed,
}

impl UpstreamFailure {
    pub(super) const ALL: [UpstreamFailure; 3] =
        [UpstreamFailure::Connect, UpstreamFailure::Timeout, UpstreamFailure::Closed];

    fn label(self) -> &'static str {
        match self {
            UpstreamFailure::Connect => "connect",
            UpstreamFailure::Timeout => "timeout",
            UpstreamFailure::Closed => "closed",
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
}

/// The metrics of one upstream.
#[derive(Clone)]
pub struct UpstreamMetrics {
    seconds: Histogram,
    classes: [IntCounter; CLASSES.len()],
    failures: [IntCounter; UpstreamFailure::ALL.len()],
}

impl UpstreamMetrics {
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
}

impl Families {
    pub(super) fn new(registry: &Registry) -> Result<Families, prometheus::Error> {
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
        })
    }

    pub(super) fn counts(&self) -> Vec<UpstreamCounts> {
        let mut all: Vec<UpstreamCounts> = Vec::new();
        for ([name, class], counter) in self.responses.all() {
            let place = CLASSES.iter().position(|known| **known == *class);
            if all.last().is_none_or(|last| last.name != name) {
                all.push(UpstreamCounts { name, responses: [0; CLASSES.len()], failures: 0 });
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
        all
    }

    pub(super) fn handles(&self, upstream: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            seconds: self.seconds.child([upstream]),
            classes: CLASSES.map(|class| self.responses.child([upstream, class])),
            failures: UpstreamFailure::ALL.map(|kind| self.failures.child([upstream, kind.label()])),
        }
    }

    pub(super) fn retain(&self, upstreams: &[&str]) {
        self.seconds.retain(upstreams);
        self.responses.retain(upstreams);
        self.failures.retain(upstreams);
    }
}
