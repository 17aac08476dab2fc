//! Routes: what they match, and which limits they carry.

use http::Method;
use smallvec::SmallVec;

use super::guard;
use super::limit::{self, Counts, Policies, Scope};
use super::otp;
use crate::config::file::File;
use crate::config::file::route as written;
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::runtime::RouteText;
use crate::config::section::nearest;
use crate::config::value::text::Name;
use crate::decision::answer::LimitedAnswer;
use crate::decision::failure::FailureRule;
use crate::decision::key::KeyPart;
use crate::decision::limit::Limit;
use crate::decision::policy::{OverrideHeaders, Route, RouteSpec, Target, UpstreamIndex};
use crate::decision::reject::RejectRule;
use crate::decision::route::{HostPattern, LetterCase, Methods, RoutePattern, RouteTable, TrailingSlash};
use crate::decision::suspicion::{Suspect, Suspicion};

/// The routes and what each of them matches for people; `None` if one has a mistake.
pub(super) fn routes(
    file: &File,
    policies: &Policies,
    codes: Option<&otp::Limits>,
    suspicion: Option<&[Suspicion]>,
    findings: &mut Findings,
) -> Option<(Vec<Route>, Vec<RouteText>)> {
    let written = &file.routes.as_ref()?.0;
    refuse_same_names(written, findings);
    let answer = file.responses.as_ref().and_then(|responses| limited_answer(responses.limited.as_ref()?));
    let mut routes = Vec::new();
    let mut patterns = Vec::new();
    for route in written {
        let pattern =
            route.value.matching.as_ref().and_then(|matching| pattern(matching, &route.value, findings));
        let limits = limits(&route.value, policies, findings);
        let answered = answered(file, route, limits, codes, findings);
        let (target, limits) = answered.unzip();
        let rejects = super::reject::rules(&route.value, findings);
        let learnt = learnt(&route.value, limits.as_deref(), suspicion, findings);
        refuse_too_many(&route.value, limits.as_deref(), findings);
        let at =
            route.value.matching.as_ref().and_then(|matching| matching.path.as_ref()).map(|path| &path.at);
        if let (Some(pattern), Some(at)) = (&pattern, at) {
            patterns.push((pattern.clone(), at, route.value.name.as_ref()));
        }
        routes.push(spec(&route.value, pattern, target, limits, rejects, answer.as_ref(), learnt));
    }
    refuse_ties(&patterns, findings);
    warn_of_unused(written, policies, findings);
    warn_of_unknown_users(file, policies, findings);
    let routes = routes.into_iter().collect::<Option<Vec<RouteSpec>>>()?;
    let texts = written.iter().map(|route| text(&route.value)).collect::<Option<Vec<RouteText>>>()?;
    Some((routes.into_iter().map(Route::new).collect(), texts))
}

/// What is learnt from the requests and answers of a route.
type Learnt = (Option<FailureRule>, Option<Suspect>);

fn learnt(
    route: &written::Route,
    limits: Option<&[Limit]>,
    suspicion: Option<&[Suspicion]>,
    findings: &mut Findings,
) -> Option<Learnt> {
    let suspicion = suspicion?;
    let suspect = guard::suspect(route, suspicion, findings);
    Some((guard::failure(route, limits?, suspicion, findings)?, suspect?))
}

fn spec(
    route: &written::Route,
    pattern: Option<RoutePattern>,
    target: Option<Target>,
    limits: Option<Vec<Limit>>,
    rejects: Option<Vec<RejectRule>>,
    answer: Option<&LimitedAnswer>,
    learnt: Option<Learnt>,
) -> Option<RouteSpec> {
    let (failure, suspect) = learnt?;
    let answer = match target? {
        Target::Upstream(_) => answer?.clone(),
        Target::Otp(_) => otp::limited(answer?),
    };
    let limited = match &route.limited {
        Optional::Absent => answer,
        Optional::Faulty => return None,
        Optional::Given(own) => overridden(&answer, own)?,
    };
    let override_headers = match route.allow_override_headers.as_ref()?.value {
        true => OverrideHeaders::Forwarded,
        false => OverrideHeaders::Stripped,
    };
    Some(RouteSpec {
        name: route.name.as_ref()?.value.0.clone(),
        pattern: pattern?,
        target: target?,
        limits: limits?,
        rejects: rejects?,
        allowed_risky: route.allow_encoded.as_ref()?.iter().map(|byte| byte.value).collect(),
        override_headers,
        limited,
        failure,
        suspect,
    })
}

