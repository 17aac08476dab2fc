//! One-time codes in numbers: how many were sent and came back, and how those are who carry them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::api::Api;
use super::hours::Asked;
use super::reply::Fault;
use crate::decision::rfc3339;
use crate::journal::{EventKind, HourCount};
use crate::sms::dispatch::{Counts, Doubt, LastFault, ProviderHealth, Spent};

/// The kinds that each hour is told of.
const KINDS: [EventKind; 4] =
    [EventKind::CodeSent, EventKind::CodeUndelivered, EventKind::CodeVerified, EventKind::Fraud];

/// `GET /api/v1/otp-stats`
pub(super) async fn show(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Fault> {
    let asked = Asked::of(&uri, api.now())?;
    api.scan(move |api| {
        let journal = api.gateway.journal();
        let read = journal.hours(asked.since, asked.until, None);
        // What does not stand on the disk is told also while that cannot be read.
        let is_readable = read.is_ok();
        let counts = read.unwrap_or_default();
        let policies = api.policies();
        let providers = policies.otp().map(|otp| otp.dispatcher().health(api.now()));
        let told = json!({
            "configured": providers.is_some(),
            "totals": totals(&counts),
            "conversion_percent": conversion(&counts),
            "hours": asked.hours(&KINDS, &counts),
            "providers": providers.iter().flatten().map(provider).collect::<Vec<Value>>(),
            "journal": {"up": is_readable && journal.is_up()},
        });
        Ok(Json(told).into_response())
    })
    .await
}

fn totals(counts: &[HourCount]) -> Map<String, Value> {
    KINDS.iter().map(|kind| (kind.word().to_owned(), total(counts, *kind).into())).collect()
}

fn total(counts: &[HourCount], kind: EventKind) -> u64 {
    counts.iter().filter(|count| count.kind == kind).map(|count| count.count).sum()
}

/// How many of a hundred messages brought a code back; none where nothing was sent. Codes that were sent before the
/// span come back in it, so there may be more of them than there were messages.
fn conversion(counts: &[HourCount]) -> Option<u64> {
    let verified = total(counts, EventKind::CodeVerified).saturating_mul(100);
    verified.checked_div(total(counts, EventKind::CodeSent)).map(|percent| percent.min(100))
}

fn provider(health: &ProviderHealth) -> Value {
    let ProviderHealth { name, kind, priority, channels, standing, .. } = health;
    json!({
        "name": name,
        "kind": kind,
        "priority": priority,
        "channels": channels.iter().map(|channel| channel.word()).collect::<Vec<&str>>(),
        "state": standing.word(),
        "until": standing.until().map(rfc3339::written),
        "doubt": health.doubt.map(Doubt::word),
        "last_hour": messages(health.last_hour),
        "last_day": messages(health.last_day),
        "spent_last_day": health.spent.as_ref().map(spent),
        "last_fault": health.last_fault.as_ref().map(fault),
    })
}

fn messages(counts: Counts) -> Value {
    let Counts { sent, delivered, failed, verified } = counts;
    json!({"sent": sent, "delivered": delivered, "failed": failed, "verified": verified})
}

fn spent(spent: &Spent) -> Value {
    let Spent { micros, currency, daily_max_micros } = spent;
    json!({"micros": micros, "currency": currency, "daily_max_micros": daily_max_micros})
}

fn fault(last: &LastFault) -> Value {
    let LastFault { at, fault, code } = last;
    json!({"at": rfc3339::written(*at), "fault": fault.word(), "code": code})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::Timestamp;

    fn counted(kind: EventKind, count: u64) -> HourCount {
        HourCount { hour: Timestamp::from_millis(1_800_000_000_000), kind, count }
    }

    #[test]
    fn totals_are_over_all_hours() {
        let counts = [
            counted(EventKind::CodeSent, 2),
            counted(EventKind::Limited, 9),
            counted(EventKind::CodeSent, 3),
            counted(EventKind::Fraud, 1),
        ];
        let told = Value::Object(totals(&counts));
        assert_eq!(told, json!({"code_sent": 5, "code_undelivered": 0, "code_verified": 0, "fraud": 1}));
    }

    #[test]
    fn conversion_is_a_share_of_what_was_sent() {
        let of = |sent, verified| {
            conversion(&[counted(EventKind::CodeSent, sent), counted(EventKind::CodeVerified, verified)])
        };
        assert_eq!(of(0, 0), None);
        assert_eq!(of(0, 3), None, "sent before");
        assert_eq!(of(3, 2), Some(66));
        assert_eq!(of(2, 3), Some(100));
        assert_eq!(of(4, 0), Some(0));
    }
}
