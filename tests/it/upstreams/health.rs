//! Servers that are not well get no requests: by checks, and by what became of the requests that they were given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tollgate::clock::Clock;

use super::{ALL, before, file, list, statuses};
use crate::harness::backend::{Backend, Nobody, Reply};
use crate::harness::client::get;
use crate::harness::gateway::{Gateway, seconds, value_of};

/// A backend whose checks pass while the test lets them, and that answers everything else.
struct Patient {
    backend: Backend,
    is_well: Arc<AtomicBool>,
}

impl Patient {
    async fn start() -> Patient {
        let is_well = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&is_well);
        let backend = Backend::start(move |request| match request.target.as_str() {
            "/healthz?deep=1" if !asked.load(Ordering::Acquire) => Reply::new(503),
            "/healthz?deep=1" => Reply::new(302),
            _ => Reply::json(200, "{}"),
        })
        .await;
        Patient { backend, is_well }
    }

    fn falls_ill(&self) {
        self.is_well.store(false, Ordering::Release);
    }

    fn recovers(&self) {
        self.is_well.store(true, Ordering::Release);
    }

    /// Requests of clients.
    fn served(&self) -> usize {
        self.backend.received().iter().filter(|request| request.target == "/").count()
    }

    fn up(&self) -> String {
        up(self.backend.addr())
    }
}

