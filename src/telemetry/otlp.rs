//! Spans for an OpenTelemetry collector: OTLP over HTTP, in JSON.
//!
//! A request that was picked puts its spans into a queue and never waits. A task sends what is there together; what
//! finds the queue full, or no collector after all tries, is dropped and counted.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::access::Account;
use super::metrics::SpanMetrics;
use super::refusals::shown;
use crate::decision::time::Timestamp;
use crate::decision::trace::{SpanId, TraceContext};
use crate::http_client::{Bounds, HttpClient, HttpError, HttpUrl};

/// Requests whose spans wait to be sent.
const QUEUE: usize = 2048;
/// Requests whose spans are sent together, at most.
const BATCH: usize = 256;
/// How long a batch waits for more.
const LINGER: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BOUNDS: Bounds = Bounds { within: Duration::from_secs(10), reply_bytes_max: 64 * 1024 };
/// Before each further try.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// How long the last spans may take when the gateway stops.
const CLOSING: Duration = Duration::from_secs(2);
const USER_AGENT_MAX: usize = 256;

/// Takes the spans of requests. A clone is another handle to the same.
#[derive(Clone)]
pub struct Spans {
    queue: mpsc::Sender<Batchling>,
    metrics: SpanMetrics,
}

/// Sends what [`Spans`] took.
pub struct Exporter {
    url: HttpUrl,
    headers: HeaderMap,
    waiting: mpsc::Receiver<Batchling>,
    /// What is being sent.
    batch: Vec<Batchling>,
    metrics: SpanMetrics,
    waits: [Duration; WAITS.len()],
}

/// The place of a request in its trace.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The span of the request here.
    pub span: SpanId,
    /// The span that sent the request, if it named itself.
    pub parent: Option<SpanId>,
    /// What the backend was told: the span of asking it.
    pub told: TraceContext,
}

/// The spans of one request.
type Batchling = Vec<Value>;

/// Two ends of a bounded queue. The collector takes spans at this URL, by requests with these headers.
pub fn spans(url: HttpUrl, mut headers: HeaderMap, metrics: SpanMetrics) -> (Spans, Exporter) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let exporter =
        Exporter { url, headers, waiting, batch: Vec::new(), metrics: metrics.clone(), waits: WAITS };
    (Spans { queue, metrics }, exporter)
}

impl Spans {
    /// Puts the spans of a request where they will be sent. Never waits.
    pub fn note(&self, account: &Account<'_>, placed: Placed) {
        if self.queue.try_send(spans_of(account, placed)).is_err() {
            self.metrics.dropped(1);
        }
    }
}

impl Exporter {
    /// Sends until `stopped`, and then what waits still, if that is quick.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let client = HttpClient::new(CONNECT_TIMEOUT);
        let mut is_down = false;
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = self.send_all(&client, &mut is_down) => return,
        }
        self.waiting.close();
        // Without a pause: nobody waits for a collector that is away.
        self.waits = [Duration::ZERO; WAITS.len()];
        if tokio::time::timeout(CLOSING, self.send_all(&client, &mut is_down)).await.is_err() {
            let count = self.batch.len() + self.waiting.len();
            self.metrics.dropped(count as u64);
            tracing::warn!(count, "the spans of the last requests were not sent in time");
        }
    }

    /// Until nobody notes any more. What was being sent when this was dropped is sent again by the next call.
    async fn send_all(&mut self, client: &HttpClient, is_down: &mut bool) {
        while !self.batch.is_empty() || self.waiting.recv_many(&mut self.batch, BATCH).await > 0 {
            // An error means that the time is up, and the batch is what came until then.
            let _ = tokio::time::timeout(LINGER, self.fill()).await;
            let body = envelope(self.batch.iter().flatten());
            let sent = self.send(client, Bytes::from(body)).await;
            let count = self.batch.len() as u64;
            self.batch.clear();
            match &sent {
                Ok(()) => self.metrics.exported(count),
                Err(_) => self.metrics.failed(count),
            }
            tell(&sent, is_down);
        }
    }

    async fn fill(&mut self) {
        while self.batch.len() < BATCH && !self.waiting.is_closed() {
            let Some(more) = self.waiting.recv().await else { return };
            self.batch.push(more);
        }
    }

    async fn send(&self, client: &HttpClient, body: Bytes) -> Result<(), Unsent> {
        let mut waits = self.waits.into_iter();
        loop {
            let answer = client.post(&self.url, self.headers.clone(), body.clone(), BOUNDS).await;
            let unsent = match answer {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => Unsent::Refused(answer.status),
                Err(error) => Unsent::Unanswered(error),
            };
            match waits.next() {
                Some(wait) if unsent.is_passing() => tokio::time::sleep(wait).await,
                Some(_) | None => return Err(unsent),
            }
        }
    }
}

