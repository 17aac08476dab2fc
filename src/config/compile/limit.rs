//! Limits and the policies that name lists of them.

use std::collections::HashMap;
use std::num::NonZeroU32;

use smallvec::SmallVec;

use super::store::Outage;
use crate::config::file::File;
use crate::config::file::limit::{self as written, Counted};
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Named, Optional};
use crate::config::section::Word as _;
use crate::config::value::text::{Name, Whole};
use crate::config::value::time::Rate;
use crate::decision::key::{Form, KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{
    Backoff, BlockRule, Limit, OnStoreError, Rule, Shown, Smooth, WhileBlocked, Window, Windows,
};

/// Limits, each with the place of its key.
type Placed = Vec<Located<Limit>>;

/// The policies of a file, by name. A policy with a mistake is there without its limits.
pub(super) struct Policies {
    list: Vec<(Located<Name>, Option<Placed>)>,
    known: bool,
    outage: Outage,
}

impl Policies {
    pub(super) fn find(&self, name: &Name) -> Option<Option<&[Located<Limit>]>> {
        let found = self.list.iter().find(|(known, _)| known.value == *name);
        found.map(|(_, limits)| limits.as_deref())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Located<Name>> + Clone {
        self.list.iter().map(|(name, _)| name)
    }

    /// Every limit of every policy.
    pub(super) fn all(&self) -> impl Iterator<Item = &Located<Limit>> {
        self.list.iter().filter_map(|(_, limits)| limits.as_deref()).flatten()
    }

    /// What limits do without the store unless they say otherwise.
    pub(super) fn outage(&self) -> Outage {
        self.outage
    }

    /// Whether the section could be read at all.
    pub(super) fn are_known(&self) -> bool {
        self.known
    }
}

pub(super) fn policies(file: &File, findings: &mut Findings) -> Policies {
    let outage = Outage::of(file);
    let Some(Named { entries: named, .. }) = &file.policies else {
        return Policies { list: Vec::new(), known: false, outage };
    };
    let mut list = Vec::new();
    for (name, limits) in named {
        if limits.as_ref().is_some_and(Vec::is_empty) {
            let wrong = Wrong::new(format!("policy `{}` has no limit", name.told()));
            findings.warning(&name.at, wrong.write("it lets everything through"));
        }
        let id = format!("policy:{}", name.value.0);
        let scope = Scope { id, name: &name.value.0, outage, counts: Counts::Requests };
        let compiled = limits.as_ref().and_then(|limits| self::limits(&scope, limits, findings));
        list.push((name.clone(), compiled));
    }
    Policies { list, known: true, outage }
}

/// Where limits are declared: part of their identity over reloads.
pub(super) struct Scope<'n> {
    pub(super) id: String,
    pub(super) name: &'n str,
    /// What its limits do without the store unless they say otherwise.
    pub(super) outage: Outage,
    pub(super) counts: Counts,
}

/// What the limits of a scope can count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// What every request has or may have.
    Requests,
    /// Where one-time codes go, and nothing else.
    Destinations,
}

/// The limits of one scope; `None` if one has a mistake.
pub(super) fn limits(
    scope: &Scope<'_>,
    list: &[Located<written::Limit>],
    findings: &mut Findings,
) -> Option<Placed> {
    let mut ordinals = HashMap::new();
    let limits: Vec<Option<Located<Limit>>> =
        list.iter().map(|limit| self::limit(scope, limit, &mut ordinals, findings)).collect();
    limits.into_iter().collect()
}

type Ordinals = HashMap<(String, &'static str, &'static str), usize>;

