//! Spans of requests at a collector that remembers them.

use serde_json::Value;
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Received, Reply};
use crate::harness::client::get;
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::{PATIENCE, client};

const ROUTES: &str = r#"
client_ip: { trusted_proxies: [127.0.0.1] }
routes:
  - { name: all, match: { path: /* }, upstream: app }
  - { name: once, match: { path: /once }, upstream: app, limits: [{ key: ip, windows: { w: 1/hour } }] }
"#;

async fn gateway(backend: &Backend, collector: &Backend, sample: &str) -> Gateway {
    let otlp = format!(
        "events: {{ otlp: {{ endpoint: \"http://{}\", headers: {{ x-key: hunter2 }}, sample: {sample} }} }}\n",
        collector.addr()
    );
    Gateway::launch(&preamble(backend.addr()), &format!("{ROUTES}{otlp}"), Clock::system()).await.unwrap()
}

/// All spans that a collector was sent.
fn spans(received: &[Received]) -> Vec<Value> {
    let mut all = Vec::new();
    for export in received {
        assert_eq!((export.method.as_str(), export.target.as_str()), ("POST", "/v1/traces"));
        assert_eq!(export.headers.get("content-type"), Some("application/json"));
        assert_eq!(export.headers.get("x-key"), Some("hunter2"));
        let body: Value = serde_json::from_slice(&export.body).unwrap();
        let [resource] = body["resourceSpans"].as_array().unwrap().as_slice() else { panic!("{body}") };
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "tollgate");
        all.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    all
}

fn attribute<'s>(span: &'s Value, key: &str) -> &'s Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("{key}: {span}"))["value"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_whose_child_the_backend_is_told() {
    let (backend, collector) = (Backend::ok().await, Backend::start(|_| Reply::json(200, "{}")).await);
    let gateway = gateway(&backend, &collector, "1").await;
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut client = client::Client::connect(gateway.address).await;
    client.request("GET", "/once?token=hush").header("traceparent", sent).send().await;
    assert_eq!(get(gateway.address, "/once").await.status, 429);
    assert!(gateway.stop().await);
    let spans = spans(&collector.received());
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let one = |is_it: &dyn Fn(&Value) -> bool| spans.iter().find(|span| is_it(span)).unwrap();
    let server = one(&|span| span["parentSpanId"] == "00f067aa0ba902b7");
    let asking = one(&|span| span["kind"] == 3);
    let refused = one(&|span| span.get("parentSpanId").is_none());
    assert_eq!(server["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(asking["parentSpanId"], server["spanId"]);
    let told = backend.received()[0].headers.get("traceparent").unwrap().to_owned();
    assert_eq!(
        told,
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", asking["spanId"].as_str().unwrap())
    );
    assert_eq!(attribute(server, "url.path")["stringValue"], "/once");
    assert_eq!(attribute(server, "http.response.status_code")["intValue"], "200");
    assert_eq!(attribute(refused, "tollgate.verdict")["stringValue"], "limited");
    assert_eq!(attribute(refused, "tollgate.keys")["stringValue"], "ip");
    assert!(!format!("{spans:?}").contains("hush"));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_are_picked_as_the_file_says_and_proxies_may_pick_for_us() {
    let (backend, collector) = (Backend::ok().await, Backend::start(|_| Reply::json(200, "{}")).await);
    let gateway = gateway(&backend, &collector, "0").await;
    let picked = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (local, trace) in
        [([127, 0, 0, 66], Some(picked)), ([127, 0, 0, 1], None), ([127, 0, 0, 1], Some(picked))]
    {
        let mut client = client::Client::connect_from(local.into(), gateway.address).await;
        let request = client.request("GET", "/x");
        match trace {
            Some(trace) => request.header("traceparent", trace).send().await,
            None => request.send().await,
        };
    }
    assert!(gateway.stop().await);
    let flags: Vec<String> = backend
        .received()
        .iter()
        .map(|got| got.headers.get("traceparent").unwrap().rsplit_once('-').unwrap().1.to_owned())
        .collect();
    assert_eq!(flags, ["00", "00", "01"], "the backend is told what was picked");
    assert_eq!(spans(&collector.received()).len(), 2, "one request, two spans");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_nobodys_trouble_and_counted() {
    let (backend, collector) = (Backend::ok().await, Backend::start(|_| Reply::new(400)).await);
    let gateway = gateway(&backend, &collector, "1").await;
    for _ in 0..5 {
        assert_eq!(get(gateway.address, "/x").await.status, 200);
    }
    let failed = "tollgate_otlp_requests_total{result=\"failed\"}";
    eventually("the failures", PATIENCE, async || (gateway.metric(failed).await == 5.0).then_some(())).await;
    assert!(gateway.stop().await);
}
