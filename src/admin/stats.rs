//! Numbers: how many are blocked and refused, why, who and where; whether what the gateway needs is well.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::api::Api;
use super::auth::Caller;
use super::input::Parameters;
use super::reply::Fault;
use crate::decision::rfc3339;
use crate::decision::time::{Span, Timestamp};
use crate::journal::{EventKind, HourCount, Sight, Tops};

const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);
const SPAN_MAX: Span = Span::from_secs(366 * 86_400);
/// So many of each kind of top are told.
const TOPS: usize = 10;

/// The kinds that each hour is told of.
const KINDS: [EventKind; 7] = [
    EventKind::Limited,
    EventKind::Blocked,
    EventKind::Failure,
    EventKind::Backoff,
    EventKind::Rejected,
    EventKind::Denied,
    EventKind::Suspicion,
];

/// `GET /api/v1/rate-limit-stats`
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Fault> {
    let parameters = Parameters::of(&uri, &["since", "until"])?;
    let now = api.now();
    let until = parameters.time("until")?.unwrap_or(now);
    let since = match parameters.time("since")? {
        Some(since) => since,
        None => Timestamp::from_micros(until.as_micros().saturating_sub(DAY.as_millis() * 1000)),
    };
    if since >= until || since.until(until) > SPAN_MAX {
        return Err(Fault::bad("since must be before until, by a year at most."));
    }
    api.scan(move |api| {
        let journal = api.gateway.journal();
        // What does not stand on the disk is told also while that cannot be read.
        let read = journal
            .hours(since, until, None)
            .and_then(|counts| Ok((counts, journal.tops(since, until, TOPS)?)));
        let is_readable = read.is_ok();
        let (counts, tops) = read.unwrap_or_default();
        let hours = hours(&counts, since, until);
        let mut told = told(api, hours, &tops, caller.sight);
        told["journal"]["up"] = (is_readable && journal.is_up()).into();
        Ok(Json(told).into_response())
    })
    .await
}

fn told(api: &Api, hours: Vec<Value>, tops: &Tops, sight: Sight) -> Value {
    let (gateway, now) = (&api.gateway, api.now());
    let journal = gateway.journal();
    let counts = journal.book().count_by_reason(now);
    let by_reason: Map<String, Value> =
        counts.iter().map(|(reason, count)| (reason.word().to_owned(), (*count).into())).collect();
    let (total, refused) = api.metrics().requests();
    let reasons = tops
        .reasons
        .iter()
        .map(|top| json!({"kind": top.kind.word(), "policy": top.policy, "count": top.count}));
    let identifiers = tops.identifiers.iter().map(|top| {
        let shown = match (&top.identifier, sight) {
            (Some(identifier), Sight::Full) => identifier.expose(),
            (Some(_), Sight::Masked) | (None, Sight::Full | Sight::Masked) => &*top.masked,
        };
        json!({"identifier": shown, "key": top.key, "count": top.count})
    });
    let routes = tops.routes.iter().map(|top| json!({"route": top.route, "count": top.count}));
    json!({
        "active_blocks": {
            "total": counts.iter().map(|(_, count)| count).sum::<u64>(),
            "by_reason": by_reason,
        },
        "requests": {"total": total, "refused": refused},
        "minutes": api.minutes.told(),
        "hours": hours,
        "top_reasons": reasons.collect::<Vec<Value>>(),
        "top_identifiers": identifiers.collect::<Vec<Value>>(),
        "top_routes": routes.collect::<Vec<Value>>(),
        "store": {"kind": &*api.store_kind, "up": gateway.store_is_up()},
        "journal": {"up": journal.is_up(), "queue": journal.waiting(), "dropped": journal.lost()},
        "upstreams": upstreams(api),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": api.started_at.until(now).as_millis() / 1000,
    })
}

/// Every hour of the span, also those in which nothing happened.
fn hours(counts: &[HourCount], since: Timestamp, until: Timestamp) -> Vec<Value> {
    let hour_of = |at: Timestamp| at.floor_millis() / HOUR.as_millis();
    let last = hour_of(Timestamp::from_micros(until.as_micros().saturating_sub(1)));
    let mut all: Vec<Map<String, Value>> = Vec::new();
    for hour in hour_of(since)..=last {
        let at = Timestamp::from_millis(hour.saturating_mul(HOUR.as_millis()));
        let mut told: Map<String, Value> =
            KINDS.iter().map(|kind| (kind.word().to_owned(), 0_u64.into())).collect();
        told.insert("at".to_owned(), rfc3339::written(at).into());
        all.push(told);
    }
    for count in counts.iter().filter(|count| KINDS.contains(&count.kind)) {
        let place =
            hour_of(count.hour).checked_sub(hour_of(since)).and_then(|place| usize::try_from(place).ok());
        if let Some(told) = place.and_then(|place| all.get_mut(place)) {
            told.insert(count.kind.word().to_owned(), count.count.into());
        }
    }
    all.into_iter().map(Value::Object).collect()
}

fn upstreams(api: &Api) -> Vec<Value> {
    let told = api.metrics().upstreams().into_iter().map(|counts| {
        let [other, informational, successful, redirecting, refusing, failing] = counts.responses;
        json!({
            "name": counts.name,
            "responses_1xx": informational,
            "responses_2xx": successful,
            "responses_3xx": redirecting,
            "responses_4xx": refusing,
            "responses_5xx": failing,
            "responses_other": other,
            "failures": counts.failures,
            "servers": counts.addresses,
            "servers_up": counts.addresses_up,
        })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hour_is_told_once() {
        let at = |hours: u64, ms: u64| Timestamp::from_millis(1_800_000_000_000 + hours * 3_600_000 + ms);
        let counts = [
            HourCount { hour: at(1, 0), kind: EventKind::Limited, count: 7 },
            HourCount { hour: at(1, 0), kind: EventKind::Reload, count: 1 },
            HourCount { hour: at(2, 0), kind: EventKind::Failure, count: 2 },
        ];
        let told = hours(&counts, at(0, 5), at(3, 0));
        assert_eq!(told.len(), 3);
        assert_eq!(told[0]["at"], "2027-01-15T08:00:00.000Z");
        assert_eq!((&told[1]["limited"], &told[2]["failure"]), (&json!(7), &json!(2)));
        assert_eq!(told[0]["limited"], json!(0));
        assert_eq!(told[1].as_object().unwrap().len(), 8);
        assert_eq!(hours(&[], at(0, 0), at(0, 1)).len(), 1);
    }
}
