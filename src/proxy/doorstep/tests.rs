//! A mistake of ours amid a request that is carried: it alone fails, and what was counted stays true.

use std::sync::Arc;

use pingora::http::RequestHeader;
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpListener, TcpStream};

use crate::decision::ipset::IpSet;
use crate::proxy::tests::{Ready, Stage, answer, no_free_guess, the_body_as_it_was_charged};
use crate::proxy::{Entrance, Entrances, Listeners};

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

async fn stage() -> Stage {
    let Ready { edge, limits, http2, metrics, hand, .. } = Ready::made().await;
    let (tls, speakers) = (None, IpSet::default());
    let entrance = Entrance { tls, h2c: false, speakers, redirect_port: None, hsts: None, limits, http2 };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entrances = Arc::new(Entrances::new([(address, entrance)]));
    let listeners = Listeners::start(edge, &Arc::new(ServerConf::default()), vec![listener], &entrances);
    Stage { address, hand, metrics, _kept: Box::new(listeners) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_own_request_and_charges_it_at_most_once() {
    let stage = stage().await;
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
    no_free_guess(&PLACES, stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_leaves_the_key_of_a_body_as_it_was_charged() {
    the_body_as_it_was_charged(&PLACES, stage).await;
}
