//! Routes of one-time codes: what they must match, and the limits that all of them share.

mod proof;
mod spec;
mod texts;

use std::num::NonZeroU32;

use http::Method;
use smallvec::SmallVec;

use super::limit::{self, Counts, Scope};
use super::store::Outage;
use crate::config::file::File;
use crate::config::file::guard::RouteSuspect;
use crate::config::file::limit as written_limit;
use crate::config::file::route as written;
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::section::Word as _;
use crate::decision::answer::{LimitedAnswer, Template};
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{Backoff, Limit, Mode, OnStoreError, Rule, Shown};
use crate::decision::otp::{Operation, OtpRoute};
use crate::decision::time::Span;

pub(super) use spec::spec;

/// The limits by destination: what is asked for anywhere counts everywhere.
pub(super) struct Limits {
    /// Of the routes that send.
    requests: Vec<Limit>,
    /// Of those that verify.
    failures: Vec<Limit>,
    /// Of those that send: each code that was sent is a failure to it.
    cooldown: Option<Limit>,
}

impl Limits {
    /// A route's own limits and those by destination that its operation has.
    pub(super) fn of(&self, operation: Operation, mut own: Vec<Limit>) -> (OtpRoute, Vec<Limit>) {
        let mut cooldown = None;
        match operation {
            Operation::Send => {
                own.extend(self.requests.iter().cloned());
                if let Some(limit) = &self.cooldown {
                    cooldown = Some(own.len());
                    own.push(limit.clone());
                }
            }
            Operation::Verify => own.extend(self.failures.iter().cloned()),
            Operation::Status | Operation::Receipts | Operation::Jwks => {}
        }
        (OtpRoute { operation, cooldown }, own)
    }
}

/// The limits by destination; `None` if one has a mistake.
pub(super) fn limits(file: &File, findings: &mut Findings) -> Option<Limits> {
    let otp = file.otp.as_ref()?;
    let cooldown = cooldown(file, findings);
    let written = otp.limits.as_ref()?;
    for limit in written {
        refuse_open(&limit.value, findings);
    }
    let closed = Outage::Handled(OnStoreError::Closed);
    let scope = Scope { id: "otp".to_owned(), name: "otp", outage: closed, counts: Counts::Destinations };
    let compiled = limit::limits(&scope, written, findings)?;
    let by_destination = compiled.into_iter().map(|limit| Limit {
        on_store_error: OnStoreError::Closed,
        shown: Shown::RetryAfter,
        ..limit.value
    });
    let (failures, requests) = by_destination.partition(|limit| limit.rule.counts_failures());
    Some(Limits { requests, failures, cooldown: cooldown? })
}

/// Codes cost money and open accounts: without the store there are none.
fn refuse_open(limit: &written_limit::Limit, findings: &mut Findings) {
    if let Optional::Given(own) = &limit.on_store_error
        && own.value != OnStoreError::Closed
    {
        let word = own.value.word();
        let wrong =
            Wrong::new(format!("`on_store_error: {word}` would let codes be sent and guessed uncounted"));
        findings.problem(&own.at, wrong.write("remove it: limits by destination are always closed"));
    }
}

fn cooldown(file: &File, findings: &mut Findings) -> Option<Option<Limit>> {
    const MAX: Span = Span::from_secs(3600);
    const GROWN_MAX: Span = Span::from_secs(15 * 60);
    let otp = file.otp.as_ref()?;
    let (base, ttl) = (otp.cooldown.as_ref()?, otp.code.as_ref()?.ttl.as_ref()?);
    let (at, base) = (&base.at, base.value.0);
    if base == Span::ZERO {
        return Some(None);
    }
    if base > MAX {
        let wrong = Wrong::new(format!("nobody waits {base} for another code"));
        findings.problem(at, wrong.write(format!("write {MAX} or less")));
        return None;
    }
    let backoff = Backoff { base, factor_percent: 200, max: base.max(GROWN_MAX), forget: ttl.value };
    Some(Some(Limit {
        id: LimitId::derive(&["otp-cooldown"]),
        policy: "otp-cooldown".into(),
        key: KeySpec { parts: SmallVec::from_iter([KeyPart::Phone]), form: Form::Text, missing: Missing::Ip },
        rule: Rule::Backoff(backoff),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::RetryAfter,
        block: None,
        on_store_error: OnStoreError::Closed,
    }))
}

/// How a refusal looks on routes of codes: as elsewhere, and where nobody worded it, with a code.
pub(super) fn limited(elsewhere: &LimitedAnswer) -> LimitedAnswer {
    const BODY: &str = r#"{"code":"rate_limited","detail":"Request was throttled. Expected available in {{ retry_after }} seconds."}"#;
    let usual = LimitedAnswer::default();
    let mut answer = elsewhere.clone();
    if answer.body == usual.body
        && answer.content_type == usual.content_type
        && let Ok(body) = Template::parse(BODY)
    {
        answer.body = body;
    }
    answer
}

