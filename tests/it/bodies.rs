//! No body makes the gateway count another value than the backend reads: it is counted, or it is refused.
//! What is admitted arrives byte for byte, and no byte of a body is ever taken for a request.

mod tricks;

use serde_json::Value;
use tollgate::clock::ManualClock;

use self::tricks::Fate::{self, Counted, Refused, Without};
use self::tricks::{ANN, FORM, FRAMINGS, JSON, TRICKS};
use crate::harness::PATIENCE;
use crate::harness::backend::{Backend, Received};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, seconds};

const RULES: &str = r#"
routes:
  - { name: login, match: { path: /login }, upstream: app, limits: [{ key: body.email, as: email, windows: { each: 1/min } }] }
  - { name: nested, match: { path: /nested }, upstream: app, limits: [{ key: body.user.email, as: email, missing: reject, windows: { each: 1/min } }] }
  - { name: gated, match: { path: /gated }, upstream: app, limits: [{ key: ip, windows: { few: 1/min } }, { key: body.email, windows: { each: 9/min } }] }
  - { name: else, match: { path: /* }, upstream: app }
"#;

/// The largest body that a key may stand in.
const BODY_MAX: usize = 48 * 1024;

/// How a body travels.
#[derive(Clone, Copy, Debug)]
enum Carried {
    Whole,
    InChunksOf(usize),
}

struct Stage {
    backend: Backend,
    gateway: Gateway,
    clock: ManualClock,
}

impl Stage {
    async fn set() -> Stage {
        let backend = Backend::ok().await;
        let (gateway, clock) = Gateway::with_clock(&backend, RULES).await;
        Stage { backend, gateway, clock }
    }

    /// The last request that the backend got, of exactly `count`.
    fn last_of(&self, count: usize) -> Received {
        let received = self.backend.received();
        assert_eq!(received.len(), count, "requests at the backend");
        received.last().unwrap().clone()
    }

    /// Sends a body to the login and sees that its fate is the expected one.
    async fn check(&self, told: &str, headers: &[(&str, &str)], body: &[u8], carried: Carried, fate: Fate) {
        self.clock.advance(seconds(60));
        let before = self.backend.count();
        let mut client = self.gateway.client().await;
        let mut request = client.request("POST", "/login");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = match carried {
            Carried::Whole => request.body(body).send().await,
            Carried::InChunksOf(bytes) => request.chunked(body, bytes).send().await,
        };
        let told = format!("{told} {carried:?}: {}", body[..body.len().min(200)].escape_ascii());
        let email = match fate {
            Refused(status) => {
                assert_eq!(answer.status, status, "{told}: {}", answer.text());
                assert!(answer.json()["detail"].is_string(), "{told}");
                assert_eq!(answer.headers.get("content-type"), Some("application/json"), "{told}");
                assert_eq!(self.backend.count(), before, "{told} reached the backend");
                return self.goes_on(client, &answer, &told).await;
            }
            Counted(email) => Some(email),
            Without => None,
        };
        assert_eq!(answer.status, 200, "{told}: {}", answer.text());
        let got = self.last_of(before + 1);
        assert_eq!(got.body.escape_ascii().to_string(), body.escape_ascii().to_string(), "{told}");
        let declared = got.headers.get("content-length").map(|length| length.parse::<usize>().unwrap());
        match carried {
            Carried::Whole => assert_eq!(declared, Some(body.len()), "{told}"),
            Carried::InChunksOf(_) => assert_eq!(declared, None, "{told}"),
        }
        self.counted_as(email, &told).await;
        self.goes_on(client, &answer, &told).await;
    }

    /// The counter of this address has been charged, and that of another has not.
    async fn counted_as(&self, email: Option<&str>, told: &str) {
        let mut client = self.gateway.client().await;
        let plain = email.map_or_else(|| "{}".to_owned(), |email| format!("{{\"email\":\"{email}\"}}"));
        let again = client.request("POST", "/login").json(&plain).send().await;
        assert_eq!(again.status, 429, "{told} was not counted as {plain}");
        assert!(again.headers.get("x-ratelimit-limit").is_none(), "{told}: the quota of a stranger");
        let other = client.request("POST", "/login").json(r#"{"email":"other@example.com"}"#).send().await;
        assert_eq!(other.status, 200, "{told} was counted as something else as well");
    }

    /// The connection was closed as announced, or carries the next request.
    async fn goes_on(&self, mut client: Client, answer: &Answer, told: &str) {
        if answer.connection_closed {
            return;
        }
        let before = self.backend.count();
        let next = client.request("GET", "/next").send().await;
        assert_eq!(next.status, 200, "{told}: the next request");
        assert_eq!(self.last_of(before + 1).target, "/next", "{told}");
    }

    fn nothing_was_smuggled(&self) {
        for received in self.backend.received() {
            assert!(matches!(received.target.as_str(), "/login" | "/next" | "/gated"), "{}", received.target);
        }
    }
}

/// What a backend that knows no letter case, and takes the last of several, reads from a body.
fn reads(content_type: &str, body: &[u8]) -> Option<String> {
    let email = |(name, value): (String, String)| name.eq_ignore_ascii_case("email").then_some(value);
    if content_type == JSON {
        let Value::Object(members) = serde_json::from_slice(body).ok()? else { return None };
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        return members.into_iter().filter_map(|(name, value)| email((name, text(value)?))).next_back();
    }
    let decoded = |text: &str| {
        let mut bytes = text.replace('+', " ").into_bytes();
        while let Some(at) = bytes.iter().position(|&byte| byte == b'%') {
            let hex = std::str::from_utf8(&bytes[at + 1..at + 3]).unwrap();
            let byte = u8::from_str_radix(hex, 16).unwrap();
            bytes.splice(at..at + 3, [byte]);
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = std::str::from_utf8(body).ok()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(name, value)| email((decoded(name), decoded(value)))).next_back()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_is_counted_as_the_backend_reads_it_or_refused() {
    assert!(TRICKS.len() >= 40, "{}", TRICKS.len());
    let stage = Stage::set().await;
    for &(content_type, body, fate) in TRICKS {
        if matches!(content_type, JSON | FORM) && !matches!(fate, Refused(_)) {
            // The table itself must not call unread what the model reads.
            let email = reads(content_type, body).map(|email| email.trim().to_lowercase());
            let email = email.filter(|email| !email.is_empty()).map(|email| email.replace("+tag", ""));
            let expected = if let Counted(email) = fate { Some(email) } else { None };
            assert_eq!(email.as_deref(), expected, "{}", body.escape_ascii());
        }
        let headers: &[(&str, &str)] =
            if content_type.is_empty() { &[] } else { &[("content-type", content_type)] };
        for carried in
            [Carried::Whole, Carried::InChunksOf(1), Carried::InChunksOf(7), Carried::InChunksOf(4096)]
        {
            stage.check(content_type, headers, body, carried, fate).await;
        }
    }
    stage.nothing_was_smuggled();
    assert_eq!(stage.backend.broken(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_and_repeated_types_are_refused() {
    let stage = Stage::set().await;
    let body = br#"{"email":"ann@example.com"}"#;
    for (name, value, fate) in [
        ("content-encoding", "identity", ANN),
        ("content-encoding", "gzip", Refused(415)),
        ("content-encoding", "GZIP", Refused(415)),
        ("content-encoding", "identity, br", Refused(415)),
        ("content-encoding", "deflate", Refused(415)),
        ("content-type", "text/plain", Refused(415)),
        ("Content-Type", JSON, Refused(415)),
    ] {
        for carried in [Carried::Whole, Carried::InChunksOf(5)] {
            stage.check(value, &[("content-type", JSON), (name, value)], body, carried, fate).await;
        }
    }
    stage.nothing_was_smuggled();
    assert_eq!(stage.backend.broken(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_in_the_query_too_is_refused() {
    let stage = Stage::set().await;
    for query in [
        "email=bob@example.com",
        "x=1&EMAIL=bob@example.com",
        "%65mail=bob",
        "email[]=bob",
        "x;email=bob",
        "email",
        "+email=bob",
        "email%00=bob",
    ] {
        stage.clock.advance(seconds(60));
        let mut client = stage.gateway.client().await;
        let target = format!("/login?{query}");
        let answer = client.request("POST", &target).json(r#"{"email":"ann@example.com"}"#).send().await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["detail"], "\"email\" belongs in the body alone, not in the query.");
        // Nor does it help to leave out the body.
        assert_eq!(client.request("POST", &target).send().await.status, 400, "{query}");
    }
    assert_eq!(stage.backend.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_fields_are_read_and_wrong_nestings_refused() {
    let stage = Stage::set().await;
    for (content_type, body, status) in [
        (JSON, r#"{"user":{"email":"ann@example.com"}}"#, 200),
        (JSON, r#"{"user":{"EMAIL":"ANN@example.com"}}"#, 429),
        (FORM, "user[email]=ann@example.com", 429),
        (FORM, "user.email=ann@example.com", 429),
        (JSON, r#"{"user":{"email":"ann@example.com"},"user":{}}"#, 400),
        (JSON, r#"{"user":"ann@example.com"}"#, 400),
        (JSON, r#"{"user":[{"email":"ann@example.com"}]}"#, 400),
        (JSON, r#"{"user.email":"bob@example.com","user":{"email":"ann@example.com"}}"#, 400),
        (JSON, r#"{"email":"ann@example.com"}"#, 400),
        (JSON, "", 400),
        (FORM, "user=ann@example.com", 400),
    ] {
        let mut client = stage.gateway.client().await;
        let answer =
            client.request("POST", "/nested").header("content-type", content_type).body(body).send().await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let deep = format!("{{\"x\":{}1{},\"user\":{{\"email\":\"a\"}}}}", "[".repeat(40), "]".repeat(40));
    let mut client = stage.gateway.client().await;
    assert_eq!(client.request("POST", "/nested").json(&deep).send().await.status, 400);
    assert_eq!(stage.backend.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_looked_at_up_to_its_bound_and_refused_beyond() {
    let stage = Stage::set().await;
    let sized = |bytes: usize| {
        let frame = r#"{"email":"ann@example.com","pad":""}"#;
        frame.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - frame.len()))).into_bytes()
    };
    for (bytes, fate) in [
        (BODY_MAX - 1, ANN),
        (BODY_MAX, ANN),
        (BODY_MAX + 1, Refused(413)),
        (60 * 1024, Refused(413)),
        (80 * 1024, Refused(413)),
        (1 << 20, Refused(413)),
    ] {
        for carried in [Carried::Whole, Carried::InChunksOf(1000), Carried::InChunksOf(1 << 20)] {
            let told = format!("{bytes} bytes");
            stage.check(&told, &[("content-type", JSON)], &sized(bytes), carried, fate).await;
        }
    }
    stage.nothing_was_smuggled();

    // Who announces too much need not send it.
    let mut client = stage.gateway.client().await;
    client.send_raw(b"POST /login HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n").await;
    let answer = client.answer_to("POST").await.unwrap();
    assert_eq!((answer.status, answer.connection_closed), (413, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_a_missing_one() {
    let stage = Stage::set().await;
    for headers in [&[][..], &[("content-type", JSON)], &[("content-type", "text/plain")]] {
        stage.clock.advance(seconds(60));
        let mut client = stage.gateway.client().await;
        let mut request = client.request("POST", "/login").body("");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.status, 200, "{headers:?}");
        assert_eq!(client.request("POST", "/login").send().await.status, 429, "{headers:?}");
        assert_eq!(client.request("POST", "/login").json("{}").send().await.status, 429, "{headers:?}");
    }
    stage.check("no byte in chunks", &[("content-type", JSON)], b"", Carried::InChunksOf(1), Without).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_to_be_asked_is_asked_unless_refused() {
    let stage = Stage::set().await;
    let body = r#"{"email":"ann@example.com"}"#;
    let mut client = stage.gateway.client().await;
    let answer = client.request("POST", "/login").header("Expect", "100-continue").json(body).send().await;
    assert_eq!((answer.status, answer.interim.as_slice()), (200, [100].as_slice()));
    assert_eq!(stage.last_of(1).body, body.as_bytes());
    let next = client.request("POST", "/login").header("expect", "100-Continue").json(body).send().await;
    assert_eq!((next.status, next.interim.as_slice()), (429, [100].as_slice()));

    // In chunks as well, and where nobody looks at the body.
    stage.clock.advance(seconds(60));
    for target in ["/login", "/next"] {
        let mut client = stage.gateway.client().await;
        let request = client.request("POST", target).header("expect", "100-continue");
        let answer = request.header("content-type", JSON).chunked(body, 3).send().await;
        assert_eq!((answer.status, answer.interim.as_slice()), (200, [100].as_slice()), "{target}");
        assert_eq!(stage.backend.received().last().unwrap().body, body.as_bytes(), "{target}");
    }

    // A refusal that needs no body does not ask for it.
    let mut client = stage.gateway.client().await;
    assert_eq!(client.request("POST", "/gated").json(body).send().await.status, 200);
    let mut client = stage.gateway.client().await;
    let refused = client.request("POST", "/gated").header("expect", "100-continue").json(body).send().await;
    assert_eq!((refused.status, refused.interim.as_slice()), (429, [].as_slice()));
    let mut client = stage.gateway.client().await;
    let request = client.request("POST", "/login").header("expect", "100-continue");
    let refused = request.json(&"x".repeat(BODY_MAX + 1)).send().await;
    assert_eq!((refused.status, refused.interim.as_slice()), (413, [].as_slice()));
    stage.nothing_was_smuggled();
    assert_eq!(stage.backend.broken(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_in_the_middle_of_a_body_is_not_counted() {
    let stage = Stage::set().await;
    let heads = [
        "Content-Length: 27\r\n\r\n{\"email\":\"ann@",
        "Transfer-Encoding: chunked\r\n\r\n1b\r\n{\"email\":\"ann@",
    ];
    for (nth, framing) in (1..).zip(heads) {
        let mut client = stage.gateway.client().await;
        let head = format!("POST /login HTTP/1.1\r\nHost: h\r\nContent-Type: {JSON}\r\n{framing}");
        client.send_raw(head.as_bytes()).await;
        drop(client);
        let refused = async {
            let series = "tollgate_requests_total{route=\"login\",verdict=\"body_refused\"}";
            while stage.gateway.metric(series).await < f64::from(nth) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("the end of the client is seen");
    }
    assert_eq!(stage.backend.count(), 0);
    let mut client = stage.gateway.client().await;
    let answer = client.request("POST", "/login").json(r#"{"email":"ann@example.com"}"#).send().await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_is_read_in_one_way_only() {
    let stage = Stage::set().await;
    for (framing, body, statuses) in FRAMINGS {
        stage.clock.advance(seconds(60));
        let before = stage.backend.count();
        let mut client = stage.gateway.client().await;
        let head = format!("POST /login HTTP/1.1\r\nHost: h\r\nContent-Type: {JSON}\r\n{framing}\r\n\r\n");
        client.send_raw(format!("{head}{body}").as_bytes()).await;
        let told = format!("{framing:?} {body:?}");
        let answer = client.answer_to("POST").await.unwrap_or_else(|error| panic!("{told}: {error}"));
        assert!(statuses.contains(&answer.status), "{told}: {}", answer.status);
        if answer.status == 200 {
            let got = stage.last_of(before + 1);
            assert_eq!(got.body, b"{\"email\":\"ann@example.com\"}", "{told}");
            let length = got.headers.get_all("content-length");
            assert!(length.iter().all(|length| *length == "27"), "{told}: {length:?}");
            let is_chunked = got.headers.get("transfer-encoding").is_some();
            assert_eq!(length.is_empty(), is_chunked, "{told}: {length:?}");
            stage.counted_as(Some("ann@example.com"), &told).await;
        } else {
            assert_eq!(stage.backend.count(), before, "{told}");
        }
        if body.contains("/smuggled") {
            assert!(answer.connection_closed, "{told}: {}", answer.raw_head.escape_ascii());
        }
        stage.goes_on(client, &answer, &told).await;
    }
    stage.nothing_was_smuggled();
}

/// Pingora takes no request that was sent before the answer to the last one: it ends the connection,
/// with a 400 where it notices in time.
#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_in_one_go_are_told_apart() {
    let body = r#"{"email":"ann@example.com"}"#;
    let smuggler = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let post = |content_type: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /login HTTP/1.1\r\nHost: h\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let all = [
        (200, post(JSON, body)),
        (429, post(JSON, body)),
        (415, post("text/plain", smuggler)),
        (400, post(JSON, smuggler)),
        (413, post(JSON, &smuggler.repeat(2000))),
        (200, "GET /next HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()),
    ];
    let stage = Stage::set().await;
    for from in 0..all.len() {
        let sent: Vec<&str> = all[from..].iter().map(|(_, request)| request.as_str()).collect();
        let mut client = stage.gateway.client().await;
        client.send_raw(sent.concat().as_bytes()).await;
        let mut answers = 0;
        for (expected, request) in &all[from..] {
            let method = if request.starts_with("GET") { "GET" } else { "POST" };
            let Ok(answer) = client.answer_to(method).await else { break };
            if answer.connection_closed && answer.status == 400 {
                answers += 1;
                break;
            }
            // All but the first address the same counter.
            let expected = if from > 0 && *expected == 200 && method == "POST" { &429 } else { expected };
            assert_eq!(answer.status, *expected, "request {answers} from {from}: {}", answer.text());
            answers += 1;
            if answer.connection_closed {
                break;
            }
        }
        assert!(answers > 0, "from {from}");
    }
    stage.nothing_was_smuggled();
}
