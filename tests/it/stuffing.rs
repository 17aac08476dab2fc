//! Credential stuffing against the running binary under the shipped login policy: how many guesses reach the backend.
//!
//! Every number here follows from the rules alone, on a slow day as on a fast one. README's table is what these tests
//! print: `cargo test --test it stuffing -- --nocapture`.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use crate::harness::backend::{Backend, Gate, Received, Reply};
use crate::harness::binary::Running;
use crate::harness::client::Client;
use crate::harness::gateway::{Gateway, seconds};
use crate::harness::{PATIENCE, eventually};

/// As shipped.
const LOGIN: &str = r"
client_ip: { trusted_proxies: [127.0.0.1] }
policies:
  login:
    - { key: ip, windows: { burst: 20/min } }
    - { key: [body.username, ip], count: failures, backoff: { base: 1s, factor: 2, max: 2h, forget: 15m } }
    - { key: [body.username, network], count: failures, windows: { hourly: 20/hour } }
    - { key: ip, count: failures, windows: { attempts: 5/15m }, block: 30m }
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app, policies: [login] }
";

/// What README offers to those who would rather lock an account than have it guessed at from everywhere.
const OF_THE_ACCOUNT: &str =
    "    - { key: body.username, count: failures, windows: { account: 100/hour } }\nroutes:";

const GUESSES: u32 = 1000;
const WORKERS: usize = 50;
const OWNER: &str = "198.51.100.7";

/// One request to sign in.
#[derive(Clone, Debug)]
struct Guess {
    from: From,
    body: String,
    media: &'static str,
}

#[derive(Clone, Debug)]
enum From {
    /// Straight from this address.
    Address(Ipv4Addr),
    /// By way of the trusted proxy, which names this address.
    Proxy(String),
}

impl Guess {
    fn new(from: From, username: &str) -> Guess {
        Guess { from, body: body(username, "guess"), media: "application/json" }
    }

    async fn send(&self, gateway: SocketAddr) -> u16 {
        let mut client = match &self.from {
            From::Address(address) => Client::connect_from((*address).into(), gateway).await,
            From::Proxy(_) => Client::connect(gateway).await,
        };
        let request = client.request("POST", "/login").header("content-type", self.media).body(&self.body);
        let request = match &self.from {
            From::Address(_) => request,
            From::Proxy(behind) => request.header("x-forwarded-for", behind),
        };
        request.send().await.status
    }
}

fn body(username: &str, password: &str) -> String {
    serde_json::json!({ "username": username, "password": password }).to_string()
}

fn is_guess(request: &Received) -> bool {
    !request.body.windows(7).any(|part| part == b"correct")
}

/// The gateway, a backend that holds its noes back until the gate opens, and how the attack went.
struct Siege {
    running: Running,
    backend: Backend,
    gate: Gate,
}

impl Siege {
    async fn lay(rules: &str) -> Siege {
        let gate = Gate::shut();
        let backend = {
            let gate = gate.clone();
            Backend::start(move |request| match is_guess(request) {
                true => Reply::json(401, "{}").after(&gate),
                false => Reply::json(200, "{}"),
            })
            .await
        };
        Siege { running: Running::start(&backend, rules).await, backend, gate }
    }

    fn reached(&self) -> usize {
        self.backend.received().iter().filter(|request| is_guess(request)).count()
    }

    /// Sends all of them, many at once. The owner of the account signs in meanwhile, from an address of his own.
    ///
    /// With `gated` the backend answers no guess before all that can be refused without its answer were.
    async fn storm(&self, guesses: Vec<Guess>, gated: bool) -> usize {
        if !gated {
            self.gate.open();
        }
        let all = guesses.len();
        let guesses = Arc::new(Mutex::new(VecDeque::from(guesses)));
        let gateway = self.running.address;
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let guesses = Arc::clone(&guesses);
            workers.spawn(async move {
                let mut statuses = Vec::new();
                loop {
                    let next = guesses.lock().expect("the guesses").pop_front();
                    let Some(guess) = next else { return statuses };
                    statuses.push(guess.send(gateway).await);
                }
            });
        }
        self.backend.wait_for(1).await;
        for _ in 0..5 {
            assert_eq!(self.owner_signs_in().await, 200, "the owner is not locked out");
        }
        if gated {
            let refused = r#"tollgate_requests_total{route="login",verdict="limited"}"#;
            let others = f64::from(u32::try_from(all).unwrap() - 1);
            let all_refused = async || (self.running.metric(refused).await >= others).then_some(());
            eventually("the others to be refused", PATIENCE * 6, all_refused).await;
            self.gate.open();
        }
        let statuses = workers.join_all().await.concat();
        assert_eq!(statuses.len(), all);
        let passed = statuses.iter().filter(|&&status| status == 401).count();
        let refused = statuses.iter().filter(|&&status| status == 429).count();
        assert_eq!(
            (passed, passed + refused),
            (self.reached(), all),
            "what got an answer reached the backend"
        );
        let failed = self.running.metric(r#"tollgate_attempts_total{outcome="failure",route="login"}"#).await;
        assert_eq!(failed, f64::from(u32::try_from(passed).unwrap()), "what reached the backend was counted");
        passed
    }

