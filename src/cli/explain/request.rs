//! The request that the arguments describe.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Options;
use crate::app::Imagined;

/// # Errors
/// What cannot be a request, in words.
pub(super) fn imagined(options: &Options) -> Result<Imagined, String> {
    let method = Method::from_bytes(options.method.to_ascii_uppercase().as_bytes());
    let method = method.map_err(|_| format!("{:?} is no method", options.method))?;
    let (path, query) = options.target.split_once('?').unwrap_or((&options.target, ""));
    let mut headers = HeaderMap::new();
    if let Some(host) = &options.host {
        headers.insert(HOST, value("host", host)?);
    }
    for line in &options.header {
        let parts = line.split_once(':');
        let (name, text) = parts.ok_or_else(|| format!("{line:?} is not NAME: VALUE"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| format!("{name:?} is no name of a header"))?;
        headers.append(name, value("header", text.trim())?);
    }
    if !options.cookie.is_empty() {
        headers.append(COOKIE, value("cookie", &options.cookie.join("; "))?);
    }
    if let Some(body) = &options.body {
        let media = options.content_type.as_deref();
        let media = media.or_else(|| (!headers.contains_key(CONTENT_TYPE)).then(|| looks_like(body)));
        if let Some(media) = media {
            headers.insert(CONTENT_TYPE, value("content-type", media)?);
        }
    }
    Ok(Imagined {
        method,
        path: path.into(),
        query: query.into(),
        headers,
        peer: options.ip,
        body: options.body.clone().map(Bytes::from),
    })
}

/// The host as the client wrote it; empty where it wrote none.
pub(super) fn host(request: &Imagined) -> &str {
    request.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn looks_like(body: &str) -> &'static str {
    match body.trim_start().starts_with(['{', '[']) {
        true => "application/json",
        false => "application/x-www-form-urlencoded",
    }
}

/// Nothing of the value is told: it may be a password.
fn value(option: &str, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| format!("--{option}: the value cannot stand in a header"))
}
