//! The only writer of refusals and of limit headers.

mod asking;
mod cors;

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
    CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, LOCATION, ORIGIN, RETRY_AFTER, STRICT_TRANSPORT_SECURITY,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

pub(super) use self::asking::Asking;

use self::cors::cors_headers;
use super::own::{self, Afterwards, Fields, Said};
use super::trace::Traced;
use super::{Snapshot, wire};
use crate::decision::answer::{Cors, TemplateValues};
use crate::decision::headers::{self, Quota};
use crate::decision::policy::{Route, Target};
use crate::decision::refusal::Refusal;
use crate::decision::route::RouteIndex;
use crate::decision::time::{Span, Timestamp};
use crate::decision::verdict::{Cause, Limited};
use crate::otp;

/// An unread body up to this size is taken in, so that the connection can be kept, bytes.
const DRAIN_MAX: usize = 64 * 1024;
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Those of RFC 9110 and RFC 5789 that a backend may be asked by; which of them it takes, it says itself.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// By which rules a request is answered, and what it is known by.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) traced: Option<&'a Traced>,
}

/// What a client was told by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) body_bytes: usize,
}

/// An answer of the gateway's own.
struct Answer {
    status: StatusCode,
    content_type: HeaderValue,
    body: Bytes,
}

/// Answers a refused request.
pub(super) async fn refuse(
    session: &mut Session,
    terms: Terms<'_>,
    route: Option<RouteIndex>,
    refusal: &Refusal,
    now: Timestamp,
) -> pingora::Result<Told> {
    let mut fields = Fields::for_client(session);
    let answer = worded_refusal(terms, route, refusal, now, &mut fields);
    write(session, answer, fields, Some(terms)).await
}

fn worded_refusal(
    terms: Terms<'_>,
    route: Option<RouteIndex>,
    refusal: &Refusal,
    now: Timestamp,
    fields: &mut Fields,
) -> Answer {
    let rules = &terms.snapshot.policies.rules;
    match (refusal, route.map(|index| rules.route(index))) {
        (Refusal::Limited(limited), Some(route)) => {
            let retry_after_s = now.until(limited.retry_at).ceil_secs().max(1);
            fields.put_number(&RETRY_AFTER, retry_after_s);
            if let Some(quota) = &limited.quota {
                headers::write(quota, route.quota_names(), rules.headers, now, |header, value| {
                    fields.put_quota(header, value);
                });
            }
            limited_answer(route, limited, retry_after_s)
        }
        (Refusal::Banned { until, .. }, Some(route)) => {
            let retry_after_s = now.until(*until).ceil_secs().max(1);
            fields.put_number(&RETRY_AFTER, retry_after_s);
            worded(route, TemplateValues { retry_after_s, limit: 0, window: "block", route: route.name() })
        }
        (Refusal::StoreAway { retry_at }, _) => {
            let retry_after_s = now.until(*retry_at).ceil_secs().max(1);
            fields.put_number(&RETRY_AFTER, retry_after_s);
            of_route(route.map(|index| rules.route(index)), refusal)
        }
        (Refusal::Method, route) => {
            fields.put(&ALLOW, &METHODS);
            of_route(route, refusal)
        }
        (Refusal::Limited(_) | Refusal::Banned { .. }, None) => of_route(None, refusal),
        (
            Refusal::Malformed { .. }
            | Refusal::UriTooLong
            | Refusal::Denied
            | Refusal::NoRoute
            | Refusal::BodyTimedOut
            | Refusal::BodyTooLarge
            | Refusal::Unsupported { .. }
            | Refusal::Rejected { .. }
            | Refusal::Otp(_)
            | Refusal::ClientGone,
            route,
        ) => of_route(route, refusal),
    }
}

/// Clients of one-time codes tell refusals apart by a code.
fn of_route(route: Option<&Route>, refusal: &Refusal) -> Answer {
    match route.map(Route::target) {
        Some(Target::Otp(_)) => {
            let body = serde_json::json!({ "code": refusal.code(), "detail": refusal.detail() });
            Answer { status: refusal.status(), content_type: JSON, body: body.to_string().into() }
        }
        Some(Target::Upstream(_)) | None => Answer::plain(refusal.status(), refusal.detail()),
    }
}

