//! From a request to its charges: which limits count it, and by which key.

use std::borrow::Cow;

use http::HeaderMap;
use smallvec::SmallVec;
use thiserror::Error;

use super::body::Fields;
use super::client::Client;
use super::cookie::{cookie_value, header_value};
use super::field::FieldFault;
use super::key::{FieldPath, KeyHash, KeyHasher, KeyPart, KeySpec, LimitId, Missing, PartTag};
use super::path::NormalPath;
use super::policy::Route;
use super::query::{query_has, query_value};
use super::tally::Charge;
use super::value::{ValueFault, normalise};

/// What the keys of a request are made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub client: &'a Client,
    /// Who sends it, if that was verified.
    pub user: Option<&'a [u8]>,
    /// Whom its certificate names, if it showed one.
    pub client_cert: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub path: &'a NormalPath,
    pub query: &'a str,
    /// Where a one-time code goes, once that is known.
    pub destination: Option<&'a str>,
}

/// The charges of a request, and which limit of the route each belongs to.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    limits: SmallVec<[u8; 8]>,
    keys: SmallVec<[KeyHash; 4]>,
}

/// Why a request cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanFault {
    #[error("{place} {name:?}: {fault}")]
    Field { place: Place, name: Box<str>, fault: FieldFault },
    #[error("{name:?}: {fault}")]
    Value { name: Box<str>, fault: ValueFault },
    #[error("{name:?} is required.")]
    Missing { name: Box<str> },
    #[error("{name:?} belongs in the body alone, not in the query.")]
    InQueryToo { name: Box<str> },
}

/// Where in a request a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Header,
    Cookie,
    Query,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Header => "Header",
            Place::Cookie => "Cookie",
            Place::Query => "Query parameter",
        })
    }
}

impl Plan {
    /// The charges of all limits that need no body.
    pub fn without_body(route: &Route, facts: &Facts<'_>, hasher: &KeyHasher) -> Result<Plan, PlanFault> {
        refuse_body_fields_in_query(route, facts)?;
        let mut plan = Plan::default();
        plan.extend(route, facts, hasher, Source::Head, |key| !key.needs_body())?;
        Ok(plan)
    }

    /// Adds the charges of the limits that count by a field of the body.
    pub fn add_body(
        &mut self,
        route: &Route,
        facts: &Facts<'_>,
        fields: &Fields,
        hasher: &KeyHasher,
    ) -> Result<(), PlanFault> {
        self.extend(route, facts, hasher, Source::Body(fields), KeySpec::needs_body)
    }

    /// Adds the charges of the limits that count by where a code goes, and none else: those hold for everybody.
    pub fn add_destination(
        &mut self,
        route: &Route,
        facts: &Facts<'_>,
        fields: &Fields,
        hasher: &KeyHasher,
    ) -> Result<(), PlanFault> {
        let is_due = |key: &KeySpec| key.parts.contains(&KeyPart::Phone);
        self.extend(route, facts, hasher, Source::Body(fields), is_due)
    }

    /// The numbers of the charged limits in their route.
    pub fn limits(&self) -> &[u8] {
        &self.limits
    }

    pub fn into_limits(self) -> SmallVec<[u8; 8]> {
        self.limits
    }

    /// The key that a limit of the route counts by, if it counts this request.
    pub fn key_of(&self, limit: usize) -> Option<KeyHash> {
        let place = self.limits.iter().position(|&index| usize::from(index) == limit)?;
        self.keys.get(place).copied()
    }

