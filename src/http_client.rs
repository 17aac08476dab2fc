//! Calls to HTTP APIs of others: bounded in time and size, encrypted unless they stay on this machine.

mod url;

use std::error::Error as StdError;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::time::timeout;

pub use url::{HttpUrl, HttpUrlFault, push_encoded};

use url::Security;

/// Connections that wait for the next call, for each host.
const IDLE_CONNECTIONS_MAX: usize = 4;
/// Most servers close an idle connection after a minute; one that we close is never raced for.
const IDLE_MAX: Duration = Duration::from_secs(50);
const KEEPALIVE: Duration = Duration::from_secs(15);
const REPLY_HEAD_BYTES_MAX: usize = 64 * 1024;

const USER_AGENT_VALUE: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

type EncryptedClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Speaks HTTP/1.1 over connections that it keeps for the next call. Follows no redirect, uses no
/// proxy, and takes TLS 1.2 or 1.3 from servers that the system's roots vouch for.
#[derive(Debug)]
pub struct HttpClient {
    connect_timeout: Duration,
    loopback: Client<HttpConnector, Full<Bytes>>,
    /// Made when it is first needed: who calls nobody need not read the system's roots.
    tls: OnceLock<Result<EncryptedClient, Box<str>>>,
}

/// What one call may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the call to the last byte of the answer, connecting included.
    pub within: Duration,
    /// The largest body of an answer.
    pub reply_bytes_max: usize,
}

/// An answer, whole. Its status may be any.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. After `Connect` and `Tls` the request has not left this machine; after the
/// others, the server may have acted on it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    #[error("cannot connect: {0}")]
    Connect(Box<str>),
    #[error("no trusted TLS connection: {0}")]
    Tls(Box<str>),
    #[error("no whole answer in time")]
    Timeout,
    /// The connection ended too early, or what came is no HTTP.
    #[error("the exchange broke off: {0}")]
    Broken(Box<str>),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// `Bearer …` as the value of an `Authorization` header, hidden in Debug; none if the token has
/// characters that a header cannot carry.
pub fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl HttpClient {
    /// Does no I/O. `connect_timeout` is for the name, TCP and TLS together.
    pub fn new(connect_timeout: Duration) -> HttpClient {
        let mut connector = connector();
        connector.enforce_http(true);
        HttpClient { connect_timeout, loopback: pooled(connector), tls: OnceLock::new() }
    }

    /// [`HttpClient::send`] of a `POST`.
    pub async fn post(
        &self,
        url: &HttpUrl,
        headers: HeaderMap,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Response, HttpError> {
        self.send(Method::POST, url, headers, body, bounds).await
    }

    /// Sends one request, once. Dropping the future ends the exchange and its connection.
    pub async fn send(
        &self,
        method: Method,
        url: &HttpUrl,
        headers: HeaderMap,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Response, HttpError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.uri().clone())
            .body(Full::new(body))
            .map_err(|fault| HttpError::Broken(fault.to_string().into()))?;
        *request.headers_mut() = headers;
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT_VALUE));
        let connection = capture_connection(&mut request);
        let exchange = async {
            let reply = match url.security() {
                Security::Loopback => self.loopback.request(request),
                Security::Tls => self.tls()?.request(request),
            };
            let (head, body) = reply.await.map_err(|error| told(&error))?.into_parts();
            let body = Limited::new(body, bounds.reply_bytes_max).collect().await;
            let body = body.map_err(|error| cut_off(&*error, bounds.reply_bytes_max))?.to_bytes();
            Ok(Response { status: head.status, headers: head.headers, body })
        };
        let unconnected = || HttpError::Connect("no connection in time".into());
        let bounded = async {
            tokio::select! {
                result = exchange => result,
                () = self.is_late(connection.clone()) => Err(unconnected()),
            }
        };
        match timeout(bounds.within, bounded).await {
            Ok(result) => result,
            Err(_elapsed) if connection.connection_metadata().is_none() => Err(unconnected()),
            Err(_elapsed) => Err(HttpError::Timeout),
        }
    }

    /// Ends when there should have been a connection long since, and never if there is one.
    async fn is_late(&self, mut connection: CaptureConnection) {
        let connected =
            timeout(self.connect_timeout, connection.wait_for_connection_metadata()).await.is_ok();
        if connected {
            std::future::pending::<()>().await;
        }
    }

    fn tls(&self) -> Result<&EncryptedClient, HttpError> {
        let made = self.tls.get_or_init(|| match system_trust() {
            Ok(config) => Ok(encrypted(config)),
            Err(fault) => Err(fault.to_string().into()),
        });
        made.as_ref().map_err(|fault| HttpError::Tls(fault.clone()))
    }
}

/// TLS 1.2 and 1.3, trusting whom the system trusts.
fn system_trust() -> Result<rustls::ClientConfig, Box<dyn StdError>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.with_native_roots()?.with_no_client_auth())
}

fn encrypted(config: rustls::ClientConfig) -> EncryptedClient {
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
    pooled(builder.wrap_connector(connector()))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector
}

fn pooled<C>(connector: C) -> Client<C, Full<Bytes>>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_buf_size(REPLY_HEAD_BYTES_MAX)
        .build(connector)
}

fn told(error: &ClientError) -> HttpError {
    let is_tls = |cause: &(dyn StdError + 'static)| cause.is::<rustls::Error>();
    let text = innermost(error);
    match causes(error).any(is_tls) {
        true => HttpError::Tls(text),
        false if error.is_connect() => HttpError::Connect(text),
        false => HttpError::Broken(text),
    }
}

fn cut_off(error: &(dyn StdError + 'static), bytes_max: usize) -> HttpError {
    match error.is::<LengthLimitError>() {
        true => HttpError::TooLarge(bytes_max),
        false => HttpError::Broken(innermost(error)),
    }
}

/// An error and all that caused it, the root cause last.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    // An `io::Error` that wraps another passes itself over when it is asked for its cause.
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn innermost(error: &(dyn StdError + 'static)) -> Box<str> {
    causes(error).last().unwrap_or(error).to_string().into()
}

#[cfg(test)]
mod tests;
