//! Gateways under load while something happens to their store, and what must hold then whatever it is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::eventually;
use crate::harness::gateway::value_of;
use crate::harness::load::{Load, Seen, quantile};

const RULES: &str = "
routes:
  - { name: local, match: { path: /local }, upstream: app, limits: [{ key: header.x-key, windows: { a: 2/min, b: 3/hour, c: 10/day } }] }
  - { name: closed, match: { path: /closed }, upstream: app, limits: [{ key: header.x-key, windows: { w: 3/hour }, on_store_error: closed }] }
  - { name: open, match: { path: /open }, upstream: app, limits: [{ key: header.x-key, windows: { w: 3/hour }, on_store_error: open }] }
";

const GATEWAYS: usize = 2;
/// Connections to each route of each gateway.
const CLIENTS: usize = 2;
/// Of all routes together, at one gateway.
const CLIENTS_A_GATEWAY: usize = 3 * CLIENTS;

/// The deadline of a call to the store. A slow day's call stays below; a decision that waits for a store that is away
/// is told from one that does not.
const TIMEOUT: Duration = Duration::from_millis(200);

/// What no request may take. It is more than any step of a decision is given together, and less than any outage here.
const HUNG: Duration = Duration::from_secs(2);

/// The promise is two seconds; what is asserted leaves room for a slow day.
const BACK_WITHIN: Duration = Duration::from_secs(6);

/// Two gateways under load on three routes: one for each thing that a limit can do without its store.
pub(super) struct Stress {
    gateways: Vec<Running>,
    _backend: Backend,
    local: Load,
    closed: Load,
    open: Load,
    before: Vec<Decisions>,
}

/// What the test knows of the store that may be seen by who asks for `closed`.
pub(super) enum Effect {
    /// Every charge can be made all the time.
    None,
    /// Some of them could not.
    Some,
    /// No charge can have been made between the two.
    Outage { from: Instant, until: Instant },
}

/// What one gateway says of its decisions.
#[derive(Clone, Copy, Debug)]
struct Decisions {
    all: f64,
    /// Within 25 ms.
    quick: f64,
}

impl Stress {
    /// `store` is the section of the configuration, without `timeout`.
    pub(super) async fn on(store: impl Fn(&str) -> String) -> Stress {
        let backend = Backend::ok().await;
        let rules = format!("{}{RULES}", store(&format!("timeout: {}ms", TIMEOUT.as_millis())));
        let mut gateways = Vec::new();
        for _ in 0..GATEWAYS {
            let mut gateway = Running::start(&backend, &rules).await;
            gateway.binary.stdout.line_with("the shared store answers").await;
            gateways.push(gateway);
        }
        let addresses: Vec<SocketAddr> = gateways.iter().map(|gateway| gateway.address).collect();
        let [local, closed, open] =
            ["/local", "/closed", "/open"].map(|path| Load::start(&addresses, CLIENTS, path));
        // Some of the load has to come before whatever happens.
        backend.wait_for(20 * GATEWAYS * CLIENTS_A_GATEWAY).await;
        let mut stress = Stress { gateways, _backend: backend, local, closed, open, before: Vec::new() };
        stress.before = stress.decisions().await;
        stress
    }

    /// Waits until every gateway has given up on the store; panics if any still asks it.
    pub(super) async fn is_noticed(&self) {
        let since = Instant::now();
        for gateway in &self.gateways {
            eventually("a gateway to give up on its store", BACK_WITHIN, async || {
                (gateway.metric("tollgate_store_breaker_open").await > 0.0).then_some(())
            })
            .await;
        }
        println!("noticed within {:?}", since.elapsed());
    }

    /// Whether nobody asks a store that is given up on, for the requests of `span`.
    pub(super) async fn asks_nothing_for(&self, span: Duration) {
        let asked = async || {
            let mut calls = 0.0;
            for gateway in &self.gateways {
                calls += gateway.metric("tollgate_store_round_trip_seconds_count").await;
            }
            calls
        };
        let (before, decided) = (asked().await, self.decisions().await);
        tokio::time::sleep(span).await;
        let (after, now_decided) = (asked().await, self.decisions().await);
        let decisions: f64 = now_decided.iter().zip(&decided).map(|(now, then)| now.all - then.all).sum();
        // What was under way may still have ended.
        let under_way = (GATEWAYS * CLIENTS_A_GATEWAY) as f64;
        assert!(after - before <= under_way, "{} calls to a store that is away", after - before);
        assert!(decisions > 3.0 * under_way, "{decisions} decisions show nothing");
    }