/// Why the collector has not taken spans.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("{0}")]
    Unanswered(HttpError),
}

impl Unsent {
    /// Whether the same may be taken later (OTLP specification, retryable response codes).
    fn is_passing(&self) -> bool {
        match self {
            Unsent::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            // It may have been taken, and a collector counts a span twice then: better than not at all.
            Unsent::Unanswered(_) => true,
        }
    }
}

/// One line when the collector goes away, and one when it is back.
fn tell(sent: &Result<(), Unsent>, is_down: &mut bool) {
    match sent {
        Ok(()) if *is_down => tracing::info!("the collector takes spans again"),
        Err(unsent) if !*is_down => tracing::warn!(%unsent, "the collector takes no spans: they are dropped"),
        Ok(()) | Err(_) => {}
    }
    *is_down = sent.is_err();
}

/// `ExportTraceServiceRequest`.
fn envelope<'s>(spans: impl Iterator<Item = &'s Value>) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [text("service.name", "tollgate"), text("service.version", version)];
    let request = json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{
                "scope": { "name": "tollgate", "version": version },
                "spans": spans.collect::<Vec<&Value>>(),
            }],
        }],
    });
    request.to_string().into_bytes()
}

/// The span of a request, and the one of asking the backend (semantic conventions for HTTP spans).
fn spans_of(account: &Account<'_>, placed: Placed) -> Batchling {
    let path = shown(account.path);
    let mut attributes = vec![
        text("http.request.method", account.method),
        text("url.path", &path),
        text("client.address", &account.client.to_string()),
        text("tollgate.route", account.route),
        text("tollgate.verdict", account.verdict.label()),
        text("tollgate.keys", &account.keys.join(",")),
        number("tollgate.decision_us", account.decision.as_micros()),
        number("http.response.body.size", u128::from(account.bytes_out)),
    ];
    attributes.extend(account.host.map(|host| text("server.address", host)));
    attributes.extend(
        account.user_agent.map(|agent| text("user_agent.original", super::lines::cut(agent, USER_AGENT_MAX))),
    );
    attributes.extend(account.request_id.map(|id| text("tollgate.request_id", id)));
    let status = account.status.map(|status| number("http.response.status_code", u128::from(status)));
    attributes.extend(status.clone());
    let is_error = account.status.is_none_or(|status| status >= 500);
    let mut server = span(placed.told, placed.span, placed.parent, SERVER, is_error);
    server["name"] = format!("{} {}", account.method, account.route).into();
    server["attributes"] = attributes.into();
    set_times(&mut server, account.at, Duration::ZERO, account.total);
    let mut spans = vec![server];
    if let (Some(asked), Some(address)) = (account.asked, account.server) {
        let mut client = span(placed.told, placed.told.span, Some(placed.span), CLIENT, is_error);
        let mut attributes = vec![
            text("http.request.method", account.method),
            text("network.peer.address", &address.ip().to_string()),
            number("network.peer.port", u128::from(address.port())),
        ];
        attributes.extend(status);
        client["name"] = account.method.into();
        client["attributes"] = attributes.into();
        let end = account.backend.map_or(account.total, |backend| asked + backend);
        set_times(&mut client, account.at, asked, end);
        spans.push(client);
    }
    spans
}

const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const STATUS_ERROR: u8 = 2;

fn span(trace: TraceContext, id: SpanId, parent: Option<SpanId>, kind: u8, is_error: bool) -> Value {
    let mut span = json!({ "traceId": trace.trace.to_string(), "spanId": id.to_string(), "kind": kind });
    if let Some(parent) = parent {
        span["parentSpanId"] = parent.to_string().into();
    }
    if is_error {
        span["status"] = json!({ "code": STATUS_ERROR });
    }
    span
}

/// In nanoseconds since 1970, as text: a 64-bit number in JSON (Protocol Buffers, JSON mapping).
fn set_times(span: &mut Value, at: Timestamp, from: Duration, to: Duration) {
    let ns = |after: Duration| (u128::from(at.as_micros()) * 1000 + after.as_nanos()).to_string();
    span["startTimeUnixNano"] = ns(from).into();
    span["endTimeUnixNano"] = ns(to).into();
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u128) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests;
