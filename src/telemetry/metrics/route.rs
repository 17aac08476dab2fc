//! What is counted of a route: its verdicts, and its refusals by limit and window.

use prometheus::{IntCounter, Registry};

use super::family::Family;
use crate::decision::limit::Mode;
use crate::decision::tally::Outcome;

/// What refused where no window did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptOut {
    Block,
    /// A wait after failures in a row.
    Backoff,
    /// Attempts under way that could use up what is left.
    Pending,
}

impl KeptOut {
    const ALL: [KeptOut; 3] = [KeptOut::Block, KeptOut::Backoff, KeptOut::Pending];

    /// The value of the `window` label.
    fn label(self) -> &'static str {
        match self {
            KeptOut::Block => "block",
            KeptOut::Backoff => "backoff",
            KeptOut::Pending => "pending",
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    /// No limit counted it.
    Exempt,
    /// Refused for a value that the route takes from nobody.
    Rejected,
    /// Refused by a limit.
    Limited,
    /// Refused by a block.
    Blocked,
    /// Refused by a wait after failures.
    BackedOff,
    /// Refused by an access list.
    Denied,
    /// Refused for what cannot be read in one way only.
    Malformed,
    /// Refused for a body that a key needs and cannot be had.
    BodyRefused,
    NoRoute,
    /// Refused because the shared store could not be asked.
    StoreAway,
}

impl Verdict {
    pub(super) const ALL: [Verdict; 11] = [
        Verdict::Admitted,
        Verdict::Exempt,
        Verdict::Rejected,
        Verdict::Limited,
        Verdict::Blocked,
        Verdict::BackedOff,
        Verdict::Denied,
        Verdict::Malformed,
        Verdict::BodyRefused,
        Verdict::NoRoute,
        Verdict::StoreAway,
    ];

    /// The value of the `verdict` label.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Admitted => "admitted",
            Verdict::Exempt => "exempt",
            Verdict::Rejected => "rejected",
            Verdict::Limited => "limited",
            Verdict::Blocked => "blocked",
            Verdict::BackedOff => "backed_off",
            Verdict::Denied => "denied",
            Verdict::Malformed => "malformed",
            Verdict::BodyRefused => "body_refused",
            Verdict::NoRoute => "no_route",
            Verdict::StoreAway => "store_away",
        }
    }
}

/// How one limit of a route is labelled.
#[derive(Clone, Copy, Debug)]
pub struct LimitLabels<'a> {
    /// The policy or route that declares it.
    pub policy: &'a str,
    /// What it counts by: `ip`, `body.email`; never a value.
    pub key: &'a str,
    /// The names of its windows, in their order.
    pub windows: &'a [&'a str],
}

/// The counters of one route.
#[derive(Clone)]
pub struct RouteMetrics {
    verdicts: [IntCounter; Verdict::ALL.len()],
    limits: Box<[LimitCounters]>,
    attempts: [IntCounter; 3],
    backoffs: IntCounter,
}

#[derive(Clone)]
struct LimitCounters {
    windows: Box<[ByMode]>,
    kept_out: [ByMode; KeptOut::ALL.len()],
}

#[derive(Clone)]
struct ByMode {
    enforce: IntCounter,
    shadow: IntCounter,
}

impl RouteMetrics {
    pub fn count(&self, verdict: Verdict) {
        self.verdicts[verdict as usize].inc();
    }

    /// An attempt was settled.
    pub fn attempted(&self, outcome: Outcome) {
        self.attempts[outcome as usize].inc();
    }

    /// A failure was followed by a wait.
    pub fn backed_off(&self) {
        self.backoffs.inc();
    }

    /// A window refused, or would have. Both indexes are those of [`LimitLabels`]; one that is
    /// out of range counts nothing.
    pub fn refused(&self, limit: usize, window: usize, mode: Mode) {
        if let Some(counters) = self.limits.get(limit).and_then(|limit| limit.windows.get(window)) {
            counters.count(mode);
        }
    }

    /// Something else of this limit refused, or would have.
    pub fn kept_out(&self, limit: usize, by: KeptOut, mode: Mode) {
        if let Some(limit) = self.limits.get(limit) {
            limit.kept_out[by as usize].count(mode);
        }
    }
}

impl ByMode {
    fn count(&self, mode: Mode) {
        match mode {
            Mode::Enforce => self.enforce.inc(),
            Mode::Shadow => self.shadow.inc(),
        }
    }
}

pub(super) struct Families {
    requests: Family<IntCounter, 2>,
    refusals: Family<IntCounter, 5>,
    attempts: Family<IntCounter, 2>,
    backoffs: Family<IntCounter, 1>,
}

impl Families {
    pub(super) fn new(registry: &Registry) -> Result<Families, prometheus::Error> {
        Ok(Families {
            requests: Family::new(
                registry,
                "tollgate_requests_total",
                "Requests by what became of them.",
                ["route", "verdict"],
                IntCounter::with_opts,
            )?,
            refusals: Family::new(
                registry,
                "tollgate_refusals_total",
                "Refusals by the limit and window that decided; mode=\"shadow\" were let through.",
                ["route", "policy", "key", "window", "mode"],
                IntCounter::with_opts,
            )?,
            attempts: Family::new(
                registry,
                "tollgate_attempts_total",
                "Attempts on routes that count failures, by what the backend said to them.",
                ["route", "outcome"],
                IntCounter::with_opts,
            )?,
            backoffs: Family::new(
                registry,
                "tollgate_backoffs_total",
                "Failures that were followed by a wait.",
                ["route"],
                IntCounter::with_opts,
            )?,
        })
    }

    /// All requests, and those that were refused.
    pub(super) fn requests(&self) -> (u64, u64) {
        let let_through = [Verdict::Admitted.label(), Verdict::Exempt.label()];
        let mut counts = (0, 0);
        for ([_, verdict], counter) in self.requests.all() {
            counts.0 += counter.get();
            if !let_through.contains(&&*verdict) {
                counts.1 += counter.get();
            }
        }
        counts
    }

    pub(super) fn handles(&self, route: &str, limits: &[LimitLabels<'_>]) -> RouteMetrics {
        let counters = |limit: &LimitLabels<'_>, window| ByMode {
            enforce: self.refusals.child([route, limit.policy, limit.key, window, "enforce"]),
            shadow: self.refusals.child([route, limit.policy, limit.key, window, "shadow"]),
        };
        let limits = limits.iter().map(|limit| LimitCounters {
            windows: limit.windows.iter().map(|window| counters(limit, window)).collect(),
            kept_out: KeptOut::ALL.map(|by| counters(limit, by.label())),
        });
        RouteMetrics {
            limits: limits.collect(),
            // In the order of `Outcome`.
            attempts: ["failure", "success", "neither"].map(|outcome| self.attempts.child([route, outcome])),
            backoffs: self.backoffs.child([route]),
            verdicts: Verdict::ALL.map(|verdict| self.requests.child([route, verdict.label()])),
        }
    }

    pub(super) fn retain(&self, routes: &[&str]) {
        self.requests.retain(routes);
        self.refusals.retain(routes);
        self.attempts.retain(routes);
        self.backoffs.retain(routes);
    }
}
