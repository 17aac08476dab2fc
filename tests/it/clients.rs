//! Who a request is counted as: nobody chooses that for themselves.

use tollgate::clock::{Clock, ManualClock};

use crate::harness::backend::Backend;
use crate::harness::client::Client;
use crate::harness::gateway::{Gateway, START};

const ROUTES: &str = r#"
routes:
  - { name: all, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { each: 1/min } }] }
"#;

/// The client that connects from here is a trusted proxy; from elsewhere it is not.
const PROXY: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 66];

/// The headers of one request.
type Sent<'a> = &'a [(&'a str, &'a str)];

struct Stage {
    backend: Backend,
    gateway: Gateway,
    clock: ManualClock,
}

impl Stage {
    async fn set(client_ip: &str) -> Stage {
        let backend = Backend::ok().await;
        let (gateway, clock) =
            Gateway::with_clock(&backend, &format!("client_ip: {client_ip}\n{ROUTES}")).await;
        Stage { backend, gateway, clock }
    }

    async fn status(&self, local: [u8; 4], headers: Sent<'_>) -> u16 {
        let mut client = Client::connect_from(local.into(), self.gateway.address).await;
        let mut request = client.request("GET", "/");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().await.status
    }

    /// Each line of the table on its own: the first request is new, the second is the same client.
    async fn same(&self, local: [u8; 4], table: &[(Sent<'_>, Sent<'_>)]) {
        for (first, second) in table {
            self.clock.advance(crate::harness::gateway::seconds(60));
            assert_eq!(self.status(local, first).await, 200, "{first:?}");
            assert_eq!(self.status(local, second).await, 429, "{first:?} then {second:?}");
        }
    }

    async fn different(&self, local: [u8; 4], table: &[(Sent<'_>, Sent<'_>)]) {
        for (first, second) in table {
            self.clock.advance(crate::harness::gateway::seconds(60));
            assert_eq!(self.status(local, first).await, 200, "{first:?}");
            assert_eq!(self.status(local, second).await, 200, "{first:?} then {second:?}");
        }
    }
}

