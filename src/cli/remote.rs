//! A running gateway, asked over its admin API.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use thiserror::Error;
use tokio::runtime::Builder;

use crate::config::Environment;
use crate::http_client::{Bounds, HttpClient, HttpError, HttpUrl, HttpUrlFault, bearer};

/// Which gateway.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The gateway's admin listener; the token is taken from TOLLGATE_ADMIN_TOKEN.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180", global = true)]
    admin: String,
    /// Print one JSON object a line instead of a table.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// A gateway that can be asked.
pub(super) struct Remote {
    client: HttpClient,
    base: HttpUrl,
    headers: HeaderMap,
}

/// Why there is nothing to print.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("--admin: {0}")]
    Url(#[from] HttpUrlFault),
    #[error("TOLLGATE_ADMIN_TOKEN is no token")]
    Token,
    #[error("{url}: {error}")]
    Exchange { url: String, error: HttpError },
    #[error("the gateway refuses: {detail} ({status}){hint}")]
    Refused { status: StatusCode, detail: String, hint: &'static str },
    #[error("{0}")]
    Usage(String),
    #[error("what answers there is no admin listener of this version")]
    Strange,
    #[error(transparent)]
    Output(#[from] io::Error),
}

const TOKEN: &str = "TOLLGATE_ADMIN_TOKEN";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BOUNDS: Bounds = Bounds { within: Duration::from_secs(60), reply_bytes_max: 16 * 1024 * 1024 };
/// So many items come in one answer.
const PAGE: usize = 500;

impl Remote {
    fn new(place: &Place, environment: &Environment) -> Result<Remote, Trouble> {
        let url = match place.admin.contains("://") {
            true => place.admin.clone(),
            false => format!("http://{}", place.admin),
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let token = environment.read(TOKEN).ok().filter(|token| !token.expose_secret().is_empty());
        if let Some(token) = token {
            let token = SecretString::from(token.expose_secret().trim().to_owned());
            headers.insert(AUTHORIZATION, bearer(&token).ok_or(Trouble::Token)?);
        }
        Ok(Remote { client: HttpClient::new(CONNECT_TIMEOUT), base: HttpUrl::parse(&url)?, headers })
    }

    /// All items of a list, so many at most.
    pub(super) async fn items(
        &self,
        path: &str,
        filters: &[(&str, String)],
        most: usize,
    ) -> Result<Vec<Value>, Trouble> {
        let mut items = Vec::new();
        let mut cursor = None;
        while items.len() < most {
            let mut query = filters.to_vec();
            query.push(("limit", PAGE.min(most - items.len()).to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let mut page = self.ask(Method::GET, path, &query, None).await?;
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(more)) => items.extend(more),
                Some(_) | None => return Err(Trouble::Strange),
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(items)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.ask(Method::POST, path, &[], Some(body)).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let url = self.base.below(path)?.with_query(query)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let asked = self.client.send(method, &url, self.headers.clone(), Bytes::from(body), BOUNDS).await;
        let answer = asked.map_err(|error| Trouble::Exchange { url: self.base.to_string(), error })?;
        let told: Value = serde_json::from_slice(&answer.body).map_err(|_| Trouble::Strange)?;
        if answer.status.is_success() {
            return Ok(told);
        }
        let detail = told.get("detail").and_then(Value::as_str).ok_or(Trouble::Strange)?;
        let hint = match answer.status {
            StatusCode::UNAUTHORIZED => "; set TOLLGATE_ADMIN_TOKEN",
            _ => "",
        };
        Err(Trouble::Refused { status: answer.status, detail: detail.to_owned(), hint })
    }
}

/// Runs one command against the gateway.
pub(super) fn run<F>(place: &Place, environment: &Environment, command: impl FnOnce(Remote) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Trouble>>,
{
    let ran = Remote::new(place, environment).and_then(|remote| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(command(remote))
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has enough: `tollgate events | head`.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

/// The filters that were given, as query parameters.
pub(super) fn given<'n>(filters: &[(&'n str, &Option<String>)]) -> Vec<(&'n str, String)> {
    filters.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.clone()))).collect()
}
