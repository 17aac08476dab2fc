//! The watch room's page, as somebody on call meets it: in a real browser.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Reply};
use crate::harness::browser::{Browser, in_browser};
use crate::harness::client::Client;
use crate::harness::gateway::Gateway;

const ADMIN: &str = "a-token-for-the-operators-of-the-test";
const VIEWER: &str = "a-token-for-the-viewers-of-the-test-x";

const RULES: &str = "
policies:
  sign-in: [{ key: body.username, as: exact, count: failures, windows: { attempts: 3/15m }, block: 30m }]
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app, policies: [sign-in] }
";

/// Codes go to nobody's phone, and whoever asks for one is told it.
const CODES: &str = "
sms: { providers: [{ name: desk, kind: console, cost: { default: 0.0075, currency: USD } }] }
otp: { secret: a-secret-of-the-tests-of-the-page, expose_code: true }
routes:
  - { name: send, match: { method: POST, path: /otp/send }, otp: send }
  - { name: verify, match: { method: POST, path: /otp/verify }, otp: verify }
";

/// A gateway before a backend that believes nobody.
async fn gateway() -> (Backend, Gateway) {
    gateway_with(RULES).await
}

async fn gateway_with(rules: &str) -> (Backend, Gateway) {
    let backend = Backend::start(|_| Reply::json(401, r#"{"detail":"no"}"#)).await;
    let preamble = format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nadmin:\n  address: 127.0.0.1:0\n  tokens:\n    \
         - {{ name: ops, token: {ADMIN}, role: admin }}\n    - {{ name: night, token: {VIEWER}, role: viewer }}\n\
         upstreams:\n  app:\n    servers: [\"{}\"]\n",
        backend.addr()
    );
    let gateway = Gateway::launch(&preamble, rules, Clock::system()).await.expect("it starts");
    (backend, gateway)
}

/// Tries a password for this name, and hands over the status.
async fn sign_in(address: SocketAddr, username: &str) -> u16 {
    let body = json!({ "username": username, "password": "guess" }).to_string();
    Client::connect(address).await.request("POST", "/login").json(&body).send().await.status
}

async fn block(address: SocketAddr, username: &str) {
    for _ in 0..3 {
        assert_eq!(sign_in(address, username).await, 401);
    }
    assert_eq!(sign_in(address, username).await, 429);
}

async fn log_in(browser: &Browser, admin: SocketAddr, token: &str) {
    browser.goto(&format!("http://{admin}/")).await;
    browser.write("#token", token).await;
    browser.click("#login-form button").await;
    browser.shown("#blocks").await;
}

#[tokio::test]
async fn a_block_appears_live_and_is_lifted() {
    let (_backend, gateway) = gateway().await;
    let (address, admin) = (gateway.address, gateway.admin);
    in_browser(async |browser| {
        browser.goto(&format!("http://{admin}/")).await;
        browser.write("#token", "a-token-that-nobody-gave-to-anybody").await;
        browser.click("#login-form button").await;
        browser.says("#login-error", "does not know this token").await;
        log_in(browser, admin, ADMIN).await;
        browser.says("#blocks .empty", "Nobody is blocked").await;
        browser.says("#live", "Live").await;

        block(address, "ada@example.com").await;
        browser.says("#blocks tbody .who", "ada@example.com").await;
        browser.says("#blocks tbody .why", "3 failed attempts on login").await;
        browser.says("#blocks tbody .countdown", "in 29 min").await;
        browser.says("#n-blocks", "1").await;

        browser.click("#blocks tbody button.quiet").await;
        browser.says("#details-body", "at most 3 in any 15m may fail").await;
        browser.click("#details button[type=submit]").await;

        browser.click("#blocks tbody button[aria-label^=Unblock]").await;
        browser.says("#confirm-body", "ada@example.com").await;
        browser.click("#confirm-yes").await;
        browser.says("#blocks .empty", "Nobody is blocked").await;
        assert_eq!(sign_in(address, "ada@example.com").await, 401, "the backend is asked again");

        browser.goto(&format!("http://{admin}/#events?kind=unblocked")).await;
        browser.says("#events tbody .who", "ada@example.com").await;
        browser.says("#events tbody", "by ops").await;
    })
    .await;
}

#[tokio::test]
async fn whoever_may_only_look_is_offered_nothing_else() {
    let (_backend, gateway) = gateway().await;
    let (address, admin) = (gateway.address, gateway.admin);
    in_browser(async |browser| {
        block(address, "ada@example.com").await;
        log_in(browser, admin, VIEWER).await;
        browser.says("#blocks tbody .who", "a***@example.com").await;
        assert_eq!(browser.count("#blocks [aria-label^=Unblock], [data-write]:not([hidden])").await, 0);
        assert_eq!(browser.texts("#whoami").await, ["night, viewer"]);
        browser.click("#logout").await;
        browser.shown("#token").await;
        assert_eq!(browser.count("#blocks tbody tr").await, 0, "nothing stays for the next one");
    })
    .await;
}

async fn post(address: SocketAddr, path: &str, body: &Value) -> Value {
    let answer = Client::connect(address).await.request("POST", path).json(&body.to_string()).send().await;
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn codes_are_seen_to_be_sent_and_to_come_back() {
    let (_backend, gateway) = gateway_with(CODES).await;
    let (address, admin) = (gateway.address, gateway.admin);
    in_browser(async |browser| {
        log_in(browser, admin, VIEWER).await;
        browser.click("nav a[href=\"#codes\"]").await;
        browser.says("#n-sent-sub", "Nobody asked for one").await;
        browser.says("#providers tbody tr", "desk").await;
        browser.says("#providers tbody .badge", "Takes messages").await;

        let sent = post(address, "/otp/send", &json!({ "phone": "+14155550123" })).await;
        browser.says("#n-sent", "1").await;
        browser.says("#n-verified-sub", "0 % of what was sent").await;
        browser.says("#n-delivered-sub", "No provider has reported").await;
        browser.says("#n-cost", "0.0075 USD").await;

        post(address, "/otp/verify", &json!({ "id": sent["id"], "code": sent["code"] })).await;
        browser.says("#n-verified", "1").await;
        browser.says("#n-verified-sub", "100 % of what was sent").await;
        browser.says("#providers [data-label=\"Last hour\"]", "1 verified").await;
        browser.click("[data-codes-span=week]").await;
        browser.says("#codes-readout", "Codes a day").await;
        let label = "return document.getElementById('codes-chart').getAttribute('aria-label')";
        let label = browser.script(label, Vec::new()).await.to_string();
        assert!(label.contains("Verified: 1, Sent, not verified: 0, Not sent: 0"), "{label}");

        browser.click("[data-view=codes] a[href^=\"#events\"]").await;
        browser.says("#events tbody", "Code verified").await;
        browser.says("#events tbody", "Code sent").await;
        let shown = browser.texts("#events tbody .who").await;
        assert!(!shown.is_empty() && shown.iter().all(|who| !who.contains("415555")), "{shown:?}");
    })
    .await;
}

#[tokio::test]
async fn where_no_codes_are_sent_the_page_says_how_to() {
    let (_backend, gateway) = gateway().await;
    let admin = gateway.admin;
    in_browser(async |browser| {
        log_in(browser, admin, ADMIN).await;
        browser.goto(&format!("http://{admin}/#codes")).await;
        browser.says("#codes-none", "No one-time codes").await;
        browser.says("#codes-none", "otp: send").await;
        assert_eq!(browser.count("#codes[hidden]").await, 1);
    })
    .await;
}

/// What attackers call themselves to reach whoever looks at the page or opens the export.
const ODD: [&str; 4] = [
    "<script>document.title='reached'</script>",
    "\"><img src=x onerror=\"document.title='reached'\">",
    "=HYPERLINK(\"http://evil.example\",\"look\")",
    "' OR 1=1 --\u{202e}gpj.exe",
];

#[tokio::test]
async fn what_attackers_call_themselves_stays_text() {
    let (_backend, gateway) = gateway().await;
    let (address, admin) = (gateway.address, gateway.admin);
    in_browser(async |browser| {
        for name in ODD {
            block(address, name).await;
        }
        log_in(browser, admin, ADMIN).await;
        browser.shown("#blocks tbody tr:nth-child(4)").await;
        let mut shown = browser.texts("#blocks tbody .who").await;
        shown.sort();
        let mut expected = ODD.map(|name| name.replace('\u{202e}', "⟨U+202E⟩"));
        expected.sort();
        assert_eq!(shown, expected, "what cannot be seen is spelled out");
        for (view, table) in [("events", "#events"), ("now", "#blocks")] {
            browser.goto(&format!("http://{admin}/#{view}")).await;
            browser.shown(&format!("{table} tbody tr")).await;
        }
        assert_eq!(browser.count("main script, main img").await, 0);
        let title = browser.script("return document.title", Vec::new()).await;
        assert_eq!(title, json!("Now · Tollgate"));

        browser.click("#blocks [data-export=csv]").await;
        let csv = browser.downloaded("csv").await;
        assert!(csv.contains(r#""'=HYPERLINK(""http://evil.example"",""look"")""#), "{csv}");
        assert!(csv.contains(r#""<script>document.title='reached'</script>""#), "{csv}");
        assert!(csv.contains("\"' OR 1=1 --"), "{csv}");
    })
    .await;
}
