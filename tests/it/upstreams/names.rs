//! Servers by name: where they are is looked up again, and what was found last stays while that fails.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tollgate::app::Outside;
use tollgate::clock::Clock;
use tollgate::proxy::Resolver;

use super::{ALL, file, statuses};
use crate::harness::backend::{Backend, Reply};
use crate::harness::gateway::{Gateway, START, replace};
use crate::harness::{PATIENCE, eventually};

/// Names as the test has them; what it does not have cannot be resolved.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<HashMap<String, Vec<IpAddr>>>>);

impl Names {
    fn set(&self, name: &str, addresses: &[SocketAddr]) {
        let addresses = addresses.iter().map(SocketAddr::ip).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }

    fn forget(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    async fn launch(&self, upstream: &str) -> Gateway {
        let outside = Outside { resolver: Arc::new(self.clone()), ..Clock::manual(START).0.into() };
        Gateway::launch(&file(upstream), ALL, outside).await.expect("it starts")
    }
}

#[async_trait]
impl Resolver for Names {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let known = self.0.lock().unwrap().get(name).cloned();
        known.ok_or_else(|| io::Error::other("no such name"))
    }
}

fn of_server(family: &str, server: &str) -> String {
    format!(r#"tollgate_upstream_{family}{{server="{server}",upstream="app"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_address_there_is_a_503_until_there_is_one() {
    let (names, backend) = (Names::default(), Backend::ok().await);
    let server = format!("backend.test:{}", backend.addr().port());
    let gateway = names.launch(&format!("servers: [\"{server}\"], resolve: 1s")).await;
    let answer = gateway.client().await.request("GET", "/").send().await;
    assert_eq!((answer.status, answer.number("retry-after")), (503, 1));
    assert_eq!(answer.json(), serde_json::json!({ "detail": "No server of the backend is known." }));
    let page = gateway.metrics().await;
    assert!(
        page.contains(r#"tollgate_upstream_failures_total{kind="no_server",upstream="app"} 1"#),
        "{page}"
    );
    assert!(gateway.metric(&of_server("resolve_failures_total", &server)).await >= 1.0);
    assert_eq!(gateway.metric(&of_server("server_addresses", &server)).await, 0.0);

    names.set("backend.test", &[backend.addr()]);
    gateway.reaches(&of_server("server_up", &server), 1.0).await;
    assert_eq!(statuses(&gateway, 3).await, [200; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_takes_the_requests_along() {
    let names = Names::default();
    let here = Backend::ok().await;
    // An address that no other test has anything at.
    let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 9, 9, 2).into(), here.addr().port());
    let there = Backend::start_at(elsewhere, |_| Reply::json(200, "{}")).await;
    names.set("backend.test", &[here.addr()]);
    let server = format!("backend.test:{}", here.addr().port());
    let gateway = names.launch(&format!("servers: [\"{server}\"], resolve: 1s")).await;
    assert_eq!(statuses(&gateway, 3).await, [200; 3]);
    assert_eq!((here.count(), there.count()), (3, 0));

    names.set("backend.test", &[there.addr()]);
    eventually("requests at the other address", PATIENCE, async || {
        assert_eq!(statuses(&gateway, 1).await, [200]);
        (there.count() > 0).then_some(())
    })
    .await;
    let (before, so_far) = (here.count(), there.count());
    assert_eq!(statuses(&gateway, 5).await, [200; 5]);
    assert_eq!((here.count(), there.count()), (before, so_far + 5));

    names.forget("backend.test");
    let failures = of_server("resolve_failures_total", &server);
    eventually("a look-up that fails", PATIENCE, async || {
        (gateway.metric(&failures).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(statuses(&gateway, 5).await, [200; 5], "what was found last stays");
    assert_eq!(there.count(), so_far + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_of_a_name_is_a_server_of_either_family() {
    let names = Names::default();
    let six = Backend::start_at("[::1]:0".parse().unwrap(), |_| Reply::json(200, "{}")).await;
    let port = six.addr().port();
    let four = SocketAddr::new(Ipv4Addr::new(127, 9, 9, 6).into(), port);
    let four = Backend::start_at(four, |_| Reply::json(200, "{}")).await;
    names.set("backend.test", &[six.addr(), four.addr(), six.addr()]);
    let gateway = names.launch(&format!("servers: [\"backend.test:{port}\"]")).await;
    assert_eq!(statuses(&gateway, 6).await, [200; 6]);
    assert_eq!((four.count(), six.count()), (3, 3));
    let addresses = of_server("server_addresses", &format!("backend.test:{port}"));
    assert_eq!(gateway.metric(&addresses).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_with_a_name_that_nobody_knows_is_refused_and_an_old_name_stays() {
    let (names, backend) = (Names::default(), Backend::ok().await);
    names.set("backend.test", &[backend.addr()]);
    let server = format!("backend.test:{}", backend.addr().port());
    let gateway = names.launch(&format!("servers: [\"{server}\"]")).await;
    names.forget("backend.test");
    gateway.edit("routes: [{ name: other, match: { path: /* }, upstream: app }]\n");
    gateway.reloaded("ok", 2).await;
    assert_eq!(statuses(&gateway, 2).await, [200; 2], "found before, and kept");

    let wrong = gateway.whole(ALL).replace(&server, "tpyo.test:80");
    replace(gateway.config(), &wrong);
    gateway.reloaded("failed", 1).await;
    assert_eq!(statuses(&gateway, 2).await, [200; 2]);
    assert_eq!(backend.count(), 4);
}
