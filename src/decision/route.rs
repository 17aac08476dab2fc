//! Which route a request takes: the most specific match, whatever the order in the file.
//!
//! Host before path before method. Of two paths the one that is literal where the other is open
//! wins, segment by segment from the left. Two routes that could both win are an error when the
//! table is built, so a request never depends on the order of a file.

mod rivals;

use std::collections::HashMap;

use http::Method;
use smallvec::SmallVec;
use thiserror::Error;

pub use self::rivals::{Mismatch, Outranked};

use super::path::{NormalPath, decode_segment, fold_segment};

/// What a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    pub host: HostPattern,
    pub methods: Methods,
    pub path: PathPattern,
    pub letter_case: LetterCase,
    pub trailing_slash: TrailingSlash,
}

/// `api.example.com`, `*.example.com` or any host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Lower case, without port or trailing dot.
    Exact(Box<str>),
    /// What follows the star: `.example.com`.
    Suffix(Box<str>),
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    Any,
    /// `GET` answers `HEAD` too, as backends do, unless another route names `HEAD`.
    Only(SmallVec<[Method; 2]>),
}

/// Whether `/Login` is `/login`. It is by default: Express and IIS serve both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterCase {
    Ignored,
    Strict,
}

/// Whether `/login/` is `/login`. It is by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailingSlash {
    Ignored,
    Strict,
}

/// `/exact/path`, `/{param}/x`, `/prefix/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    segments: Box<[Segment]>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Decoded, in the case it was written.
    Literal(Box<str>),
    Param(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Bare,
    Slash,
    Wildcard,
}

/// Why a path pattern cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error("a path starts with /")]
    NoLeadingSlash,
    #[error("`*` stands alone at the end: /prefix/*")]
    StarInside,
    #[error("a parameter is a whole segment with a name: /users/{{id}}")]
    BadParam,
    #[error("parameter {0:?} is there twice")]
    SameParam(Box<str>),
    #[error("a path has at most {} segments", PathPattern::SEGMENTS_MAX)]
    TooDeep,
    #[error("{0}")]
    NotNormal(String),
}

impl PathPattern {
    pub const SEGMENTS_MAX: usize = 32;

    pub fn parse(text: &str) -> Result<PathPattern, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::NoLeadingSlash);
        }
        let (body, wildcard) = match text.strip_suffix("/*") {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if body.contains('*') {
            return Err(PatternError::StarInside);
        }
        let mut segments = Vec::new();
        for raw in body.split('/').filter(|segment| !segment.is_empty()) {
            segments.push(Segment::parse(raw, &segments)?);
        }
        if segments.len() > PathPattern::SEGMENTS_MAX {
            return Err(PatternError::TooDeep);
        }
        let end = match (wildcard, body.len() > 1 && body.ends_with('/')) {
            (true, _) => End::Wildcard,
            (false, true) => End::Slash,
            (false, false) => End::Bare,
        };
        Ok(PathPattern { segments: segments.into_boxed_slice(), end })
    }

    /// The names of the `{parameters}`.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    /// The value of one parameter in a path that this pattern matched, decoded.
    pub fn param<'p>(&self, name: &str, path: &'p NormalPath) -> Option<std::borrow::Cow<'p, str>> {
        let index = self.segments.iter().position(|segment| match segment {
            Segment::Param(param) => &**param == name,
            Segment::Literal(_) => false,
        })?;
        path.segments().nth(index).map(decode_segment)
    }

    fn literals_equal(&self, path: &NormalPath) -> bool {
        self.segments.iter().zip(path.segments()).all(|(pattern, segment)| match pattern {
            Segment::Literal(text) => **text == *decode_segment(segment),
            Segment::Param(_) => true,
        })
    }
}

