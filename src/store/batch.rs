//! Many requests in few exchanges: what comes while an exchange is under way goes with the next one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::remote::StoreError;

/// Requests that wait, those of callers who gave up included.
const WAITING_MAX: usize = 4096;

/// How batches get to where they are answered.
pub(super) trait Road: fmt::Debug + Send + Sync + 'static {
    type Load: Send + Sync;
    type Answer: Send;

    /// Loads in one exchange.
    const LOADS_MAX: usize;
    /// What they may weigh together. One alone may weigh more.
    const WEIGHT_MAX: usize;
    /// Exchanges under way, those included that hold nobody back any more.
    const EXCHANGES_MAX: usize;

    fn weight(load: &Self::Load) -> usize;

    /// Whether both can be in one exchange.
    fn go_together(one: &Self::Load, other: &Self::Load) -> bool;

    /// Has all loads answered, in their order, or fails for all of them. Must end by itself.
    fn exchange(
        &self,
        loads: &[Self::Load],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// Sends loads as they come. A load goes at once if no exchange is under way, else with whatever else has come
/// when that is answered: the slower the server, the larger the batches.
///
/// One exchange at a time, for a second one would be sent with little in it; but one that is slow, say because
/// a packet was lost or the way is long, holds the others back for no longer than `hold`. It then goes on beside
/// the next one.
#[derive(Debug)]
pub(super) struct Batcher<R: Road>(Arc<Shared<R>>);

#[derive(Debug)]
struct Shared<R: Road> {
    road: R,
    hold: Duration,
    line: Mutex<Line<R>>,
}

struct Line<R: Road> {
    waiting: VecDeque<Waiting<R>>,
    exchanges: usize,
    /// Whether one of the exchanges holds back those who wait.
    is_held: bool,
}

struct Waiting<R: Road> {
    load: R::Load,
    caller: Caller<R>,
}

type Caller<R> = oneshot::Sender<Result<<R as Road>::Answer, StoreError>>;

impl<R: Road> Batcher<R> {
    /// Does no I/O. `hold` is less than callers wait.
    pub(super) fn new(road: R, hold: Duration) -> Batcher<R> {
        Batcher(Arc::new(Shared { road, hold, line: Mutex::default() }))
    }

    /// Has one load answered, once. Who drops the future before it was sent takes it back; later on, its answer
    /// is thrown away.
    pub(super) async fn run(&self, load: R::Load) -> Result<R::Answer, StoreError> {
        let (caller, arrives) = oneshot::channel();
        self.0.line.lock().join(Waiting { load, caller })?;
        Shared::depart(&self.0);
        // Nobody answers if the runtime of the exchange ends.
        arrives.await.unwrap_or_else(|_| Err(StoreError::Disconnected("the exchange was ended".into())))
    }
}

impl<R: Road> Line<R> {
    fn join(&mut self, waiting: Waiting<R>) -> Result<(), StoreError> {
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

    /// Whether there is to be another exchange; if so, it has begun and holds the line.
    fn begin(&mut self) -> bool {
        let begins = !self.is_held && self.exchanges < R::EXCHANGES_MAX && !self.waiting.is_empty();
        if begins {
            self.exchanges += 1;
            self.is_held = true;
        }
        begins
    }

    /// Those who go next; nobody if all gave up.
    fn next_batch(&mut self) -> (Vec<R::Load>, Vec<Caller<R>>) {
        let (mut loads, mut callers) = (Vec::new(), Vec::new());
        let mut weight = 0;
        while loads.len() < R::LOADS_MAX
            && let Some(next) = self.waiting.pop_front()
        {
            if next.gave_up() {
                continue;
            }
            weight += R::weight(&next.load);
            if let Some(first) = loads.first()
                && (weight > R::WEIGHT_MAX || !R::go_together(first, &next.load))
            {
                self.waiting.push_front(next);
                break;
            }
            loads.push(next.load);
            callers.push(next.caller);
        }
        (loads, callers)
    }
}

impl<R: Road> Default for Line<R> {
    fn default() -> Line<R> {
        Line { waiting: VecDeque::new(), exchanges: 0, is_held: false }
    }
}

impl<R: Road> Waiting<R> {
    fn gave_up(&self) -> bool {
        self.caller.is_closed()
    }
}

impl<R: Road> Shared<R> {
    /// Starts an exchange, if there may be one and anybody waits for it.
    fn depart(shared: &Arc<Shared<R>>) {
        if shared.line.lock().begin() {
            tokio::spawn(travel(Place { shared: Arc::clone(shared), holds: true }));
        }
    }
}

async fn travel<R: Road>(mut place: Place<R>) {
    // Who becomes ready in the same moment comes along.
    yield_now().await;
    let shared = Arc::clone(&place.shared);
    let (loads, callers) = shared.line.lock().next_batch();
    let result = if loads.is_empty() {
        Ok(Vec::new())
    } else {
        let mut exchange = std::pin::pin!(shared.road.exchange(&loads));
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
        Ok(answers) => callers.into_iter().zip(answers).for_each(|(caller, answer)| {
            let _gone = caller.send(Ok(answer));
        }),
        Err(fault) => callers.into_iter().for_each(|caller| {
            let _gone = caller.send(Err(fault.clone()));
        }),
    }
}

/// An exchange's place in the line, given back however the exchange ends.
struct Place<R: Road> {
    shared: Arc<Shared<R>>,
    holds: bool,
}

impl<R: Road> Place<R> {
    fn hold_nobody(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.shared.line.lock().is_held = false;
        }
    }
}

impl<R: Road> Drop for Place<R> {
    fn drop(&mut self) {
        self.hold_nobody();
        self.shared.line.lock().exchanges -= 1;
    }
}

impl<R: Road> fmt::Debug for Line<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("waiting", &self.waiting.len())
            .field("exchanges", &self.exchanges)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
