//! An adversary at real time: requests around the edges of windows, as fast as the running binary takes them.
//!
//! What is asserted cannot fail a correct gateway on a slow day. A request was admitted at some time between the
//! sending of its first byte and the arrival of its answer; N + 1 admitted requests whose first sending and last
//! arrival lie within less than a window are proof of an overrun, and nothing else is.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::client::Client;

/// An admitted request as its client saw it.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    sent: Instant,
    answered: Instant,
}

/// More requests than `max` that were all admitted within less than `window`: the proof of an overrun.
fn overrun(admitted: &[Admitted], max: usize, window: Duration) -> Option<Vec<Admitted>> {
    let mut by_sending = admitted.to_vec();
    by_sending.sort_unstable_by_key(|request| request.sent);
    by_sending.iter().enumerate().find_map(|(first, from)| {
        let rest = by_sending[first..].iter().take_while(|request| request.sent < from.sent + window);
        let within: Vec<Admitted> =
            rest.filter(|request| request.answered < from.sent + window).copied().collect();
        (within.len() > max).then_some(within)
    })
}

/// What [`attack`] fires at.
pub(crate) const RULES: &str = "
routes:
  - { name: ring, match: { path: /ring }, upstream: app, limits: [{ key: ip, windows: { second: 3/1s, half: 2/500ms } }] }
  - { name: buckets, match: { path: /buckets }, upstream: app, limits: [{ key: ip, windows: { second: 80/1s } }] }
  - { name: exact, match: { path: /exact }, upstream: app, limits: [{ key: ip, windows: { second: 20/1s } }] }
";

/// A route, and the windows that must hold there.
const TARGETS: [(&str, &[(usize, Duration)]); 3] = [
    ("/ring", &[(3, Duration::from_secs(1)), (2, Duration::from_millis(500))]),
    ("/buckets", &[(80, Duration::from_secs(1))]),
    ("/exact", &[(20, Duration::from_secs(1))]),
];

/// Connections to each route of one gateway.
const CONNECTIONS: usize = 4;

/// When a connection fires as fast as it can, and when it keeps quiet.
type Salvos = Vec<(Instant, Instant)>;

/// Four seconds without a pause; then salvos around every other full second, where windows of the clock end; then
/// the same one window after a lone request, where windows that begin with a request end.
fn salvos(start: Instant) -> (Salvos, Vec<Instant>) {
    const EDGE: Duration = Duration::from_millis(150);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let to_second = Duration::from_secs(1) - Duration::from_nanos(u64::from(since_epoch.subsec_nanos()));
    let around = |edge: Instant| (edge - EDGE, edge + EDGE);
    let mut salvos = vec![(start, start + Duration::from_secs(4))];
    let full_second = start + Duration::from_secs(5) + to_second;
    salvos.extend((0..2).map(|round| around(full_second + Duration::from_secs(2 * round))));
    let lone = full_second + Duration::from_millis(4_400);
    let lone = [lone, lone + Duration::from_millis(2_300)];
    salvos.extend(lone.map(|alone| around(alone + Duration::from_secs(1))));
    (salvos, lone.to_vec())
}

async fn fire(
    mut client: Client,
    path: &'static str,
    salvos: Salvos,
    refusals: &'static [u16],
) -> Vec<Admitted> {
    let mut admitted = Vec::new();
    for (from, until) in salvos {
        sleep_until(from.into()).await;
        // Once at least: a lone request is a salvo that ends as it begins.
        loop {
            let sent = Instant::now();
            let status = client.request("GET", path).send().await.status;
            let answered = Instant::now();
            match status {
                200 => admitted.push(Admitted { sent, answered }),
                status => assert!(refusals.contains(&status), "{status} from {path}"),
            }
            if answered >= until {
                break;
            }
        }
    }
    admitted
}