fn limit(
    scope: &Scope<'_>,
    written: &Located<written::Limit>,
    ordinals: &mut Ordinals,
    findings: &mut Findings,
) -> Option<Located<Limit>> {
    let limit = &written.value;
    let key = key_spec(limit, scope.counts, findings);
    let cost = limit.cost.as_ref();
    let rule = rule(written, cost, findings);
    let block = match &limit.block {
        Optional::Absent => Some(None),
        Optional::Faulty => None,
        Optional::Given(block) => block_rule(&block.value, findings).map(Some),
    };
    let key = key?;
    if let Optional::Given(block) = &limit.block
        && key.parts.contains(&KeyPart::Global)
    {
        let wrong = Wrong::new("once this limit is exceeded, everybody is blocked");
        findings.warning(&block.at, wrong.write("`key: global` has one counter for all"));
    }
    let shown = shown(&key, limit, findings);
    let on_store_error = on_store_error(limit, scope.outage, findings);
    let rule = rule?;
    let kind = match rule {
        Rule::Windows(_) => "windows",
        Rule::Smooth(_) => "smooth",
        Rule::Failures(_) => "failures",
        Rule::Backoff(_) => "backoff",
    };
    let identity = (key.to_string(), key.form.word(), kind);
    let ordinal = ordinals.entry(identity.clone()).or_default();
    let (text, form, kind) = identity;
    let id = LimitId::derive(&[&scope.id, &text, form, kind, &ordinal.to_string()]);
    *ordinal += 1;
    let compiled = Limit {
        id,
        policy: scope.name.into(),
        key,
        rule,
        cost: NonZeroU32::new(cost?.value.0)?,
        mode: limit.mode?,
        exempt: limit.exempt.clone()?,
        shown: shown?,
        block: block?,
        on_store_error: on_store_error?,
    };
    let at = limit.key.as_ref()?.at.clone();
    Some(Located { value: compiled, at, written: None })
}

/// `None` where a key stands that the scope does not know.
fn known_keys(key: &[Located<KeyPart>], counts: Counts, findings: &mut Findings) -> Option<()> {
    let strange = |part: &&Located<KeyPart>| match counts {
        Counts::Requests => part.value == KeyPart::Phone,
        Counts::Destinations => part.value != KeyPart::Phone,
    };
    let part = match key.iter().find(strange) {
        None => return Some(()),
        Some(part) => part,
    };
    let wrong = match counts {
        Counts::Requests => {
            Wrong::new("`phone` is where a one-time code goes: otp.limits alone counts by it")
                .write("write body.phone with `as: phone`, or put the limit into otp.limits")
        }
        Counts::Destinations => Wrong::new("otp.limits counts by where a code goes, and by nothing else")
            .write("write `key: phone`, or put the limit into the `limits` of the route"),
    };
    findings.problem(&part.at, wrong);
    None
}

fn key_spec(limit: &written::Limit, counts: Counts, findings: &mut Findings) -> Option<KeySpec> {
    const PARTS_MAX: usize = 4;
    let key = limit.key.as_ref()?;
    known_keys(&key.value.0, counts, findings)?;
    let parts: Vec<&Located<KeyPart>> = key.value.0.iter().collect();
    super::refuse_twice("the key", key.value.0.iter(), findings);
    if parts.len() > PARTS_MAX {
        let wrong = Wrong::new(format!("a composite key has at most {PARTS_MAX} parts"));
        findings.problem(&key.at, wrong.write("count by fewer values, or by several limits"));
    }
    if parts.len() > 1
        && let Some(global) = parts.iter().find(|part| part.value == KeyPart::Global)
    {
        findings
            .problem(&global.at, Wrong::new("`global` adds nothing to a composite key").write("remove it"));
    }
    let values = || parts.iter().map(|part| &part.value);
    if let Some(form) = &limit.form
        && matches!(form.value, Form::Email | Form::Phone)
        && !values().any(is_named)
    {
        let word = form.value.word();
        let wrong = Wrong::new(format!("`as: {word}` has nothing to read: {} is not a text", any(values())));
        findings.problem(&form.at, wrong.write("remove `as`, or count by a field such as body.email"));
    }
    if let Some(missing) = &limit.missing
        && missing.value != Missing::Ip
        && !values().any(is_named)
    {
        let word = missing.value.word();
        let wrong = Wrong::new(format!("`missing: {word}` never applies: {} is always there", any(values())));
        findings.problem(&missing.at, wrong.write("remove `missing`"));
    }
    Some(KeySpec {
        parts: values().cloned().collect::<SmallVec<[KeyPart; 2]>>(),
        form: limit.form.as_ref()?.value,
        missing: limit.missing.as_ref()?.value,
    })
}

