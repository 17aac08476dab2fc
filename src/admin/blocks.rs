//! Who is blocked: lists, blocks by hand, and letting go.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::auth::Caller;
use super::input::{self, Parameters};
use super::item::BlockItem;
use super::reply::Fault;
use crate::decision::key::Form;
use crate::decision::suspicion::BanSpec;
use crate::decision::time::Span;
use crate::gateway::{BlockOrder, Policies};
use crate::journal::{BlockFilter, BlockId, BlockPlace, BlockQuery, BlockRecord, BlockSort, Reason, Sight};

/// No block by hand is longer: a year.
const SPAN_MAX: Span = Span::from_secs(366 * 86_400);
const NOTE_MAX: usize = 512;
/// So many blocks end at the same time: their ends go to the disk together.
const TOGETHER: usize = 256;
/// So many of those that were let go are told.
const TOLD_MAX: usize = 100;

/// Which blocks, as a request says it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Wanted {
    search: Option<String>,
    kind: Option<String>,
    reason: Option<String>,
    route: Option<String>,
    policy: Option<String>,
}

impl Wanted {
    pub(super) const PARAMETERS: [&'static str; 5] = ["search", "kind", "reason", "route", "policy"];

    pub(super) fn of(parameters: &Parameters) -> Result<Wanted, Fault> {
        let text = |name| Ok::<_, Fault>(parameters.get(name)?.map(str::to_owned));
        let wanted = Wanted {
            search: text("search")?,
            kind: text("kind")?,
            reason: text("reason")?,
            route: text("route")?,
            policy: text("policy")?,
        };
        wanted.filter(Sight::Masked).map(|_| wanted.clone())
    }

    pub(super) fn filter(&self, sight: Sight) -> Result<BlockFilter<'_>, Fault> {
        let reason = self.reason.as_deref().filter(|reason| !reason.is_empty());
        let known = |reason| Reason::parse(reason).ok_or(Fault::bad("reason is not a reason of blocks."));
        Ok(BlockFilter {
            search: self.search.as_deref().filter(|search| !search.is_empty()),
            sight,
            key_kind: self.kind.as_deref(),
            reason: reason.map(known).transpose()?,
            route: self.route.as_deref(),
            policy: self.policy.as_deref(),
        })
    }
}

/// `GET /api/v1/blocked-identifiers`
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Fault> {
    let known =
        |name: &str| Wanted::PARAMETERS.contains(&name) || ["cursor", "limit", "sort"].contains(&name);
    let parameters = Parameters::read(&uri, known)?;
    let wanted = Wanted::of(&parameters)?;
    let limit = parameters.limit()?;
    let sorts = "one of created_at, expires_at, identifier and attempts, with - in front to turn it round";
    let (sort, is_descending) =
        parameters.parsed("sort", sorts, sort)?.unwrap_or((BlockSort::CreatedAt, true));
    let after = parameters.parsed("cursor", "one that a list gave", place)?;
    api.scan(move |api| {
        let filter = wanted.filter(caller.sight)?;
        let query = BlockQuery { filter, sort, is_descending, after: after.as_ref(), limit: limit + 1 };
        let mut found = api.gateway.journal().book().page(&query, api.now());
        let has_more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| has_more);
        let next = last.map(|last| cursor(&query.place(last)));
        let items: Vec<BlockItem<'_>> =
            found.iter().map(|record| BlockItem::new(record, caller.sight)).collect();
        Ok(Json(json!({"items": items, "next": next})).into_response())
    })
    .await
}

