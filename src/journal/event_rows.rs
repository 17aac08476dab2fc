//! Events as rows: written in batches, with the counts by hour in the same transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, Row, Statement, Transaction, TransactionBehavior, named_params};

use super::event::{Event, EventKind};
use super::file::{AT_SHIFT, JournalFile, Trouble};
use super::identifier::Identifier;
use super::seal::{Purpose, Sealer};
use crate::decision::time::{Span, Timestamp};

const HOUR: Span = Span::from_secs(3600);
/// How often, in events, a batch looks whether something more urgent waits.
const STRETCH: usize = 64;

/// What [`read`] wants of a row; `e` is the event.
pub(super) const COLUMNS: &str = "e.id, e.kind, e.times,
    (SELECT name FROM names WHERE id = e.route), (SELECT name FROM names WHERE id = e.policy),
    (SELECT name FROM names WHERE id = e.key_kind), (SELECT name FROM names WHERE id = e.win),
    e.sealed, e.masked, e.client, e.user_agent, e.trace_id, e.detail,
    (SELECT name FROM names WHERE id = e.node)";

const INSERT: &str = "
INSERT INTO events (id, kind, times, route, policy, key_kind, win, search, part_a, part_b, sealed, masked,
    client, user_agent, trace_id, detail, node)
VALUES (:id, :kind, :times, :route, :policy, :key_kind, :win, :search, :part_a, :part_b, :sealed, :masked,
    :client, :user_agent, :trace_id, :detail, :node)";

const ADD_TO_HOUR: &str = "
INSERT INTO event_hours (hour, kind, route, policy, times) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO UPDATE SET times = times + excluded.times";

/// One row of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// What the next page is asked by: `before`.
    pub cursor: EventCursor,
    /// With its identifier, unless that was sealed with another key.
    pub event: Event,
    /// The identifier as it is shown.
    pub masked: Option<Box<str>>,
}

/// A place among the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventCursor(pub(super) i64);

impl EventCursor {
    /// As `Display` writes it.
    pub fn parse(text: &str) -> Option<EventCursor> {
        text.parse().ok().filter(|id| *id >= 0).map(EventCursor)
    }
}

impl std::fmt::Display for EventCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The first id that an event of this time may have.
pub(super) fn first_id(at: Timestamp) -> i64 {
    let micros = at.as_micros().min(u64::MAX >> (AT_SHIFT + 1));
    (micros << AT_SHIFT).cast_signed()
}

/// The hour of a time, since the epoch.
pub(super) fn hour(at: Timestamp) -> i64 {
    (at.floor_millis() / HOUR.as_millis()).cast_signed()
}

/// The first hour that is wholly after this time, or begins with it.
pub(super) fn end_hour(at: Timestamp) -> i64 {
    at.as_micros().div_ceil(HOUR.as_millis() * 1000).cast_signed()
}

/// When an hour began.
pub(super) fn hour_start(hour: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(hour).unwrap_or_default().saturating_mul(HOUR.as_millis()))
}

impl JournalFile {
    /// Writes events in one transaction, all of them or, if `is_pressed` says that something else
    /// waits, the first ones. How many.
    pub(super) fn add_events(
        &mut self,
        sealer: &Sealer,
        events: &[Event],
        is_pressed: impl Fn() -> bool,
    ) -> Result<usize, Trouble> {
        let low = self.low;
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch::begin(&change, sealer, low)?;
        let mut written = 0;
        for stretch in events.chunks(STRETCH) {
            for event in stretch {
                batch.add(event)?;
            }
            written += stretch.len();
            if is_pressed() {
                break;
            }
        }
        let low = batch.finish(written)?;
        change.commit()?;
        self.low = low;
        Ok(written)
    }
}

/// One transaction's events.
struct Batch<'c> {
    change: &'c Transaction<'c>,
    sealer: &'c Sealer,
    insert: Statement<'c>,
    /// Kept no longer than the transaction: a name that it added may be rolled back with it.
    names: HashMap<Arc<str>, i64>,
    hours: HashMap<(i64, EventKind, i64, i64), i64>,
    low: u16,
}

