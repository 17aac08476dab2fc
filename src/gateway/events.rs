//! Events for the journal: an attack on one key is one row a while, not a million.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Gateway;
use super::attempt::Sender;
use super::policies::RouteHandles;
use crate::decision::key::KeyHash;
use crate::decision::plan::Identity;
use crate::decision::time::{Span, Timestamp};
use crate::journal::{Event, EventKind, Identifier, Journal};

/// Events that were noted of late, by what makes two of them alike. The first is noted at once, the others
/// of the same ten seconds are counted and noted together.
pub(super) struct Repeats {
    shards: [Mutex<HashMap<Alike, Repeat>>; Repeats::SHARDS],
}

/// What two events have in common that say the same: the kind, the limit or rule, and the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Alike {
    pub(super) kind: EventKind,
    pub(super) key: KeyHash,
}

struct Repeat {
    since: Timestamp,
    last: Timestamp,
    event: Event,
    again: u32,
}

impl Repeats {
    const SHARDS: usize = 16;
    const KEYS_A_SHARD: usize = 1024;
    const TOGETHER: Span = Span::from_secs(10);

    pub(super) fn new() -> Repeats {
        Repeats { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Notes an event, or counts it to one that was noted a moment ago. `event` is made only if it is needed.
    pub(super) fn note(
        &self,
        journal: &Journal,
        alike: Alike,
        now: Timestamp,
        event: impl FnOnce() -> Event,
    ) {
        let mut shard = self.shards[alike.key.as_u128() as usize % Repeats::SHARDS].lock();
        if let Some(repeat) = shard.get_mut(&alike)
            && now < repeat.since.plus(Repeats::TOGETHER)
        {
            repeat.again = repeat.again.saturating_add(1);
            repeat.last = now;
            return;
        }
        let event = event();
        let earlier = shard.remove(&alike);
        if shard.len() < Repeats::KEYS_A_SHARD {
            shard.insert(alike, Repeat { since: now, last: now, event: event.clone(), again: 0 });
        }
        drop(shard);
        earlier.into_iter().filter_map(Repeat::rest).for_each(|rest| journal.note(rest));
        journal.note(event);
    }

    /// Notes what was counted to events of more than ten seconds ago; all of it at the end.
    pub(super) fn flush(&self, journal: &Journal, which: Flush, now: Timestamp) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let is_over = |repeat: &Repeat| match which {
                Flush::Old => now >= repeat.since.plus(Repeats::TOGETHER),
                Flush::All => true,
            };
            let over: Vec<Repeat> = shard.extract_if(|_, repeat| is_over(repeat)).map(|(_, r)| r).collect();
            drop(shard);
            over.into_iter().filter_map(Repeat::rest).for_each(|rest| journal.note(rest));
        }
    }
}

/// Which events are noted that were only counted so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    Old,
    All,
}

impl Repeat {
    /// The event that stands for all that came after the first.
    fn rest(self) -> Option<Event> {
        (self.again > 0).then_some(Event { at: self.last, count: self.again, ..self.event })
    }
}

impl Sender {
    /// An event that this sender caused.
    pub(super) fn event(&self, kind: EventKind, now: Timestamp) -> Event {
        Event {
            client: Some(self.client),
            user_agent: self.user_agent.clone(),
            trace_id: self.trace_id.clone(),
            ..Event::new(kind, now)
        }
    }
}

impl Gateway {
    /// An event on a route.
    pub(super) fn event(
        &self,
        kind: EventKind,
        handles: &RouteHandles,
        sender: &Sender,
        now: Timestamp,
    ) -> Event {
        Event { route: Some(handles.shared_name()), ..sender.event(kind, now) }
    }
}

/// The clear text of a key for the journal; none if the request had nothing to tell.
pub(super) fn identifier(identity: &Identity) -> Option<Identifier> {
    let parts: Vec<(&str, &str)> = identity.iter().map(|(kind, value)| (&**kind, &**value)).collect();
    (!parts.is_empty()).then(|| Identifier::new(&parts))
}
