//! No spelling of a path or method slips past a limit: if the backend would serve it, the limit saw it.

use std::collections::BTreeSet;

use crate::harness::backend::Backend;
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::Gateway;

/// The size of its window tells by which route an answer was counted.
const LOGIN: u64 = 50_000;
const ELSE: u64 = 60_000;

const RULES: &str = r#"
routes:
  - { name: login, match: { path: /api/login }, upstream: app, limits: [{ key: ip, windows: { login: 50000/hour } }] }
  - { name: else, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { else: 60000/hour } }] }
"#;

/// What becomes of a spelling.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Counted by the limited route; the backend gets this target.
    Login(&'static str),
    /// Counted by the route for all the rest; the backend gets this target.
    Else(&'static str),
    /// 400, and the backend gets nothing.
    Refused,
}
use Fate::{Else, Login, Refused};

const SPELLINGS: &[(&str, Fate)] = &[
    ("/api/login", Login("/api/login")),
    // Trailing slash and letter case.
    ("/api/login/", Login("/api/login/")),
    ("/API/LOGIN", Login("/API/LOGIN")),
    ("/Api/lOgin/", Login("/Api/lOgin/")),
    ("/api/log%C4%B1n", Login("/api/log%C4%B1n")),
    // Empty segments and dots.
    ("//api/login", Login("/api/login")),
    ("/api//login", Login("/api/login")),
    ("///api///login///", Login("/api/login/")),
    ("/./api/./login", Login("/api/login")),
    ("/api/login/.", Login("/api/login/")),
    ("/api/x/../login", Login("/api/login")),
    ("/x/../api/login", Login("/api/login")),
    ("/../../api/login", Login("/api/login")),
    ("/api/login/x/..", Login("/api/login/")),
    ("/api//../api/login", Login("/api/login")),
    ("/api/login/../login", Login("/api/login")),
    ("/api/login/..", Else("/api/")),
    ("/api/login...", Else("/api/login...")),
    ("/api/.../login", Else("/api/.../login")),
    ("/", Else("/")),
    ("/..", Else("/")),
    // Encoded once.
    ("/%61pi/login", Login("/api/login")),
    ("/api/%6Cogin", Login("/api/login")),
    ("/api/%6c%6f%67%69%6e", Login("/api/login")),
    ("/%41PI/login", Login("/API/login")),
    ("/%2e/api/login", Login("/api/login")),
    ("/api/%2E%2e/api/login", Login("/api/login")),
    ("/api/x/.%2e/login", Login("/api/login")),
    ("/%2e%2e/%61%70%69/login", Login("/api/login")),
    ("/api/login/%2e", Login("/api/login/")),
    ("/api/login%2e", Else("/api/login.")),
    ("/api/log%69n%7e", Else("/api/login~")),
    ("/api/log!n", Else("/api/log!n")),
    ("/api/log%21n", Else("/api/log%21n")),
    // Encoded slash, backslash, NUL and semicolon.
    ("/api%2Flogin", Refused),
    ("/api%2flogin", Refused),
    ("/api/%2Flogin", Refused),
    ("/api/login%2F", Refused),
    ("/api/x%2F..%2Flogin", Refused),
    ("/%2e%2e%2fapi/login", Refused),
    ("/api%5Clogin", Refused),
    ("/api%5clogin", Refused),
    ("/x/..%5c..%5capi/login", Refused),
    ("/api/login%00", Refused),
    ("/api/login%00.js", Refused),
    ("/..%00/api/login", Refused),
    ("/api/login%3bx", Refused),
    ("/api/login%3Bjsessionid=1", Refused),
    ("/api/x/..%3b/login", Refused),
    // Raw backslashes, spaces, tabs and what else is no path.
    ("/api\\login", Refused),
    ("/api/..\\api/login", Refused),
    ("/api/login\t", Refused),
    ("/api/login%09", Refused),
    ("/api/login%0d%0ax", Refused),
    ("/api/login%7f", Refused),
    ("/api/log in", Refused),
    ("/api/login%20", Else("/api/login%20")),
    ("/api/<login>", Refused),
    ("/api/login*", Else("/api/login*")),
    // Encoded twice, or not at all.
    ("/api%252Flogin", Else("/api%252Flogin")),
    ("/api/%256cogin", Else("/api/%256cogin")),
    ("/%252e%252e/api/login", Else("/%252e%252e/api/login")),
    ("/api/login%25", Else("/api/login%25")),
    ("/api/login%", Refused),
    ("/api/login%2", Refused),
    ("/api/%zzlogin", Refused),
    ("/api%u002flogin", Refused),
    ("/%u0061pi/login", Refused),
    // Overlong and broken UTF-8.
    ("/api%c0%aflogin", Refused),
    ("/%c1%a1pi/login", Refused),
    ("/api%e0%80%aflogin", Refused),
    ("/api/login%ff", Refused),
    ("/api/login%ed%a0%80", Refused),
    ("/api%ef%bc%8flogin", Else("/api%EF%BC%8Flogin")),
    ("/api/login\u{e9}", Else("/api/login%C3%A9")),
    ("/api/login%c3%a9", Else("/api/login%C3%A9")),
    // Parameters.
    ("/api/login;jsessionid=1", Login("/api/login")),
    ("/api;v=1/login", Login("/api/login")),
    ("/api/login;", Login("/api/login")),
    ("/;x/api/login", Login("/api/login")),
    ("/api/login/;x", Login("/api/login/")),
    ("/api/..;/api/login", Login("/api/login")),
    ("/api/x/..;a=b/login", Login("/api/login")),
    ("/api/.;/login", Login("/api/login")),
    ("/api/%2e%2e;/api/login", Login("/api/login")),
    ("/api/login;%2e%2e/", Login("/api/login/")),
    ("/api/login;%2Fx", Login("/api/login")),
    // Queries and fragments.
    ("/api/login?", Login("/api/login?")),
    ("/api/login?x=1&y=%2F", Login("/api/login?x=1&y=%2F")),
    ("/api/login??x", Login("/api/login??x")),
    ("//api/login?/../../x", Login("/api/login?/../../x")),
    ("/api/login;a?b;c", Login("/api/login?b;c")),
    ("/x?/api/login", Else("/x?/api/login")),
    ("/x/..?/api/login", Else("/?/api/login")),
    ("/api/login#fragment", Login("/api/login")),
    ("/api/login?x#fragment", Login("/api/login?x")),
    ("/#/api/login", Else("/")),
    ("/api/login%23", Else("/api/login%23")),
    ("/api/login%3F", Else("/api/login%3F")),
    // Other forms of a target.
    ("http://host/api/login", Login("/api/login")),
    ("HTTP://host/API//login", Login("/API/login")),
    ("http://host/x/../api/login?q", Login("/api/login?q")),
    ("http://host/%61pi/login", Login("/api/login")),
    ("http://host", Else("/")),
    ("http://host?x", Else("/?x")),
    ("http://other/api/login", Refused),
    ("http://a@host/api/login", Refused),
    ("//host/api/login", Else("/host/api/login")),
    ("*", Refused),
];

/// Targets that are no target: refused, or counted as what the backend gets.
const ODDITIES: &[&[u8]] = &[
    b"api/login",
    b"\\api\\login",
    b"http:/api/login",
    b"http:api/login",
    b"http:///api/login",
    b"foo:/api/login",
    b"foo:bar://host/api/login",
    b"foo://host/api/login",
    b"http://host\\api/login",
    b"http://host:80/api/login",
    b"host/api/login",
    b"?x=1",
    b"?/api/login",
    b"#/api/login",
    b".",
    b"../api/login",
    b"*/api/login",
    b"/api/login\xff",
    b"/api/login?\xff",
    b"/api/login\xc0\xaf",
    b"/api/login \t",
    b"/api/login HTTP/1.1",
    b"\x7f/api/login",
];

struct Stage {
    backend: Backend,
    gateway: Gateway,
}

impl Stage {
    async fn set(rules: &str) -> Stage {
        let backend = Backend::ok().await;
        let (gateway, _clock) = Gateway::with_clock(&backend, rules).await;
        Stage { backend, gateway }
    }

    /// Sends exactly this request line on a connection of its own; the answer, and the request that the
    /// backend got for it.
    async fn ask(&self, method: &str, target: &[u8]) -> (Answer, Option<(String, String)>) {
        let before = self.backend.count();
        let mut client = self.gateway.client().await;
        let line = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: host\r\n\r\n"].concat();
        client.send_raw(&line).await;
        let method = method.to_ascii_uppercase();
        let answer = client.answer_to(&method).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", line.escape_ascii()));
        let mut got = self.backend.received().split_off(before);
        assert!(got.len() <= 1, "{} reached the backend as {} requests", line.escape_ascii(), got.len());
        (answer, got.pop().map(|received| (received.method, received.target)))
    }
}

/// What an obliging backend may take a target for: it decodes once, before or after it looks for
/// parameters, and knows no letter case, no empty segments and no trailing slash.
fn served(target: &str) -> BTreeSet<String> {
    let path = match target.split_once("://") {
        Some((_, after)) => after.find('/').map_or("/", |slash| &after[slash..]),
        None if target.starts_with('/') => target,
        None => target.split_once(':').map_or(target, |(_, after)| after),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let bare: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
    [resolved(&decoded(path)), resolved(&decoded(&bare.join("/")))].into()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).replace('\\', "/").split('\0').next().unwrap().to_owned()
}

fn resolved(path: &str) -> String {
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/').map(|segment| segment.split(';').next().unwrap()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name.to_lowercase()),
        }
    }
    format!("/{}", segments.join("/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_backend_would_serve_was_counted() {
    assert!(SPELLINGS.len() >= 60, "{}", SPELLINGS.len());
    let stage = Stage::set(RULES).await;
    let (mut logins, mut others) = (0, 0);
    for method in ["GET", "POST", "HEAD", "DELETE", "post"] {
        for &(spelling, fate) in SPELLINGS {
            let told = format!("{method} {spelling:?}");
            let (answer, got) = stage.ask(method, spelling.as_bytes()).await;
            let (limit, target, counted) = match fate {
                Login(target) => (LOGIN, target, &mut logins),
                Else(target) => (ELSE, target, &mut others),
                Refused => {
                    assert_eq!((answer.status, got), (400, None), "{told}");
                    continue;
                }
            };
            *counted += 1;
            assert_eq!(answer.status, 200, "{told}");
            assert_eq!(got, Some((method.to_uppercase(), target.to_owned())), "{told}");
            assert_eq!(answer.number("x-ratelimit-limit"), limit, "{told}");
            assert_eq!(answer.number("x-ratelimit-remaining"), limit - *counted, "{told}");
            // The table itself must not call harmless what a lenient backend takes for the login.
            assert!(limit == LOGIN || !served(target).contains("/api/login"), "{told}: {:?}", served(target));
        }
    }
    for (route, count) in [("login", logins), ("else", others)] {
        let series = format!("tollgate_requests_total{{route=\"{route}\",verdict=\"admitted\"}}");
        assert_eq!(stage.gateway.metric(&series).await, count as f64, "{route}");
    }
    assert_eq!(stage.backend.broken(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_target_is_refused_or_counted_as_what_the_backend_gets() {
    let stage = Stage::set(RULES).await;
    for &oddity in ODDITIES {
        for method in ["GET", "POST"] {
            let told = format!("{method} {}", oddity.escape_ascii());
            let (answer, got) = stage.ask(method, oddity).await;
            let Some((_, target)) = got else {
                assert_eq!(answer.status, 400, "{told}");
                continue;
            };
            let as_login = answer.number("x-ratelimit-limit") == LOGIN;
            assert!(target.starts_with('/'), "{told} reached the backend as {target:?}");
            assert_eq!(served(&target).contains("/api/login"), as_login, "{told}: {target:?}");
        }
    }
    assert_eq!(stage.backend.broken(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_and_winding_paths_are_refused_or_counted() {
    let stage = Stage::set(RULES).await;
    let winding = format!("{}/api/login", "/x/..".repeat(1000));
    let (answer, got) = stage.ask("GET", winding.as_bytes()).await;
    assert_eq!((answer.status, got.unwrap().1.as_str()), (200, "/api/login"));
    assert_eq!(answer.number("x-ratelimit-limit"), LOGIN);

    let longest = format!("/{}", "a".repeat(8 * 1024 - 1));
    let (answer, got) = stage.ask("GET", longest.as_bytes()).await;
    assert_eq!((answer.status, got.map(|(_, target)| target.len())), (200, Some(8 * 1024)));

    for too_long in [format!("{longest}a"), format!("{}/api/login", "/.".repeat(8000))] {
        let (answer, got) = stage.ask("GET", too_long.as_bytes()).await;
        assert_eq!((answer.status, got), (414, None), "{} bytes", too_long.len());
    }

    // Deeper than any route looks.
    let deep = format!("/api/login{}", "/x".repeat(200));
    let (answer, _) = stage.ask("GET", deep.as_bytes()).await;
    assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (200, ELSE));
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_can_tell_slashes_cases_and_encoded_characters_apart() {
    const RULES: &str = r#"
routes:
  - { name: slash, match: { path: /strict/ }, strict_slash: true, upstream: app, limits: [{ key: ip, windows: { w: 1001/hour } }] }
  - { name: bare, match: { path: /bare }, strict_slash: true, upstream: app, limits: [{ key: ip, windows: { w: 1002/hour } }] }
  - { name: case, match: { path: /Case/x }, case_sensitive: true, upstream: app, limits: [{ key: ip, windows: { w: 1003/hour } }] }
  - { name: files, match: { path: "/files/{name}" }, allow_encoded: [slash, backslash, nul, semicolon], upstream: app, limits: [{ key: ip, windows: { w: 1004/hour } }] }
  - { name: some, match: { path: "/some/{name}" }, allow_encoded: [slash], upstream: app, limits: [{ key: ip, windows: { w: 1005/hour } }] }
  - { name: else, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1009/hour } }] }
"#;
    let stage = Stage::set(RULES).await;
    for (target, limit, forwarded) in [
        ("/strict/", 1001, "/strict/"),
        ("/STRICT//", 1001, "/STRICT/"),
        ("/strict/.", 1001, "/strict/"),
        ("/strict", 1009, "/strict"),
        ("/bare", 1002, "/bare"),
        ("/bare;x", 1002, "/bare"),
        ("/bare/", 1009, "/bare/"),
        ("/bare/;", 1009, "/bare/"),
        ("/Case/x", 1003, "/Case/x"),
        ("/%43ase/x/", 1003, "/Case/x/"),
        ("/case/x", 1009, "/case/x"),
        ("/Case/X", 1009, "/Case/X"),
        ("/files/a%2fb", 1004, "/files/a%2Fb"),
        ("/files/a%5cb%00c%3bd", 1004, "/files/a%5Cb%00c%3Bd"),
        ("/files/a%2f", 1004, "/files/a%2F"),
        ("/some/a%2Fb", 1005, "/some/a%2Fb"),
    ] {
        let (answer, got) = stage.ask("GET", target.as_bytes()).await;
        assert_eq!(got.map(|(_, target)| target).as_deref(), Some(forwarded), "{target}");
        assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (200, limit), "{target}");
    }
    for target in [
        "/files/a%2f..%2fb",
        "/files/..%2fstrict",
        "/files/%2e%2e%5cstrict",
        "/files/..%00",
        "/files/..%3bx",
        "/some/a%5Cb",
        "/some/a%00",
        "/some/a%3B",
        "/else%2F",
    ] {
        let (answer, got) = stage.ask("GET", target.as_bytes()).await;
        assert_eq!((answer.status, got), (400, None), "{target}");
        assert!(answer.json()["detail"].is_string(), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_is_counted_in_every_spelling() {
    const RULES: &str = r#"
routes:
  - { name: post, match: { method: POST, path: /login }, upstream: app, limits: [{ key: ip, windows: { w: 1001/hour } }] }
  - { name: get, match: { method: GET, path: /login }, upstream: app, limits: [{ key: ip, windows: { w: 1002/hour } }] }
  - { name: else, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1009/hour } }] }
  - { name: only, match: { method: [PUT, PATCH], path: /only, host: only.example.com }, upstream: app, limits: [{ key: ip, windows: { w: 1003/hour } }] }
"#;
    let stage = Stage::set(RULES).await;
    for (method, limit) in [
        ("POST", 1001),
        ("post", 1001),
        ("PoSt", 1001),
        ("GET", 1002),
        ("get", 1002),
        // Backends answer HEAD by their GET.
        ("HEAD", 1002),
        ("head", 1002),
        ("PUT", 1009),
        ("OPTIONS", 1009),
        ("PROPFIND", 1009),
        ("X-POST", 1009),
    ] {
        let (answer, got) = stage.ask(method, b"/login").await;
        assert_eq!(got, Some((method.to_uppercase(), "/login".to_owned())), "{method}");
        assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (200, limit), "{method}");
    }
    for method in ["CONNECT", "connect"] {
        let (answer, got) = stage.ask(method, b"host:443").await;
        assert!(matches!(answer.status, 400 | 405), "{method}: {}", answer.status);
        assert_eq!(got, None, "{method}");
    }
    // The older version of the protocol is counted as well.
    let mut client = Client::connect(stage.gateway.address).await;
    client.send_raw(b"POST /login HTTP/1.0\r\nHost: host\r\n\r\n").await;
    let answer = client.answer_to("POST").await.unwrap();
    assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (200, 1001));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_counted_in_every_spelling_and_the_rest_is_not_found() {
    const RULES: &str = r#"
routes:
  - { name: api, match: { host: api.example.com, path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1001/hour } }] }
  - { name: any, match: { host: "*.example.com", path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1002/hour } }] }
"#;
    let stage = Stage::set(RULES).await;
    for (host, limit) in [
        ("api.example.com", 1001),
        ("API.Example.COM", 1001),
        ("api.example.com:8080", 1001),
        ("api.example.com.", 1001),
        ("www.example.com", 1002),
        ("a.api.example.com", 1002),
    ] {
        let mut client = stage.gateway.client().await;
        let answer = client.request("GET", "/x").header("host", host).send().await;
        assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (200, limit), "{host}");
    }
    for host in ["example.com", "example.com.evil.net", "xexample.com", "127.0.0.1"] {
        let mut client = stage.gateway.client().await;
        let answer = client.request("GET", "/x").header("host", host).send().await;
        assert_eq!(answer.status, 404, "{host}");
        assert_eq!(answer.json(), serde_json::json!({ "detail": "Not found." }));
    }
    // Two hosts are none.
    let mut client = stage.gateway.client().await;
    client.send_raw(b"GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: www.example.com\r\n\r\n").await;
    assert_eq!(client.answer_to("GET").await.unwrap().status, 400);
    assert_eq!(stage.backend.count(), 6);
}