    pub fn charges<'r>(&self, route: &'r Route) -> SmallVec<[Charge<'r>; 4]> {
        let pairs = self.limits.iter().zip(&self.keys);
        pairs
            .filter_map(|(&index, &key)| {
                route.limits().get(usize::from(index)).map(|limit| Charge { key, limit })
            })
            .collect()
    }

    /// What the limit number `index` counts this request by, for people: the kind of each part and its value.
    /// Nothing where a part cannot be told any more.
    pub fn identity(index: u8, route: &Route, facts: &Facts<'_>, fields: Option<&Fields>) -> Identity {
        match route.limits().get(usize::from(index)) {
            Some(limit) => Plan::identity_by(&limit.key, route, facts, fields),
            None => Identity::new(),
        }
    }

    /// The same for any key.
    pub fn identity_by(key: &KeySpec, route: &Route, facts: &Facts<'_>, fields: Option<&Fields>) -> Identity {
        let reader = Reader { route, facts, source: Source::of(fields) };
        reader.identity(key).ok().flatten().unwrap_or_default()
    }

    /// The key of something that is counted or banned over all routes; none where the request has no such
    /// value, or one that cannot be told.
    pub fn key_by(
        id: LimitId,
        key: &KeySpec,
        route: &Route,
        facts: &Facts<'_>,
        fields: Option<&Fields>,
        hasher: &KeyHasher,
    ) -> Option<KeyHash> {
        if key.needs_user() && facts.user.is_none() {
            return None;
        }
        let reader = Reader { route, facts, source: Source::of(fields) };
        reader.key(id, key, hasher).ok().flatten()
    }

    fn extend(
        &mut self,
        route: &Route,
        facts: &Facts<'_>,
        hasher: &KeyHasher,
        source: Source<'_>,
        is_due: impl Fn(&KeySpec) -> bool,
    ) -> Result<(), PlanFault> {
        for (index, limit) in (0_u8..).zip(route.limits()) {
            if !is_due(&limit.key) || limit.exempt.contains(facts.client.address) {
                continue;
            }
            let reader = Reader { route, facts, source };
            if let Some(key) = reader.key(limit.id, &limit.key, hasher)? {
                self.limits.push(index);
                self.keys.push(key);
            }
        }
        Ok(())
    }
}

/// The parts of a key in clear text, each with its kind: `ip`, `body.email`.
pub type Identity = SmallVec<[(Box<str>, Box<str>); 2]>;