/// Whether a part is something that a request may name or not.
fn is_named(part: &KeyPart) -> bool {
    match part {
        KeyPart::Ip | KeyPart::Network | KeyPart::User | KeyPart::Global | KeyPart::Phone => false,
        KeyPart::ClientCert
        | KeyPart::Header(_)
        | KeyPart::Cookie(_)
        | KeyPart::Query(_)
        | KeyPart::Path(_)
        | KeyPart::Body(_) => true,
    }
}

fn any<'p>(parts: impl Iterator<Item = &'p KeyPart>) -> String {
    let names: Vec<String> = parts.map(ToString::to_string).collect();
    names.join("+")
}

fn shown(key: &KeySpec, limit: &written::Limit, findings: &mut Findings) -> Option<Shown> {
    let failures = limit.count.as_ref().is_some_and(|count| count.value == Counted::Failures);
    match &limit.headers {
        Optional::Faulty => None,
        Optional::Given(headers) if failures && headers.value => {
            let wrong = Wrong::new("a count of failures is no quota that a header could tell");
            findings.problem(&headers.at, wrong.write("remove `headers: true`"));
            None
        }
        Optional::Absent | Optional::Given(_) if failures => Some(Shown::RetryAfter),
        Optional::Absent if key.is_the_senders_own() => Some(Shown::Quota),
        Optional::Absent => Some(Shown::RetryAfter),
        Optional::Given(headers) if !headers.value => Some(Shown::RetryAfter),
        Optional::Given(_) if key.is_the_senders_own() => Some(Shown::Quota),
        Optional::Given(headers) => {
            let what = format!("the quota of {key} would tell a stranger what somebody else is doing");
            findings.problem(&headers.at, Wrong::new(what).write("remove `headers: true`"));
            None
        }
    }
}

/// A limit may come from a file that other gateways share, so its own word is no mistake here.
fn on_store_error(limit: &written::Limit, outage: Outage, findings: &mut Findings) -> Option<OnStoreError> {
    match (&limit.on_store_error, outage) {
        (Optional::Faulty, Outage::Never | Outage::Handled(_)) => None,
        (Optional::Absent, Outage::Never) => Some(OnStoreError::Local),
        (Optional::Absent, Outage::Handled(all)) => Some(all),
        (Optional::Given(own), Outage::Handled(_)) => Some(own.value),
        (Optional::Given(own), Outage::Never) => {
            if own.value != OnStoreError::Local {
                let word = own.value.word();
                let what = format!("`on_store_error: {word}` never applies: a store in memory is never away");
                findings.warning(&own.at, Wrong::new(what));
            }
            Some(own.value)
        }
    }
}

