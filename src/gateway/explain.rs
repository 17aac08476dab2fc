//! What a request would be told and why, for people: decided as every request is, recorded nowhere.

use http::Method;

use super::events::identifier;
use super::policies::Policies;
use super::{Exchange, Gateway, Seen, preflight_method};
use crate::decision::client::Client;
use crate::decision::key::{Form, KeyPart, KeySpec, Missing};
use crate::decision::limit::Limit;
use crate::decision::path::NormalPath;
use crate::decision::plan::Plan;
use crate::decision::policy::{Route, Standing};
use crate::decision::refusal::Refusal;
use crate::decision::route::RouteIndex;
use crate::decision::verdict::Grounds;
use crate::journal::Identifier;

/// One request, looked at from all sides.
#[derive(Debug)]
pub struct Explained {
    pub client: Client,
    pub standing: Standing,
    pub path: Option<NormalPath>,
    /// The method that a CORS preflight asks about, if it is one.
    pub preflight: Option<Method>,
    pub route: Option<RouteIndex>,
    pub user: UserSeen,
    /// What each limit of the route makes of it, in their order.
    pub limits: Vec<Counted>,
    /// Whether the values of the body passed the rules that reject.
    pub has_passed_rejects: bool,
    pub outcome: Result<Grounds, Refusal>,
}

/// Who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSeen {
    Nobody,
    /// As it is written down and shown.
    Known(Option<Identifier>),
}

/// What a limit makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The values that it counts by.
    By(Option<Identifier>),
    /// The address is one that the limit leaves out.
    Exempt,
    /// A value is missing, and the limit counts nobody then.
    Skipped,
    /// The request is not counted by any limit.
    Passed,
    /// It was refused before.
    Unreached,
}

impl Gateway {
    /// Decides a request as [`Gateway::admit`] does, and tells what was seen on the way. It is charged to the store,
    /// but leaves no line, no event and no block.
    pub async fn explain(&self, policies: &Policies, exchange: &mut impl Exchange) -> Explained {
        let mut seen = Seen::of(policies, exchange.head(), self.clock.now());
        let decided = self.decide(policies, exchange, &mut seen).await;
        let outcome = decided.map(|permit| permit.grounds());
        let head = exchange.head();
        let user = policies.users.identify(head.headers, seen.client.peer_is_trusted, seen.decided_at);
        seen.user = seen.user.or(user);
        let limits = match seen.route {
            Some(index) => seen.counted(policies.rules.route(index), exchange, &outcome),
            None => Vec::new(),
        };
        Explained {
            client: seen.client,
            standing: policies.rules.access.standing(seen.client.address),
            preflight: preflight_method(&head),
            user: seen.shown_user(policies, exchange),
            has_passed_rejects: seen.fields.is_some(),
            path: seen.path,
            route: seen.route,
            limits,
            outcome,
        }
    }
}

impl Seen {
    fn counted(
        &self,
        route: &Route,
        exchange: &impl Exchange,
        outcome: &Result<Grounds, Refusal>,
    ) -> Vec<Counted> {
        let numbered = (0_u8..).zip(route.limits());
        numbered.map(|(index, limit)| self.counted_by(index, limit, route, exchange, outcome)).collect()
    }

    fn counted_by(
        &self,
        index: u8,
        limit: &Limit,
        route: &Route,
        exchange: &impl Exchange,
        outcome: &Result<Grounds, Refusal>,
    ) -> Counted {
        if self.plan.key_of(usize::from(index)).is_some() {
            let facts = self.facts(exchange.head());
            let by = facts.ok().map(|facts| Plan::identity(index, route, &facts, self.fields.as_ref()));
            return Counted::By(by.as_ref().and_then(identifier));
        }
        let was_asked = !limit.key.needs_body() || self.fields.is_some();
        match outcome {
            _ if limit.exempt.contains(self.client.address) => Counted::Exempt,
            Ok(Grounds::Exempt) => Counted::Passed,
            Ok(Grounds::Charged) => Counted::Skipped,
            Err(
                Refusal::Limited(_)
                | Refusal::Banned { .. }
                | Refusal::StoreAway { .. }
                | Refusal::Rejected { .. },
            ) if was_asked => Counted::Skipped,
            Err(_) => Counted::Unreached,
        }
    }

    fn shown_user(&self, policies: &Policies, exchange: &impl Exchange) -> UserSeen {
        let (Some(_), Some(index), Ok(facts)) = (&self.user, self.route, self.facts(exchange.head())) else {
            return UserSeen::Nobody;
        };
        let key = KeySpec {
            parts: [KeyPart::User].into_iter().collect(),
            form: Form::Text,
            missing: Missing::Skip,
        };
        let identity = Plan::identity_by(&key, policies.rules.route(index), &facts, None);
        UserSeen::Known(identifier(&identity))
    }
}
