//! The stream of what happens.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ADMIN, Room, VIEWER};
use crate::harness::PATIENCE;

/// A browser that listens.
struct Listener {
    stream: TcpStream,
    text: String,
}

impl Listener {
    async fn open(address: SocketAddr, token: &str) -> Listener {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        Listener { stream, text: String::new() }
    }

    /// Reads until something of this name comes that fits; all that came before is dropped.
    async fn next(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                while let Some((piece, rest)) = self.text.split_once("\n\n") {
                    let data =
                        piece.rsplit_once(&format!("event: {name}\ndata: ")).map(|(_, data)| data.to_owned());
                    self.text = rest.to_owned();
                    let value = data.map(|data| serde_json::from_str::<Value>(&data).unwrap());
                    if let Some(value) = value.filter(&fits) {
                        return value;
                    }
                }
                let mut bytes = [0; 4096];
                let read = self.stream.read(&mut bytes).await.unwrap();
                assert!(read > 0, "the stream ended before {name}: {}", self.text);
                self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {name} came"))
    }

    async fn end(&mut self) {
        let ended = async {
            let mut bytes = [0; 4096];
            while matches!(self.stream.read(&mut bytes).await, Ok(read) if read > 0) {}
        };
        timeout(PATIENCE, ended).await.expect("the stream goes on");
    }
}

#[tokio::test]
async fn a_block_shows_as_it_happens_and_so_does_its_end() {
    let room = Room::open().await;
    let mut admin = Listener::open(room.admin(), ADMIN).await;
    let mut viewer = Listener::open(room.admin(), VIEWER).await;
    let first = admin.next("stats", |_| true).await;
    assert_eq!((&first["active_blocks"], &first["store_up"]), (&json!(0), &json!(true)));
    viewer.next("stats", |_| true).await;
    room.provoke("ada@b.example").await;
    let event = admin.next("event", |event| event["kind"] == "blocked").await;
    assert_eq!(event["identifier"], json!("ada@b.example"));
    let block = admin.next("block", |_| true).await;
    assert_eq!(block["identifier"], json!("ada@b.example"));
    let seen = viewer.next("block", |_| true).await;
    assert_eq!((&seen["id"], &seen["identifier"]), (&block["id"], &json!("a***@b.example")));
    room.hand.advance(crate::harness::gateway::seconds(3));
    admin.next("stats", |stats| stats["active_blocks"] == 1 && stats["refused"] == 1).await;
    room.post("/api/v1/unblock-identifier", &json!({"id": block["id"]})).await;
    assert_eq!(admin.next("unblock", |_| true).await["id"], block["id"]);
}

#[tokio::test]
async fn so_many_streams_and_no_more() {
    let room = Room::open().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        let mut listener = Listener::open(room.admin(), ADMIN).await;
        listener.next("stats", |_| true).await;
        open.push(listener);
    }
    let refused = room.get("/api/v1/stream").await;
    assert_eq!((refused.status, refused.number("retry-after")), (429, 10));
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_end() {
    let room = Room::open().await;
    let mut listener = Listener::open(room.admin(), ADMIN).await;
    listener.next("stats", |_| true).await;
    let Room { gateway, .. } = room;
    assert!(gateway.stop().await);
    listener.end().await;
}
