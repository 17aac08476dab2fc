//! Who gets in.

use serde_json::json;

use super::{ADMIN, RULES, Room, VIEWER, ask, tokens};
use crate::harness::backend::{Backend, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, seconds};

const BLOCK: &str = r#"{"key":"ip","identifier":"192.0.2.9","for":"1h"}"#;
const BLOCKS: &str = "/api/v1/blocked-identifiers";

async fn sign_in(room: &Room, token: &str) -> Answer {
    let body = json!({"token": token}).to_string();
    ask(room.admin(), "POST", "/api/v1/session", None, Some(&body)).await
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.headers.get("set-cookie").expect("a cookie");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_page_signs_in_and_its_writes_need_its_secret() {
    let room = Room::open().await;
    let signed_in = sign_in(&room, ADMIN).await;
    assert_eq!(signed_in.status, 200);
    let whole = signed_in.headers.get("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(whole.contains(part), "{whole}");
    }
    assert!(!whole.contains("Secure"), "the request came in the clear: {whole}");
    let (cookie, csrf) = (cookie(&signed_in), signed_in.json()["csrf"].as_str().unwrap().to_owned());

    let mut client = Client::connect(room.admin()).await;
    let who = client.request("GET", "/api/v1/session").header("cookie", &cookie).send().await.json();
    assert_eq!((&who["name"], &who["role"], &who["csrf"]), (&json!("ada"), &json!("admin"), &json!(csrf)));
    for wrong in ["", "0000"] {
        let write = client.request("POST", BLOCKS).header("cookie", &cookie).header("x-csrf-token", wrong);
        assert_eq!(write.json(BLOCK).send().await.status, 403, "{wrong}");
    }
    let write = client.request("POST", BLOCKS).header("cookie", &cookie).header("x-csrf-token", &csrf);
    assert_eq!(write.json(BLOCK).send().await.status, 201);

    let out = client.request("DELETE", "/api/v1/session").header("cookie", &cookie);
    assert_eq!(out.header("x-csrf-token", &csrf).send().await.status, 204);
    let gone = client.request("GET", "/api/v1/session").header("cookie", &cookie).send().await;
    assert_eq!(gone.status, 401);
}

#[tokio::test]
async fn a_session_ends_after_half_a_day_and_is_secure_behind_tls() {
    let room = Room::open().await;
    let body = json!({"token": VIEWER}).to_string();
    let mut client = Client::connect(room.admin()).await;
    let request = client.request("POST", "/api/v1/session").header("x-forwarded-proto", "https");
    let signed_in = request.json(&body).send().await;
    assert!(signed_in.headers.get("set-cookie").unwrap().ends_with("; Secure"));
    let cookie = cookie(&signed_in);
    let mut asked =
        async || client.request("GET", "/api/v1/session").header("cookie", &cookie).send().await.status;
    room.hand.advance(seconds(12 * 3600 - 1));
    assert_eq!(asked().await, 200);
    room.hand.advance(seconds(1));
    assert_eq!(asked().await, 401);
}

#[tokio::test]
async fn wrong_tokens_are_few() {
    let room = Room::open().await;
    for _ in 0..10 {
        assert_eq!(sign_in(&room, "a-guess-that-is-wrong").await.status, 401);
    }
    let refused = sign_in(&room, "one-more-of-these-guesses").await;
    assert_eq!((refused.status, refused.number("retry-after")), (429, 6));
    assert_eq!(room.get("/api/v1/routes").await.status, 429, "also by header, also with the right one");
    room.hand.advance(seconds(6));
    assert_eq!(room.get("/api/v1/routes").await.status, 200);
}

#[tokio::test]
async fn pages_of_others_get_nowhere() {
    let room = Room::with("identifiers: masked", RULES).await;
    let address = room.admin();
    let mut client = Client::connect(address).await;
    for origin in ["http://evil.example", "null", "http://localhost:1"] {
        for (method, path) in [("GET", BLOCKS), ("POST", BLOCKS), ("POST", "/api/v1/session")] {
            let request = client.request(method, path).header("origin", origin);
            assert_eq!(request.json(BLOCK).send().await.status, 403, "{origin} {method} {path}");
        }
    }
    let own = client.request("POST", BLOCKS).header("origin", format!("http://{address}"));
    assert_eq!(own.json(BLOCK).send().await.status, 201);
    let rebound = client.request("GET", BLOCKS).header("host", "evil.example").send().await;
    assert_eq!(rebound.status, 421);
    let form = client.request("POST", BLOCKS).header("content-type", "text/plain").body(BLOCK).send().await;
    assert_eq!(form.status, 415, "a form of another page needs nobody's leave, and does not get here");
}

#[tokio::test]
async fn without_tokens_this_machine_is_the_admin() {
    let room = Room::with("identifiers: masked", RULES).await;
    let who = ask(room.admin(), "GET", "/api/v1/session", None, None).await.json();
    assert_eq!(
        who,
        json!({"name": "local", "role": "admin", "csrf": null, "needs_login": false, "identifiers": "full"})
    );
}

#[tokio::test]
async fn an_empty_token_opens_nothing() {
    let backend = Backend::start(|_| Reply::json(200, "{}")).await;
    let empty = "tokens: [{ name: ada, token: '', role: admin }]";
    let preamble = crate::harness::gateway::preamble(backend.addr())
        .replace("address: 127.0.0.1:0 }\nup", &format!("address: 0.0.0.0:0, {empty} }}\nup"));
    let started = Gateway::launch(&preamble, RULES, tollgate::clock::Clock::system()).await;
    assert!(started.err().unwrap().to_string().contains("has no tokens"));
}

#[tokio::test]
async fn where_others_can_reach_it_only_tokens_count() {
    let room = Room::with(&format!("identifiers: full, {}", tokens()), RULES).await;
    let who = room.view("/api/v1/session").await.json();
    assert_eq!((&who["role"], &who["identifiers"]), (&json!("viewer"), &json!("full")));
}

#[tokio::test]
async fn metrics_that_are_not_public_take_a_token_of_any_role() {
    let room = Room::with(&format!("metrics_public: false, {}", tokens()), RULES).await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(ask(room.admin(), "GET", path, None, None).await.status, 401, "{path}");
        assert_eq!(room.view(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_served_to_everybody_under_a_strict_policy() {
    let room = Room::open().await;
    for (path, media) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/app.css", "text/css; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = ask(room.admin(), "GET", path, None, None).await;
        assert_eq!((answer.status, answer.headers.get("content-type")), (200, Some(media)), "{path}");
        let policy = answer.headers.get("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = answer.headers.get("etag").unwrap().to_owned();
        let mut client = Client::connect(room.admin()).await;
        let again = client.request("GET", path).header("if-none-match", &tag).send().await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
    }
}
