//! The API against its own description.

use serde_json::{Value, json};

use super::schema::{breaches, resolve};
use super::{ADMIN, Room, VIEWER, ask};
use crate::harness::client::Answer;

/// One thing that can be asked for.
struct Operation {
    path: String,
    method: String,
    description: Value,
}

impl Operation {
    fn is_open(&self) -> bool {
        self.description.get("security").is_some_and(|security| *security == json!([]))
    }

    fn is_write(&self) -> bool {
        self.method != "GET"
    }

    /// Streams until somebody hangs up: there is no whole answer to wait for.
    fn is_endless(&self) -> bool {
        self.path == "/api/v1/stream"
    }

    /// A body that fits, where one is needed.
    fn body(&self) -> Option<Value> {
        match (self.method.as_str(), self.path.as_str()) {
            ("POST", "/api/v1/session") => Some(json!({"token": ADMIN})),
            ("POST", "/api/v1/blocked-identifiers") => {
                Some(json!({"key": "ip", "identifier": "192.0.2.77", "for": "1h", "note": "a test"}))
            }
            ("POST", "/api/v1/unblock-identifier") => Some(json!({"identifier": "192.0.2.77"})),
            ("POST", "/api/v1/reload") => Some(json!({})),
            ("POST", other) => panic!("no body is known for {other}"),
            _ => None,
        }
    }

    fn target(&self) -> String {
        match self.path.as_str() {
            "/api/v1/keys" => format!("{}?route=login&ip=192.0.2.78&body.email=a@b.example", self.path),
            path if path.ends_with("/export") => format!("{path}?format=json"),
            path => path.to_owned(),
        }
    }

    /// What is wrong with an answer, by the description.
    fn breaches(&self, document: &Value, answer: &Answer) -> Vec<String> {
        let at = format!("{} {} {}", self.method, self.path, answer.status);
        let Some(described) = self.description["responses"].get(answer.status.to_string()) else {
            return vec![format!("{at}: nobody was told of this status: {}", answer.text())];
        };
        let described = resolve(document, described);
        let media = answer.headers.get("content-type").unwrap_or_default();
        let Some(content) = described.get("content") else {
            return if answer.body.is_empty() { Vec::new() } else { vec![format!("{at}: a body")] };
        };
        let known = content.as_object().unwrap().iter().find(|(name, _)| media.starts_with(name.as_str()));
        match known {
            None => vec![format!("{at}: nobody was told of {media:?}")],
            Some((name, _)) if name != "application/json" => Vec::new(),
            Some((_, content)) => breaches(document, &content["schema"], &answer.json(), &at),
        }
    }
}

