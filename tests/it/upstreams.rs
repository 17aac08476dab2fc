//! Which server gets a request, how often it is tried, and what is told where nobody answers.

mod health;
mod names;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;
use tollgate::clock::{Clock, ManualClock};

use crate::harness::backend::{Backend, Nobody, Reply};
use crate::harness::client::Client;
use crate::harness::gateway::{Gateway, START, seconds};

const ALL: &str = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";

/// A file with this upstream.
fn file(upstream: &str) -> String {
    format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0 }}\nupstreams: {{ app: {{ {upstream} }} }}\n"
    )
}

/// A gateway with this upstream, and the hand that turns its clock.
async fn before(upstream: &str) -> (Gateway, ManualClock) {
    let (clock, hand) = Clock::manual(START);
    (Gateway::launch(&file(upstream), ALL, clock).await.expect("it starts"), hand)
}

fn list(servers: &[SocketAddr]) -> String {
    let quoted: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!("servers: [{}]", quoted.join(", "))
}

/// A backend that says who it is.
async fn called(name: &'static str) -> Backend {
    Backend::start(move |_| Reply::new(200).body(name)).await
}

async fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut client = gateway.client().await;
    let mut all = Vec::new();
    for _ in 0..count {
        let answer = client.request("GET", "/").send().await;
        all.push(answer.status);
        if answer.connection_closed {
            client = gateway.client().await;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_asked_by_their_weights() {
    let [one, two, three] = [Backend::ok().await, Backend::ok().await, Backend::ok().await];
    let servers = format!(
        "servers: [{{ address: \"{}\", weight: 5 }}, \"{}\", {{ address: \"{}\", weight: 2 }}], balance: round_robin",
        one.addr(),
        two.addr(),
        three.addr()
    );
    let (gateway, _hand) = before(&servers).await;
    assert_eq!(statuses(&gateway, 16).await, [200; 16]);
    assert_eq!((one.count(), two.count(), three.count()), (10, 2, 4));
}

/// Where 40 clients, each at its own address, are sent.
async fn homes(gateway: &Gateway) -> BTreeMap<u8, String> {
    let mut homes = BTreeMap::new();
    for number in 1..=40 {
        let mut client = Client::connect_from(IpAddr::from([127, 0, 3, number]), gateway.address).await;
        let answer = client.request("GET", "/").send().await;
        assert_eq!(answer.status, 200);
        homes.insert(number, answer.text().to_owned());
    }
    homes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_its_server_and_only_those_of_one_that_goes_move() {
    let [one, two, three] = [called("one").await, called("two").await, called("three").await];
    let upstream = format!(
        "{}, balance: consistent, eject: {{ after: 1, for: 10s }}",
        list(&[one.addr(), two.addr(), three.addr()])
    );
    let (gateway, hand) = before(&upstream).await;
    let at_first = homes(&gateway).await;
    assert_eq!(homes(&gateway).await, at_first, "the same server each time");
    let of = |name: &str| at_first.values().filter(|home| *home == name).count();
    assert!(of("one") > 0 && of("two") > 0 && of("three") > 0, "{at_first:?}");

    let (address, moved) = (two.addr(), "two");
    two.stop().await;
    let without = homes(&gateway).await;
    for (client, home) in &at_first {
        let now = &without[client];
        assert!(if home == moved { now != moved } else { now == home }, "client {client}: {home} to {now}");
    }
    let _back = Backend::start_at(address, |_| Reply::new(200).body("two")).await;
    hand.advance(seconds(10));
    assert_eq!(homes(&gateway).await, at_first, "and back they come");
}

/// The first connection is good for one request, and hangs up on the next without a byte.
async fn good_for_one_request() -> Backend {
    Backend::start(|request| match (request.connection, request.target.as_str()) {
        (0, "/") | (1.., _) => Reply::json(200, "{}"),
        (0, _) => Reply::hang_up(),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_closes_costs_a_request_only_where_it_cannot_be_sent_anew() {
    for (method, body, retries, status, sent) in [
        ("GET", None, 1, 200, 2),
        ("DELETE", None, 1, 200, 2),
        ("GET", None, 0, 502, 1),
        ("GET", Some("once"), 5, 502, 1),
        ("PUT", Some("once"), 5, 502, 1),
        ("POST", None, 5, 502, 1),
        ("POST", Some("once"), 5, 502, 1),
    ] {
        let backend = good_for_one_request().await;
        let upstream = format!("{}, retries: {retries}, eject: {{ after: 1 }}", list(&[backend.addr()]));
        let (gateway, _hand) = before(&upstream).await;
        let mut client = gateway.client().await;
        assert_eq!(client.request("GET", "/").send().await.status, 200);
        let request = client.request(method, "/again");
        let answer = match body {
            Some(body) => request.body(body).send().await,
            None => request.send().await,
        };
        let case = format!("{method} {body:?} {retries}");
        assert_eq!(answer.status, status, "{case}");
        let again = backend.received().iter().filter(|received| received.target == "/again").count();
        assert_eq!(again, sent, "{case}");
        let retried = gateway.metric(r#"tollgate_upstream_retries_total{upstream="app"}"#).await;
        assert_eq!(retried, if status == 200 { 1.0 } else { 0.0 }, "{case}");
        if status == 502 {
            assert_eq!(answer.json()["detail"], "The backend could not be reached.");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_the_bound_and_go_to_other_servers() {
    let nobodies = [Nobody::anywhere(), Nobody::anywhere(), Nobody::anywhere()];
    let backend = Backend::ok().await;
    let [a, b, c] = [nobodies[0].addr, nobodies[1].addr, nobodies[2].addr];
    for (retries, status) in [(0, 502), (2, 502), (3, 200)] {
        let upstream = format!("{}, retries: {retries}", list(&[a, b, c, backend.addr()]));
        let (gateway, _hand) = before(&upstream).await;
        let answer = gateway.client().await.request("POST", "/").body("once").send().await;
        assert_eq!(answer.status, status, "{retries} retries");
        let retried = gateway.metric(r#"tollgate_upstream_retries_total{upstream="app"}"#).await;
        assert_eq!(retried, f64::from(retries));
    }
    assert_eq!(backend.count(), 1, "a body that reached nobody may be sent on");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_connection_in_time_is_a_504() {
    // Its queue takes the connection, and nobody ever speaks TLS on it.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    let upstream =
        format!("servers: [{{ address: \"{address}\", tls: true }}], connect_timeout: 100ms, retries: 0");
    let (gateway, _hand) = before(&upstream).await;
    let answer = gateway.client().await.request("GET", "/").send().await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json(), serde_json::json!({ "detail": "The backend did not answer in time." }));
    let timed_out = r#"tollgate_upstream_failures_total{kind="timeout",upstream="app"}"#;
    assert_eq!(gateway.metric(timed_out).await, 1.0);
}