/// A limit that a route of codes could not hold.
pub(super) fn refuse_misfit(limit: &Limit, at: &At, operation: Operation, findings: &mut Findings) {
    let word = operation.word();
    if limit.rule.counts_failures() {
        match operation {
            Operation::Verify => {}
            Operation::Send | Operation::Status | Operation::Receipts | Operation::Jwks => {
                let wrong = Wrong::new(format!("a request of `otp: {word}` never fails"));
                findings.problem(at, wrong.write("count failures where codes are tried: `otp: verify`"));
            }
        }
    }
    let by_body = limit.key.parts.iter().any(|part| matches!(part, KeyPart::Body(_)));
    if by_body && operation == Operation::Receipts {
        let wrong = Wrong::new("what a receipt says is known only once its sender is");
        findings.problem(at, wrong.write("count by ip"));
    }
}

/// What a route of codes must match and must not say; `None` after a mistake.
pub(super) fn check_route(
    route: &written::Route,
    operation: &Located<Operation>,
    findings: &mut Findings,
) -> Option<()> {
    let before = findings.count();
    let of = operation.value;
    let word = of.word();
    if let Optional::Given(failure) = &route.failure {
        let wrong = Wrong::new("no backend answers here");
        findings.problem(&failure.at, wrong.write("remove `failure`: a code that is wrong has failed"));
    }
    if let Optional::Given(Located { value: RouteSuspect::OtpRequest, at, .. }) = &route.suspect
        && of != Operation::Send
    {
        let wrong = Wrong::new(format!("`otp: {word}` asks for no code"));
        findings.problem(at, wrong.write("remove `suspect`"));
    }
    if let Some(headers) = route.allow_override_headers.as_ref().filter(|headers| headers.value) {
        let wrong = Wrong::new("no backend is asked here");
        findings.problem(&headers.at, wrong.write("remove `allow_override_headers`"));
    }
    if let Some(first) = route.allow_encoded.as_ref().and_then(|list| list.first()) {
        let wrong = Wrong::new("no backend is asked here");
        findings.problem(&first.at, wrong.write("remove `allow_encoded`"));
    }
    if let Some(matching) = &route.matching {
        check_methods(matching, operation, findings);
        check_path(matching, operation, findings);
    }
    (findings.count() == before).then_some(())
}

fn check_methods(matching: &written::Match, operation: &Located<Operation>, findings: &mut Findings) {
    let wanted = match operation.value {
        Operation::Send | Operation::Verify => Method::POST,
        Operation::Status | Operation::Jwks => Method::GET,
        // Each provider has its own.
        Operation::Receipts => return,
    };
    let word = operation.value.word();
    match &matching.method {
        Optional::Given(methods) => {
            if let Some(other) = methods.value.0.iter().find(|method| method.value != wanted) {
                let wrong = Wrong::new(format!("`otp: {word}` answers {wanted} alone"));
                findings.problem(&other.at, wrong.write(format!("write `method: {wanted}`")));
            }
        }
        Optional::Absent => {
            let wrong = Wrong::new(format!("`otp: {word}` answers {wanted} alone"));
            findings.problem(&operation.at, wrong.write(format!("add `method: {wanted}` to `match`")));
        }
        Optional::Faulty => {}
    }
}

fn check_path(matching: &written::Match, operation: &Located<Operation>, findings: &mut Findings) {
    let Some(path) = &matching.path else { return };
    let wanted: &[&str] = match operation.value {
        Operation::Status => &["id"],
        Operation::Receipts => &["provider", "token"],
        Operation::Send | Operation::Verify | Operation::Jwks => &[],
    };
    let word = operation.value.word();
    let has = |name: &str| path.value.pattern.params().any(|param| param == name);
    if let Some(missing) = wanted.iter().find(|name| !has(name)) {
        let wrong = Wrong::new(format!("`otp: {word}` needs {{{missing}}} in its path"));
        let example = match operation.value {
            Operation::Receipts => "/otp/receipts/{provider}/{token}",
            Operation::Status | Operation::Send | Operation::Verify | Operation::Jwks => "/otp/{id}",
        };
        findings.problem(&path.at, wrong.write(format!("write {example}")));
        return;
    }
    let others = path.value.pattern.params().any(|param| !wanted.contains(&param));
    if operation.value == Operation::Receipts && (others || path.value.text.ends_with('*')) {
        let wrong = Wrong::new("nobody could tell providers where to report: the path has more that varies");
        findings.problem(&path.at, wrong.write("write /otp/receipts/{provider}/{token}"));
    }
}
