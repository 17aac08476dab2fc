//! The same for people in a shell.

use std::process::{Command, Output};

use serde_json::Value;

use super::{ADMIN, Room, VIEWER};

async fn tollgate(room: &Room, token: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).arg("--admin").arg(room.admin().to_string());
    command.env("TOLLGATE_ADMIN_TOKEN", token);
    let running = tokio::task::spawn_blocking(move || command.output());
    running.await.expect("nothing panics").expect("it runs")
}

async fn told(room: &Room, arguments: &[&str]) -> String {
    let output = tollgate(room, ADMIN, arguments).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out.into_owned()
}

#[tokio::test]
async fn somebody_is_blocked_found_and_let_go_from_a_shell() {
    let room = Room::open().await;
    assert_eq!(told(&room, &["blocks", "list"]).await, "nobody is blocked\n");
    let added =
        told(&room, &["blocks", "add", "body.email=Ada@b.example", "--for", "1h", "--note", "ticket 7"])
            .await;
    assert!(added.contains("ada@b.example  body.email  operator"), "{added}");
    assert_eq!(room.login("ada@b.example").await, 429);
    room.provoke("bob@b.example").await;
    let listed = told(&room, &["blocks", "list", "--sort", "identifier"]).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines[0].starts_with("IDENTIFIER") && lines[1].starts_with("ada@") && lines[2].starts_with("bob@")
    );
    let json = told(&room, &["blocks", "list", "--json", "--search", "ada"]).await;
    let block: Value = serde_json::from_str(&json).unwrap();
    let id = block["id"].as_str().unwrap();
    assert!(told(&room, &["blocks", "remove", id]).await.ends_with("1 let go\n"));
    assert_eq!(room.login("ada@b.example").await, 200);
    assert!(told(&room, &["blocks", "remove", "--all", "--reason", "limit"]).await.ends_with("1 let go\n"));
    room.logged("kind=unblocked", 2).await;
    let events = told(&room, &["events", "--kind", "blocked", "--kind", "unblocked", "--json"]).await;
    assert_eq!(events.lines().count(), 4, "{events}");
    let table = told(&room, &["events", "--kind", "unblocked", "--limit", "1"]).await;
    assert!(table.starts_with("AT") && table.lines().count() == 2 && table.contains("by ada"), "{table}");
}

#[tokio::test]
async fn what_the_gateway_refuses_is_told_and_fails() {
    let room = Room::open().await;
    let check = async |token: &str, arguments: &[&str], message: &str| {
        let output = tollgate(&room, token, arguments).await;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && err.contains(message), "{arguments:?}: {err}");
        assert!(!err.contains("token-of"), "{err}");
    };
    check("", &["blocks", "list"], "set TOLLGATE_ADMIN_TOKEN").await;
    check("a token\n", &["blocks", "list"], "set TOLLGATE_ADMIN_TOKEN").await;
    check(VIEWER, &["blocks", "add", "ip=192.0.2.1", "--for", "1h"], "A viewer may look").await;
    check(ADMIN, &["blocks", "add", "192.0.2.1", "--for", "1h"], "is not KEY=VALUE").await;
    check(ADMIN, &["blocks", "add", "ip=192.0.2.1", "--for", "soon"], "for is not a duration").await;
    check(ADMIN, &["blocks", "remove", "nobody"], "Nobody is blocked like that").await;
    check(ADMIN, &["events", "--kind", "nothing"], "kind is not a kind of events").await;
    check(ADMIN, &["blocks", "list", "--sort", "x"], "sort is not").await;
}
