//! An attempt to sign in: reserved by its request, settled by what the backend says to it.

use std::net::IpAddr;

use http::header::USER_AGENT;
use smallvec::SmallVec;

use super::guard::{NewBlock, Suspected};
use super::policies::Policies;
use super::{Gateway, Head};
use crate::decision::key::KeyHash;
use crate::decision::limit::{Limit, Mode};
use crate::decision::plan::Identity;
use crate::decision::route::RouteIndex;
use crate::decision::suspicion::Suspect;
use crate::decision::tally::{Aftermath, Charge, Held, Judgement, Outcome, Settlement};
use crate::decision::time::Timestamp;
use crate::decision::verdict::Began;
use crate::journal::{EventKind, Reason};

/// An admitted request whose answer tells whether somebody guessed wrongly.
#[derive(Debug)]
#[must_use = "an attempt that nobody settles counts as failed when its lease ends"]
pub struct Attempt {
    pub(super) route: RouteIndex,
    pub(super) holdings: SmallVec<[Holding; 2]>,
    pub(super) suspects: SmallVec<[Suspected; 1]>,
    pub(super) sender: Sender,
}

/// The reservation under one limit.
#[derive(Debug)]
pub(super) struct Holding {
    /// The number of the limit in its route.
    pub(super) limit: u8,
    pub(super) key: KeyHash,
    pub(super) held: Held,
    pub(super) identity: Identity,
}

/// Who sent a request, as far as the journal wants to know.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) client: IpAddr,
    pub(super) user_agent: Option<Box<str>>,
    pub(super) trace_id: Option<Box<str>>,
}

impl Sender {
    pub(super) fn of(client: IpAddr, head: &Head<'_>) -> Sender {
        const USER_AGENT_MAX: usize = 256;
        let agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = agent.map(|agent| agent.chars().take(USER_AGENT_MAX).collect());
        let trace_id = head.trace.map(|trace| trace.to_string().into());
        Sender { client, user_agent, trace_id }
    }
}

impl Gateway {
    /// Learns what became of an attempt: settles what it reserved, and tells who is kept out by it.
    ///
    /// A block that it began is on disk when this returns, and so is before any refusal by it.
    pub async fn observe(&self, policies: &Policies, attempt: Attempt, outcome: Outcome) {
        let now = self.clock.now();
        let route = policies.rules.route(attempt.route);
        let handles = policies.handles(Some(attempt.route));
        handles.attempted(outcome);
        let held: SmallVec<[(&Holding, &Limit); 2]> = attempt
            .holdings
            .iter()
            .filter_map(|holding| Some((holding, route.limits().get(usize::from(holding.limit))?)))
            .collect();
        let settlements: SmallVec<[Settlement<'_>; 2]> = held
            .iter()
            .map(|(holding, limit)| Settlement {
                charge: Charge { key: holding.key, limit },
                held: holding.held,
                outcome,
            })
            .collect();
        let aftermaths = self.store.settle(&settlements, now).await;
        if outcome != Outcome::Failure {
            return;
        }
        self.note_failure(policies, &attempt, now);
        for ((holding, limit), aftermath) in held.into_iter().zip(aftermaths) {
            if limit.mode == Mode::Enforce {
                self.after_failure(policies, &attempt, holding, &aftermath, now).await;
            }
        }
        self.suspect(policies, Suspect::Failure, &attempt.suspects, &attempt.sender, now).await;
    }

    /// What a failure did to one key.
    async fn after_failure(
        &self,
        policies: &Policies,
        attempt: &Attempt,
        holding: &Holding,
        aftermath: &Aftermath,
        now: Timestamp,
    ) {
        match aftermath.judgement {
            Judgement::Blocked { began: Some(block), .. } => {
                let began = Began { limit: holding.limit, block, attempts: aftermath.failures };
                let block = NewBlock {
                    route: attempt.route,
                    began,
                    key: holding.key,
                    identity: &holding.identity,
                    reason: Reason::Failures,
                };
                self.begin_block(policies, block, &attempt.sender, now).await;
            }
            Judgement::Waits { retry_at } => {
                let handles = policies.handles(Some(attempt.route));
                handles.backed_off();
                let detail =
                    format!("{} in a row, {}s to wait", aftermath.failures, now.until(retry_at).ceil_secs());
                let mut event = self.event(EventKind::Backoff, handles, &attempt.sender, now);
                handles.label(holding.limit, &mut event);
                event.identifier = super::events::identifier(&holding.identity);
                event.detail = Some(detail.into());
                self.journal.note(event);
            }
            Judgement::Admits
            | Judgement::Exceeded { .. }
            | Judgement::Blocked { began: None, .. }
            | Judgement::Pending { .. }
            | Judgement::Undecided { .. } => {}
        }
    }

    fn note_failure(&self, policies: &Policies, attempt: &Attempt, now: Timestamp) {
        let handles = policies.handles(Some(attempt.route));
        let mut event = self.event(EventKind::Failure, handles, &attempt.sender, now);
        if let Some(first) = attempt.holdings.first() {
            handles.label(first.limit, &mut event);
            event.identifier = super::events::identifier(&first.identity);
        }
        self.journal.note(event);
    }
}
