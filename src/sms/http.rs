//! Any gateway with an HTTP API, as the file describes it: what is sent, what a yes looks like, what errors mean.
//!
//! What a template makes can never become more than it stands for: a string of JSON, a value of a form or query, or a
//! header without control characters. Requests may be signed, and receipts must be, in the way of Standard Webhooks.
//! Redirects are not followed.

mod render;
mod webhook;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use ::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use thiserror::Error;

use self::render::{Renderer, Values};
use self::webhook::Signer;
use super::api::{self, Form};
use super::spec::{HttpBody, HttpReceipt, HttpSpec};
use super::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest,
    Refused, Report, SmsSender,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response};

/// What frames a request is not for the file to say, nor what another header of ours says.
const OURS: [HeaderName; 7] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, TE, TRAILER, UPGRADE];
/// The most that a name of a message may have.
const ID_BYTES_MAX: usize = 128;

pub(super) struct HttpGateway {
    name: Box<str>,
    channels: [Channel; 1],
    spec: HttpSpec,
    client: Arc<HttpClient>,
    renderer: Renderer,
    signer: Option<Signer>,
    receipts: Option<Signer>,
}

/// What is wrong with the description of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum HttpGatewayFault {
    /// What the template says is not told: it may hold credentials.
    #[error("the template of {place} is of no use: {why}")]
    Template { place: Box<str>, why: Box<str> },
    #[error("the header {0} is not for the file to say")]
    Header(Box<str>),
    #[error("{0} is no JSON Pointer: it begins with a slash")]
    Pointer(Box<str>),
    #[error("what follows whsec_ in a secret is base64")]
    Secret,
}

/// What goes out for one message.
struct Request {
    url: HttpUrl,
    headers: HeaderMap,
    body: Bytes,
}

impl HttpGateway {
    /// Every template is tried on a message that is made up.
    pub(super) fn new(
        name: &str,
        spec: &HttpSpec,
        client: Arc<HttpClient>,
    ) -> Result<HttpGateway, HttpGatewayFault> {
        let renderer = Renderer::new();
        for (name, template) in &spec.headers {
            if OURS.contains(name) {
                return Err(HttpGatewayFault::Header(name.as_str().into()));
            }
            renderer.check(name.as_str(), template.expose_secret())?;
        }
        match &spec.body {
            HttpBody::None => {}
            HttpBody::Json(json) => check_json(&renderer, json, "")?,
            HttpBody::Form(fields) => {
                fields.iter().try_for_each(|(name, template)| renderer.check(name, template))?;
            }
        }
        pointers(spec).try_for_each(check_pointer)?;
        let signer = spec.signing_secret.as_ref().map(Signer::new).transpose()?;
        let receipts = spec.receipt.as_ref().map(|receipt| Signer::new(&receipt.secret)).transpose()?;
        Ok(HttpGateway {
            name: name.into(),
            channels: [spec.channel],
            spec: spec.clone(),
            client,
            renderer,
            signer,
            receipts,
        })
    }

    /// `Err` is what a refusal is called.
    fn request(&self, message: &Outbound<'_>) -> Result<Request, &'static str> {
        let values = Values::of(message);
        let (mut headers, mut url) = (HeaderMap::new(), self.spec.url.clone());
        let body = match &self.spec.body {
            HttpBody::None => Bytes::new(),
            HttpBody::Json(json) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let json = self.json(json, &values)?;
                serde_json::to_vec(&json).map_err(|_| "json")?.into()
            }
            HttpBody::Form(fields) => {
                let values: Result<Vec<(&str, String)>, _> = fields
                    .iter()
                    .map(|(name, template)| Ok((&**name, self.renderer.render(template, &values)?)))
                    .collect();
                let values = values.map_err(|_: render::Unrendered| "template")?;
                if self.spec.method == Method::GET {
                    url = url.with_query(&values).map_err(|_| "query")?;
                    Bytes::new()
                } else {
                    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                    headers.insert(CONTENT_TYPE, form);
                    let mut form = Form::default();
                    values.iter().for_each(|(name, value)| form.push(name, value));
                    form.into_bytes()
                }
            }
        };
        let mut written = HeaderMap::new();
        for (name, template) in &self.spec.headers {
            let text = self.renderer.render(template.expose_secret(), &values).map_err(|_| "template")?;
            // Takes no control characters, so nothing can begin another header.
            let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "header")?;
            value.set_sensitive(true);
            written.append(name, value);
        }
        headers.extend(written);
        if let Some(signer) = &self.signer {
            headers.extend(signer.sign(message.reference, message.now, &body).ok_or("reference")?);
        }
        Ok(Request { url, headers, body })
    }

    /// The document with each of its strings replaced; numbers, names and its shape stay what they are.
    fn json(&self, json: &Value, values: &Values<'_>) -> Result<Value, &'static str> {
        match json {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(json.clone()),
            Value::String(template) => {
                self.renderer.render(template, values).map(Value::String).map_err(|_| "template")
            }
            Value::Array(items) => items.iter().map(|item| self.json(item, values)).collect(),
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| Ok((name.clone(), self.json(value, values)?));
                members.iter().map(member).collect()
            }
        }
    }

    fn read(&self, answer: &Response) -> Outcome {
        let success = &self.spec.success;
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let at = |pointer: &str| json.as_ref()?.pointer(pointer).and_then(scalar);
        // An error that has a name in the file is one, whatever the status says.
        if let Some((code, fault)) =
            success.error.as_deref().and_then(at).and_then(|code| success.errors.get_key_value(&*code))
        {
            return Outcome::Refused(api::refused(*fault, code, answer));
        }
        if success.statuses.contains(&answer.status) {
            let found = |(pointer, expected): &(Box<str>, Box<str>)| Some(at(pointer)? == **expected);
            let members: Vec<Option<bool>> = success.members.iter().map(found).collect();
            let id = success.id.as_deref().map(|pointer| at(pointer).filter(|id| is_id(id)));
            return match id {
                _ if members.contains(&Some(false)) => {
                    Outcome::Refused(api::refused(Fault::Transient, "not_confirmed", answer))
                }
                _ if members.contains(&None) => api::unclear(),
                Some(None) => api::unclear(),
                None => Outcome::Accepted(Accepted::default()),
                Some(Some(id)) => {
                    Outcome::Accepted(Accepted { message_id: id.into(), ..Accepted::default() })
                }
            };
        }
        Outcome::Refused(match success.errors.get(answer.status.as_str()) {
            Some(fault) => api::refused(*fault, &api::status_code(answer.status), answer),
            None => api::by_status(answer),
        })
    }
}

