//! Frames that cost their sender little, without end. Each of these ends its connection, and nobody else's.

use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::client::get;
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, PING, PRIORITY, SETTINGS, asked,
    begun, fields, frame, get as fields_of_get, reset, settings, window_update,
};
use crate::harness::h2::in_time;
use crate::harness::h2::raw::RawH2;

const OPEN: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
const LIMITS: &str =
    "http2: { max_control_frames: 50, max_resets: 20, max_unseen_resets: 10000, max_error_resets: 7 }";
/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 11;

async fn limited(backend: &Backend) -> Gateway {
    let preamble = preamble(backend.addr()).replace("127.0.0.1:0 }]", &format!("127.0.0.1:0, {LIMITS} }}]"));
    Gateway::launch(&preamble, OPEN, Clock::system()).await.unwrap()
}

/// What a GOAWAY gives as its reason.
type Code = u32;

/// Sends this so often, and one after the other as long as all before are borne; how many were, and what was said of
/// the one that was not.
async fn borne(gateway: &Gateway, most: u32, next: impl Fn(u32) -> Vec<u8>) -> (u32, Option<Code>) {
    let mut client = RawH2::connect(gateway.address, &settings(&[])).await;
    for number in 0..most {
        client.send(&next(number)).await;
        // Each of them is taken in before the next: what is borne does not depend on the day.
        let mark = (u64::MAX - u64::from(number)).to_be_bytes();
        client.send(&frame(PING, 0, 0, &mark)).await;
        loop {
            match in_time(client.next()).await {
                Some(frame) if frame.kind == GO_AWAY => return (number, frame.code()),
                Some(frame) if frame.kind == PING && frame.payload == mark => break,
                Some(_) => {}
                None => return (number, None),
            }
        }
    }
    (most, None)
}

/// The same as fast as it goes, without a look at what comes back.
async fn ends(gateway: &Gateway, most: u32, next: impl Fn(u32) -> Vec<u8>) -> Option<Code> {
    let client = RawH2::connect(gateway.address, &settings(&[])).await;
    let (mut read, mut write) = client.split();
    let sending = async {
        for number in 0..most {
            if !write.send(&next(number)).await {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        let mut code = None;
        while let Some(frame) = read.next().await {
            code = code.or(frame.code().filter(|_| frame.kind == GO_AWAY));
        }
        code
    };
    in_time(async {
        tokio::select! {
            () = sending => unreachable!("it waits for the end"),
            code = ended => code,
        }
    })
    .await
}

#[tokio::test]
async fn frames_that_lead_to_nothing() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |_| Reply::new(200).after(&held)).await;
    let gateway = limited(&backend).await;
    // With the settings and a PING for each, half of what is allowed in ten seconds; on a slow day, more comes back.
    for (what, flood) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("an ACK of no PING", frame(PING, ACK, 0, &[0; 8])),
        ("SETTINGS", settings(&[(4, 65_535)])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])),
        ("WINDOW_UPDATE", window_update(0, 1)),
        ("an unknown frame", frame(0xee, 0, 0, b"anything")),
    ] {
        let (count, code) = borne(&gateway, 1000, |_| flood.clone()).await;
        assert!((20..500).contains(&count), "{what}: {count}");
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{what}");
        assert_eq!(ends(&gateway, 1_000_000, |_| flood.clone()).await, Some(ENHANCE_YOUR_CALM), "{what}");
    }
    let empty = |number| match number {
        0 => begun(1, "/"),
        _ => frame(DATA, 0, 1, b""),
    };
    assert_eq!(ends(&gateway, 1_000_000, empty).await, Some(ENHANCE_YOUR_CALM));
    gate.open();
    assert_eq!(get(gateway.address, "/").await.status, 200);
    let series = "tollgate_malformed_requests_total{fault=\"too_many_control_frames\"}";
    assert_eq!(gateway.metric(series).await, 13.0);
}

