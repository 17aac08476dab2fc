use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::decision::time::Span;
use crate::telemetry::Metrics;

const LIMITS: ClientLimits = ClientLimits {
    connections: 1,
    connections_per_ip: 1,
    header_timeout: Span::from_secs(10),
    idle_timeout: Span::from_secs(60),
    body_rate: 250,
    header_fields: 8,
    header_bytes: 256,
    uri_bytes: 64,
};
const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n";

/// A gate between a client and who would be Pingora.
struct Scene {
    gate: Gate,
    stream: BufWriter<DuplexStream>,
    client: DuplexStream,
    metrics: Metrics,
}

impl Scene {
    fn set() -> Scene {
        let metrics = Metrics::new().unwrap();
        let (client, server) = duplex(64 * 1024);
        let gate = Gate::new(LIMITS, Arc::new(Activity::default()), metrics.edge());
        Scene { gate, stream: BufWriter::new(server), client, metrics }
    }

    /// What one read into so much room gives; `None` if it would wait.
    async fn read(&mut self, room: usize) -> Option<io::Result<Vec<u8>>> {
        let mut bytes = vec![0; room];
        let read = poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut bytes);
            let polled = self.gate.poll_read(&mut self.stream, cx, &mut buf);
            let filled = buf.filled().to_vec();
            Poll::Ready(match polled {
                Poll::Ready(read) => Some(read.map(|()| filled)),
                Poll::Pending => None,
            })
        });
        read.await
    }

    async fn reads(&mut self, wanted: &[u8]) {
        let read = self.read(4096).await.expect("no wait").unwrap();
        assert_eq!(read.escape_ascii().to_string(), wanted.escape_ascii().to_string());
    }

    async fn waits(&mut self) {
        assert!(self.read(4096).await.is_none(), "there is something to read");
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    async fn write(&mut self, bytes: &[u8]) {
        poll_fn(|cx| self.gate.poll_write(&mut self.stream, cx, bytes)).await.unwrap();
        poll_fn(|cx| self.gate.poll_flush(&mut self.stream, cx)).await.unwrap();
    }

    /// All that the client hears until the end.
    async fn heard(&mut self) -> String {
        let mut heard = String::new();
        self.client.read_to_string(&mut heard).await.unwrap();
        heard
    }
}

#[tokio::test]
async fn a_head_is_handed_over_whole() {
    let mut stage = Scene::set();
    for byte in &HEAD[..HEAD.len() - 1] {
        stage.send(&[*byte]).await;
        stage.waits().await;
    }
    stage.send(b"\nabc").await;
    // However little of it Pingora asks for.
    let mut read = Vec::new();
    while read.len() < HEAD.len() + 3 {
        read.extend(stage.read(7).await.unwrap().unwrap());
    }
    assert_eq!(read, [HEAD, b"abc"].concat());
    stage.waits().await;
    stage.send(b"def").await;
    stage.reads(b"def").await;
    // The next request is one once this is over.
    stage.send(HEAD).await;
    stage.reads(HEAD).await;
}

#[tokio::test]
async fn what_comes_while_a_request_is_answered_is_passed_on_as_it_is() {
    let mut stage = Scene::set();
    stage.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(stage.read(4096).await.is_some());
    let underway = stage.gate.activity().begin();
    stage.send(b"\x81\x00 frames of a WebSocket\n\n").await;
    stage.reads(b"\x81\x00 frames of a WebSocket\n\n").await;
    drop(underway);
    stage.send(b"\x81\x00").await;
    stage.waits().await;
    assert!(matches!(stage.gate.stage, super::Stage::Refused(_)));
}

#[tokio::test]
async fn the_preface_of_http2_is_no_head() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for broken in [PREFACE, b"PRI / HTTP/2.0\r\n\r\n"] {
        let mut stage = Scene::set();
        stage.send(broken).await;
        stage.waits().await;
        drop(stage.client.shutdown().await);
        stage.reads(b"").await;
        assert!(stage.heard().await.starts_with("HTTP/1.1 400 "));
        assert!(stage.metrics.render().contains("tollgate_malformed_requests_total{fault=\"version\"} 1"));
    }
}

