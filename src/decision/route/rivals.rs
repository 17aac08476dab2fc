//! Why a route does not take a request, for people. [`RouteTable::find`](super::RouteTable::find) alone decides.

use http::Method;

use super::{End, HostPattern, Methods, PathPattern, RoutePattern, Segment, Wanted, bare_host};
use crate::decision::path::{NormalPath, fold_segment};

/// The first thing in which a request is not what a route matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    Method,
    LetterCase,
    TrailingSlash,
    Path,
    Host,
}

/// In what the route that was taken is more specific than another that matches too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outranked {
    Host,
    Path,
    Method,
}

impl RoutePattern {
    /// Why it does not match a request; none if it does. `host` is as the client wrote it.
    pub fn mismatch(&self, host: &str, method: &Method, path: &NormalPath) -> Option<Mismatch> {
        let wanted = Wanted { method, path };
        let host = bare_host(host);
        let is_host = match &self.host {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Suffix(suffix) => host.ends_with(&**suffix),
            HostPattern::Any => true,
        };
        let is_method = match &self.methods {
            Methods::Any => true,
            Methods::Only(list) => {
                list.contains(method) || (*method == Method::HEAD && list.contains(&Method::GET))
            }
        };
        let holds = [
            (Mismatch::Host, is_host),
            (Mismatch::Path, self.path.reaches(path)),
            (Mismatch::TrailingSlash, wanted.is_ended(self)),
            (Mismatch::LetterCase, wanted.is_lettered(self)),
            (Mismatch::Method, is_method),
        ];
        holds.into_iter().find(|(_, holds)| !holds).map(|(mismatch, _)| mismatch)
    }

    /// For two patterns that match the same request, the other of which was taken.
    pub fn outranked_by(&self, taken: &RoutePattern) -> Outranked {
        if self.host != taken.host {
            Outranked::Host
        } else if self.path.shape().ne(taken.path.shape()) {
            Outranked::Path
        } else {
            Outranked::Method
        }
    }
}

impl PathPattern {
    /// Whether it matches but for letter case and the slash at the end.
    fn reaches(&self, path: &NormalPath) -> bool {
        let (own, sent) = (self.segments.len(), path.segments().count());
        let is_long_enough = match self.end {
            End::Bare | End::Slash => sent == own,
            End::Wildcard => sent >= own,
        };
        is_long_enough
            && self.segments.iter().zip(path.segments()).all(|(pattern, segment)| match pattern {
                Segment::Literal(text) => fold_segment(text) == fold_segment(segment),
                Segment::Param(_) => true,
            })
    }

    /// Which segments are open, and whether the end is.
    fn shape(&self) -> impl Iterator<Item = Openness> {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(_) => Openness::Literal,
            Segment::Param(_) => Openness::Param,
        });
        let end = match self.end {
            End::Bare | End::Slash => None,
            End::Wildcard => Some(Openness::Wildcard),
        };
        segments.chain(end)
    }
}

#[derive(PartialEq, Eq)]
enum Openness {
    Literal,
    Param,
    Wildcard,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decision::route::{LetterCase, RouteIndex, RouteTable, TrailingSlash};

    fn pattern(host: &str, methods: &[Method], path: &str, strict: bool) -> RoutePattern {
        RoutePattern {
            host: match host {
                "" => HostPattern::Any,
                _ => match host.strip_prefix('*') {
                    Some(suffix) => HostPattern::Suffix(suffix.into()),
                    None => HostPattern::Exact(host.into()),
                },
            },
            methods: match methods {
                [] => Methods::Any,
                _ => Methods::Only(methods.iter().cloned().collect()),
            },
            path: PathPattern::parse(path).unwrap(),
            letter_case: if strict { LetterCase::Strict } else { LetterCase::Ignored },
            trailing_slash: if strict { TrailingSlash::Strict } else { TrailingSlash::Ignored },
        }
    }

    #[test]
    fn the_first_thing_that_is_not_so_is_told() {
        let login = pattern("a.example", &[Method::POST], "/api/Login", true);
        let check = |host: &str, method: Method, path: &str, expected: Option<Mismatch>| {
            let path = NormalPath::parse(path).unwrap();
            assert_eq!(login.mismatch(host, &method, &path), expected, "{method} {host}{}", path.as_str());
        };
        check("A.example:80", Method::POST, "/api/Login", None);
        check("b.example", Method::GET, "/", Some(Mismatch::Host));
        check("a.example", Method::GET, "/api", Some(Mismatch::Path));
        check("a.example", Method::GET, "/api/Login/", Some(Mismatch::TrailingSlash));
        check("a.example", Method::GET, "/api/login", Some(Mismatch::LetterCase));
        check("a.example", Method::GET, "/api/Login", Some(Mismatch::Method));
        let read = pattern("", &[Method::GET], "/api/{id}/*", false);
        let path = NormalPath::parse("/API/7").unwrap();
        assert_eq!(read.mismatch("", &Method::HEAD, &path), None);
    }

    #[test]
    fn who_is_more_specific_is_told_by_what() {
        let base = pattern("", &[], "/a/{id}", false);
        assert_eq!(base.outranked_by(&pattern("*.example", &[], "/*", false)), Outranked::Host);
        assert_eq!(base.outranked_by(&pattern("", &[], "/a/b", false)), Outranked::Path);
        assert_eq!(base.outranked_by(&pattern("", &[Method::GET], "/a/{name}", false)), Outranked::Method);
    }

    proptest! {
        /// What is told and what is done are two pieces of code: they must agree.
        #[test]
        fn a_route_is_found_exactly_if_some_pattern_matches(
            written in prop::collection::vec(
                ("(|a\\.example|\\*\\.example)", prop::sample::subsequence(vec![Method::GET, Method::POST], 0..=2),
                 "(/|/\\*|(/(a|B|\\{p\\})){1,3}(|/|/\\*))", any::<bool>()),
                1..6,
            ),
            host in "(a|b)\\.(example|test)",
            method in prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::PUT]),
            path in "(/|(/(a|A|b|B|c)){1,4}/?)",
        ) {
            // A parameter cannot be there twice.
            let named = |path: &str| {
                path.split('/').enumerate().map(|(at, part)| if part == "{p}" { format!("{{p{at}}}") } else { part.into() })
                    .collect::<Vec<String>>().join("/")
            };
            let patterns: Vec<RoutePattern> = written.iter()
                .map(|(host, methods, path, strict)| pattern(host, methods, &named(path), *strict)).collect();
            let Ok(table) = RouteTable::new(&patterns) else { return Ok(()) };
            let path = NormalPath::parse(&path).unwrap();
            let found = table.find(|| &host, &method, &path);
            let matching: Vec<RouteIndex> = patterns.iter().enumerate()
                .filter(|(_, pattern)| pattern.mismatch(&host, &method, &path).is_none())
                .map(|(index, _)| RouteIndex(index)).collect();
            prop_assert_eq!(found.is_some(), !matching.is_empty());
            if let Some(found) = found {
                prop_assert!(matching.contains(&found), "{:?} of {:?}", found, matching);
            }
        }
    }
}
