//! Upstash: Redis behind a REST interface. <https://upstash.com/docs/redis/features/restapi>

mod exchange;
mod pipeline;
mod script;

use std::slice;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;

use crate::http_client::{HttpUrl, HttpUrlFault, bearer};

use self::exchange::{Endpoint, Rest};
use self::pipeline::{By, Command, OK, Reply};
use self::script::Scripts;
use super::batch::Batcher;
use super::remote::call::{Answer, Bundle, Call, Piece, answers};
use super::remote::{StoreError, error_reply};

/// An exchange that needs a new connection takes four round trips, and goes on when nobody waits for it.
const EXCHANGE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(1);

const ENCODING: HeaderName = HeaderName::from_static("upstash-encoding");

/// `https://name.upstash.io`; plain http is for loopback addresses alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstashUrl {
    pipeline: HttpUrl,
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpstashUrlFault {
    #[error("this is the address for Redis clients; copy the one of the REST API, it begins with https://")]
    NotRest,
    #[error(transparent)]
    Http(#[from] HttpUrlFault),
}

impl UpstashUrl {
    pub fn parse(text: &str) -> Result<UpstashUrl, UpstashUrlFault> {
        let is_redis =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
        if is_redis("redis://") || is_redis("rediss://") {
            return Err(UpstashUrlFault::NotRest);
        }
        Ok(UpstashUrl { pipeline: HttpUrl::parse(text)?.below("/pipeline")? })
    }
}

/// One database.
#[derive(Debug)]
pub(super) struct Upstash {
    /// None if the token is none that a header can carry.
    batcher: Option<Batcher<Rest>>,
    scripts: Scripts,
    probe: Command,
}

impl Upstash {
    /// Connects when it is first used. `prefix` begins the name of the key that probes write;
    /// `patience` is how long callers wait for a call.
    pub(super) fn new(url: UpstashUrl, token: SecretString, prefix: &str, patience: Duration) -> Upstash {
        let endpoint = |authorization| {
            let json = HeaderValue::from_static("application/json");
            let base64 = HeaderValue::from_static("base64");
            let headers = [(AUTHORIZATION, authorization), (CONTENT_TYPE, json), (ENCODING, base64)];
            Endpoint { url: url.pipeline, headers: HeaderMap::from_iter(headers) }
        };
        let probe = json!(["SET", format!("{prefix}1:probe"), "1", "PX", "5000"]);
        Upstash {
            batcher: bearer(&token).map(|value| {
                Batcher::new(Rest::new(endpoint(value), patience.max(EXCHANGE_MIN)), patience / 2)
            }),
            scripts: Scripts::default(),
            probe: Command::Plain(probe.to_string().into()),
        }
    }

    /// Each call is a command of its own: a server may take long for one, and tells the time of each.
    pub(super) async fn run(&self, call: &Call) -> Result<Answer, StoreError> {
        let calls = slice::from_ref(call);
        let missing = || StoreError::Garbage("an answer is missing".into());
        let bundle = Bundle::of(calls).ok_or_else(missing)?;
        answers(self.run_bundle(&bundle).await?, calls)?.into_iter().next().ok_or_else(missing)?
    }

    pub(super) async fn run_bundle(&self, bundle: &Bundle<'_>) -> Result<Vec<Piece>, StoreError> {
        let script = self.scripts.port(bundle.script);
        let operands = pipeline::operands(bundle);
        for by in [By::Name, By::SourceOnce, By::Source] {
            let (script, operands) = (script.clone(), operands.clone());
            let reply = self.send(Command::Script { script, operands, by }).await?;
            match reply.error {
                None => return pipeline::pieces(reply.result),
                Some(text) if error_reply::is_unknown_script(&text) => continue,
                Some(text) => return Err(error_reply::read(&text)),
            }
        }
        Err(StoreError::Garbage("the server does not know a script that came with its source".into()))
    }

    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let sent = timeout(PROBE_MAX, self.send(self.probe.clone())).await;
        match sent.unwrap_or(Err(StoreError::Timeout))? {
            Reply { error: Some(text), .. } => Err(error_reply::read(&text)),
            Reply { error: None, result } if result == OK => Ok(()),
            Reply { error: None, .. } => Err(StoreError::Garbage("a write was not answered with OK".into())),
        }
    }

    async fn send(&self, command: Command) -> Result<Reply, StoreError> {
        match &self.batcher {
            Some(batcher) => batcher.run(command).await,
            None => Err(StoreError::Auth("the token has characters that a header cannot carry".into())),
        }
    }
}

#[cfg(test)]
mod tests;