fn rule(
    written: &Located<written::Limit>,
    cost: Option<&Located<CostNumber>>,
    findings: &mut Findings,
) -> Option<Rule> {
    let limit = &written.value;
    let given = [
        ("windows", limit.windows.is_absent(), limit.windows.given().map(|windows| &windows.at)),
        ("smooth", limit.smooth.is_absent(), limit.smooth.given().map(|smooth| &smooth.at)),
        ("backoff", limit.backoff.is_absent(), limit.backoff.given().map(|backoff| &backoff.at)),
    ];
    let there: Vec<&(&str, bool, Option<&At>)> = given.iter().filter(|(_, absent, _)| !absent).collect();
    match there.as_slice() {
        [] => {
            let wrong = Wrong::new("a limit needs `windows`, `smooth` or `backoff`");
            findings.problem(&written.at, wrong.write("add `windows: { burst: 2/min, hourly: 3/hour }`"));
            return None;
        }
        [_] => {}
        [(first, ..), (second, _, at), ..] => {
            if let Some(at) = at {
                let wrong = Wrong::new(format!("a limit has `{first}` or `{second}`, not both"));
                findings.problem(at, wrong.write("make two limits of it"));
            }
            return None;
        }
    }
    let counted = limit.count.as_ref();
    match (&limit.windows, &limit.smooth, &limit.backoff) {
        (Optional::Given(windows), _, _) => {
            let cost = Cost::of(cost?);
            match counted?.value {
                Counted::Requests => self::windows(windows, cost, findings).map(Rule::Windows),
                Counted::Failures => {
                    let windows = self::windows(windows, cost, findings);
                    refuse_cost(limit, findings)?;
                    windows.map(Rule::Failures)
                }
            }
        }
        (_, Optional::Given(smooth), _) => {
            let counted = counted?;
            if counted.value == Counted::Failures {
                let wrong = Wrong::new("failures are counted in windows, not at a pace");
                findings.problem(&counted.at, wrong.write("write `windows` or `backoff` for `smooth`"));
                return None;
            }
            self::smooth(smooth, Cost::of(cost?), findings).map(Rule::Smooth)
        }
        (_, _, Optional::Given(backoff)) => {
            let rule = self::backoff(&backoff.value, findings);
            if counted?.value == Counted::Requests {
                let wrong = Wrong::new("`backoff` counts failures");
                findings.problem(&backoff.at, wrong.write("add `count: failures`"));
                return None;
            }
            refuse_cost(limit, findings)?;
            rule.map(Rule::Backoff)
        }
        (
            Optional::Absent | Optional::Faulty,
            Optional::Absent | Optional::Faulty,
            Optional::Absent | Optional::Faulty,
        ) => None,
    }
}

/// An attempt fails or not: it cannot fail three times.
fn refuse_cost(limit: &written::Limit, findings: &mut Findings) -> Option<()> {
    match limit.cost.as_ref() {
        Some(cost) if cost.value.0 > 1 => {
            findings.problem(&cost.at, Wrong::new("a failure counts as one").write("remove `cost`"));
            None
        }
        Some(_) => Some(()),
        None => None,
    }
}

fn backoff(backoff: &written::Backoff, findings: &mut Findings) -> Option<Backoff> {
    let (base, max, forget) = (backoff.base.as_ref()?, backoff.max.as_ref()?, backoff.forget.as_ref()?);
    if max.value < base.value {
        let what = format!("`max` of {} is shorter than the first wait of {}", max.value, base.value);
        findings.problem(&max.at, Wrong::new(what).write("write a `max` of at least `base`"));
        return None;
    }
    for long in [max, forget] {
        if long.value > Windows::SPAN_MAX {
            let wrong = Wrong::new(format!("{} is longer than {}", long.value, Windows::SPAN_MAX));
            findings.problem(&long.at, wrong.write("write a month at most"));
            return None;
        }
    }
    let factor_percent = backoff.factor?.percent;
    Some(Backoff { base: base.value, factor_percent, max: max.value, forget: forget.value })
}

type CostNumber = Whole<1, 1_000_000>;

/// What a request costs, and where that is said.
struct Cost<'l> {
    value: NonZeroU32,
    at: &'l At,
}

