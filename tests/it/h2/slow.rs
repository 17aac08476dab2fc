//! Clients of HTTP/2 that keep us waiting: for their preface, for the rest of a head, for a body, for the window of an
//! answer, for a next request.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::frames::{
    ACK, CONTINUATION, DATA, END_STREAM, GO_AWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, RESET, asked,
    begun, frame, get, settings, window_update,
};
use crate::harness::h2::in_time;
use crate::harness::h2::raw::RawH2;
use crate::harness::tls::{Authority, TlsClient};

const OPEN: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
/// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;
/// Longer than anything that is waited for here.
const LONG: Duration = Duration::from_secs(600);

async fn gateway(backend: &Backend, keys: &str) -> Gateway {
    let preamble = preamble(backend.addr()).replace("127.0.0.1:0 }]", &format!("127.0.0.1:0, {keys} }}]"));
    Gateway::launch(&preamble, OPEN, Clock::system()).await.unwrap()
}

/// A backend that holds what is asked for by `/held`, and answers `/large` with more than any window.
async fn backend(held: &Gate) -> Backend {
    let held = held.clone();
    Backend::start(move |request| match request.target.as_str() {
        "/held" => Reply::new(200).after(&held),
        "/large" => Reply::new(200).body(vec![b'x'; 200_000]),
        _ => Reply::new(200).body("ok"),
    })
    .await
}

async fn timed_out(gateway: &Gateway, awaited: &str) -> f64 {
    gateway.metric(&format!("tollgate_connections_timed_out_total{{awaited=\"{awaited}\"}}")).await
}

/// When the stream is reset while this is sent every second, in seconds of a clock that runs as fast as it can: all
/// that is waited for is in this process.
async fn reset_after(client: &mut RawH2, stream: u32, each_second: &[u8]) -> u64 {
    tokio::time::pause();
    let start = Instant::now();
    let second = Duration::from_secs(1);
    while start.elapsed() < LONG {
        match timeout(second, client.next_of(RESET, stream)).await {
            Ok(frame) => {
                frame.expect("the stream is reset, the connection goes on");
                break;
            }
            Err(_) => client.send(each_second).await,
        }
    }
    let waited = start.elapsed().as_secs();
    tokio::time::resume();
    waited
}

#[tokio::test]
async fn a_body_that_is_kept_back_ends_its_request_alone() {
    let drip = frame(DATA, 0, 1, b"x");
    for (each_second, least, most) in [(&b""[..], 29, 33), (&drip, 29, 36)] {
        let held = Gate::shut();
        let backend = backend(&held).await;
        let gateway = gateway(&backend, "idle_timeout: 1h").await;
        let mut client = RawH2::connect(gateway.address, &settings(&[])).await;
        client.send(&[begun(1, "/"), frame(DATA, 0, 1, b"a"), asked(3, "/held")].concat()).await;
        client.ping().await;
        let waited = reset_after(&mut client, 1, each_second).await;
        assert!((least..=most).contains(&waited), "{waited}");
        held.open();
        assert_eq!(client.answer(3).await, 200);
        client.send(&asked(5, "/")).await;
        assert!(in_time(client.next_of(HEADERS, 5)).await.is_some());
        assert_eq!(timed_out(&gateway, "body").await, 1.0);
        assert!(backend.received().iter().all(|request| request.method == "GET"), "it was never whole");
    }
}

