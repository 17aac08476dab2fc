//! Limits and blocks outlive the process: an orderly stop loses nothing, a kill what came after the last snapshot.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate::clock::Clock;
use tollgate::decision::time::Timestamp;

use crate::harness::backend::{Backend, Reply};
use crate::harness::binary::{Binary, Running, Signal};
use crate::harness::client::{Answer, Client};
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, START, seconds};

/// Routes by address, by mailbox, paced, with many events, and with a block.
const RULES: &str = "routes:
  - { name: ip, match: { path: /ip }, upstream: app, limits: [{ key: ip, windows: { a: 10/hour, b: 50/day } }] }
  - { name: mail, match: { method: POST, path: /mail }, upstream: app, limits: [{ key: body.email, windows: { a: 1/hour } }] }
  - { name: paced, match: { path: /paced }, upstream: app, limits: [{ key: ip, smooth: { rate: 1/hour, burst: 10 } }] }
  - { name: many, match: { path: /many }, upstream: app, limits: [{ key: ip, windows: { a: 200/day } }] }
  - { name: block, match: { path: /block }, upstream: app, limits: [{ key: ip, windows: { a: 1/s }, block: 2h }] }
";

/// What is left after one more request.
async fn left(client: &mut Client, path: &str) -> u64 {
    let answer = client.request("GET", path).send().await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    number(&answer, "x-ratelimit-remaining")
}

/// A request for a mailbox, which is told no number.
async fn mail(client: &mut Client) -> u16 {
    let request = client.request("POST", "/mail").json(r#"{"email":"ada.lovelace@example.com"}"#);
    request.send().await.status
}

fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.headers.get(name);
    value.unwrap_or_else(|| panic!("{} without {name}", answer.status)).parse().unwrap()
}

/// Three requests by address: seven are left.
async fn three(running: &Running) {
    let mut client = Client::connect(running.address).await;
    for expected in [9, 8, 7] {
        assert_eq!(left(&mut client, "/ip").await, expected);
    }
}

