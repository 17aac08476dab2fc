//! `tollgate explain`: told what the gateway would do, in the gateway's own words.

use std::path::Path;

use crate::harness::binary::Binary;
use crate::harness::process::Ended;

const CONFIG: &str = r#"version: 1
listen: [{ address: 127.0.0.1:8080 }]
upstreams: { app: { servers: [127.0.0.1:8000] }, api: { servers: [127.0.0.1:8001] } }
client_ip: { trusted_proxies: [10.0.0.0/8], ipv6_prefix: 64 }
access: { allow: [192.0.2.10], deny: [192.0.2.66] }
user: { cookie: sid }
routes:
  - name: login
    match: { method: POST, path: /api/login }
    upstream: app
    limits:
      - { key: ip, windows: { burst: 2/min }, exempt: [192.0.2.20] }
      - { key: [body.email, ip], as: email, windows: { daily: 10/day }, cost: 2 }
      - { key: header.x-device, missing: skip, windows: { w: 1/day }, mode: shadow }
    reject:
      - { field: body.email, domain_in: [bad.example], detail: Not from there. }
  - { name: mine, match: { path: /mine }, upstream: app, limits: [{ key: user, windows: { w: 9/hour } }] }
  - { name: api, match: { path: /api/* }, upstream: api }
  - { name: shop, match: { host: shop.example, path: /* }, upstream: api }
  - { name: send, match: { method: POST, path: /otp/send }, otp: send }
otp: { token: { secret: hunter2-hunter2-hunter2-hunter2-hunter2 } }
sms: { providers: [{ name: main, kind: console }] }
"#;

async fn run(folder: &Path, arguments: &[&str]) -> Ended {
    std::fs::write(folder.join("gateway.yaml"), CONFIG).unwrap();
    Binary::run(folder, &[&["explain"], arguments].concat()).await
}

/// What is told of a request.
async fn told(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), arguments).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["gateway.yaml"], "nothing is left behind");
    ended.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_told_from_its_client_to_its_answer() {
    let arguments =
        ["post", "/API//login?x=1", "--ip", "203.0.113.9", "--body", r#"{"email":"Ada@Example.com"}"#];
    let expected = "\
client   203.0.113.9
path     /API/login
route    POST /api/login → app (login)
         not any method /api/* → api (api): it matches too, but its path is less specific
         not any method shop.example/* → api (shop): another host
         nor 2 others
user     nobody that is proven
limits   by ip: at most 2 in any 1m; some addresses are exempt
           counts it for 203.0.113.9
         by body.email+ip (e-mail): at most 10 in any 1d; a request counts as 2; without it by ip
           counts it as 2 for a***@example.com+203.0.113.9
         by header.x-device: at most 1 in any 1d; without it not counted; shadow: counted, never refused
           does not count it: it has no header.x-device
rejects  rejects body.email at any of 1 domain, or below one: 422 \"Not from there.\": it does not
answer   admitted: it goes on to app
         as if nobody had been counted or blocked before; `tollgate blocks list` tells who is blocked
";
    assert_eq!(told(&arguments).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_is_told_in_the_words_that_a_client_gets() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["GET", "/mine", "--ip", "192.0.2.66"],
            &["on access.deny", "refused with 403: \"Access from this address is denied.\""],
        ),
        (
            &["GET", "/mine", "--ip", "192.0.2.10"],
            &["on access.allow", "no limit does", "counted by nobody: it goes on to app"],
        ),
        (&["GET", "/nowhere"], &["route    none matches", "refused with 404: \"Not found.\""]),
        (&["GET", "/a%zz"], &["refused before one was looked for", "refused with 400", "hexadecimal"]),
        (
            &["GET", "/api/login"],
            &["any method /api/* → api (api)", "POST /api/login → app (login): another method"],
        ),
        (&["POST", "/api/login", "--ip", "192.0.2.20"], &["192.0.2.20 is exempt"]),
        (
            &["POST", "/api/login", "--body", "email=eve@mx.bad.example"],
            &["refused with 422: \"Not from there.\"", ": it does\n"],
        ),
        (
            &["POST", "/api/login", "--body", "{"],
            &["is not asked: the request is refused before", "refused with 400"],
        ),
        (&["POST", "/api/login", "--body", "x", "--content-type", "text/plain"], &["refused with 415"]),
        (&["GET", "/mine", "--cookie", "sid=hunter2"], &["user     ", "counts it for"]),
        (&["GET", "/x", "--host", "shop.example:443"], &["any method shop.example/* → api (shop)\n"]),
        (
            &["GET", "/mine", "--ip", "10.1.2.3", "--header", "X-Forwarded-For: 198.51.100.7"],
            &["198.51.100.7, as the trusted proxy 10.1.2.3 says"],
        ),
        (&["GET", "/mine", "--ip", "2001:db8::7"], &["2001:db8::7, counted as 2001:db8::/64"]),
        (
            &[
                "OPTIONS",
                "/api/login",
                "--header",
                "origin: https://a.example",
                "--header",
                "access-control-request-method: POST",
            ],
            &["which this CORS preflight asks about with POST", "counted by nobody"],
        ),
        (&["POST", "/otp/send", "--body", r#"{"phone":"12"}"#], &["one-time codes: send", "(code "]),
        (
            &["POST", "/otp/send", "--body", r#"{"phone":"+41791234567"}"#],
            &["counts it for ***4567", "the gateway answers it itself (one-time codes: send)"],
        ),
    ];
    for (arguments, expected) in cases {
        let text = told(arguments).await;
        for part in *expected {
            assert!(text.contains(part), "{arguments:?} does not tell {part:?}:\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_are_shown_in_full_to_who_asks_for_it_and_steer_nothing() {
    let body = r#"{"email":"ada@example.com"}"#;
    let text = told(&["POST", "/api/login", "--body", body]).await;
    assert!(text.contains("a***@example.com") && !text.contains("ada@"), "{text}");
    let text = told(&["POST", "/api/login", "--body", body, "--show"]).await;
    assert!(text.contains("ada@example.com"), "{text}");
    let text = told(&["GET", "/api/x", "--header", "x-device: a\u{202e}b"]).await;
    assert!(!text.contains('\u{202e}'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_or_no_configuration_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["G T", "/"], "is no method"),
        (&["GET", "/", "--header", "nonsense"], "is not NAME: VALUE"),
        (&["GET", "/", "--config", "absent.yaml"], "cannot read the configuration"),
    ];
    for (arguments, expected) in cases {
        let ended = run(folder.path(), arguments).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(ended.stderr.contains(expected), "{arguments:?}: {}", ended.stderr);
    }
}
