//! Ids of requests, and traces.

use http::HeaderName;

use crate::config::file::File;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::decision::client::{ClientRules, ForwardedHeader};
use crate::decision::trace::TraceRules;

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
    Some(TraceRules { request_id, traceparent: events.traceparent? })
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
