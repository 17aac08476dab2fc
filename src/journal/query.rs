//! What operators ask of the file. Each question has a connection of its own, so that nothing of it
//! goes stale when the file is replaced, and a long one holds up nobody.

use std::net::IpAddr;

use rusqlite::{Connection, ToSql};

use super::block::Reason;
use super::block_rows::{self, EndedBlock, EndedCursor, micros};
use super::event::EventKind;
use super::event_rows::{self, EventCursor, EventRow};
use super::file::Trouble;
use super::seal::Sealer;
use crate::decision::time::Timestamp;

/// Which events; all that are given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter<'a> {
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// One of these; of any kind if there are none.
    pub kinds: &'a [EventKind],
    pub route: Option<&'a str>,
    pub policy: Option<&'a str>,
    /// The whole identifier or, of a composite, its first or second value. Exact.
    pub identifier: Option<&'a str>,
    /// Who sent the request.
    pub client: Option<IpAddr>,
    /// Older than this row: the next page.
    pub before: Option<EventCursor>,
    /// Rows at most; 10 000 if more.
    pub limit: usize,
}

/// Which blocks that are over; all that are given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndedFilter<'a> {
    /// Ended from then on.
    pub since: Option<Timestamp>,
    /// Ended before then.
    pub until: Option<Timestamp>,
    pub reason: Option<Reason>,
    /// As of [`EventFilter`].
    pub identifier: Option<&'a str>,
    pub before: Option<EndedCursor>,
    /// Rows at most; 10 000 if more.
    pub limit: usize,
}

/// How many events of a kind an hour had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourCount {
    /// When the hour began.
    pub hour: Timestamp,
    pub kind: EventKind,
    /// Each event counts for as many as it stands for.
    pub count: u64,
}

const LIMIT_MAX: usize = 10_000;

pub(super) fn events(
    connection: &Connection,
    sealer: &Sealer,
    filter: &EventFilter<'_>,
) -> Result<Vec<EventRow>, Trouble> {
    let Some(stretches) = stretches(connection, sealer, filter)? else { return Ok(Vec::new()) };
    let limit = limit(filter.limit);
    let newest = |stretch: &String| {
        format!(
            "SELECT id FROM (SELECT id FROM {stretch} AND id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT {limit})"
        )
    };
    let newest: Vec<String> = stretches.iter().map(newest).collect();
    let sql = format!(
        "SELECT {} FROM ({} ORDER BY id DESC LIMIT {limit}) AS hit CROSS JOIN events AS e ON e.id = hit.id
         ORDER BY hit.id DESC",
        event_rows::COLUMNS,
        newest.join(" UNION ")
    );
    let first = filter.since.map_or(0, event_rows::first_id);
    let end = filter.until.map_or(i64::MAX, event_rows::first_id);
    let end = filter.before.map_or(end, |before| before.0.min(end));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query((first, end))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(event_rows::read(row, sealer)?);
    }
    Ok(found)
}

/// The stretches of indexes, each in the order of time, that hold what the filter wants: the newest
/// of all are among the newest of each. A list in one condition would be read whole before it is
/// sorted, and left to itself SQLite takes whichever index it likes. `None` if a name of the filter is
/// in no row.
pub(super) fn stretches(
    connection: &Connection,
    sealer: &Sealer,
    filter: &EventFilter<'_>,
) -> Result<Option<Vec<String>>, Trouble> {
    let numbered = |name: Option<&str>| -> Result<Option<Option<i64>>, Trouble> {
        match name {
            None => Ok(Some(None)),
            Some(name) => Ok(event_rows::number_of(connection, name)?.map(Some)),
        }
    };
    let (Some(route), Some(policy)) = (numbered(filter.route)?, numbered(filter.policy)?) else {
        return Ok(None);
    };
    let kinds = if filter.kinds.is_empty() { &EventKind::ALL[..] } else { filter.kinds };
    let mut kinds: Vec<i64> = kinds.iter().map(|kind| *kind as i64).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if filter.identifier.is_some() || filter.client.is_some() {
        let kinds: Vec<String> = kinds.iter().map(i64::to_string).collect();
        let mut rest = format!(" AND kind IN ({})", kinds.join(", "));
        for (column, value) in [("route", route), ("policy", policy)] {
            rest.extend(value.map(|value| format!(" AND {column} = {value}")));
        }
        // An address is written by us: there is nothing in it that could end the text.
        let client = filter.client.map(|address| format!("client = '{address}'"));
        let Some(identifier) = filter.identifier else {
            let by = client.map(|client| format!("events INDEXED BY events_client WHERE {client}{rest}"));
            return Ok(Some(by.into_iter().collect()));
        };
        rest.extend(client.map(|client| format!(" AND {client}")));
        let hash = sealer.search(identifier);
        let by = |column| format!("events INDEXED BY events_{column} WHERE {column} = {hash}{rest}");
        return Ok(Some(["search", "part_a", "part_b"].map(by).into()));
    }
    let stretch = match (route, policy) {
        (None, None) if filter.kinds.is_empty() => return Ok(Some(vec!["events WHERE true".to_owned()])),
        (None, None) => "events INDEXED BY events_kind WHERE true".to_owned(),
        (Some(route), None) => format!("events INDEXED BY events_route WHERE route = {route}"),
        (None, Some(policy)) => format!("events INDEXED BY events_policy WHERE policy = {policy}"),
        (Some(route), Some(policy)) => {
            format!("events INDEXED BY events_policy WHERE policy = {policy} AND route = {route}")
        }
    };
    Ok(Some(kinds.iter().map(|kind| format!("{stretch} AND kind = {kind}")).collect()))
}