fn limited_answer(limited: &written::Limited) -> Option<LimitedAnswer> {
    Some(LimitedAnswer {
        status: limited.status?.0,
        content_type: limited.content_type.as_ref()?.0.clone(),
        body: limited.body.clone()?,
    })
}

fn overridden(base: &LimitedAnswer, own: &written::LimitedOverride) -> Option<LimitedAnswer> {
    let mut answer = base.clone();
    match &own.status {
        Optional::Given(status) => answer.status = status.0,
        Optional::Absent => {}
        Optional::Faulty => return None,
    }
    match &own.content_type {
        Optional::Given(media_type) => answer.content_type = media_type.0.clone(),
        Optional::Absent => {}
        Optional::Faulty => return None,
    }
    match &own.body {
        Optional::Given(body) => answer.body = body.clone(),
        Optional::Absent => {}
        Optional::Faulty => return None,
    }
    Some(answer)
}

fn pattern(
    matching: &written::Match,
    route: &written::Route,
    findings: &mut Findings,
) -> Option<RoutePattern> {
    let methods = match &matching.method {
        Optional::Absent => Methods::Any,
        Optional::Faulty => return None,
        Optional::Given(methods) => {
            super::refuse_twice("method", methods.value.0.iter(), findings);
            let methods = methods.value.0.iter().map(|method| method.value.clone());
            Methods::Only(methods.collect::<SmallVec<[Method; 2]>>())
        }
    };
    let host = match &matching.host {
        Optional::Absent => HostPattern::Any,
        Optional::Faulty => return None,
        Optional::Given(host) => host.value.pattern.clone(),
    };
    Some(RoutePattern {
        host,
        methods,
        path: matching.path.as_ref()?.value.pattern.clone(),
        letter_case: if route.case_sensitive? { LetterCase::Strict } else { LetterCase::Ignored },
        trailing_slash: if route.strict_slash? { TrailingSlash::Strict } else { TrailingSlash::Ignored },
    })
}

/// Who answers a route, and all its limits; `None` after a mistake.
fn answered(
    file: &File,
    route: &Located<written::Route>,
    limits: Option<Vec<Limit>>,
    codes: Option<&otp::Limits>,
    findings: &mut Findings,
) -> Option<(Target, Vec<Limit>)> {
    match (&route.value.upstream, &route.value.otp) {
        (Optional::Given(wanted), Optional::Absent) => {
            let upstream = upstream(file, wanted, findings);
            Some((Target::Upstream(upstream?), limits?))
        }
        (Optional::Absent, Optional::Given(operation)) => {
            otp::check_route(&route.value, operation, findings)?;
            let (otp, limits) = codes?.of(operation.value, limits?);
            Some((Target::Otp(otp), limits))
        }
        (Optional::Absent, Optional::Absent) => {
            let wrong = Wrong::new("`upstream` is missing in a route");
            findings.problem(&route.at, wrong.write("add `upstream: …`, or `otp: …` for one-time codes"));
            None
        }
        (Optional::Given(_), Optional::Given(operation)) => {
            let wrong = Wrong::new("a route is answered by an upstream or by `otp`, not by both");
            findings.problem(&operation.at, wrong.write("remove one of the two"));
            None
        }
        (Optional::Faulty, _) | (_, Optional::Faulty) => None,
    }
}

fn upstream(file: &File, wanted: &Located<Name>, findings: &mut Findings) -> Option<UpstreamIndex> {
    let known = &file.upstreams.as_ref()?.entries;
    if let Some(index) = known.iter().position(|(name, _)| name.value == wanted.value) {
        return Some(UpstreamIndex(index));
    }
    unknown("upstream", "upstreams", wanted, known.iter().map(|(name, _)| &*name.value.0), findings);
    None
}

