//! Random bytes behind a refusal, cut and framed in any way: none of them ever is a request.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{SMUGGLED, all_that_comes, statuses};
use crate::harness::backend::Backend;
use crate::harness::gateway::Gateway;

const ROUNDS: u64 = 10_000;
const AT_ONCE: u64 = 50;

/// Each of these routes refuses whatever it is sent.
const RULES: &str = r#"
routes:
  - { name: spent, match: { path: /spent }, upstream: app, limits: [{ key: ip, windows: { one: 1/day } }] }
  - { name: peeked, match: { path: /peeked }, upstream: app, limits: [{ key: body.email, missing: reject, windows: { each: 1/min } }] }
"#;

/// The same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap() % bound
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Noise with requests in it, and line ends where a parser may look for its footing.
    fn noise(&mut self) -> Vec<u8> {
        let mut noise = Vec::new();
        for _ in 0..=self.below(6) {
            match self.below(5) {
                0 => noise.extend_from_slice(SMUGGLED),
                1 => noise.extend_from_slice(self.one(&[
                    &b"\r\n"[..],
                    b"\n",
                    b"\r\n\r\n",
                    b"0\r\n\r\n",
                    b"\r",
                ])),
                2 => noise.extend((0..self.below(40)).map(|_| u8::try_from(self.below(256)).unwrap())),
                3 => noise.extend(vec![b'x'; self.below(3000)]),
                _ => noise.extend_from_slice(b"{\"email\":\"a@b.c\"}"),
            }
        }
        noise.extend_from_slice(SMUGGLED);
        noise
    }

    /// A request that is refused, with all that is sent behind its head.
    fn refused(&mut self) -> Vec<u8> {
        let noise = self.noise();
        let path = self.one(&["/spent", "/peeked", "/nowhere", "/spent%2f", "/peeked?\u{e9}"]);
        let kind = self.one(&["application/json", "text/plain", "application/x-www-form-urlencoded"]);
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\n");
        let framing = match self.below(8) {
            // The noise is the body.
            0..=2 => format!("Content-Length: {}\r\n\r\n", noise.len()),
            // It is a body that waits to be asked for.
            3 => format!("Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", noise.len()),
            // It is one chunk of one, whole or cut short.
            4 => format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", noise.len() + self.below(3)),
            // It is no chunk.
            5 => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            // The head itself is refused.
            6 => format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n", noise.len()),
            _ => format!("Content-Length : {}\r\n\r\n", noise.len()),
        };
        [head.as_bytes(), framing.as_bytes(), &noise].concat()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_a_refusal_never_become_a_request() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    assert_eq!(client.request("GET", "/spent").send().await.status, 200);
    let address = gateway.address;
    let mut storm = JoinSet::new();
    for lane in 0..AT_ONCE {
        storm.spawn(async move {
            for round in (lane..ROUNDS).step_by(usize::try_from(AT_ONCE).unwrap()) {
                let mut dice = Dice(round);
                let bytes = dice.refused();
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (part, after) = rest.split_at(1 + dice.below(rest.len()));
                    if stream.write_all(part).await.is_err() {
                        break;
                    }
                    rest = after;
                }
                // The end of what is sent, so that nobody waits for more.
                let _closed = stream.shutdown().await;
                let answers = all_that_comes(&mut stream).await;
                let answers = answers.unwrap_or_else(|| panic!("round {round} is left open"));
                let finals = statuses(&answers).into_iter().filter(|status| *status >= 200).count();
                assert!(finals <= 1, "round {round}: {} to {}", answers.escape_ascii(), bytes.escape_ascii());
            }
        });
    }
    while let Some(lane) = storm.join_next().await {
        lane.unwrap();
    }
    let received = backend.received();
    assert_eq!(received.len(), 1, "{}", received.last().unwrap().raw_head.escape_ascii());
    assert_eq!(backend.broken(), 0);
}
