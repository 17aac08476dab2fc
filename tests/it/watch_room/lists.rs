//! Lists, numbers and exports.

use serde_json::{Value, json};

use super::{RULES, Room, tokens};

fn texts(items: &[Value], name: &str) -> Vec<String> {
    items.iter().map(|item| item[name].as_str().unwrap_or_default().to_owned()).collect()
}

/// Five people who were blocked a second apart.
async fn filled() -> Room {
    let room = Room::open().await;
    for name in ["eve", "ada", "bob", "dan", "cy"] {
        room.provoke(&format!("{name}@b.example")).await;
        room.hand.advance(crate::harness::gateway::seconds(1));
    }
    room
}

#[tokio::test]
async fn blocks_are_sorted_filtered_and_paged() {
    let room = filled().await;
    let names = async |query: &str| texts(&room.blocks(query).await, "identifier");
    let at =
        |names: &str| -> Vec<String> { names.split(' ').map(|name| format!("{name}@b.example")).collect() };
    assert_eq!(names("").await, at("cy dan bob ada eve"));
    assert_eq!(names("sort=created_at").await, at("eve ada bob dan cy"));
    assert_eq!(names("sort=identifier").await, at("ada bob cy dan eve"));
    assert_eq!(names("sort=-identifier&limit=2").await, at("eve dan"));
    assert_eq!(names("sort=expires_at&limit=1").await, at("eve"));
    assert_eq!(names("search=DA").await, at("dan ada"));
    assert_eq!(names("search=nobody").await, [""; 0]);
    assert_eq!(names("kind=body.email&route=login&policy=login&reason=limit").await.len(), 5);
    for none in ["kind=ip", "route=rest", "policy=x", "reason=operator"] {
        assert_eq!(names(none).await, [""; 0], "{none}");
    }
    for sort in
        ["created_at", "-created_at", "expires_at", "identifier", "-identifier", "attempts", "-attempts"]
    {
        let whole = names(&format!("sort={sort}")).await;
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let target = format!("/api/v1/blocked-identifiers?sort={sort}&limit=2{cursor}");
            let page = room.get(&target).await.json();
            paged.extend(texts(page["items"].as_array().unwrap(), "identifier"));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", next.replace('@', "%40")),
                None => break,
            }
        }
        assert_eq!(paged, whole, "{sort}");
    }
}

#[tokio::test]
async fn a_block_is_told_with_all_that_is_known_of_it() {
    let room = Room::open().await;
    room.provoke("Ada+tag@B.example").await;
    let blocks = room.blocks("").await;
    let block = &blocks[0];
    assert_eq!(
        (&block["identifier"], &block["key"], &block["reason"], &block["route"], &block["policy"]),
        (&json!("ada@b.example"), &json!("body.email"), &json!("limit"), &json!("login"), &json!("login"))
    );
    assert_eq!(block["created_at"], json!("2027-01-15T08:00:00.000Z"));
    assert_eq!(block["expires_at"], json!("2027-01-15T08:10:00.000Z"));
    assert_eq!((&block["by"], &block["note"], &block["node"]), (&Value::Null, &Value::Null, &Value::Null));
}

#[tokio::test]
async fn viewers_see_masks_and_find_by_what_they_know_alone() {
    let room = filled().await;
    let seen = async |query: &str| {
        let answer = room.view(&format!("/api/v1/blocked-identifiers?{query}")).await;
        texts(answer.json()["items"].as_array().unwrap(), "identifier")
    };
    assert_eq!(
        seen("search=ada%40b.example").await,
        ["a***@b.example"],
        "who knows the whole may ask for it"
    );
    assert_eq!(seen("search=ada").await, [""; 0], "who does not must not learn it letter by letter");
    assert_eq!(seen("search=***%40b").await.len(), 5);
    room.logged("kind=blocked", 5).await;
    let all = [
        "/api/v1/blocked-identifiers",
        "/api/v1/blocked-identifiers?sort=identifier&limit=1",
        "/api/v1/blocked-identifiers/export?format=json",
        "/api/v1/blocked-identifiers/export",
        "/api/v1/rate-limit-logs",
        "/api/v1/rate-limit-logs/export",
        "/api/v1/rate-limit-stats",
        "/api/v1/keys?route=login&body.email=zoe@b.example",
    ];
    for target in all {
        let answer = room.view(target).await;
        assert_eq!(answer.status, 200, "{target}");
        for name in ["eve@", "ada@", "bob@", "dan@", "cy@", "zoe@"] {
            assert!(!answer.text().contains(name), "{target} tells {name}");
        }
    }
    assert!(room.get("/api/v1/rate-limit-stats").await.text().contains("ada@"), "admins see it");
}

