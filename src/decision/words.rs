//! Rules in plain words, for people.

use std::fmt::Write as _;

use http::StatusCode;

use super::failure::{FailureRule, Member, Scalar, Statuses};
use super::key::{Form, KeyPart, KeySpec, Missing};
use super::limit::{Backoff, BlockRule, Limit, Mode, OnStoreError, Rule, Smooth, WhileBlocked};
use super::policy::{Route, Target};
use super::reject::{Condition, RejectRule, TextLists};
use super::suspicion::{Suspect, Suspicion};
use super::time::Span;
use super::upstream::{Balance, CheckSpec, Protocol, ServerSpec, UpstreamSpec};

/// Each limit of a route, in its order. What some call a failure is to the wait between two codes a code that was sent.
pub fn limits(route: &Route) -> impl Iterator<Item = String> {
    let cooldown = match route.target() {
        Target::Upstream(_) => None,
        Target::Otp(otp) => otp.cooldown,
    };
    let told = move |(index, limit)| match cooldown == Some(index) {
        true => counting(limit, "a code"),
        false => self::limit(limit),
    };
    route.limits().iter().enumerate().map(told)
}

/// `by ip: at most 2 in any 1m, 3 in any 1h`
pub fn limit(limit: &Limit) -> String {
    counting(limit, "a failure")
}

fn counting(limit: &Limit, event: &str) -> String {
    let mut text = format!("by {}{}: ", limit.key, form(limit.key.form));
    match &limit.rule {
        Rule::Windows(windows) => {
            let each = windows.list().iter().map(|window| format!("{} in any {}", window.max, window.span));
            text.push_str("at most ");
            text.push_str(&each.collect::<Vec<_>>().join(", "));
        }
        Rule::Smooth(smooth) => text.push_str(&pace(smooth)),
        Rule::Failures(windows) => {
            let each = windows.list().iter().map(|window| format!("{} in any {}", window.max, window.span));
            text.push_str("at most ");
            text.push_str(&each.collect::<Vec<_>>().join(", "));
            text.push_str(" may fail");
        }
        Rule::Backoff(backoff) => text.push_str(&waits(backoff, event)),
    }
    for clause in clauses(limit) {
        text.push_str("; ");
        text.push_str(&clause);
    }
    text
}

/// `2 servers in turn (one:80 weight 3, two:443 by TLS as two.example); left out for 10s after 5 requests without an
/// answer`; nothing for one server of which there is nothing to say.
pub fn upstream(spec: &UpstreamSpec) -> Option<String> {
    let is_plain = |server: &ServerSpec| server.tls.is_none();
    if let ([server], None, Protocol::Http1) = (spec.servers.as_slice(), &spec.checks, spec.protocol)
        && is_plain(server)
    {
        return None;
    }
    let servers: Vec<String> = spec.servers.iter().map(server).collect();
    let how = match (spec.servers.len(), spec.balance) {
        (1, Balance::RoundRobin) => String::new(),
        (1, Balance::Consistent) => "by client: ".to_owned(),
        (count, Balance::RoundRobin) => format!("{count} servers in turn: "),
        (count, Balance::Consistent) => format!("{count} servers by client: "),
    };
    let mut text = format!("{how}{}", servers.join(", "));
    match spec.protocol {
        Protocol::Http1 => {}
        Protocol::Http2 => text.push_str("; HTTP/2"),
    }
    if let Some(CheckSpec { path, every, unhealthy_after, healthy_after, .. }) = &spec.checks {
        let failures = counted(*unhealthy_after, "failure");
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "; checked at {path} every {every}, down after {failures}, up after {healthy_after}"
        );
    }
    let requests = counted(spec.eject.after, "request");
    let _ = write!(text, "; left out for {} after {requests} without an answer", spec.eject.span);
    Some(text)
}

fn counted(count: u32, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn server(server: &ServerSpec) -> String {
    let mut text = server.to_string();
    if server.weight > 1 {
        let _ = write!(text, " weight {}", server.weight);
    }
    if let Some(tls) = &server.tls {
        let _ = write!(text, " by TLS as {}", tls.name);
        if tls.authorities.is_some() {
            text.push_str(" under its own authorities");
        }
    }
    text
}

fn form(form: Form) -> &'static str {
    match form {
        Form::Text => "",
        Form::Exact => " (exact)",
        Form::Email => " (e-mail)",
        Form::Phone => " (phone)",
    }
}

fn pace(smooth: &Smooth) -> String {
    let ns = smooth.replenish_one_ns;
    let mut text = format!("at most {} at once, then one every ", smooth.burst);
    // Writing to a String cannot fail.
    let _ = match ns {
        ns if ns.is_multiple_of(1_000_000) => write!(text, "{}", Span::from_millis(ns / 1_000_000)),
        ns if ns >= 1_000_000_000 => write!(text, "{:.3}s", ns as f64 / 1e9),
        ns => write!(text, "{:.3}ms", ns as f64 / 1e6),
    };
    text
}

/// `after a failure a wait of 1s, after each further one 2 times as long up to 2h, anew after 15m without`
fn waits(backoff: &Backoff, event: &str) -> String {
    let Backoff { base, factor_percent, max, forget } = backoff;
    let factor = f64::from(*factor_percent) / 100.0;
    format!(
        "after {event} a wait of {base}, after each further one {factor} times as long up to {max}, anew after {forget} without"
    )
}