impl Segment {
    fn parse(raw: &str, earlier: &[Segment]) -> Result<Segment, PatternError> {
        if raw.contains(['{', '}']) {
            let name = raw.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let name = name.filter(|name| !name.is_empty() && !name.contains(['{', '}']));
            let name = name.ok_or(PatternError::BadParam)?;
            let param = Segment::Param(name.into());
            return if earlier.contains(&param) {
                Err(PatternError::SameParam(name.into()))
            } else {
                Ok(param)
            };
        }
        let normal = NormalPath::parse(&format!("/{raw}"));
        let normal = normal.map_err(|fault| PatternError::NotNormal(fault.to_string()))?;
        let mut segments = normal.segments();
        match (segments.next(), segments.next()) {
            (Some(only), None) => Ok(Segment::Literal(decode_segment(only).into())),
            (Some(_) | None, _) => {
                Err(PatternError::NotNormal(format!("{raw:?} is not a plain path segment")))
            }
        }
    }
}

/// The number of a route in its table: its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIndex(pub usize);

/// Two routes of equal rank that some request would match both of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tie {
    pub first: RouteIndex,
    pub second: RouteIndex,
}

/// All routes, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    exact: HashMap<Box<str>, Node>,
    /// Longest suffix first.
    suffixes: Vec<(Box<str>, Node)>,
    any: Node,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Sorted by the folded segment.
    literals: Vec<(Box<str>, Node)>,
    param: Option<Box<Node>>,
    /// Routes that end here.
    here: Vec<Candidate>,
    /// Routes with a wildcard from here on.
    below: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Candidate {
    route: RouteIndex,
    pattern: RoutePattern,
}

impl RouteTable {
    /// # Errors
    /// Every pair of routes that tie.
    pub fn new<'p>(patterns: impl IntoIterator<Item = &'p RoutePattern>) -> Result<RouteTable, Vec<Tie>> {
        let mut table = RouteTable::default();
        let mut ties = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            let candidate = Candidate { route: RouteIndex(index), pattern: pattern.clone() };
            table.tree(&pattern.host).insert(candidate, &mut ties);
        }
        if ties.is_empty() { Ok(table) } else { Err(ties) }
    }

    /// The route of a request, or none. The host is asked for only where a route names one.
    pub fn find<'h>(
        &self,
        host: impl FnOnce() -> &'h str,
        method: &Method,
        path: &NormalPath,
    ) -> Option<RouteIndex> {
        let segments: SmallVec<[&str; 16]> = path.segments().take(PathPattern::SEGMENTS_MAX + 1).collect();
        let wanted = Wanted { method, path };
        if !self.exact.is_empty() || !self.suffixes.is_empty() {
            let host = bare_host(host());
            let by_suffix = || self.suffixes.iter().filter(|(suffix, _)| host.ends_with(&**suffix));
            let trees = self.exact.get(&*host).into_iter().chain(by_suffix().map(|(_, tree)| tree));
            for tree in trees {
                if let Some(found) = tree.find(&segments, &wanted) {
                    return Some(found);
                }
            }
        }
        self.any.find(&segments, &wanted)
    }

    fn tree(&mut self, host: &HostPattern) -> &mut Node {
        match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Suffix(suffix) => {
                let at = match self.suffixes.iter().position(|(known, _)| known == suffix) {
                    Some(at) => at,
                    None => {
                        let at = self.suffixes.partition_point(|(known, _)| known.len() >= suffix.len());
                        self.suffixes.insert(at, (suffix.clone(), Node::default()));
                        at
                    }
                };
                &mut self.suffixes[at].1
            }
            HostPattern::Any => &mut self.any,
        }
    }
}

/// A `Host` without port and trailing dot, in lower case.
pub fn bare_host(host: &str) -> std::borrow::Cow<'_, str> {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        Some(_) | None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

struct Wanted<'a> {
    method: &'a Method,
    path: &'a NormalPath,
}

impl Node {
    fn insert(&mut self, candidate: Candidate, ties: &mut Vec<Tie>) {
        let mut node = self;
        for segment in &*candidate.pattern.path.segments {
            node = match segment {
                Segment::Literal(text) => node.literal_or_insert(&fold_segment(text)),
                Segment::Param(_) => node.param.get_or_insert_default(),
            };
        }
        let list = match candidate.pattern.path.end {
            End::Bare | End::Slash => &mut node.here,
            End::Wildcard => &mut node.below,
        };
        let rivals = list.iter().filter(|rival| rival.pattern.ties_with(&candidate.pattern));
        ties.extend(rivals.map(|rival| Tie { first: rival.route, second: candidate.route }));
        list.push(candidate);
    }