fn sort(text: &str) -> Option<(BlockSort, bool)> {
    let (name, is_descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    let sort = match name {
        "created_at" => BlockSort::CreatedAt,
        "expires_at" => BlockSort::ExpiresAt,
        "identifier" => BlockSort::Identifier,
        "attempts" => BlockSort::Attempts,
        _ => return None,
    };
    Some((sort, is_descending))
}

/// A place as text. It holds no more than the list showed.
fn cursor(place: &BlockPlace) -> String {
    format!("{}.{}.{}", place.number, place.id, place.text)
}

fn place(text: &str) -> Option<BlockPlace> {
    let mut parts = text.splitn(3, '.');
    let (number, id) = (parts.next()?.parse().ok()?, BlockId::parse(parts.next()?)?);
    Some(BlockPlace { number, id, text: parts.next()?.into() })
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBlock {
    key: OneOrMore,
    identifier: OneOrMore,
    #[serde(rename = "as")]
    form: Option<String>,
    #[serde(rename = "for")]
    span: String,
    note: Option<String>,
}

/// `POST /api/v1/blocked-identifiers`
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let new: NewBlock = input::json(&headers, body).await?;
    let policies = api.policies();
    let span = Span::from_text(&new.span).filter(|span| (Span::from_millis(1)..=SPAN_MAX).contains(span));
    let span = span.ok_or(Fault::bad("for is not a duration of a year or less, such as 30m, 12h or 7d."))?;
    let note = new.note.map(|note| note.chars().filter(|c| !c.is_control()).collect::<String>());
    if note.as_ref().is_some_and(|note| note.len() > NOTE_MAX) {
        return Err(Fault::bad(format!("note is longer than {NOTE_MAX} bytes.")));
    }
    let form = match new.form.as_deref() {
        None => None,
        Some(name) => {
            Some(Form::named(name).ok_or(Fault::bad("as is none of text, exact, email and phone."))?)
        }
    };
    let (ban, values) = ban(&policies, new.key.into_vec(), new.identifier.into_vec(), form)?;
    let order = BlockOrder {
        key: ban.key,
        values,
        span,
        by: (*caller.name).into(),
        note: note.filter(|note| !note.is_empty()).map(String::into_boxed_str),
    };
    // Whether it is on disk already is told by the journal's own metrics; it is in force.
    let blocked = api.gateway.block(&policies, order).await;
    let (record, _durable) = blocked.map_err(|fault| Fault::bad(format!("{fault}.")))?;
    let record = api.gateway.journal().book().get(record.key, api.now()).unwrap_or(record);
    Ok((StatusCode::CREATED, Json(BlockItem::new(&record, caller.sight))).into_response())
}

/// By what routes would look these values up, and the values in its order. A key that no route asks
/// for is a mistake: the block would keep nobody out.
fn ban(
    policies: &Policies,
    key: Vec<String>,
    values: Vec<String>,
    form: Option<Form>,
) -> Result<(BanSpec, Vec<String>), Fault> {
    if key.len() != values.len() || key.is_empty() {
        return Err(Fault::bad("identifier must have one value for each part of key."));
    }
    let given: Vec<(String, String)> = key.into_iter().zip(values).collect();
    let in_order = |ban: &BanSpec| -> Option<Vec<String>> {
        let parts = ban.key.parts.iter().map(ToString::to_string);
        let values = parts.map(|part| Some(given.iter().find(|(key, _)| *key == part)?.1.clone()));
        values.collect::<Option<Vec<String>>>().filter(|values| values.len() == given.len())
    };
    let mut found: Vec<(BanSpec, Vec<String>)> = Vec::new();
    for ban in policies.rules.routes().iter().flat_map(|route| route.bans()) {
        let fits = form.is_none_or(|form| form == ban.key.form);
        let is_new = found.iter().all(|(known, _)| known.id != ban.id);
        if let Some(values) = in_order(ban).filter(|_| fits && is_new) {
            found.push((ban.clone(), values));
        }
    }
    let names: Vec<&str> = given.iter().map(|(key, _)| key.as_str()).collect();
    match found.len() {
        0 => Err(Fault::bad(format!(
            "No route counts by {} like that: nobody would be blocked.",
            names.join("+")
        ))),
        1 => found.pop().ok_or(Fault::Broken),
        _ => Err(Fault::bad("Routes read this key in several ways: say which by `as`.")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unblock {
    id: Option<String>,
    identifier: Option<String>,
    key: Option<String>,
    #[serde(default)]
    all: bool,
    search: Option<String>,
    kind: Option<String>,
    reason: Option<String>,
    route: Option<String>,
    policy: Option<String>,
}

/// `POST /api/v1/unblock-identifier`
pub(super) async fn unblock(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let unblock: Unblock = input::json(&headers, body).await?;
    let is_all = unblock.all;
    let found = whom(&api, unblock).await?;
    let sight = caller.sight;
    // Whoever hangs up does not leave half of it done.
    let released = tokio::spawn(release(Arc::clone(&api), found, caller.clone()));
    let released = released.await.map_err(|_| Fault::Broken)?;
    if released.is_empty() && !is_all {
        return Err(Fault::NotFound("Nobody is blocked like that.".into()));
    }
    if is_all {
        api.audit(&caller, &format!("unblocked {} at once", released.len()));
    }
    let items: Vec<BlockItem<'_>> =
        released.iter().take(TOLD_MAX).map(|record| BlockItem::new(record, sight)).collect();
    Ok(Json(json!({"unblocked": released.len(), "items": items})).into_response())
}

/// The blocks that somebody wants ended.
async fn whom(api: &Arc<Api>, unblock: Unblock) -> Result<Vec<Arc<BlockRecord>>, Fault> {
    let Unblock { id, identifier, key, all, search, kind, reason, route, policy } = unblock;
    let wanted = Wanted { search, kind, reason, route, policy };
    let is_filtered = wanted.search.is_some()
        || wanted.kind.is_some()
        || wanted.reason.is_some()
        || wanted.route.is_some()
        || wanted.policy.is_some();
    match (id, identifier, all) {
        (Some(id), None, false) if key.is_none() && !is_filtered => {
            let id = BlockId::parse(&id).ok_or(Fault::bad("id is not the id of a block."))?;
            api.scan(move |api| Ok(api.gateway.journal().book().find(id).into_iter().collect())).await
        }
        (None, Some(identifier), false) if !is_filtered => {
            api.scan(move |api| {
                let filter = BlockFilter {
                    search: Some(identifier.as_str()).filter(|text| !text.is_empty()),
                    sight: Sight::Full,
                    key_kind: key.as_deref(),
                    ..BlockFilter::default()
                };
                let mut found = api.gateway.journal().book().matching(&filter, api.now());
                found.retain(|record| record.identifier.expose() == identifier);
                Ok(found)
            })
            .await
        }
        (None, None, true) if key.is_none() => {
            api.scan(move |api| {
                let filter = wanted.filter(Sight::Full)?;
                Ok(api.gateway.journal().book().matching(&filter, api.now()))
            })
            .await
        }
        (Some(_) | None, Some(_) | None, true | false) => Err(Fault::bad(
            "Send one of {\"id\"}, {\"identifier\", \"key\"} and {\"all\": true, \"search\", \"kind\", \"reason\", \"route\", \"policy\"}.",
        )),
    }
}

async fn release(api: Arc<Api>, found: Vec<Arc<BlockRecord>>, caller: Caller) -> Vec<Arc<BlockRecord>> {
    let (api, by) = (&*api, &*caller.name);
    let released = futures_util::stream::iter(found)
        .map(|record| async move { api.gateway.release(&record, by).await })
        .buffer_unordered(TOGETHER);
    released.filter_map(std::future::ready).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_cursor() {
        let id = BlockId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap();
        for text in ["", "a.b@c.d", "é.."] {
            let there = BlockPlace { number: 7, text: text.into(), id };
            assert_eq!(place(&cursor(&there)), Some(there));
        }
        for wrong in ["", "7", "7.x.", "x.0190163d-8694-739b-aea5-966c26f8ad91.", "-1.."] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_known_sorts_are_sorts() {
        assert_eq!(sort("-created_at"), Some((BlockSort::CreatedAt, true)));
        assert_eq!(sort("attempts"), Some((BlockSort::Attempts, false)));
        assert_eq!((sort("--attempts"), sort("id"), sort("")), (None, None, None));
    }
}
