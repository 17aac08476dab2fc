//! A backend that answers by a script and remembers exactly what reached it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::wire::{Framing, RequestHead, Wire, in_chunks};
use super::{Headers, PATIENCE};

/// A request as it reached the backend, whole.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Which of the backend's connections brought it, counted from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Headers,
    pub(crate) framing: Framing,
    /// The content, chunk framing taken off.
    pub(crate) body: Vec<u8>,
    /// The same as it came, chunk framing and trailers included.
    pub(crate) raw_body: Vec<u8>,
    /// Request line and headers as they came, closing empty line included.
    pub(crate) raw_head: Vec<u8>,
}

/// Holds replies back until the test opens it; an opened gate stays open.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn shut() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.close();
    }

    async fn passed(&self) {
        // An error is how a semaphore says that it was closed, which is what opening is here.
        let _closed = self.0.acquire().await;
    }
}

/// What the backend does about one request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    manner: Manner,
    gate: Option<Gate>,
}

#[derive(Clone, Copy, Debug)]
enum Manner {
    Whole,
    /// `Transfer-Encoding: chunked`, this many bytes a chunk.
    Chunked(usize),
    /// The head promises the whole body; the connection closes in the middle of it.
    Half,
    HangUp,
    Stall,
    /// After the head a blank now and then, for ever.
    Drip,
    /// Bytes that are no HTTP, then the end.
    Garbage,
    /// As many bytes of content as the head says, made while they are sent.
    Huge(usize),
}

/// Often enough that a reader never thinks the connection dead, seldom enough to cost nothing.
const DRIP: Duration = Duration::from_millis(20);

impl Reply {
    pub(crate) fn new(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), manner: Manner::Whole, gate: None }
    }

    pub(crate) fn json(status: u16, body: &str) -> Reply {
        Reply::new(status).header("content-type", "application/json").body(body)
    }

    /// Closes the connection without a byte.
    pub(crate) fn hang_up() -> Reply {
        Reply { manner: Manner::HangUp, ..Reply::new(0) }
    }

    /// Never answers, and keeps the connection until the other side gives up.
    pub(crate) fn stall() -> Reply {
        Reply { manner: Manner::Stall, ..Reply::new(0) }
    }

    /// Sends what no HTTP parser takes, and closes.
    pub(crate) fn garbage() -> Reply {
        Reply { manner: Manner::Garbage, ..Reply::new(0) }
    }

    /// Adds a header line. Content-Length and Transfer-Encoding are the harness's own.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Reply {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Sends the body in chunks of this many bytes.
    pub(crate) fn chunked(self, chunk_bytes: usize) -> Reply {
        Reply { manner: Manner::Chunked(chunk_bytes), ..self }
    }

    /// Promises the whole body, sends half of it and closes.
    pub(crate) fn half(self) -> Reply {
        Reply { manner: Manner::Half, ..self }
    }

    /// Sends the head, and then blanks in place of the body, one by one and without end.
    pub(crate) fn drip(self) -> Reply {
        Reply { manner: Manner::Drip, ..self }
    }

    /// Sends this many bytes in place of the body, and holds none of them.
    pub(crate) fn huge(self, bytes: usize) -> Reply {
        Reply { manner: Manner::Huge(bytes), ..self }
    }

    /// Does nothing about the request, received and recorded, before the gate opens.
    pub(crate) fn after(self, gate: &Gate) -> Reply {
        Reply { gate: Some(gate.clone()), ..self }
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match self.manner {
            Manner::Chunked(_) | Manner::Drip => head += "transfer-encoding: chunked\r\n",
            Manner::Huge(bytes) => head += &format!("content-length: {bytes}\r\n"),
            Manner::Whole | Manner::Half if matches!(self.status, 204 | 304) => {}
            Manner::Whole | Manner::Half => head += &format!("content-length: {}\r\n", self.body.len()),
            Manner::HangUp | Manner::Stall | Manner::Garbage => {}
        }
        head + "\r\n"
    }
}

type Script = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// A server on its own port of 127.0.0.1; gone, with its connections, when dropped.
pub(crate) struct Backend {
    addr: SocketAddr,
    ledger: Arc<Ledger>,
    accepting: JoinHandle<()>,
}

struct Ledger {
    script: Mutex<Script>,
    received: watch::Sender<Vec<Received>>,
    connections: AtomicUsize,
    broken: AtomicUsize,
    huge_bytes: AtomicUsize,
}