    /// Waits until every gateway calls the store again, and its charges arrive: `charges` counts them there.
    pub(super) async fn is_back(&self, charges: impl AsyncFn() -> Option<u64>) {
        let since = Instant::now();
        for gateway in &self.gateways {
            eventually("a gateway to go back to its store", BACK_WITHIN, async || {
                (gateway.metric("tollgate_store_breaker_open").await == 0.0).then_some(())
            })
            .await;
        }
        let before = eventually("a store that can be asked", BACK_WITHIN, &charges).await;
        eventually("charges to arrive", BACK_WITHIN, async || (charges().await? > before).then_some(()))
            .await;
        println!("back after {:?}", since.elapsed());
    }

    /// Ends the load. What must hold of every answer is asserted, and the figures are told.
    pub(super) async fn stop(self, what: &str, effect: &Effect) {
        let after = self.decisions().await;
        let (local, closed, open) =
            (self.local.stop().await, self.closed.stop().await, self.open.stop().await);
        for (route, seen) in [("local", &local), ("closed", &closed), ("open", &open)] {
            let slowest = quantile(seen, 1.0);
            let (median, p99) = (quantile(seen, 0.5), quantile(seen, 0.99));
            println!(
                "{what}, {route}: {} requests, median {median:?}, p99 {p99:?}, slowest {slowest:?}",
                seen.len()
            );
            assert!(slowest < HUNG, "{what}, {route}: a request took {slowest:?}");
        }
        let not_admitted = |seen: &[Seen]| seen.iter().find(|seen| seen.status != 200).copied();
        assert_eq!(
            not_admitted(&local).map(|seen| seen.status),
            None,
            "{what}: local never refuses a new key"
        );
        assert_eq!(not_admitted(&open).map(|seen| seen.status), None, "{what}: open refuses nobody");
        is_closed_honestly(what, &closed, effect);
        for (before, after) in self.before.iter().zip(after) {
            let (all, quick) = (after.all - before.all, after.quick - before.quick);
            println!("{what}: {quick} of {all} decisions ({:.2} %) within 25 ms", 100.0 * quick / all);
            // Those that found out about the outage, and what a slow day does to any.
            let slow_max = 2.0 * CLIENTS_A_GATEWAY as f64 + 5.0 + 0.1 * all;
            assert!(all - quick <= slow_max, "{what}: {} of {all} decisions took long", all - quick);
        }
    }

    async fn decisions(&self) -> Vec<Decisions> {
        let mut decisions = Vec::new();
        for gateway in &self.gateways {
            let page = gateway.metrics().await;
            decisions.push(Decisions {
                all: value_of("tollgate_decision_seconds_count", &page),
                quick: value_of("tollgate_decision_seconds_bucket{le=\"0.025\"}", &page),
            });
        }
        decisions
    }
}

/// 503 with a time to come back, and never an admission that no store can have counted.
fn is_closed_honestly(what: &str, seen: &[Seen], effect: &Effect) {
    for seen in seen {
        match (seen.status, seen.retry_after_s) {
            (200, _) | (503, Some(1..=5)) => {}
            answer => panic!("{what}: closed answered {answer:?}"),
        }
    }
    match effect {
        Effect::None => assert!(seen.iter().all(|seen| seen.status == 200), "{what}: nobody may notice"),
        Effect::Some => {}
        Effect::Outage { from, until } => {
            let is_within = |seen: &&Seen| seen.sent >= *from && seen.sent + seen.took <= *until;
            let within: Vec<&Seen> = seen.iter().filter(is_within).collect();
            assert!(within.len() > 2 * CLIENTS, "{what}: {} requests in the outage", within.len());
            assert!(within.iter().all(|seen| seen.status == 503), "{what}: closed let somebody through");
        }
    }
}