/// Backends that merge query and body would read the one where the gateway counts the other.
fn refuse_body_fields_in_query(route: &Route, facts: &Facts<'_>) -> Result<(), PlanFault> {
    if facts.query.is_empty() {
        return Ok(());
    }
    let first_name = |field: &FieldPath| field.names().next().map(str::to_owned);
    match route.body_fields().iter().filter_map(first_name).find(|name| query_has(facts.query, name)) {
        Some(name) => Err(PlanFault::InQueryToo { name: name.into() }),
        None => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Head,
    Body(&'a Fields),
}

impl<'a> Source<'a> {
    fn of(fields: Option<&'a Fields>) -> Source<'a> {
        fields.map_or(Source::Head, Source::Body)
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    route: &'a Route,
    facts: &'a Facts<'a>,
    source: Source<'a>,
}

/// What one part of a key is in this request.
enum PartValue<'a> {
    Ip,
    Network,
    Global,
    User(&'a [u8]),
    Text(Cow<'a, str>),
}

impl<'a> Reader<'a> {
    /// The key of one limit; none if it does not apply.
    fn key(&self, id: LimitId, key: &KeySpec, hasher: &KeyHasher) -> Result<Option<KeyHash>, PlanFault> {
        let mut writer = hasher.key(id);
        for part in &key.parts {
            match self.part(part, key)? {
                None => return Ok(None),
                Some(PartValue::Ip) => writer.push(PartTag::Ip, &self.facts.client.key_bytes()),
                Some(PartValue::Network) => {
                    writer.push(PartTag::Network, &self.facts.client.network_bytes());
                }
                Some(PartValue::Global) => writer.push(PartTag::Global, &[]),
                Some(PartValue::User(user)) => writer.push(PartTag::User, user),
                Some(PartValue::Text(text)) => writer.push(PartTag::Value, text.as_bytes()),
            }
        }
        Ok(Some(writer.finish()))
    }

    fn identity(&self, key: &KeySpec) -> Result<Option<Identity>, PlanFault> {
        let mut identity = Identity::new();
        for part in &key.parts {
            let kind = || part.to_string().into_boxed_str();
            identity.push(match self.part(part, key)? {
                None => return Ok(None),
                Some(PartValue::Ip) => ("ip".into(), self.facts.client.shown().into()),
                Some(PartValue::Network) => (kind(), self.facts.client.shown_network().into()),
                Some(PartValue::Global) => (kind(), "everybody".into()),
                Some(PartValue::User(user)) => (kind(), shown_user(user)),
                Some(PartValue::Text(text)) => (kind(), text.into()),
            });
        }
        Ok(Some(identity))
    }

    /// What a part of a key is here; none if its limit does not apply.
    fn part(&self, part: &KeyPart, key: &KeySpec) -> Result<Option<PartValue<'a>>, PlanFault> {
        match part {
            KeyPart::Ip => Ok(Some(PartValue::Ip)),
            KeyPart::Network => Ok(Some(PartValue::Network)),
            KeyPart::Global => Ok(Some(PartValue::Global)),
            KeyPart::User => Ok(Some(self.facts.user.map_or(PartValue::Ip, PartValue::User))),
            KeyPart::Phone => Ok(self.facts.destination.map(|to| PartValue::Text(Cow::Borrowed(to)))),
            KeyPart::ClientCert
            | KeyPart::Header(_)
            | KeyPart::Cookie(_)
            | KeyPart::Query(_)
            | KeyPart::Path(_)
            | KeyPart::Body(_) => {
                let named = |fault| PlanFault::Value { name: part.to_string().into(), fault };
                let value = match self.value(part)? {
                    Some(Cow::Borrowed(raw)) => normalise(key.form, raw).map_err(named)?,
                    Some(Cow::Owned(raw)) => {
                        let normal = normalise(key.form, &raw).map_err(named)?;
                        normal.map(|text| Cow::Owned(text.into_owned()))
                    }
                    None => None,
                };
                match (value, key.missing) {
                    (Some(value), _) => Ok(Some(PartValue::Text(value))),
                    (None, Missing::Ip) => Ok(Some(PartValue::Ip)),
                    (None, Missing::Skip) => Ok(None),
                    (None, Missing::Reject) => Err(PlanFault::Missing { name: part.to_string().into() }),
                }
            }
        }
    }

    fn value(&self, part: &KeyPart) -> Result<Option<Cow<'a, str>>, PlanFault> {
        let fault = |place, name: &str| {
            let name: Box<str> = name.into();
            move |fault| PlanFault::Field { place, name, fault }
        };
        match part {
            KeyPart::ClientCert => Ok(self.facts.client_cert.map(Cow::Borrowed)),
            KeyPart::Header(name) => {
                let value = header_value(self.facts.headers, name);
                Ok(value.map_err(fault(Place::Header, name.as_str()))?.map(Cow::Borrowed))
            }
            KeyPart::Cookie(name) => {
                cookie_value(self.facts.headers, name).map_err(fault(Place::Cookie, name))
            }
            KeyPart::Query(name) => query_value(self.facts.query, name).map_err(fault(Place::Query, name)),
            KeyPart::Path(name) => Ok(self.route.pattern().path.param(name, self.facts.path)),
            KeyPart::Body(field) => match self.source {
                Source::Body(fields) => Ok(fields.get(field).map(Cow::Borrowed)),
                Source::Head => Ok(None),
            },
            KeyPart::Ip | KeyPart::Network | KeyPart::User | KeyPart::Global | KeyPart::Phone => Ok(None),
        }
    }
}

/// What names a user may be no text: a hash of a cookie, of which a beginning is enough to tell two apart.
fn shown_user(user: &[u8]) -> Box<str> {
    match std::str::from_utf8(user) {
        Ok(text) if !text.chars().any(char::is_control) => text.into(),
        Ok(_) | Err(_) => user.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
    }
}
