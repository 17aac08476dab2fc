//! What clients are told: limit headers, refusals, failures of the backend, across origins.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Nobody, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, START, seconds};

const ONE_A_MINUTE: &str = "limits: [{ key: ip, windows: { each: 1/min } }]";

const LEGACY: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
const IETF: [&str; 2] = ["ratelimit", "ratelimit-policy"];

fn one_route(responses: &str) -> String {
    format!("{responses}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: app, {ONE_A_MINUTE} }}]\n")
}

fn shown(answer: &Answer, names: &[&str]) -> usize {
    names.iter().filter(|name| answer.headers.get(name).is_some()).count()
}

/// A gateway whose upstream is these servers, with more keys of the upstream behind them.
async fn in_front_of(servers: &[SocketAddr], more: &str, rules: &str) -> Gateway {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let preamble = format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ app: {{ servers: [{}]{more} }} }}\n",
        servers.join(", ")
    );
    let (clock, _hand) = Clock::manual(START);
    Gateway::launch(&preamble, rules, clock).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_headers_come_in_the_families_that_are_asked_for() {
    for (headers, legacy, ietf) in [
        ("{}", 3, 2),
        ("{ legacy: false }", 0, 2),
        ("{ ietf: false }", 3, 0),
        ("{ legacy: false, ietf: false }", 0, 0),
    ] {
        let backend = Backend::ok().await;
        let rules = one_route(&format!("responses: {{ headers: {headers} }}"));
        let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;
        let mut client = gateway.client().await;
        for status in [200, 429] {
            let answer = client.request("GET", "/").send().await;
            assert_eq!(answer.status, status);
            assert_eq!(
                (shown(&answer, &LEGACY), shown(&answer, &IETF)),
                (legacy, ietf),
                "{headers} {status}"
            );
            assert_eq!(answer.headers.get("retry-after").is_some(), status == 429);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_is_a_time_or_a_wait() {
    for (reset, at_first, ten_seconds_later) in [("epoch", 1_800_000_060, 1_800_000_060), ("delta", 60, 50)] {
        let backend = Backend::ok().await;
        let rules = one_route(&format!("responses: {{ headers: {{ reset: {reset} }} }}"));
        let (gateway, clock) = Gateway::with_clock(&backend, &rules).await;
        let mut client = gateway.client().await;
        let first = client.request("GET", "/").send().await;
        assert_eq!(first.number("x-ratelimit-reset"), at_first);
        assert_eq!(first.headers.get("ratelimit"), Some("\"each\";r=0;t=60"));
        clock.advance(seconds(10));
        let refused = client.request("GET", "/").send().await;
        assert_eq!(refused.number("x-ratelimit-reset"), ten_seconds_later);
        assert_eq!(refused.headers.get("ratelimit"), Some("\"each\";r=0;t=50"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_head_has_the_headers_of_the_answer_and_no_body() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, &one_route("")).await;
    let mut client = gateway.client().await;
    assert_eq!(client.request("HEAD", "/").send().await.status, 200);
    let get = client.request("GET", "/").send().await;
    for _ in 0..3 {
        let head = client.request("HEAD", "/").send().await;
        assert_eq!((head.status, head.body.len()), (429, 0));
        assert_eq!(head.number("content-length"), get.body.len() as u64);
        assert_eq!(head.headers.get("content-type"), get.headers.get("content-type"));
    }
    // A byte of a body would stand in the way of this.
    assert_eq!(client.request("GET", "/").send().await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_worded_by_the_file_and_by_the_route() {
    const RULES: &str = r#"
responses:
  limited: { body: '{"wait": {{ retry_after }}}' }
routes:
  - { name: plain, match: { path: /plain }, upstream: app, limits: [{ key: ip, windows: { each: 1/min } }] }
  - name: page
    match: { path: /page }
    upstream: app
    limits: [{ key: ip, windows: { hourly: 3/hour, burst: 1/min } }]
    limited:
      status: 503
      content_type: text/html; charset=utf-8
      body: "<p>{{route}}: {{ limit }} per {{ window }}, wait {{retry_after}} s. {é}</p>"
  - { name: empty, match: { path: /empty }, upstream: app, limited: { body: "" }, limits: [{ key: ip, windows: { each: 1/min } }] }
  - { name: block, match: { path: /block }, upstream: app, limited: { body: "{{ window }}" }, limits: [{ key: ip, windows: { each: 1/min }, block: 1h }] }
"#;
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    for (target, status, content_type, body) in [
        ("/plain", 429, "application/json", "{\"wait\": 60}"),
        ("/page", 503, "text/html; charset=utf-8", "<p>page: 1 per burst, wait 60 s. {é}</p>"),
        ("/empty", 429, "application/json", ""),
        ("/block", 429, "application/json", "block"),
    ] {
        assert_eq!(client.request("GET", target).send().await.status, 200, "{target}");
        let refused = client.request("GET", target).send().await;
        assert_eq!((refused.status, refused.text()), (status, body), "{target}");
        assert_eq!(refused.headers.get("content-type"), Some(content_type), "{target}");
        assert_eq!(refused.number("content-length"), body.len() as u64, "{target}");
        assert_eq!(refused.headers.get_all("retry-after").len(), 1, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_listed_origins_can_read_a_refusal() {
    const ROUTES: &str = r#"
access: { deny: [127.0.0.3] }
routes:
  - { name: one, match: { path: /one }, upstream: app, limits: [{ key: ip, windows: { each: 1/min } }] }
"#;
    let app = "https://app.example.com";
    for (origins, origin, allowed, credentials, varies) in [
        ("[\"https://app.example.com\"]", Some(app), Some(app), true, true),
        ("[\"https://app.example.com\"]", Some("https://evil.example.com"), None, false, true),
        ("[\"https://app.example.com\"]", Some("https://app.example.com.evil.net"), None, false, true),
        ("[\"https://app.example.com\"]", Some("null"), None, false, true),
        ("[\"https://app.example.com\"]", None, None, false, true),
        ("[\"*\"]", Some(app), Some("*"), false, false),
        ("[\"*\"]", None, None, false, false),
        ("[]", Some(app), None, false, false),
    ] {
        let backend = Backend::ok().await;
        let rules = format!("responses: {{ cors: {{ origins: {origins} }} }}{ROUTES}");
        let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;
        for (local, target, status) in
            [(1, "/one", 200), (1, "/one", 429), (1, "/none", 404), (3, "/one", 403), (1, "/%", 400)]
        {
            let told = format!("{origins} {origin:?} {status}");
            let mut client = Client::connect_from([127, 0, 0, local].into(), gateway.address).await;
            let mut request = client.request("GET", target);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let answer = request.send().await;
            assert_eq!(answer.status, status, "{told}");
            let header = |name| answer.headers.get(name);
            if status == 200 {
                assert_eq!(header("access-control-allow-origin"), None, "the backend's answer is its own");
                continue;
            }
            assert_eq!(header("access-control-allow-origin"), allowed, "{told}");
            let trusted = header("access-control-allow-credentials");
            assert_eq!(trusted, credentials.then_some("true"), "{told}");
            let exposed = header("access-control-expose-headers");
            for name in ["retry-after", "ratelimit", "x-ratelimit-reset", "x-request-id"] {
                let is_named = |names: &str| names.split(", ").any(|named| named.eq_ignore_ascii_case(name));
                assert_eq!(exposed.is_some_and(is_named), allowed.is_some(), "{told}: {name}");
            }
            assert_eq!(header("vary"), varies.then_some("Origin"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_are_never_charged_and_nothing_else_passes_for_one() {
    const RULES: &str = r#"
routes:
  - { name: post, match: { method: POST, path: /post }, upstream: app, limits: [{ key: ip, windows: { each: 1/min } }, { key: body.email, windows: { each: 1/min } }] }
  - { name: else, match: { path: /else }, upstream: app, limits: [{ key: ip, windows: { each: 2/min } }] }
"#;
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    for _ in 0..4 {
        let request = client.request("OPTIONS", "/post").header("origin", "https://app.example.com");
        let answer = request.header("access-control-request-method", "POST").send().await;
        assert_eq!((answer.status, shown(&answer, &LEGACY)), (200, 0));
    }
    assert_eq!(backend.received()[3].method, "OPTIONS");
    let exempt = "tollgate_requests_total{route=\"post\",verdict=\"exempt\"}";
    assert_eq!(gateway.metric(exempt).await, 4.0);
    assert_eq!(client.request("POST", "/post").json("{}").send().await.status, 200);
    assert_eq!(client.request("POST", "/post").json("{}").send().await.status, 429);
    let request = client.request("OPTIONS", "/post").header("origin", "https://app.example.com");
    assert_eq!(request.header("access-control-request-method", "POST").send().await.status, 200);
    // A preflight for what no route takes finds none.
    let request = client.request("OPTIONS", "/post").header("origin", "https://app.example.com");
    assert_eq!(request.header("access-control-request-method", "GET").send().await.status, 404);

    for (method, headers, expected) in [
        ("OPTIONS", &[][..], 200),
        ("OPTIONS", &[("origin", "https://a.example.com")], 200),
        ("OPTIONS", &[("access-control-request-method", "GET")], 429),
        ("GET", &[("origin", "https://a.example.com"), ("access-control-request-method", "GET")], 429),
    ] {
        let mut request = client.request(method, "/else");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.status, expected, "{method} {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_says_of_its_own_limits_stays() {
    let backend = Backend::start(|_| {
        Reply::json(200, "{}").header("X-RateLimit-Limit", "77").header("RateLimit", "\"own\";r=1;t=2")
    })
    .await;
    let (gateway, _clock) = Gateway::with_clock(&backend, &one_route("")).await;
    let answer = gateway.client().await.request("GET", "/").send().await;
    assert_eq!(answer.headers.get_all("x-ratelimit-limit"), ["77"]);
    assert_eq!(answer.headers.get_all("ratelimit"), ["\"own\";r=1;t=2"]);
    assert_eq!(answer.headers.get_all("ratelimit-policy"), ["\"each\";q=1;w=60"]);

    // Whatever the backend answers carries the headers, and is otherwise its own.
    let (gateway, clock) = Gateway::with_clock(&backend, &one_route("")).await;
    for status in [204, 301, 304, 401, 404, 418, 429, 500, 503] {
        backend.answer_by(move |_| Reply::new(status).header("retry-after", "7").header("x-own", "1"));
        let answer = gateway.client().await.request("GET", "/").send().await;
        assert_eq!((answer.status, answer.headers.get("x-own")), (status, Some("1")));
        assert_eq!((shown(&answer, &LEGACY), shown(&answer, &IETF)), (3, 2), "{status}");
        assert_eq!(answer.headers.get_all("retry-after"), ["7"]);
        clock.advance(seconds(60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_merely_names_somebody_is_told_when_to_retry_and_no_more() {
    const RULES: &str = r#"
routes:
  - { name: body, match: { path: /body }, upstream: app, limits: [{ key: body.email, windows: { each: 1/min } }] }
  - { name: query, match: { path: /query }, upstream: app, limits: [{ key: query.email, windows: { each: 1/min } }] }
  - { name: path, match: { path: "/path/{email}" }, upstream: app, limits: [{ key: path.email, windows: { each: 1/min } }] }
  - { name: pair, match: { path: /pair }, upstream: app, limits: [{ key: [ip, query.email], windows: { each: 1/min } }] }
  - { name: quiet, match: { path: /quiet }, upstream: app, limits: [{ key: ip, windows: { each: 1/min }, headers: false }] }
  - { name: both, match: { path: /both }, upstream: app, limits: [{ key: body.email, windows: { each: 1/min } }, { key: ip, windows: { mine: 9/min } }] }
"#;
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    for target in
        ["/body", "/query?email=a@example.com", "/path/a@example.com", "/pair?email=a@example.com", "/quiet"]
    {
        for status in [200, 429] {
            let body = if target == "/body" { r#"{"email":"a@example.com"}"# } else { "{}" };
            let answer = client.request("POST", target).json(body).send().await;
            assert_eq!(answer.status, status, "{target}");
            assert_eq!((shown(&answer, &LEGACY), shown(&answer, &IETF)), (0, 0), "{target}");
            assert_eq!(answer.headers.get("retry-after"), (status == 429).then_some("60"), "{target}");
        }
    }
    for status in [200, 429] {
        let answer = client.request("POST", "/both").json(r#"{"email":"a@example.com"}"#).send().await;
        assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (status, 9));
        assert_eq!(answer.number("x-ratelimit-remaining"), 8, "a refusal costs nothing");
        assert_eq!(answer.headers.get("ratelimit-policy"), Some("\"mine\";q=9;w=60"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_a_route_is_not_found() {
    let backend = Backend::ok().await;
    let rules = format!(
        "routes: [{{ name: one, match: {{ method: GET, path: /one }}, upstream: app, {ONE_A_MINUTE} }}]\n"
    );
    let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;
    let mut client = gateway.client().await;
    for (method, target) in
        [("GET", "/"), ("GET", "/one/two"), ("POST", "/one"), ("OPTIONS", "/one"), ("GET", "/ones")]
    {
        let answer = client.request(method, target).send().await;
        assert_eq!(answer.status, 404, "{method} {target}");
        assert_eq!(answer.headers.get("content-type"), Some("application/json"));
        assert_eq!(answer.json(), serde_json::json!({ "detail": "Not found." }));
    }
    assert_eq!(backend.count(), 0);
    assert_eq!(gateway.metric("tollgate_requests_total{route=\"-\",verdict=\"no_route\"}").await, 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_away_is_a_502_with_limit_headers() {
    let nobody = Nobody::anywhere();
    let gateway = in_front_of(&[nobody.addr], "", &one_route("")).await;
    let answer = gateway.client().await.request("POST", "/").json("{}").send().await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json(), serde_json::json!({ "detail": "The backend could not be reached." }));
    assert_eq!(answer.headers.get("content-type"), Some("application/json"));
    assert_eq!((answer.number("x-ratelimit-remaining"), shown(&answer, &IETF)), (0, 2));
    // It was charged all the same: an attempt is an attempt.
    assert_eq!(gateway.client().await.request("GET", "/").send().await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_answer_is_a_504() {
    let backend = Backend::start(|_| Reply::stall()).await;
    let gateway = in_front_of(&[backend.addr()], ", read_timeout: 50ms", &one_route("")).await;
    let answer = gateway.client().await.request("POST", "/").json("{}").send().await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json(), serde_json::json!({ "detail": "The backend did not answer in time." }));
    assert_eq!(shown(&answer, &LEGACY), 3);
    assert_eq!(backend.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_reached_a_server_is_never_sent_again() {
    const RULES: &str = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";
    for method in ["POST", "GET", "PUT"] {
        let backend = Backend::start(|_| Reply::hang_up()).await;
        let gateway = in_front_of(&[backend.addr()], ", retries: 5", RULES).await;
        let mut client = gateway.client().await;
        let answer = client.request(method, "/fresh").body("once").send().await;
        assert_eq!((answer.status, backend.count()), (502, 1), "{method} on a fresh connection");

        backend.answer_by(|_| Reply::json(200, "{}"));
        let mut client = gateway.client().await;
        assert_eq!(client.request(method, "/warm").body("once").send().await.status, 200);
        backend.answer_by(|_| Reply::hang_up());
        let answer = client.request(method, "/reused").body("once").send().await;
        assert_eq!(answer.status, 502, "{method} on a used connection");
        let sent = backend.received().iter().filter(|received| received.target == "/reused").count();
        // Nobody can tell whether it was read before the connection went: a GET or PUT may be sent anew.
        assert!(sent == 1 || (sent == 2 && method != "POST"), "{method} on a used connection: {sent}");

        backend.answer_by(|_| Reply::json(200, &"x".repeat(1000)).half());
        let mut client = gateway.client().await;
        assert!(client.request(method, "/half").body("once").try_send().await.is_err(), "{method} cut short");
        let sent = backend.received().iter().filter(|received| received.target == "/half").count();
        assert_eq!(sent, 1, "{method} cut short");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_is_passed_over() {
    const RULES: &str = "routes: [{ name: all, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { each: 50/min } }] }]\n";
    let backend = Backend::ok().await;
    let nobody = Nobody::anywhere();
    let gateway = in_front_of(&[nobody.addr, backend.addr()], "", RULES).await;
    for nth in 1..=10 {
        let mut client = gateway.client().await;
        let answer = client.request("POST", "/").json("{}").send().await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, 50 - nth), "charged once");
    }
    assert_eq!(backend.count(), 10);

    let gateway = in_front_of(&[nobody.addr, backend.addr()], ", retries: 0", RULES).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(gateway.client().await.request("GET", "/").send().await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_take_turns() {
    const RULES: &str = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";
    let [one, two] = [Backend::ok().await, Backend::ok().await];
    let gateway = in_front_of(&[one.addr(), two.addr()], "", RULES).await;
    let mut client = gateway.client().await;
    for _ in 0..10 {
        assert_eq!(client.request("GET", "/").send().await.status, 200);
    }
    assert_eq!((one.count(), two.count()), (5, 5));
}

/// Head and body leave in one write: whatever is sent by one arrives in one read on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_one_write() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, &one_route("")).await;
    assert_eq!(gateway.client().await.request("GET", "/").send().await.status, 200);
    for _ in 0..20 {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut read = vec![0; 16 * 1024];
        let length = socket.read(&mut read).await.unwrap();
        let text = std::str::from_utf8(&read[..length]).unwrap();
        assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
        assert!(
            text.ends_with("{\"detail\": \"Request was throttled. Expected available in 60 seconds.\"}"),
            "{text}"
        );
    }
}
