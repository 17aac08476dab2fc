//! The access log of the running binary: a line for each request that is asked for, and nothing in it that should not
//! be kept.

use serde_json::Value;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::binary::{Running, Signal};
use crate::harness::client::Client;

const ROUTES: &str = r#"
routes:
  - name: login
    match: { method: POST, path: /login }
    upstream: app
    limits:
      - { key: [body.email, ip], as: email, windows: { w: 1/hour } }
      - { key: ip, windows: { w: 9/hour } }
  - { name: users, match: { path: "/users/{id}" }, upstream: app }
  - { name: rest, match: { path: /rest/* }, upstream: app }
"#;

/// The lines of the access log; panics at a line that is no JSON.
fn lines(log: &str) -> Vec<Value> {
    let parsed = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    parsed.filter(|line: &Value| line["message"] == "access").collect()
}

/// Stops the gateway and hands over all that it said.
async fn said(running: Running) -> String {
    running.binary.signal(Signal::Terminate);
    let ended = running.binary.ended().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    ended.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_a_line_with_its_verdict_and_where_its_time_went() {
    let backend = Backend::start(|_| Reply::new(200).body("hello")).await;
    let running = Running::start(&backend, &format!("{ROUTES}events: {{ access_log: all }}\n")).await;
    let mut client = Client::connect(running.address).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = client.request("POST", "/login?token=hush").header("user-agent", "curl/8");
        let answer = request.json(r#"{"email":"ada@example.com"}"#).send().await;
        ids.push(answer.headers.get("x-request-id").unwrap().to_owned());
    }
    client.request("GET", "/users/ada@example.com").send().await;
    client.request("GET", "/nowhere").send().await;
    let log = said(running).await;
    let lines = lines(&log);
    let [first, second, third, fourth] = lines.as_slice() else { panic!("four lines:\n{log}") };
    for (name, value) in [
        ("method", "POST"),
        ("path", "/login"),
        ("route", "login"),
        ("verdict", "admitted"),
        ("client", "127.0.0.1"),
        ("user_agent", "curl/8"),
        ("request_id", ids[0].as_str()),
    ] {
        assert_eq!(first[name], value, "{name}: {first}");
    }
    assert_eq!((&first["status"], &first["bytes"]), (&200.into(), &5.into()), "{first}");
    assert_eq!(first["keys"], serde_json::json!(["body.email+ip", "ip"]), "{first}");
    assert_eq!(first["server"], backend.addr().to_string(), "{first}");
    assert_eq!(first["trace_id"].as_str().map(str::len), Some(32), "{first}");
    let number = |line: &Value, name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name}: {line}"));
    assert!(number(first, "backend_ms") <= number(first, "total_ms"), "{first}");
    assert!(number(first, "decision_us") / 1000.0 <= number(first, "total_ms"), "{first}");

    assert_eq!((&second["status"], &second["verdict"]), (&429.into(), &"limited".into()), "{second}");
    assert_eq!(second["keys"], serde_json::json!(["body.email+ip"]), "{second}");
    assert_eq!(second["request_id"], *ids[1]);
    assert!(second.get("backend_ms").is_none() && second.get("server").is_none(), "{second}");
    assert_eq!((&third["path"], &third["route"]), (&"/users/***".into(), &"users".into()), "{third}");
    assert_eq!((&fourth["status"], &fourth["route"]), (&404.into(), &"-".into()), "{fourth}");
    for secret in ["hush", "ada@", "ada%40"] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_errors_alone_or_none_at_all_as_the_file_says_now() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/rest/broken" => Reply::new(500),
        "/rest/gone" => Reply::hang_up(),
        _ => Reply::new(200),
    })
    .await;
    let mut running = Running::start(&backend, ROUTES).await;
    let ask = async |running: &Running| {
        for target in ["/rest/fine", "/rest/broken", "/rest/gone", "/nowhere"] {
            Client::connect(running.address).await.request("GET", target).send().await;
        }
    };
    ask(&running).await;
    running.edit(&format!("{ROUTES}events: {{ access_log: errors }}\n"));
    running.binary.stdout.line_with("configuration was reloaded").await;
    ask(&running).await;
    let log = said(running).await;
    // On connections of their own: which of them is over first is not said.
    let mut told: Vec<(String, u64)> = lines(&log)
        .iter()
        .map(|line| (line["path"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap()))
        .collect();
    told.sort();
    let expected = [("/nowhere", 404), ("/rest/broken", 500), ("/rest/gone", 502)];
    assert_eq!(told, expected.map(|(path, status)| (path.to_owned(), status)), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_has_a_line_without_a_status() {
    let gate = Gate::shut();
    let reply = Reply::new(200).after(&gate);
    let backend = Backend::start(move |_| reply.clone()).await;
    let mut running = Running::start(&backend, &format!("{ROUTES}events: {{ access_log: errors }}\n")).await;
    let mut client = Client::connect(running.address).await;
    client.send_raw(b"GET /rest/slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    backend.wait_for(1).await;
    drop(client);
    let line = running.binary.stdout.line_with("\"access\"").await;
    gate.open();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["status"], &line["path"]), (&Value::Null, &"/rest/slow".into()), "{line}");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_when_the_gateway_stops() {
    const REQUESTS: usize = 2000;
    let backend = Backend::ok().await;
    let running = Running::start(&backend, &format!("{ROUTES}events: {{ access_log: all }}\n")).await;
    let mut client = Client::connect(running.address).await;
    for number in 0..REQUESTS {
        client.request("GET", &format!("/nowhere/{number}")).send().await;
    }
    let log = said(running).await;
    let paths: Vec<String> =
        lines(&log).iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<String> = (0..REQUESTS).map(|number| format!("/nowhere/{number}")).collect();
    assert_eq!(paths, expected);
}
