//! Values of a body that a route takes from nobody: by domain, by list, by pattern; before anything is charged.

use serde_json::{Value, json};

use crate::harness::backend::Backend;
use crate::harness::binary::{Running, Signal};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, replace};

const ROUTES: &str = r#"
access: { allow: [127.0.0.2] }
responses: { cors: { origins: ["https://app.example.com"] } }
routes:
  - name: sign-up
    match: { method: POST, path: /sign-up }
    upstream: app
    limits: [{ key: ip, windows: { each: 2/min } }, { key: body.email, as: email, windows: { each: 2/min } }]
    reject:
      - { field: body.email, domain_in: [evil.example, "bücher.example"], detail: Email domain not allowed. }
      - { field: body.name, value_in: [root, Admin], status: 403, detail: "Not \"that\" name." }
      - { field: body.name, matches: "^(a+)+$" }
  - { name: free, match: { path: /free }, upstream: app, reject: [{ field: body.user.email, domain_in: evil.example }] }
"#;

const FORM: &str = "application/x-www-form-urlencoded";

async fn post(client: &mut Client, path: &str, body: &str) -> Answer {
    client.request("POST", path).json(body).send().await
}

async fn verdicts(gateway: &Gateway, route: &str, verdict: &str) -> f64 {
    gateway.metric(&format!("tollgate_requests_total{{route=\"{route}\",verdict=\"{verdict}\"}}")).await
}

