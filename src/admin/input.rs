//! What requests of the API bring: query parameters and JSON, read strictly.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use serde::de::DeserializeOwned;

use super::reply::Fault;
use crate::decision::query::pairs;
use crate::decision::rfc3339;
use crate::decision::time::Timestamp;

/// No body that anybody needs is larger, bytes.
const BODY_MAX: usize = 64 * 1024;
const PARAMETERS_MAX: usize = 64;
const VALUE_MAX: usize = 2048;

/// The query parameters of a request.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// All of them; one that `is_known` does not know is a mistake.
    pub(super) fn read(uri: &Uri, is_known: impl Fn(&str) -> bool) -> Result<Parameters, Fault> {
        let mut all = Vec::new();
        for pair in pairs(uri.query().unwrap_or_default()) {
            let (name, value) = pair.map_err(|fault| Fault::bad(format!("The query {fault}.")))?;
            if !is_known(&name) {
                return Err(Fault::bad(format!("There is no parameter {name:?}.")));
            }
            if all.len() >= PARAMETERS_MAX || value.len() > VALUE_MAX {
                return Err(Fault::bad("The query is too long."));
            }
            all.push((name.into_owned(), value.into_owned()));
        }
        Ok(Parameters(all))
    }

    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Parameters, Fault> {
        Parameters::read(uri, |name| known.contains(&name))
    }

    pub(super) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that may be there once; an empty one is as none.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())),
            (_, Some(_)) => Err(Fault::bad(format!("{name} is there several times."))),
        }
    }

    /// A parameter that `parse` understands; `what` tells what it should be.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| Fault::bad(format!("{name} is not {what}.")))
    }

    pub(super) fn limit(&self) -> Result<usize, Fault> {
        let sound = |text: &str| text.parse().ok().filter(|limit| (1..=500).contains(limit));
        Ok(self.parsed("limit", "a number from 1 to 500", sound)?.unwrap_or(50))
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Fault> {
        self.parsed(name, "a time such as 2027-01-15T08:00:00Z", rfc3339::read)
    }

    pub(super) fn address(&self, name: &str) -> Result<Option<IpAddr>, Fault> {
        self.parsed(name, "an IP address", |text| text.parse().ok())
    }

    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}

/// The body as JSON of a known shape.
pub(super) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Fault> {
    if !is_json(headers) {
        return Err(Fault::NotJson);
    }
    let bytes = axum::body::to_bytes(body, BODY_MAX).await.map_err(|_| Fault::TooLarge)?;
    serde_json::from_slice(&bytes).map_err(|error| Fault::bad(format!("The body does not fit: {error}.")))
}

/// Whether the body says that it is JSON. A page elsewhere cannot have a browser say so without asking us first.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Parameters, Fault> {
        Parameters::of(&format!("/x?{query}").parse().unwrap(), &["a", "limit", "since"])
    }

    #[test]
    fn parameters_are_decoded_and_known() {
        let found = read("a=1%202+3&limit=500").unwrap();
        assert_eq!(found.get("a").unwrap(), Some("1 2 3"));
        assert_eq!(found.limit().unwrap(), 500);
        assert_eq!(read("").unwrap().limit().unwrap(), 50);
        assert_eq!(read("a=").unwrap().get("a").unwrap(), None);
        for wrong in ["b=1", "a=%zz", "a=%ff", "a=1;b=2", "a=%00", &format!("a={}", "x".repeat(2049))] {
            assert!(matches!(read(wrong), Err(Fault::Bad(_))), "{wrong}");
        }
        assert!(read("a=1&a=2").unwrap().get("a").is_err());
        for wrong in ["limit=0", "limit=501", "limit=-1", "limit=x", "limit=99999999999999999999"] {
            assert!(read(wrong).unwrap().limit().is_err(), "{wrong}");
        }
        assert!(read("since=yesterday").unwrap().time("since").is_err());
    }

    #[test]
    fn only_json_is_json() {
        let check = |value: &'static str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_json(&headers), expected, "{value}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("text/plain", false);
        check("application/jsonx", false);
        check("text/plain; application/json", false);
        assert!(!is_json(&HeaderMap::new()));
    }
}
