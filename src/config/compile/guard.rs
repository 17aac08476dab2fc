//! What the backend's answers tell, and what adds up against a client.

use std::num::NonZeroU32;

use super::limit::block_rule;
use crate::config::file::File;
use crate::config::file::guard::{self as written, RouteSuspect};
use crate::config::file::route as routes;
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Named, Optional};
use crate::config::section::Word as _;
use crate::decision::failure::{FailureRule, Member, Statuses};
use crate::decision::ipset::IpSet;
use crate::decision::key::{KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{BlockRule, Limit, Mode, OnStoreError, Rule, Shown, Window, Windows};
use crate::decision::otp::Operation;
use crate::decision::suspicion::{Suspect, Suspicion};
use crate::decision::time::Span;

/// Which answers of a route are failures; `None` after a mistake, and none within where nobody asks.
pub(super) fn failure(
    route: &routes::Route,
    limits: &[Limit],
    suspicion: &[Suspicion],
    findings: &mut Findings,
) -> Option<Option<FailureRule>> {
    let counted = limits.iter().any(|limit| limit.rule.counts_failures());
    match &route.failure {
        Optional::Absent => Some(counted.then(FailureRule::usual)),
        Optional::Faulty => None,
        // Told where the route is looked at as one of codes.
        Optional::Given(_) if route.otp.given().is_some() => None,
        Optional::Given(failure) => {
            let suspected = suspicion.iter().any(|rule| rule.limit(Suspect::Failure).is_some());
            if !counted && !suspected {
                let wrong = Wrong::new("nobody counts these failures");
                let fix = "add a limit with `count: failures`, or a rule of `suspicion`";
                findings.warning(&failure.at, wrong.write(fix));
            }
            failure_rule(failure).map(Some)
        }
    }
}

fn failure_rule(failure: &Located<written::Failure>) -> Option<FailureRule> {
    let members: Box<[Member]> = match &failure.value.json {
        Optional::Absent => Box::default(),
        Optional::Faulty => return None,
        Optional::Given(named) => members(&named.value)?,
    };
    let statuses = match &failure.value.status {
        Optional::Faulty => return None,
        Optional::Given(statuses) => Statuses::Only(statuses.0.iter().map(|status| status.value.0).collect()),
        Optional::Absent if members.is_empty() => FailureRule::usual().statuses,
        Optional::Absent => Statuses::Any,
    };
    Some(FailureRule { statuses, members })
}

fn members(named: &Named<written::Pointer, written::JsonValue>) -> Option<Box<[Member]>> {
    if !named.complete {
        return None;
    }
    let member = |(pointer, value): &(Located<written::Pointer>, Option<written::JsonValue>)| {
        Some(Member { pointer: pointer.value.0.clone(), value: value.as_ref()?.0.clone() })
    };
    named.entries.iter().map(member).collect()
}

/// What a request of a route counts as; `None` after a mistake.
pub(super) fn suspect(
    route: &routes::Route,
    suspicion: &[Suspicion],
    findings: &mut Findings,
) -> Option<Option<Suspect>> {
    let sends = route.otp.given().is_some_and(|otp| otp.value == Operation::Send);
    match &route.suspect {
        Optional::Absent => Some(sends.then_some(Suspect::OtpRequest)),
        Optional::Faulty => None,
        Optional::Given(Located { value: RouteSuspect::Nothing, .. }) => Some(None),
        Optional::Given(Located { value: RouteSuspect::OtpRequest, at, .. }) => {
            if suspicion.iter().all(|rule| rule.limit(Suspect::OtpRequest).is_none()) {
                let wrong = Wrong::new("no rule of `suspicion` weighs this");
                findings.warning(at, wrong.write("add `suspicion: [{ key: ip }]`"));
            }
            Some(Some(Suspect::OtpRequest))
        }
    }
}

/// The rules of suspicion; `None` if one has a mistake.
pub(super) fn suspicion(file: &File, findings: &mut Findings) -> Option<Vec<Suspicion>> {
    let rules = file.suspicion.as_ref()?;
    let mut keys: Vec<(String, u32)> = Vec::new();
    let compiled: Vec<Option<Suspicion>> = rules
        .iter()
        .map(|rule| {
            let rule = self::rule(&rule.value, findings)?;
            let text = rule.ban.key.to_string();
            if let Some((_, line)) = keys.iter().find(|(known, _)| *known == text) {
                let at = &rules.get(keys.len())?.value.key.as_ref()?.at;
                let wrong = Wrong::new(format!("{text} is suspected twice"));
                findings.problem(at, wrong.write(format!("it is on line {line} already: remove one")));
            }
            keys.push((text, rules.get(keys.len())?.at.place.line));
            Some(rule)
        })
        .collect();
    compiled.into_iter().collect()
}

fn rule(rule: &written::Suspicion, findings: &mut Findings) -> Option<Suspicion> {
    let key = key_spec(rule, findings);
    let block = match &rule.block {
        Some(block) => block_rule(&block.value, findings),
        None => None,
    };
    let threshold = rule.threshold.as_ref();
    let weights = rule.weights.as_ref().and_then(|weights| {
        Some([weights.otp_request.as_ref()?, weights.failure.as_ref()?, weights.limited.as_ref()?])
    });
    let (key, block, threshold, weights) = (key?, block?, threshold?, weights?);
    if threshold.value.per > Windows::SPAN_MAX {
        let wrong = Wrong::new(format!("the threshold looks back further than {}", Windows::SPAN_MAX));
        findings.problem(&threshold.at, wrong.write("write a rate such as 20/hour"));
        return None;
    }
    if let Some(heavy) = weights.iter().find(|weight| weight.value.0 > threshold.value.count.get()) {
        let (weight, most) = (heavy.value.0, threshold.value.count);
        let wrong = Wrong::new(format!("a weight of {weight} is more than the threshold of {most}"));
        findings.problem(&heavy.at, wrong.write(format!("write {most} or less")));
        return None;
    }
    if weights.iter().all(|weight| weight.value.0 == 0) {
        let wrong = Wrong::new("nothing weighs anything here");
        findings.problem(&threshold.at, wrong.write("give one of the weights a value, or remove the rule"));
        return None;
    }
    let exempt = rule.exempt.as_ref()?;
    let scope = Scope { key: &key, block, exempt };
    let window = Window { label: "suspicion".into(), max: threshold.value.count, span: threshold.value.per };
    let by_suspect = weights.map(|weight| scope.limit(NonZeroU32::new(weight.value.0)?, window.clone()));
    Some(Suspicion::new(by_suspect, key.clone(), rule.mode?))
}

/// What the limits of one rule have in common.
struct Scope<'r> {
    key: &'r KeySpec,
    block: BlockRule,
    exempt: &'r IpSet,
}