/// What is left by address after one more request.
async fn left_by_ip(running: &Running) -> u64 {
    left(&mut Client::connect(running.address).await, "/ip").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_loses_no_count_and_no_block() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, RULES).await;
    three(&running).await;
    let mut client = Client::connect(running.address).await;
    assert_eq!(mail(&mut client).await, 200);
    assert_eq!(left(&mut client, "/paced").await, 9);
    for expected in (100..200).rev() {
        assert_eq!(left(&mut client, "/many").await, expected);
    }
    let mut refused = client.request("GET", "/block").send().await;
    while refused.status == 200 {
        refused = client.request("GET", "/block").send().await;
    }
    drop(client);
    let until = number(&refused, "retry-after") + unix_now();

    let stopped = running.terminated().await;
    let snapshot = fs::read(stopped.data().join("counters.snapshot")).unwrap();
    assert!(!snapshot.windows(8).any(|bytes| bytes == b"lovelace"), "no value of a client is on disk");
    let running = stopped.start().await;
    let mut client = Client::connect(running.address).await;
    for (path, expected) in [("/ip", 6), ("/paced", 8), ("/many", 99)] {
        assert_eq!(left(&mut client, path).await, expected, "{path}");
    }
    assert_eq!(mail(&mut client).await, 429);
    let refused = client.request("GET", "/block").send().await;
    assert_eq!(refused.status, 429);
    let still_until = number(&refused, "retry-after") + unix_now();
    assert!(still_until.abs_diff(until) <= 2, "the block ends when it would have: {still_until} {until}");
    // And once more: what was read is written again.
    drop(client);
    let running = running.terminated().await.start().await;
    assert_eq!(left_by_ip(&running).await, 5);
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_what_came_after_the_last_snapshot() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, RULES).await;
    three(&running).await;
    let counted_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    eventually("a snapshot by itself", Duration::from_secs(60), async || {
        let saved_at = running.metric("tollgate_snapshot_last_timestamp_seconds").await;
        (saved_at > counted_at).then_some(())
    })
    .await;
    assert!(running.metric("tollgate_snapshot_seconds").await > 0.0);
    let running = running.killed().start().await;
    assert_eq!(left_by_ip(&running).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_requests_but_keeps_the_counts() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/many" => Reply::stall(),
        _ => Reply::json(200, "{}"),
    })
    .await;
    let mut running = Running::start(&backend, RULES).await;
    three(&running).await;
    let mut waiting = Client::connect(running.address).await;
    waiting.send_raw(b"GET /many HTTP/1.1\r\nhost: h\r\n\r\n").await;
    backend.wait_for(4).await;
    running.binary.signal(Signal::Terminate);
    running.binary.stdout.line_with("stopping").await;
    let running = running.terminated_again().await.start().await;
    assert_eq!(left_by_ip(&running).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_snapshot_is_told_and_put_aside() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, RULES).await;
    three(&running).await;
    let stopped = running.terminated().await;
    let file = stopped.data().join("counters.snapshot");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() - 40;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();

    let running = stopped.start().await;
    let log = running.binary.stdout.text();
    let told = log.lines().find(|line| line.contains("the saved counters cannot be used"));
    let told = told.unwrap_or_else(|| panic!("it is not told:\n{log}"));
    assert!(told.contains("\"level\":\"ERROR\"") && told.contains("it is damaged"), "{told}");
    assert_eq!(left_by_ip(&running).await, 9);
    let stopped = running.terminated().await;
    assert_eq!(fs::read(stopped.data().join("counters.snapshot.broken")).unwrap(), bytes);
    assert_eq!(left_by_ip(&stopped.start().await).await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_lost_begins_anew_and_a_damaged_one_does_not_start() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, RULES).await;
    three(&running).await;
    let stopped = running.terminated().await;
    fs::remove_file(stopped.data().join("secret")).unwrap();
    let running = stopped.start().await;
    assert!(running.binary.stdout.text().contains("it was made under another secret"));
    assert_eq!(left_by_ip(&running).await, 9);

    let stopped = running.terminated().await;
    fs::write(stopped.data().join("secret"), "short").unwrap();
    let ended = Binary::run(stopped.folder(), &["run"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("has 5 bytes, and the secret that was written there has 32"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_on_the_same_folder_is_refused() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, RULES).await;
    let second = Binary::run(running.folder(), &["run"]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    for part in ["another gateway is running on the folder", "data", "write another `store.data_dir`"] {
        assert!(second.stderr.contains(part), "{part} is missing in {:?}", second.stderr);
    }
    three(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_folder_it_serves_and_says_that_nothing_is_kept() {
    let backend = Backend::ok().await;
    // The file is no folder, and root may write everywhere else.
    let rules = format!("store: {{ data_dir: gateway.yaml }}\n{RULES}");
    let running = Running::start(&backend, &rules).await;
    let log = running.binary.stdout.text();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("store.data_dir cannot be used")).collect();
    assert!(told.len() == 1 && told[0].contains("\"level\":\"ERROR\""), "{log}");
    assert!(told[0].contains("limits and blocks end with this process"), "{log}");
    assert!(!log.contains("the journal has written nothing"), "what cannot be is not waited for: {log}");
    assert!(running.metrics().await.contains("tollgate_data_dir_up 0"));
    three(&running).await;
    let running = running.terminated().await.start().await;
    assert_eq!(left_by_ip(&running).await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_as_old_as_they_are_and_a_clock_set_back_locks_nobody_out() {
    const YEAR_MS: u64 = 365 * 86_400_000;
    let backend = Backend::ok().await;
    let rules = "routes: [{ name: r, match: { path: /r }, upstream: app, limits: [{ key: ip, windows: { a: 2/hour } }] }]\n";
    let (gateway, hand) = Gateway::with_clock(&backend, rules).await;
    let judged = async |gateway: &Gateway| {
        let answer = gateway.client().await.request("GET", "/r").send().await;
        (answer.status, answer.headers.get("retry-after").map(str::to_owned))
    };
    assert_eq!(judged(&gateway).await.0, 200);
    hand.advance(seconds(600));
    assert_eq!(judged(&gateway).await.0, 200);
    // Down for ten minutes.
    let (clock, _hand) = Clock::manual(START.plus(seconds(1200)));
    let gateway = gateway.restarted(clock).await;
    assert_eq!(judged(&gateway).await, (429, Some("2400".to_owned())));
    // A refusal counts nothing, so nothing was written: this is as of the first stop, when the older one was 600 s old.
    let (clock, hand) = Clock::manual(Timestamp::from_millis(START.floor_millis() - YEAR_MS));
    let gateway = gateway.restarted(clock).await;
    assert_eq!(judged(&gateway).await, (429, Some("3000".to_owned())));
    hand.advance(seconds(3000));
    assert_eq!(judged(&gateway).await.0, 200);
}