const XFF: &str = "X-Forwarded-For";

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_peer_is_its_own_address_whatever_it_says() {
    let stage = Stage::set("{ trusted_proxies: [127.0.0.1] }").await;
    assert_eq!(stage.status(STRANGER, &[]).await, 200);
    for headers in [
        &[(XFF, "192.0.2.1")][..],
        &[(XFF, "127.0.0.1")],
        &[(XFF, "192.0.2.1, 127.0.0.1")],
        &[(XFF, "192.0.2.1"), (XFF, "192.0.2.2")],
        &[("Forwarded", "for=192.0.2.1")],
        &[("X-Real-IP", "192.0.2.1"), ("True-Client-IP", "192.0.2.1"), ("CF-Connecting-IP", "192.0.2.1")],
        &[("X-Client-IP", "192.0.2.1"), ("Client-IP", "192.0.2.1"), ("X-Forwarded", "192.0.2.1")],
    ] {
        assert_eq!(stage.status(STRANGER, headers).await, 429, "{headers:?}");
    }
    // Nor can it use up somebody else's quota.
    assert_eq!(stage.status(PROXY, &[(XFF, "192.0.2.1")]).await, 200);
    assert_eq!(stage.backend.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_trusted_proxies_nobody_is_believed() {
    let stage = Stage::set("{}").await;
    for (last, expected) in [(1, 200), (2, 429), (3, 429)] {
        assert_eq!(stage.status(PROXY, &[(XFF, &format!("192.0.2.{last}"))]).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_one_trusted_proxy_are_counted_apart() {
    let stage = Stage::set("{ trusted_proxies: [127.0.0.1, 10.0.0.0/8] }").await;
    stage
        .different(
            PROXY,
            &[
                (&[(XFF, "192.0.2.1")], &[(XFF, "192.0.2.2")]),
                (&[(XFF, "192.0.2.1")], &[]),
                (&[(XFF, "192.0.2.1, 10.1.2.3")], &[(XFF, "192.0.2.2, 10.1.2.3")]),
                (&[(XFF, "2001:db8:0:1::1")], &[(XFF, "2001:db8:0:2::1")]),
            ],
        )
        .await;
    stage
        .same(
            PROXY,
            &[
                (&[(XFF, "192.0.2.1")], &[(XFF, "192.0.2.1")]),
                // What stands left of the client was written by the client.
                (&[(XFF, "192.0.2.1")], &[(XFF, "203.0.113.9, 192.0.2.1")]),
                (&[(XFF, "192.0.2.1")], &[(XFF, "10.0.0.9, 192.0.2.1")]),
                (&[(XFF, "192.0.2.1")], &[(XFF, "127.0.0.1, 192.0.2.1, 10.1.2.3, 10.3.2.1")]),
                // Several lines are one list.
                (&[(XFF, "192.0.2.1")], &[(XFF, "203.0.113.9"), (XFF, "192.0.2.1")]),
                (&[(XFF, "192.0.2.1")], &[(XFF, "203.0.113.9"), ("x-forwarded-for", "192.0.2.1, 10.1.2.3")]),
                // Ports, spaces and other spellings of one address.
                (&[(XFF, "192.0.2.1")], &[(XFF, " 192.0.2.1:4711 ")]),
                (&[(XFF, "192.0.2.1")], &[(XFF, "::ffff:192.0.2.1")]),
                (&[(XFF, "2001:db8::1")], &[(XFF, "[2001:DB8:0:0::1]:443")]),
                // One IPv6 client is one /64.
                (&[(XFF, "2001:db8::1")], &[(XFF, "2001:db8::ffff:ffff:ffff:ffff")]),
                // What cannot be read ends the walk at the hop before.
                (&[(XFF, "192.0.2.1")], &[(XFF, "garbage, 192.0.2.1")]),
                (&[], &[(XFF, "192.0.2.1, garbage")]),
                (&[], &[(XFF, "unknown")]),
                (&[], &[(XFF, "")]),
                (&[(XFF, "10.1.2.3")], &[(XFF, "garbage, 10.1.2.3")]),
                // Nobody but proxies: the farthest of them.
                (&[(XFF, "10.1.2.3")], &[(XFF, "10.1.2.3, 10.9.9.9")]),
                // The other headers are not looked at.
                (&[(XFF, "192.0.2.1")], &[(XFF, "192.0.2.1"), ("Forwarded", "for=203.0.113.9")]),
                (&[(XFF, "192.0.2.1")], &[(XFF, "192.0.2.1"), ("X-Real-IP", "203.0.113.9")]),
            ],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_piles_up_hops_stays_what_the_proxy_saw() {
    let stage = Stage::set("{ trusted_proxies: [127.0.0.1] }").await;
    assert_eq!(stage.status(PROXY, &[(XFF, "192.0.2.1")]).await, 200);
    for piled in ["203.0.113.9, ".repeat(100), "x".repeat(20_000), "127.0.0.1, ".repeat(1000)] {
        let list = format!("{piled}, 192.0.2.1");
        assert_eq!(stage.status(PROXY, &[(XFF, &list)]).await, 429, "{} bytes", list.len());
        assert_eq!(stage.status(PROXY, &[(XFF, &piled), (XFF, "192.0.2.1")]).await, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forwarded_header_is_read_by_its_grammar() {
    let stage = Stage::set("{ trusted_proxies: [127.0.0.1], header: forwarded }").await;
    let header = "Forwarded";
    stage
        .same(
            PROXY,
            &[
                (&[(header, "for=192.0.2.1")], &[(header, "For=\"192.0.2.1:80\";proto=https;by=10.0.0.1")]),
                (&[(header, "for=192.0.2.1")], &[(header, "for=203.0.113.9, for=192.0.2.1")]),
                (&[(header, "for=192.0.2.1")], &[(header, "for=203.0.113.9"), (header, "for=192.0.2.1")]),
                // A quote left open by the client does not swallow what the proxy wrote.
                (&[(header, "for=192.0.2.1")], &[(header, "for=\"203.0.113.9, for=192.0.2.1")]),
                (&[(header, "for=192.0.2.1")], &[(header, "for=\"a, for=b\", for=192.0.2.1")]),
                (&[(header, "for=\"[2001:db8::1]\"")], &[(header, "for=\"[2001:db8::2]:99\"")]),
                (&[], &[(header, "for=_hidden")]),
                (&[], &[(header, "for=unknown")]),
                (&[], &[(header, "192.0.2.1")]),
                (&[], &[(header, "for=192.0.2.1;for=192.0.2.2")]),
                (&[], &[(XFF, "192.0.2.1")]),
            ],
        )
        .await;
    let [one, two] = ["for=192.0.2.1", "for=192.0.2.2"];
    stage.different(PROXY, &[(&[(header, one)], &[(header, two)])]).await;
    stage.same(STRANGER, &[(&[(header, one)], &[(header, two)])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_one_address_is_believed_from_proxies_while_it_is_one() {
    let stage = Stage::set("{ trusted_proxies: [127.0.0.1], header: x-real-ip }").await;
    let header = "X-Real-IP";
    stage.different(PROXY, &[(&[(header, "192.0.2.1")], &[(header, "192.0.2.2")])]).await;
    stage
        .same(
            PROXY,
            &[
                (&[(header, "192.0.2.1")], &[(header, "192.0.2.1"), (XFF, "203.0.113.9")]),
                (&[(header, "192.0.2.1")], &[(header, "192.0.2.1"), (header, "192.0.2.1")]),
                (&[], &[(header, "192.0.2.1"), (header, "192.0.2.2")]),
                (&[], &[(header, "192.0.2.1, 192.0.2.2")]),
                (&[], &[(header, "nobody")]),
            ],
        )
        .await;
    stage.same(STRANGER, &[(&[(header, "192.0.2.1")], &[(header, "192.0.2.2")])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prefix_of_an_ipv6_client_is_configurable() {
    let stage = Stage::set("{ trusted_proxies: [127.0.0.1], ipv6_prefix: 48 }").await;
    stage.same(PROXY, &[(&[(XFF, "2001:db8:1:1::1")], &[(XFF, "2001:db8:1:ffff::1")])]).await;
    stage.different(PROXY, &[(&[(XFF, "2001:db8:1::1")], &[(XFF, "2001:db8:2::1")])]).await;
    let stage = Stage::set("{ trusted_proxies: [127.0.0.1], ipv6_prefix: 128 }").await;
    stage.different(PROXY, &[(&[(XFF, "2001:db8::1")], &[(XFF, "2001:db8::2")])]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_peer_is_counted_by_its_prefix() {
    let backend = Backend::ok().await;
    let preamble = format!(
        "version: 1\nlisten: [{{ address: \"[::1]:0\" }}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ app: {{ servers: [\"{}\"] }} }}\n",
        backend.addr()
    );
    let (clock, _hand) = Clock::manual(START);
    let gateway = Gateway::launch(&preamble, ROUTES, clock).await.expect("it starts");
    for expected in [200, 429] {
        assert_eq!(gateway.client().await.request("GET", "/").send().await.status, expected);
    }
    assert_eq!(backend.received()[0].headers.get("x-forwarded-for"), Some("::1"));
}
