//! What other gateways are to be told of what happens in this one. Bounded, and nobody waits to put something in.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::block::{BlockId, BlockRecord};
use super::event::Event;
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};

/// The end of a block before its time: of this one, and of all that were made of its key before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lift {
    pub key: KeyHash,
    pub id: BlockId,
    pub at: Timestamp,
    /// Nobody can hold the block beyond that.
    pub until: Timestamp,
    /// The operator.
    pub by: Option<Box<str>>,
}

/// A change to the blocks that was made here.
#[derive(Clone, Debug)]
pub enum Telling {
    /// It began, or changed.
    Block(Arc<BlockRecord>),
    Lift(Arc<Lift>),
}

/// What is to be told, and which blocks were lifted. Empty until somebody listens.
#[derive(Debug, Default)]
pub struct Outbox {
    has_listener: AtomicBool,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    news: VecDeque<Telling>,
    /// Telling were left out: all that is in force must be told.
    is_behind: bool,
    events: VecDeque<Event>,
    events_lost: u64,
    lifts: HashMap<KeyHash, Arc<Lift>>,
}

/// So many changes wait at most.
const NEWS_MAX: usize = 16_384;
/// So many events wait at most; one more is dropped.
const EVENTS_MAX: usize = 2048;
/// So many lifted blocks are remembered.
const LIFTS_MAX: usize = 65_536;

impl Lift {
    /// How long a lift is told of at least: a block that is over may still be remembered.
    const TOLD_FOR: Span = Span::from_secs(60);

    pub(super) fn of(record: &BlockRecord, by: Option<&str>, at: Timestamp) -> Lift {
        let until = record.block.until.max(at.plus(Lift::TOLD_FOR));
        Lift { key: record.key, id: record.id, at, until, by: by.map(Box::from) }
    }
}

impl Outbox {
    /// Keeps what comes from now on.
    pub fn listen(&self) {
        self.has_listener.store(true, Ordering::Release);
    }

    /// Waits until there is something new of blocks.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// The oldest changes, so many at most.
    pub fn take_news(&self, most: usize) -> Vec<Telling> {
        let mut state = self.state.lock();
        let count = state.news.len().min(most);
        state.news.drain(..count).collect()
    }

    /// Changes that could not be told, to be the next again.
    pub fn put_back(&self, news: Vec<Telling>) {
        let mut state = self.state.lock();
        for one in news.into_iter().rev() {
            state.news.push_front(one);
        }
        if state.news.len() > NEWS_MAX {
            state.news.truncate(NEWS_MAX);
            state.is_behind = true;
        }
    }

    /// Whether changes were left out since the last look.
    pub fn was_behind(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_behind)
    }

    /// The oldest events, so many at most, and how many were dropped since the last call.
    pub fn take_events(&self, most: usize) -> (Vec<Event>, u64) {
        let mut state = self.state.lock();
        let count = state.events.len().min(most);
        let lost = std::mem::take(&mut state.events_lost);
        (state.events.drain(..count).collect(), lost)
    }

    /// The blocks that were lifted and might still be held by somebody.
    pub fn lifts(&self, now: Timestamp) -> Vec<Arc<Lift>> {
        let mut state = self.state.lock();
        state.lifts.retain(|_, lift| lift.until > now);
        state.lifts.values().cloned().collect()
    }

    /// Tells a change once more, or for the first time.
    pub fn tell(&self, news: Telling) {
        if !self.has_listener.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if state.news.len() >= NEWS_MAX {
            state.is_behind = true;
        } else {
            state.news.push_back(news);
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn note(&self, event: &Event) {
        if !self.has_listener.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if state.events.len() >= EVENTS_MAX {
            state.events_lost += 1;
        } else {
            state.events.push_back(event.clone());
        }
    }

    /// Remembers a lift, so that nobody brings the block back.
    pub(super) fn remember(&self, lift: &Arc<Lift>, now: Timestamp) {
        if !self.has_listener.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if state.lifts.len() >= LIFTS_MAX {
            state.lifts.retain(|_, lift| lift.until > now);
        }
        let is_newer = state.lifts.get(&lift.key).is_none_or(|known| known.id <= lift.id);
        if is_newer && state.lifts.len() < LIFTS_MAX {
            state.lifts.insert(lift.key, Arc::clone(lift));
        }
    }

    /// The lift that a block of this key and id must not outlive.
    pub(super) fn lifted(&self, key: KeyHash, id: BlockId) -> Option<Arc<Lift>> {
        self.state.lock().lifts.get(&key).filter(|lift| id <= lift.id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::EventKind;
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn lift(key: u128, id: u8) -> Arc<Lift> {
        let id = BlockId::new(NOW, [id; 10]);
        let until = NOW.plus(Span::from_secs(60));
        Arc::new(Lift { key: KeyHash::from_u128(key), id, at: NOW, until, by: None })
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let outbox = Outbox::default();
        outbox.tell(Telling::Lift(lift(1, 1)));
        outbox.note(&Event::new(EventKind::Limited, NOW));
        outbox.remember(&lift(1, 1), NOW);
        outbox.listen();
        assert!(outbox.take_news(9).is_empty());
        assert!(outbox.take_events(9).0.is_empty());
        assert!(outbox.lifts(NOW).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told_of() {
        let outbox = Outbox::default();
        outbox.listen();
        for _ in 0..EVENTS_MAX + 3 {
            outbox.note(&Event::new(EventKind::Limited, NOW));
        }
        assert_eq!(outbox.take_events(10).1, 3);
        assert_eq!(
            outbox.take_events(usize::MAX),
            (vec![Event::new(EventKind::Limited, NOW); EVENTS_MAX - 10], 0)
        );
        for number in 0..=NEWS_MAX {
            outbox.tell(Telling::Lift(lift(number as u128, 0)));
        }
        assert!(outbox.was_behind() && !outbox.was_behind());
        let taken = outbox.take_news(usize::MAX);
        assert_eq!(taken.len(), NEWS_MAX);
        outbox.tell(Telling::Lift(lift(1, 1)));
        outbox.put_back(taken);
        assert!(outbox.was_behind(), "what is older is told first, and the newest has no room");
    }

    #[test]
    fn a_lift_ends_what_was_made_before_it_and_is_forgotten_with_it() {
        let outbox = Outbox::default();
        outbox.listen();
        outbox.remember(&lift(1, 5), NOW);
        outbox.remember(&lift(1, 3), NOW);
        let lifted = |id: u8| outbox.lifted(KeyHash::from_u128(1), BlockId::new(NOW, [id; 10])).is_some();
        assert_eq!([lifted(3), lifted(5), lifted(6)], [true, true, false]);
        assert_eq!(outbox.lifts(NOW.plus(Span::from_secs(59))).len(), 1);
        assert!(outbox.lifts(NOW.plus(Span::from_secs(60))).is_empty());
    }
}
