//! What operators ask of one key: how much is left, until when it waits; and to forget it.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::Gateway;
use super::operator::OrderFault;
use super::policies::Policies;
use crate::decision::key::{KeyHash, KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{Limit, Rule};
use crate::decision::policy::Route;
use crate::decision::tally::{Charge, Judgement, Tally};
use crate::decision::time::Timestamp;
use crate::journal::{BlockRecord, Event, EventKind, Identifier};

/// The values of a request that nobody sends.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name of the route.
    pub route: Box<str>,
    /// By what they are counted as: `ip`, `user`, `body.email`.
    pub values: BTreeMap<String, String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Asked {
    #[error("there is no route {0:?}")]
    NoRoute(Box<str>),
    #[error("nothing of this route counts by {0}")]
    NotCounted(Box<str>),
    #[error(transparent)]
    Value(#[from] OrderFault),
}

/// One key of the request: of a limit, or of a block over all routes.
#[derive(Clone, Debug)]
pub struct KeyState {
    pub policy: Box<str>,
    /// What it counts by.
    pub key: Box<str>,
    pub identifier: Identifier,
    pub blocked_until: Option<Timestamp>,
    /// When one more request would be let through; none if it would be now.
    pub retry_at: Option<Timestamp>,
    pub windows: Vec<WindowState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowState {
    pub label: Box<str>,
    pub limit: u32,
    pub used: u32,
    /// When the first that is counted is not counted any more.
    pub resets_at: Option<Timestamp>,
}

/// A key that the request has.
struct Found<'r> {
    hash: KeyHash,
    identifier: Identifier,
    limit: &'r Limit,
}

impl Gateway {
    /// What would decide such a request, without charging anything. Limits for which a value is missing are left out.
    pub fn look(&self, policies: &Policies, question: &Question) -> Result<Vec<KeyState>, Asked> {
        let now = self.clock.now();
        let route = route_of(policies, question)?;
        let found = self.found(policies, route, question)?;
        let charges: Vec<Charge<'_>> =
            found.iter().map(|found| Charge { key: found.hash, limit: found.limit }).collect();
        let tallies = self.store.look(&charges, now);
        let mut states: Vec<KeyState> = found
            .into_iter()
            .zip(&tallies.list)
            .map(|(found, tally)| {
                let held = self.journal.book().until(found.hash, now);
                found.state(tally, held)
            })
            .collect();
        for record in self.bans(policies, route, question, now)? {
            states.push(KeyState {
                policy: record.policy.as_deref().unwrap_or("blocked").into(),
                key: (*record.key_kind).into(),
                identifier: record.identifier.clone(),
                blocked_until: Some(record.block.until),
                retry_at: Some(record.block.until),
                windows: Vec::new(),
            });
        }
        Ok(states)
    }

    /// Forgets all that is known of the keys of such a request: counters, blocks, and what added up. Which they were.
    pub async fn clear(
        &self,
        policies: &Policies,
        question: &Question,
        by: &str,
    ) -> Result<Vec<KeyState>, Asked> {
        let now = self.clock.now();
        let route = route_of(policies, question)?;
        let states = self.look(policies, question)?;
        for found in self.found(policies, route, question)? {
            self.forget(found.hash).await;
            self.journal.unblock(found.hash, Some(by), now).await;
        }
        for rule in &policies.rules.suspicion {
            let Some(any) = rule.any_limit() else { continue };
            if let Some((hash, _)) = self.hash(policies, any.id, &rule.ban.key, question)? {
                self.forget(hash).await;
            }
        }
        for record in self.bans(policies, route, question, now)? {
            self.release(&record, by).await;
        }
        for state in &states {
            self.journal.note(Event {
                route: Some(route.name().into()),
                policy: Some((*state.policy).into()),
                key: Some((*state.key).into()),
                identifier: Some(state.identifier.clone()),
                detail: Some(format!("by {by}: forgotten").into()),
                ..Event::new(EventKind::Admin, now)
            });
        }
        Ok(states)
    }

    fn found<'r>(
        &self,
        policies: &Policies,
        route: &'r Route,
        question: &Question,
    ) -> Result<Vec<Found<'r>>, Asked> {
        let mut all = Vec::new();
        for limit in route.limits() {
            if let Some((hash, identifier)) = self.hash(policies, limit.id, &limit.key, question)? {
                all.push(Found { hash, identifier, limit });
            }
        }
        Ok(all)
    }

    /// The blocks over all routes that such a request would meet.
    fn bans(
        &self,
        policies: &Policies,
        route: &Route,
        question: &Question,
        now: Timestamp,
    ) -> Result<Vec<Arc<BlockRecord>>, Asked> {
        let mut all = Vec::new();
        for ban in route.bans() {
            let hash = self.hash(policies, ban.id, &ban.key, question)?;
            all.extend(hash.and_then(|(hash, _)| self.journal.book().get(hash, now)));
        }
        Ok(all)
    }

    /// What a key is for these values, as [`Plan`](crate::decision::plan::Plan) makes it of a request.
    fn hash(
        &self,
        policies: &Policies,
        id: LimitId,
        key: &KeySpec,
        question: &Question,
    ) -> Result<Option<(KeyHash, Identifier)>, Asked> {
        let address = question.values.get("ip").map(String::as_str);
        let mut parts: Vec<(&KeyPart, &str)> = Vec::new();
        for part in &key.parts {
            let given = match part {
                KeyPart::Ip | KeyPart::Network => address.map(|ip| (part, ip)),
                KeyPart::Global => Some((part, "")),
                KeyPart::User => match question.values.get("user") {
                    Some(user) => Some((part, user.as_str())),
                    None => address.map(|ip| (&KeyPart::Ip, ip)),
                },
                KeyPart::ClientCert
                | KeyPart::Header(_)
                | KeyPart::Cookie(_)
                | KeyPart::Query(_)
                | KeyPart::Path(_)
                | KeyPart::Body(_)
                | KeyPart::Phone => match (question.values.get(&part.to_string()), key.missing) {
                    (Some(value), _) => Some((part, value.as_str())),
                    (None, Missing::Ip) => address.map(|ip| (&KeyPart::Ip, ip)),
                    (None, Missing::Skip | Missing::Reject) => None,
                },
            };
            match given {
                Some(given) => parts.push(given),
                None => return Ok(None),
            }
        }
        Ok(Some(self.key_of(policies, id, key.form, parts.into_iter())?))
    }
}

