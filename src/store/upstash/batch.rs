//! Many calls in few exchanges: what comes while an exchange is under way goes with the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::http_client::{Bounds, HttpClient, HttpError, HttpUrl, Response};

use super::super::remote::{StoreError, error_reply};
use super::pipeline::{self, Command, Reply};

/// Commands in one exchange.
const BATCH_MAX: usize = 128;
/// Servers bound the size of a request, the smallest plan to 1 MB.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// A state takes a few hundred bytes, and some requests have ten of them.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
const WAITING_MAX: usize = 4096;
/// Exchanges under way, those included that nobody waits for any more.
const EXCHANGES_MAX: usize = 4;

/// Sends commands as they come. A command goes at once if no exchange is under way, else with
/// whatever else has come when that is answered: the slower the server, the larger the batches.
///
/// One exchange at a time, for a second one would be sent with little in it; but one that is slow, say
/// because a packet was lost, holds the others back for no longer than `hold`. It then goes on beside
/// the next one until `within`, though nobody may wait for it by then: its end leaves a connection that
/// can be used, where giving it up would cost the next exchange the round trips of a new one.
#[derive(Debug)]
pub(super) struct Batcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: HttpClient,
    endpoint: Endpoint,
    hold: Duration,
    within: Duration,
    line: Mutex<Line>,
}

/// Where pipelines are sent, and what each request says besides its body.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: HttpUrl,
    pub(super) headers: HeaderMap,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    exchanges: usize,
    /// Whether one of the exchanges holds back those who wait.
    is_held: bool,
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    answer: oneshot::Sender<Result<Reply, StoreError>>,
}

impl Batcher {
    /// Does no I/O. `hold` is less than callers wait, `within` may be more.
    pub(super) fn new(endpoint: Endpoint, hold: Duration, within: Duration) -> Batcher {
        let client = HttpClient::new(within);
        Batcher(Arc::new(Shared { client, endpoint, hold, within, line: Mutex::default() }))
    }

    /// Has one command run, once. Who drops the future before the command is sent takes it back.
    pub(super) async fn run(&self, command: Command) -> Result<Reply, StoreError> {
        let (answer, arrives) = oneshot::channel();
        self.0.line.lock().join(Waiting { command, answer })?;
        Shared::depart(&self.0);
        // Nobody answers if the runtime of the exchange ends.
        arrives.await.unwrap_or_else(|_| Err(StoreError::Disconnected("the exchange was ended".into())))
    }
}

impl Line {
    fn join(&mut self, waiting: Waiting) -> Result<(), StoreError> {
        // All wait equally long, so who gave up stands in front.
        while self.waiting.len() >= WAITING_MAX && self.waiting.front().is_some_and(Waiting::gave_up) {
            self.waiting.pop_front();
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(StoreError::Refused("too many calls are waiting".into()));
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Those who go next; nobody if there must not be another exchange now.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while !self.is_held && self.exchanges < EXCHANGES_MAX && batch.len() < BATCH_MAX {
            let Some(waiting) = self.waiting.pop_front() else { break };
            if waiting.gave_up() {
                continue;
            }
            bytes += waiting.command.bytes();
            if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                self.waiting.push_front(waiting);
                break;
            }
            batch.push(waiting);
        }
        batch
    }
}

impl Waiting {
    fn gave_up(&self) -> bool {
        self.answer.is_closed()
    }
}

impl Shared {
    /// Starts an exchange, if there may be one and anybody waits for it.
    fn depart(shared: &Arc<Shared>) {
        let mut line = shared.line.lock();
        let batch = line.next_batch();
        if batch.is_empty() {
            return;
        }
        line.exchanges += 1;
        line.is_held = true;
        drop(line);
        let place = Place { shared: Arc::clone(shared), holds: true };
        tokio::spawn(travel(place, batch));
    }

    async fn exchange(&self, batch: &[Waiting]) -> Result<Vec<Reply>, StoreError> {
        let body = pipeline::body(batch.iter().map(|waiting| &waiting.command));
        let bounds = Bounds { within: self.within, reply_bytes_max: REPLY_BYTES_MAX };
        let Endpoint { url, headers } = &self.endpoint;
        let response = self.client.post(url, headers.clone(), body.into(), bounds).await.map_err(failed)?;
        if response.status.is_success() {
            return pipeline::replies(&response.body, batch.len());
        }
        Err(refused(&response))
    }
}

async fn travel(mut place: Place, batch: Vec<Waiting>) {
    let shared = Arc::clone(&place.shared);
    let result = {
        let mut exchange = std::pin::pin!(shared.exchange(&batch));
        match timeout(shared.hold, &mut exchange).await {
            Ok(result) => result,
            Err(_elapsed) => {
                place.hold_nobody();
                Shared::depart(&shared);
                exchange.await
            }
        }
    };
    drop(place);
    Shared::depart(&shared);
    // Who is gone needs no answer.
    match result {
        Ok(replies) => batch.into_iter().zip(replies).for_each(|(waiting, reply)| {
            let _gone = waiting.answer.send(Ok(reply));
        }),
        Err(fault) => batch.into_iter().for_each(|waiting| {
            let _gone = waiting.answer.send(Err(fault.clone()));
        }),
    }
}

/// An exchange's place in the line, given back however the exchange ends.
struct Place {
    shared: Arc<Shared>,
    holds: bool,
}

impl Place {
    fn hold_nobody(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.shared.line.lock().is_held = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hold_nobody();
        self.shared.line.lock().exchanges -= 1;
    }
}

fn failed(error: HttpError) -> StoreError {
    match error {
        HttpError::Timeout => StoreError::Timeout,
        HttpError::Connect(_) | HttpError::Tls(_) | HttpError::Broken(_) => {
            StoreError::Disconnected(error.to_string().into())
        }
        HttpError::TooLarge(_) => StoreError::Garbage(error.to_string().into()),
    }
}

/// Why a pipeline as a whole was not run.
fn refused(response: &Response) -> StoreError {
    let status = response.status;
    let with_status = |what: &str| Box::from(format!("HTTP {}: {what}", status.as_u16()));
    match status.as_u16() {
        401 | 403 => StoreError::Auth(with_status("the token is not accepted")),
        429 => StoreError::Refused(with_status("the provider limits our calls")),
        300..=399 => StoreError::Refused(with_status("a redirect; the URL is that of another service")),
        500..=599 => StoreError::Disconnected(with_status("the provider has a fault")),
        _ => match serde_json::from_slice::<Reply>(&response.body) {
            Ok(Reply { error: Some(text), .. }) => error_reply::read(&text),
            Ok(Reply { error: None, .. }) | Err(_) => StoreError::Refused(with_status("no reason is given")),
        },
    }
}

#[cfg(test)]
mod tests;
