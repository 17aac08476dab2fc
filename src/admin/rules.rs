//! What each route allows, in plain words.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::RouteText;
use super::api::Api;
use crate::decision::limit::{Limit, Mode};
use crate::decision::policy::Route;
use crate::decision::words;

/// `GET /api/v1/routes`
pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    let (policies, texts) = (api.policies(), api.routes());
    let told = policies.rules.routes().iter().map(|route| {
        // An edit may come between the two looks: then the words are those of a moment ago.
        let text = texts.iter().find(|text| *text.name == *route.name());
        told(route, text)
    });
    Json(told.collect::<Vec<Value>>()).into_response()
}

fn told(route: &Route, text: Option<&RouteText>) -> Value {
    let limit = |(limit, rule): (&Limit, String)| {
        json!({
            "policy": limit.policy,
            "key": limit.key.to_string(),
            "rule": rule,
            "mode": match limit.mode {
                Mode::Enforce => "enforce",
                Mode::Shadow => "shadow",
            },
        })
    };
    json!({
        "name": route.name(),
        "match": text.map(|text| &*text.matches),
        "upstream": text.map(|text| &*text.upstream),
        "limits": route.limits().iter().zip(words::limits(route)).map(limit).collect::<Vec<Value>>(),
        "failure": route.failure().map(words::failed),
        "rejects": route.rejects().len(),
    })
}
