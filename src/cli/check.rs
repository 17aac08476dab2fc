//! `tollgate check`: every mistake of a configuration at once, or what its routes allow.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Config, Environment, RouteText};
use crate::decision::policy::{Route, Target};
use crate::decision::words;

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
    let _ = writeln!(text, "store: {}, data in {}", config.store, config.store.data_dir.display());
    for upstream in &config.upstreams {
        if let Some(told) = words::upstream(upstream) {
            let _ = writeln!(text, "upstream {}: {told}", upstream.name);
        }
    }
    for rule in &config.rules.suspicion {
        let _ = writeln!(text, "suspicion: {}", words::suspicion(rule));
    }
    if let Some(otp) = &config.otp {
        let _ = writeln!(text, "codes: {otp}");
        for provider in &otp.providers {
            let _ = writeln!(text, "codes are sent by {provider}");
        }
        for mailer in &otp.mailers {
            let _ = writeln!(text, "codes are mailed by {mailer}");
        }
    }
    for (route, written) in routes.iter().zip(&config.texts) {
        text.push('\n');
        text.push_str(&heading(route, written));
        text.push('\n');
        if route.limits().is_empty() {
            text.push_str("    no limit\n");
        }
        for limit in words::limits(route) {
            let _ = writeln!(text, "    {limit}");
        }
        for rule in route.rejects() {
            text.push_str("    ");
            text.push_str(&words::rejection(rule));
            text.push('\n');
        }
        if let (Target::Upstream(_), Some(rule)) = (route.target(), route.failure()) {
            text.push_str("    ");
            text.push_str(&words::failed(rule));
            text.push('\n');
        }
    }
    text
}

/// `POST /api/auth/login → auth (login)`
pub(super) fn heading(route: &Route, written: &RouteText) -> String {
    let host = written.host.as_deref().unwrap_or_default();
    format!("{} {host}{} → {} ({})", written.methods, written.path, written.upstream, route.name())
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
            let text = String::from_utf8(bytes).unwrap().replace(path.to_str().unwrap(), "gateway.yaml");
            text.replace(folder.path().to_str().unwrap(), ".")
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
store: memory, 1000000 keys, data in ./data

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
    fn upstreams_of_which_there_is_more_to_say_are_told() {
        let (verdict, out, err) = checked(
            "version: 1
listen: [{ address: 127.0.0.1:8080 }]
upstreams:
  plain: { servers: [127.0.0.1:8000] }
  app:
    servers: [10.0.0.1:80, { address: app.internal:443, weight: 3, tls: true }, { address: '[::1]:443', tls: true, sni: b.example }]
    health_check: { path: /healthz, unhealthy_after: 2 }
  sticky: { servers: [10.0.0.1:80, 10.0.0.2:80], balance: consistent, protocol: http2, eject: { after: 9, for: 1m } }
routes:
  - { name: a, match: { path: /a }, upstream: plain }
  - { name: b, match: { path: /b }, upstream: app }
  - { name: c, match: { path: /c }, upstream: sticky }
",
        );
        assert_eq!((verdict, err.as_str()), (Verdict::Sound, ""));
        let expected = "gateway.yaml is sound: 3 routes
store: memory, 1000000 keys, data in ./data
upstream app: 3 servers in turn: 10.0.0.1:80, app.internal:443 weight 3 by TLS as app.internal, [::1]:443 by TLS as b.example; \
checked at /healthz every 5s, down after 2 failures, up after 1; left out for 10s after 5 requests without an answer
upstream sticky: 2 servers by client: 10.0.0.1:80, 10.0.0.2:80; HTTP/2; left out for 1m after 9 requests without an answer
";
        assert!(out.starts_with(expected), "{out}");
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
store: memory, 1000000 keys, data in ./data
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
    fn routes_of_codes_and_who_sends_them_are_told_without_credentials() {
        let (verdict, out, err) = checked(&format!(
            "{HEAD}routes:
  - {{ name: send, match: {{ method: POST, path: /otp/send }}, otp: send }}
  - {{ name: verify, match: {{ method: POST, path: /otp/verify }}, otp: verify }}
otp: {{ cooldown: 30s, token: {{ secret: hunter2-hunter2-hunter2-hunter2-hunter2 }} }}
sms:
  providers:
    - {{ name: main, kind: twilio, account_sid: AC1, auth_token: hunter2, from: Example, cost: {{ default: 0.0075, daily_max: 50 }} }}
    - {{ name: spare, kind: vonage, enabled: false }}
email: {{ providers: [{{ name: post, kind: smtp, url: 'smtps://u:hunter2@mail.example', from: a@b.example, limits: {{ w: 9/s }} }}] }}
suspicion: [{{ key: ip }}]
"
        ));
        assert_eq!(verdict, Verdict::Sound);
        assert!(
            err.starts_with("warning: gateway.yaml:3:14: upstreams.app: upstream `app` is used"),
            "{err}"
        );
        let expected = "gateway.yaml is sound: 2 routes
store: memory, 1000000 keys, data in ./data
suspicion: by ip, past 20 in any 1h (otp_request 1, failure 1, limited 1); then blocked for 1d on every route
codes: 6 digits, good for 10m, 3 tries; signs of fraud are told; proofs by a shared secret (HS256)
codes are sent by main (twilio): at most 60 in any 1m, 1000 in any 1h, 10000 in any 1d; 0.0075 USD a segment, at most 50 USD a day
codes are mailed by post (smtp): at most 9 in any 1s

POST /otp/send → one-time codes: send (send)
    by phone: at most 3 in any 5m, 5 in any 1h, 10 in any 1d; then blocked for 15m; refused while the store is away
    by phone: after a code a wait of 30s, after each further one 2 times as long up to 15m, anew after 10m without; refused while the store is away

POST /otp/verify → one-time codes: verify (verify)
    by phone: at most 10 in any 1h may fail; refused while the store is away
";
        assert_eq!(out, expected);
        assert!(!err.contains("hunter2"), "{err}");
    }

    #[test]
    fn the_store_is_told_without_credentials_and_what_limits_do_without_it() {
        let (verdict, out, err) = checked(&format!(
            "{HEAD}store:
  kind: redis
  data_dir: /var/lib/tollgate
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
store: Redis cluster by 3 nodes, prefix tg:, 10ms, data in /var/lib/tollgate

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
