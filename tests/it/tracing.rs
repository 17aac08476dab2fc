//! Ids that tie together what client, gateway and backend say of one request.

use std::collections::HashSet;

use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Received, Reply};
use crate::harness::binary::{Running, Signal};
use crate::harness::client::{Answer, Client, get};
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::{PATIENCE, eventually};

const PROXY: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 66];
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const RULES: &str = r#"
client_ip: { trusted_proxies: [127.0.0.1] }
routes:
  - { name: all, match: { path: /* }, upstream: app }
  - { name: limited, match: { path: /limited }, upstream: app, limits: [{ key: ip, windows: { w: 1/hour } }] }
  - { name: device, match: { path: /device }, upstream: app, limits: [{ key: header.x-request-id, windows: { w: 1/hour } }] }
"#;

struct Stage {
    backend: Backend,
    gateway: Gateway,
}

impl Stage {
    async fn set(events: &str) -> Stage {
        let backend = Backend::ok().await;
        let rules = format!("{RULES}{events}");
        let gateway = Gateway::launch(&preamble(backend.addr()), &rules, Clock::system()).await.unwrap();
        Stage { backend, gateway }
    }

    /// The answer to one GET with these headers, and what the backend got of it, if anything.
    async fn get(
        &self,
        local: [u8; 4],
        target: &str,
        headers: &[(&str, &str)],
    ) -> (Answer, Option<Received>) {
        let before = self.backend.count();
        let mut client = Client::connect_from(local.into(), self.gateway.address).await;
        let mut request = client.request("GET", target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        let mut received = self.backend.received();
        (answer, if received.len() > before { received.pop() } else { None })
    }

    /// Whether a page of another origin may read this field of a refusal.
    async fn exposes(&self, name: &str) -> bool {
        let (answer, _) = self.get(STRANGER, "/a%zz", &[("Origin", "https://a.example")]).await;
        let exposed = answer.headers.get("access-control-expose-headers").unwrap();
        exposed.split(", ").any(|field| field.eq_ignore_ascii_case(name))
    }

    async fn forwarded(&self, local: [u8; 4], headers: &[(&str, &str)]) -> (Answer, Received) {
        let (answer, received) = self.get(local, "/x", headers).await;
        assert_eq!(answer.status, 200, "{headers:?}");
        (answer, received.unwrap())
    }
}

/// The trace, span and flags of a `traceparent`; panics at one that is none.
fn parts(received: &Received) -> [String; 3] {
    let all = received.headers.get_all("traceparent");
    let [text] = all.as_slice() else { panic!("one traceparent: {all:?}") };
    let parts: Vec<&str> = text.split('-').collect();
    let ["00", trace, span, flags] = parts.as_slice() else { panic!("{text}") };
    assert_eq!([trace.len(), span.len(), flags.len()], [32, 16, 2], "{text}");
    let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    assert!([trace, span, flags].iter().all(|part| part.chars().all(is_hex)), "{text}");
    [trace, span, flags].map(|part| (*part).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_with_a_span_of_ours() {
    let stage = Stage::set("").await;
    for local in [PROXY, STRANGER] {
        let sent = [("Traceparent", SENT), ("Tracestate", "a=1,b=2"), ("tracestate", "c=3")];
        let (_, got) = stage.forwarded(local, &sent).await;
        let [trace, span, flags] = parts(&got);
        assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"));
        assert_ne!(span, "00f067aa0ba902b7", "the span is ours");
        assert_eq!(got.headers.get_all("tracestate"), ["a=1,b=2", "c=3"]);
    }
    let unsampled = SENT.replace("-01", "-00");
    let (_, got) = stage.forwarded(STRANGER, &[("traceparent", unsampled.as_str())]).await;
    assert_eq!(parts(&got)[2], "00");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_sound_trace_one_begins() {
    let stage = Stage::set("").await;
    let broken = [
        vec![],
        vec![("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")],
        vec![("traceparent", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
        vec![("traceparent", "x"), ("tracestate", "a=1")],
        vec![("traceparent", SENT), ("traceparent", SENT), ("tracestate", "a=1")],
    ];
    let mut traces = HashSet::new();
    for sent in &broken {
        let (answer, got) = stage.forwarded(STRANGER, sent).await;
        let [trace, _, flags] = parts(&got);
        assert_ne!(trace, TRACE, "{sent:?}");
        assert_eq!(flags, "01", "an unsampled one would silence the backend's own tracing");
        assert_eq!(got.headers.get("tracestate"), None, "{sent:?}");
        assert_eq!(answer.headers.get("x-request-id"), Some(trace.as_str()), "a new trace names its request");
        assert!(traces.insert(trace), "no trace begins twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_on_the_request_and_on_every_answer() {
    let stage = Stage::set("").await;
    stage.backend.answer_by(|_| Reply::new(200).header("X-Request-Id", "the-backends-own").body("ok"));
    let mut seen = HashSet::new();
    for target in ["/x", "/limited"] {
        let (answer, got) = stage.get(STRANGER, target, &[("X-Request-Id", "mine")]).await;
        let got = got.unwrap();
        let ids = [got.headers.get_all("x-request-id"), answer.headers.get_all("x-request-id")];
        assert_eq!(ids[0], ids[1], "{target}");
        let [id] = ids[0].as_slice() else { panic!("{ids:?}") };
        assert_eq!(id.len(), 32);
        assert!(seen.insert((*id).to_owned()));
    }
    for (target, status) in [("/limited", 429), ("/a%zz", 400)] {
        let (answer, got) = stage.get(STRANGER, target, &[]).await;
        assert_eq!((answer.status, got.is_none()), (status, true));
        let id = answer.headers.get("x-request-id").unwrap().to_owned();
        assert!(id.len() == 32 && seen.insert(id), "{target}");
    }
    stage.backend.answer_by(|_| Reply::hang_up());
    let (answer, _) = stage.get(STRANGER, "/x", &[]).await;
    assert_eq!(answer.status, 502);
    assert!(seen.insert(answer.headers.get("x-request-id").unwrap().to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_believed_from_trusted_proxies_alone_and_only_if_it_is_sound() {
    let stage = Stage::set("").await;
    let (answer, got) = stage.forwarded(PROXY, &[("X-Request-Id", "edge-17:a.b_c/=")]).await;
    assert_eq!(got.headers.get_all("x-request-id"), ["edge-17:a.b_c/="]);
    assert_eq!(answer.headers.get("x-request-id"), Some("edge-17:a.b_c/="));
    let long = "x".repeat(129);
    for (local, id) in
        [(STRANGER, "edge-17"), (PROXY, "a b"), (PROXY, "<b>"), (PROXY, long.as_str()), (PROXY, "")]
    {
        let (answer, got) = stage.forwarded(local, &[("x-request-id", id)]).await;
        let made = answer.headers.get("x-request-id").unwrap();
        assert_eq!(made.len(), 32, "{id:?}");
        assert_eq!(got.headers.get_all("x-request-id"), [made]);
    }
    let (_, got) = stage.forwarded(PROXY, &[("x-request-id", "a"), ("x-request-id", "b")]).await;
    assert_eq!(got.headers.get("x-request-id").map(str::len), Some(32), "of two none is believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_by_is_the_id_that_the_backend_reads() {
    let stage = Stage::set("").await;
    for _ in 0..3 {
        let (answer, _) = stage.get(STRANGER, "/device", &[("x-request-id", "same")]).await;
        assert_eq!(answer.status, 200, "each is made anew");
    }
    let statuses = [
        stage.get(PROXY, "/device", &[("x-request-id", "same")]).await.0.status,
        stage.get(PROXY, "/device", &[("x-request-id", "same")]).await.0.status,
    ];
    assert_eq!(statuses, [200, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_can_be_left_to_others_and_the_header_can_have_another_name() {
    let cors = "responses: { cors: { origins: [\"*\"] } }\n";
    let stage = Stage::set(&format!("events: {{ request_id_header: off, traceparent: pass }}\n{cors}")).await;
    assert!(!stage.exposes("x-request-id").await && stage.exposes("retry-after").await);
    let (answer, got) = stage.forwarded(STRANGER, &[("X-Request-Id", "mine"), ("Traceparent", SENT)]).await;
    assert_eq!(answer.headers.get("x-request-id"), None);
    assert_eq!(got.headers.get("x-request-id"), Some("mine"));
    assert_eq!(got.headers.get("traceparent"), Some(SENT));
    let (_, got) = stage.forwarded(STRANGER, &[]).await;
    assert_eq!((got.headers.get("traceparent"), got.headers.get("x-request-id")), (None, None));

    let stage = Stage::set(&format!("events: {{ request_id_header: X-Correlation-Id }}\n{cors}")).await;
    assert!(!stage.exposes("x-request-id").await && stage.exposes("x-correlation-id").await);
    let (answer, got) = stage.forwarded(STRANGER, &[("X-Request-Id", "mine")]).await;
    assert_eq!(got.headers.get("x-request-id"), Some("mine"));
    assert_eq!(answer.headers.get("x-correlation-id"), got.headers.get("x-correlation-id"));
    assert_eq!(answer.headers.get("x-correlation-id").map(str::len), Some(32));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_name_the_request_and_its_trace() {
    let backend = Backend::start(|_| Reply::hang_up()).await;
    let running = Running::start(&backend, RULES).await;
    let mut ids = Vec::new();
    for target in ["/x", "/a%zz"] {
        let mut client = Client::connect_from(STRANGER.into(), running.address).await;
        let answer = client.request("GET", target).header("traceparent", SENT).send().await;
        ids.push(answer.headers.get("x-request-id").unwrap().to_owned());
    }
    running.binary.signal(Signal::Terminate);
    let log = running.binary.ended().await.stdout;
    let line = |message: &str| -> serde_json::Value {
        let line =
            log.lines().find(|line| line.contains(message)).unwrap_or_else(|| panic!("{message}:\n{log}"));
        serde_json::from_str(line).unwrap()
    };
    assert_eq!(line("the backend gave no answer")["request_id"], *ids[0]);
    let refused = line("\"refused\"");
    assert_eq!((refused["request_id"].as_str(), refused["trace_id"].as_str()), (Some(&*ids[1]), Some(TRACE)));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_name_the_trace_of_their_request() {
    let stage = Stage::set("").await;
    assert_eq!(stage.get(STRANGER, "/limited", &[]).await.0.status, 200);
    let (answer, _) = stage.get(STRANGER, "/limited", &[]).await;
    assert_eq!(answer.status, 429);
    let event = eventually("the event", PATIENCE, async || {
        let page = get(stage.gateway.admin, "/api/v1/rate-limit-logs?kind=limited").await.json();
        page["items"].as_array()?.first().cloned()
    })
    .await;
    // A trace that begins here has the number of its request.
    assert_eq!(event["trace_id"].as_str(), answer.headers.get("x-request-id"), "{event}");
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_binary_without_spans_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let otlp = "events: { otlp: { endpoint: 'https://collector.example' } }\n";
    std::fs::write(&path, format!("{}{RULES}{otlp}", preamble("127.0.0.1:1".parse().unwrap()))).unwrap();
    let refused = tollgate::config::load(&path, &tollgate::config::Environment::empty()).unwrap_err();
    let expected = "events.otlp: this binary was built without OpenTelemetry; build it with `--features otlp`, or remove `otlp`";
    assert!(refused.problems.brief().any(|told| told.ends_with(expected)), "{refused}");
}
