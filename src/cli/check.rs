//! `tollgate check`: every mistake of a configuration at once, or what its routes allow.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use http::StatusCode;

use crate::config::{self, Config, Environment, RouteText};
use crate::decision::failure::{FailureRule, Member, Scalar, Statuses};
use crate::decision::key::{Form, KeyPart, KeySpec, Missing};
use crate::decision::limit::{Backoff, BlockRule, Limit, Mode, OnStoreError, Rule, Smooth, WhileBlocked};
use crate::decision::policy::Route;
use crate::decision::reject::{Condition, RejectRule, TextLists};
use crate::decision::suspicion::{Suspect, Suspicion};
use crate::decision::time::Span;

/// Whether a configuration can be run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Sound,
    Refused,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> ExitCode {
        match verdict {
            Verdict::Sound => ExitCode::SUCCESS,
            Verdict::Refused => ExitCode::FAILURE,
        }
    }
}

/// Tells on `out` what each route allows, or on `err` every mistake.
///
/// # Errors
/// Those of writing.
pub(super) fn check(
    path: &Path,
    environment: &Environment,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<Verdict> {
    match config::load(path, environment) {
        Err(refused) => {
            writeln!(err, "{refused}")?;
            Ok(Verdict::Refused)
        }
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(err, "warning: {warning}")?;
            }
            write!(out, "{}", summary(path, &loaded.config))?;
            Ok(Verdict::Sound)
        }
    }
}

fn summary(path: &Path, config: &Config) -> String {
    let routes = config.rules.routes();
    let plural = if routes.len() == 1 { "" } else { "s" };
    let mut text = format!("{} is sound: {} route{plural}\n", path.display(), routes.len());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "store: {}", config.store);
    for rule in &config.rules.suspicion {
        let _ = writeln!(text, "suspicion: {}", suspicion(rule));
    }
    for (route, written) in routes.iter().zip(&config.texts) {
        text.push('\n');
        text.push_str(&heading(route, written));
        text.push('\n');
        if route.limits().is_empty() {
            text.push_str("    no limit\n");
        }
        for limit in route.limits() {
            text.push_str("    ");
            text.push_str(&sentence(limit));
            text.push('\n');
        }
        for rule in route.rejects() {
            text.push_str("    ");
            text.push_str(&rejection(rule));
            text.push('\n');
        }
        if let Some(rule) = route.failure() {
            text.push_str("    ");
            text.push_str(&failed(rule));
            text.push('\n');
        }
    }
    text
}

/// `POST /api/auth/login → auth (login)`
fn heading(route: &Route, written: &RouteText) -> String {
    let host = written.host.as_deref().unwrap_or_default();
    format!("{} {host}{} → {} ({})", written.methods, written.path, written.upstream, route.name())
}

