//! From the file as it is written to what the gateway runs by: the rules that span several values.
//!
//! Whatever could be read is checked, also where something else is wrong already, so that one run
//! tells every mistake.

mod admin;
mod guard;
mod identity;
mod limit;
mod listener;
mod network;
mod otp;
mod reject;
mod route;
mod sms;
mod store;
mod trace;
mod upstream;

use std::sync::Arc;

use http::HeaderValue;

use super::file::File;
use super::file::route::{Headers, ResetForm, Responses};
use super::place::Located;
use super::problem::{Findings, Wrong};
use super::reader::Reader;
use super::runtime::Config;
use crate::decision::answer::{Cors, HeaderStyle, IetfHeaders, LegacyHeaders};
use crate::decision::policy::{Access, Rules};

/// The configuration, unless a mistake was noted here or before.
pub(super) fn compile(file: &File, reader: &mut Reader<'_>) -> Option<Config> {
    let listen = listener::listeners(file, reader);
    let admin = network::admin(file, &mut reader.findings);
    let upstreams = upstream::upstreams(file, reader);
    let drain = network::drain(file, &mut reader.findings);
    let client = identity::client(file);
    let trace = trace::rules(file, client.as_ref(), &mut reader.findings);
    let spans = trace::spans(file, &mut reader.findings);
    let user = identity::user(file, reader);
    let policies = limit::policies(file, &mut reader.findings);
    let suspicion = guard::suspicion(file, &mut reader.findings);
    let codes = otp::limits(file, &mut reader.findings);
    let routes = route::routes(file, &policies, codes.as_ref(), suspicion.as_deref(), &mut reader.findings);
    let webhook = admin::webhook(file, &mut reader.findings);
    let retention = guard::retention(file, &mut reader.findings);
    let headers = file.responses.as_ref().and_then(header_style);
    let cors = file.responses.as_ref().and_then(|responses| cors(responses, &mut reader.findings));
    let access = file
        .access
        .as_ref()
        .and_then(|access| Some(Access { allow: access.allow.clone()?, deny: access.deny.clone()? }));
    let store = store::store(file, reader);
    let otp = otp::spec(file, &mut reader.findings);
    let (routes, texts) = routes?;
    // Ties were told with their places already.
    let rules = Rules::new(routes, access?, client?, headers?, cors?, suspicion?).ok()?;
    network::warn_of_idle_readiness(file, &rules, &mut reader.findings);
    file.version?;
    Some(Config {
        rules,
        texts,
        user: user?,
        upstreams: upstreams?,
        store: Arc::new(store?),
        listen: listen?,
        admin: admin?,
        log: file.events.as_ref()?.log?,
        access_log: file.events.as_ref()?.access_log?,
        trace: trace?,
        spans: spans?,
        retention: retention?,
        webhook: webhook?,
        otp: otp?,
        workers: file.server.as_ref()?.workers?.0 as usize,
        drain: drain?,
    })
}

fn header_style(responses: &Responses) -> Option<HeaderStyle> {
    let Headers { legacy, ietf, reset } = responses.headers.as_ref()?;
    let legacy = match (legacy.as_ref()?, reset.as_ref()?) {
        (false, ResetForm::Epoch | ResetForm::Delta) => LegacyHeaders::Off,
        (true, ResetForm::Epoch) => LegacyHeaders::ResetEpoch,
        (true, ResetForm::Delta) => LegacyHeaders::ResetDelta,
    };
    let ietf = if *ietf.as_ref()? { IetfHeaders::On } else { IetfHeaders::Off };
    Some(HeaderStyle { legacy, ietf })
}

fn cors(responses: &Responses, findings: &mut Findings) -> Option<Cors> {
    let origins = responses.cors.as_ref()?.origins.as_ref()?;
    let any = origins.iter().find(|origin| origin.value.0 == "*");
    match (any, origins.as_slice()) {
        (_, []) => Some(Cors::Nobody),
        (Some(_), [_]) => Some(Cors::Anybody),
        (Some(any), _) => {
            let wrong = Wrong::new("`*` stands for every origin");
            findings.problem(&any.at, wrong.write("remove it, or all the others"));
            None
        }
        (None, _) => {
            let values: Vec<HeaderValue> = origins.iter().map(|origin| origin.value.0.clone()).collect();
            Some(Cors::Origins(values.into_boxed_slice()))
        }
    }
}

/// Notes every value that was there before.
fn refuse_twice<'l, T: PartialEq + std::fmt::Display + 'l>(
    what: &str,
    values: impl Iterator<Item = &'l Located<T>>,
    findings: &mut Findings,
) {
    let mut seen: Vec<&Located<T>> = Vec::new();
    for located in values {
        match seen.iter().find(|earlier| earlier.value == located.value) {
            Some(earlier) => {
                let wrong = Wrong::new(format!("{what} `{}` is there twice", located.told()));
                let line = earlier.at.place.line;
                findings
                    .problem(&located.at, wrong.write(format!("it is on line {line} already: remove one")));
            }
            None => seen.push(located),
        }
    }
}

#[cfg(test)]
mod tests;
