//! What happens, as server-sent events (WHATWG HTML §9.2), while it happens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::api::Api;
use super::auth::Caller;
use super::item::{BlockItem, EventItem};
use super::reply::Fault;
use crate::decision::time::{Span, Timestamp};
use crate::journal::{News, Sight};

const STREAMS_MAX: usize = 32;
const NUMBERS_EVERY: Duration = Duration::from_secs(2);
/// So many numbers go by between two comments that keep what lies between from cutting the line.
const NUMBERS_A_PING: u32 = 7;
/// Numbers that are younger are told again.
const FRESH: Span = Span::from_millis(900);

/// The streams that are open.
pub(super) struct Streams {
    room: Arc<Semaphore>,
    /// True once the listener is to end.
    ended: watch::Receiver<bool>,
    numbers: Mutex<Option<(Timestamp, Value)>>,
}

impl Streams {
    pub(super) fn new(ended: watch::Receiver<bool>) -> Streams {
        Streams { room: Arc::new(Semaphore::new(STREAMS_MAX)), ended, numbers: Mutex::default() }
    }
}

/// One of them.
struct Stream {
    api: Arc<Api>,
    sight: Sight,
    news: broadcast::Receiver<News>,
    ended: watch::Receiver<bool>,
    ticks: Interval,
    ticked: u32,
    _room: OwnedSemaphorePermit,
}

/// `GET /api/v1/stream`
pub(super) async fn open(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Fault> {
    let room = Arc::clone(&api.streams.room).try_acquire_owned();
    let room =
        room.map_err(|_| Fault::TooMany { retry_after_s: 10, detail: "Too many streams are open." })?;
    let mut ticks = interval(NUMBERS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = Stream {
        news: api.gateway.journal().feed().listen(),
        ended: api.streams.ended.clone(),
        sight: caller.sight,
        ticks,
        ticked: 0,
        _room: room,
        api,
    };
    let pieces = futures_util::stream::unfold(stream, |mut stream| async {
        stream.next().await.map(|text| (Ok::<Bytes, Infallible>(text.into()), stream))
    });
    Ok(([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response())
}

impl Stream {
    /// The next piece of text; none at the end.
    async fn next(&mut self) -> Option<String> {
        let sight = self.sight;
        tokio::select! {
            biased;
            // It changes once, or loses its sender: both are the end.
            _ = self.ended.changed() => None,
            _ = self.ticks.tick() => {
                let numbers = piece("stats", &numbers(&self.api).await?);
                self.ticked += 1;
                let ping = if self.ticked.is_multiple_of(NUMBERS_A_PING) { ": ping\n\n" } else { "" };
                Some(format!("{numbers}{ping}"))
            }
            news = self.news.recv() => match news {
                Ok(news) => Some(told(&news, sight)),
                // Who reads too slowly has missed something: a new stream, and a new look at the lists, is better.
                Err(RecvError::Lagged(_) | RecvError::Closed) => None,
            },
        }
    }
}

fn told(news: &News, sight: Sight) -> String {
    match news {
        News::Event(event) => piece("event", &EventItem::new(event, None, None, sight)),
        News::Blocked(record) => piece("block", &BlockItem::new(record, sight)),
        News::Unblocked(record) => piece("unblock", &BlockItem::new(record, sight)),
    }
}

/// JSON has no line breaks of its own: one line of data is all of it.
fn piece(name: &str, item: &impl serde::Serialize) -> String {
    match serde_json::to_string(item) {
        Ok(data) => format!("event: {name}\ndata: {data}\n\n"),
        Err(_) => String::new(),
    }
}

/// Numbers of now, counted once for all streams.
async fn numbers(api: &Arc<Api>) -> Option<Value> {
    let mut known = api.streams.numbers.lock().await;
    if let Some((at, numbers)) = &*known
        && api.now() < at.plus(FRESH)
    {
        return Some(numbers.clone());
    }
    let counted = Arc::clone(api);
    let numbers = tokio::task::spawn_blocking(move || {
        let (total, refused) = counted.metrics().requests();
        json!({
            "requests": total,
            "refused": refused,
            "active_blocks": counted.gateway.journal().book().len(counted.now()),
            "store_up": counted.gateway.store_is_up(),
        })
    });
    let numbers = numbers.await.ok()?;
    *known = Some((api.now(), numbers.clone()));
    Some(numbers)
}