fn clauses(limit: &Limit) -> Vec<String> {
    let mut clauses = Vec::new();
    if limit.cost.get() > 1 {
        clauses.push(format!("a request counts as {}", limit.cost));
    }
    if may_be_missing(&limit.key) {
        clauses.push(match limit.key.missing {
            Missing::Ip => "without it by ip".to_owned(),
            Missing::Skip => "without it not counted".to_owned(),
            Missing::Reject => "without it refused".to_owned(),
        });
    }
    if let Some(block) = limit.block {
        clauses.push(self::block(block));
    }
    if !limit.exempt.is_empty() {
        clauses.push("some addresses are exempt".to_owned());
    }
    match limit.mode {
        Mode::Enforce => {}
        Mode::Shadow => clauses.push("shadow: counted, never refused".to_owned()),
    }
    match limit.on_store_error {
        OnStoreError::Local => {}
        OnStoreError::Closed => clauses.push("refused while the store is away".to_owned()),
        OnStoreError::Open => clauses.push("not counted while the store is away".to_owned()),
    }
    clauses
}

fn may_be_missing(key: &KeySpec) -> bool {
    key.parts.iter().any(|part| match part {
        KeyPart::Ip | KeyPart::Network | KeyPart::User | KeyPart::Global | KeyPart::Phone => false,
        KeyPart::ClientCert
        | KeyPart::Header(_)
        | KeyPart::Cookie(_)
        | KeyPart::Query(_)
        | KeyPart::Path(_)
        | KeyPart::Body(_) => true,
    })
}

fn block(block: BlockRule) -> String {
    let BlockRule { span, factor_percent, max, forget, while_blocked } = block;
    let mut text = format!("then blocked for {span}");
    if max != span && factor_percent != 100 {
        let factor = f64::from(factor_percent) / 100.0;
        // Writing to a String cannot fail.
        let _ = write!(text, ", each time {factor} times as long up to {max}, anew after {forget} without");
    }
    match while_blocked {
        WhileBlocked::Stands => {}
        WhileBlocked::Prolongs => text.push_str(", and longer for each request meanwhile"),
    }
    text
}

/// `an answer of 401 or 403 is a failed attempt`
pub fn failed(rule: &FailureRule) -> String {
    let mut text = match &rule.statuses {
        Statuses::Any => "an answer".to_owned(),
        Statuses::Only(statuses) => {
            let codes: Vec<&str> = statuses.iter().map(StatusCode::as_str).collect();
            format!("an answer of {}", codes.join(" or "))
        }
    };
    for (index, Member { pointer, value }) in rule.members.iter().enumerate() {
        let joint = if index == 0 { " with" } else { " and" };
        // Writing to a String cannot fail.
        let _ = match value {
            Scalar::Null => write!(text, "{joint} {pointer} null"),
            Scalar::Bool(value) => write!(text, "{joint} {pointer} {value}"),
            Scalar::Number(number) => write!(text, "{joint} {pointer} {number}"),
            Scalar::Text(value) => write!(text, "{joint} {pointer} {value:?}"),
        };
    }
    text.push_str(" is a failed attempt");
    text
}

/// `by ip, past 20 in any 1h (otp_request 1, failure 1, limited 1) on every route; then blocked for 1d`
pub fn suspicion(rule: &Suspicion) -> String {
    let weights: Vec<(&str, &Limit)> =
        Suspect::ALL.into_iter().filter_map(|of| Some((of.word(), rule.limit(of)?))).collect();
    let told: Vec<String> = weights.iter().map(|(word, limit)| format!("{word} {}", limit.cost)).collect();
    let mut text = format!("by {}{}", rule.ban.key, form(rule.ban.key.form));
    if let Some((_, Limit { rule: Rule::Windows(windows), block: Some(block), exempt, .. })) = weights.first()
    {
        for window in windows.list() {
            // Writing to a String cannot fail.
            let _ = write!(text, ", past {} in any {}", window.max, window.span);
        }
        let _ = write!(text, " ({}); {} on every route", told.join(", "), self::block(*block));
        if !exempt.is_empty() {
            text.push_str("; some addresses are exempt");
        }
    }
    match rule.mode {
        Mode::Enforce => {}
        Mode::Shadow => text.push_str("; shadow: found, never blocked"),
    }
    text
}

/// `rejects body.email at any of 3 domains, or below one: 422 "Not here."`
pub fn rejection(rule: &RejectRule) -> String {
    let what = match &rule.condition {
        Condition::DomainIn(domains) => format!("at {}, or below one", any_of(domains, "domain")),
        Condition::ValueIn(values) => format!("that is {}", any_of(values, "value")),
        Condition::Matches(pattern) => format!("that matches {}", pattern.as_str()),
    };
    let field = KeyPart::Body(rule.field.clone());
    format!("rejects {field} {what}: {} {:?}", rule.status.as_u16(), rule.detail)
}

/// `any of 120000 domains (4 MiB)`; what little memory a short list takes is not told.
fn any_of(lists: &TextLists, what: &str) -> String {
    let plural = if lists.entries() == 1 { "" } else { "s" };
    let memory = match lists.bytes() >> 20 {
        0 => String::new(),
        mib => format!(" ({mib} MiB)"),
    };
    format!("any of {} {what}{plural}{memory}", lists.entries())
}
