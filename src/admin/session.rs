//! Sessions of the page, and the endpoints that begin and end them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::auth::{Caller, Role};
use super::input;
use super::reply::Fault;
use super::server::Peer;
use crate::decision::time::{Span, Timestamp};
use crate::journal::Sight;

const NAME: &str = "tollgate_session";
const LASTS: Span = Span::from_secs(12 * 3600);
/// With so many, the one that ends first makes room.
pub(super) const SESSION_MAX: usize = 1024;

/// Who is signed in, by a hash of the session's id.
pub(super) struct Sessions {
    max: usize,
    by_hash: Mutex<HashMap<[u8; 32], Session>>,
}

#[derive(Clone)]
pub(super) struct Session {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) csrf: Arc<str>,
    ends_at: Timestamp,
}

impl Sessions {
    pub(super) fn new(max: usize) -> Sessions {
        Sessions { max, by_hash: Mutex::default() }
    }

    pub(super) fn begin(&self, hash: [u8; 32], name: Arc<str>, role: Role, csrf: Arc<str>, now: Timestamp) {
        let mut sessions = self.by_hash.lock();
        sessions.retain(|_, session| session.ends_at > now);
        if sessions.len() >= self.max {
            let first = sessions.iter().min_by_key(|(_, session)| session.ends_at).map(|(hash, _)| *hash);
            first.and_then(|first| sessions.remove(&first));
        }
        sessions.insert(hash, Session { name, role, csrf, ends_at: now.plus(LASTS) });
    }

    pub(super) fn get(&self, hash: &[u8; 32], now: Timestamp) -> Option<Session> {
        self.by_hash.lock().get(hash).filter(|session| session.ends_at > now).cloned()
    }

    pub(super) fn end(&self, hash: &[u8; 32]) {
        self.by_hash.lock().remove(hash);
    }
}

/// The id that a request's cookies bring.
pub(super) fn session_of(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, id)| id)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    token: String,
}

/// `GET /api/v1/session`: who calls.
pub(super) async fn show(State(api): State<Arc<Api>>, Extension(caller): Extension<Caller>) -> Response {
    told(&api, &caller).into_response()
}

/// `POST /api/v1/session`: signs in with a token.
pub(super) async fn login(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let login: Login = input::json(&headers, body).await?;
    let now = api.gateway.clock().now();
    if !api.doorman.asks() {
        let caller = api.doorman.recognise(&headers, peer, now)?;
        return Ok(told(&api, &caller).into_response());
    }
    let mut caller = api.doorman.by_token(&login.token, peer, now)?;
    let (id, csrf) = api.doorman.admit(&caller, now)?;
    caller.csrf = Some(csrf);
    let cookie = cookie(&id, LASTS, is_encrypted(&headers));
    Ok(([(SET_COOKIE, cookie)], told(&api, &caller)).into_response())
}

/// `DELETE /api/v1/session`: signs out.
pub(super) async fn logout(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    api.doorman.dismiss(&headers);
    let cookie = cookie("", Span::ZERO, is_encrypted(&headers));
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

fn told(api: &Api, caller: &Caller) -> Json<serde_json::Value> {
    Json(json!({
        "name": &*caller.name,
        "role": caller.role.word(),
        "csrf": caller.csrf.as_deref(),
        "needs_login": api.doorman.asks(),
        "identifiers": match caller.sight {
            Sight::Masked => "masked",
            Sight::Full => "full",
        },
    }))
}

fn cookie(id: &str, lasts: Span, is_encrypted: bool) -> String {
    let secure = if is_encrypted { "; Secure" } else { "" };
    format!("{NAME}={id}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}", lasts.ceil_secs())
}

/// Whether a terminator before us says that the browser's side is encrypted. Whoever says so wrongly keeps his own
/// cookie from himself.
fn is_encrypted(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_and_are_bounded() {
        let (sessions, now) = (Sessions::new(2), Timestamp::from_millis(1_800_000_000_000));
        let begin = |number: u8, at| {
            sessions.begin([number; 32], "ada".into(), Role::Admin, "csrf".into(), at);
        };
        let later = now.plus(Span::from_secs(1));
        begin(1, now);
        begin(2, later);
        begin(3, later);
        assert!(sessions.get(&[1; 32], later).is_none(), "the one that ends first made room");
        assert!(sessions.get(&[2; 32], later).is_some());
        assert!(sessions.get(&[3; 32], later.plus(LASTS)).is_none(), "it is over");
        sessions.end(&[2; 32]);
        assert!(sessions.get(&[2; 32], later).is_none());
    }

    #[test]
    fn a_cookie_is_for_our_page_alone() {
        assert_eq!(
            cookie("x", LASTS, true),
            "tollgate_session=x; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200; Secure"
        );
        assert!(!cookie("x", LASTS, false).contains("Secure"));
    }
}
