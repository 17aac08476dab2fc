//! What a route takes from nobody.

use std::sync::Arc;

use crate::config::file::route as written;
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::section::any_of;
use crate::decision::policy::Route;
use crate::decision::reject::{Condition, RejectRule};

/// The rules of a route; `None` if one has a mistake.
pub(super) fn rules(route: &written::Route, findings: &mut Findings) -> Option<Vec<RejectRule>> {
    let list = route.reject.as_ref()?;
    if let Some(rule) = list.get(Route::REJECTS_MAX) {
        let (most, count) = (Route::REJECTS_MAX, list.len());
        let wrong = Wrong::new(format!("a route has at most {most} rules in `reject`, this one has {count}"));
        findings.problem(&rule.at, wrong.write("join lists for the same field into one rule"));
    }
    let rules: Vec<Option<RejectRule>> = list.iter().map(|rule| self::rule(rule, route, findings)).collect();
    rules.into_iter().collect()
}

fn rule(
    located: &Located<written::Reject>,
    route: &written::Route,
    findings: &mut Findings,
) -> Option<RejectRule> {
    let rule = &located.value;
    if let Some(field) = &rule.field
        && route.matching.as_ref().is_some_and(super::route::is_bodiless)
    {
        let what =
            format!("the rule looks at {}, but the route takes only requests without a body", field.told());
        findings.problem(&field.at, Wrong::new(what).write("match POST, or remove the rule"));
    }
    let condition = condition(located, findings);
    Some(RejectRule {
        field: rule.field.as_ref()?.value.0.clone(),
        condition: condition?,
        status: rule.status?.0,
        detail: Arc::from(&*rule.detail.as_ref()?.0),
    })
}

fn condition(located: &Located<written::Reject>, findings: &mut Findings) -> Option<Condition> {
    let written::Reject { domain_in, value_in, matches, .. } = &located.value;
    let given = [
        ("domain_in", !domain_in.is_absent()),
        ("value_in", !value_in.is_absent()),
        ("matches", !matches.is_absent()),
    ];
    let names: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    match names.as_slice() {
        [_] => {}
        [] => {
            let wrong = Wrong::new("the rule does not say what it rejects");
            findings.problem(&located.at, wrong.write("add `domain_in`, `value_in` or `matches`"));
        }
        several => {
            let joined = any_of(several).replace(" or ", " and ");
            let wrong = Wrong::new(format!("a rule has one condition, this one has {joined}"));
            findings.problem(&located.at, wrong.write("write a rule for each"));
        }
    }
    match (domain_in, value_in, matches) {
        (Optional::Given(domains), Optional::Absent, Optional::Absent) => {
            Some(Condition::DomainIn(domains.0.clone()))
        }
        (Optional::Absent, Optional::Given(values), Optional::Absent) => {
            Some(Condition::ValueIn(values.0.clone()))
        }
        (Optional::Absent, Optional::Absent, Optional::Given(pattern)) => {
            Some(Condition::Matches(pattern.clone()))
        }
        (
            Optional::Given(_) | Optional::Absent | Optional::Faulty,
            Optional::Given(_) | Optional::Absent | Optional::Faulty,
            Optional::Given(_) | Optional::Absent | Optional::Faulty,
        ) => None,
    }
}