#[tokio::test]
async fn a_body_that_is_overdue_is_told_so_where_it_is_waited_for() {
    let mut stage = Scene::set();
    stage.send(HEAD).await;
    stage.reads(HEAD).await;
    assert!(!stage.gate.activity().give_up(), "nobody waits for it yet");
    let mut stage = Scene::set();
    stage.send(HEAD).await;
    stage.reads(HEAD).await;
    stage.waits().await;
    stage.write(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(stage.gate.activity().give_up());
    stage.waits().await;
    drop(stage.client.shutdown().await);
    assert!(stage.read(4096).await.unwrap().is_err(), "the request ends here");
    let heard = stage.heard().await;
    assert!(heard.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 "), "{heard}");
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_followed_by_another() {
    let mut stage = Scene::set();
    stage.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(stage.read(4096).await.is_some());
    stage.write(b"HTTP/1.1 200 OK\r\n\r\n").await;
    stage.send(b"nonsense").await;
    stage.waits().await;
    drop(stage.client.shutdown().await);
    assert!(stage.read(4096).await.unwrap().is_err());
    assert_eq!(stage.heard().await, "HTTP/1.1 200 OK\r\n\r\n");
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let mut stage = Scene::set();
    stage.send(b"HEAD / HTTP/1.1\r\n\r\n").await;
    drop(stage.client.shutdown().await);
    stage.reads(b"").await;
    let heard = stage.heard().await;
    assert!(heard.starts_with("HTTP/1.1 400 ") && heard.ends_with("\r\n\r\n"), "{heard}");
}

impl Scene {
    /// The next request, as far as it is looked at whole; the outer `None` if it is waited for.
    async fn whole(&mut self) -> Option<Option<Vec<u8>>> {
        poll_fn(|cx| {
            let polled = self.gate.poll_request(&mut self.stream, cx);
            Poll::Ready(match polled {
                Poll::Ready(request) => Some(request.unwrap()),
                Poll::Pending => None,
            })
        })
        .await
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_body_that_comes_behind_its_head_is_waited_for() {
    for parts in [&[HEAD, b"abcdef"][..], &[HEAD, b"abc", b"def"], &[&[HEAD, b"abc"].concat(), b"def"]] {
        let mut scene = Scene::set();
        assert_eq!(scene.whole().await, None, "nothing is there");
        let (last, first) = parts.split_last().unwrap();
        for part in first {
            scene.send(part).await;
            assert_eq!(scene.whole().await, None);
        }
        scene.send(last).await;
        assert_eq!(scene.whole().await, Some(Some([HEAD, b"abcdef"].concat())));
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_in_time_is_read_as_it_comes() {
    let mut scene = Scene::set();
    scene.send(&[HEAD, b"ab"].concat()).await;
    assert_eq!(scene.whole().await, None);
    tokio::time::advance(Duration::from_millis(60)).await;
    assert_eq!(scene.whole().await, Some(None));
    scene.reads(&[HEAD, b"ab"].concat()).await;
    scene.waits().await;
    scene.send(b"cdef").await;
    scene.reads(b"cdef").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_large_waits_itself_or_ends_is_not_waited_for() {
    let large = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6000\r\n\r\n";
    let asking = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n";
    let chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for head in [&large[..], asking, chunked] {
        let mut scene = Scene::set();
        scene.send(head).await;
        assert_eq!(scene.whole().await, Some(None));
        scene.reads(head).await;
    }
    let mut scene = Scene::set();
    scene.send(&[HEAD, b"ab"].concat()).await;
    assert_eq!(scene.whole().await, None);
    scene.client.shutdown().await.unwrap();
    assert_eq!(scene.whole().await, Some(None));
    scene.reads(&[HEAD, b"ab"].concat()).await;
    scene.reads(b"").await;
}

#[tokio::test(start_paused = true)]
async fn what_stands_behind_a_request_in_parts_is_left_with_it() {
    let mut scene = Scene::set();
    scene.send(HEAD).await;
    assert_eq!(scene.whole().await, None);
    scene.send(b"abcdefGET / HTTP/1.1\r\n").await;
    // Its reader sees that this is no request with its whole body.
    let all = [HEAD, b"abcdefGET / HTTP/1.1\r\n"].concat();
    assert_eq!(scene.whole().await, Some(Some(all)));
}
