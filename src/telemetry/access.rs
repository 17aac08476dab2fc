//! The access log: one JSON line a request on standard output, beside the log.
//!
//! Requests put lines into a queue and never wait. A thread writes them; what finds the queue full is dropped, counted
//! and told of.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use super::lines::cut;
use super::log::Sanitized;
use super::metrics::{AccessMetrics, Verdict};
use super::refusals::shown;
use crate::decision::rfc3339;
use crate::decision::time::Timestamp;

/// Lines that wait to be written: a second of a busy gateway.
const QUEUE: usize = 16 * 1024;
/// What is written in one piece, bytes.
const PIECE: usize = 64 * 1024;
/// How often dropped lines are told of, at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How long the last lines may take when the gateway stops.
const CLOSING: Duration = Duration::from_secs(2);
const METHOD_MAX: usize = 32;
const USER_AGENT_MAX: usize = 256;

/// Which requests get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLines {
    Off,
    /// Those whose answer is an error, or that got none.
    Errors,
    All,
}

impl AccessLines {
    /// Whether a request with this answer gets one. No status: nobody was there to be answered.
    pub fn want(self, status: Option<u16>) -> bool {
        match self {
            AccessLines::Off => false,
            AccessLines::Errors => status.is_none_or(|status| status >= 400),
            AccessLines::All => true,
        }
    }
}

/// The access log of the process. Its thread starts with the first line.
pub struct AccessLog {
    queue: OnceLock<SyncSender<Order>>,
    dropped: Arc<AtomicU64>,
    metrics: AccessMetrics,
}

enum Order {
    Line(Box<str>),
    /// To be answered once all lines before it are written.
    Flush(oneshot::Sender<()>),
}

/// What became of one request. No field holds the value of a key.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// When its head was there.
    pub at: Timestamp,
    pub method: &'a str,
    /// As the client sent it, without the query: shown cut, and without e-mails and phone numbers.
    pub path: &'a str,
    pub host: Option<&'a str>,
    /// None if nobody was there to be answered.
    pub status: Option<u16>,
    /// Of the answer's body.
    pub bytes_out: u64,
    pub route: &'a str,
    pub verdict: Verdict,
    /// What it was counted by, or what refused it counts by: `ip`, `body.email+ip`.
    pub keys: &'a [Box<str>],
    pub client: IpAddr,
    pub user_agent: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub trace_id: Option<&'a str>,
    /// From the head of the request to the end of the answer.
    pub total: Duration,
    /// The gateway's own part up to the verdict, store included.
    pub decision: Duration,
    /// Waiting for the client's body, where a key stands in it.
    pub body_wait: Duration,
    /// From the last server that was asked to the head of its answer.
    pub backend: Option<Duration>,
    pub server: Option<SocketAddr>,
    /// When that server was asked, from the head of the request on.
    pub asked: Option<Duration>,
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    status: Option<u16>,
    bytes: u64,
    route: &'a str,
    verdict: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    keys: &'a [Box<str>],
    client: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    total_ms: f64,
    decision_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_wait_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<SocketAddr>,
}

