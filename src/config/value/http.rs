//! Values of HTTP: methods, header names, status codes, media types, origins.

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Value as Json, json};

use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::{Notation, Scalar};
use crate::config::section::nearest;
use crate::decision::answer::Template;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Requests of these are refused before a route is looked for.
const REFUSED: [&str; 2] = ["CONNECT", "TRACE"];

impl Scalar for Method {
    const EXPECTED: &'static str = "an HTTP method such as POST";

    fn parse(text: &str) -> Result<Method, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not an HTTP method", shortened(text)));
        let upper = text.to_ascii_uppercase();
        if REFUSED.contains(&upper.as_str()) {
            let refused = Wrong::new(format!("the gateway asks no server by `{upper}`"));
            return Err(refused.write("remove it, or write another method"));
        }
        if METHODS.contains(&upper.as_str()) && upper != text {
            return Err(wrong().write(format!("methods are written in capitals: {upper}")));
        }
        if let Some(near) = nearest(text, METHODS.into_iter()).filter(|near| *near != text) {
            return Err(wrong().write(format!("did you mean `{near}`?")));
        }
        if text.len() > 32 || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(wrong().write("write GET, POST, PUT, PATCH, DELETE, …"));
        }
        Method::from_bytes(text.as_bytes())
            .map_err(|_| wrong().write("write GET, POST, PUT, PATCH, DELETE, …"))
    }

    fn own_schema() -> Json {
        let refused = json!({ "enum": REFUSED });
        json!({ "type": "string", "pattern": "^[A-Z-]{1,32}$", "not": refused, "examples": METHODS })
    }
}

impl Scalar for HeaderName {
    const EXPECTED: &'static str = "a name of a header such as x-forwarded-for";

    fn parse(text: &str) -> Result<HeaderName, Wrong> {
        let wrong = |_| Wrong::new(format!("`{}` is not a name of a header", shortened(text)));
        if text.len() > 128 {
            return Err(Wrong::new("the name of the header is longer than 128 bytes"));
        }
        HeaderName::from_bytes(text.as_bytes()).map_err(wrong)
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$" })
    }
}

/// The target of a health check: a path, with or without a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckPath(pub(crate) Box<str>);

impl Scalar for CheckPath {
    const EXPECTED: &'static str = "a path such as /healthz";

    fn parse(text: &str) -> Result<CheckPath, Wrong> {
        const BYTES_MAX: usize = 1024;
        let is_sound = text.starts_with('/')
            && text.len() <= BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
            && text.parse::<PathAndQuery>().is_ok();
        if is_sound {
            return Ok(CheckPath(text.into()));
        }
        let wrong = Wrong::new(format!("`{}` is not {}", shortened(text), CheckPath::EXPECTED));
        Err(wrong.write("begin it with /, and write what is not ASCII as %xx"))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^/[!-~]*$", "examples": ["/healthz"] })
    }
}

/// The header with the id of a request; none where requests get none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdHeader(pub(crate) Option<HeaderName>);

impl std::fmt::Display for IdHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_ref().map_or("off", HeaderName::as_str))
    }
}

impl Scalar for IdHeader {
    const EXPECTED: &'static str = "a name of a header such as x-request-id, or off";

    fn parse(text: &str) -> Result<IdHeader, Wrong> {
        if text == "off" {
            return Ok(IdHeader(None));
        }
        let name = <HeaderName as Scalar>::parse(text)?;
        let wrong =
            |why| Wrong::new(format!("`{name}` {why}")).write("write x-request-id, another name, or off");
        if says_something_else(name.as_str()) {
            return Err(wrong("says something else than an id"));
        }
        if name.as_str().contains('_') {
            return Err(wrong("has an underscore, and such headers do not reach backends"));
        }
        Ok(IdHeader(Some(name)))
    }

    fn own_schema() -> Json {
        <HeaderName as Scalar>::own_schema()
    }
}