/// Answers a request that the gateway itself has done.
pub(super) async fn answer(
    session: &mut Session,
    terms: Terms<'_>,
    (route, quota): (RouteIndex, Option<&Quota>),
    answer: otp::Answer,
    now: Timestamp,
) -> pingora::Result<Told> {
    let mut fields = Fields::for_client(session);
    if let Some(quota) = quota {
        put_quota(terms, (route, quota), now, &mut fields, |_| true);
    }
    let otp::Answer { status, content_type, body } = answer;
    let answer = Answer { status, content_type: HeaderValue::from_static(content_type), body: body.into() };
    write(session, answer, fields, Some(terms)).await
}

/// Tells a browser what a page of another origin may send to a route that has no backend to say it
/// (Fetch, §3.3.3).
pub(super) async fn preflight(session: &mut Session, terms: Terms<'_>) -> pingora::Result<Told> {
    let mut fields = Fields::for_client(session);
    if terms.snapshot.policies.rules.cors != Cors::Nobody {
        let fields_allowed = HeaderValue::from_static("content-type, idempotency-key");
        fields.put(&ACCESS_CONTROL_ALLOW_METHODS, &HeaderValue::from_static("GET, POST"));
        fields.put(&ACCESS_CONTROL_ALLOW_HEADERS, &fields_allowed);
        fields.put_number(&ACCESS_CONTROL_MAX_AGE, 600);
    }
    let answer = Answer { status: StatusCode::NO_CONTENT, content_type: JSON, body: Bytes::new() };
    write(session, answer, fields, Some(terms)).await
}

/// Sends a client on to https, on this port; what it asked for stays what it was (RFC 9110 §15.4.9).
pub(super) async fn redirect(session: &mut Session, terms: Terms<'_>, port: u16) -> pingora::Result<Told> {
    let mut fields = Fields::for_client(session);
    let request = session.req_header();
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let place = request.uri.authority().cloned().or(host).and_then(|authority| {
        HeaderValue::try_from(location(&authority, port, request.uri.path_and_query())).ok()
    });
    let answer = match place {
        Some(place) => {
            fields.put(&LOCATION, &place);
            Answer::plain(StatusCode::PERMANENT_REDIRECT, "Use https.")
        }
        None => Answer::plain(StatusCode::BAD_REQUEST, "The Host header is missing or malformed."),
    };
    write(session, answer, fields, Some(terms)).await
}

/// The same place by https. The port that the client named was that of http.
fn location(authority: &Authority, port: u16, target: Option<&PathAndQuery>) -> String {
    let target = target.map(PathAndQuery::as_str).filter(|target| target.starts_with('/')).unwrap_or("/");
    let host = authority.host();
    match port {
        443 => format!("https://{host}{target}"),
        _ => format!("https://{host}:{port}{target}"),
    }
}

/// What a client is told of a backend that did not answer.
pub(super) struct BackendFailure {
    pub(super) status: StatusCode,
    /// When to ask again, where that is known.
    pub(super) retry_after: Option<Span>,
}

/// Answers a request whose backend did not.
pub(super) async fn backend_failed(
    session: &mut Session,
    terms: Option<Terms<'_>>,
    quota: Option<(RouteIndex, &Quota)>,
    failure: BackendFailure,
    now: Timestamp,
) -> pingora::Result<Told> {
    // The connection is not used again, and the client is told so.
    session.set_keepalive(None);
    // Pingora is to know that it was answered: it is by Pingora that the request ends.
    let mut fields = Fields::for_pingora();
    let answer = worded_failure(terms, quota, &failure, now, &mut fields);
    write(session, answer, fields, terms).await
}

fn worded_failure(
    terms: Option<Terms<'_>>,
    quota: Option<(RouteIndex, &Quota)>,
    failure: &BackendFailure,
    now: Timestamp,
    fields: &mut Fields,
) -> Answer {
    let detail = match failure.status {
        StatusCode::GATEWAY_TIMEOUT => "The backend did not answer in time.",
        StatusCode::BAD_GATEWAY => "The backend could not be reached.",
        StatusCode::SERVICE_UNAVAILABLE => "No server of the backend is known.",
        _ => "The request could not be handled.",
    };
    if let Some(retry_after) = failure.retry_after {
        fields.put_number(&RETRY_AFTER, retry_after.ceil_secs().max(1));
    }
    if let (Some(terms), Some(quota)) = (terms, quota) {
        put_quota(terms, quota, now, fields, |_| true);
    }
    Answer::plain(failure.status, detail)
}