impl fmt::Debug for HttpGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpGateway({})", self.name)
    }
}

#[async_trait]
impl SmsSender for HttpGateway {
    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let Request { url, headers, body } = match self.request(message) {
            Ok(request) => request,
            Err(code) => return api::unsendable(code),
        };
        let method = self.spec.method.clone();
        match self.client.send(method, &url, headers, body, api::bounds(within)).await {
            Ok(answer) => self.read(&answer),
            Err(error) => api::unanswered(&error),
        }
    }

    async fn look_up(
        &self,
        _message_id: &str,
        _within: Duration,
        _now: Timestamp,
    ) -> Result<Report, LookUpFault> {
        Err(LookUpFault::None)
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        let (Some(receipt), Some(signer)) = (&self.spec.receipt, &self.receipts) else {
            return Err(ReceiptFault::None);
        };
        signer.check(request)?;
        let json: Value =
            serde_json::from_slice(request.body).map_err(|_| ReceiptFault::Malformed("no JSON"))?;
        let at = |pointer: &str| json.pointer(pointer).and_then(scalar);
        let id = at(&receipt.id).filter(|id| is_id(id)).ok_or(ReceiptFault::Malformed("no id"))?;
        let status = at(&receipt.status).ok_or(ReceiptFault::Malformed("no status"))?;
        // A status that the file does not name reports nothing.
        let known = receipt.states.get_key_value(&*status);
        let report = known.map(|(status, state)| Report {
            message_id: id.into(),
            state: *state,
            refused: has_failed(*state).then(|| Refused::new(Fault::Transient, status)),
            price: None,
        });
        Ok(report.into_iter().collect())
    }
}

/// The places in answers and receipts that the file names.
fn pointers(spec: &HttpSpec) -> impl Iterator<Item = &str> {
    let success = &spec.success;
    let members = success.members.iter().map(|(pointer, _)| &**pointer);
    let receipt = spec.receipt.as_ref().map(|HttpReceipt { id, status, .. }| [&**id, &**status]);
    let others = success.id.as_deref().into_iter().chain(success.error.as_deref());
    members.chain(others).chain(receipt.into_iter().flatten())
}

fn check_pointer(pointer: &str) -> Result<(), HttpGatewayFault> {
    if pointer.is_empty() || pointer.starts_with('/') {
        Ok(())
    } else {
        Err(HttpGatewayFault::Pointer(pointer.into()))
    }
}

fn check_json(renderer: &Renderer, json: &Value, place: &str) -> Result<(), HttpGatewayFault> {
    match json {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(template) => renderer.check(place, template),
        Value::Array(items) => (0..)
            .zip(items)
            .try_for_each(|(at, item): (usize, _)| check_json(renderer, item, &format!("{place}/{at}"))),
        Value::Object(members) => members
            .iter()
            .try_for_each(|(name, value)| check_json(renderer, value, &format!("{place}/{name}"))),
    }
}

/// A text, number or boolean as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn has_failed(state: DeliveryState) -> bool {
    match state {
        DeliveryState::Undelivered
        | DeliveryState::Failed
        | DeliveryState::Expired
        | DeliveryState::Rejected => true,
        DeliveryState::Accepted
        | DeliveryState::Queued
        | DeliveryState::Sent
        | DeliveryState::Delivered
        | DeliveryState::Read => false,
    }
}