/// Whether a header has a meaning that an id would destroy.
fn says_something_else(name: &str) -> bool {
    const NAMES: [&str; 27] = [
        "authorization",
        "age",
        "allow",
        "cache-control",
        "connection",
        "cookie",
        "date",
        "etag",
        "expect",
        "expires",
        "forwarded",
        "from",
        "host",
        "keep-alive",
        "location",
        "origin",
        "range",
        "referer",
        "retry-after",
        "server",
        "set-cookie",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "upgrade",
        "vary",
    ];
    const BEGINNINGS: [&str; 12] = [
        "accept",
        "access-control-",
        "content-",
        "if-",
        "proxy-",
        "ratelimit",
        "sec-",
        "strict-",
        "transfer-",
        "user-",
        "x-forwarded-",
        "x-ratelimit-",
    ];
    NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// The status of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusalStatus(pub(crate) StatusCode);

impl Scalar for RefusalStatus {
    const EXPECTED: &'static str = "a status of a refusal, from 400 to 599";
    const NOTATION: Notation = Notation::Bare;

    fn parse(text: &str) -> Result<RefusalStatus, Wrong> {
        let status = text.parse::<u16>().ok().filter(|code| (400..600).contains(code));
        status.and_then(|code| StatusCode::from_u16(code).ok()).map(RefusalStatus).ok_or_else(|| {
            Wrong::new(format!("`{}` is not {}", shortened(text), RefusalStatus::EXPECTED))
                .write("write 429, or 403 or 503")
        })
    }

    fn own_schema() -> Json {
        json!({ "type": "integer", "minimum": 400, "maximum": 599 })
    }
}

/// What a `Content-Type` says (RFC 9110 §8.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(pub(crate) HeaderValue);

impl Scalar for MediaType {
    const EXPECTED: &'static str = "a media type such as application/json";

    fn parse(text: &str) -> Result<MediaType, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), MediaType::EXPECTED));
        let essence = text.split(';').next().unwrap_or_default().trim_end();
        let token = |part: &str| HeaderName::from_bytes(part.as_bytes()).is_ok();
        match essence.split_once('/') {
            Some((kind, subtype)) if token(kind) && token(subtype) && text.len() <= 256 => {
                HeaderValue::from_str(text).map(MediaType).map_err(|_| wrong())
            }
            Some(_) | None => Err(wrong()),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[^/\\s]+/[^/\\s]+", "examples": ["application/json", "text/plain; charset=utf-8"] })
    }
}

/// Where a browser's page may come from (RFC 6454): `https://app.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) HeaderValue);

impl Scalar for Origin {
    const EXPECTED: &'static str = "an origin such as https://app.example.com";

    fn parse(text: &str) -> Result<Origin, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), Origin::EXPECTED));
        if text == "*" {
            return HeaderValue::from_str(text).map(Origin).map_err(|_| wrong());
        }
        let uri = text.parse::<Uri>().map_err(|_| wrong())?;
        let Some((scheme, authority)) = uri.scheme_str().zip(uri.authority()) else {
            return Err(wrong().write("begin with https:// or http://"));
        };
        let canonical = format!("{}://{}", scheme, authority.as_str().to_ascii_lowercase());
        if authority.as_str().contains('@') || text.len() > 256 {
            return Err(wrong());
        }
        if canonical != text {
            return Err(
                wrong().write(format!("write `{canonical}`: no path, no slash at the end, small letters"))
            );
        }
        HeaderValue::from_str(text).map(Origin).map_err(|_| wrong())
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^(\\*|[a-z][a-z0-9+.-]*://[^/\\s]+)$" })
    }
}

/// The body of a refusal. It may have several lines, or none.
impl Scalar for Template {
    const EXPECTED: &'static str =
        "a body with no other variables than {{ retry_after }}, {{ limit }}, {{ window }} and {{ route }}";

    fn parse(text: &str) -> Result<Template, Wrong> {
        const BYTES_MAX: usize = 16 * 1024;
        if text.len() > BYTES_MAX {
            return Err(Wrong::new("the body is longer than 16 KiB"));
        }
        Template::parse(text).map_err(|error| Wrong::new(error.to_string()))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "maxLength": 16384 })
    }
}

/// The name of a cookie: a token (RFC 6265 §4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieName(pub(crate) Box<str>);

impl Scalar for CookieName {
    const EXPECTED: &'static str = "a name of a cookie such as sessionid";

    fn parse(text: &str) -> Result<CookieName, Wrong> {
        let sound = text.len() <= 128 && HeaderName::from_bytes(text.as_bytes()).is_ok();
        if !sound {
            return Err(Wrong::new(format!("`{}` is not {}", shortened(text), CookieName::EXPECTED)));
        }
        Ok(CookieName(text.into()))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_of_http_and_well_formed_others() {
        assert_eq!(Method::parse("POST"), Ok(Method::POST));
        assert!(Method::parse("PROPFIND").is_ok());
        let fix = |text| Method::parse(text).unwrap_err().fix.unwrap();
        assert_eq!(fix("post"), "methods are written in capitals: POST");
        assert_eq!(fix("PSOT"), "did you mean `POST`?");
        assert_eq!(fix("GET POST"), "write GET, POST, PUT, PATCH, DELETE, …");
        for method in ["TRACE", "CONNECT", "connect"] {
            assert_eq!(fix(method), "remove it, or write another method");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for text in ["https://app.example.com", "http://localhost:3000", "*"] {
            assert!(Origin::parse(text).is_ok(), "{text}");
        }
        for text in
            ["app.example.com", "https://app.example.com/", "https://App.example.com", "https://u@x.y", ""]
        {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn media_types_have_two_parts() {
        for text in ["application/json", "text/plain; charset=utf-8", "application/problem+json"] {
            assert!(MediaType::parse(text).is_ok(), "{text}");
        }
        for text in ["json", "a/", "/b", "a b/c", "text/plain\r\nx: y", ""] {
            assert!(MediaType::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_an_error_status() {
        assert!(RefusalStatus::parse("429").is_ok());
        for text in ["200", "399", "600", "x", "-1"] {
            assert!(RefusalStatus::parse(text).is_err(), "{text}");
        }
    }
}
