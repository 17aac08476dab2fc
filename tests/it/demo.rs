//! The demo's backend, as the gateway and a curious person meet it.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::client::{Answer, Client, get};

struct Demo {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

async fn demo() -> Demo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(tollgate::demo::backend(listener, secrets(), async {
        stopped.await.unwrap();
    }));
    Demo { addr, stop, served }
}

fn secrets() -> tollgate::demo::Secrets {
    tollgate::demo::Secrets { tokens: "a secret".into(), proofs: "a secret of proofs".into() }
}

async fn post(addr: SocketAddr, path: &str, body: &str) -> Answer {
    Client::connect(addr).await.request("POST", path).json(body).send().await
}

#[tokio::test]
async fn every_route_answers_with_and_without_its_trailing_slash() {
    let demo = demo().await;
    let addr = demo.addr;
    let table = [
        ("/api/auth/login", r#"{"username":"demo","password":"demo"}"#, 200),
        ("/api/auth/login", r#"{"username":"ada","password":"lovelace"}"#, 200),
        ("/api/auth/login", r#"{"username":"demo","password":"lovelace"}"#, 401),
        ("/api/auth/login", r#"{"username":"nobody","password":""}"#, 401),
        ("/api/auth/login", r#"{"username":"demo"}"#, 422),
        ("/api/auth/login", "no JSON", 400),
        ("/api/auth/request-otp", r#"{"email":"a@example.com"}"#, 200),
        ("/api/auth/request-otp", r#"{"email":"nobody"}"#, 400),
        ("/api/auth/verify-otp", r#"{"email":"a@example.com","otp":"123456"}"#, 200),
        ("/api/auth/verify-otp", r#"{"email":"a@example.com","otp":"000000"}"#, 400),
        ("/api/auth/password-reset", r#"{"email":"a@example.com"}"#, 200),
        ("/api/auth/reset-password", r#"{"email":"a@example.com","token":"123456","password":"x"}"#, 200),
        ("/api/auth/reset-password", r#"{"email":"a@example.com","token":"guess","password":"x"}"#, 400),
        ("/api/email/send", r#"{"to":"a@example.com"}"#, 200),
        ("/nowhere", "{}", 404),
    ];
    for (path, body, status) in table {
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = post(addr, &path, body).await;
            assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
            assert!(
                answer.json()["detail"].is_string() || answer.json()["token"].is_string(),
                "{path} {body}"
            );
        }
    }
    assert_eq!(get(addr, "/").await.json()["users"][0]["username"], "demo");
}

#[tokio::test]
async fn the_profile_is_for_the_bearer_of_a_token() {
    let demo = demo().await;
    let addr = demo.addr;
    let login = post(addr, "/api/auth/login", r#"{"username":"ada","password":"lovelace"}"#).await.json();
    let token = login["token"].as_str().unwrap();
    let mut client = Client::connect(addr).await;
    let profile =
        client.request("GET", "/api/profile").header("Authorization", format!("Bearer {token}")).send();
    assert_eq!(profile.await.json()["username"], "ada");

    for authorization in ["", "Bearer", "Bearer x", "Basic ZGVtbzpkZW1v", &format!("Bearer {token}x"), token]
    {
        let answer =
            client.request("GET", "/api/profile").header("authorization", authorization).send().await;
        assert_eq!(
            (answer.status, answer.headers.get("www-authenticate")),
            (401, Some("Bearer")),
            "{authorization}"
        );
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused() {
    let demo = demo().await;
    let addr = demo.addr;
    let answer = post(addr, "/api/auth/login", &" ".repeat(17 * 1024)).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn shutting_down_ends_idle_connections_and_the_server() {
    let Demo { addr, stop, served } = demo().await;
    let mut idle = Client::connect(addr).await;
    assert_eq!(idle.request("GET", "/").send().await.status, 200);
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
    idle.closed().await;
}