impl Account<'_> {
    fn line(&self) -> String {
        let path = shown(self.path);
        let line = Line {
            timestamp: rfc3339::written(self.at),
            level: "INFO",
            message: "access",
            method: cut(self.method, METHOD_MAX),
            path: &path,
            host: self.host.map(|host| cut(host, USER_AGENT_MAX)),
            status: self.status,
            bytes: self.bytes_out,
            route: self.route,
            verdict: self.verdict.label(),
            keys: self.keys,
            client: self.client,
            user_agent: self.user_agent.map(|agent| cut(agent, USER_AGENT_MAX)),
            request_id: self.request_id,
            trace_id: self.trace_id,
            total_ms: ms(self.total),
            decision_us: u64::try_from(self.decision.as_micros()).unwrap_or(u64::MAX),
            body_wait_ms: (!self.body_wait.is_zero()).then(|| ms(self.body_wait)),
            backend_ms: self.backend.map(ms),
            server: self.server,
        };
        // Texts and numbers alone: nothing of it can fail.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// To the microsecond.
fn ms(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}

impl AccessLog {
    pub fn new(metrics: AccessMetrics) -> AccessLog {
        AccessLog { queue: OnceLock::new(), dropped: Arc::default(), metrics }
    }

    /// Puts the line of a request where it will be written. Never waits.
    pub fn note(&self, account: &Account<'_>) {
        self.put(account.line().into(), io::stdout);
    }

    fn put<W: Write>(&self, line: Box<str>, out: impl FnOnce() -> W + Send + 'static) {
        let queue = self.queue.get_or_init(|| self.start(out));
        match queue.try_send(Order::Line(line)) {
            Ok(()) => self.metrics.noted(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.dropped();
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns once all lines so far are written, or after two seconds.
    pub async fn flush(&self) {
        let Some(queue) = self.queue.get() else { return };
        let (done, told) = oneshot::channel();
        let flushed = async {
            let mut order = Order::Flush(done);
            // A full queue is being written: there is room soon, or never.
            while let Err(TrySendError::Full(back)) = queue.try_send(order) {
                order = back;
                tokio::time::sleep(ASK_EVERY).await;
            }
            // An error means that the thread is gone, and nothing more will be written.
            let _ = told.await;
        };
        if tokio::time::timeout(CLOSING, flushed).await.is_err() {
            tracing::warn!("the last lines of the access log were not written in time");
        }
    }

    fn start<W: Write>(&self, out: impl FnOnce() -> W + Send + 'static) -> SyncSender<Order> {
        let (queue, orders) = sync_channel(QUEUE);
        let dropped = Arc::clone(&self.dropped);
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        let started = thread.spawn(move || Writer { orders, out: out(), dropped, piece: Vec::new() }.run());
        if let Err(error) = started {
            // Every line finds the queue without a reader then, and counts as dropped.
            tracing::error!(%error, "the access log cannot be written: no thread for it");
        }
        queue
    }
}

/// The thread that writes.
struct Writer<W> {
    orders: Receiver<Order>,
    out: W,
    dropped: Arc<AtomicU64>,
    /// Whole lines that go out together.
    piece: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Until the log is gone.
    fn run(mut self) {
        loop {
            match self.orders.recv_timeout(TELL_EVERY) {
                Ok(order) => {
                    self.take(order);
                    while self.piece.len() < PIECE
                        && let Ok(order) = self.orders.try_recv()
                    {
                        self.take(order);
                    }
                    self.write();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let count = self.dropped.swap(0, Ordering::Relaxed);
            if count > 0 {
                tracing::warn!(
                    count,
                    "dropped {count} lines of the access log: they came faster than they are taken"
                );
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Line(line) => {
                let mut whole = String::from(line);
                whole.push('\n');
                // Writing to a Vec cannot fail.
                let _ = Sanitized::new(&mut self.piece).write(whole.as_bytes());
            }
            Order::Flush(done) => {
                self.write();
                // Nobody waits any more: that is their business.
                let _ = done.send(());
            }
        }
    }

    /// In one call, so that no line of the log comes in between the parts of ours. Where nobody reads, lines are lost.
    fn write(&mut self) {
        let lines = self.piece.iter().filter(|byte| **byte == b'\n').count();
        if let Err(error) = self.out.write_all(&self.piece).and_then(|()| self.out.flush()) {
            tracing::debug!(%error, "the access log was not taken");
            self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
        }
        self.piece.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::telemetry::Metrics;

    fn account() -> Account<'static> {
        Account {
            at: Timestamp::from_millis(1_800_000_000_000),
            method: "POST",
            path: "/users/ada@example.com/otp",
            host: Some("a.example"),
            status: Some(429),
            bytes_out: 67,
            route: "login",
            verdict: Verdict::Limited,
            keys: &[],
            client: IpAddr::from([192, 0, 2, 7]),
            user_agent: Some("curl/8\u{202e}\u{7f}"),
            request_id: Some("4bf92f3577b34da6"),
            trace_id: None,
            total: Duration::from_micros(1500),
            decision: Duration::from_nanos(2900),
            body_wait: Duration::ZERO,
            backend: None,
            server: None,
            asked: None,
        }
    }

    /// Where lines go, once the test opens it.
    #[derive(Clone, Default)]
    struct Gate(Arc<Shared>);

    #[derive(Default)]
    struct Shared {
        /// Whether it is open, and what went through.
        state: Mutex<(bool, Vec<u8>)>,
        opened: Condvar,
    }

    impl Gate {
        fn open(&self) {
            self.0.state.lock().unwrap().0 = true;
            self.0.opened.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.state.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.state.lock().unwrap();
            let mut state = self.0.opened.wait_while(state, |(is_open, _)| !*is_open).unwrap();
            state.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn put(log: &AccessLog, gate: &Gate, line: &str) {
        let gate = gate.clone();
        log.put(line.into(), move || gate);
    }

    #[test]
    fn a_line_tells_all_that_is_known_and_nothing_that_must_not_be_kept() {
        let value: serde_json::Value = serde_json::from_str(&account().line()).unwrap();
        let expected = serde_json::json!({
            "timestamp": "2027-01-15T08:00:00.000Z", "level": "INFO", "message": "access", "method": "POST",
            "path": "/users/***/otp", "host": "a.example", "status": 429, "bytes": 67, "route": "login",
            "verdict": "limited", "client": "192.0.2.7", "user_agent": "curl/8\u{202e}\u{7f}",
            "request_id": "4bf92f3577b34da6", "total_ms": 1.5, "decision_us": 2,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn errors_are_answers_from_400_on_and_requests_without_one() {
        for (lines, wanted) in [
            (AccessLines::Off, [false, false, false]),
            (AccessLines::Errors, [false, true, true]),
            (AccessLines::All, [true, true, true]),
        ] {
            assert_eq!([Some(302), Some(400), None].map(|status| lines.want(status)), wanted, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_the_rest_is_there_whole_and_in_order() {
        let metrics = Metrics::new().unwrap();
        let (log, gate) = (AccessLog::new(metrics.access()), Gate::default());
        // The thread holds a piece while the gate is shut: more than that and a full queue cannot be kept.
        let sent = 2 * QUEUE + 2 * PIECE;
        (0..sent).for_each(|number| put(&log, &gate, &number.to_string()));
        let page = metrics.render();
        let count = |result: &str| -> usize {
            let series = format!("tollgate_access_log_lines_total{{result=\"{result}\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&*series)).unwrap().parse().unwrap()
        };
        assert!(count("dropped") > 0, "{page}");
        assert_eq!(count("noted") + count("dropped"), sent);
        gate.open();
        log.flush().await;
        let text = gate.text();
        let numbers: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers.len(), count("noted"));
        assert!(numbers.is_sorted() && text.ends_with('\n'));
    }

    #[tokio::test]
    async fn no_byte_of_a_client_starts_a_line_or_steers_a_terminal() {
        let (log, gate) = (AccessLog::new(Metrics::new().unwrap().access()), Gate::default());
        gate.open();
        let evil = Account { method: "G\u{1b}[2J", host: Some("a\u{202e}b\n{}"), ..account() };
        put(&log, &gate, &evil.line());
        log.flush().await;
        let text = gate.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    }

    #[tokio::test]
    async fn nothing_noted_is_nothing_to_wait_for() {
        AccessLog::new(Metrics::new().unwrap().access()).flush().await;
    }
}
