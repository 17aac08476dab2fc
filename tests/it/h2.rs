//! HTTP/2 from clients: by prior knowledge, all that holds for HTTP/1.1, and clients that break the rules.

mod conformance;
mod floods;
mod limits;
mod slow;

use std::process::Command;

use http::{HeaderMap, Method, StatusCode};
use tokio::net::TcpStream;
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::client::{Client, get};
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::frames::{PREFACE, SETTINGS, frame};
use crate::harness::h2::{H2Backend, H2Client, in_time, whole};
use crate::harness::process::Process;

const OPEN: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
const TWO: &str =
    "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/min } }] }]";
const BY_EMAIL: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: body.email, as: email, windows: { w: 1/min } }] }]";

#[tokio::test]
async fn requests_are_limited_and_refused_as_over_http_1() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, TWO).await;
    let mut client = H2Client::connect(gateway.address).await;
    for left in ["1", "0"] {
        let answer = client.get("/a").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, r#"{"ok":true}"#));
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(left));
    }
    let refused = client.get("/a").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.text().contains("Request was throttled"), "{}", refused.text());
    assert_eq!(refused.header("content-type"), Some("application/json"));
    assert!(refused.header("retry-after").is_some());
    assert!(refused.header("connection").is_none());
    // One client, whatever it speaks.
    assert_eq!(get(gateway.address, "/a").await.status, 429);
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn a_refused_body_leaves_its_connection_usable() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, TWO).await;
    let mut client = H2Client::connect(gateway.address).await;
    client.get("/").await;
    client.get("/").await;
    for size in [10, 200_000] {
        let request = client.request(Method::POST, "/").header("content-length", size);
        let (answer, mut body) = client.open(request, false).await.unwrap();
        let answer = whole(in_time(answer).await.unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        // Whether it still takes the body is its own affair.
        let _refused = body.send_data(vec![b'x'; size].into(), true);
    }
    assert_eq!(client.get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_body_is_looked_at_and_reaches_the_backend_whole() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, BY_EMAIL).await;
    let mut client = H2Client::connect(gateway.address).await;
    let body = br#"{"email":"A@B.example"}"#;
    let json =
        |client: &H2Client| client.request(Method::POST, "/").header("content-type", "application/json");
    let sized = json(&client).header("content-length", body.len());
    assert_eq!(client.send(sized, body).await.unwrap().status, StatusCode::OK);
    let again = json(&client);
    assert_eq!(client.send(again, body).await.unwrap().status, StatusCode::TOO_MANY_REQUESTS);
    let other = br#"{"email":"c@d.example"}"#;
    let unsized_body = json(&client);
    assert_eq!(client.send(unsized_body, other).await.unwrap().status, StatusCode::OK);
    let large = json(&client).header("content-length", 100_000);
    let (answer, _body) = client.open(large, false).await.unwrap();
    assert_eq!(in_time(answer).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let received = backend.wait_for(2).await;
    assert_eq!((received[0].body.as_slice(), received[1].body.as_slice()), (&body[..], &other[..]));
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn the_backend_sees_one_host_and_one_field_of_cookies() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, OPEN).await;
    let mut client = H2Client::connect(gateway.address).await;
    let request =
        client.request(Method::GET, "/a/./b//c?d=1").header("cookie", "a=1").header("cookie", "b=2");
    client.send(request, b"").await.unwrap();
    let received = backend.wait_for(1).await.remove(0);
    assert_eq!(received.target, "/a/b/c?d=1");
    assert_eq!(received.headers.get_all("host"), [gateway.address.to_string()]);
    assert_eq!(received.headers.get_all("cookie"), ["a=1; b=2"]);
    assert_eq!(received.headers.get_all("x-forwarded-for"), ["127.0.0.1"]);
}

