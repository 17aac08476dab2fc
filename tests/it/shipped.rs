//! The gateway.yaml that is shipped, as it stands: what it promises is what it does.

use std::net::IpAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use tollgate::clock::{Clock, ManualClock};
use tollgate::config::Environment;

use crate::harness::backend::{Backend, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, START, seconds};

const SECRET: &str = "a secret of the shipped configuration's test";
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// So many in so many seconds.
type Window = (usize, u64);

const REQUEST_OTP: &[Window] = &[(2, MINUTE), (3, HOUR), (10, DAY)];
const PASSWORD_RESET: &[Window] = &[(2, MINUTE), (3, HOUR), (5, DAY)];
const VERIFY: &[Window] = &[(10, HOUR)];
const SEND_EMAIL: &[Window] = &[(20, HOUR)];

/// Each route of the matrix, and what it allows by address and by mailbox alike.
const MATRIX: [(&str, &[Window]); 5] = [
    ("/api/auth/request-otp/", REQUEST_OTP),
    ("/api/auth/password-reset/", PASSWORD_RESET),
    ("/api/auth/verify-otp/", VERIFY),
    ("/api/auth/reset-password/", VERIFY),
    ("/api/email/send", SEND_EMAIL),
];

async fn shipped(backend: &Backend) -> (Gateway, ManualClock) {
    let environment = Environment::empty()
        .with("TOLLGATE_LISTEN", "127.0.0.1:0")
        .with("TOLLGATE_ADMIN", "127.0.0.1:0")
        .with("TOLLGATE_UPSTREAM", backend.addr().to_string())
        .with("JWT_SECRET", SECRET)
        .with("OTP_TOKEN_SECRET", SECRET);
    let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml");
    let text = std::fs::read_to_string(config).expect("it is there");
    let (clock, hand) = Clock::manual(START);
    // In a folder of its own, where it keeps what it counts.
    (Gateway::launch_with("", &text, environment, clock).await.expect("it is sound"), hand)
}

/// The exact log of what was admitted, and what it says to one more.
struct Oracle {
    windows: &'static [Window],
    admitted_s: Vec<u64>,
}

impl Oracle {
    /// How many seconds to wait; none if one more is admitted now.
    fn wait_s(&self, now_s: u64) -> Option<u64> {
        let opens = self.windows.iter().filter_map(|&(max, span_s)| {
            let nth = self.admitted_s.len().checked_sub(max)?;
            let opens_s = self.admitted_s[nth] + span_s;
            (opens_s > now_s).then(|| opens_s - now_s)
        });
        opens.max()
    }
}

/// What tells one request from the next: all but the key under test.
enum Varied {
    /// Another mailbox each time, from one address.
    Mailbox,
    /// Another address each time, for one mailbox, spelled in many ways.
    Address,
}

const SPELLINGS: [&str; 4] = [
    "ada.lovelace@example.com",
    "Ada.Lovelace@Example.COM",
    " ada.lovelace@example.com ",
    "ADA.LOVELACE@example.com",
];

async fn send(gateway: &Gateway, path: &str, varied: &Varied, number: usize) -> Answer {
    let (address, email) = match varied {
        Varied::Mailbox => (IpAddr::from([127, 0, 0, 1]), format!("user{number}@example.com")),
        Varied::Address => {
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            (IpAddr::from([127, 1, high, low]), SPELLINGS[number % SPELLINGS.len()].to_owned())
        }
    };
    let mut client = Client::connect_from(address, gateway.address).await;
    let body = serde_json::json!({ "email": email, "otp": "000000" }).to_string();
    client.request("POST", path).json(&body).send().await
}