#[tokio::test]
async fn the_log_is_filtered_and_paged() {
    let room = filled().await;
    let all = room.logged("kind=blocked", 5).await;
    assert_eq!(all[0]["identifier"], json!("cy@b.example"));
    assert_eq!((&all[0]["severity"], &all[0]["client"]), (&json!("warning"), &json!("127.0.0.1")));
    let count = async |query: &str| room.logged(query, 0).await.len();
    assert_eq!(count("kind=blocked&identifier=ada%40b.example").await, 1);
    assert_eq!(count("kind=blocked&kind=suspicion&route=login&policy=login").await, 5);
    assert_eq!(count("severity=critical").await, 0);
    assert_eq!(count("severity=warning&kind=limited").await, 0, "no kind is both");
    assert_eq!(count("severity=warning").await, 5);
    assert_eq!(count("client=127.0.0.1&kind=blocked").await, 5);
    assert_eq!(count("client=192.0.2.1").await, 0);
    assert_eq!(count("kind=blocked&since=2027-01-15T08:00:03Z").await, 2);
    assert_eq!(count("kind=blocked&until=2027-01-15T08:00:03Z").await, 3);
    let first = room.get("/api/v1/rate-limit-logs?kind=blocked&limit=3").await.json();
    let next = first["next"].as_str().unwrap();
    let second =
        room.get(&format!("/api/v1/rate-limit-logs?kind=blocked&limit=3&cursor={next}")).await.json();
    assert_eq!(second["next"], Value::Null);
    let mut paged = first["items"].as_array().unwrap().clone();
    paged.extend(second["items"].as_array().unwrap().clone());
    assert_eq!(paged, all);
}

#[tokio::test]
async fn numbers_add_up() {
    let room = filled().await;
    room.logged("kind=blocked", 5).await;
    let stats = room.get("/api/v1/rate-limit-stats").await.json();
    assert_eq!(stats["active_blocks"]["total"], json!(5));
    assert_eq!(stats["active_blocks"]["by_reason"]["limit"], json!(5));
    assert_eq!(stats["requests"], json!({"total": 15, "refused": 5}));
    let hours = stats["hours"].as_array().unwrap();
    assert!(matches!(hours.len(), 24 | 25), "{}", hours.len());
    let blocked: u64 = hours.iter().map(|hour| hour["blocked"].as_u64().unwrap()).sum();
    assert_eq!(blocked, 5);
    assert_eq!(stats["top_routes"][0]["route"], json!("login"));
    assert_eq!(stats["top_identifiers"].as_array().unwrap().len(), 5);
    assert_eq!(stats["store"], json!({"kind": "memory", "up": true}));
    assert_eq!(stats["journal"]["up"], json!(true));
    assert_eq!(stats["upstreams"][0]["responses_2xx"], json!(10));
    let wrong =
        room.get("/api/v1/rate-limit-stats?since=2027-01-15T08:00:00Z&until=2027-01-15T08:00:00Z").await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn an_export_is_whole_and_no_formula() {
    let room = Room::open().await;
    for email in ["=cmd()", "<script>alert(1)</script>", "\\\"quoted\\\",b", "plain@b.example"] {
        room.provoke(email).await;
    }
    let csv = room.get("/api/v1/blocked-identifiers/export?format=csv").await;
    assert_eq!(csv.headers.get("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(csv.headers.get("content-disposition"), Some("attachment; filename=\"tollgate-blocks.csv\""));
    let lines: Vec<&str> = csv.text().split("\r\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("\"id\",\"identifier\",\"key\",\"reason\""), "{}", lines[0]);
    assert!(csv.text().contains("\"'=cmd()\""), "{}", csv.text());
    let json = room.get("/api/v1/blocked-identifiers/export?format=json&search=plain").await.json();
    assert_eq!(texts(json.as_array().unwrap(), "identifier"), ["plain@b.example"]);
    room.logged("kind=blocked", 4).await;
    let events = room.get("/api/v1/rate-limit-logs/export?format=json&kind=blocked").await.json();
    assert_eq!(events.as_array().unwrap().len(), 4);
    assert_eq!(room.logged("kind=admin", 3).await.len(), 3, "who took the record along is in it");
}

#[tokio::test]
async fn routes_are_told_in_plain_words() {
    let room = Room::with(&tokens(), RULES).await;
    let routes = room.view("/api/v1/routes").await.json();
    assert_eq!(
        routes[0],
        json!({
            "name": "login", "match": "POST /login", "upstream": "app", "failure": null, "rejects": 0,
            "limits": [
                {"policy": "login", "key": "body.email", "mode": "enforce",
                 "rule": "by body.email (e-mail): at most 2 in any 1m; without it by ip; then blocked for 10m"},
                {"policy": "login", "key": "ip", "mode": "enforce",
                 "rule": "by ip: at most 100 in any 1m; then blocked for 10m"},
            ],
        })
    );
}
