//! The compiled rules of one configuration: what one request sees from end to end.

use std::net::IpAddr;

use http::HeaderName;

use super::answer::{Cors, HeaderStyle, LimitedAnswer};
use super::client::ClientRules;
use super::failure::FailureRule;
use super::headers::QuotaNames;
use super::ipset::IpSet;
use super::key::{FieldPath, Form, KeyPart, KeySpec, Missing};
use super::limit::Limit;
use super::otp::OtpRoute;
use super::path::RiskyBytes;
use super::reject::RejectRule;
use super::route::{RouteIndex, RoutePattern, RouteTable, Tie};
use super::suspicion::{BanSpec, Suspect, Suspicion};

/// Everything the decision needs to know of a configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    table: RouteTable,
    routes: Box<[Route]>,
    pub access: Access,
    pub client: ClientRules,
    pub headers: HeaderStyle,
    pub cors: Cors,
    pub suspicion: Box<[Suspicion]>,
}

/// What stands before any limit.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Never limited.
    pub allow: IpSet,
    /// 403.
    pub deny: IpSet,
}

/// What the access lists say of an address. Denied beats allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Denied,
    Allowed,
    Ordinary,
}

impl Access {
    pub fn standing(&self, address: IpAddr) -> Standing {
        if self.deny.contains(address) {
            Standing::Denied
        } else if self.allow.contains(address) {
            Standing::Allowed
        } else {
            Standing::Ordinary
        }
    }
}

/// Which of the configured upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamIndex(pub usize);

/// Who answers the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Upstream(UpstreamIndex),
    Otp(OtpRoute),
}

/// Headers by which a client could change the method or path that a backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideHeaders {
    Stripped,
    Forwarded,
}

/// What the file says of a route.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    pub name: Box<str>,
    pub pattern: RoutePattern,
    pub target: Target,
    /// At most [`Route::LIMITS_MAX`], of its policies and its own, in the order of the file.
    pub limits: Vec<Limit>,
    /// At most [`Route::REJECTS_MAX`]; the first that applies answers.
    pub rejects: Vec<RejectRule>,
    /// Encoded bytes that the route lets through to the backend.
    pub allowed_risky: RiskyBytes,
    pub override_headers: OverrideHeaders,
    pub limited: LimitedAnswer,
    /// Which answers are a failed attempt; none where nobody counts failures.
    pub failure: Option<FailureRule>,
    /// What each of its requests counts as against its sender.
    pub suspect: Option<Suspect>,
}

/// A route with what follows from its rules worked out.
#[derive(Clone, Debug)]
pub struct Route {
    spec: RouteSpec,
    body_fields: Box<[FieldPath]>,
    needs_user: bool,
    quota_names: QuotaNames,
    /// What its requests can be banned by: their address, what suspicion adds up, what its limits count by.
    bans: Box<[BanSpec]>,
}

impl Route {
    /// How many limits one request can be charged with.
    pub const LIMITS_MAX: usize = 16;
    pub const REJECTS_MAX: usize = 16;

    pub fn new(spec: RouteSpec) -> Route {
        let mut body_fields: Vec<FieldPath> = Vec::new();
        for part in spec.limits.iter().flat_map(|limit| &limit.key.parts) {
            match part {
                KeyPart::Body(field) if !body_fields.contains(field) => body_fields.push(field.clone()),
                KeyPart::Body(_)
                | KeyPart::Ip
                | KeyPart::Network
                | KeyPart::User
                | KeyPart::Phone
                | KeyPart::Global
                | KeyPart::ClientCert
                | KeyPart::Header(_)
                | KeyPart::Cookie(_)
                | KeyPart::Query(_)
                | KeyPart::Path(_) => {}
            }
        }
        for rule in &spec.rejects {
            if !body_fields.contains(&rule.field) {
                body_fields.push(rule.field.clone());
            }
        }
        if let Target::Otp(otp) = spec.target {
            // Literals of ours: each is a path.
            let own = otp.operation.fields().iter().filter_map(|name| FieldPath::parse(name));
            let own: Vec<FieldPath> = own.filter(|field| !body_fields.contains(field)).collect();
            body_fields.extend(own);
        }
        Route {
            needs_user: spec.limits.iter().any(|limit| limit.key.needs_user()),
            body_fields: body_fields.into_boxed_slice(),
            quota_names: QuotaNames::of(&spec.limits),
            bans: Box::default(),
            spec,
        }
    }