fn put_quota(
    terms: Terms<'_>,
    (route, quota): (RouteIndex, &Quota),
    now: Timestamp,
    fields: &mut Fields,
    is_missing: impl Fn(&HeaderName) -> bool,
) {
    let rules = &terms.snapshot.policies.rules;
    headers::write(quota, rules.route(route).quota_names(), rules.headers, now, |header, value| {
        if is_missing(&header.name()) {
            fields.put_quota(header, value);
        }
    });
}

/// Adds to the backend's answer what clients are told of their request: its id, and the limits. What the backend
/// itself says of limits is left alone.
pub(super) fn add_ours(
    session: &Session,
    response: &mut ResponseHeader,
    terms: Terms<'_>,
    quota: Option<(RouteIndex, &Quota)>,
    now: Timestamp,
) -> pingora::Result<()> {
    let mut fields = Fields::for_client(session);
    if let Some((name, id)) = terms.request_id() {
        if response.headers.contains_key(name) {
            response.remove_header(name);
        }
        fields.put(name, id);
    }
    if let Some(quota) = quota {
        let may_say_so = response.headers.keys().any(|name| is_quota(name.as_str()));
        let is_missing = |name: &HeaderName| !may_say_so || !response.headers.contains_key(name);
        put_quota(terms, quota, now, &mut fields, is_missing);
    }
    match fields {
        Fields::Lines(lines) => {
            wire::say(session, Said::Fields(lines));
            Ok(())
        }
        Fields::Map(map) => extend(response, map),
    }
}

/// The same for an answer that goes as text, and says `said` of limits by itself.
pub(super) fn ours(
    terms: Terms<'_>,
    quota: Option<(RouteIndex, &Quota)>,
    said: &[HeaderName],
    now: Timestamp,
) -> Fields {
    let mut fields = Fields::lines();
    if let Some((name, id)) = terms.request_id() {
        fields.put(name, id);
    }
    if let Some(quota) = quota {
        put_quota(terms, quota, now, &mut fields, |name| !said.contains(name));
    }
    fields
}

/// Whether a field tells of limits, in one of the forms that we write.
pub(super) fn is_quota(name: &str) -> bool {
    name.starts_with("x-ratelimit-") || name.starts_with("ratelimit")
}

/// Adds fields that are not there yet.
fn extend(response: &mut ResponseHeader, fields: HeaderMap) -> pingora::Result<()> {
    // Pingora keeps a second map for the letter case of names, which doubles the cost of every field that is added.
    // Names have no case in HTTP/2, so the answer goes on without it.
    let said = response.get_reason_phrase().filter(|said| Some(*said) != response.status.canonical_reason());
    let said = said.map(str::to_owned);
    let placeholder = response_header(response.status, HeaderMap::new());
    let mut parts = http::response::Parts::from(std::mem::replace(response, placeholder));
    parts.headers.extend(fields);
    *response = ResponseHeader::from(parts);
    match said {
        Some(reason) => response.set_reason_phrase(Some(&reason)),
        None => Ok(()),
    }
}

impl<'a> Terms<'a> {
    /// The id that the request goes by, and its header.
    pub(super) fn request_id(&self) -> Option<(&'a HeaderName, &'a HeaderValue)> {
        self.snapshot.trace.request_id.as_ref().zip(self.traced?.id())
    }
}

fn limited_answer(route: &Route, limited: &Limited, retry_after_s: u64) -> Answer {
    let limit = route.limits().get(limited.cause.limit());
    let (window, max) = match (limited.cause, limit) {
        (Cause::Window(of), Some(limit)) => {
            (limit.labels().nth(usize::from(of.window)), limit.window_max(of.window))
        }
        (Cause::Block { .. }, Some(limit)) => (Some("block"), limit.window_max(0)),
        (Cause::Backoff { .. }, Some(limit)) => (Some("backoff"), limit.window_max(0)),
        (Cause::Pending { .. }, Some(limit)) => (Some("pending"), limit.window_max(0)),
        (Cause::Window(_) | Cause::Block { .. } | Cause::Backoff { .. } | Cause::Pending { .. }, None) => {
            (None, 0)
        }
    };
    let window = window.unwrap_or_default();
    worded(route, TemplateValues { retry_after_s, limit: max, window, route: route.name() })
}

