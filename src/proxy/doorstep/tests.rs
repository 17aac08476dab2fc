//! A mistake of ours amid a request that is carried: it alone fails, and what was counted stays true.

use std::net::SocketAddr;

use pingora::http::RequestHeader;
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpListener, TcpStream};

use crate::clock::ManualClock;
use crate::decision::ipset::IpSet;
use crate::decision::time::Span;
use crate::proxy::tests::{Ready, answer};
use crate::proxy::{Entrance, Entrances, Listeners};
use crate::telemetry::Metrics;

/// Makes a mistake where the request's `X-Trip` says so.
pub(in crate::proxy) fn trip(request: &RequestHeader, place: &str) {
    let asked = request.headers.get("x-trip").and_then(|value| value.to_str().ok());
    assert!(asked != Some(place), "a mistake {place}");
}

/// Where a mistake is made, and whether the request was charged by then.
const PLACES: [(&str, u64); 7] = [
    ("before it is decided", 0),
    ("after it is decided", 1),
    ("before it is asked", 1),
    ("before it is learnt from", 1),
    ("after it is learnt from", 1),
    ("after it is passed on", 1),
    ("after its end", 1),
];

struct Stage {
    address: SocketAddr,
    metrics: Metrics,
    hand: ManualClock,
    _listeners: Listeners,
}

impl Stage {
    async fn set() -> Stage {
        let Ready { edge, limits, http2, metrics, hand, .. } = Ready::made().await;
        let (tls, speakers) = (None, IpSet::default());
        let entrance = Entrance { tls, h2c: false, speakers, redirect_port: None, hsts: None, limits, http2 };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let entrances = std::sync::Arc::new(Entrances::new([(address, entrance)]));
        let conf = std::sync::Arc::new(ServerConf::default());
        let listeners = Listeners::start(edge, &conf, vec![listener], &entrances);
        Stage { address, metrics, hand, _listeners: listeners }
    }

    async fn ask(&self, request: &str, place: &str) -> (Option<u16>, Option<u64>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        answer(&mut stream, request, place, "close").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_own_request_and_charges_it_at_most_once() {
    let stage = Stage::set().await;
    let mut neighbour = TcpStream::connect(stage.address).await.unwrap();
    let mut left = 1000;
    for (place, charged) in PLACES {
        let (status, _) = stage.ask("GET /x", place).await;
        // What was written when it happened is there.
        let is_late = place.ends_with("passed on") || place.ends_with("its end");
        assert_eq!(status, is_late.then_some(200), "{place}");
        left -= charged + 1;
        let next = answer(&mut neighbour, "GET /x", "", "keep-alive").await;
        assert_eq!(next, (Some(200), Some(left)), "{place}");
    }
    let all = format!("tollgate_panics_total {}", PLACES.len());
    while !stage.metrics.render().contains(&all) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_no_free_guess() {
    for (place, charged) in PLACES {
        let stage = Stage::set().await;
        stage.ask("POST /login", place).await;
        // What was reserved is told as failed or, if nobody could tell, taken for it when its lease ends.
        stage.hand.advance(Span::from_secs(121));
        for tried in charged..3 {
            assert_eq!(stage.ask("POST /login", "").await.0, Some(401), "{place}: {tried}");
        }
        assert_eq!(stage.ask("POST /login", "").await.0, Some(429), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_leaves_the_key_of_a_body_as_it_was_charged() {
    for (place, charged) in PLACES {
        let stage = Stage::set().await;
        let request = "POST /body\n{\"email\":\"a@b.c\"}";
        stage.ask(request, place).await;
        for tried in charged..2 {
            assert_eq!(stage.ask(request, "").await.0, Some(200), "{place}: {tried}");
        }
        assert_eq!(stage.ask(request, "").await.0, Some(429), "{place}");
    }
}