#[tokio::test]
async fn where_it_is_switched_off_the_preface_is_no_request() {
    let backend = Backend::ok().await;
    let preamble = preamble(backend.addr()).replace("127.0.0.1:0 }]", "127.0.0.1:0, h2c: false }]");
    let gateway = Gateway::launch(&preamble, OPEN, Clock::system()).await.unwrap();
    let mut client = gateway.client().await;
    client.send_raw(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await;
    let answer = client.answer_to("PRI").await.unwrap();
    assert_eq!((answer.status, answer.connection_closed), (400, true));
    assert_eq!(get(gateway.address, "/").await.status, 200);
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn requests_shorter_than_the_preface_are_not_waited_on() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, OPEN).await;
    let mut client = Client::connect(gateway.address).await;
    client.send_raw(b"GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer_to("GET").await.unwrap().status, 200);
    // As far as it can be taken for the preface, one that is sent byte by byte as well.
    let mut client = Client::connect(gateway.address).await;
    for byte in b"PRI /x HTTP/1.1\r\nhost: h\r\n\r\n" {
        client.send_raw(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer_to("PRI").await.unwrap().status, 200);
    assert_eq!(backend.received()[1].method, "PRI");
}

#[tokio::test]
async fn targets_and_fields_that_are_too_long_are_refused() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, OPEN).await;
    let mut client = H2Client::connect(gateway.address).await;
    let long = format!("/{}", "a".repeat(20_000));
    assert_eq!(client.get(&long).await.status, StatusCode::URI_TOO_LONG);
    let request = client.request(Method::GET, "/").header("x-long", "a".repeat(70_000));
    let answer = client.send(request, b"").await.unwrap();
    assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let many = (0..150).fold(client.request(Method::GET, "/"), |request, _| request.header("a", "b"));
    assert_eq!(client.send(many, b"").await.unwrap().status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let cookies =
        (0..150).fold(client.request(Method::GET, "/"), |request, _| request.header("cookie", "a=b"));
    assert_eq!(client.send(cookies, b"").await.unwrap().status, StatusCode::OK);
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn many_requests_at_a_time_share_a_connection() {
    let backend = Backend::start(|r| Reply::new(200).body(&r.target)).await;
    let gateway = Gateway::start(&backend, OPEN).await;
    let mut client = H2Client::connect(gateway.address).await;
    client.get("/").await;
    assert_eq!(client.streams_max(), 100);
    let mut answers = Vec::new();
    for number in 0..100 {
        let request = client.request(Method::GET, &format!("/{number}"));
        answers.push(client.open(request, true).await.unwrap().0);
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let answer = whole(in_time(answer).await.unwrap()).await.unwrap();
        assert_eq!(answer.text(), format!("/{number}"));
    }
}

fn grpc(backend: &H2Backend) -> String {
    preamble(backend.address()).replace("    servers", "    protocol: http2\n    servers")
}

#[tokio::test]
async fn grpc_passes_with_its_trailers_in_both_directions() {
    let backend = H2Backend::start().await;
    let gateway = Gateway::launch(&grpc(&backend), TWO, Clock::system()).await.unwrap();
    let mut client = H2Client::connect(gateway.address).await;
    let call = |client: &H2Client| {
        let call = client.request(Method::POST, "/pkg.Service/Method");
        call.header("te", "trailers").header("content-type", "application/grpc")
    };
    let request = call(&client);
    let (answer, mut body) = client.open(request, false).await.unwrap();
    body.send_data("one".into(), false).unwrap();
    let mut answer = in_time(answer).await.unwrap();
    // The answer to each message is there before the next is sent.
    for message in ["one", "two", "three"] {
        if message != "one" {
            body.send_data(message.into(), false).unwrap();
        }
        let echoed = in_time(answer.body_mut().data()).await.unwrap().unwrap();
        assert_eq!(echoed, message);
    }
    body.send_trailers(HeaderMap::new()).unwrap();
    let rest = whole(answer).await.unwrap();
    let trailers = rest.trailers.unwrap();
    assert!(rest.body.is_empty());
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert_eq!(rest.headers.get("content-type").unwrap(), "application/grpc");
    assert_eq!(rest.headers.get("x-ratelimit-remaining").unwrap(), "1");

    let head = backend.received().remove(0);
    assert_eq!(head.headers.get("te").unwrap(), "trailers");
    assert_eq!(head.uri.path(), "/pkg.Service/Method");
    let authority = gateway.address.to_string();
    assert_eq!(head.uri.authority().unwrap().as_str(), authority);

    let request = call(&client);
    assert_eq!(client.send(request, b"four").await.unwrap().body, b"four");
    let request = call(&client);
    assert_eq!(client.send(request, b"five").await.unwrap().status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(backend.received().len(), 2);
}

#[tokio::test]
async fn clients_of_http_1_reach_a_backend_of_http_2() {
    let backend = H2Backend::start().await;
    let gateway = Gateway::launch(&grpc(&backend), OPEN, Clock::system()).await.unwrap();
    let mut client = gateway.client().await;
    let answer = client.request("POST", "/a").header("connection", "keep-alive, te").header("te", "trailers");
    let answer = answer.chunked("a body", 2).send().await;
    assert_eq!((answer.status, answer.text()), (200, "a body"));
    assert!(backend.received()[0].headers.get("connection").is_none());
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_ends_idle_connections() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |r| match r.target.as_str() {
        "/held" => Reply::new(200).body("late").after(&held),
        _ => Reply::new(200),
    })
    .await;
    let gateway = Gateway::start(&backend, OPEN).await;
    let mut idle = H2Client::connect(gateway.address).await;
    idle.get("/").await;
    let mut busy = H2Client::connect(gateway.address).await;
    let request = busy.request(Method::GET, "/held");
    let (answer, _) = busy.open(request, true).await.unwrap();
    backend.wait_for(2).await;
    let silent = TcpStream::connect(gateway.address).await.unwrap();
    let stopping = tokio::spawn(gateway.stop());
    idle.ended().await.unwrap();
    gate.open();
    assert_eq!(whole(in_time(answer).await.unwrap()).await.unwrap().text(), "late");
    assert!(in_time(stopping).await.unwrap(), "all of it ended by itself");
    drop(silent);
}

#[tokio::test]
async fn a_backend_of_http_2_that_was_restarted_is_asked_again() {
    let backend = H2Backend::start().await;
    let gateway = Gateway::launch(&grpc(&backend), OPEN, Clock::system()).await.unwrap();
    let mut client = H2Client::connect(gateway.address).await;
    let call = |client: &H2Client| client.request(Method::POST, "/");
    let request = call(&client);
    assert_eq!(client.send(request, b"one").await.unwrap().body, b"one");
    let address = backend.address();
    backend.stop().await;
    let request = call(&client);
    assert_eq!(client.send(request, b"lost").await.unwrap().status, StatusCode::BAD_GATEWAY);
    let _backend = H2Backend::start_at(address).await;
    let request = call(&client);
    assert_eq!(client.send(request, b"two").await.unwrap().body, b"two");
}

/// Another implementation than our own tests stand on.
#[tokio::test]
async fn curl_is_served() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, TWO).await;
    let url = format!("http://{}/a/../b", gateway.address);
    for expected in ["2 200", "2 200", "2 429"] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--http2-prior-knowledge", "--path-as-is", "--output", "/dev/null"]);
        curl.args(["--data", "a body", "--write-out", "%{http_version} %{http_code}", &url]);
        assert_eq!(Process::start(&mut curl).ended().await.stdout, expected);
    }
    assert_eq!(backend.received()[0].body, b"a body");
}
