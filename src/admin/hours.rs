//! Counts of each hour, over the span of time that a request asks for.

use axum::http::Uri;
use serde_json::{Map, Value};

use super::input::Parameters;
use super::reply::Fault;
use crate::decision::rfc3339;
use crate::decision::time::{Span, Timestamp};
use crate::journal::{EventKind, HourCount};

const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);
const SPAN_MAX: Span = Span::from_secs(366 * 86_400);

/// The span that a request asks for: not empty, a year at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

impl Asked {
    /// `since` and `until`; the last day where they are not given.
    pub(super) fn of(uri: &Uri, now: Timestamp) -> Result<Asked, Fault> {
        let parameters = Parameters::of(uri, &["since", "until"])?;
        let until = parameters.time("until")?.unwrap_or(now);
        let since = match parameters.time("since")? {
            Some(since) => since,
            None => Timestamp::from_micros(until.as_micros().saturating_sub(DAY.as_millis() * 1000)),
        };
        if since >= until || since.until(until) > SPAN_MAX {
            return Err(Fault::bad("since must be before until, by a year at most."));
        }
        Ok(Asked { since, until })
    }

    /// Every hour that the span touches, also those in which nothing happened: its start, and how often each of these
    /// kinds was counted.
    pub(super) fn hours(self, kinds: &[EventKind], counts: &[HourCount]) -> Vec<Value> {
        let Asked { since, until } = self;
        let hour_of = |at: Timestamp| at.floor_millis() / HOUR.as_millis();
        let last = hour_of(Timestamp::from_micros(until.as_micros().saturating_sub(1)));
        let mut all: Vec<Map<String, Value>> = Vec::new();
        for hour in hour_of(since)..=last {
            let at = Timestamp::from_millis(hour.saturating_mul(HOUR.as_millis()));
            let mut told: Map<String, Value> =
                kinds.iter().map(|kind| (kind.word().to_owned(), 0_u64.into())).collect();
            told.insert("at".to_owned(), rfc3339::written(at).into());
            all.push(told);
        }
        for count in counts.iter().filter(|count| kinds.contains(&count.kind)) {
            let place =
                hour_of(count.hour).checked_sub(hour_of(since)).and_then(|place| usize::try_from(place).ok());
            if let Some(told) = place.and_then(|place| all.get_mut(place)) {
                told.insert(count.kind.word().to_owned(), count.count.into());
            }
        }
        all.into_iter().map(Value::Object).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(hours: u64, ms: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + hours * 3_600_000 + ms)
    }

    #[test]
    fn every_hour_is_told_once() {
        let counts = [
            HourCount { hour: at(1, 0), kind: EventKind::Limited, count: 7 },
            HourCount { hour: at(1, 0), kind: EventKind::Reload, count: 1 },
            HourCount { hour: at(2, 0), kind: EventKind::Failure, count: 2 },
        ];
        let kinds = [EventKind::Limited, EventKind::Failure];
        let asked = Asked { since: at(0, 5), until: at(3, 0) };
        let told = asked.hours(&kinds, &counts);
        assert_eq!(
            told,
            [
                json!({"at": "2027-01-15T08:00:00.000Z", "limited": 0, "failure": 0}),
                json!({"at": "2027-01-15T09:00:00.000Z", "limited": 7, "failure": 0}),
                json!({"at": "2027-01-15T10:00:00.000Z", "limited": 0, "failure": 2}),
            ]
        );
        assert_eq!(Asked { since: at(0, 0), until: at(0, 1) }.hours(&kinds, &[]).len(), 1);
    }

    #[test]
    fn a_span_is_the_last_day_or_what_is_asked_for() {
        let asked = |query: &str| Asked::of(&format!("/x?{query}").parse().unwrap(), at(24, 0));
        assert_eq!(asked("").unwrap(), Asked { since: at(0, 0), until: at(24, 0) });
        let until = asked("until=2027-01-15T09:00:00Z").unwrap();
        assert_eq!((until.since.until(until.until), until.until), (DAY, at(1, 0)));
        for wrong in ["since=2027-01-16T08:00:00Z", "since=2025-01-15T08:00:00Z", "since=x", "span=1h"] {
            assert!(matches!(asked(wrong), Err(Fault::Bad(_))), "{wrong}");
        }
    }
}
