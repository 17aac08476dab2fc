//! Limits of HTTP/2 that a listener sets for itself.

use http::{Method, StatusCode};
use tollgate::clock::Clock;

use crate::harness::backend::Backend;
use crate::harness::gateway::{Gateway, preamble, replace};
use crate::harness::h2::H2Client;
use crate::harness::h2::frames::{PREFACE, SETTINGS, WINDOW_UPDATE, settings};
use crate::harness::h2::in_time;
use crate::harness::h2::raw::RawH2;

const OPEN: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";

fn with(backend: &Backend, keys: &str) -> String {
    preamble(backend.addr()).replace("127.0.0.1:0 }]", &format!("127.0.0.1:0, {keys} }}]"))
}

/// What the gateway says of itself at the begin of a connection: its settings, and how much wider it makes the window
/// of all bodies.
async fn told(gateway: &Gateway) -> (Vec<(u16, u32)>, u32) {
    let mut client = RawH2::bare(gateway.address).await;
    client.send(&[PREFACE, &settings(&[])].concat()).await;
    let (mut theirs, mut widened) = (None, None);
    loop {
        let frame = in_time(client.next()).await.expect("settings");
        match frame.kind {
            SETTINGS if !frame.payload.is_empty() => {
                let one = |unit: &[u8]| {
                    let (id, value) = unit.split_at(2);
                    let id = u16::from_be_bytes(id.try_into().unwrap());
                    (id, u32::from_be_bytes(value.try_into().unwrap()))
                };
                theirs = Some(frame.payload.chunks(6).map(one).collect());
            }
            WINDOW_UPDATE => widened = Some(u32::from_be_bytes(frame.payload.try_into().unwrap())),
            _ => {}
        }
        if let (Some(theirs), Some(widened)) = (&theirs, widened) {
            return (Vec::clone(theirs), widened);
        }
    }
}

#[tokio::test]
async fn each_listener_has_its_own() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, OPEN).await;
    let (theirs, widened) = told(&gateway).await;
    assert_eq!(theirs, [(3, 100), (4, 65_536), (6, 65_536)]);
    assert_eq!(widened, 1_048_576 - 65_535);
    let keys = "max_header_bytes: 2048, max_uri_bytes: 1024, http2: { max_concurrent_streams: 7, \
                initial_window_size: 4096, connection_window_size: 131072 }";
    let gateway = Gateway::launch(&with(&backend, keys), OPEN, Clock::system()).await.unwrap();
    let (theirs, widened) = told(&gateway).await;
    assert_eq!(theirs, [(3, 7), (4, 4096), (6, 2048 + 1024 + 24_576)]);
    assert_eq!(widened, 131_072 - 65_535);
}

#[tokio::test]
async fn an_edit_holds_for_connections_that_come_after_it() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, OPEN).await;
    let mut before = H2Client::connect(gateway.address).await;
    assert_eq!(before.get("/").await.status, StatusCode::OK);
    let text = gateway.whole(OPEN);
    let edited = text.replace(
        "listen: [{ address: 127.0.0.1:0 }]",
        "listen: [{ address: 127.0.0.1:0, http2: { max_concurrent_streams: 3 } }]",
    );
    assert_ne!(text, edited);
    replace(gateway.config(), &edited);
    gateway.ask_for_reload().await;
    gateway.reloaded("ok", 2).await;
    let mut after = H2Client::connect(gateway.address).await;
    assert_eq!(after.get("/").await.status, StatusCode::OK);
    assert_eq!((before.streams_max(), after.streams_max()), (100, 3));
    let mut answers = Vec::new();
    for _ in 0..50 {
        let request = before.request(Method::GET, "/");
        answers.push(before.open(request, true).await.unwrap().0);
    }
    for answer in answers {
        assert_eq!(in_time(answer).await.unwrap().status(), StatusCode::OK);
    }
}
