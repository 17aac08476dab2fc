//! An edit is live within about a second, costs nobody a connection or a counter, and a broken one changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tollgate::clock::Clock;
use tollgate::config::Environment;

use crate::harness::PATIENCE;
use crate::harness::backend::Backend;
use crate::harness::binary::{Running, Signal};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, START, preamble, reloaded, replace};

fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.headers.get(name);
    value.unwrap_or_else(|| panic!("{} without {name}", answer.status)).parse().unwrap()
}

async fn get(client: &mut Client, path: &str) -> Answer {
    client.request("GET", path).send().await
}

/// What is left after one more request.
async fn remaining(client: &mut Client, path: &str) -> u64 {
    let answer = get(client, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    number(&answer, "x-ratelimit-remaining")
}

/// One route at /r with these limits.
fn route(limits: &str) -> String {
    format!("routes:\n  - {{ name: r, match: {{ path: /r }}, upstream: app, limits: [{limits}] }}\n")
}

fn by_ip(windows: &str) -> String {
    route(&format!("{{ key: ip, windows: {{ {windows} }} }}"))
}

/// Three requests, the edit, one more on the same connection: what it is told to have left.
async fn left_after(before: String, after: String) -> u64 {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, &before).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/r").await.status, 200);
    }
    gateway.edit(&after);
    gateway.reloaded("ok", 2).await;
    let left = remaining(&mut client, "/r").await;
    assert_eq!(backend.connections(), 1, "the connection to the backend is kept as well");
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_stays_counted_whatever_becomes_of_the_limit() {
    let ip = "{ key: ip, windows: { a: 5/min } }";
    let global = "{ key: global, windows: { b: 50/min } }";
    let shadow = "{ key: ip, windows: { a: 5/min }, mode: shadow }";
    let other = "  - { name: other, match: { path: /other }, upstream: app }\n";
    let policy = |limits: &str| {
        let route = "routes:\n  - { name: r, match: { path: /r }, upstream: app, policies: [p] }\n";
        format!("policies: {{ p: [{limits}] }}\n{route}")
    };
    let smooth = |burst: u32| route(&format!("{{ key: ip, smooth: {{ rate: 1/min, burst: {burst} }} }}"));
    let table = [
        ("raised", by_ip("a: 5/min"), by_ip("a: 10/min"), 6),
        ("lowered", by_ip("a: 10/min"), by_ip("a: 5/min"), 1),
        ("past what a ring holds", by_ip("a: 50/min"), by_ip("a: 100/min"), 96),
        ("back to what a ring holds", by_ip("a: 100/min"), by_ip("a: 50/min"), 46),
        ("to wide buckets", by_ip("a: 60000/min"), by_ip("a: 70000/min"), 69_996),
        ("to narrow buckets", by_ip("a: 70000/min"), by_ip("a: 60000/min"), 59_996),
        ("a window renamed", by_ip("a: 5/min"), by_ip("b: 5/min"), 1),
        ("a longer window added", by_ip("a: 5/min"), by_ip("a: 5/min, b: 20/hour"), 1),
        ("a shorter window added", by_ip("b: 20/hour"), by_ip("a: 5/min, b: 20/hour"), 1),
        ("windows in another order", by_ip("a: 5/min, b: 20/hour"), by_ip("b: 20/hour, a: 5/min"), 1),
        ("a window removed", by_ip("a: 5/min, b: 20/hour"), by_ip("b: 20/hour"), 16),
        ("a window lengthened", by_ip("a: 5/min"), by_ip("a: 5/hour"), 1),
        ("a limit added before", route(ip), route(&format!("{global}, {ip}")), 1),
        ("limits in another order", route(&format!("{ip}, {global}")), route(&format!("{global}, {ip}")), 1),
        ("a limit removed", route(&format!("{ip}, {global}")), route(global), 46),
        ("no shadow any more", route(shadow), route(ip), 1),
        ("a policy edited", policy(ip), policy(&format!("{global}, {ip}")), 1),
        ("a smooth limit raised", smooth(5), smooth(10), 6),
        ("a route added", route(ip), format!("{}{other}", route(ip)), 1),
        ("a route removed", format!("{}{other}", route(ip)), route(ip), 1),
    ];
    let mut cases = JoinSet::new();
    for (name, before, after, left) in table {
        cases.spawn(async move { (name, left, left_after(before, after).await) });
    }
    while let Some(case) = cases.join_next().await {
        let (name, expected, left) = case.unwrap();
        assert_eq!(left, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_comes_back_finds_its_counters() {
    let backend = Backend::ok().await;
    let other = "  - { name: other, match: { path: /other }, upstream: app }\n";
    let both = format!("{}{other}", by_ip("a: 5/min"));
    let (gateway, _clock) = Gateway::with_clock(&backend, &both).await;
    let mut client = gateway.client().await;
    assert_eq!(remaining(&mut client, "/r").await, 4);
    gateway.edit(&format!("routes:\n{other}"));
    gateway.reloaded("ok", 2).await;
    assert_eq!(get(&mut client, "/r").await.status, 404);
    assert!(!gateway.metrics().await.contains("route=\"r\""), "series of a route that is gone are gone");
    gateway.edit(&both);
    gateway.reloaded("ok", 3).await;
    assert_eq!(remaining(&mut client, "/r").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_stays_blocked_over_an_edit() {
    let backend = Backend::ok().await;
    let blocking = |windows: &str| route(&format!("{{ key: ip, windows: {{ {windows} }}, block: 10m }}"));
    let (gateway, _clock) = Gateway::with_clock(&backend, &blocking("a: 1/min")).await;
    let mut client = gateway.client().await;
    assert_eq!(get(&mut client, "/r").await.status, 200);
    assert_eq!(number(&get(&mut client, "/r").await, "retry-after"), 600);
    gateway.edit(&blocking("a: 5/min"));
    gateway.reloaded("ok", 2).await;
    let refused = get(&mut client, "/r").await;
    assert_eq!((refused.status, number(&refused, "retry-after")), (429, 600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_is_refused_whole_and_the_last_good_one_stays() {
    let backend = Backend::ok().await;
    let good = by_ip("a: 100/hour");
    let (gateway, _clock) = Gateway::with_clock(&backend, &good).await;
    let mut client = gateway.client().await;
    let broken = [
        ("an unknown key", good.replace("upstream:", "upstraem:")),
        ("a limit that is none", by_ip("a: many/hour")),
        ("an unknown upstream among good edits", by_ip("a: 7/hour").replace("app", "elsewhere")),
        ("half a file", good[..good.len() - 20].to_owned()),
        ("no YAML", "routes: [".to_owned()),
        ("no route", "routes: []\n".to_owned()),
        ("no routes at all", String::new()),
    ];
    for (count, (what, text)) in (1..).zip(broken) {
        gateway.edit(&text);
        gateway.reloaded("failed", count).await;
        let left = remaining(&mut client, "/r").await;
        assert_eq!(left, 100 - u64::from(count), "{what}");
    }
    assert!(gateway.metric("tollgate_config_reloads_total{result=\"ok\"}").await < 2.0);
    gateway.edit(&by_ip("a: 50/hour"));
    gateway.reloaded("ok", 2).await;
    assert_eq!(remaining(&mut client, "/r").await, 50 - 8, "a good edit after broken ones is live");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_a_file_is_changed_it_is_noticed() {
    fn truncate_and_write(file: &Path, text: &str) {
        fs::write(file, "").unwrap();
        let (first, _) = text.split_at(text.len() / 2);
        fs::write(file, first).unwrap();
        fs::write(file, text).unwrap();
    }
    fn rename_over(file: &Path, text: &str) {
        let beside = file.with_extension("swp");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, file).unwrap();
    }
    fn move_away_and_write(file: &Path, text: &str) {
        fs::rename(file, file.with_extension("yaml~")).unwrap();
        fs::write(file, text).unwrap();
    }
    fn delete_and_recreate(file: &Path, text: &str) {
        fs::remove_file(file).unwrap();
        fs::write(file, text).unwrap();
    }
    type Change = fn(&Path, &str);
    let ways: [(&str, Change); 4] = [
        ("truncated and written in parts", truncate_and_write),
        ("renamed over", rename_over),
        ("moved away and written anew", move_away_and_write),
        ("deleted and recreated", delete_and_recreate),
    ];
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, &by_ip("a: 100000/hour")).await;
    let mut client = gateway.client().await;
    for (round, (way, change)) in (1..).zip(ways) {
        let max = 100_000 + round;
        change(gateway.config(), &gateway.whole(&by_ip(&format!("a: {max}/hour"))));
        // A reader that found the file half written has refused it, and reads again.
        let live = async { while limit_shown(&mut client).await != max {} };
        assert!(timeout(PATIENCE, live).await.is_ok(), "{way}: never noticed");
    }
}

/// The limit that the answer to one more request shows.
async fn limit_shown(client: &mut Client) -> u64 {
    number(&get(client, "/r").await, "x-ratelimit-limit")
}

/// A folder as Kubernetes mounts a ConfigMap: files link into `..data`, which links to a folder of one version.
fn config_map(folder: &Path, version: &str, text: &str) {
    let data = folder.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("gateway.yaml"), text).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_is_swapped_in() {
    let backend = Backend::ok().await;
    let folder = TempDir::new().unwrap();
    let text = |windows: &str| format!("{}{}", preamble(backend.addr()), by_ip(windows));
    config_map(folder.path(), "..2026_1", &text("a: 10/hour"));
    symlink("..data/gateway.yaml", folder.path().join("gateway.yaml")).unwrap();
    let config = folder.path().join("gateway.yaml");
    let gateway = Gateway::from_file(&config, Environment::empty(), Clock::system()).await.unwrap();
    let mut client = gateway.client().await;
    assert_eq!(remaining(&mut client, "/r").await, 9);
    for (count, version) in (2..).zip(["..2026_2", "..2026_3"]) {
        config_map(folder.path(), version, &text(&format!("a: {}/hour", 10 * count)));
        gateway.reloaded("ok", count).await;
        assert_eq!(remaining(&mut client, "/r").await, u64::from(9 * count));
    }
    fs::remove_dir_all(folder.path().join("..2026_1")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_edited_is_read_again() {
    let backend = Backend::ok().await;
    let limited = by_ip("a: 100/hour");
    let (gateway, _clock) = Gateway::with_clock(&backend, &limited).await;
    let mut client = gateway.client().await;
    let list = gateway.folder().join("deny.txt");
    replace(&list, "192.0.2.1\n");
    gateway.edit(&format!("access: {{ deny: [\"file:deny.txt\"] }}\n{limited}"));
    gateway.reloaded("ok", 2).await;
    assert_eq!(get(&mut client, "/r").await.status, 200);
    replace(&list, "192.0.2.1\n127.0.0.0/8\n");
    gateway.reloaded("ok", 3).await;
    assert_eq!(get(&mut client, "/r").await.status, 403);
    replace(&list, "127.0.0.0/8 or so\n");
    gateway.reloaded("failed", 1).await;
    assert_eq!(get(&mut client, "/r").await.status, 403, "a broken list is refused as well");
    replace(&list, "# nobody\n");
    gateway.reloaded("ok", 4).await;
    assert_eq!(get(&mut client, "/r").await.status, 200);
}

/// A key of Ed25519 with its name.
struct Signer {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Signer {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer { kid, pair: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap() }
    }

    fn jwk(&self) -> serde_json::Value {
        let x = BASE64.encode(self.pair.public_key().as_ref());
        serde_json::json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.kid, "x": x})
    }

    /// A header with a token for this user, good until 2030, which never comes by a clock that stands still.
    fn bearer(&self, user: &str) -> String {
        let part = |value: serde_json::Value| BASE64.encode(value.to_string());
        let head = part(serde_json::json!({"alg": "EdDSA", "kid": self.kid}));
        let claims = part(serde_json::json!({"sub": user, "exp": 1_893_456_000}));
        let signed = format!("{head}.{claims}");
        let signature = BASE64.encode(self.pair.sign(signed.as_bytes()).as_ref());
        format!("Bearer {signed}.{signature}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_that_is_edited_is_read_again() {
    let backend = Backend::ok().await;
    let folder = TempDir::new().unwrap();
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let write_keys = |keys: &[&Signer]| {
        let keys: Vec<_> = keys.iter().map(|signer| signer.jwk()).collect();
        replace(&folder.path().join("keys.json"), &serde_json::json!({ "keys": keys }).to_string());
    };
    write_keys(&[&old]);
    let user = "user: { jwt: { algorithms: [EdDSA], jwks_file: keys.json } }\n";
    let rules = format!("{user}{}", route("{ key: user, windows: { a: 10/hour } }"));
    let config = folder.path().join("gateway.yaml");
    fs::write(&config, format!("{}{rules}", preamble(backend.addr()))).unwrap();
    let gateway = Gateway::from_file(&config, Environment::empty(), Clock::manual(START).0).await.unwrap();
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/r").await.status, 200);
    }
    let mut left = async |signer: &Signer, user: &str| {
        let request = client.request("GET", "/r").header("authorization", signer.bearer(user));
        number(&request.send().await, "x-ratelimit-remaining")
    };
    assert_eq!(left(&old, "ada").await, 9);
    assert_eq!(left(&new, "bob").await, 6, "nobody known: counted by address");
    write_keys(&[&old, &new]);
    gateway.reloaded("ok", 2).await;
    assert_eq!(left(&new, "bob").await, 9);
    assert_eq!(left(&old, "ada").await, 8, "who was known keeps the counter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reloads_and_what_cannot_change_is_named() {
    let backend = Backend::ok().await;
    let rules = by_ip("a: 10/hour");
    let mut running = Running::start(&backend, &rules).await;
    running.binary.signal(Signal::HangUp);
    running.binary.stdout.line_with("the configuration was reloaded").await;
    reloaded(running.admin, "ok", 2).await;
    let mut client = Client::connect(running.address).await;
    assert_eq!(remaining(&mut client, "/r").await, 9);

    let text = fs::read_to_string(running.config()).unwrap();
    let text = text.replace("listen: [{ address: 127.0.0.1:0 }]", "listen: [{ address: 127.0.0.1:1 }]");
    let text = text.replace("admin: { address: 127.0.0.1:0 }", "admin: { address: 127.0.0.1:2 }");
    replace(&running.config(), &format!("{text}server: {{ workers: 3 }}\n").replace("10/hour", "20/hour"));
    for key in ["listen", "admin.address", "server.workers"] {
        let needs = format!("\"key\":\"{key}\"");
        let line = running.binary.stdout.line_with(&needs).await;
        assert!(line.contains("restart") && line.contains("WARN"), "{line}");
    }
    assert_eq!(remaining(&mut client, "/r").await, 18, "the rest of the edit is in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_is_told_with_its_line() {
    let backend = Backend::ok().await;
    let mut running = Running::start(&backend, &by_ip("a: 10/hour")).await;
    running.edit(&by_ip("a: 10/fortnight").replace("upstream:", "upstraem:"));
    let refused = running.binary.stdout.line_with("the configuration was not reloaded").await;
    assert!(refused.contains("ERROR"), "{refused}");
    // The rules begin after six lines; the route is on their second.
    assert_eq!(refused.matches("gateway.yaml:8:").count(), 2, "{refused}");
    assert!(refused.contains("upstraem") && refused.contains("fortnight"), "{refused}");
    assert!(!refused.contains("\\u000a"), "all on one line that people can read: {refused}");
    let mut client = Client::connect(running.address).await;
    assert_eq!(remaining(&mut client, "/r").await, 9);
}

/// Clients that ask as fast as they are answered, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    /// Fewer than the smallest limit of the test admits.
    const REQUESTS_MAX: usize = 50_000;

    async fn start(gateway: &Gateway, clients: usize) -> Load {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut set = JoinSet::new();
        for _ in 0..clients {
            let (mut client, stop, answered) = (gateway.client().await, stop.clone(), answered.clone());
            set.spawn(async move {
                while !stop.load(Ordering::Acquire) && answered.load(Ordering::Acquire) < Load::REQUESTS_MAX {
                    // Panics where the connection breaks: no request may fail.
                    let answer = get(&mut client, "/r").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        Load { stop, answered, clients: set }
    }

    /// Waits for so many more answers, so that no reload goes by without any.
    async fn more(&self, count: usize) {
        let enough = (self.answered.load(Ordering::Acquire) + count).min(Load::REQUESTS_MAX);
        while self.answered.load(Ordering::Acquire) < enough {
            tokio::task::yield_now().await;
        }
    }

    /// How many requests were answered.
    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Release);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.answered.load(Ordering::Acquire)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_reloads_under_load_lose_no_request_and_no_count() {
    const RELOADS: u32 = 200;
    let backend = Backend::ok().await;
    let other = "  - { name: other, match: { path: /other }, upstream: app }\n";
    // Another number, another width of buckets, another name, another neighbour each time.
    let shapes = [
        by_ip("a: 900000/hour"),
        format!("{}{other}", by_ip("a: 60000/hour")),
        by_ip("b: 1000000/hour"),
        route("{ key: global, windows: { c: 1000000/hour } }, { key: ip, windows: { a: 65000/hour } }"),
    ];
    let gateway = Gateway::start(&backend, &shapes[0]).await;
    let load = Load::start(&gateway, 6).await;
    for (round, shape) in (1..=RELOADS).zip(shapes.iter().cycle().skip(1)) {
        gateway.edit(shape);
        gateway.ask_for_reload().await;
        gateway.reloaded("ok", round + 1).await;
        load.more(1).await;
    }
    let answered = load.end().await;
    assert_eq!(gateway.metric("tollgate_config_reloads_total{result=\"failed\"}").await, 0.0);
    assert_eq!(backend.count(), answered, "every answer came from the backend");

    gateway.edit(&shapes[0]);
    gateway.ask_for_reload().await;
    let mut client = gateway.client().await;
    let last = loop {
        let answer = get(&mut client, "/r").await;
        if number(&answer, "x-ratelimit-limit") == 900_000 {
            break answer;
        }
    };
    let used = 900_000 - number(&last, "x-ratelimit-remaining");
    assert_eq!(used, backend.count() as u64, "every request is counted, once");
}
