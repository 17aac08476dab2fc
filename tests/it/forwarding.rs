//! What passes: bytes as they came, and of the headers only what the backend may believe.

use crate::harness::backend::{Backend, Gate, Received, Reply};
use crate::harness::client::Client;
use crate::harness::gateway::Gateway;

const RULES: &str = r#"
client_ip: { trusted_proxies: [127.0.0.1] }
user: { header: x-user-id }
routes:
  - { name: frank, match: { path: /frank }, upstream: app, allow_override_headers: true }
  - { name: peeked, match: { path: /peeked }, upstream: app, limits: [{ key: body.email, windows: { each: 9/min } }] }
  - { name: limited, match: { path: /limited }, upstream: app, limits: [{ key: ip, windows: { each: 1/min } }] }
  - { name: all, match: { path: /* }, upstream: app }
"#;

const STRANGER: [u8; 4] = [127, 0, 0, 66];

async fn stage() -> (Backend, Gateway) {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    (backend, gateway)
}

/// What the backend gets of one GET with these headers.
async fn forwarded(
    (backend, gateway): &(Backend, Gateway),
    local: [u8; 4],
    target: &str,
    headers: &[(&str, &str)],
) -> Received {
    let before = backend.count();
    let mut client = Client::connect_from(local.into(), gateway.address).await;
    let mut request = client.request("GET", target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.send().await;
    assert_eq!(answer.status, 200, "{target} {headers:?}: {}", answer.text());
    let mut received = backend.received();
    assert_eq!(received.len(), before + 1);
    received.pop().unwrap()
}

/// Bytes without a pattern, the same in every run (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(|| next().to_le_bytes()).flatten().take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_would_change_method_or_path_are_stripped() {
    const OVERRIDES: &[&str] = &[
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x-http-method-override",
        "X-Original-URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X-Override-URL",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-Forwarded-Uri",
        "X-Script-Name",
        "SCRIPT_NAME",
        "X_HTTP_METHOD_OVERRIDE",
        "X_Original_URL",
        "some_name",
    ];
    let stage = stage().await;
    for &name in OVERRIDES {
        for local in [[127, 0, 0, 1], STRANGER] {
            let got = forwarded(&stage, local, "/x", &[(name, "/admin"), ("X-Kept", "1")]).await;
            assert_eq!(got.headers.get(name), None, "{name} from {local:?}");
            assert_eq!(got.headers.get("x-kept"), Some("1"), "{name}");
        }
        let got = forwarded(&stage, STRANGER, "/frank", &[(name, "/admin")]).await;
        assert_eq!(got.headers.get(name), Some("/admin"), "{name} where it is allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_learns_who_asks_from_the_gateway_alone() {
    let stage = stage().await;
    let spoofed = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2"),
        ("X-Real-IP", "192.0.2.3"),
        ("Forwarded", "for=192.0.2.4"),
        ("X-Forwarded-Host", "evil.example.com"),
        ("X-Forwarded-Proto", "https"),
        ("Host", "app.example.com"),
    ];
    let got = forwarded(&stage, STRANGER, "/x", &spoofed).await;
    assert_eq!(got.headers.get_all("x-forwarded-for"), ["127.0.0.66"]);
    assert_eq!(got.headers.get_all("host"), ["app.example.com"]);
    for (name, _) in &spoofed[2..6] {
        assert_eq!(got.headers.get(name), None, "{name}");
    }

    // Not in the spelling that CGI takes for the same either, even where such names may pass.
    let disguised =
        ["X_Forwarded_For", "x-real_ip", "X_REAL_IP", "X-User_Id", "x_user_id", "X_Forwarded_Proto"];
    for name in
        disguised.into_iter().chain(["X-User-Id", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP"])
    {
        for target in ["/x", "/frank"] {
            let got = forwarded(&stage, STRANGER, target, &[(name, "ann")]).await;
            assert_eq!(got.headers.get(name), None, "{name} to {target}");
        }
    }

    // A trusted proxy's word is passed on, with the proxy added.
    let got = forwarded(&stage, [127, 0, 0, 1], "/x", &spoofed).await;
    assert_eq!(got.headers.get_all("x-forwarded-for"), ["192.0.2.1, 192.0.2.2, 127.0.0.1"]);
    assert_eq!(got.headers.get_all("host"), ["app.example.com"]);
    for (name, value) in &spoofed[2..6] {
        assert_eq!(got.headers.get(name), Some(*value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let stage = stage().await;
    let hop = [
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("X-End", "1"),
    ];
    let got = forwarded(&stage, STRANGER, "/x", &hop).await;
    for name in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(got.headers.get(name), None, "{name}");
    }
    assert_eq!(got.headers.get("x-end"), Some("1"));

    // Each alone as well.
    let alone = [
        ("Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Authorization", "Basic YTpi"),
        ("TE", "trailers"),
        ("Trailer", "X-End"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
    ];
    for (name, value) in alone {
        let got = forwarded(&stage, STRANGER, "/x", &[(name, value)]).await;
        assert_eq!(got.headers.get(name), None, "{name}");
    }

    // What the gateway says cannot be taken away by naming it.
    let (backend, gateway) = &stage;
    for name in ["x-forwarded-for", "X-Forwarded-For, close", "host", "cookie", "authorization"] {
        let before = backend.count();
        let mut client = Client::connect_from(STRANGER.into(), gateway.address).await;
        let answer = client.request("GET", "/x").header("connection", name).send().await;
        if answer.status == 200 {
            let got = &backend.received()[before];
            assert_eq!(got.headers.get("x-forwarded-for"), Some("127.0.0.66"), "{name}");
            assert!(got.headers.get("host").is_some(), "{name}");
        } else {
            assert_eq!((answer.status, backend.count()), (400, before), "{name}");
        }
    }

    // Of the answer as well.
    backend.answer_by(|_| {
        Reply::json(200, "{}")
            .header("Connection", "keep-alive, X-Hop")
            .header("X-Hop", "1")
            .header("X-End", "1")
    });
    let answer = gateway.client().await.request("GET", "/x").send().await;
    assert_eq!((answer.status, answer.headers.get("x-end")), (200, Some("1")));
    assert_eq!(answer.headers.get_all("connection").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_other_headers_pass_as_they_came() {
    let (backend, gateway) = stage().await;
    backend.answer_by(|_| {
        Reply::json(200, "{}")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2")
            .header("X-Answer-Case", "\"quoted\", list")
            .header("Server", "scripted")
    });
    let mut client = gateway.client().await;
    let request = client.request("GET", "/x").header("X-Mixed-Case", "a  b\t c").header("Accept", "*/*");
    let request = request.header("X-Twice", "1").header("X-Twice", "2").header("X-Bytes", b"\xe9\xff");
    let answer = request.header("X-Empty", "").header("Cookie", "a=1; b=2").send().await;
    assert_eq!(answer.headers.get_all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.headers.get("x-answer-case"), Some("\"quoted\", list"));
    assert_eq!(answer.headers.get_all("server"), ["scripted"]);
    let got = &backend.received()[0];
    assert_eq!(got.headers.get_all("x-twice"), ["1", "2"]);
    assert_eq!(got.headers.get("x-mixed-case"), Some("a  b\t c"));
    assert_eq!(got.headers.get("x-empty"), Some(""));
    assert_eq!(got.headers.get("cookie"), Some("a=1; b=2"));
    let bytes = got.headers.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-bytes")).unwrap();
    assert_eq!(bytes.1, b"\xe9\xff");
    assert!(String::from_utf8_lossy(&got.raw_head).contains("X-Mixed-Case"), "letter case is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_byte_for_byte_both_ways() {
    const LENGTH: usize = (1 << 20) + 7;
    let backend = Backend::start(|received| Reply::new(200).body(&received.body)).await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let body = noise(LENGTH);
    let mut client = gateway.client().await;
    let answer = client.request("POST", "/x").body(&body).send().await;
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
    assert_eq!(answer.number("content-length"), LENGTH as u64);
    assert!(backend.received()[0].body == body);

    for chunk_bytes in [1, 1000, 4096, 65_537, LENGTH] {
        // A byte a chunk would be six bytes on the wire for each.
        let body = if chunk_bytes == 1 { &body[..10_000] } else { &body };
        backend.answer_by(move |received| Reply::new(200).body(&received.body).chunked(chunk_bytes));
        let answer = client.request("PUT", "/x").chunked(body, chunk_bytes).send().await;
        assert!(answer.body == body, "{} bytes came back in chunks of {chunk_bytes}", answer.body.len());
        let got = backend.received().pop().unwrap();
        assert!(got.body == body, "{} bytes arrived in chunks of {chunk_bytes}", got.body.len());
        assert_eq!(got.headers.get("content-length"), None);
    }

    // Also where the gateway has read the body before.
    let peeked = format!("{{\"email\":\"a@example.com\",\"pad\":\"{}\"}}", "x".repeat(40_000));
    for chunk_bytes in [None, Some(1000)] {
        let request = client.request("POST", "/peeked").header("content-type", "application/json");
        let request = match chunk_bytes {
            Some(chunk_bytes) => request.chunked(&peeked, chunk_bytes),
            None => request.body(&peeked),
        };
        assert!(request.send().await.body == peeked.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_backend_are_used_again() {
    let (backend, gateway) = stage().await;
    let mut client = gateway.client().await;
    for nth in 0..20 {
        let request = client.request("POST", "/x").header("content-type", "text/plain");
        assert_eq!(request.body(vec![b'x'; nth * 100]).send().await.status, 200);
    }
    assert_eq!((backend.count(), backend.connections()), (20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_pass_byte_for_byte() {
    let stage = stage().await;
    for query in [
        "",
        "a=1&b=2",
        "a=%2F%2f%41&b=%zz&c=%",
        "x=../../etc&y=//a;b=c",
        "a[]=1&a[]=2",
        "q=caf%C3%A9",
        "??&&==",
        "+%20+",
        "a=b?c=d",
        "!$'()*,:@",
        "{}|\\^`",
    ] {
        for (path, normal) in [("/x", "/x"), ("//x/./y/..", "/x/")] {
            let got = forwarded(&stage, STRANGER, &format!("{path}?{query}"), &[]).await;
            assert_eq!(got.target, format!("{normal}?{query}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_stay_without_one() {
    let (backend, gateway) = stage().await;
    let mut client = gateway.client().await;
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404), ("DELETE", 204)] {
        backend.answer_by(move |_| Reply::new(status).header("etag", "\"1\"").body("body"));
        let answer = client.request(method, "/x").send().await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{method}");
        assert_eq!(answer.headers.get("etag"), Some("\"1\""));
    }
    backend.answer_by(|_| Reply::new(200));
    let answer = client.request("GET", "/x").send().await;
    assert_eq!((answer.status, answer.number("content-length")), (200, 0));
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_an_upgrade_is_counted_like_any_request() {
    let (backend, gateway) = stage().await;
    for expected in [200, 429, 429] {
        let mut client = gateway.client().await;
        let request = client.request("GET", "/limited").header("connection", "upgrade");
        let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
        let answer = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await;
        assert_eq!(answer.status, expected);
    }
    let mut client = Client::connect_from(STRANGER.into(), gateway.address).await;
    let request = client.request("GET", "/x").header("connection", "upgrade, http2-settings");
    let answer = request.header("upgrade", "h2c").header("http2-settings", "AAMAAABkAAQAAP__").send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(backend.received().pop().unwrap().headers.get("upgrade"), None, "no way around the gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_finish_when_the_gateway_stops() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |_| Reply::json(200, "{}").after(&held)).await;
    let gateway = Gateway::start(&backend, RULES).await;
    let mut idle = gateway.client().await;
    let mut busy = gateway.client().await;
    let answered = tokio::spawn(async move { busy.request("GET", "/x").send().await });
    backend.wait_for(1).await;
    let stopped = tokio::spawn(gateway.stop());
    idle.closed().await;
    assert!(!answered.is_finished() && !stopped.is_finished());
    gate.open();
    assert_eq!(answered.await.unwrap().status, 200);
    assert!(stopped.await.unwrap(), "nothing was cut off");
}