impl Scope<'_> {
    fn limit(&self, cost: NonZeroU32, window: Window) -> Option<Limit> {
        let key = self.key;
        Some(Limit {
            id: LimitId::derive(&["suspicion", &key.to_string(), key.form.word()]),
            policy: "suspicion".into(),
            key: key.clone(),
            rule: Rule::Windows(Windows::new(vec![window], cost).ok()?),
            cost,
            mode: Mode::Enforce,
            exempt: self.exempt.clone(),
            shown: Shown::RetryAfter,
            block: Some(self.block),
            // What adds up is no limit that a request could be refused by.
            on_store_error: OnStoreError::Local,
        })
    }
}

fn key_spec(rule: &written::Suspicion, findings: &mut Findings) -> Option<KeySpec> {
    let key = rule.key.as_ref()?;
    super::refuse_twice("the key", key.value.0.iter(), findings);
    let mut sound = true;
    for part in &key.value.0 {
        let what = match &part.value {
            KeyPart::Global => "everybody would be blocked at once",
            KeyPart::Path(_) | KeyPart::Query(_) => "it is part of one route's requests alone",
            KeyPart::Phone => "only routes of one-time codes know it",
            KeyPart::Ip
            | KeyPart::Network
            | KeyPart::User
            | KeyPart::ClientCert
            | KeyPart::Header(_)
            | KeyPart::Cookie(_)
            | KeyPart::Body(_) => continue,
        };
        let wrong = Wrong::new(format!("{} cannot be suspected: {what}", part.value));
        findings.problem(&part.at, wrong.write("write ip, network, user or body.FIELD"));
        sound = false;
    }
    let parts = key.value.0.iter().map(|part| part.value.clone()).collect();
    sound.then_some(KeySpec { parts, form: rule.form.as_ref()?.value, missing: Missing::Skip })
}

/// How long events are kept, within reason.
pub(super) fn retention(file: &File, findings: &mut Findings) -> Option<Span> {
    let (shortest, longest) = (Span::from_secs(3600), Span::from_secs(366 * 86_400));
    let retention = file.events.as_ref()?.retention.as_ref()?;
    if (shortest..=longest).contains(&retention.value) {
        return Some(retention.value);
    }
    let wrong = Wrong::new(format!("events kept for {} are gone before anybody looks", retention.value));
    findings.problem(&retention.at, wrong.write("write an hour or more, such as 30d"));
    None
}
