//! One request to the REST API, with the commands of a batch in it.

use std::time::Duration;

use http::HeaderMap;

use crate::http_client::{Bounds, HttpClient, HttpError, HttpUrl, Response};

use super::super::batch::Road;
use super::super::remote::{StoreError, error_reply};
use super::pipeline::{self, Command, Reply};

/// A state takes a few hundred bytes, and some requests have ten of them.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The way to one database.
#[derive(Debug)]
pub(super) struct Rest {
    client: HttpClient,
    endpoint: Endpoint,
    within: Duration,
}

/// Where pipelines are sent, and what each request says besides its body.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: HttpUrl,
    pub(super) headers: HeaderMap,
}

impl Rest {
    /// `within` is how long an exchange may take. It may be more than callers wait: the end of an exchange leaves
    /// a connection that can be used, where giving it up would cost the next the round trips of a new one.
    pub(super) fn new(endpoint: Endpoint, within: Duration) -> Rest {
        Rest { client: HttpClient::new(within), endpoint, within }
    }
}

impl Road for Rest {
    type Load = Command;
    type Answer = Reply;

    const LOADS_MAX: usize = 128;
    /// Bytes. Servers bound the size of a request, the smallest plan to 1 MB.
    const WEIGHT_MAX: usize = 256 * 1024;
    const EXCHANGES_MAX: usize = 4;

    fn weight(command: &Command) -> usize {
        command.bytes()
    }

    fn go_together(_: &Command, _: &Command) -> bool {
        true
    }

    async fn exchange(&self, commands: &[Command]) -> Result<Vec<Reply>, StoreError> {
        let body = pipeline::body(commands.iter());
        let bounds = Bounds { within: self.within, reply_bytes_max: REPLY_BYTES_MAX };
        let Endpoint { url, headers } = &self.endpoint;
        let response = self.client.post(url, headers.clone(), body.into(), bounds).await.map_err(failed)?;
        if response.status.is_success() {
            return pipeline::replies(&response.body, commands.len());
        }
        Err(refused(&response))
    }
}

fn failed(error: HttpError) -> StoreError {
    match error {
        HttpError::Timeout => StoreError::Timeout,
        HttpError::Connect(_) | HttpError::Tls(_) | HttpError::Broken(_) => {
            StoreError::Disconnected(error.to_string().into())
        }
        HttpError::TooLarge(_) => StoreError::Garbage(error.to_string().into()),
    }
}

/// Why a pipeline as a whole was not run.
fn refused(response: &Response) -> StoreError {
    let status = response.status;
    let with_status = |what: &str| Box::from(format!("HTTP {}: {what}", status.as_u16()));
    match status.as_u16() {
        401 | 403 => StoreError::Auth(with_status("the token is not accepted")),
        429 => StoreError::Refused(with_status("the provider limits our calls")),
        300..=399 => StoreError::Refused(with_status("a redirect; the URL is that of another service")),
        500..=599 => StoreError::Disconnected(with_status("the provider has a fault")),
        _ => match serde_json::from_slice::<Reply>(&response.body) {
            Ok(Reply { error: Some(text), .. }) => error_reply::read(&text),
            Ok(Reply { error: None, .. }) | Err(_) => StoreError::Refused(with_status("no reason is given")),
        },
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_status_tells_why_nothing_was_run() {
        let check = |status: u16, body: &'static str, is_expected: fn(&StoreError) -> bool| {
            let status = StatusCode::from_u16(status).unwrap();
            let error = refused(&Response { status, headers: HeaderMap::new(), body: body.into() });
            assert!(is_expected(&error), "{status}: {error}");
        };
        check(401, "", |error| matches!(error, StoreError::Auth(_)));
        check(403, "{}", |error| matches!(error, StoreError::Auth(_)));
        check(429, "", |error| matches!(error, StoreError::Refused(_)));
        check(308, "", |error| matches!(error, StoreError::Refused(_)));
        check(404, "<html>", |error| matches!(error, StoreError::Refused(_)));
        check(400, r#"{"error":"OOM command not allowed"}"#, |error| {
            matches!(error, StoreError::OutOfMemory)
        });
        check(400, r#"{"error":"ERR max request size exceeded"}"#, |error| {
            matches!(error, StoreError::Refused(_))
        });
        check(500, "", |error| matches!(error, StoreError::Disconnected(_)));
        check(503, "{}", |error| matches!(error, StoreError::Disconnected(_)));
    }

    #[test]
    fn a_failed_call_is_told_by_its_kind() {
        let text = || Box::from("x");
        assert_eq!(failed(HttpError::Timeout), StoreError::Timeout);
        for error in [HttpError::Connect(text()), HttpError::Tls(text()), HttpError::Broken(text())] {
            assert_eq!(failed(error.clone()), StoreError::Disconnected(error.to_string().into()));
        }
        assert!(matches!(failed(HttpError::TooLarge(1)), StoreError::Garbage(_)));
    }
}
