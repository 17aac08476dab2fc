//! What the gateway knows of a request goes with it, however the request came and whatever it claims of itself.

use crate::harness::backend::{Backend, Received};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::Gateway;

const RULES: &str = r#"
client_ip: { trusted_proxies: [127.0.0.1] }
routes:
  - { name: limited, match: { path: /limited }, upstream: app, limits: [{ key: ip, windows: { each: 1/min } }] }
  - { name: all, match: { path: /* }, upstream: app }
"#;
const STRANGER: [u8; 4] = [127, 0, 0, 66];
const PROXY: [u8; 4] = [127, 0, 0, 1];
/// What a client may say of itself, and nobody believes.
const CLAIMS: [&str; 10] = [
    "",
    "X-Request-Id: mine\r\n",
    "x-request-id: mine\r\nX-REQUEST-ID: mine\r\n",
    "X-Forwarded-For: 9.9.9.9\r\n",
    "x-forwarded-for: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\n",
    "X_Forwarded_For: 9.9.9.9\r\n",
    "Tracestate: vendor=mine\r\n",
    "Traceparent: mine\r\n",
    "TE: trailers\r\nX-Other: 1\r\n",
    "User-Agent: one of the others\r\nAccept: */*\r\n",
];
const BODY: &str = "a=1\r\n\r\nb";

fn ours(got: &Received, peer: &str, answer: &Answer) -> String {
    let [id] = got.headers.get_all("x-request-id")[..] else { panic!("{:?}", got.headers) };
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(answer.headers.get_all("x-request-id"), [id]);
    assert_eq!(got.headers.get_all("x-forwarded-for"), [peer]);
    let [trace] = got.headers.get_all("traceparent")[..] else { panic!("{:?}", got.headers) };
    assert_eq!((trace.len(), &trace[..36]), (55, format!("00-{id}-").as_str()));
    for gone in ["x_forwarded_for", "tracestate"] {
        assert_eq!(got.headers.get(gone), None);
    }
    id.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn however_a_request_comes_its_backend_gets_our_fields_once() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut ids = std::collections::HashSet::new();
    for (local, claims) in CLAIMS.map(|claims| (STRANGER, claims)).into_iter().chain([(PROXY, "")]) {
        let mut client = Client::connect_from(local.into(), gateway.address).await;
        let peer = std::net::Ipv4Addr::from(local).to_string();
        let length = BODY.len();
        let head = format!("POST /x HTTP/1.1\r\nHost: h\r\n{claims}Content-Length: {length}\r\n\r\n");
        let whole = format!("{head}{BODY}");
        let cut = head.len() - 3;
        let ways: [&[&str]; 5] = [
            &[&whole],
            &[&head, BODY],
            &[&whole[..cut], &whole[cut..]],
            &["\r\n", &whole],
            &[&whole[..head.len() + 2], &whole[head.len() + 2..]],
        ];
        for parts in ways {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    // Nothing tells when the gateway has read the first part; mostly it has by then.
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                client.send_raw(part.as_bytes()).await;
            }
            let answer = client.answer_to("POST").await.unwrap();
            assert_eq!((answer.status, answer.connection_closed), (200, false), "{claims:?} {parts:?}");
            let got = backend.received().pop().unwrap();
            assert_eq!(String::from_utf8_lossy(&got.body), BODY, "{claims:?} {parts:?}");
            assert!(ids.insert(ours(&got, &peer, &answer)), "an id came twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_every_size_keep_their_end() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = Client::connect_from(STRANGER.into(), gateway.address).await;
    // Pingora reads 4 KiB at first: around it our lines fit, fit just so, and do not.
    for length in (3600..4200).step_by(7) {
        let filler = "f".repeat(length);
        client.send_raw(format!("GET / HTTP/1.1\r\nHost: h\r\nFiller: {filler}\r\n\r\n").as_bytes()).await;
        let answer = client.answer_to("GET").await.unwrap();
        assert_eq!(answer.status, 200, "{length}");
        let got = backend.received().pop().unwrap();
        assert_eq!(got.headers.get("filler").map(str::len), Some(length));
        ours(&got, "127.0.0.66", &answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_refused_is_announced_once_admitted() {
    let backend = Backend::ok().await;
    let (gateway, clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = Client::connect_from(STRANGER.into(), gateway.address).await;
    for _ in 0..3 {
        for wanted in [200, 429, 429] {
            let answer = client.request("GET", "/limited").send().await;
            assert_eq!((answer.status, answer.connection_closed), (wanted, false));
            let id = answer.headers.get("x-request-id").unwrap().to_owned();
            if wanted == 200 {
                assert_eq!(ours(&backend.received().pop().unwrap(), "127.0.0.66", &answer), id);
            }
        }
        clock.advance(crate::harness::gateway::seconds(60));
    }
    assert_eq!(backend.count(), 3);
}
