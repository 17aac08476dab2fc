//! One configuration's rules together with the metric handles of its routes.

use std::sync::Arc;

use prometheus::IntCounter;

use crate::decision::key::KeyPart;
use crate::decision::limit::Mode;
use crate::decision::policy::{Route, Rules};
use crate::decision::route::RouteIndex;
use crate::decision::tally::Outcome;
use crate::decision::verdict::Cause;
use crate::identity::UserRules;
use crate::journal::Event;
use crate::otp::Otp;
use crate::telemetry::{KeptOut, LimitLabels, Metrics, RouteMetrics, Verdict};

/// What one request is decided by, from end to end.
pub struct Policies {
    pub rules: Rules,
    pub users: UserRules,
    handles: Box<[RouteHandles]>,
    unrouted: RouteHandles,
    suspicion: Box<[IntCounter]>,
    suspects_users: bool,
    otp: Option<Arc<Otp>>,
}

/// The metric handles and log labels of one route.
pub(super) struct RouteHandles {
    name: Arc<str>,
    metrics: RouteMetrics,
    limits: Box<[LimitNames]>,
    rejects: Box<[RejectNames]>,
}

struct RejectNames {
    rule: Box<str>,
    key: Box<str>,
}

pub(super) struct LimitNames {
    pub(super) policy: Arc<str>,
    pub(super) key: Arc<str>,
    windows: Box<[Arc<str>]>,
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
        let suspicion =
            rules.suspicion.iter().map(|rule| metrics.suspicion(&rule.ban.key.to_string(), rule.mode));
        let suspicion = suspicion.collect();
        let suspects_users = rules.suspicion.iter().any(|rule| rule.ban.key.needs_user());
        Policies { rules, users, handles, unrouted, suspicion, suspects_users, otp: None }
    }

    /// The same, with what answers routes of one-time codes.
    pub fn with_codes(self, otp: Arc<Otp>) -> Policies {
        Policies { otp: Some(otp), ..self }
    }

    /// What answers routes of one-time codes; none where there is no such route.
    pub fn otp(&self) -> Option<&Arc<Otp>> {
        self.otp.as_ref()
    }

    /// Whether somebody wants to know who the user of a request on this route is.
    pub(super) fn needs_user(&self, route: &Route) -> bool {
        self.suspects_users || route.needs_user()
    }

    /// A rule of suspicion found somebody past its threshold.
    pub(super) fn suspicion_found(&self, rule: usize) {
        if let Some(counter) = self.suspicion.get(rule) {
            counter.inc();
        }
    }

    /// The handles of a route; those of no route while there is none.
    pub(super) fn handles(&self, route: Option<RouteIndex>) -> &RouteHandles {
        route.and_then(|index| self.handles.get(index.0)).unwrap_or(&self.unrouted)
    }
}

impl<'a> CauseLabels<'a> {
    /// Of a block on all routes.
    pub(super) fn of_ban(key: &'a str) -> CauseLabels<'a> {
        CauseLabels { policy: Some("blocked"), key: Some(key), ..CauseLabels::default() }
    }
}

impl RouteHandles {
    fn new(route: &Route, metrics: &Metrics) -> RouteHandles {
        let limits: Box<[LimitNames]> = route
            .limits()
            .iter()
            .map(|limit| LimitNames {
                policy: Arc::from(&*limit.policy),
                key: limit.key.to_string().into(),
                windows: limit.labels().map(Arc::from).collect(),
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

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn limit_names(&self, limit: u8) -> Option<&LimitNames> {
        self.limits.get(usize::from(limit))
    }

    /// Says in an event which limit it is about.
    pub(super) fn label(&self, limit: u8, event: &mut Event) {
        if let Some(names) = self.limit_names(limit) {
            event.policy = Some(Arc::clone(&names.policy));
            event.key = Some(Arc::clone(&names.key));
        }
    }

    /// Says in an event what refused.
    pub(super) fn label_cause(&self, cause: Cause, event: &mut Event) {
        let limit = u8::try_from(cause.limit()).unwrap_or(u8::MAX);
        self.label(limit, event);
        event.window = match cause {
            Cause::Window(of) => {
                self.limit_names(limit).and_then(|names| names.windows.get(usize::from(of.window)).cloned())
            }
            Cause::Block { .. } => Some("block".into()),
            Cause::Backoff { .. } => Some("backoff".into()),
            Cause::Pending { .. } => Some("pending".into()),
        };
    }

    /// An attempt was settled.
    pub(super) fn attempted(&self, outcome: Outcome) {
        self.metrics.attempted(outcome);
    }

    /// A failure was followed by a wait.
    pub(super) fn backed_off(&self) {
        self.metrics.backed_off();
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