/// The answer to a client that was too fast, as the operator words it for this route.
fn worded(route: &Route, values: TemplateValues<'_>) -> Answer {
    let worded = route.limited();
    Answer {
        status: worded.status,
        content_type: worded.content_type.clone(),
        body: worded.body.render(&values).into(),
    }
}

impl Answer {
    fn plain(status: StatusCode, detail: &str) -> Answer {
        let body = serde_json::json!({ "detail": detail }).to_string().into();
        Answer { status, content_type: JSON, body }
    }
}

async fn write(
    session: &mut Session,
    answer: Answer,
    mut fields: Fields,
    terms: Option<Terms<'_>>,
) -> pingora::Result<Told> {
    let hsts = wire::entrance_of(session).and_then(|entrance| entrance.hsts.as_ref());
    dress(&answer, &mut fields, terms, session.req_header(), hsts);
    let left_over = drain(session).await;
    let has_body = session.req_header().method != Method::HEAD;
    let body = if has_body { answer.body } else { Bytes::new() };
    let told = Told { status: answer.status, body_bytes: body.len() };
    match fields {
        Fields::Lines(lines) => {
            let afterwards = afterwards(session, left_over);
            wire::say(session, Said::Answer(own::answer(answer.status, &lines, &body, afterwards)));
        }
        Fields::Map(map) => {
            let header = Box::new(response_header(answer.status, map));
            session.write_response_header(header, body.is_empty()).await?;
            if !body.is_empty() {
                session.write_response_body(Some(body), true).await?;
            }
        }
    }
    Ok(told)
}

/// Adds what an answer of ours carries whatever it says.
fn dress(
    answer: &Answer,
    fields: &mut Fields,
    terms: Option<Terms<'_>>,
    request: &RequestHeader,
    hsts: Option<&HeaderValue>,
) {
    if answer.status != StatusCode::NO_CONTENT {
        // Without a length Pingora would close the connection to mark the end.
        fields.put_number(&CONTENT_LENGTH, answer.body.len() as u64);
        fields.put(&CONTENT_TYPE, &answer.content_type);
    }
    fields.put(&CACHE_CONTROL, &HeaderValue::from_static("no-store"));
    if let Some(terms) = terms {
        if let Some((name, id)) = terms.request_id() {
            fields.put(name, id);
        }
        let cors = &terms.snapshot.policies.rules.cors;
        if *cors != Cors::Nobody {
            let (origin, id) = (request.headers.get(ORIGIN), &terms.snapshot.trace.request_id);
            cors_headers(cors, origin, id.as_ref()).for_each(|(name, value)| fields.put(&name, &value));
        }
    }
    if let Some(hsts) = hsts {
        fields.put(&STRICT_TRANSPORT_SECURITY, hsts);
    }
}

/// Whether the connection of HTTP/1 goes on behind an answer that Pingora does not write. Behind one that leaves a body
/// unread it does not: what is left must never be taken for the next request.
fn afterwards(session: &mut Session, left_over: LeftOver) -> Afterwards {
    match left_over {
        LeftOver::Nothing => {}
        LeftOver::Body => session.set_keepalive(None),
    }
    match session.as_downstream() {
        ServerSession::H1(session) if session.will_keepalive() => Afterwards::KeepAlive,
        _ => Afterwards::Close,
    }
}

/// A head made of a finished map: adding fields to Pingora's one by one costs several times that.
fn response_header(status: StatusCode, fields: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, fields);
    ResponseHeader::from(parts)
}

/// What of a request nobody took in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftOver {
    Nothing,
    Body,
}

/// Takes in a small body that nobody read: the connection is closed otherwise, for what is left of the body must never
/// be taken for the next request.
async fn drain(session: &mut Session) -> LeftOver {
    let downstream = session.as_downstream_mut();
    if downstream.is_body_done() {
        return LeftOver::Nothing;
    }
    let headers = &downstream.req_header().headers;
    let waits_to_send = headers.contains_key(EXPECT);
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    let is_small = length.is_some_and(|length: usize| length <= DRAIN_MAX);
    if waits_to_send || !is_small {
        return LeftOver::Body;
    }
    downstream.set_total_drain_timeout(Some(DRAIN_DEADLINE));
    match downstream.drain_request_body().await {
        Ok(()) => LeftOver::Nothing,
        Err(error) => {
            tracing::debug!(%error, "a refused request's body broke off");
            LeftOver::Body
        }
    }
}
