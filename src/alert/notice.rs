//! What is told, as JSON.

use bytes::Bytes;
use serde_json::json;

use crate::decision::rfc3339;
use crate::decision::time::Timestamp;
use crate::journal::{Event, Severity};

/// One message, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) body: Bytes,
}

impl Notice {
    pub(super) fn of_event(event: &Event) -> Notice {
        let body = json!({
            "at": rfc3339::written(event.at),
            "kind": event.kind.word(),
            "severity": event.kind.severity().word(),
            "count": event.count,
            "route": event.route.as_deref(),
            "policy": event.policy.as_deref(),
            "key": event.key.as_deref(),
            "identifier": event.identifier.as_ref().map(|identifier| identifier.masked()),
            "client": event.client.map(|address| address.to_string()),
            "detail": event.detail.as_deref(),
        });
        Notice { body: body.to_string().into() }
    }

    /// The journal is not written any more, or again: what cannot be told by an event in it.
    pub(super) fn of_journal(is_up: bool, at: Timestamp) -> Notice {
        let (kind, severity, detail) = match is_up {
            true => ("journal_up", Severity::Info, "events are written to disk again"),
            false => ("journal_down", Severity::Critical, "events are not written to disk"),
        };
        let body = json!({
            "at": rfc3339::written(at),
            "kind": kind,
            "severity": severity.word(),
            "count": 1,
            "route": null,
            "policy": null,
            "key": null,
            "identifier": null,
            "client": null,
            "detail": detail,
        });
        Notice { body: body.to_string().into() }
    }
}