/// `by ip: at most 2 in any 1m, 3 in any 1h`
fn sentence(limit: &Limit) -> String {
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
        Rule::Backoff(backoff) => text.push_str(&waits(backoff)),
    }
    for clause in clauses(limit) {
        text.push_str("; ");
        text.push_str(&clause);
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
fn waits(backoff: &Backoff) -> String {
    let Backoff { base, factor_percent, max, forget } = backoff;
    let factor = f64::from(*factor_percent) / 100.0;
    format!(
        "after a failure a wait of {base}, after each further one {factor} times as long up to {max}, anew after {forget} without"
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
        KeyPart::Ip | KeyPart::Network | KeyPart::User | KeyPart::Global => false,
        KeyPart::Header(_) | KeyPart::Cookie(_) | KeyPart::Query(_) | KeyPart::Path(_) | KeyPart::Body(_) => {
            true
        }
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
fn failed(rule: &FailureRule) -> String {
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
fn suspicion(rule: &Suspicion) -> String {
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
fn rejection(rule: &RejectRule) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (Verdict, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verdict = check(&path, &Environment::empty(), &mut out, &mut err).unwrap();
        let bare = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(path.to_str().unwrap(), "gateway.yaml")
        };
        (verdict, bare(out), bare(err))
    }

    const HEAD: &str = "version: 1
listen: [{ address: 127.0.0.1:8080 }]
upstreams: { app: { servers: [127.0.0.1:8000] } }
";

    #[test]
    fn a_sound_configuration_is_told_in_plain_words() {
        let (verdict, out, err) = checked(&format!(
            "{HEAD}routes:
  - name: login
    match: {{ method: POST, host: a.example, path: /login }}
    upstream: app
    limits:
      - {{ key: ip, windows: {{ burst: 2/min, hourly: 3/hour }}, block: 15m }}
      - {{ key: [body.email, ip], as: email, windows: {{ daily: 10/day }}, mode: shadow, cost: 2 }}
      - {{ key: header.x-api-key, as: exact, missing: reject, smooth: {{ rate: 50/s, burst: 100 }} }}
      - {{ key: global, smooth: {{ rate: 7/min, burst: 1 }}, exempt: [192.0.2.1] }}
      - {{ key: query.q, missing: skip, windows: {{ w: 1/week }}, block: {{ for: 15m, factor: 1.5 }} }}
  - name: rest
    match: {{ path: /* }}
    upstream: app
    reject:
      - {{ field: body.email, domain_in: [a.example, b.example, A.example], detail: Not here. }}
      - {{ field: body.user.name, value_in: root }}
      - {{ field: body.name, matches: \"^test[0-9]\", status: 403 }}
"
        ));
        assert_eq!((verdict, err.as_str()), (Verdict::Sound, ""));
        let expected = "gateway.yaml is sound: 2 routes
store: memory, 1000000 keys

POST a.example/login → app (login)
    by ip: at most 2 in any 1m, 3 in any 1h; then blocked for 15m
    by body.email+ip (e-mail): at most 10 in any 1d; a request counts as 2; without it by ip; shadow: counted, never refused
    by header.x-api-key (exact): at most 100 at once, then one every 20ms; without it refused
    by global: at most 1 at once, then one every 8.571s; some addresses are exempt
    by query.q: at most 1 in any 7d; without it not counted; then blocked for 15m, each time 1.5 times as long up to 1d, anew after 1d without

any method /* → app (rest)
    no limit
    rejects body.email at any of 2 domains, or below one: 422 \"Not here.\"
    rejects body.user.name that is any of 1 value: 422 \"This value is not accepted.\"
    rejects body.name that matches ^test[0-9]: 403 \"This value is not accepted.\"
";
        assert_eq!(out, expected);
    }

    #[test]
    fn what_is_learnt_from_answers_is_told() {
        let (verdict, out, err) = checked(&format!(
            "{HEAD}routes:
  - name: login
    match: {{ method: POST, path: /login }}
    upstream: app
    limits:
      - {{ key: [body.username, ip], count: failures, backoff: {{ base: 1s, factor: 2, max: 2h, forget: 15m }} }}
      - {{ key: network, count: failures, windows: {{ attempts: 5/15m }}, block: {{ for: 30m, prolong: true }} }}
  - name: token
    match: {{ path: /token }}
    upstream: app
    failure: {{ status: 400, json: {{ /error: invalid_grant, /again: false, /left: 3, /why: null }} }}
    limits: [{{ key: ip, count: failures, windows: {{ a: 5/h }} }}]
suspicion: [{{ key: ip, weights: {{ failure: 2, otp_request: 0 }} }}, {{ key: user, mode: shadow, block: 1h }}]
"
        ));
        assert_eq!((verdict, err.as_str()), (Verdict::Sound, ""));
        let expected = "gateway.yaml is sound: 2 routes
store: memory, 1000000 keys
suspicion: by ip, past 20 in any 1h (failure 2, limited 1); then blocked for 1d on every route
suspicion: by user, past 20 in any 1h (otp_request 1, failure 1, limited 1); then blocked for 1h on every route; shadow: found, never blocked

POST /login → app (login)
    by body.username+ip: after a failure a wait of 1s, after each further one 2 times as long up to 2h, anew after 15m without; without it by ip
    by network: at most 5 in any 15m may fail; then blocked for 30m, each time 2 times as long up to 1d, anew after 1d without, and longer for each request meanwhile
    an answer of 401 or 403 is a failed attempt

any method /token → app (token)
    by ip: at most 5 in any 1h may fail
    an answer of 400 with /error \"invalid_grant\" and /again false and /left 3 and /why null is a failed attempt
";
        assert_eq!(out, expected);
    }

    #[test]
    fn the_store_is_told_without_credentials_and_what_limits_do_without_it() {
        let (verdict, out, err) = checked(&format!(
            "{HEAD}store:
  kind: redis
  url: [\"redis://ada:hunter2-hunter2-hunter2@10.0.0.1:7000\", \"redis://:hunter2@10.0.0.2:7000\", redis://10.0.0.3:7000]
  on_error: closed
routes:
  - name: all
    match: {{ path: /* }}
    upstream: app
    limits:
      - {{ key: ip, windows: {{ w: 1/s }} }}
      - {{ key: user, windows: {{ w: 1/s }}, on_store_error: local }}
      - {{ key: global, windows: {{ w: 1/s }}, on_store_error: open }}
user: {{ cookie: sid }}
"
        ));
        assert_eq!((verdict, err.as_str()), (Verdict::Sound, ""));
        let expected = "gateway.yaml is sound: 1 route
store: Redis cluster by 3 nodes, prefix tg:, 10ms

any method /* → app (all)
    by ip: at most 1 in any 1s; refused while the store is away
    by user: at most 1 in any 1s
    by global: at most 1 in any 1s; not counted while the store is away
";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_url_with_a_mistake_is_told_without_itself() {
        let (_, _, err) =
            checked(&format!("{HEAD}store: {{ kind: redis, url: \"redis://ada:hunter2@\" }}\nroutes: []\n"));
        assert!(err.contains("store.url: the URL has no host"), "{err}");
        assert!(!err.contains("hunter2") && !err.contains("ada"), "{err}");
    }

    #[test]
    fn a_broken_configuration_tells_each_mistake_with_its_line() {
        let (verdict, out, err) = checked(&format!(
            "{HEAD}routes:
  - {{ name: all, match: {{ pth: /* }}, upstream: ap }}
"
        ));
        assert_eq!((verdict, out.as_str()), (Verdict::Refused, ""));
        let expected = "\
gateway.yaml:5:27: routes[0].match.pth: unknown key `pth` in match
 5 |   - { name: all, match: { pth: /* }, upstream: ap }
   |                           ^^^ did you mean `path`?
gateway.yaml:5:48: routes[0].upstream: unknown upstream `ap`
 5 |   - { name: all, match: { pth: /* }, upstream: ap }
   |                                                ^^ did you mean `app`?
2 mistakes
";
        assert_eq!(err, expected);
    }

    #[test]
    fn warnings_do_not_refuse() {
        let (verdict, out, err) = checked(&format!(
            "{HEAD}routes: [{{ name: all, match: {{ path: /* }}, upstream: app }}]
policies: {{ unused: [{{ key: ip, windows: {{ w: 1/s }} }}] }}
"
        ));
        assert_eq!(verdict, Verdict::Sound);
        assert!(out.starts_with("gateway.yaml is sound: 1 route\n"), "{out}");
        assert!(
            err.starts_with("warning: gateway.yaml:5:13: policies.unused: policy `unused` is used"),
            "{err}"
        );
    }
}