impl Backend {
    /// A backend that answers each request as `script` says.
    pub(crate) async fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Backend {
        Backend::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// A backend that says 200 `{"ok":true}` to everything.
    pub(crate) async fn ok() -> Backend {
        Backend::start(|_| Reply::json(200, r#"{"ok":true}"#)).await
    }

    /// A backend on a given address: one that was stopped comes back there.
    pub(crate) async fn start_at(
        addr: SocketAddr,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Backend {
        let listener = TcpListener::bind(addr).await.expect("a port for the backend");
        let addr = listener.local_addr().expect("the backend's address");
        let ledger = Arc::new(Ledger {
            script: Mutex::new(Arc::new(script)),
            received: watch::Sender::new(Vec::new()),
            connections: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            huge_bytes: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&ledger)));
        Backend { addr, ledger, accepting }
    }

    /// Closes the port and all connections, and returns once the port is free.
    pub(crate) async fn stop(mut self) {
        self.accepting.abort();
        let _aborted = (&mut self.accepting).await;
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers by another script from the next request on.
    pub(crate) fn answer_by(&self, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.ledger.script.lock().expect("the script") = Arc::new(script);
    }

    /// All requests that arrived whole, in the order of their arrival.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.ledger.received.borrow().clone()
    }

    /// How many requests arrived whole.
    pub(crate) fn count(&self) -> usize {
        self.ledger.received.borrow().len()
    }

    /// Waits until `count` requests have arrived whole, answered or not, and hands them over.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut received = self.ledger.received.subscribe();
        let enough = timeout(PATIENCE, received.wait_for(|all| all.len() >= count)).await;
        match enough {
            Ok(Ok(all)) => all.clone(),
            Ok(Err(_)) | Err(_) => panic!("waited for {count} requests at the backend, got {}", self.count()),
        }
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.ledger.connections.load(Ordering::Acquire)
    }

    /// How many connections ended inside a request, or brought something that is no HTTP/1.1 request.
    pub(crate) fn broken(&self) -> usize {
        self.ledger.broken.load(Ordering::Acquire)
    }

    /// How much of all huge replies the other side's sockets took.
    pub(crate) fn huge_bytes(&self) -> usize {
        self.ledger.huge_bytes.load(Ordering::Acquire)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, ledger: Arc<Ledger>) {
    // Owned here, so that the connections end with the task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let ledger = Arc::clone(&ledger);
        let connection = ledger.connections.fetch_add(1, Ordering::AcqRel);
        connections.spawn(async move {
            // Closed after the count, so that who sees the end sees the count.
            let mut wire = Wire::new(stream);
            if converse(&mut wire, connection, &ledger).await.is_err() {
                ledger.broken.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
}

/// Takes requests from one connection until either side ends it. An error is a request that broke off.
async fn converse(wire: &mut Wire, connection: usize, ledger: &Ledger) -> io::Result<()> {
    while let Some(received) = receive(wire, connection).await? {
        let script = Arc::clone(&ledger.script.lock().expect("the script"));
        let reply = script(&received);
        let method = received.method.clone();
        ledger.received.send_modify(|all| all.push(received));
        if let Some(gate) = &reply.gate {
            gate.passed().await;
        }
        // A peer that is gone before its answer is no concern of the request that it sent.
        let written = answer(wire, &method, &reply, ledger).await;
        if !written.unwrap_or(false) {
            return Ok(());
        }
    }
    Ok(())
}

async fn receive(wire: &mut Wire, connection: usize) -> io::Result<Option<Received>> {
    let Some(raw_head) = wire.head().await? else { return Ok(None) };
    let head = RequestHead::parse(&raw_head)?;
    if head.headers.get("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let framing = head.framing()?;
    let body = wire.body(framing).await?;
    Ok(Some(Received {
        connection,
        method: head.method,
        target: head.target,
        headers: head.headers,
        framing,
        body: body.content,
        raw_body: body.raw,
        raw_head,
    }))
}

/// Writes the reply; whether the connection can carry another request.
async fn answer(wire: &mut Wire, method: &str, reply: &Reply, ledger: &Ledger) -> io::Result<bool> {
    let mut message = reply.head().into_bytes();
    let with_body = method != "HEAD" && !matches!(reply.status, 204 | 304);
    match reply.manner {
        Manner::HangUp => return Ok(false),
        Manner::Stall => {
            wire.end().await?;
            return Ok(false);
        }
        Manner::Garbage => {
            wire.write(GARBAGE).await?;
            return Ok(false);
        }
        Manner::Drip => {
            wire.write(&message).await?;
            return drip(wire).await;
        }
        Manner::Huge(bytes) => {
            wire.write(&message).await?;
            return pour(wire, bytes, ledger).await;
        }
        Manner::Half => message.extend_from_slice(&reply.body[..reply.body.len() / 2]),
        Manner::Whole if with_body => message.extend_from_slice(&reply.body),
        Manner::Chunked(chunk_bytes) if with_body => message.extend(in_chunks(&reply.body, chunk_bytes)),
        Manner::Whole | Manner::Chunked(_) => {}
    }
    wire.write(&message).await?;
    let asked_to_close = reply
        .headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close"));
    Ok(!asked_to_close && !matches!(reply.manner, Manner::Half))
}

/// No status line, but control bytes, and no UTF-8.
const GARBAGE: &[u8] = b"\x16\x03\x01\x00\xff\xfe\n\x80\x81{}\r\n\r\n\x00\x07\x1b";

/// Never ends by itself.
async fn drip(wire: &mut Wire) -> io::Result<bool> {
    loop {
        wire.write(b"1\r\n \r\n").await?;
        sleep(DRIP).await;
    }
}

async fn pour(wire: &mut Wire, bytes: usize, ledger: &Ledger) -> io::Result<bool> {
    let block = [b' '; 16 * 1024];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len());
        wire.write(&block[..now]).await?;
        ledger.huge_bytes.fetch_add(now, Ordering::AcqRel);
        left -= now;
    }
    Ok(true)
}

/// A port that is taken, so that nobody else gets it, and where nobody listens.
pub(crate) struct Nobody {
    pub(crate) addr: SocketAddr,
    _held: TcpSocket,
}

impl Nobody {
    pub(crate) fn anywhere() -> Nobody {
        let held = TcpSocket::new_v4().expect("a socket");
        held.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        Nobody { addr: held.local_addr().expect("its address"), _held: held }
    }
}