fn up(server: SocketAddr) -> String {
    format!(r#"tollgate_upstream_server_up{{server="{server}",upstream="app"}}"#)
}

/// Twice a whole second of silence would have to come upon a server that is well before it counts as down.
const CHECKED: &str = "health_check: { path: \"/healthz?deep=1\", interval: 1s, timeout: 1s, unhealthy_after: 2, healthy_after: 1 }";
const FAILS_OPEN: &str = r#"tollgate_upstream_fail_open{upstream="app"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_its_checks_is_left_alone_until_it_passes_them() {
    let (one, two) = (Patient::start().await, Patient::start().await);
    one.falls_ill();
    let servers = list(&[one.backend.addr(), two.backend.addr()]);
    let gateway = Gateway::launch(&file(&format!("{servers}, {CHECKED}")), ALL, Clock::system())
        .await
        .expect("it starts");
    gateway.reaches(&one.up(), 0.0).await;
    let so_far = one.served();
    assert_eq!(statuses(&gateway, 6).await, [200; 6]);
    assert_eq!((one.served(), two.served()), (so_far, 6));
    assert_eq!(gateway.metric(&two.up()).await, 1.0);
    let stats = get(gateway.admin, "/api/v1/rate-limit-stats").await.json();
    assert_eq!(
        (&stats["upstreams"][0]["servers"], &stats["upstreams"][0]["servers_up"]),
        (&2.into(), &1.into())
    );

    two.falls_ill();
    gateway.reaches(FAILS_OPEN, 1.0).await;
    assert_eq!(statuses(&gateway, 4).await, [200; 4], "all are asked where none is well");
    assert_eq!((one.served(), two.served()), (so_far + 2, 8));

    one.recovers();
    gateway.reaches(&one.up(), 1.0).await;
    assert_eq!(gateway.metric(FAILS_OPEN).await, 0.0);
    assert_eq!(statuses(&gateway, 4).await, [200; 4]);
    assert_eq!((one.served(), two.served()), (so_far + 6, 8));

    let check = one.backend.received().into_iter().find(|request| request.target != "/").unwrap();
    assert_eq!((check.method.as_str(), check.target.as_str()), ("GET", "/healthz?deep=1"));
    assert_eq!(check.headers.get("host"), Some(one.backend.addr().to_string().as_str()));
    assert!(check.headers.get("user-agent").is_some_and(|agent| agent.starts_with("tollgate/")));
    assert_eq!(check.headers.get("x-forwarded-for"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_server_outlives_a_reload() {
    let (one, two) = (Patient::start().await, Patient::start().await);
    one.falls_ill();
    let servers = list(&[one.backend.addr(), two.backend.addr()]);
    let gateway = Gateway::launch(&file(&format!("{servers}, {CHECKED}")), ALL, Clock::system())
        .await
        .expect("it starts");
    gateway.reaches(&one.up(), 0.0).await;
    let so_far = (one.served(), two.served());
    gateway.edit("routes: [{ name: other, match: { path: /* }, upstream: app }]\n");
    gateway.reloaded("ok", 2).await;
    assert_eq!(statuses(&gateway, 6).await, [200; 6]);
    assert_eq!((one.served(), two.served()), (so_far.0, so_far.1 + 6));
    // Those who look after it now are at work as well.
    one.recovers();
    gateway.reaches(&one.up(), 1.0).await;
}

fn ejections(server: SocketAddr) -> String {
    format!(r#"tollgate_upstream_ejections_total{{server="{server}",upstream="app"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_gives_no_answers_is_left_out_for_a_while() {
    let (nobody, backend) = (Nobody::anywhere(), Backend::ok().await);
    let servers = list(&[nobody.addr, backend.addr()]);
    let (gateway, hand) = before(&format!("{servers}, retries: 0, eject: {{ after: 3, for: 10s }}")).await;
    assert_eq!(statuses(&gateway, 6).await, [502, 200, 502, 200, 502, 200]);
    assert_eq!(gateway.metric(&ejections(nobody.addr)).await, 1.0);
    assert_eq!(gateway.metric(&up(nobody.addr)).await, 0.0);
    assert_eq!(statuses(&gateway, 10).await, [200; 10]);

    hand.advance(seconds(9));
    assert_eq!(statuses(&gateway, 4).await, [200; 4], "not yet");
    hand.advance(seconds(1));
    let mut tried = statuses(&gateway, 6).await;
    tried.sort_unstable();
    assert_eq!(tried, [200, 200, 200, 200, 200, 502], "one trial");
    assert_eq!(gateway.metric(&ejections(nobody.addr)).await, 2.0);
    assert_eq!(gateway.metric(&up(backend.addr())).await, 1.0);
    assert_eq!(gateway.metric(FAILS_OPEN).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_server_that_is_well_is_never_left_out() {
    let nobodies = [Nobody::anywhere(), Nobody::anywhere(), Nobody::anywhere()];
    let servers = list(&nobodies.each_ref().map(|nobody| nobody.addr));
    let (gateway, _hand) = before(&format!("{servers}, retries: 0, eject: {{ after: 2 }}")).await;
    assert_eq!(statuses(&gateway, 20).await, [502; 20]);
    let page = gateway.metrics().await;
    let of = |series: fn(SocketAddr) -> String| {
        nobodies.iter().map(|nobody| value_of(&series(nobody.addr), &page)).sum::<f64>()
    };
    assert_eq!((of(ejections), of(up)), (2.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_any_status_are_answers_and_silence_is_none() {
    let silent = Backend::start(|_| Reply::hang_up()).await;
    let failing = Backend::start(|_| Reply::new(500)).await;
    let servers = list(&[silent.addr(), failing.addr()]);
    let (gateway, _hand) = before(&format!("{servers}, retries: 0, eject: {{ after: 2 }}")).await;
    assert_eq!(statuses(&gateway, 4).await, [502, 500, 502, 500]);
    assert_eq!(statuses(&gateway, 10).await, [500; 10]);
    assert_eq!((silent.count(), failing.count()), (2, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_its_body_slowly_is_no_fault_of_the_server() {
    let (one, two) = (Backend::ok().await, Backend::ok().await);
    let servers = list(&[one.addr(), two.addr()]);
    let (gateway, _hand) = before(&format!("{servers}, read_timeout: 50ms, eject: {{ after: 1 }}")).await;
    for _ in 0..4 {
        let mut client = gateway.client().await;
        client.send_raw(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nslow").await;
        assert_eq!(client.answer_to("POST").await.unwrap().status, 504);
    }
    for server in [one.addr(), two.addr()] {
        assert_eq!((gateway.metric(&ejections(server)).await, gateway.metric(&up(server)).await), (0.0, 1.0));
    }
    assert_eq!(one.broken() + two.broken(), 4, "each got a part of one");
}