fn route_of<'p>(policies: &'p Policies, question: &Question) -> Result<&'p Route, Asked> {
    let routes = policies.rules.routes();
    let route = routes.iter().find(|route| *route.name() == *question.route);
    let route = route.ok_or_else(|| Asked::NoRoute(question.route.clone()))?;
    let counted = |name: &str| {
        let limits = route.limits().iter().map(|limit| &limit.key);
        let mut parts = limits.chain(route.bans().iter().map(|ban| &ban.key)).flat_map(|key| &key.parts);
        matches!(name, "ip" | "user") || parts.any(|part| part.to_string() == name)
    };
    match question.values.keys().find(|name| !counted(name)) {
        Some(name) => Err(Asked::NotCounted(name.as_str().into())),
        None => Ok(route),
    }
}

impl Found<'_> {
    fn state(self, tally: &Tally, held: Option<Timestamp>) -> KeyState {
        let of_store = match tally.judgement {
            Judgement::Blocked { until, .. } => Some(until),
            Judgement::Admits
            | Judgement::Exceeded { .. }
            | Judgement::Waits { .. }
            | Judgement::Pending { .. }
            | Judgement::Undecided { .. } => None,
        };
        let windows: Vec<(Box<str>, u32)> = match &self.limit.rule {
            Rule::Windows(windows) | Rule::Failures(windows) => {
                windows.list().iter().map(|window| (window.label.clone(), window.max.get())).collect()
            }
            Rule::Smooth(smooth) => vec![("smooth".into(), smooth.burst.get())],
            Rule::Backoff(_) => Vec::new(),
        };
        let blocked_until = of_store.max(held);
        KeyState {
            policy: self.limit.policy.clone(),
            key: self.limit.key.to_string().into(),
            identifier: self.identifier,
            blocked_until,
            retry_at: tally.judgement.retry_at().max(blocked_until),
            windows: windows
                .into_iter()
                .zip(&tally.windows)
                .map(|((label, limit), tally)| WindowState {
                    label,
                    limit,
                    used: tally.used.min(limit),
                    resets_at: tally.frees_at,
                })
                .collect(),
        }
    }
}
