//! Access lists: before any limit, from the file or from lists beside it.

use crate::harness::backend::Backend;
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, replace};

const ROUTES: &str = r#"
routes:
  - { name: all, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { each: 1/min } }] }
  - { name: post, match: { method: POST, path: /post }, upstream: app, limits: [{ key: body.email, windows: { each: 1/min } }] }
"#;

async fn ask(gateway: &Gateway, last: u8, target: &str) -> Answer {
    let mut client = Client::connect_from([127, 0, 0, last].into(), gateway.address).await;
    client.request("GET", target).send().await
}

async fn verdicts(gateway: &Gateway, route: &str, verdict: &str) -> f64 {
    gateway.metric(&format!("tollgate_requests_total{{route=\"{route}\",verdict=\"{verdict}\"}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_addresses_are_never_limited_and_denied_ones_never_served() {
    let backend = Backend::ok().await;
    let rules =
        format!("access: {{ allow: [127.0.0.2, 127.0.1.0/24], deny: [127.0.0.3, 127.0.1.9] }}\n{ROUTES}");
    let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;

    for _ in 0..5 {
        let allowed = ask(&gateway, 2, "/").await;
        assert_eq!(allowed.status, 200);
        assert_eq!(allowed.headers.get("x-ratelimit-limit"), None);
        assert_eq!(allowed.headers.get("ratelimit"), None);
    }
    assert_eq!(verdicts(&gateway, "all", "exempt").await, 5.0);

    for target in ["/", "/nowhere/else", "/%2F", "/post"] {
        let denied = ask(&gateway, 3, target).await;
        assert_eq!(denied.status, 403, "{target}");
        assert_eq!(denied.json(), serde_json::json!({ "detail": "Access from this address is denied." }));
        assert_eq!(denied.headers.get("retry-after"), None);
        assert!(!denied.connection_closed);
    }
    assert_eq!(verdicts(&gateway, "-", "denied").await, 4.0);

    // Denied beats allowed; who is on no list is limited.
    let mut both = Client::connect_from([127, 0, 1, 9].into(), gateway.address).await;
    assert_eq!(both.request("GET", "/").send().await.status, 403);
    for expected in [200, 429] {
        assert_eq!(ask(&gateway, 4, "/").await.status, expected);
    }
    assert_eq!(backend.count(), 6);

    // The body of who is allowed is not looked at.
    let mut client = Client::connect_from([127, 0, 0, 2].into(), gateway.address).await;
    let odd =
        client.request("POST", "/post").header("content-type", "text/plain").body("anything").send().await;
    assert_eq!((odd.status, backend.received()[6].body.as_slice()), (200, b"anything".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_a_trusted_proxy_is_looked_up_by_its_own_address() {
    let backend = Backend::ok().await;
    let rules = format!(
        "client_ip: {{ trusted_proxies: [127.0.0.1] }}\n\
         access: {{ allow: [192.0.2.0/24], deny: [203.0.113.9, \"2001:db8::/32\"] }}\n{ROUTES}"
    );
    let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;
    for (local, forwarded_for, expected) in [
        (1, "192.0.2.7", 200),
        (1, "192.0.2.7", 200),
        (1, "203.0.113.9", 403),
        (1, "::ffff:203.0.113.9", 403),
        (1, "2001:db8::77", 403),
        (1, "192.0.2.7, 203.0.113.9", 403),
        // Nobody lets themselves in, or talks themselves out of a ban.
        (5, "192.0.2.7", 200),
        (5, "192.0.2.7", 429),
        (1, "203.0.113.9, 198.51.100.1", 200),
    ] {
        let mut client = Client::connect_from([127, 0, 0, local].into(), gateway.address).await;
        let answer = client.request("GET", "/").header("x-forwarded-for", forwarded_for).send().await;
        assert_eq!(answer.status, expected, "{forwarded_for} by 127.0.0.{local}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_stand_in_files_beside_the_configuration_and_edits_go_live() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, ROUTES).await;
    let lists = gateway.folder().join("lists");
    std::fs::create_dir(&lists).unwrap();
    let office = "# the office\n127.0.0.2   # by the window\n\n  127.0.0.3\r\n";
    replace(&lists.join("office.txt"), office);
    replace(&lists.join("blocked.txt"), "127.0.0.128/25\n");
    let access =
        "access: { allow: [\"file:lists/office.txt\"], deny: [\"file:lists/blocked.txt\", 127.0.0.9] }\n";
    gateway.edit(&format!("{access}{ROUTES}"));
    gateway.reloaded("ok", 2).await;

    for last in [2, 3, 2, 3] {
        assert_eq!(ask(&gateway, last, "/").await.status, 200, "{last}");
    }
    for last in [9, 128, 200, 255] {
        assert_eq!(ask(&gateway, last, "/").await.status, 403, "{last}");
    }
    for expected in [200, 429] {
        assert_eq!(ask(&gateway, 4, "/").await.status, expected);
    }

    // An edit of a list alone goes live, and what was counted stays counted.
    replace(&lists.join("blocked.txt"), "127.0.0.2\n");
    gateway.reloaded("ok", 3).await;
    assert_eq!(ask(&gateway, 2, "/").await.status, 403);
    assert_eq!(ask(&gateway, 200, "/").await.status, 200);
    assert_eq!(ask(&gateway, 4, "/").await.status, 429);

    // A broken list is refused whole: the last good one stays.
    replace(&lists.join("blocked.txt"), "127.0.0.2\n127.0.0.3.4\n");
    gateway.reloaded("failed", 1).await;
    assert_eq!(ask(&gateway, 2, "/").await.status, 403);

    // Mended, it is in force again.
    replace(&lists.join("blocked.txt"), "127.0.0.77\n");
    gateway.reloaded("ok", 4).await;
    assert_eq!(ask(&gateway, 77, "/").await.status, 403);
    assert_eq!(ask(&gateway, 2, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_denied_while_connected_is_refused_with_its_next_request() {
    let backend = Backend::ok().await;
    let routes = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";
    let gateway = Gateway::start(&backend, routes).await;
    let mut culprit = Client::connect_from([127, 0, 0, 3].into(), gateway.address).await;
    let mut bystander = Client::connect_from([127, 0, 0, 4].into(), gateway.address).await;
    for client in [&mut culprit, &mut bystander] {
        assert_eq!(client.request("GET", "/").send().await.status, 200);
    }
    gateway.edit(&format!("access: {{ deny: [127.0.0.3] }}\n{routes}"));
    gateway.reloaded("ok", 2).await;
    assert_eq!(culprit.request("GET", "/").send().await.status, 403);
    assert_eq!(bystander.request("GET", "/").send().await.status, 200);
    gateway.edit(routes);
    gateway.reloaded("ok", 3).await;
    let pardoned = culprit.request("GET", "/").send().await;
    assert_eq!((pardoned.status, backend.count()), (200, 4));
}