impl<'c> Batch<'c> {
    fn begin(change: &'c Transaction<'c>, sealer: &'c Sealer, low: u16) -> Result<Batch<'c>, Trouble> {
        let insert = change.prepare(INSERT)?;
        Ok(Batch { change, sealer, insert, names: HashMap::new(), hours: HashMap::new(), low })
    }

    fn add(&mut self, event: &Event) -> Result<(), Trouble> {
        let route = self.name(event.route.as_ref())?;
        let policy = self.name(event.policy.as_ref())?;
        let key_kind = self.name(event.key.as_ref())?;
        let window = self.name(event.window.as_ref())?;
        let node = self.name(event.node.as_ref())?;
        let identifier = event.identifier.as_ref().map(|it| self.sealer.seal_identifier(Purpose::Event, it));
        let identifier = identifier.as_ref();
        let client = event.client.map(|address| address.to_string());
        self.low = (self.low + 1) & ((1 << AT_SHIFT) - 1);
        let mut id = first_id(event.at) + i64::from(self.low);
        let mut is_second = false;
        loop {
            let inserted = self.insert.execute(named_params! {
                ":id": id,
                ":kind": event.kind as i64,
                ":times": event.count,
                ":route": route,
                ":policy": policy,
                ":key_kind": key_kind,
                ":win": window,
                ":search": identifier.map(|it| it.search),
                ":part_a": identifier.and_then(|it| it.part_a),
                ":part_b": identifier.and_then(|it| it.part_b),
                ":sealed": identifier.and_then(|it| it.sealed.as_deref()),
                ":masked": identifier.map(|it| &*it.masked),
                ":client": client,
                ":user_agent": event.user_agent,
                ":trace_id": event.trace_id,
                ":detail": event.detail,
                ":node": node,
            });
            match inserted {
                Ok(_) => break,
                // More than a thousand in one microsecond: behind all that there are.
                Err(error) if is_taken(&error) && !is_second => {
                    id = self.change.query_row("SELECT max(id) + 1 FROM events", [], |row| row.get(0))?;
                    is_second = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let place = (hour(event.at), event.kind, route.unwrap_or(0), policy.unwrap_or(0));
        *self.hours.entry(place).or_default() += i64::from(event.count);
        Ok(())
    }

    /// The number of a name; a new one if it has none.
    fn name(&mut self, name: Option<&Arc<str>>) -> Result<Option<i64>, Trouble> {
        let Some(name) = name else { return Ok(None) };
        if let Some(&number) = self.names.get(name) {
            return Ok(Some(number));
        }
        let number = match number_of(self.change, name)? {
            Some(number) => number,
            None => {
                self.change.execute("INSERT INTO names (name) VALUES (?1)", [name])?;
                self.change.last_insert_rowid()
            }
        };
        self.names.insert(Arc::clone(name), number);
        Ok(Some(number))
    }

    /// Writes the counts; where the next batch goes on.
    fn finish(self, written: usize) -> Result<u16, Trouble> {
        let mut add = self.change.prepare(ADD_TO_HOUR)?;
        for ((hour, kind, route, policy), times) in self.hours {
            add.execute((hour, kind as i64, route, policy, times))?;
        }
        let written = i64::try_from(written).unwrap_or(i64::MAX);
        self.change.execute("UPDATE meta SET value = value + ?1 WHERE name = 'event_rows'", [written])?;
        Ok(self.low)
    }
}

/// The number of a name out of the configuration, if any row has it.
pub(super) fn number_of(connection: &Connection, name: &str) -> Result<Option<i64>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT id FROM names WHERE name = ?1")?;
    let mut rows = statement.query([name])?;
    rows.next()?.map(|row| row.get(0)).transpose()
}

/// An event of the [`COLUMNS`].
pub(super) fn read(row: &Row<'_>, sealer: &Sealer) -> Result<EventRow, Trouble> {
    let id: i64 = row.get(0)?;
    let kind: i64 = row.get(1)?;
    let kind = EventKind::from_number(kind)
        .ok_or_else(|| Trouble::Broken(format!("there is no kind of event {kind}")))?;
    let sealed: Option<Vec<u8>> = row.get(7)?;
    let masked: Option<Box<str>> = row.get(8)?;
    let client: Option<Box<str>> = row.get(9)?;
    let event = Event {
        at: Timestamp::from_micros((id >> AT_SHIFT).cast_unsigned()),
        kind,
        count: row.get(2)?,
        route: row.get(3)?,
        policy: row.get(4)?,
        key: row.get(5)?,
        window: row.get(6)?,
        identifier: identifier(sealer, sealed.as_deref(), masked.as_deref()),
        client: client.and_then(|text| text.parse().ok()),
        user_agent: row.get(10)?,
        trace_id: row.get(11)?,
        detail: row.get(12)?,
        node: row.get(13)?,
    };
    Ok(EventRow { cursor: EventCursor(id), event, masked })
}

fn identifier(sealer: &Sealer, sealed: Option<&[u8]>, masked: Option<&str>) -> Option<Identifier> {
    sealer.open_identifier(Purpose::Event, sealed?, masked?.into())
}

fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
