//! Who is refused again on the same connection hears what he would hear on another, and whoever is not refused any more
//! is none the worse for having been.

use std::time::Duration;

use crate::harness::backend::Backend;
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, START, preamble, seconds};

use tollgate::clock::Clock;

const RULES: &str = r#"
responses:
  cors: { origins: ["https://app.example.com"] }
  limited: { body: '{"wait": {{ retry_after }}, "window": "{{ window }}"}' }
client_ip: { trusted_proxies: [127.0.0.1] }
routes:
  - { name: ip, match: { path: /ip }, upstream: app, limits: [{ key: ip, windows: { each: 1/min, all: 5/hour } }] }
  - { name: block, match: { path: /block }, upstream: app, limits: [{ key: ip, windows: { each: 1/min }, block: 10m }] }
  - { name: longer, match: { path: /longer }, upstream: app, limits: [{ key: ip, windows: { each: 1/min }, block: { for: 10m, prolong: true } }] }
  - { name: email, match: { path: /email }, upstream: app, limits: [{ key: body.email, as: email, windows: { each: 1/min } }] }
  - { name: query, match: { path: /query }, upstream: app, limits: [{ key: query.q, windows: { each: 1/min } }] }
  - { name: header, match: { path: /header }, upstream: app, limits: [{ key: header.x-device, windows: { each: 1/min } }] }
  - { name: all, match: { path: /* }, upstream: app }
"#;
const CLIENT: [u8; 4] = [127, 0, 0, 66];

struct Stage {
    backend: Backend,
    gateway: Gateway,
    clock: tollgate::clock::ManualClock,
}

impl Stage {
    async fn set() -> Stage {
        let backend = Backend::ok().await;
        let (gateway, clock) = Gateway::with_clock(&backend, RULES).await;
        Stage { backend, gateway, clock }
    }

    async fn client(&self) -> Client {
        Client::connect_from(CLIENT.into(), self.gateway.address).await
    }
}

/// One request in the ways that matter here: method, target, fields, body.
type Asked<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

async fn ask(client: &mut Client, (method, target, fields, body): Asked<'_>) -> Answer {
    let mut request = client.request(method, target);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    if !body.is_empty() {
        request = request.body(body);
    }
    request.send().await
}

/// All that an answer says, but its number and its date.
fn said(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let told = |name: &str| !matches!(name, "x-request-id" | "date");
    let fields = answer
        .headers
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| told(name)).collect();
    fields.sort();
    assert_eq!(answer.headers.get_all("x-request-id").len(), 1);
    assert_eq!(answer.headers.get_all("date").len(), 1);
    (answer.status, fields, answer.text().to_owned())
}

const REFUSED: [Asked<'static>; 10] = [
    ("GET", "/ip?a=b", &[("User-Agent", "x"), ("X-Request-Id", "mine"), ("Traceparent", "mine")], ""),
    ("HEAD", "/ip", &[], ""),
    ("post", "/ip", &[("Origin", "https://app.example.com")], "a=b"),
    ("GET", "//ip/../ip", &[("Origin", "https://other.example.com")], ""),
    ("GET", "/block", &[], ""),
    ("GET", "/longer", &[], ""),
    ("POST", "/email", &[("Content-Type", "application/json")], r#"{"email": "Ada@Example.com"}"#),
    ("POST", "/email", &[("Content-Type", "application/x-www-form-urlencoded")], "email=ada%40example.com"),
    ("GET", "/query?q=%61", &[], ""),
    ("GET", "/header", &[("X-Device", "d1")], ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_the_same_on_the_doorstep_and_behind_it() {
    for asked in REFUSED {
        let stage = Stage::set().await;
        let mut before = stage.client().await;
        // The first one is admitted; what a preceding row left over is of no account, each has a gateway of its own.
        assert_eq!(ask(&mut before, asked).await.status, 200, "{asked:?}");
        // The second may begin a block, and tell more of it than those that come after.
        assert_eq!(ask(&mut stage.client().await, asked).await.status, 429, "{asked:?}");
        let mut kept = stage.client().await;
        let behind = ask(&mut kept, asked).await;
        for _ in 0..3 {
            let on_it = ask(&mut kept, asked).await;
            assert_eq!((said(&on_it), on_it.connection_closed), (said(&behind), false), "{asked:?}");
        }
        let other = ask(&mut stage.client().await, asked).await;
        assert_eq!(said(&other), said(&behind), "{asked:?}");
        let route = asked.1.trim_start_matches('/').split(['?', '/']).next().unwrap();
        let verdict = if matches!(route, "block" | "longer") { "blocked" } else { "limited" };
        let series = format!(r#"tollgate_requests_total{{route="{route}",verdict="{verdict}"}}"#);
        assert_eq!(stage.gateway.metric(&series).await, 6.0, "{asked:?}");
        assert_eq!(stage.backend.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_long_enough_is_admitted_and_charged_once() {
    let stage = Stage::set().await;
    let mut kept = stage.client().await;
    for round in 1..=4 {
        for wanted in [200, 429, 429, 429] {
            let answer = ask(&mut kept, ("GET", "/ip", &[], "")).await;
            assert_eq!(answer.status, wanted, "round {round}");
            if wanted == 200 {
                // Of the hour's five each round took one.
                let policy = answer.headers.get("ratelimit").unwrap();
                assert!(policy.contains("\"each\";r=0"), "{policy}");
            }
        }
        stage.clock.advance(seconds(60));
    }
    assert_eq!(stage.backend.count(), 4);
    assert_eq!(ask(&mut kept, ("GET", "/ip", &[], "")).await.status, 200);
    stage.clock.advance(seconds(60));
    let answer = ask(&mut kept, ("GET", "/ip", &[], "")).await;
    assert!(answer.headers.get("ratelimit").unwrap().starts_with("\"all\";r=0"), "{:?}", answer.headers);
    assert_eq!((answer.status, stage.backend.count()), (429, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_comes_on_the_connection_goes_its_way() {
    let stage = Stage::set().await;
    for others in [
        "GET /free HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /free HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST /free HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST /free HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "\r\nGET /free HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://h/free HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /email HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}",
        "OPTIONS /ip HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    ] {
        let mut kept = stage.client().await;
        while ask(&mut kept, ("GET", "/ip", &[], "")).await.status != 429 {}
        let before = stage.backend.count();
        kept.send_raw(others.as_bytes()).await;
        let answer = kept.answer_to("GET").await.unwrap();
        assert_eq!((answer.status, answer.connection_closed), (200, false), "{others}");
        assert_eq!(stage.backend.count(), before + 1, "{others}");
        assert_eq!(ask(&mut kept, ("GET", "/ip", &[], "")).await.status, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_pieces_and_such_as_end_the_connection_are_answered_as_ever() {
    let stage = Stage::set().await;
    for (parts, status, is_closed) in [
        (&["GET /ip HTTP/1.1\r\nHo", "st: h\r\n\r\n"][..], 429, false),
        (&["POST /ip HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", "abc"], 429, false),
        (&["POST /ip HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na", "bc"], 429, false),
        (&["GET /ip HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"], 429, true),
        (&["GET /ip HTTP/1.0\r\nHost: h\r\n\r\n"], 429, true),
        (&["GET /ip HTTP/1.1\r\nHost: h\r\n\r\nGET /ip HTTP/1.1\r\nHost: h\r\n\r\n"], 429, true),
        (&["GET /ip HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"], 400, true),
        (&["GET /ip HTTP/1.1\nHost: h\n\n"], 400, true),
        (&["CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"], 405, true),
    ] {
        let mut kept = stage.client().await;
        while ask(&mut kept, ("GET", "/ip", &[], "")).await.status != 429 {}
        let before = stage.backend.count();
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                // Nothing tells when the gateway has read the first part; mostly it has by then.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            kept.send_raw(part.as_bytes()).await;
        }
        let answer = kept.answer_to("GET").await.unwrap();
        assert_eq!(answer.status, status, "{parts:?}");
        if is_closed {
            kept.closed().await;
        } else {
            assert_eq!(ask(&mut kept, ("GET", "/ip", &[], "")).await.status, 429, "{parts:?}");
        }
        assert_eq!(stage.backend.count(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_and_a_stop_reach_those_who_are_being_refused() {
    let backend = Backend::ok().await;
    let (clock, _hand) = Clock::manual(START);
    let gateway = Gateway::launch(&preamble(backend.addr()), RULES, clock).await.unwrap();
    let mut kept = Client::connect_from(CLIENT.into(), gateway.address).await;
    for wanted in [200, 429, 429] {
        assert_eq!(ask(&mut kept, ("GET", "/ip", &[], "")).await.status, wanted);
    }
    gateway.edit(&RULES.replace("each: 1/min, all: 5/hour", "each: 2/min, all: 5/hour"));
    gateway.reloaded("ok", 2).await;
    for wanted in [200, 429, 429] {
        assert_eq!(ask(&mut kept, ("GET", "/ip", &[], "")).await.status, wanted);
    }
    let stopped = tokio::time::timeout(Duration::from_secs(10), gateway.stop()).await;
    assert_eq!(stopped, Ok(true), "nobody waits for who has no request");
    kept.closed().await;
}
