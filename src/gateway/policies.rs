//! One configuration's rules together with the metric handles of its routes.

use crate::decision::key::KeyPart;
use crate::decision::limit::Mode;
use crate::decision::policy::{Route, Rules};
use crate::decision::route::RouteIndex;
use crate::decision::verdict::Cause;
use crate::identity::UserRules;
use crate::telemetry::{KeptOut, LimitLabels, Metrics, RouteMetrics, Verdict};

/// What one request is decided by, from end to end.
pub struct Policies {
    pub rules: Rules,
    pub users: UserRules,
    handles: Box<[RouteHandles]>,
    unrouted: RouteHandles,
}

/// The metric handles and log labels of one route.
pub(super) struct RouteHandles {
    name: Box<str>,
    metrics: RouteMetrics,
    limits: Box<[LimitNames]>,
    rejects: Box<[RejectNames]>,
}

struct RejectNames {
    rule: Box<str>,
    key: Box<str>,
}

struct LimitNames {
    policy: Box<str>,
    key: Box<str>,
    windows: Box<[Box<str>]>,
}

/// What a log line says of the limit or the rule that refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CauseLabels<'a> {
    pub(super) policy: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) window: Option<&'a str>,
    pub(super) rule: Option<&'a str>,
}

impl Policies {
    pub fn new(rules: Rules, users: UserRules, metrics: &Metrics) -> Policies {
        let handles = rules.routes().iter().map(|route| RouteHandles::new(route, metrics)).collect();
        let unrouted = RouteHandles {
            name: "-".into(),
            metrics: metrics.route("-", &[]),
            limits: Box::default(),
            rejects: Box::default(),
        };
        Policies { rules, users, handles, unrouted }
    }

    /// The handles of a route; those of no route while there is none.
    pub(super) fn handles(&self, route: Option<RouteIndex>) -> &RouteHandles {
        route.and_then(|index| self.handles.get(index.0)).unwrap_or(&self.unrouted)
    }
}

impl RouteHandles {
    fn new(route: &Route, metrics: &Metrics) -> RouteHandles {
        let limits: Box<[LimitNames]> = route
            .limits()
            .iter()
            .map(|limit| LimitNames {
                policy: limit.policy.clone(),
                key: limit.key.to_string().into(),
                windows: limit.labels().map(Into::into).collect(),
            })
            .collect();
        let windows: Vec<Vec<&str>> =
            limits.iter().map(|limit| limit.windows.iter().map(|label| &**label).collect()).collect();
        let labels: Vec<LimitLabels<'_>> = limits
            .iter()
            .zip(&windows)
            .map(|(limit, windows)| LimitLabels { policy: &limit.policy, key: &limit.key, windows })
            .collect();
        let metrics = metrics.route(route.name(), &labels);
        let rejects = route.rejects().iter().enumerate().map(|(index, rule)| RejectNames {
            rule: format!("reject[{index}]").into(),
            key: KeyPart::Body(rule.field.clone()).to_string().into(),
        });
        RouteHandles { name: route.name().into(), metrics, limits, rejects: rejects.collect() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn count(&self, verdict: Verdict) {
        self.metrics.count(verdict);
    }

    pub(super) fn count_cause(&self, cause: Cause, mode: Mode) {
        match cause {
            Cause::Window(of) => self.metrics.refused(usize::from(of.limit), usize::from(of.window), mode),
            Cause::Block { limit } => self.metrics.kept_out(usize::from(limit), KeptOut::Block, mode),
            Cause::Backoff { limit } => self.metrics.kept_out(usize::from(limit), KeptOut::Backoff, mode),
            Cause::Pending { limit } => self.metrics.kept_out(usize::from(limit), KeptOut::Pending, mode),
        }
    }

    pub(super) fn labels(&self, cause: Cause) -> CauseLabels<'_> {
        let Some(limit) = self.limits.get(cause.limit()) else { return CauseLabels::default() };
        let window = match cause {
            Cause::Window(of) => limit.windows.get(usize::from(of.window)).map(|label| &**label),
            Cause::Block { .. } => None,
            Cause::Backoff { .. } => Some("backoff"),
            Cause::Pending { .. } => Some("pending"),
        };
        CauseLabels { policy: Some(&limit.policy), key: Some(&limit.key), window, rule: None }
    }

    /// The labels of a rule of `reject`, by its number in the route.
    pub(super) fn reject_labels(&self, rule: usize) -> CauseLabels<'_> {
        let Some(names) = self.rejects.get(rule) else { return CauseLabels::default() };
        CauseLabels { key: Some(&names.key), rule: Some(&names.rule), ..CauseLabels::default() }
    }
}