fn unknown<'n>(
    what: &str,
    section: &str,
    wanted: &Located<Name>,
    known: impl Iterator<Item = &'n str> + Clone,
    findings: &mut Findings,
) {
    let wrong = Wrong::new(format!("unknown {what} `{}`", wanted.told()));
    let all: Vec<&str> = known.clone().take(10).collect();
    let wrong = match nearest(&wanted.value.0, known) {
        Some(near) => wrong.write(format!("did you mean `{near}`?")),
        None if all.is_empty() => wrong.write(format!("there are no {section}")),
        None => wrong.write(format!("the {section} are {}", all.join(", "))),
    };
    findings.problem(&wanted.at, wrong);
}

/// The limits of all the policies of a route and its own; `None` if one of them has a mistake.
fn limits(route: &written::Route, policies: &Policies, findings: &mut Findings) -> Option<Vec<Limit>> {
    let own = own_limits(route, policies, findings);
    for limit in own.iter().flatten() {
        refuse_misfit(&limit.value, &limit.at, None, route, findings);
    }
    let mut all = Some(Vec::new());
    let used = route.policies.as_deref().unwrap_or_default();
    super::refuse_twice("policy", used.iter(), findings);
    for name in used {
        let limits = policy_limits(name, route, policies, findings);
        all = all.zip(limits).map(|(mut all, limits)| {
            all.extend(limits);
            all
        });
    }
    let (mut all, own) = (all?, own?);
    all.extend(own.into_iter().map(|limit| limit.value));
    Some(all)
}

fn refuse_too_many(route: &written::Route, limits: Option<&[Limit]>, findings: &mut Findings) {
    let (Some(name), Some(limits)) = (&route.name, limits) else { return };
    if limits.len() > Route::LIMITS_MAX {
        let (most, count) = (Route::LIMITS_MAX, limits.len());
        let wrong = Wrong::new(format!("a route has at most {most} limits, this one has {count}"));
        findings.problem(&name.at, wrong.write("join windows of the same key into one limit"));
    }
}

fn own_limits(
    route: &written::Route,
    policies: &Policies,
    findings: &mut Findings,
) -> Option<Vec<Located<Limit>>> {
    let list = route.limits.as_ref()?;
    // A route without a readable name still has its limits checked.
    let name = route.name.as_ref().map_or("", |name| &name.value.0);
    let scope =
        Scope { id: format!("route:{name}"), name, outage: policies.outage(), counts: Counts::Requests };
    limit::limits(&scope, list, findings)
}

fn policy_limits(
    name: &Located<Name>,
    route: &written::Route,
    policies: &Policies,
    findings: &mut Findings,
) -> Option<Vec<Limit>> {
    let Some(limits) = policies.find(&name.value) else {
        if policies.are_known() {
            unknown("policy", "policies", name, policies.names().map(|name| &*name.value.0), findings);
        }
        return None;
    };
    let limits = limits?;
    for limit in limits {
        refuse_misfit(&limit.value, &name.at, Some(name), route, findings);
    }
    Some(limits.iter().map(|limit| limit.value.clone()).collect())
}

/// A limit that this route could never count by.
fn refuse_misfit(
    limit: &Limit,
    at: &At,
    policy: Option<&Located<Name>>,
    route: &written::Route,
    findings: &mut Findings,
) {
    if let Optional::Given(operation) = &route.otp {
        otp::refuse_misfit(limit, at, operation.value, findings);
    }
    let Some(matching) = &route.matching else { return };
    let subject = match policy {
        Some(name) => format!("policy `{}` counts by", name.told()),
        None => "the limit counts by".to_owned(),
    };
    for part in &limit.key.parts {
        match part {
            KeyPart::Path(name) => {
                let Some(path) = &matching.path else { continue };
                if !path.value.pattern.params().any(|param| param == &**name) {
                    let what = format!("{subject} {part}, but the path `{}` has no {{{name}}}", path.told());
                    let near = nearest(name, path.value.pattern.params());
                    let fix = match near {
                        Some(near) => format!("did you mean `path.{near}`?"),
                        None => format!("write {{{name}}} into the path, or count by something else"),
                    };
                    findings.problem(at, Wrong::new(what).write(fix));
                }
            }
            KeyPart::Body(_) => {
                if is_bodiless(matching) {
                    let what = format!("{subject} {part}, but the route takes only requests without a body");
                    findings
                        .problem(at, Wrong::new(what).write("count by query.NAME or by ip, or match POST"));
                }
            }
            KeyPart::Ip
            | KeyPart::Network
            | KeyPart::User
            | KeyPart::Phone
            | KeyPart::Global
            | KeyPart::ClientCert
            | KeyPart::Header(_)
            | KeyPart::Cookie(_)
            | KeyPart::Query(_) => {}
        }
    }
}