async fn document(room: &Room) -> Value {
    ask(room.admin(), "GET", "/api/openapi.json", None, None).await.json()
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &Value)| -> Vec<Operation> {
        let methods = methods.as_object().unwrap().iter();
        let operation = |(method, description): (&String, &Value)| Operation {
            path: path.clone(),
            method: method.to_uppercase(),
            description: description.clone(),
        };
        methods.map(operation).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

async fn send(room: &Room, operation: &Operation, token: Option<&str>) -> Answer {
    let body = operation.body().map(|body| body.to_string());
    ask(room.admin(), &operation.method, &operation.target(), token, body.as_deref()).await
}

#[tokio::test]
async fn every_endpoint_is_there_and_refuses_strangers_and_viewers_who_write() {
    let room = Room::open().await;
    let document = document(&room).await;
    let operations = operations(&document);
    assert!(operations.len() >= 15, "{} operations", operations.len());
    for operation in &operations {
        let name = format!("{} {}", operation.method, operation.path);
        if operation.is_open() {
            continue;
        }
        let stranger = send(&room, operation, None).await;
        assert_eq!(stranger.status, 401, "{name}");
        assert_eq!(stranger.json()["needs_login"], json!(true), "{name}");
        let stranger = send(&room, operation, Some("no-token-of-anybody")).await;
        assert!(matches!(stranger.status, 401 | 429), "{name}: {}", stranger.status);
        assert_eq!(operation.breaches(&document, &stranger), [""; 0], "{name}");
        room.hand.advance(crate::harness::gateway::seconds(60));
        if operation.is_write() && operation.path != "/api/v1/session" {
            let viewer = send(&room, operation, Some(VIEWER)).await;
            assert_eq!(viewer.status, 403, "{name}");
            assert_eq!(operation.breaches(&document, &viewer), [""; 0], "{name}");
        }
    }
    for path in document["paths"].as_object().unwrap().keys() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let is_described = operations.iter().any(|known| known.path == *path && known.method == method);
            if !is_described {
                let answer = ask(room.admin(), method, path, Some(ADMIN), None).await;
                assert_eq!(answer.status, 405, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn every_endpoint_answers_as_it_is_described() {
    let room = Room::open().await;
    room.provoke("a@b.example").await;
    room.provoke("c@b.example").await;
    room.logged("kind=blocked", 2).await;
    let document = document(&room).await;
    let mut told = Vec::new();
    for operation in operations(&document).iter().filter(|operation| !operation.is_endless()) {
        let answer = send(&room, operation, Some(ADMIN)).await;
        assert!(answer.status < 300, "{} {}: {}", operation.method, operation.path, answer.text());
        told.extend(operation.breaches(&document, &answer));
    }
    assert_eq!(told, [""; 0]);
}

/// What nobody should send, and somebody will.
const ODD: [&str; 22] = [
    "",
    "%00",
    "%",
    "%zz",
    "%ff",
    "-1",
    "0",
    "501",
    "99999999999999999999999999",
    "1e9",
    "NaN",
    "true",
    "null",
    "..%2f..%2f",
    "%27%20OR%201%3D1--",
    "%3Cscript%3E",
    "%F0%9F%92%A5%E2%80%AE",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999%2B23:59",
    "-created_at",
    "18446744073709551615.0190163d-8694-739b-aea5-966c26f8ad91.x",
    "9223372036854775807",
];

#[tokio::test]
async fn nothing_that_is_sent_breaks_an_endpoint() {
    let room = Room::open().await;
    room.provoke("a@b.example").await;
    room.logged("kind=blocked", 1).await;
    let document = document(&room).await;
    let mut told = Vec::new();
    for operation in operations(&document).iter().filter(|operation| !operation.is_endless()) {
        let parameters = operation.description["parameters"].as_array().cloned().unwrap_or_default();
        let names = parameters.iter().filter_map(|parameter| parameter["name"].as_str());
        let mut names: Vec<&str> = names.chain(["nobody.knows.it", "body.email"]).collect();
        names.dedup();
        let join = if operation.target().contains('?') { "&" } else { "?" };
        for name in names {
            for value in ODD.into_iter().chain([&*"x".repeat(3000)]) {
                let target = format!("{}{join}{name}={value}", operation.target());
                let body = operation.body().map(|body| body.to_string());
                let answer =
                    ask(room.admin(), &operation.method, &target, Some(ADMIN), body.as_deref()).await;
                if answer.status >= 500 {
                    told.push(format!("{} {target}: {}", operation.method, answer.status));
                }
                if answer.status != 404 {
                    told.extend(operation.breaches(&document, &answer));
                }
            }
        }
    }
    assert_eq!(told, [""; 0]);
}

#[tokio::test]
async fn no_body_breaks_an_endpoint() {
    let room = Room::open().await;
    let document = document(&room).await;
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let large = format!("{{\"token\": \"{}\"}}", "x".repeat(70_000));
    let bodies = [
        "",
        "null",
        "[]",
        "{}",
        "{\"",
        "\u{0}",
        "{\"id\": 1}",
        "{\"id\": \"\"}",
        "{\"id\": \"x\", \"all\": true}",
        "{\"identifier\": \"\"}",
        "{\"all\": false}",
        "{\"all\": true, \"reason\": \"no\"}",
        "{\"key\": \"ip\", \"identifier\": \"::1\", \"for\": \"-1h\"}",
        "{\"key\": \"ip\", \"identifier\": \"nobody\", \"for\": \"1h\"}",
        "{\"key\": [], \"identifier\": [], \"for\": \"1h\"}",
        "{\"key\": \"global\", \"identifier\": \"\", \"for\": \"1h\"}",
        "{\"key\": \"body.email\", \"identifier\": \"\", \"for\": \"1h\"}",
        "{\"key\": \"body.other\", \"identifier\": \"x\", \"for\": \"1h\"}",
        "{\"key\": \"ip\", \"identifier\": \"192.0.2.1\", \"for\": \"99999999999999999999d\"}",
        "{\"key\": \"ip\", \"identifier\": \"192.0.2.1\", \"for\": \"1h\", \"as\": \"ip\"}",
        &deep,
        &large,
    ];
    let mut told = Vec::new();
    for operation in operations(&document).iter().filter(|operation| operation.method == "POST") {
        for body in bodies {
            // A wrong token is a guess, and guesses are few.
            room.hand.advance(crate::harness::gateway::seconds(60));
            let answer = ask(room.admin(), "POST", &operation.path, Some(ADMIN), Some(body)).await;
            if answer.status >= 500 || (answer.status < 300 && operation.path != "/api/v1/reload") {
                told.push(format!(
                    "{} took {}: {}",
                    operation.path,
                    &body[..body.len().min(80)],
                    answer.status
                ));
            }
            told.extend(operation.breaches(&document, &answer));
        }
        let mut client = crate::harness::client::Client::connect(room.admin()).await;
        let plain =
            client.request("POST", &operation.path).header("authorization", format!("Bearer {ADMIN}"));
        let answer = plain.header("content-type", "text/plain").body("{}").send().await;
        assert_eq!(answer.status, 415, "{}", operation.path);
        told.extend(operation.breaches(&document, &answer));
    }
    assert_eq!(told, [""; 0]);
}
