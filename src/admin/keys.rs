//! One key: what it has left, and to forget it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::Api;
use super::auth::Caller;
use super::input::Parameters;
use super::reply::Fault;
use crate::decision::rfc3339;
use crate::decision::time::Timestamp;
use crate::gateway::{Asked, KeyState, Question, WindowState};
use crate::journal::Sight;

/// `GET /api/v1/keys`
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Fault> {
    let states = api.gateway.look(&api.policies(), &question(&uri)?)?;
    Ok(told(&states, caller.sight))
}

/// `DELETE /api/v1/keys`
pub(super) async fn clear(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Fault> {
    let (question, policies) = (question(&uri)?, api.policies());
    let cleared = api.gateway.clear(&policies, &question, &caller.name).await?;
    Ok(told(&cleared, caller.sight))
}

fn question(uri: &Uri) -> Result<Question, Fault> {
    let is_known = |name: &str| {
        let is_part = |kind: &str| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.'));
        matches!(name, "route" | "ip" | "user")
            || ["body", "header", "cookie", "query", "path"].into_iter().any(is_part)
    };
    let parameters = Parameters::read(uri, is_known)?;
    let route = parameters.get("route")?.ok_or(Fault::bad("route is missing."))?.into();
    let mut values = BTreeMap::new();
    for (name, value) in parameters.into_pairs().into_iter().filter(|(name, _)| name != "route") {
        if value.is_empty() {
            continue;
        }
        if values.insert(name.clone(), value).is_some() {
            return Err(Fault::bad(format!("{name} is there several times.")));
        }
    }
    Ok(Question { route, values })
}

fn told(states: &[KeyState], sight: Sight) -> Response {
    let time = |at: Option<Timestamp>| at.map(rfc3339::written);
    let window = |window: &WindowState| {
        json!({
            "label": window.label,
            "limit": window.limit,
            "used": window.used,
            "remaining": window.limit.saturating_sub(window.used),
            "resets_at": time(window.resets_at),
        })
    };
    let state = |state: &KeyState| {
        let identifier = match sight {
            Sight::Full => state.identifier.expose(),
            Sight::Masked => state.identifier.masked(),
        };
        json!({
            "policy": state.policy,
            "key": state.key,
            "identifier": identifier,
            "blocked_until": time(state.blocked_until),
            "windows": state.windows.iter().map(window).collect::<Vec<Value>>(),
            "retry_at": time(state.retry_at),
        })
    };
    Json(states.iter().map(state).collect::<Vec<Value>>()).into_response()
}

impl From<Asked> for Fault {
    fn from(asked: Asked) -> Fault {
        match asked {
            Asked::NoRoute(_) => Fault::NotFound(format!("{asked}.").into()),
            Asked::NotCounted(_) | Asked::Value(_) => Fault::bad(format!("{asked}.")),
        }
    }
}