fn multipart(email: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n{email}\r\n--b--\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_domain_is_rejected_in_every_kind_of_body() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, ROUTES).await;
    let mut client = gateway.client().await;
    let bodies = [
        ("application/json", r#"{"email":"Ann@Mail.EVIL.example."}"#.to_owned()),
        ("application/json", r#"{"email":"ann@b\u00fccher.example"}"#.to_owned()),
        ("application/json", r#"{"email":"ann@xn--bcher-kva.example"}"#.to_owned()),
        (FORM, "email=ann%40home.example%40evil.example&x=1".to_owned()),
        ("multipart/form-data; boundary=b", multipart("ann@evil.example")),
    ];
    for (media, body) in &bodies {
        let request = client.request("POST", "/sign-up").header("content-type", media).body(body.as_bytes());
        let answer = request.send().await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        assert_eq!(answer.json(), json!({ "detail": "Email domain not allowed." }));
        assert_eq!(answer.headers.get("content-type"), Some("application/json"));
        for absent in ["retry-after", "x-ratelimit-limit", "ratelimit", "access-control-allow-origin"] {
            assert_eq!(answer.headers.get(absent), None, "{absent}");
        }
        assert!(!answer.connection_closed, "{body}");
    }
    assert_eq!(backend.count(), 0);
    assert_eq!(verdicts(&gateway, "sign-up", "rejected").await, bodies.len() as f64);

    // More were rejected than the limits admit: none was charged.
    for (media, body) in [
        (FORM, "email=ann%40home.example".to_owned()),
        ("multipart/form-data; boundary=b", multipart("ann@home.example")),
    ] {
        let request = client.request("POST", "/sign-up").header("content-type", media).body(body.as_bytes());
        assert_eq!(request.send().await.status, 200);
    }
    assert_eq!(backend.received()[0].body, b"email=ann%40home.example");
    // Who is limited by address is told so: the body need not be read for that.
    assert_eq!(post(&mut client, "/sign-up", r#"{"email":"ann@evil.example"}"#).await.status, 429);
    assert_eq!(verdicts(&gateway, "sign-up", "admitted").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_answers_in_its_own_words_and_browsers_may_read_them() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, ROUTES).await;
    let mut client = gateway.client().await;
    for (name, status, detail) in [
        ("ADMIN", 403, "Not \"that\" name."),
        (" r\u{ff4f}ot ", 403, "Not \"that\" name."),
        ("aaaa", 422, "This value is not accepted."),
    ] {
        let body = json!({ "name": name, "email": "ann@home.example" }).to_string();
        let request = client.request("POST", "/sign-up").header("origin", "https://app.example.com");
        let answer = request.json(&body).send().await;
        assert_eq!((answer.status, answer.json()), (status, json!({ "detail": detail })), "{name}");
        assert_eq!(answer.headers.get("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(answer.headers.get("vary"), Some("Origin"));
    }
    // As long as a value may be, made for engines that go back: no is no, and at once.
    let long = json!({ "name": format!("{}!", "a".repeat(1000)) }).to_string();
    assert_eq!(post(&mut client, "/sign-up", &long).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_with_nothing_but_a_rule_reads_bodies_as_strictly_as_any() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, ROUTES).await;
    let mut client = gateway.client().await;
    for (body, expected) in [
        (r#"{"user":{"email":"ann@evil.example"}}"#, 422),
        (r#"{"user":{"email":"ann@home.example"}}"#, 200),
        // Without the field the rule does not apply.
        (r#"{"user":{}}"#, 200),
        (r#"{"email":"ann@evil.example"}"#, 200),
        (r#"{"user":{"email":null}}"#, 200),
        // Whatever a backend could read otherwise is refused, as where it is counted.
        (r#"{"user":{"email":"ann@home.example","email":"ann@evil.example"}}"#, 400),
        (r#"{"user":{"email":"ann@home.example","EMAIL":"ann@evil.example"}}"#, 400),
        (r#"{"user":{"email":["ann@evil.example"]}}"#, 400),
        (r#"{"user":{"email":"ann@evil.example\u0007"}}"#, 400),
        ("[]", 400),
    ] {
        let answer = post(&mut client, "/free", body).await;
        assert_eq!(answer.status, expected, "{body}: {}", answer.text());
    }
    let plain = client.request("POST", "/free").header("content-type", "text/plain").body("ann@evil.example");
    assert_eq!(plain.send().await.status, 415);
    let coded = client.request("POST", "/free").header("content-encoding", "gzip").json("{}");
    assert_eq!(coded.send().await.status, 415);
    assert_eq!(client.request("GET", "/free").send().await.status, 200);
    let queried = client.request("GET", "/free?user[email]=ann@evil.example").send().await;
    assert_eq!(queried.status, 400);
    // The gateway stays out of the way of allowed addresses, here as well.
    let mut allowed = Client::connect_from([127, 0, 0, 2].into(), gateway.address).await;
    assert_eq!(post(&mut allowed, "/free", r#"{"user":{"email":"ann@evil.example"}}"#).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_list_is_live_on_open_connections() {
    const LISTED: &str = r#"
routes:
  - { name: all, match: { path: /* }, upstream: app, reject: [{ field: body.email, domain_in: [always.example, "file:lists/domains.txt"] }] }
  - { name: too, match: { path: /too }, upstream: app, reject: [{ field: body.email, domain_in: "file:lists/domains.txt" }] }
"#;
    let backend = Backend::ok().await;
    let gateway =
        Gateway::start(&backend, "routes: [{ name: all, match: { path: /* }, upstream: app }]\n").await;
    let lists = gateway.folder().join("lists");
    std::fs::create_dir(&lists).unwrap();
    replace(&lists.join("domains.txt"), "# disposable\nevil.example   # by hand\n\n  worse.example\r\n");
    gateway.edit(LISTED);
    gateway.reloaded("ok", 2).await;

    let mut client = gateway.client().await;
    let mut ask = async |path: &str, domain: &str| {
        post(&mut client, path, &format!(r#"{{"email":"ann@{domain}"}}"#)).await.status
    };
    for path in ["/", "/too"] {
        for (domain, expected) in [("evil.example", 422), ("mail.worse.example", 422), ("new.example", 200)] {
            assert_eq!(ask(path, domain).await, expected, "{path} {domain}");
        }
    }
    assert_eq!((ask("/", "always.example").await, ask("/too", "always.example").await), (422, 200));

    replace(&lists.join("domains.txt"), "new.example\n");
    gateway.reloaded("ok", 3).await;
    for path in ["/", "/too"] {
        for (domain, expected) in [("evil.example", 200), ("new.example", 422)] {
            assert_eq!(ask(path, domain).await, expected, "{path} {domain}");
        }
    }

    // A broken list is refused whole: the last good one stays.
    replace(&lists.join("domains.txt"), "evil.example\n*.new.example\n");
    gateway.reloaded("failed", 1).await;
    assert_eq!((ask("/", "evil.example").await, ask("/", "new.example").await), (200, 422));

    // As many as there are disposable domains.
    let many: String = (0..100_000).map(|number| format!("d{number}.example\n")).collect();
    replace(&lists.join("domains.txt"), &many);
    gateway.reloaded("ok", 4).await;
    for (domain, expected) in [("d0.example", 422), ("a.d99999.example", 422), ("d100000.example", 200)] {
        assert_eq!(ask("/", domain).await, expected, "{domain}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_one_line_without_the_value() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, ROUTES).await;
    let mut client = Client::connect(running.address).await;
    for body in [r#"{"email":"ann.hush@sub.evil.example"}"#, r#"{"name":"rOOt"}"#] {
        post(&mut client, "/sign-up?token=hush", body).await;
    }
    assert_eq!(running.metric("tollgate_requests_total{route=\"sign-up\",verdict=\"rejected\"}").await, 2.0);
    let metrics = running.metrics().await;
    running.binary.signal(Signal::Terminate);
    let log = running.binary.ended().await.stdout;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused: Vec<&Value> = lines.iter().filter(|line| line["message"] == "refused").collect();
    let [first, second] = refused.as_slice() else { panic!("two refusals, two lines:\n{log}") };
    for (line, status, key, rule) in
        [(first, 422, "body.email", "reject[0]"), (second, 403, "body.name", "reject[1]")]
    {
        for (name, value) in [("route", "sign-up"), ("verdict", "rejected"), ("key", key), ("rule", rule)] {
            assert_eq!(line[name], value, "{name}: {line}");
        }
        assert_eq!((&line["status"], &line["client"]), (&json!(status), &json!("127.0.0.1")));
        assert!(line["policy"].is_null() && line["retry_after_s"].is_null(), "{line}");
    }
    for private in ["hush", "evil.example", "rOOt"] {
        assert!(!log.contains(private) && !metrics.contains(private), "{private} in\n{log}");
    }
}