/// Whether the methods of a route bring no body.
pub(super) fn is_bodiless(matching: &written::Match) -> bool {
    let Optional::Given(methods) = &matching.method else { return false };
    let bodiless = |method: &Located<Method>| matches!(method.value, Method::GET | Method::HEAD);
    !methods.value.0.is_empty() && methods.value.0.iter().all(bodiless)
}

fn refuse_same_names(routes: &[Located<written::Route>], findings: &mut Findings) {
    let names: Vec<&Located<Name>> = routes.iter().filter_map(|route| route.value.name.as_ref()).collect();
    super::refuse_twice("route", names.into_iter(), findings);
}

type Placed<'f> = (RoutePattern, &'f At, Option<&'f Located<Name>>);

fn refuse_ties(patterns: &[Placed<'_>], findings: &mut Findings) {
    let Err(ties) = RouteTable::new(patterns.iter().map(|(pattern, _, _)| pattern)) else { return };
    for tie in ties {
        let (Some((_, first_at, first)), Some((_, at, second))) =
            (patterns.get(tie.first.0), patterns.get(tie.second.0))
        else {
            continue;
        };
        let name = |name: &Option<&Located<Name>>| name.map_or_else(|| "?".to_owned(), Located::told);
        let what = format!(
            "routes `{}` (line {}) and `{}` match the same requests, and neither is more specific",
            name(first),
            first_at.place.line,
            name(second),
        );
        findings.problem(at, Wrong::new(what).write("give one another path, method or host"));
    }
}

fn warn_of_unused(routes: &[Located<written::Route>], policies: &Policies, findings: &mut Findings) {
    for policy in policies.names() {
        let used = routes.iter().any(|route| {
            route
                .value
                .policies
                .as_ref()
                .is_none_or(|used| used.iter().any(|name| name.value == policy.value))
        });
        if !used {
            findings
                .warning(&policy.at, Wrong::new(format!("policy `{}` is used by no route", policy.told())));
        }
    }
}

/// Where nothing says who a user is, `key: user` counts by address.
fn warn_of_unknown_users(file: &File, policies: &Policies, findings: &mut Findings) {
    if !file.user.is_absent() {
        return;
    }
    let by_user = policies.all().find(|limit| limit.value.key.needs_user());
    if let Some(limit) = by_user {
        let wrong =
            Wrong::new("`user` counts by address: there is no `user` section that says who a user is");
        findings.warning(&limit.at, wrong.write("add `user: { jwt: … }`, or count by ip"));
    }
}

fn text(route: &written::Route) -> Option<RouteText> {
    let matching = route.matching.as_ref()?;
    let methods = match &matching.method {
        Optional::Given(methods) => {
            methods.value.0.iter().map(|method| method.value.to_string()).collect::<Vec<_>>().join(", ")
        }
        Optional::Absent | Optional::Faulty => "any method".to_owned(),
    };
    Some(RouteText {
        methods: methods.into(),
        host: matching.host.given().map(|host| host.value.text.clone()),
        path: matching.path.as_ref()?.value.text.clone(),
        upstream: match (&route.upstream, &route.otp) {
            (Optional::Given(upstream), _) => upstream.value.0.clone(),
            (_, Optional::Given(operation)) => format!("one-time codes: {}", operation.value.word()).into(),
            (Optional::Absent | Optional::Faulty, Optional::Absent | Optional::Faulty) => return None,
        },
    })
}