impl<'l> Cost<'l> {
    fn of(cost: &'l Located<CostNumber>) -> Cost<'l> {
        Cost { value: NonZeroU32::new(cost.value.0).unwrap_or(NonZeroU32::MIN), at: &cost.at }
    }
}

fn windows(
    named: &Located<Named<written::Label, Located<Rate>>>,
    cost: Cost<'_>,
    findings: &mut Findings,
) -> Option<Windows> {
    let before = findings.count();
    let given: Vec<(&Located<written::Label>, &Located<Rate>)> =
        named.value.entries.iter().filter_map(|(label, rate)| Some((label, rate.as_ref()?))).collect();
    for (label, rate) in &given {
        let name = &label.value.0;
        if rate.value.per > Windows::SPAN_MAX {
            let wrong = Wrong::new(format!("window `{name}` is longer than {}", Windows::SPAN_MAX));
            findings.problem(&rate.at, wrong.write("a window reaches back a month at most"));
        }
        if cost.value > rate.value.count {
            let max = rate.value.count;
            let wrong =
                Wrong::new(format!("a cost of {} can never fit into window `{name}` of {max}", cost.value));
            findings.problem(cost.at, wrong.write(format!("write a cost of {max} or less")));
        }
    }
    warn_of_idle(&given, findings);
    if !named.value.complete || given.len() < named.value.entries.len() || findings.count() > before {
        return None;
    }
    let list = given.iter().map(|(label, rate)| Window {
        label: label.value.0.clone(),
        max: rate.value.count,
        span: rate.value.per,
    });
    match Windows::new(list.collect(), cost.value) {
        Ok(windows) => Some(windows),
        Err(error) => {
            findings.problem(&named.at, Wrong::new(error.to_string()));
            None
        }
    }
}

/// A window that a longer one with no more room makes idle was probably meant otherwise.
fn warn_of_idle(given: &[(&Located<written::Label>, &Located<Rate>)], findings: &mut Findings) {
    for (index, (label, rate)) in given.iter().enumerate() {
        let idle_beside = given.iter().enumerate().find(|(other, (_, beside))| {
            let longer =
                beside.value.per > rate.value.per || (beside.value.per == rate.value.per && *other < index);
            *other != index && longer && beside.value.count <= rate.value.count
        });
        if let Some((_, (by, beside))) = idle_beside {
            let (name, by) = (&label.value.0, &by.value.0);
            let what = format!(
                "window `{name}` never matters: `{by}` allows {} in {}",
                beside.value.count, beside.value.per
            );
            findings.warning(&rate.at, Wrong::new(what).write("remove it, or correct one of the two"));
        }
    }
}

fn smooth(smooth: &Located<written::Smooth>, cost: Cost<'_>, findings: &mut Findings) -> Option<Smooth> {
    let (rate, burst) = (smooth.value.rate.as_ref()?, smooth.value.burst.as_ref()?);
    let per_ns = rate.value.per.as_millis().saturating_mul(1_000_000);
    let compiled = Smooth {
        burst: NonZeroU32::new(burst.value.0)?,
        // Rounded up: the pace is never faster than written.
        replenish_one_ns: per_ns.div_ceil(u64::from(rate.value.count.get())),
    };
    if cost.value > compiled.burst {
        let wrong =
            Wrong::new(format!("a cost of {} can never fit into a burst of {}", cost.value, compiled.burst));
        findings.problem(cost.at, wrong.write(format!("write a cost of {} or less", compiled.burst)));
        return None;
    }
    if compiled.refill() > Windows::SPAN_MAX {
        let what = format!("an empty allowance would take longer than {} to refill", Windows::SPAN_MAX);
        findings.problem(&burst.at, Wrong::new(what).write("write a smaller burst or a higher rate"));
        return None;
    }
    Some(compiled)
}

pub(super) fn block_rule(block: &written::BlockForm, findings: &mut Findings) -> Option<BlockRule> {
    match block {
        written::BlockForm::Fixed(span) => {
            let while_blocked = WhileBlocked::Stands;
            Some(BlockRule { span: *span, factor_percent: 100, max: *span, forget: *span, while_blocked })
        }
        written::BlockForm::Growing(block) => {
            let (span, max, forget) = (block.span.as_ref()?, block.max.as_ref()?, block.forget.as_ref()?);
            if max.value < span.value {
                let wrong = Wrong::new(format!(
                    "`max` of {} is shorter than the first block of {}",
                    max.value, span.value
                ));
                findings.problem(&max.at, wrong.write("write a `max` of at least `for`"));
                return None;
            }
            let factor_percent = block.factor?.percent;
            let while_blocked = match block.prolong? {
                true => WhileBlocked::Prolongs,
                false => WhileBlocked::Stands,
            };
            let (span, max, forget) = (span.value, max.value, forget.value);
            Some(BlockRule { span, factor_percent, max, forget, while_blocked })
        }
    }
}
