//! Ids of requests, and traces.

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;

use crate::config::file::File;
use crate::config::file::server::Otlp;
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::runtime::SpansSpec;
use crate::config::value::text::Secret;
use crate::decision::client::{ClientRules, ForwardedHeader};
use crate::decision::trace::{Sampler, TraceRules};

pub(super) fn rules(
    file: &File,
    client: Option<&ClientRules>,
    findings: &mut Findings,
) -> Option<TraceRules> {
    let events = file.events.as_ref()?;
    let header = events.request_id_header.as_ref()?;
    let request_id = header.value.0.clone();
    let taken = request_id.as_ref().and_then(|name| used_by(file, client, name));
    if let Some(key) = taken {
        let wrong = Wrong::new(format!("`{}` is the header of {key} already", header.told()));
        findings.problem(&header.at, wrong.write("write x-request-id, another name, or off"));
        return None;
    }
    let sampler = match &events.otlp {
        Optional::Given(otlp) => Some(sampler(&otlp.value, findings)?),
        Optional::Absent | Optional::Faulty => None,
    };
    Some(TraceRules { request_id, traceparent: events.traceparent?, sampler })
}

/// The collector, if there is one.
pub(super) fn spans(file: &File, findings: &mut Findings) -> Option<Option<SpansSpec>> {
    let otlp = match &file.events.as_ref()?.otlp {
        Optional::Absent => return Some(None),
        Optional::Faulty => return None,
        Optional::Given(otlp) => otlp,
    };
    let endpoint = otlp.value.endpoint.as_ref()?;
    let headers = headers(&otlp.value, findings)?;
    // Of a file with another mistake there that one is told.
    otlp.value.sample.as_ref().filter(|share| share.value.micros <= u64::from(Sampler::ALL))?;
    if !cfg!(feature = "otlp") {
        let wrong = Wrong::new("this binary was built without OpenTelemetry");
        findings.problem(&otlp.at, wrong.write("build it with `--features otlp`, or remove `otlp`"));
        return None;
    }
    match endpoint.value.0.below("/v1/traces") {
        Ok(url) => Some(Some(SpansSpec { url, headers })),
        Err(fault) => {
            findings.problem(&endpoint.at, Wrong::new(fault.to_string()));
            None
        }
    }
}

fn sampler(otlp: &Otlp, findings: &mut Findings) -> Option<Sampler> {
    let share = otlp.sample.as_ref()?;
    match u32::try_from(share.value.micros) {
        Ok(millionths) if millionths <= Sampler::ALL => Some(Sampler::new(millionths)),
        Ok(_) | Err(_) => {
            let wrong = Wrong::new("the share is more than all requests");
            findings.problem(&share.at, wrong.write("write a number from 0 to 1, such as 0.01"));
            None
        }
    }
}

fn headers(otlp: &Otlp, findings: &mut Findings) -> Option<HeaderMap> {
    let named = otlp.headers.as_ref()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &named.value.entries {
        headers.insert(name.value.clone(), header(value.as_ref()?, findings)?);
    }
    named.value.complete.then_some(headers)
}

fn header(secret: &Located<Secret>, findings: &mut Findings) -> Option<HeaderValue> {
    match HeaderValue::from_str(secret.value.0.expose_secret()) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(_) => {
            let wrong = Wrong::new("the value has characters that a header cannot carry");
            findings.problem(&secret.at, wrong.write("write it on one line"));
            None
        }
    }
}

/// What else is read from this header.
fn used_by(file: &File, client: Option<&ClientRules>, name: &HeaderName) -> Option<&'static str> {
    let is_client = client.is_some_and(|client| match &client.header {
        ForwardedHeader::Single(header) => header == name,
        ForwardedHeader::XForwardedFor | ForwardedHeader::Forwarded => false,
    });
    if is_client {
        return Some("client_ip");
    }
    let Optional::Given(user) = &file.user else { return None };
    let is_user = user.value.header.given().is_some_and(|header| header.value == *name);
    let is_token = user.value.jwt.given().is_some_and(|jwt| jwt.value.header.as_ref() == Some(name));
    (is_user || is_token).then_some("user")
}