#[tokio::test]
async fn requests_that_are_taken_back() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |_| Reply::new(200).after(&held)).await;
    let gateway = limited(&backend).await;
    let take_back = |number| [asked(2 * number + 1, "/"), reset(2 * number + 1, 8)].concat();
    assert_eq!(ends(&gateway, 1_000_000, take_back).await, Some(ENHANCE_YOUR_CALM));
    // What was looked at is counted as well.
    let looked_at = |number| match number % 2 {
        0 => asked(number + 1, "/"),
        _ => reset(number, 8),
    };
    let (count, code) = borne(&gateway, 1000, looked_at).await;
    assert!((40..500).contains(&count), "{count}");
    assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    gate.open();
    assert_eq!(get(gateway.address, "/").await.status, 200);
}

#[tokio::test]
async fn requests_that_are_none() {
    let backend = Backend::ok().await;
    let gateway = limited(&backend).await;
    let head = |fields: &[(&str, &str)], number: u32| {
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &crate::harness::h2::frames::fields(fields))
    };
    let method = [(":method", "GET"), (":scheme", "http"), (":authority", "h")];
    let refused = |number| head(&[&method[..], &[(":path", "/a b")]].concat(), number);
    assert_eq!(borne(&gateway, 100, refused).await, (7, Some(ENHANCE_YOUR_CALM)), "refused");
    let broken = |number| head(&[&method[..], &[(":path", "/"), ("te", "gzip")]].concat(), number);
    assert_eq!(borne(&gateway, 100, broken).await, (7, Some(ENHANCE_YOUR_CALM)), "broken");
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn requests_beyond_those_that_there_may_be() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |_| Reply::new(200).after(&held)).await;
    let gateway = limited(&backend).await;
    let asked = |number| asked(2 * number + 1, "/");
    // A hundred are held, and seven refused.
    assert_eq!(borne(&gateway, 1000, asked).await, (107, Some(ENHANCE_YOUR_CALM)));
    assert_eq!(backend.wait_for(100).await.len(), 100);
    gate.open();
}

#[tokio::test]
async fn fields_without_end() {
    let backend = Backend::ok().await;
    let gateway = limited(&backend).await;
    let filler = fields(&[("x-filler", "a".repeat(100).as_str()); 100]);
    for piece in [&filler[..], b""] {
        let fields = |number| match number {
            0 => frame(HEADERS, END_STREAM, 1, &fields_of_get("/")),
            _ => frame(CONTINUATION, 0, 1, piece),
        };
        assert_eq!(ends(&gateway, 1_000_000, fields).await, Some(ENHANCE_YOUR_CALM), "{}", piece.len());
    }
    // A little that becomes much: one field is kept and named again and again.
    let bomb = [&fields_of_get("/")[..], &[0x40, 1, b'a', 126], &[b'b'; 126], &[0xbe; 16_000]].concat();
    let (_, code) = borne(&gateway, 2, |_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
    assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    assert_eq!(backend.count(), 0);
    assert_eq!(get(gateway.address, "/").await.status, 200);
}

#[tokio::test]
async fn a_download_explains_what_a_client_says_meanwhile() {
    let backend = Backend::start(|_| Reply::new(200).body(vec![b'x'; 4 << 20])).await;
    let gateway = limited(&backend).await;
    let mut client = RawH2::connect(gateway.address, &settings(&[])).await;
    client.send(&asked(1, "/")).await;
    let mut received = 0;
    loop {
        let came = in_time(client.next()).await.expect("the whole answer");
        if came.kind != DATA {
            continue;
        }
        received += came.payload.len();
        if came.ends_stream() {
            break;
        }
        let by = u32::try_from(came.payload.len()).unwrap();
        if by > 0 {
            let both = [window_update(0, by), window_update(1, by)].concat();
            client.send(&[both, frame(PING, 0, 0, &[1; 8])].concat()).await;
        }
    }
    assert_eq!(received, 4 << 20);
    let silent = client.ping().await;
    assert!(silent.iter().all(|frame| frame.kind == PING || frame.kind == SETTINGS), "{silent:?}");
}
