//! What a route matches: hosts and paths.

use std::fmt;

use serde_json::{Value as Json, json};

use super::address::host_of;
use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::Scalar;
use crate::decision::route::{HostPattern, PathPattern};

/// A path pattern, and how it was written.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) text: Box<str>,
    pub(crate) pattern: PathPattern,
}

impl Scalar for Path {
    const EXPECTED: &'static str = "a path such as /login, /users/{id} or /api/*";

    fn parse(text: &str) -> Result<Path, Wrong> {
        const BYTES_MAX: usize = 1024;
        if text.len() > BYTES_MAX {
            return Err(Wrong::new(format!("the path is longer than {BYTES_MAX} bytes")));
        }
        if text.contains(['?', '#']) {
            let path = text.split(['?', '#']).next().unwrap_or_default();
            return Err(
                Wrong::new("a path has no `?` and no `#`").write(format!("write {}", shortened(path)))
            );
        }
        match PathPattern::parse(text) {
            Ok(pattern) => Ok(Path { text: text.into(), pattern }),
            Err(error) if text.starts_with('/') => {
                Err(Wrong::new(format!("`{}` is not a path to match", shortened(text)))
                    .write(error.to_string()))
            }
            Err(_) => Err(Wrong::new(format!("`{}` does not begin with a slash", shortened(text)))
                .write(format!("write /{}", shortened(text)))),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^/", "examples": ["/login", "/users/{id}", "/api/*", "/*"] })
    }
}

/// A host pattern, and how it was written.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) text: Box<str>,
    pub(crate) pattern: HostPattern,
}

impl Scalar for Host {
    const EXPECTED: &'static str = "a host such as api.example.com or *.example.com";

    fn parse(text: &str) -> Result<Host, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), Host::EXPECTED));
        let pattern = match text.strip_prefix('*') {
            Some("") => return Err(wrong().write("leave `host` out to match every host")),
            Some(suffix) => {
                let name = suffix
                    .strip_prefix('.')
                    .ok_or_else(|| wrong().write("a star stands for whole labels"))?;
                HostPattern::Suffix(format!(".{}", host_of(name).ok_or_else(wrong)?).into())
            }
            None if text.contains("://") => return Err(wrong().write("leave out the scheme")),
            None if text.starts_with('[') => {
                host_of(text).ok_or_else(|| wrong().write("leave out the port"))?;
                HostPattern::Exact(text.to_ascii_lowercase().into())
            }
            None if text.contains(':') => return Err(wrong().write("leave out the port: hosts match on any")),
            None => HostPattern::Exact(host_of(text).ok_or_else(wrong)?.trim_end_matches('.').into()),
        };
        Ok(Host { text: text.into(), pattern })
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^(\\*\\.)?[^*:/]+$|^\\[.*\\]$", "examples": ["api.example.com", "*.example.com"] })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_exact_or_begin_with_a_star() {
        assert_eq!(
            Host::parse("API.example.com").unwrap().pattern,
            HostPattern::Exact("api.example.com".into())
        );
        assert_eq!(Host::parse("*.example.com").unwrap().pattern, HostPattern::Suffix(".example.com".into()));
        assert_eq!(Host::parse("[::1]").unwrap().pattern, HostPattern::Exact("[::1]".into()));
        for text in ["*", "*example.com", "a.*.com", "a:80", "https://a", "", "a b", "[::1]:80", "a..b"] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_begin_with_a_slash_and_have_no_query() {
        for text in ["/", "/*", "/users/{id}", "/api/*"] {
            assert!(Path::parse(text).is_ok(), "{text}");
        }
        let fix = |text| Path::parse(text).unwrap_err().fix.unwrap();
        assert_eq!(fix("login"), "write /login");
        assert_eq!(fix("/login?x=1"), "write /login");
        for text in ["/a*", "/*/b", "/{}", "/{a}b", "/{a}/{a}", "/a/../b", &format!("/{}", "a/".repeat(600))]
        {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }
}