    async fn owner_signs_in(&self) -> u16 {
        let own = Guess { body: body("ada", "correct"), ..Guess::new(From::Proxy(OWNER.to_owned()), "ada") };
        own.send(self.running.address).await
    }
}

fn told(attack: &str, reached: usize) {
    println!("| {attack:<78} | {reached:>7} |");
}

fn one_address() -> From {
    From::Address(Ipv4Addr::new(127, 1, 1, 1))
}

/// A thousand addresses in four /24s of 127.0.0.0/8.
fn four_networks(nth: u32) -> From {
    From::Address(Ipv4Addr::new(127, 2, (nth / 250) as u8, (nth % 250) as u8 + 1))
}

/// Each in a /24 of its own.
fn own_networks(nth: u32) -> From {
    From::Proxy(Ipv4Addr::from(0x0b00_0007 + (nth << 8)).to_string())
}

/// Scattered over one /48, each in a /64 of its own.
fn one_slash_48(nth: u32) -> From {
    let low = u64::from(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    From::Proxy(
        Ipv6Addr::from((0x2001_0db8_0007_u128 << 80) | (u128::from(nth) << 64) | u128::from(low)).to_string(),
    )
}

fn guesses(of: impl Fn(u32) -> Guess) -> Vec<Guess> {
    (0..GUESSES).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_from_one_address() {
    let siege = Siege::lay(LOGIN).await;
    // However many come while the first is with the backend.
    let reached = siege.storm(guesses(|_| Guess::new(one_address(), "ada")), true).await;
    told("1 account × 1,000 guesses at once from 1 address", reached);
    assert_eq!(reached, 1);
    assert_eq!(siege.owner_signs_in().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_however_it_is_spelled() {
    let spellings = ["ada", "ADA", " ada ", "ａｄａ", "a\u{200b}da", "Ada\u{feff}", "\u{a0}aDa"];
    let spelled = |from: From, nth: u32| {
        let username = spellings[nth as usize % spellings.len()];
        let guess = Guess::new(from, username);
        match nth % 3 {
            0 => {
                let escaped: String = username.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                Guess { body: format!("{{\"password\":\"guess\",\"username\":\"{escaped}\"}}"), ..guess }
            }
            1 => {
                let escaped: String = username.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let body = format!("username={escaped}&password=guess");
                Guess { body, media: "application/x-www-form-urlencoded", ..guess }
            }
            _ => guess,
        }
    };
    let siege = Siege::lay(LOGIN).await;
    let reached = siege.storm(guesses(|nth| spelled(one_address(), nth)), true).await;
    told("the same in 21 spellings of the name", reached);
    assert_eq!(reached, 1);
    let siege = Siege::lay(LOGIN).await;
    let reached = siege.storm(guesses(|nth| spelled(four_networks(nth), nth)), false).await;
    told("the same from 1,000 addresses in 4 /24s", reached);
    assert_eq!(reached, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_accounts_from_one_address() {
    let siege = Siege::lay(LOGIN).await;
    let reached = siege.storm(guesses(|nth| Guess::new(one_address(), &format!("user-{nth}"))), false).await;
    told("1,000 accounts × 1 address", reached);
    assert_eq!(reached, 5);
    let blocked = siege.running.metric(r#"tollgate_blocks{reason="failures"}"#).await;
    assert_eq!(blocked, 1.0, "and the address is blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_from_a_thousand_addresses() {
    let siege = Siege::lay(LOGIN).await;
    let reached = siege.storm(guesses(|nth| Guess::new(four_networks(nth), "ada")), false).await;
    told("1 account × 1,000 IPv4 addresses in 4 /24s", reached);
    assert_eq!(reached, 4 * 20);

    let siege = Siege::lay(LOGIN).await;
    let reached = siege.storm(guesses(|nth| Guess::new(own_networks(nth), "ada")), false).await;
    told("1 account × 1,000 IPv4 addresses, each in a /24 of its own", reached);
    assert_eq!(reached, 1000, "one try each: the price of not locking the account");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_from_everywhere_with_a_limit_of_its_own() {
    let siege = Siege::lay(&LOGIN.replace("routes:", OF_THE_ACCOUNT)).await;
    siege.gate.open();
    // The owner comes first: afterwards he shares what the attack is told.
    assert_eq!(siege.owner_signs_in().await, 200);
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS as u32 {
        let gateway = siege.running.address;
        workers.spawn(async move {
            for nth in (worker..GUESSES).step_by(WORKERS) {
                Guess::new(own_networks(nth), "ada").send(gateway).await;
            }
        });
    }
    workers.join_all().await;
    let reached = siege.reached();
    told("the same with `{ key: body.username, count: failures, … 100/hour }` as well", reached);
    assert_eq!(reached, 100);
    assert_eq!(siege.owner_signs_in().await, 429, "the price of locking it");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_from_a_thousand_addresses_of_ipv6() {
    let siege = Siege::lay(LOGIN).await;
    let reached = siege.storm(guesses(|nth| Guess::new(one_slash_48(nth), "ada")), false).await;
    told("1 account × 1,000 IPv6 addresses of one /48, each in a /64 of its own", reached);
    assert_eq!(reached, 20);

    let siege = Siege::lay(LOGIN).await;
    let one_slash_64 =
        |nth: u32| From::Proxy(format!("2001:db8:7:7:{:x}:{nth:x}::1", nth.wrapping_mul(0x9e37) & 0xffff));
    let reached = siege.storm(guesses(|nth| Guess::new(one_slash_64(nth), "ada")), true).await;
    told("1 account × 1,000 IPv6 addresses of one /64", reached);
    assert_eq!(reached, 1);

    let wide = LOGIN.replace("[127.0.0.1] }", "[127.0.0.1], ipv6_prefix: 48 }");
    let siege = Siege::lay(&wide).await;
    let reached = siege.storm(guesses(|nth| Guess::new(one_slash_48(nth), "ada")), true).await;
    told("1 account × 1,000 IPv6 addresses of one /48 with `ipv6_prefix: 48`", reached);
    assert_eq!(reached, 1);

    let siege = Siege::lay(&wide).await;
    let reached =
        siege.storm(guesses(|nth| Guess::new(one_slash_48(nth), &format!("user-{nth}"))), false).await;
    told("1,000 accounts × as many IPv6 addresses of one /48 with `ipv6_prefix: 48`", reached);
    assert_eq!(reached, 5);
}

/// A guesser who comes back exactly when it may, for a day on a clock that is turned by hand.
async fn patient(from: impl Fn(u32) -> String, username: impl Fn(u32) -> String) -> usize {
    const DAY_S: u64 = 86_400;
    let backend = Backend::start(|_| Reply::json(401, "{}")).await;
    let (gateway, clock) = Gateway::with_clock(&backend, LOGIN).await;
    let mut client = gateway.client().await;
    let mut waited_s = 0;
    for nth in 0.. {
        // All that may be tried now is tried.
        let mut soonest = u64::MAX;
        for place in 0..4 {
            let request = client.request("POST", "/login").header("x-forwarded-for", from(place));
            let answer = request.json(&body(&username(4 * nth + place), "guess")).send().await;
            if answer.status == 429 {
                soonest = soonest.min(answer.number("retry-after"));
            } else {
                soonest = 0;
            }
        }
        waited_s += soonest;
        if waited_s >= DAY_S {
            break;
        }
        clock.advance(seconds(soonest));
    }
    backend.count()
}

#[tokio::test]
async fn a_guesser_who_waits_as_he_is_told() {
    let one = |_: u32| "203.0.113.9".to_owned();
    let four = |place: u32| format!("203.0.113.{place}");
    let same = |_: u32| "ada".to_owned();
    let reached = patient(one, same).await;
    told("in a day: 1 account from 1 address that comes back exactly when it may", reached);
    // Five tries with waits of 1, 2, 4 and 8 seconds, and half an hour of block: 1815 seconds a round.
    assert_eq!(reached, 5 * 86_400_usize.div_ceil(1815));
    let reached = patient(one, |nth| format!("user-{nth}")).await;
    told("in a day: a new account with each try from 1 address that does so", reached);
    assert_eq!(reached, 5 * 48);
    let reached = patient(four, same).await;
    told("in a day: 1 account from 4 addresses of one /24 that do so", reached);
    assert_eq!(reached, 20 * 24);
}