    fn place(&self, folded: &str) -> Result<usize, usize> {
        self.literals.binary_search_by(|(known, _)| (**known).cmp(folded))
    }

    fn literal(&self, folded: &str) -> Option<&Node> {
        self.place(folded).ok().map(|at| &self.literals[at].1)
    }

    fn literal_or_insert(&mut self, folded: &str) -> &mut Node {
        let at = self.place(folded).unwrap_or_else(|at| {
            self.literals.insert(at, (folded.into(), Node::default()));
            at
        });
        &mut self.literals[at].1
    }

    /// Depth first, the more literal branch first; a branch whose routes refuse the method or
    /// the spelling is left again.
    fn find(&self, segments: &[&str], wanted: &Wanted<'_>) -> Option<RouteIndex> {
        let deeper = segments.split_first().and_then(|(segment, rest)| {
            self.literal(&fold_segment(segment))
                .and_then(|node| node.find(rest, wanted))
                .or_else(|| self.param.as_ref().and_then(|node| node.find(rest, wanted)))
        });
        let here = || if segments.is_empty() { wanted.choose(&self.here) } else { None };
        deeper.or_else(here).or_else(|| wanted.choose(&self.below))
    }
}

impl Wanted<'_> {
    /// A route that names the method, else one whose GET answers this HEAD, else one for any.
    fn choose(&self, candidates: &[Candidate]) -> Option<RouteIndex> {
        let spelled = || candidates.iter().filter(|candidate| self.is_spelled(&candidate.pattern));
        let names = |method: &Method| {
            spelled().find(|candidate| match &candidate.pattern.methods {
                Methods::Only(list) => list.contains(method),
                Methods::Any => false,
            })
        };
        let as_get = || if *self.method == Method::HEAD { names(&Method::GET) } else { None };
        let any = || spelled().find(|candidate| candidate.pattern.methods == Methods::Any);
        names(self.method).or_else(as_get).or_else(any).map(|candidate| candidate.route)
    }

    fn is_spelled(&self, pattern: &RoutePattern) -> bool {
        self.is_ended(pattern) && self.is_lettered(pattern)
    }

    fn is_ended(&self, pattern: &RoutePattern) -> bool {
        match (pattern.trailing_slash, pattern.path.end) {
            (TrailingSlash::Ignored, _) => true,
            (TrailingSlash::Strict, End::Bare) => !self.path.has_trailing_slash(),
            (TrailingSlash::Strict, End::Slash) => self.path.has_trailing_slash(),
            (TrailingSlash::Strict, End::Wildcard) => {
                self.path.has_trailing_slash()
                    || self.path.segments().nth(pattern.path.segments.len()).is_some()
            }
        }
    }

    fn is_lettered(&self, pattern: &RoutePattern) -> bool {
        match pattern.letter_case {
            LetterCase::Ignored => true,
            LetterCase::Strict => pattern.path.literals_equal(self.path),
        }
    }
}

impl RoutePattern {
    /// For two patterns on the same place of the tree.
    fn ties_with(&self, other: &RoutePattern) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (Methods::Any, Methods::Any) => true,
            (Methods::Only(a), Methods::Only(b)) => a.iter().any(|method| b.contains(method)),
            (Methods::Any, Methods::Only(_)) | (Methods::Only(_), Methods::Any) => false,
        };
        let apart_by_case = self.letter_case == LetterCase::Strict
            && other.letter_case == LetterCase::Strict
            && !self.path.same_literals(&other.path);
        let apart_by_slash = self.trailing_slash == TrailingSlash::Strict
            && other.trailing_slash == TrailingSlash::Strict
            && self.path.end != other.path.end;
        methods && !apart_by_case && !apart_by_slash
    }
}

impl PathPattern {
    fn same_literals(&self, other: &PathPattern) -> bool {
        self.segments.iter().zip(&*other.segments).all(|pair| match pair {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Literal(_) | Segment::Param(_), Segment::Param(_))
            | (Segment::Param(_), Segment::Literal(_)) => true,
        })
    }
}

#[cfg(test)]
mod tests;