/// Fires at every route of [`RULES`], spread over gateways that are to count as one. Panics at a proof of an overrun,
/// and at an answer that is neither 200 nor one of `refusals`.
pub(crate) async fn attack(gateways: &[SocketAddr], connections: usize, refusals: &'static [u16]) {
    let (salvos, lone) = salvos(Instant::now());
    let mut firing = JoinSet::new();
    for (path, _) in TARGETS {
        for (connection, &gateway) in gateways.iter().cycle().take(connections).enumerate() {
            let mut plan = salvos.clone();
            if connection == 0 {
                plan.extend(lone.iter().map(|&alone| (alone, alone)));
                plan.sort_unstable();
            }
            let client = Client::connect(gateway).await;
            firing.spawn(async move { (path, fire(client, path, plan, refusals).await) });
        }
    }
    let mut admitted: Vec<(&str, Vec<Admitted>)> = TARGETS.map(|(path, _)| (path, Vec::new())).to_vec();
    while let Some(fired) = firing.join_next().await {
        let (path, seen) = fired.unwrap();
        admitted.iter_mut().find(|(known, _)| *known == path).unwrap().1.extend(seen);
    }
    for ((path, windows), (_, admitted)) in TARGETS.into_iter().zip(&admitted) {
        for &(max, window) in windows {
            let proof = overrun(admitted, max, window);
            assert!(proof.is_none(), "{path} admitted more than {max} in {window:?}: {proof:?}");
            // An adversary who gets nothing through after the first window proves nothing.
            assert!(admitted.len() > max, "{path} admitted {} only", admitted.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_timing_gets_one_more_than_the_limit_through() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, RULES).await;
    attack(&[running.address], CONNECTIONS, &[429]).await;
}

/// What [`wait_as_told`] asks.
pub(crate) const PATIENT_RULES: &str = "
routes:
  - { name: one, match: { path: /one }, upstream: app, limits: [{ key: ip, windows: { w: 1/1s } }] }
  - { name: two, match: { path: /two }, upstream: app, limits: [{ key: ip, windows: { w: 2/2s } }] }
  - { name: many, match: { path: /many }, upstream: app, limits: [{ key: ip, windows: { w: 65/3s } }] }
  - { name: paced, match: { path: /paced }, upstream: app, limits: [{ key: ip, smooth: { rate: 1/s, burst: 2 } }] }
";

/// Is refused by one gateway, waits as long as that says, and must be let through by the next.
pub(crate) async fn wait_as_told(gateways: &[SocketAddr]) {
    let mut waiting = JoinSet::new();
    for path in ["/one", "/two", "/many", "/paced"] {
        let mut clients = Vec::new();
        for &gateway in gateways {
            clients.push(Client::connect(gateway).await);
        }
        waiting.spawn(async move {
            for round in 0..2 {
                let asked = round % clients.len();
                let refused = loop {
                    let answer = clients[asked].request("GET", path).send().await;
                    if answer.status == 429 {
                        break answer;
                    }
                };
                let refused_at = Instant::now();
                let retry_after_s = refused.number("retry-after");
                assert!((1..=4).contains(&retry_after_s), "{path}: {retry_after_s}");
                sleep_until((refused_at + Duration::from_secs(retry_after_s)).into()).await;
                let next = (round + 1) % clients.len();
                let answer = clients[next].request("GET", path).send().await;
                assert_eq!(answer.status, 200, "{path} after {retry_after_s} s");
            }
        });
    }
    while let Some(waited) = waiting.join_next().await {
        waited.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_as_long_as_retry_after_says_succeeds() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, PATIENT_RULES).await;
    wait_as_told(&[running.address]).await;
}

/// Requests at these milliseconds, each under way for `took_ms`.
fn trace(at_ms: &[u64], took_ms: u64) -> Vec<Admitted> {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    at_ms.iter().map(|&ms| Admitted { sent: at(ms), answered: at(ms + took_ms) }).collect()
}

#[test]
fn twice_the_limit_at_the_edge_of_a_fixed_window_is_an_overrun() {
    let second = Duration::from_secs(1);
    let fixed_window = trace(&[970, 980, 990, 1000, 1010, 1020], 5);
    assert_eq!(overrun(&fixed_window, 3, second).unwrap().len(), 6);
    let token_bucket = trace(&[0, 1, 2, 400], 5);
    assert_eq!(overrun(&token_bucket, 3, second).unwrap().len(), 4);
    let two_buckets = trace(&[0, 900, 930, 960, 995], 2);
    assert!(overrun(&two_buckets, 4, second).is_some(), "the answer came three milliseconds before the end");
}

#[test]
fn what_may_have_been_admitted_a_window_apart_proves_nothing() {
    let second = Duration::from_secs(1);
    assert!(overrun(&trace(&[0, 10, 20, 1000, 1010, 1020], 5), 3, second).is_none());
    assert!(overrun(&trace(&[0, 10, 20, 990], 10), 3, second).is_none(), "the last took until the end");
    assert!(overrun(&trace(&[0, 10, 20, 30], 2000), 3, second).is_none(), "a slow day");
    assert!(overrun(&[], 3, second).is_none());
}
