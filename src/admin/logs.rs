//! The journal's events, newest first.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::api::Api;
use super::auth::Caller;
use super::input::Parameters;
use super::item::EventItem;
use super::reply::Fault;
use crate::decision::time::Timestamp;
use crate::journal::{EventCursor, EventFilter, EventKind, EventRow, Severity};

/// Which events, as a request says it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// None at all are wanted if it is empty.
    kinds: Vec<EventKind>,
    route: Option<String>,
    policy: Option<String>,
    identifier: Option<String>,
    client: Option<IpAddr>,
}

impl Wanted {
    pub(super) const PARAMETERS: [&'static str; 8] =
        ["since", "until", "kind", "route", "policy", "identifier", "severity", "client"];

    pub(super) fn of(parameters: &Parameters) -> Result<Wanted, Fault> {
        let text = |name| Ok::<_, Fault>(parameters.get(name)?.map(str::to_owned));
        let mut kinds = Vec::new();
        for word in parameters.all("kind").filter(|word| !word.is_empty()) {
            let kind = EventKind::parse(word).ok_or(Fault::bad("kind is not a kind of events."))?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        if kinds.is_empty() {
            kinds = EventKind::ALL.to_vec();
        }
        let severity = parameters.parsed("severity", "one of info, warning and critical", |word| {
            [Severity::Info, Severity::Warning, Severity::Critical].into_iter().find(|of| of.word() == word)
        })?;
        if let Some(severity) = severity {
            kinds.retain(|kind| kind.severity() == severity);
        }
        Ok(Wanted {
            since: parameters.time("since")?,
            until: parameters.time("until")?,
            kinds,
            route: text("route")?,
            policy: text("policy")?,
            identifier: text("identifier")?,
            client: parameters.address("client")?,
        })
    }

    /// The next rows; reads the disk.
    pub(super) fn rows(
        &self,
        api: &Api,
        before: Option<EventCursor>,
        limit: usize,
    ) -> Result<Vec<EventRow>, Fault> {
        if self.kinds.is_empty() {
            return Ok(Vec::new());
        }
        let is_any = self.kinds.len() == EventKind::ALL.len();
        let filter = EventFilter {
            since: self.since,
            until: self.until,
            kinds: if is_any { &[] } else { &self.kinds },
            route: self.route.as_deref(),
            policy: self.policy.as_deref(),
            identifier: self.identifier.as_deref(),
            client: self.client,
            before,
            limit,
        };
        Ok(api.gateway.journal().events(&filter)?)
    }
}

/// `GET /api/v1/rate-limit-logs`
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Fault> {
    let known = |name: &str| Wanted::PARAMETERS.contains(&name) || ["cursor", "limit"].contains(&name);
    let parameters = Parameters::read(&uri, known)?;
    let wanted = Wanted::of(&parameters)?;
    let limit = parameters.limit()?;
    let before = parameters.parsed("cursor", "one that a list gave", EventCursor::parse)?;
    api.scan(move |api| {
        let mut rows = wanted.rows(api, before, limit + 1)?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(|row| row.cursor.to_string());
        let items: Vec<EventItem<'_>> = rows
            .iter()
            .map(|row| EventItem::new(&row.event, row.masked.as_deref(), Some(row.cursor), caller.sight))
            .collect();
        Ok(Json(json!({"items": items, "next": next})).into_response())
    })
    .await
}
