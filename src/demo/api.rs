//! The backend's routes. A trailing slash makes no difference to any of them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::token::Signer;
use crate::clock::Clock;
use crate::decision::time::Timestamp;

const MAX_BODY_BYTES: usize = 16 * 1024;
const USERS: [(&str, &str); 2] = [("demo", "demo"), ("ada", "lovelace")];
/// The one-time code and the reset token that are always right.
const CODE: &str = "123456";

#[derive(Clone)]
struct Backend {
    signer: Signer,
    proofs: Signer,
    /// Those that were used and are still good: each is good once.
    used: Arc<Mutex<HashMap<String, u64>>>,
    clock: Clock,
}

pub(super) fn router(signer: Signer, proofs: Signer, clock: Clock) -> Router {
    let routes: [(&str, MethodRouter<Backend>); 8] = [
        ("/api/auth/login", post(login)),
        ("/api/auth/phone-login", post(phone_login)),
        ("/api/auth/request-otp", post(request_otp)),
        ("/api/auth/verify-otp", post(verify_otp)),
        ("/api/auth/password-reset", post(password_reset)),
        ("/api/auth/reset-password", post(reset_password)),
        ("/api/email/send", post(send_email)),
        ("/api/profile", get(profile)),
    ];
    let mut router = Router::new().route("/", get(index));
    for (path, handlers) in routes {
        router = router.route(path, handlers.clone()).route(&format!("{path}/"), handlers);
    }
    router
        .fallback(async || Refusal(StatusCode::NOT_FOUND, "Not found.".to_owned()))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Backend { signer, proofs, used: Arc::default(), clock })
}

/// An answer that is not a success, as Django REST framework words it: `{"detail": …}`.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "detail": self.1 }))).into_response()
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Refusal {
        Refusal(rejection.status(), rejection.body_text())
    }
}

type Answer = Result<Json<Value>, Refusal>;
/// A body of this shape; what does not fit becomes a [`Refusal`] in the handler.
type Body<T> = Result<Json<T>, JsonRejection>;

fn detail(text: &str) -> Answer {
    Ok(Json(json!({ "detail": text })))
}

fn refuse(status: StatusCode, text: &str) -> Answer {
    Err(Refusal(status, text.to_owned()))
}

async fn index() -> Json<Value> {
    Json(json!({
        "service": "tollgate demo backend",
        "users": USERS.map(|(name, password)| json!({ "username": name, "password": password })),
        "code": CODE,
    }))
}

#[derive(Deserialize)]
struct Login {
    username: String,
    password: String,
}

async fn login(State(backend): State<Backend>, body: Body<Login>) -> Answer {
    let Json(Login { username, password }) = body?;
    if !USERS.contains(&(username.as_str(), password.as_str())) {
        return refuse(StatusCode::UNAUTHORIZED, "Invalid username or password.");
    }
    Ok(Json(json!({ "token": backend.signer.issue(&username, backend.clock.now()) })))
}

#[derive(Deserialize)]
struct PhoneLogin {
    proof: String,
}

/// The gateway's word that somebody has this phone is all that is asked for: signed, for this purpose, for the first time.
async fn phone_login(State(backend): State<Backend>, body: Body<PhoneLogin>) -> Answer {
    const USED_MAX: usize = 10_000;
    let Json(PhoneLogin { proof }) = body?;
    let now = backend.clock.now();
    let Some(proven) = backend.proofs.verify_proof(&proof, now).filter(|proven| proven.purpose == "login")
    else {
        return refuse(StatusCode::UNAUTHORIZED, "Invalid or expired proof.");
    };
    let mut used = backend.used.lock();
    used.retain(|_, exp| now < Timestamp::from_millis(exp.saturating_mul(1000)));
    if used.len() >= USED_MAX || used.insert(proven.jti, proven.exp).is_some() {
        return refuse(StatusCode::UNAUTHORIZED, "This proof was used.");
    }
    Ok(Json(json!({ "token": backend.signer.issue(&proven.sub, now) })))
}

async fn profile(State(backend): State<Backend>, headers: HeaderMap) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = authorization.and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match token.and_then(|(_, token)| backend.signer.verify(token.trim(), backend.clock.now())) {
        Some(claims) => {
            Json(json!({ "username": claims.sub, "token_expires_at": claims.exp })).into_response()
        }
        None => {
            let refusal = Refusal(StatusCode::UNAUTHORIZED, "A valid token is required.".to_owned());
            ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
        }
    }
}

#[derive(Deserialize)]
struct Recipient {
    #[serde(alias = "to")]
    email: String,
}

/// Says the same of every address, known or not.
fn accept(body: Body<Recipient>, done: &str) -> Answer {
    let Json(Recipient { email }) = body?;
    if email.contains('@') { detail(done) } else { refuse(StatusCode::BAD_REQUEST, "Not an e-mail address.") }
}

async fn request_otp(body: Body<Recipient>) -> Answer {
    accept(body, "sent")
}

async fn password_reset(body: Body<Recipient>) -> Answer {
    accept(body, "sent")
}

async fn send_email(body: Body<Recipient>) -> Answer {
    accept(body, "queued")
}

#[derive(Deserialize)]
struct Proof {
    email: String,
    #[serde(alias = "otp", alias = "token")]
    code: String,
}

fn prove(body: Body<Proof>, done: &str) -> Answer {
    let Json(Proof { email, code }) = body?;
    if email.contains('@') && code == CODE {
        detail(done)
    } else {
        refuse(StatusCode::BAD_REQUEST, "Invalid or expired code.")
    }
}

async fn verify_otp(body: Body<Proof>) -> Answer {
    prove(body, "verified")
}

async fn reset_password(body: Body<Proof>) -> Answer {
    prove(body, "changed")
}
