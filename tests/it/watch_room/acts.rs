//! What operators do, and that it is written down.

use serde_json::{Value, json};

use super::{ADMIN, RULES, Room, ask, tokens};

#[tokio::test]
async fn a_block_by_hand_holds_on_every_route_until_it_is_lifted() {
    let room = Room::open().await;
    let made = room
        .post(
            "/api/v1/blocked-identifiers",
            &json!({"key": "body.email", "identifier": "Ada@B.example", "for": "1h", "note": "ticket 7"}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let block = made.json();
    assert_eq!(
        (&block["identifier"], &block["by"], &block["reason"], &block["note"]),
        (&json!("ada@b.example"), &json!("ada"), &json!("operator"), &json!("ticket 7"))
    );
    assert_eq!(block["expires_at"], json!("2027-01-15T09:00:00.000Z"));
    assert_eq!((room.login("ada@b.example").await, room.login("bob@b.example").await), (429, 200));
    let freed = room.post("/api/v1/unblock-identifier", &json!({"id": block["id"]})).await.json();
    assert_eq!(freed["unblocked"], json!(1));
    assert_eq!(freed["items"][0]["id"], block["id"]);
    assert_eq!(room.login("ada@b.example").await, 200);
    let again = room.post("/api/v1/unblock-identifier", &json!({"id": block["id"]})).await;
    assert_eq!(again.status, 404);
    let told = room.logged("kind=blocked&kind=unblocked", 2).await;
    for event in &told {
        assert!(event["detail"].as_str().unwrap().contains("by ada"), "{event}");
        assert!(!event.to_string().contains("ticket 7"), "a note may name somebody");
    }
}

#[tokio::test]
async fn a_block_that_no_route_would_ask_for_is_a_mistake() {
    let rules = "\
routes:
  - name: a
    match: { path: /a }
    upstream: app
    limits: [{ key: [body.user, ip], windows: { w: 5/min } }, { key: header.x-key, as: exact, windows: { w: 5/min } }]
  - name: b
    match: { path: /b }
    upstream: app
    limits: [{ key: header.x-key, windows: { w: 5/min } }]
";
    let room = Room::with(&tokens(), rules).await;
    let check = async |body: Value, status: u16, told: &str| {
        let answer = room.post("/api/v1/blocked-identifiers", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(told), "{body}: {}", answer.text());
    };
    check(json!({"key": "body.email", "identifier": "x", "for": "1h"}), 400, "nobody would be blocked").await;
    check(json!({"key": "header.x-key", "identifier": "x", "for": "1h"}), 400, "several ways").await;
    check(json!({"key": "header.x-key", "identifier": "X", "as": "exact", "for": "1h"}), 201, "\"X\"").await;
    check(json!({"key": "header.x-key", "identifier": "X", "as": "text", "for": "1h"}), 201, "\"x\"").await;
    check(json!({"key": "header.x-key", "identifier": "X", "as": "email", "for": "1h"}), 400, "nobody").await;
    let turned = json!({"key": ["ip", "body.user"], "identifier": ["192.0.2.1", "Ada"], "for": "1h"});
    check(turned, 201, "ada+192.0.2.1").await;
    check(json!({"key": ["ip", "body.user"], "identifier": "192.0.2.1", "for": "1h"}), 400, "one value")
        .await;
    check(json!({"key": "ip", "identifier": "192.0.2.0/24", "for": "1h"}), 400, "not an IP address").await;
    check(json!({"key": "ip", "identifier": "2001:db8::1", "for": "1h"}), 201, "2001:db8::/64").await;
    check(json!({"key": "ip", "identifier": "192.0.2.1", "for": "367d"}), 400, "year").await;
    check(json!({"key": "global", "identifier": "x", "for": "1h"}), 400, "nobody").await;
}

#[tokio::test]
async fn somebody_is_let_go_by_name_or_with_all_that_match() {
    let room = Room::open().await;
    for name in ["ada", "bob", "cy"] {
        room.provoke(&format!("{name}@b.example")).await;
    }
    room.post("/api/v1/blocked-identifiers", &json!({"key": "ip", "identifier": "192.0.2.1", "for": "1h"}))
        .await;
    let unblock = async |body: Value| room.post("/api/v1/unblock-identifier", &body).await;
    assert_eq!(unblock(json!({"identifier": "ada"})).await.status, 404, "a part of a name is not enough");
    assert_eq!(unblock(json!({"identifier": "ada@b.example", "key": "ip"})).await.status, 404);
    let one = unblock(json!({"identifier": "ada@b.example", "key": "body.email"})).await.json();
    assert_eq!(one["unblocked"], json!(1));
    assert_eq!(unblock(json!({"all": true, "search": "zoe"})).await.json()["unblocked"], json!(0));
    assert_eq!(unblock(json!({"all": true, "reason": "limit"})).await.json()["unblocked"], json!(2));
    let left = room.blocks("").await;
    assert_eq!((left.len(), &left[0]["identifier"]), (1, &json!("192.0.2.1")));
    for name in ["ada", "bob", "cy"] {
        assert_eq!(room.login(&format!("{name}@b.example")).await, 200, "{name} starts anew");
    }
    assert_eq!(room.logged("kind=unblocked", 3).await.len(), 3, "each is in the audit trail");
    let admin = room.logged("kind=admin", 2).await;
    assert_eq!(admin[0]["detail"], json!("by ada: unblocked 2 at once"));
}

#[tokio::test]
async fn one_key_is_looked_at_without_counting_and_forgotten() {
    let room = Room::open().await;
    let target = "/api/v1/keys?route=login&ip=127.0.0.1&body.email=Ada%40b.example";
    assert_eq!(room.login("ada@b.example").await, 200);
    let state = async || room.get(target).await.json();
    let [first, second] = [state().await, state().await];
    assert_eq!(first, second, "looking is not counted");
    assert_eq!(
        first[0],
        json!({
            "policy": "login", "key": "body.email", "identifier": "ada@b.example", "blocked_until": null,
            "retry_at": null,
            "windows": [{"label": "burst", "limit": 2, "used": 1, "remaining": 1, "resets_at": "2027-01-15T08:01:00.000Z"}],
        })
    );
    assert_eq!(first[1]["windows"][0]["used"], json!(1));
    room.login("ada@b.example").await;
    assert_eq!(room.login("ada@b.example").await, 429);
    let blocked = state().await;
    assert_eq!(blocked[0]["blocked_until"], json!("2027-01-15T08:10:00.000Z"));
    assert_eq!(blocked[0]["retry_at"], blocked[0]["blocked_until"]);
    let cleared = ask(room.admin(), "DELETE", target, Some(ADMIN), None).await;
    assert_eq!((cleared.status, cleared.json().as_array().unwrap().len()), (200, 2));
    let after = state().await;
    assert_eq!((&after[0]["blocked_until"], &after[0]["windows"][0]["used"]), (&Value::Null, &json!(0)));
    assert_eq!(room.blocks("").await, [Value::Null; 0]);
    assert_eq!(room.login("ada@b.example").await, 200);
    assert_eq!(
        room.logged("kind=admin&identifier=ada%40b.example", 1).await[0]["detail"],
        json!("by ada: forgotten")
    );
    let ban = json!({"key": "ip", "identifier": "127.0.0.1", "for": "1h"});
    assert_eq!(room.post("/api/v1/blocked-identifiers", &ban).await.status, 201);
    let banned = state().await;
    assert_eq!((&banned[2]["policy"], &banned[2]["key"]), (&json!("blocked"), &json!("ip")));
    ask(room.admin(), "DELETE", target, Some(ADMIN), None).await;
    assert_eq!(room.login("ada@b.example").await, 200, "a block over all routes goes as well");
}

#[tokio::test]
async fn a_question_about_a_key_is_read_strictly() {
    let room = Room::open().await;
    for (query, status) in [
        ("", 400),
        ("?ip=127.0.0.1", 400),
        ("?route=nowhere&ip=127.0.0.1", 404),
        ("?route=login&ip=here", 400),
        ("?route=login&body.other=x", 400),
        ("?route=login&ip=127.0.0.1&ip=127.0.0.2", 400),
        ("?route=login&other=x", 400),
        ("?route=login", 200),
    ] {
        assert_eq!(room.get(&format!("/api/v1/keys{query}")).await.status, status, "{query}");
    }
    assert_eq!(room.get("/api/v1/keys?route=login").await.json(), json!([]), "nothing is known of nobody");
}

#[tokio::test]
async fn a_reload_is_asked_for_and_written_down() {
    let room = Room::with(&tokens(), RULES).await;
    let answer = room.post("/api/v1/reload", &json!({})).await;
    assert_eq!(answer.status, 202);
    room.gateway.reloaded("ok", 2).await;
    let told = room.logged("kind=admin", 1).await;
    assert_eq!(told[0]["detail"], json!("by ada: reload"));
}
