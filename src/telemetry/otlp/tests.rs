use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::decision::trace::{Sampled, TraceId};
use crate::telemetry::{Metrics, Verdict};

fn account(status: Option<u16>) -> Account<'static> {
    Account {
        at: Timestamp::from_millis(1_800_000_000_000),
        method: "GET",
        path: "/users/ada@example.com",
        host: None,
        status,
        bytes_out: 5,
        route: "users",
        verdict: Verdict::Admitted,
        keys: &[],
        client: IpAddr::from([192, 0, 2, 7]),
        user_agent: None,
        request_id: None,
        trace_id: None,
        total: Duration::from_millis(9),
        decision: Duration::from_micros(3),
        body_wait: Duration::ZERO,
        asked: None,
        backend: None,
        server: None,
    }
}

fn placed() -> Placed {
    let told = TraceContext { trace: TraceId([0xab; 16]), span: SpanId([3; 8]), sampled: Sampled::Yes };
    Placed { span: SpanId([2; 8]), parent: Some(SpanId([1; 8])), told }
}

#[test]
fn a_request_is_a_span_and_asking_the_backend_is_its_child() {
    let account = Account {
        asked: Some(Duration::from_millis(1)),
        backend: Some(Duration::from_millis(7)),
        server: Some(SocketAddr::from(([127, 0, 0, 1], 8000))),
        ..account(Some(200))
    };
    let spans = spans_of(&account, placed());
    let [server, client] = spans.as_slice() else { panic!("two spans: {spans:?}") };
    assert_eq!(server["traceId"], "ab".repeat(16));
    assert_eq!(
        (&server["spanId"], &server["parentSpanId"]),
        (&"02".repeat(8).into(), &"01".repeat(8).into())
    );
    assert_eq!(
        (&client["spanId"], &client["parentSpanId"]),
        (&"03".repeat(8).into(), &"02".repeat(8).into())
    );
    assert_eq!([&server["kind"], &client["kind"]], [&Value::from(2), &Value::from(3)]);
    assert_eq!(
        (&server["startTimeUnixNano"], &server["endTimeUnixNano"]),
        (&"1800000000000000000".into(), &"1800000000009000000".into())
    );
    assert_eq!(
        (&client["startTimeUnixNano"], &client["endTimeUnixNano"]),
        (&"1800000000001000000".into(), &"1800000000008000000".into())
    );
    assert!(server.get("status").is_none());
    assert!(!server.to_string().contains("ada@"), "{server}");
}

#[test]
fn errors_are_answers_from_500_on_and_none() {
    for (status, is_error) in [(Some(200), false), (Some(429), false), (Some(502), true), (None, true)] {
        let spans = spans_of(&account(status), placed());
        assert_eq!(spans.len(), 1, "nobody was asked");
        assert_eq!(spans[0].get("status").is_some(), is_error, "{status:?}");
    }
}

#[tokio::test]
async fn what_finds_no_room_is_counted() {
    let metrics = Metrics::new().unwrap();
    let url = HttpUrl::parse("http://127.0.0.1:9").unwrap();
    let (spans, _exporter) = super::spans(url, HeaderMap::new(), metrics.spans());
    (0..QUEUE + 3).for_each(|_| spans.note(&account(Some(200)), placed()));
    let page = metrics.render();
    assert!(page.contains("tollgate_otlp_requests_total{result=\"dropped\"} 3"), "{page}");
}
