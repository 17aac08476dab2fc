//! The log of the running binary: few lines, each of one event, and nothing in them that should not be kept.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::backend::{Backend, Reply};
use crate::harness::binary::{Running, Signal};
use crate::harness::client::Client;

const ROUTES: &str = r#"
routes:
  - { name: otp, match: { method: POST, path: /otp }, upstream: app, limits: [{ key: body.email, as: email, windows: { w: 1/hour } }] }
  - { name: sms, match: { method: POST, path: "/sms/{phone}" }, upstream: app, limits: [{ key: path.phone, as: phone, windows: { w: 1/hour } }] }
  - { name: mine, match: { path: /mine }, upstream: app, limits: [{ key: user, windows: { w: 1/hour } }] }
  - { name: keyed, match: { path: /keyed }, upstream: app, limits: [{ key: [header.x-api-key, cookie.session, query.token], windows: { w: 1/hour } }] }
"#;

/// Each line as JSON; panics at one that is none.
fn events(log: &str) -> Vec<Value> {
    let parsed = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    parsed.collect()
}

/// Stops the gateway and hands over all that it said.
async fn said(running: Running) -> String {
    running.binary.signal(Signal::Terminate);
    let ended = running.binary.ended().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    ended.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_one_line_that_says_what_refused() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, ROUTES).await;
    let mut client = Client::connect(running.address).await;
    for _ in 0..2 {
        client.request("POST", "/otp?token=hush").json(r#"{"email":"ada@example.com"}"#).send().await;
    }
    let log = said(running).await;
    let refused: Vec<Value> =
        events(&log).into_iter().filter(|event| event["message"] == "refused").collect();
    let [line] = refused.as_slice() else { panic!("one refusal, one line:\n{log}") };
    for (name, value) in [
        ("level", "INFO"),
        ("route", "otp"),
        ("verdict", "limited"),
        ("policy", "otp"),
        ("key", "body.email"),
        ("window", "w"),
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("path", "/otp"),
    ] {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    assert_eq!(line["status"], 429);
    // A second more where both requests came within the same millisecond: times are rounded up.
    assert!((1..=3601).contains(&line["retry_after_s"].as_u64().unwrap()), "{line}");
    assert!(line["timestamp"].is_string(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attack_costs_few_lines_and_one_that_counts_the_rest() {
    const REFUSALS: usize = 1000;
    /// As many lines as a second may have.
    const LINES_A_SECOND: usize = 50;
    let backend = Backend::ok().await;
    let mut running = Running::start(&backend, ROUTES).await;
    let address = running.address;
    assert_eq!(crate::harness::client::get(address, "/mine").await.status, 200);
    let started = Instant::now();
    let mut attackers = JoinSet::new();
    for _ in 0..8 {
        attackers.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..REFUSALS / 8 {
                assert_eq!(client.request("GET", "/mine").send().await.status, 429);
            }
        });
    }
    while let Some(attacker) = attackers.join_next().await {
        attacker.unwrap();
    }
    let lasted = started.elapsed();
    let told = |log: &str| {
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let events = events(whole);
        let written = events.iter().filter(|event| event["message"] == "refused").count();
        let is_summary = |event: &&Value| event["message"].as_str().unwrap().starts_with("suppressed");
        let summaries: Vec<u64> =
            events.iter().filter(is_summary).map(|event| event["count"].as_u64().unwrap()).collect();
        (written, summaries)
    };
    let log = running
        .binary
        .stdout
        .until("every refusal accounted for", |log| {
            let (written, summaries) = told(log);
            written as u64 + summaries.iter().sum::<u64>() >= REFUSALS as u64
        })
        .await;
    let (written, summaries) = told(&log);
    assert_eq!(written as u64 + summaries.iter().sum::<u64>(), REFUSALS as u64, "{log}");
    let seconds = (lasted + Duration::from_secs(1)).as_secs() as usize;
    assert!(written <= LINES_A_SECOND * seconds, "{written} lines in {lasted:?}");
    assert!(summaries.len() <= seconds + 1, "{summaries:?} in {lasted:?}");
}

/// What stands for a secret or a person in the requests below.
const PRIVATE: [&str; 10] = [
    "ada.lovelace",
    "example.org",
    "2025550143",
    "hunter2",
    "eyJhbGciOiJIUzI1NiJ9",
    "key-of-ada",
    "session-of-ada",
    "token-of-ada",
    "name-in-broken-json",
    "agent-of-ada",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_kept() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/mine" => Reply::hang_up(),
        _ => Reply::json(200, "{}"),
    })
    .await;
    let running = Running::start(&backend, ROUTES).await;
    let token = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.AAAA";
    let mut client = Client::connect(running.address).await;
    for _ in 0..3 {
        let email = r#"{"email":"ada.lovelace@example.org","password":"hunter2"}"#;
        let mut send = async |method: &str, target: &str, body: &str| {
            let request = client.request(method, target).header("authorization", token);
            let request = request.header("x-api-key", "key-of-ada").header("user-agent", "agent-of-ada");
            let request = request.header("cookie", "session=session-of-ada");
            // A backend that hangs up costs the connection, which is made again.
            let sent = request.json(body).try_send().await;
            if !sent.is_ok_and(|answer| !answer.connection_closed) {
                client = Client::connect(running.address).await;
            }
        };
        send("POST", "/otp", email).await;
        send("POST", "/otp?email=ada.lovelace@example.org", email).await;
        send("POST", "/sms/+12025550143", "{}").await;
        send("POST", "/sms/%2B1%20202%20555%200143?phone=12025550143", "{}").await;
        send("POST", "/sms/+1(202)555-0143-2025550143", "{}").await;
        send("GET", "/keyed?token=token-of-ada", "{}").await;
        send("GET", "/mine", "{}").await;
        send("GET", "/nowhere/ada.lovelace@example.org/?token=token-of-ada", "{}").await;
        send("GET", "/nowhere/ada.lovelace%40example.org", "{}").await;
        send("POST", "/otp", r#"{"email":"name-in-broken-json""#).await;
        send("POST", "/otp", r#"{"email":["name-in-broken-json"]}"#).await;
        send("POST", "/otp", r#"{"email":"name-in-broken-json","email":"x@example.org"}"#).await;
    }
    drop(client);
    let log = said(running).await;
    for private in PRIVATE {
        let kept: Vec<&str> = log.lines().filter(|line| line.contains(private)).collect();
        assert!(kept.is_empty(), "{private} is kept:\n{}", kept.join("\n"));
    }
    let refused = events(&log).iter().filter(|event| event["message"] == "refused").count();
    assert!(refused >= 12, "the refusals were written:\n{log}");
}

const GUARDED: &str = r#"
client_ip: { trusted_proxies: [127.0.0.1] }
user: { header: x-user }
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app, limits: [
      { key: [body.username, ip], count: failures, backoff: { base: 100ms, max: 200ms } },
      { key: body.username, count: failures, windows: { tries: 2/h }, block: 1h }] }
  - { name: code, match: { method: POST, path: /code }, upstream: app, suspect: otp_request,
      limits: [{ key: body.phone, as: phone, windows: { w: 1/h }, block: 1h }] }
  - { name: mine, match: { path: /mine }, upstream: app, limits: [{ key: user, windows: { w: 1/h }, block: 1h }] }
suspicion:
  - { key: body.username, threshold: 1/h, block: 1h }
"#;

/// Blocks and events of people: what is written down of them tells nobody who they are.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_in_clear_on_disk_or_in_metrics() {
    const CLEAR: [&str; 6] =
        ["lovelace", "2025550143", "202) 555-0143", "hunter2", "babbage", "token-of-ada"];
    let backend = Backend::start(|_| Reply::json(401, "{}")).await;
    let mut running = Running::start(&backend, GUARDED).await;
    let mut client = Client::connect(running.address).await;
    let mut send = async |method: &str, target: &str, body: &str| {
        let request = client.request(method, target).header("authorization", "token-of-ada");
        request.header("x-user", "babbage").json(body).send().await.status
    };
    for username in ["Ada.Lovelace@example.org", "lovelace", "ada lovelace"] {
        let body = format!("{{\"username\":\"{username}\",\"password\":\"hunter2\"}}");
        for _ in 0..4 {
            send("POST", "/login", &body).await;
        }
    }
    for phone in ["+12025550143", "+1 (202) 555-0143", "+12025550143"] {
        send("POST", "/code", &format!("{{\"phone\":\"{phone}\"}}")).await;
    }
    for expected in [401, 429, 429, 429] {
        assert_eq!(send("GET", "/mine?token=token-of-ada", "{}").await, expected);
    }
    let held = async |reason: &str| running.metric(&format!("tollgate_blocks{{reason=\"{reason}\"}}")).await;
    assert!(held("limit").await >= 2.0 && held("suspicion").await >= 1.0, "blocks began");
    let failures = running.metric(r#"tollgate_attempts_total{outcome="failure",route="login"}"#).await;
    assert!(failures >= 3.0, "attempts failed");
    let page = running.metrics().await;
    let log = running
        .binary
        .stdout
        .until("a line of each block", |log| log.matches(r#""message":"blocked""#).count() >= 3)
        .await;
    // While it runs and after it has, so that the write-ahead log is seen too.
    let mut files = everything_in(&running.folder().join("data"));
    files.extend(everything_in(&running.terminated().await.data()));
    for wanted in ["journal.db", "counters.snapshot"] {
        assert!(files.iter().any(|(name, bytes)| name == wanted && !bytes.is_empty()), "{wanted} is there");
    }
    files.extend([("the metrics".to_owned(), page.into_bytes()), ("the log".to_owned(), log.into_bytes())]);
    for (name, bytes) in files {
        for clear in CLEAR {
            let found = bytes.windows(clear.len()).any(|part| part.eq_ignore_ascii_case(clear.as_bytes()));
            assert!(!found, "{clear} is in {name}");
        }
    }
}

fn everything_in(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    // One that is gone meanwhile is looked at under its new name.
    names.filter_map(|name| Some((name.clone(), std::fs::read(folder.join(&name)).ok()?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_an_attacker_makes_a_line_or_steers_a_terminal() {
    for format in ["json", "text"] {
        let backend = Backend::ok().await;
        let running = Running::start(&backend, &format!("events: {{ log: {format} }}\n{ROUTES}")).await;
        let evil: [&[u8]; 8] = [
            b"GET /a%0aINFO%20forged%0d HTTP/1.1\r\nhost: h\r\n\r\n",
            b"GET /a%1b[2J%00 HTTP/1.1\r\nhost: h\r\n\r\n",
            b"GET /a\x1b[2Jb HTTP/1.1\r\nhost: h\r\n\r\n",
            b"GET /a\xe2\x80\xaeb\xc2\x9b31m HTTP/1.1\r\nhost: h\r\n\r\n",
            b"GET /a\xff\xfeb\" verdict=\"admitted HTTP/1.1\r\nhost: h\r\n\r\n",
            b"G\x1b]0;x\x07ET /a HTTP/1.1\r\nhost: h\r\n\r\n",
            b"GET /mine HTTP/1.1\r\nhost: h\x1b[2J\r\nx-forwarded-for: \x1b[2J\xff\r\n\r\n",
            b"GET /a\nINFO forged HTTP/1.1\r\nhost: h\r\n\r\n",
        ];
        for bytes in evil {
            let mut client = Client::connect(running.address).await;
            client.send_raw(bytes).await;
            // Answered or hung up on: the log is what counts here.
            let _answer = client.answer_to("GET").await;
        }
        let log = said(running).await;
        assert!(log.contains("refused"), "{log}");
        for line in log.lines() {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{format}: {line:?}");
            assert!(!line.starts_with("INFO"), "{format}: {line}");
            if format == "json" {
                let event: Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert_ne!(event["verdict"], "admitted", "{line}");
            } else {
                assert!(line.starts_with("20"), "a line begins with its time: {line}");
                assert!(!line.contains(" verdict=\"admitted"), "{line}");
            }
        }
    }
}
