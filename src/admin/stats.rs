//! Numbers: how many are blocked and refused, why, who and where; whether what the gateway needs is well.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::api::Api;
use super::auth::Caller;
use super::hours::Asked;
use super::reply::Fault;
use crate::journal::{EventKind, Sight, Tops};

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
    let asked = Asked::of(&uri, api.now())?;
    let Asked { since, until } = asked;
    api.scan(move |api| {
        let journal = api.gateway.journal();
        // What does not stand on the disk is told also while that cannot be read.
        let read = journal
            .hours(since, until, None)
            .and_then(|counts| Ok((counts, journal.tops(since, until, TOPS)?)));
        let is_readable = read.is_ok();
        let (counts, tops) = read.unwrap_or_default();
        let hours = asked.hours(&KINDS, &counts);
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
