//! What was most frequent: by kind and policy, by route, by identifier.

use rusqlite::Connection;

use super::event::EventKind;
use super::event_rows;
use super::file::Trouble;
use super::identifier::Identifier;
use super::seal::{Purpose, Sealer};
use crate::decision::time::Timestamp;

/// What was most frequent in a span of time, the most frequent first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tops {
    /// Over the whole hours that the span touches.
    pub reasons: Vec<TopReason>,
    /// Over the whole hours that the span touches.
    pub routes: Vec<TopRoute>,
    /// Among the newest 20 000 rows of the span that have one.
    pub identifiers: Vec<TopIdentifier>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopReason {
    pub kind: EventKind,
    pub policy: Option<Box<str>>,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopRoute {
    pub route: Box<str>,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopIdentifier {
    /// None if it was sealed with another key.
    pub identifier: Option<Identifier>,
    pub masked: Box<str>,
    pub key: Option<Box<str>>,
    pub count: u64,
}

/// So many rows are looked at for identifiers: an attack that is under way is among the newest.
const ROWS_MAX: usize = 20_000;

/// Kinds that somebody's request brought about.
const CAUSED: [EventKind; 7] = [
    EventKind::Limited,
    EventKind::Blocked,
    EventKind::Failure,
    EventKind::Backoff,
    EventKind::Rejected,
    EventKind::Denied,
    EventKind::Suspicion,
];

pub(super) fn tops(
    connection: &Connection,
    sealer: &Sealer,
    since: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<Tops, Trouble> {
    let kinds: Vec<String> = CAUSED.iter().map(|kind| (*kind as i64).to_string()).collect();
    let kinds = kinds.join(", ");
    let hours = (event_rows::hour(since), event_rows::end_hour(until));
    let rows = (event_rows::first_id(since), event_rows::first_id(until));
    Ok(Tops {
        reasons: reasons(connection, &kinds, hours, limit)?,
        routes: routes(connection, &kinds, hours, limit)?,
        identifiers: identifiers(connection, sealer, &kinds, rows, limit)?,
    })
}

fn reasons(
    connection: &Connection,
    kinds: &str,
    hours: (i64, i64),
    limit: usize,
) -> Result<Vec<TopReason>, Trouble> {
    let mut statement = connection.prepare(&format!(
        "SELECT kind, (SELECT name FROM names WHERE id = policy), sum(times) AS n FROM event_hours
         WHERE hour >= ?1 AND hour < ?2 AND kind IN ({kinds})
         GROUP BY kind, policy ORDER BY n DESC, kind, policy LIMIT {limit}"
    ))?;
    let mut rows = statement.query(hours)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let kind: i64 = row.get(0)?;
        let kind = EventKind::from_number(kind)
            .ok_or_else(|| Trouble::Broken(format!("there is no kind of event {kind}")))?;
        found.push(TopReason { kind, policy: row.get(1)?, count: count(row.get(2)?) });
    }
    Ok(found)
}

fn routes(
    connection: &Connection,
    kinds: &str,
    hours: (i64, i64),
    limit: usize,
) -> Result<Vec<TopRoute>, Trouble> {
    let mut statement = connection.prepare(&format!(
        "SELECT names.name, sum(times) AS n FROM event_hours JOIN names ON names.id = route
         WHERE hour >= ?1 AND hour < ?2 AND kind IN ({kinds})
         GROUP BY route ORDER BY n DESC, route LIMIT {limit}"
    ))?;
    let mut rows = statement.query(hours)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(TopRoute { route: row.get(0)?, count: count(row.get(1)?) });
    }
    Ok(found)
}

fn identifiers(
    connection: &Connection,
    sealer: &Sealer,
    kinds: &str,
    (first, end): (i64, i64),
    limit: usize,
) -> Result<Vec<TopIdentifier>, Trouble> {
    let mut statement = connection.prepare(&format!(
        "SELECT e.sealed, e.masked, (SELECT name FROM names WHERE id = e.key_kind), top.n FROM (
           SELECT max(id) AS id, sum(times) AS n FROM (
             SELECT id, search, key_kind, times FROM events
             WHERE id >= ?1 AND id < ?2 AND search IS NOT NULL AND +kind IN ({kinds})
             ORDER BY id DESC LIMIT {ROWS_MAX})
           GROUP BY search, key_kind ORDER BY n DESC, id DESC LIMIT {limit}) AS top
         CROSS JOIN events AS e ON e.id = top.id ORDER BY top.n DESC, top.id DESC"
    ))?;
    let mut rows = statement.query((first, end))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let sealed: Option<Vec<u8>> = row.get(0)?;
        let masked: Box<str> = row.get(1)?;
        let opened =
            sealed.and_then(|sealed| sealer.open_identifier(Purpose::Event, &sealed, masked.clone()));
        found.push(TopIdentifier { identifier: opened, masked, key: row.get(2)?, count: count(row.get(3)?) });
    }
    Ok(found)
}

fn count(sum: i64) -> u64 {
    u64::try_from(sum).unwrap_or_default()
}