/// Two days of asking again as soon as it may succeed, and a second before that.
async fn walk(path: &'static str, windows: &'static [Window], varied: Varied) {
    let backend = Backend::ok().await;
    let (gateway, clock) = shipped(&backend).await;
    let mut oracle = Oracle { windows, admitted_s: Vec::new() };
    let mut now_s = 0;
    for number in 0.. {
        let answer = send(&gateway, path, &varied, number).await;
        let at = format!("{path} at {now_s} s, request {number}: {}", answer.text());
        let Some(wait_s) = oracle.wait_s(now_s) else {
            assert_eq!(answer.status, 200, "{at}");
            oracle.admitted_s.push(now_s);
            continue;
        };
        assert_eq!(answer.status, 429, "{at}");
        assert_eq!(answer.headers.get("retry-after"), Some(wait_s.to_string().as_str()), "{at}");
        let detail = format!("Request was throttled. Expected available in {wait_s} seconds.");
        assert_eq!(answer.json()["detail"], detail, "{at}");
        // A second early first, where that is another time than now.
        let step_s = if wait_s > 1 { wait_s - 1 } else { 1 };
        clock.advance(seconds(step_s));
        now_s += step_s;
        if now_s > 2 * DAY {
            break;
        }
    }
    assert_eq!(backend.count(), oracle.admitted_s.len(), "{path}: a refusal never reaches the backend");
    assert!(
        oracle.admitted_s.len() > 2 * windows[windows.len() - 1].0,
        "{path}: the longest window filled and opened"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_by_address() {
    for (path, windows) in MATRIX {
        walk(path, windows, Varied::Mailbox).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_by_mailbox_however_it_is_spelled() {
    for (path, windows) in MATRIX {
        walk(path, windows, Varied::Address).await;
    }
}

fn bearer(user: &str) -> String {
    let part = |value: serde_json::Value| BASE64.encode(value.to_string());
    let head = part(serde_json::json!({"alg": "HS256", "typ": "JWT"}));
    let claims = part(serde_json::json!({"sub": user, "exp": START.as_micros() / 1_000_000 + DAY}));
    let signed = format!("{head}.{claims}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("Bearer {signed}.{}", BASE64.encode(hmac::sign(&key, signed.as_bytes())))
}

async fn profile(client: &mut Client, user: Option<&str>) -> Answer {
    let request = client.request("GET", "/api/profile");
    let request = match user {
        Some(user) => request.header("authorization", bearer(user)),
        None => request,
    };
    request.send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_a_hundred_a_minute_by_user() {
    let backend = Backend::ok().await;
    let (gateway, clock) = shipped(&backend).await;
    let mut client = gateway.client().await;
    for user in [Some("ada"), Some("bob"), None] {
        for number in 1..=100 {
            let answer = profile(&mut client, user).await;
            assert_eq!(answer.status, 200, "{user:?} {number}");
            assert_eq!(answer.headers.get("x-ratelimit-remaining").unwrap(), (100 - number).to_string());
        }
        assert_eq!(profile(&mut client, user).await.status, 429, "{user:?}");
    }
    assert_eq!(client.request("GET", "/anything/else").send().await.status, 429, "one counter for the rest");
    let wait_s: u64 =
        profile(&mut client, Some("ada")).await.headers.get("retry-after").unwrap().parse().unwrap();
    // Counted in sub-buckets: a sixty-fourth of the window later than exact at most.
    assert!((60..=61).contains(&wait_s), "{wait_s}");
    clock.advance(seconds(wait_s));
    assert_eq!(profile(&mut client, Some("ada")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_twenty_a_minute_by_address() {
    let backend = Backend::ok().await;
    let (gateway, clock) = shipped(&backend).await;
    let mut statuses = Vec::new();
    for number in 0..21_u8 {
        statuses.push(login(&gateway, [127, 0, 0, 1], &format!("user{number}")).await.status);
        clock.advance(seconds(1));
    }
    assert_eq!(statuses.pop(), Some(429));
    assert!(statuses.iter().all(|&status| status == 200), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_slow_down_run_out_and_leave_the_owner_alone() {
    let backend = Backend::start(|_| Reply::json(401, "{}")).await;
    let (gateway, clock) = shipped(&backend).await;
    // One account from one address: a second, two, four …, until the address has failed five times.
    for wait_s in [1, 2, 4, 8] {
        assert_eq!(login(&gateway, [127, 0, 0, 1], "ada").await.status, 401);
        let early = login(&gateway, [127, 0, 0, 1], "ada").await;
        assert_eq!((early.status, early.number("retry-after")), (429, wait_s));
        clock.advance(seconds(wait_s));
    }
    assert_eq!(login(&gateway, [127, 0, 0, 1], "ada").await.status, 401);
    let blocked = login(&gateway, [127, 0, 0, 1], "grace").await;
    assert_eq!((blocked.status, blocked.number("retry-after")), (429, 30 * MINUTE));
    // From other addresses of the same network fifteen more, and then no more from any of them.
    let mut failed = 5;
    for last in 2..=30 {
        failed += usize::from(login(&gateway, [127, 0, 0, last], "ada").await.status == 401);
    }
    assert_eq!(failed, 20);
    // Whoever is somewhere else signs in.
    backend.answer_by(|_| Reply::json(200, "{}"));
    assert_eq!(login(&gateway, [127, 7, 7, 7], "ada").await.status, 200);
}

async fn login(gateway: &Gateway, from: [u8; 4], username: &str) -> Answer {
    let mut client = Client::connect_from(IpAddr::from(from), gateway.address).await;
    let body = format!(r#"{{"username":"{username}","password":"guess"}}"#);
    client.request("POST", "/api/auth/login").json(&body).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_a_path_is_no_way_around() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = shipped(&backend).await;
    let spellings = [
        "/api/auth/request-otp",
        "/API/auth/request-otp/",
        "/api//auth/./request%2Dotp/",
        "/api/auth/request-otp/",
    ];
    let mut statuses = Vec::new();
    for (number, path) in spellings.into_iter().enumerate() {
        statuses.push(send(&gateway, path, &Varied::Mailbox, number).await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}
