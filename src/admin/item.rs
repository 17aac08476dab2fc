//! Blocks and events as the API shows them.

use serde::Serialize;

use crate::decision::rfc3339;
use crate::gateway::note_of;
use crate::journal::{BlockRecord, Event, EventCursor, Sight};

/// A block.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BlockItem<'r> {
    id: String,
    identifier: &'r str,
    key: &'r str,
    reason: &'static str,
    route: Option<&'r str>,
    policy: Option<&'r str>,
    attempts: u32,
    created_at: String,
    expires_at: String,
    by: Option<&'r str>,
    note: Option<&'r str>,
    /// The gateway that began it; none if it is this one.
    node: Option<&'r str>,
}

impl<'r> BlockItem<'r> {
    pub(super) const COLUMNS: [&'static str; 12] = [
        "id",
        "identifier",
        "key",
        "reason",
        "route",
        "policy",
        "attempts",
        "created_at",
        "expires_at",
        "by",
        "note",
        "node",
    ];

    pub(super) fn new(record: &'r BlockRecord, sight: Sight) -> BlockItem<'r> {
        BlockItem {
            id: record.id.to_string(),
            identifier: sight.of(record),
            key: &record.key_kind,
            reason: record.reason.word(),
            route: record.route.as_deref(),
            policy: record.policy.as_deref(),
            attempts: record.attempts,
            created_at: rfc3339::written(record.created_at),
            expires_at: rfc3339::written(record.block.until),
            by: record.by.as_deref(),
            note: match sight {
                Sight::Full => note_of(record),
                // It may name somebody.
                Sight::Masked => None,
            },
            node: None,
        }
    }
}

/// A line of the journal.
#[derive(Clone, Debug, Serialize)]
pub(super) struct EventItem<'e> {
    /// None of one that is told before it is written down.
    id: Option<String>,
    at: String,
    kind: &'static str,
    severity: &'static str,
    count: u32,
    route: Option<&'e str>,
    policy: Option<&'e str>,
    key: Option<&'e str>,
    window: Option<&'e str>,
    identifier: Option<&'e str>,
    client: Option<String>,
    user_agent: Option<&'e str>,
    trace_id: Option<&'e str>,
    detail: Option<&'e str>,
    /// The gateway that noted it; none if it is this one.
    node: Option<&'e str>,
}

impl<'e> EventItem<'e> {
    pub(super) const COLUMNS: [&'static str; 15] = [
        "id",
        "at",
        "kind",
        "severity",
        "count",
        "route",
        "policy",
        "key",
        "window",
        "identifier",
        "client",
        "user_agent",
        "trace_id",
        "detail",
        "node",
    ];

    /// `masked` is what is known of an identifier that cannot be read any more.
    pub(super) fn new(
        event: &'e Event,
        masked: Option<&'e str>,
        id: Option<EventCursor>,
        sight: Sight,
    ) -> EventItem<'e> {
        let shown = event.identifier.as_ref().map(|identifier| match sight {
            Sight::Full => identifier.expose(),
            Sight::Masked => identifier.masked(),
        });
        EventItem {
            id: id.map(|id| id.to_string()),
            at: rfc3339::written(event.at),
            kind: event.kind.word(),
            severity: event.kind.severity().word(),
            count: event.count,
            route: event.route.as_deref(),
            policy: event.policy.as_deref(),
            key: event.key.as_deref(),
            window: event.window.as_deref(),
            identifier: shown.or(masked),
            client: event.client.map(|address| address.to_string()),
            user_agent: event.user_agent.as_deref(),
            trace_id: event.trace_id.as_deref(),
            detail: event.detail.as_deref(),
            node: None,
        }
    }
}