pub(super) fn ended_blocks(
    connection: &Connection,
    sealer: &Sealer,
    filter: &EndedFilter<'_>,
    now: Timestamp,
) -> Result<Vec<EndedBlock>, Trouble> {
    let (index, which) = match (filter.identifier, filter.reason) {
        (None, None) => ("INDEXED BY blocks_end", String::new()),
        (None, Some(reason)) => ("INDEXED BY blocks_reason", format!(" AND reason = {}", reason as i64)),
        (Some(identifier), reason) => {
            let hash = sealer.search(identifier);
            let by =
                |column| format!("SELECT seq FROM blocks INDEXED BY blocks_{column} WHERE {column} = {hash}");
            let found = ["search", "part_a", "part_b"].map(by).join(" UNION ");
            let reason = reason.map(|reason| format!(" AND reason = {}", reason as i64)).unwrap_or_default();
            ("NOT INDEXED", format!(" AND seq IN ({found}){reason}"))
        }
    };
    let sql = format!(
        "SELECT {} FROM blocks {index} WHERE ends_at >= ?1 AND ends_at < ?2 AND (ends_at, seq) < (?3, ?4){which}
         ORDER BY ends_at DESC, seq DESC LIMIT {}",
        block_rows::COLUMNS,
        limit(filter.limit)
    );
    let since = filter.since.map_or(0, micros);
    let over = micros(now).saturating_add(1);
    let until = filter.until.map_or(over, |until| micros(until).min(over));
    let before = filter.before.unwrap_or(EndedCursor { ends_at: i64::MAX, seq: i64::MAX });
    let bounds: [&dyn ToSql; 4] = [&since, &until, &before.ends_at, &before.seq];
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(bounds)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(block_rows::read(row, sealer)?);
    }
    Ok(found)
}

pub(super) fn hours(
    connection: &Connection,
    since: Timestamp,
    until: Timestamp,
    route: Option<&str>,
) -> Result<Vec<HourCount>, Trouble> {
    let mut of_route = String::new();
    if let Some(route) = route {
        let Some(route) = event_rows::number_of(connection, route)? else { return Ok(Vec::new()) };
        of_route = format!(" AND route = {route}");
    }
    let mut statement = connection.prepare(&format!(
        "SELECT hour, kind, sum(times) FROM event_hours WHERE hour >= ?1 AND hour < ?2{of_route}
         GROUP BY hour, kind ORDER BY hour, kind"
    ))?;
    let mut rows = statement.query((event_rows::hour(since), event_rows::end_hour(until)))?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        let (kind, count): (i64, i64) = (row.get(1)?, row.get(2)?);
        let kind = EventKind::from_number(kind)
            .ok_or_else(|| Trouble::Broken(format!("there is no kind of event {kind}")))?;
        let hour = event_rows::hour_start(row.get(0)?);
        counts.push(HourCount { hour, kind, count: u64::try_from(count).unwrap_or_default() });
    }
    Ok(counts)
}

fn limit(wanted: usize) -> usize {
    wanted.min(LIMIT_MAX)
}
