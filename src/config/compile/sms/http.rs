//! Any gateway with an HTTP API: what it is sent, and what its answers mean.

use std::collections::BTreeMap;

use ::http::{HeaderName, Method};
use secrecy::{ExposeSecret as _, SecretString};

use super::account::{Account, if_secret};
use crate::config::file::sms::http as written;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Named, Optional};
use crate::config::value::text::Text;
use crate::sms::Channel;
use crate::sms::spec::{HttpBody, HttpReceipt, HttpSpec, HttpSuccess};

/// `None` after a mistake. The texts are templates, which are judged where they are filled in.
pub(super) fn spec(
    http: &written::Http,
    channel: Option<Channel>,
    account: &Account<'_>,
    findings: &mut Findings,
) -> Option<HttpSpec> {
    account.refuse_base_url("remove it: `request.url` says where it is", findings);
    let signing_secret = if_secret(http.signing_secret.as_ref(), findings);
    let receipt = match &http.receipt {
        Optional::Absent => Some(None),
        Optional::Faulty => None,
        Optional::Given(receipt) => self::receipt(&receipt.value, account, findings).map(Some),
    };
    let success = success(http);
    let request = &http.request.as_ref()?.value;
    let headers = headers(request, findings);
    let body = body(request, findings);
    Some(HttpSpec {
        channel: channel?,
        method: request.method.as_ref()?.value.clone(),
        url: request.url.as_ref()?.value.0.clone(),
        headers: headers?,
        body: body?,
        success: success?,
        signing_secret: signing_secret?,
        receipt: receipt?,
    })
}

fn headers(request: &written::Request, findings: &mut Findings) -> Option<Vec<(HeaderName, SecretString)>> {
    let named = request.headers.as_ref()?;
    let mut headers = Vec::new();
    for (name, value) in &named.value.entries {
        let value = value.as_ref()?;
        if value.value.0.expose_secret().chars().any(char::is_control) {
            let wrong = Wrong::new("the value has characters that a header cannot carry");
            findings.problem(&value.at, wrong.write("write it on one line"));
            return None;
        }
        headers.push((name.value.clone(), value.value.0.clone()));
    }
    named.value.complete.then_some(headers)
}

fn body(request: &written::Request, findings: &mut Findings) -> Option<HttpBody> {
    let method = request.method.as_ref()?;
    if method.value == Method::HEAD {
        let wrong = Wrong::new("the answer to HEAD says nothing");
        findings.problem(&method.at, wrong.write("write `method: POST`, or GET"));
        return None;
    }
    match (&request.json, &request.form) {
        (Optional::Faulty, _) | (_, Optional::Faulty) => None,
        (Optional::Given(_), Optional::Given(form)) => {
            let wrong = Wrong::new("a request has a body of JSON or a form, not both");
            findings.problem(&form.at, wrong.write("remove `json` or `form`"));
            None
        }
        (Optional::Absent, Optional::Absent) => Some(HttpBody::None),
        (Optional::Given(json), Optional::Absent) => {
            if method.value == Method::GET {
                let fix = "write `method: POST`, or `form` for what stands in the query";
                findings.problem(&json.at, Wrong::new("GET has no body").write(fix));
                return None;
            }
            Some(HttpBody::Json(json.value.0.clone()))
        }
        (Optional::Absent, Optional::Given(form)) => {
            let fields: Option<Vec<(Box<str>, Box<str>)>> = form
                .value
                .entries
                .iter()
                .map(|(name, value)| Some((name.value.0.clone(), value.as_ref()?.0.clone())))
                .collect();
            fields.filter(|_| form.value.complete).map(HttpBody::Form)
        }
    }
}

fn success(http: &written::Http) -> Option<HttpSuccess> {
    let success = http.success.as_ref()?;
    let members = success.json.as_ref().filter(|members| members.complete)?;
    let members: Option<Vec<(Box<str>, Box<str>)>> = members
        .entries
        .iter()
        .map(|(pointer, text)| Some((pointer.value.0.clone(), text.as_ref()?.0.clone())))
        .collect();
    let pointer = |pointer: &Optional<crate::config::file::guard::Pointer>| match pointer {
        Optional::Absent => Some(None),
        Optional::Faulty => None,
        Optional::Given(pointer) => Some(Some(pointer.0.clone())),
    };
    Some(HttpSuccess {
        statuses: success.status.as_ref()?.0.iter().map(|status| status.0).collect(),
        members: members?,
        id: pointer(&success.id)?,
        errors: meanings(http.errors.as_ref()?)?,
        error: pointer(&success.error)?,
    })
}

fn receipt(
    receipt: &written::Receipt,
    account: &Account<'_>,
    findings: &mut Findings,
) -> Option<HttpReceipt> {
    let secret = receipt.secret.as_ref()?;
    let secret = account.secret("receipt.secret", Optional::Given(secret), findings);
    Some(HttpReceipt {
        secret: secret?,
        id: receipt.id.as_ref()?.0.clone(),
        status: receipt.status.as_ref()?.0.clone(),
        states: meanings(receipt.states.as_ref()?)?,
    })
}

fn meanings<T: Copy>(named: &Named<Text, T>) -> Option<BTreeMap<Box<str>, T>> {
    let meanings = named.entries.iter().map(|(word, meaning)| Some((word.value.0.clone(), (*meaning)?)));
    meanings.collect::<Option<BTreeMap<Box<str>, T>>>().filter(|_| named.complete)
}