    fn with_bans(mut self, suspicion: &[Suspicion]) -> Route {
        let ip =
            KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Skip };
        let suspected = suspicion.iter().map(|rule| rule.ban.clone());
        let counted = self.spec.limits.iter().map(|limit| &limit.key);
        let counted = counted
            .filter(|key| !key.parts.contains(&KeyPart::Global))
            .map(|key| BanSpec::new(KeySpec { missing: Missing::Skip, ..key.clone() }));
        let mut bans: Vec<BanSpec> = Vec::new();
        for ban in [BanSpec::new(ip)].into_iter().chain(suspected).chain(counted) {
            if bans.iter().all(|known| known.id != ban.id) {
                bans.push(ban);
            }
        }
        self.bans = bans.into_boxed_slice();
        self
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn pattern(&self) -> &RoutePattern {
        &self.spec.pattern
    }

    pub fn target(&self) -> Target {
        self.spec.target
    }

    pub fn limits(&self) -> &[Limit] {
        &self.spec.limits
    }

    pub fn rejects(&self) -> &[RejectRule] {
        &self.spec.rejects
    }

    pub fn limited(&self) -> &LimitedAnswer {
        &self.spec.limited
    }

    pub fn allowed_risky(&self) -> RiskyBytes {
        self.spec.allowed_risky
    }

    pub fn override_headers(&self) -> OverrideHeaders {
        self.spec.override_headers
    }

    /// The fields that limits count by, rejects look at and the gateway itself answers by; empty if the body need not be read.
    pub fn body_fields(&self) -> &[FieldPath] {
        &self.body_fields
    }

    pub fn needs_user(&self) -> bool {
        self.needs_user
    }

    pub fn failure(&self) -> Option<&FailureRule> {
        self.spec.failure.as_ref()
    }

    pub fn suspect(&self) -> Option<Suspect> {
        self.spec.suspect
    }

    pub fn bans(&self) -> &[BanSpec] {
        &self.bans
    }

    pub fn quota_names(&self) -> &QuotaNames {
        &self.quota_names
    }
}

impl Rules {
    /// # Errors
    /// Every pair of routes that tie.
    pub fn new(
        routes: Vec<Route>,
        access: Access,
        client: ClientRules,
        headers: HeaderStyle,
        cors: Cors,
        suspicion: Vec<Suspicion>,
    ) -> Result<Rules, Vec<Tie>> {
        let table = RouteTable::new(routes.iter().map(Route::pattern))?;
        let routes = routes.into_iter().map(|route| route.with_bans(&suspicion)).collect();
        let suspicion = suspicion.into_boxed_slice();
        Ok(Rules { table, routes, access, client, headers, cors, suspicion })
    }

    /// Whether a request may be refused because the shared store is away.
    pub fn need_the_store(&self) -> bool {
        self.routes.iter().flat_map(Route::limits).any(Limit::needs_the_store)
    }

    /// Whether some limit or ban looks at this header of a request to tell whom it counts.
    pub fn counts_by_header(&self, name: &HeaderName) -> bool {
        let limits = self.routes.iter().flat_map(|route| route.limits()).map(|limit| &limit.key);
        let mut keys = limits.chain(self.suspicion.iter().map(|suspicion| &suspicion.ban.key));
        keys.any(|key| key.parts.iter().any(|part| matches!(part, KeyPart::Header(header) if header == name)))
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The route of an index that [`RouteTable::find`] gave.
    pub fn route(&self, index: RouteIndex) -> &Route {
        &self.routes[index.0]
    }
}