#[tokio::test]
async fn a_body_that_stops_amid_a_frame_ends_the_connection() {
    let held = Gate::shut();
    let backend = backend(&held).await;
    let gateway = gateway(&backend, "idle_timeout: 1h").await;
    let mut client = RawH2::connect(gateway.address, &settings(&[])).await;
    client.send(&[begun(1, "/"), frame(DATA, END_STREAM, 1, &[0; 1000])[..100].to_vec()].concat()).await;
    tokio::time::pause();
    let start = Instant::now();
    let parting = timeout(LONG, client.next_of(GO_AWAY, 0)).await.expect("it ends");
    let waited = start.elapsed().as_secs();
    tokio::time::resume();
    assert_eq!(parting.unwrap().code(), Some(ENHANCE_YOUR_CALM));
    assert!((29..=33).contains(&waited), "{waited}");
    assert!(in_time(client.next()).await.is_none(), "it is closed");
    assert_eq!(timed_out(&gateway, "body").await, 1.0);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_alone() {
    let held = Gate::shut();
    let backend = backend(&held).await;
    let gateway = gateway(&backend, "idle_timeout: 1h").await;
    let byte_by_byte = window_update(1, 1);
    for (each_second, least, most) in [(&b""[..], 59, 63), (&byte_by_byte, 59, 66)] {
        let mut client = RawH2::connect(gateway.address, &settings(&[(INITIAL_WINDOW_SIZE, 10)])).await;
        client.send(&asked(1, "/large")).await;
        let first = in_time(client.next_of(DATA, 1)).await.unwrap();
        assert_eq!(first.payload.len(), 10);
        let waited = reset_after(&mut client, 1, each_second).await;
        assert!((least..=most).contains(&waited), "{waited}");
        client.send(&asked(3, "/")).await;
        let body = in_time(client.next_of(DATA, 3)).await.unwrap();
        assert_eq!(body.payload, b"ok");
    }
    assert_eq!(timed_out(&gateway, "taking_the_answer").await, 2.0);
}

#[tokio::test]
async fn a_socket_that_is_not_read_ends_the_connection() {
    let backend = Backend::start(|_| Reply::new(200).huge(1 << 30)).await;
    let gateway = gateway(&backend, "idle_timeout: 1h").await;
    let wide = settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    let mut client = RawH2::connect(gateway.address, &wide).await;
    client.send(&[window_update(0, 0x7fff_0000), asked(1, "/")].concat()).await;
    assert!(in_time(client.next_of(DATA, 1)).await.is_some());
    tokio::time::pause();
    tokio::time::sleep(LONG).await;
    tokio::time::resume();
    gateway.reaches("tollgate_connections_timed_out_total{awaited=\"taking_the_answer\"}", 1.0).await;
    assert!(backend.huge_bytes() < 1 << 28, "it was not gathered here");
}

#[tokio::test]
async fn where_there_is_no_rate_nobody_is_too_slow() {
    let held = Gate::shut();
    let backend = backend(&held).await;
    let gateway = gateway(&backend, "idle_timeout: 1h, min_body_rate: 0").await;
    let mut client = RawH2::connect(gateway.address, &settings(&[(INITIAL_WINDOW_SIZE, 10)])).await;
    client.send(&[begun(1, "/"), asked(3, "/large")].concat()).await;
    assert!(in_time(client.next_of(DATA, 3)).await.is_some());
    tokio::time::pause();
    let nothing = timeout(LONG, client.next()).await;
    tokio::time::resume();
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn heads_have_their_time_and_no_more() {
    let held = Gate::shut();
    let backend = backend(&held).await;
    let gateway = gateway(&backend, "header_timeout: 400ms").await;
    let open = frame(HEADERS, END_STREAM, 1, &get("/"));
    let drip = frame(CONTINUATION, 0, 1, b"");
    let half = &asked(1, "/")[..12];
    let whole_settings = settings(&[]);
    for (what, greeting, then, each) in [
        ("no SETTINGS", PREFACE, &b""[..], &b""[..]),
        ("half of them", PREFACE, &settings(&[(4, 10)])[..11], b""),
        ("fields that go on", &whole_settings, &open, b""),
        ("fields in drips", &whole_settings, &open, &drip[..1]),
        ("half a request", &whole_settings, half, b""),
        ("half of a frame's head", &whole_settings, &half[..3], b""),
        ("a frame of no stream", &whole_settings, &frame(0xee, 0, 0, &[0; 100])[..50], b"x"),
    ] {
        // The gateway counts from when it has this, which is later.
        let mut start = Instant::now();
        let mut client = match greeting {
            PREFACE => {
                let mut client = RawH2::bare(gateway.address).await;
                client.send(PREFACE).await;
                client
            }
            greeting => {
                let client = RawH2::connect(gateway.address, greeting).await;
                start = Instant::now();
                client
            }
        };
        client.send(then).await;
        let parting = loop {
            match timeout(Duration::from_millis(100), client.next_of(GO_AWAY, 0)).await {
                Ok(parting) => break parting.unwrap_or_else(|| panic!("{what}: closed without a word")),
                Err(_) => client.send(each).await,
            }
        };
        assert!(start.elapsed() >= Duration::from_millis(400), "{what}: {:?}", start.elapsed());
        assert_eq!(parting.code(), Some(ENHANCE_YOUR_CALM), "{what}");
        assert!(in_time(client.next()).await.is_none(), "{what}: it is closed");
    }
    assert_eq!(timed_out(&gateway, "head").await, 7.0);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_preface_that_never_comes_is_not_waited_for() {
    let backend = Backend::ok().await;
    let plain = gateway(&backend, "header_timeout: 400ms").await;
    let mut client = RawH2::bare(plain.address).await;
    client.send(&PREFACE[..20]).await;
    assert!(in_time(client.next()).await.is_none(), "nothing is said to who may speak either");
    assert_eq!(timed_out(&plain, "head").await, 1.0);

    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    authority.issue(&["a.example"], "a").write(folder.path(), "a");
    let tls =
        format!("header_timeout: 400ms, tls: {{ cert: {0}/a.pem, key: {0}/a.key }}", folder.path().display());
    let gateway = gateway(&backend, &tls).await;
    let client = TlsClient::of(&authority).asking_for(&["h2"]);
    let mut stream = client.connect(gateway.address, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut settings_alone = Vec::new();
    // Closed without a word, as far as TLS is concerned.
    let _cut_off = in_time(stream.read_to_end(&mut settings_alone)).await;
    assert_eq!(timed_out(&gateway, "head").await, 1.0);
}

#[tokio::test]
async fn a_connection_without_a_request_ends_in_good_order() {
    let held = Gate::shut();
    let backend = backend(&held).await;
    let gateway = gateway(&backend, "idle_timeout: 400ms").await;
    let mut busy = RawH2::connect(gateway.address, &settings(&[])).await;
    busy.send(&asked(1, "/held")).await;
    backend.wait_for(1).await;

    let mut silent = RawH2::connect(gateway.address, &settings(&[])).await;
    assert_eq!(in_time(silent.next_of(GO_AWAY, 0)).await.unwrap().code(), Some(NO_ERROR));
    // It would say which request was the last, if it were told that we were heard.
    assert!(silent.rest().await.iter().all(|frame| frame.kind == PING));

    // One that only says that it is there.
    let mut ping = RawH2::connect(gateway.address, &settings(&[])).await;
    let parting = loop {
        ping.send(&frame(PING, 0, 0, &[1; 8])).await;
        if let Ok(parting) = timeout(Duration::from_millis(50), ping.next_of(GO_AWAY, 0)).await {
            break parting.unwrap();
        }
    };
    assert_eq!(parting.code(), Some(NO_ERROR));
    // A request that was on its way is still served.
    ping.send(&asked(1, "/")).await;
    assert_eq!(ping.answer(1).await, 200);

    held.open();
    assert_eq!(busy.answer(1).await, 200);
    let parting = in_time(busy.next_of(GO_AWAY, 0)).await.unwrap();
    assert_eq!(parting.payload[..4], 0x7fff_ffff_u32.to_be_bytes());
    let asked_back = in_time(busy.next_of(PING, 0)).await.unwrap();
    busy.send(&frame(PING, ACK, 0, &asked_back.payload)).await;
    let last = in_time(busy.next_of(GO_AWAY, 0)).await.unwrap();
    assert_eq!((last.code(), &last.payload[..4]), (Some(NO_ERROR), &1_u32.to_be_bytes()[..]));
    assert!(busy.rest().await.is_empty());
    gateway.reaches("tollgate_connections_timed_out_total{awaited=\"request\"}", 3.0).await;
}
