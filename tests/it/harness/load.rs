//! A bounded load, and what every one of its clients saw.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::{Answer, Client};

/// Between two requests of a client: a load that leaves the machine room for what it is put on.
const PAUSE: Duration = Duration::from_millis(4);

/// A request as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) sent: Instant,
    pub(crate) took: Duration,
    pub(crate) status: u16,
    pub(crate) retry_after_s: Option<u64>,
}

/// Clients that ask as soon as they are answered, each request under a key of its own, until they are stopped.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    clients: JoinSet<Vec<Seen>>,
}

impl Load {
    /// `clients` connections to each address. A request without an answer fails the test when the load is stopped.
    pub(crate) fn start(addresses: &[SocketAddr], clients: usize, path: &'static str) -> Load {
        let (stop, stopped) = watch::channel(false);
        let places = addresses.iter().flat_map(|&address| (0..clients).map(move |client| (address, client)));
        let clients = places.map(|(address, client)| {
            let name = format!("{}-{client}", address.port());
            ask(address, path, name, stopped.clone())
        });
        Load { stop, clients: clients.collect() }
    }

    /// Lets the last requests end, and hands over all that was seen in the order of sending.
    pub(crate) async fn stop(self) -> Vec<Seen> {
        self.stop.send_replace(true);
        let mut seen = self.clients.join_all().await.concat();
        seen.sort_unstable_by_key(|seen| seen.sent);
        assert!(!seen.is_empty(), "a load that asks nothing shows nothing");
        seen
    }
}

impl Seen {
    pub(crate) fn of(sent: Instant, answer: &Answer) -> Seen {
        let retry_after_s = answer.headers.get("retry-after").map(|value| value.parse().expect("seconds"));
        Seen { sent, took: sent.elapsed(), status: answer.status, retry_after_s }
    }
}

/// The time that `share` of the requests took at most.
pub(crate) fn quantile(seen: &[Seen], share: f64) -> Duration {
    let mut took: Vec<Duration> = seen.iter().map(|seen| seen.took).collect();
    took.sort_unstable();
    let place = (took.len() as f64 * share).ceil() as usize;
    took[place.clamp(1, took.len()) - 1]
}

async fn ask(
    address: SocketAddr,
    path: &'static str,
    name: String,
    stopped: watch::Receiver<bool>,
) -> Vec<Seen> {
    let mut client = Client::connect_from(Ipv4Addr::LOCALHOST.into(), address).await;
    let mut seen = Vec::new();
    while !*stopped.borrow() {
        let sent = Instant::now();
        let key = format!("{name}-{}", seen.len());
        let answer = client.request("GET", path).header("x-key", &key).send().await;
        seen.push(Seen::of(sent, &answer));
        sleep(PAUSE).await;
    }
    seen
}

#[test]
fn a_quantile_is_a_time_that_was_seen() {
    let sent = Instant::now();
    let took = |ms| Seen { sent, took: Duration::from_millis(ms), status: 200, retry_after_s: None };
    let seen: Vec<Seen> = (1..=100).rev().map(took).collect();
    assert_eq!(quantile(&seen, 0.99), Duration::from_millis(99));
    assert_eq!(quantile(&seen, 1.0), Duration::from_millis(100));
    assert_eq!(quantile(&seen[..1], 0.5), Duration::from_millis(100));
}
