//! What is told of a decision: metrics, the one line of a refusal, its event; and what follows from it.

use ring::rand::SecureRandom as _;

use super::attempt::Sender;
use super::events::{Alike, identifier};
use super::guard::NewBlock;
use super::policies::{CauseLabels, Policies};
use super::{Admission, Gateway, Head, Seen};
use crate::decision::key::{KeyHash, LimitId, PartTag};
use crate::decision::limit::{Mode, WhileBlocked};
use crate::decision::otp::OtpFault;
use crate::decision::plan::{Identity, Plan};
use crate::decision::policy::Rules;
use crate::decision::refusal::Refusal;
use crate::decision::suspicion::Suspect;
use crate::decision::time::Timestamp;
use crate::decision::verdict::{Cause, Grounds, Permit};
use crate::journal::{BlockId, EventKind, Reason};
use crate::telemetry::{RefusalLine, Verdict};

impl Gateway {
    /// Counts what became of a request, writes the one line of a refusal, and notes its event. What is counted.
    pub(super) fn record(
        &self,
        policies: &Policies,
        seen: &Seen,
        outcome: &Result<Permit, Refusal>,
        head: Head<'_>,
    ) -> Verdict {
        let handles = policies.handles(seen.route);
        for _ in 0..seen.shared {
            self.metrics.overflowed();
        }
        for &cause in &seen.shadowed {
            handles.count_cause(cause, Mode::Shadow);
        }
        let verdict = match outcome {
            Ok(permit) => match permit.grounds() {
                Grounds::Charged => Verdict::Admitted,
                Grounds::Exempt => Verdict::Exempt,
            },
            Err(refusal) => verdict_of(refusal),
        };
        handles.count(verdict);
        if let Err(refusal) = outcome {
            self.record_refusal(policies, seen, refusal, verdict, head);
        }
        verdict
    }

    fn record_refusal(
        &self,
        policies: &Policies,
        seen: &Seen,
        refusal: &Refusal,
        verdict: Verdict,
        head: Head<'_>,
    ) {
        let handles = policies.handles(seen.route);
        let (labels, retry_at) = match refusal {
            Refusal::Limited(limited) => {
                limited.all.iter().for_each(|&cause| handles.count_cause(cause, Mode::Enforce));
                (handles.labels(limited.cause), Some(limited.retry_at))
            }
            Refusal::Banned { until, key } => (CauseLabels::of_ban(key), Some(*until)),
            Refusal::Rejected { rule, .. } => (handles.reject_labels(*rule), None),
            Refusal::Malformed { .. }
            | Refusal::Method
            | Refusal::UriTooLong
            | Refusal::Denied
            | Refusal::NoRoute
            | Refusal::BodyTimedOut
            | Refusal::BodyTooLarge
            | Refusal::Unsupported { .. }
            | Refusal::StoreAway { .. }
            | Refusal::Otp(_)
            | Refusal::ClientGone => (CauseLabels::default(), None),
        };
        let line = RefusalLine {
            route: handles.name(),
            verdict,
            status: refusal.status().as_u16(),
            policy: labels.policy,
            key: labels.key,
            window: labels.window,
            rule: labels.rule,
            retry_after_s: retry_at.map(|retry_at| seen.decided_at.until(retry_at).ceil_secs()),
            client: seen.client.address,
            method: head.method.as_str(),
            path: head.path,
            request_id: head.request_id,
            trace: head.trace,
        };
        self.refusals.refused(&line, seen.decided_at);
        if let Some(kind) = event_kind(refusal) {
            self.note_refusal(policies, seen, refusal, kind, head);
        }
    }

    /// The event of a refusal; of many alike, one that counts them.
    fn note_refusal(
        &self,
        policies: &Policies,
        seen: &Seen,
        refusal: &Refusal,
        kind: EventKind,
        head: Head<'_>,
    ) {
        let handles = policies.handles(seen.route);
        let limit = match refusal {
            Refusal::Limited(limited) => Some(limited.cause.limit()),
            _ => None,
        };
        let counted = limit.and_then(|limit| seen.plan.key_of(limit));
        let key = counted.unwrap_or_else(|| self.key_of_sender(seen));
        self.repeats.note(&self.journal, Alike { kind, key }, seen.decided_at, || {
            let sender = Sender::of(seen.client.address, &head);
            let mut event = self.event(kind, handles, &sender, seen.decided_at);
            match refusal {
                Refusal::Limited(limited) => {
                    handles.label_cause(limited.cause, &mut event);
                    event.identifier = identifier(&seen.identity(policies, limited.cause, head));
                }
                Refusal::Banned { key, .. } => event.key = Some(key.clone()),
                Refusal::Rejected { rule, .. } => {
                    event.detail = handles.reject_labels(*rule).rule.map(Into::into);
                }
                _ => {}
            }
            event
        });
    }

    /// What makes refusals alike that no limit decided: the address.
    fn key_of_sender(&self, seen: &Seen) -> KeyHash {
        let mut writer = self.hasher.key(LimitId::derive(&["events by address"]));
        writer.push(PartTag::Ip, &seen.client.key_bytes());
        writer.finish()
    }

    /// What follows from a decision, before the answer leaves: blocks are written down, suspicion adds up. Until when
    /// its sender is banned, if this was too much.
    pub(super) async fn consequences(
        &self,
        policies: &Policies,
        seen: &Seen,
        outcome: &Result<Permit, Refusal>,
        head: Head<'_>,
    ) -> Option<Timestamp> {
        let index = seen.route?;
        let route = policies.rules.route(index);
        let sender = Sender::of(seen.client.address, &head);
        for &began in &seen.began {
            let Some(key) = seen.plan.key_of(usize::from(began.limit)) else { continue };
            let counts_failures =
                route.limits().get(usize::from(began.limit)).is_some_and(|l| l.rule.counts_failures());
            let reason = if counts_failures { Reason::Failures } else { Reason::Limit };
            let identity = seen.identity(policies, Cause::Block { limit: began.limit }, head);
            let block = NewBlock { route: index, began, key, identity: &identity, reason };
            self.begin_block(policies, block, &sender, seen.decided_at).await;
        }
        if let Some((limit, until)) = self.prolonged(policies, seen, outcome)
            && let Some(key) = seen.plan.key_of(limit)
        {
            self.write_longer(key, until).await;
        }
        let (suspect, facts) = (seen.suspect(policies, outcome)?, seen.facts(head).ok()?);
        let suspects = self.suspects(policies, route, &facts, seen.fields.as_ref());
        self.suspect(policies, suspect, &suspects, &sender, seen.decided_at).await
    }

    /// The limit whose block this refusal prolonged, if it is one that does, and until when.
    pub(super) fn prolonged(
        &self,
        policies: &Policies,
        seen: &Seen,
        outcome: &Result<Permit, Refusal>,
    ) -> Option<(usize, Timestamp)> {
        let Err(Refusal::Limited(limited)) = outcome else { return None };
        let Cause::Block { limit } = limited.cause else { return None };
        let limit = usize::from(limit);
        let rule = policies.rules.route(seen.route?).limits().get(limit)?.block?;
        (rule.while_blocked == WhileBlocked::Prolongs).then_some((limit, limited.retry_at))
    }

    pub(super) fn block_id(&self, now: Timestamp) -> BlockId {
        let mut random = [0; 10];
        // Without randomness ids of one millisecond may be alike; blocks go by their keys.
        let _ = self.random.fill(&mut random);
        BlockId::new(now, random)
    }
}

impl Admission {
    /// What it was counted by: of a refusal, what refused it.
    pub fn keys(&self, rules: &Rules) -> Vec<Box<str>> {
        let limits = self.route.map(|index| rules.route(index).limits()).unwrap_or_default();
        let named = |limit: usize| limits.get(limit).map(|limit| limit.key.to_string().into_boxed_str());
        match &self.outcome {
            Err(Refusal::Limited(limited)) => named(limited.cause.limit()).into_iter().collect(),
            Err(Refusal::Banned { key, .. }) => vec![(**key).into()],
            Ok(_) | Err(_) => {
                let mut keys: Vec<Box<str>> =
                    self.charged.iter().filter_map(|&limit| named(usize::from(limit))).collect();
                keys.sort_unstable();
                keys.dedup();
                keys
            }
        }
    }
}

impl Seen {
    /// Whether anything follows from a decision but its answer. Nearly always nothing does.
    pub(super) fn has_consequences(&self, policies: &Policies, outcome: &Result<Permit, Refusal>) -> bool {
        !self.began.is_empty() || self.suspect(policies, outcome).is_some()
    }

    /// What this request counts as against its sender, if anybody counts that.
    fn suspect(&self, policies: &Policies, outcome: &Result<Permit, Refusal>) -> Option<Suspect> {
        if policies.rules.suspicion.is_empty() {
            return None;
        }
        match outcome {
            Ok(permit) if permit.grounds() == Grounds::Charged => policies.rules.route(self.route?).suspect(),
            Err(Refusal::Limited(limited)) => match limited.cause {
                Cause::Window(_) | Cause::Backoff { .. } => Some(Suspect::Limited),
                // Who is blocked is not blocked for longer by asking again; who waits for others did nothing.
                Cause::Block { limit } if self.began.iter().any(|began| began.limit == limit) => {
                    Some(Suspect::Limited)
                }
                Cause::Block { .. } | Cause::Pending { .. } => None,
            },
            Ok(_) | Err(_) => None,
        }
    }

    /// What a limit counts this request by, in clear text.
    fn identity(&self, policies: &Policies, cause: Cause, head: Head<'_>) -> Identity {
        let limit = u8::try_from(cause.limit()).unwrap_or(u8::MAX);
        match (self.route, self.facts(head)) {
            (Some(index), Ok(facts)) => {
                Plan::identity(limit, policies.rules.route(index), &facts, self.fields.as_ref())
            }
            (Some(_) | None, Ok(_) | Err(_)) => Identity::new(),
        }
    }
}

fn event_kind(refusal: &Refusal) -> Option<EventKind> {
    match refusal {
        Refusal::Limited(limited) => match limited.cause {
            Cause::Window(_) | Cause::Pending { .. } | Cause::Block { .. } | Cause::Backoff { .. } => {
                Some(EventKind::Limited)
            }
        },
        Refusal::Banned { .. } => Some(EventKind::Limited),
        Refusal::Rejected { .. } => Some(EventKind::Rejected),
        Refusal::Denied => Some(EventKind::Denied),
        Refusal::Malformed { .. }
        | Refusal::Method
        | Refusal::UriTooLong
        | Refusal::NoRoute
        | Refusal::BodyTimedOut
        | Refusal::BodyTooLarge
        | Refusal::Unsupported { .. }
        | Refusal::StoreAway { .. }
        | Refusal::Otp(_)
        | Refusal::ClientGone => None,
    }
}

fn verdict_of(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::Malformed { .. } | Refusal::Method | Refusal::UriTooLong => Verdict::Malformed,
        Refusal::Denied => Verdict::Denied,
        Refusal::Banned { .. } => Verdict::Blocked,
        Refusal::NoRoute => Verdict::NoRoute,
        Refusal::Rejected { .. } => Verdict::Rejected,
        Refusal::StoreAway { .. } => Verdict::StoreAway,
        Refusal::BodyTimedOut | Refusal::BodyTooLarge | Refusal::Unsupported { .. } | Refusal::ClientGone => {
            Verdict::BodyRefused
        }
        Refusal::Limited(limited) => match limited.cause {
            Cause::Window(_) | Cause::Pending { .. } => Verdict::Limited,
            Cause::Backoff { .. } => Verdict::BackedOff,
            Cause::Block { .. } => Verdict::Blocked,
        },
        Refusal::Otp(fault) => match fault {
            OtpFault::Request { .. }
            | OtpFault::Phone
            | OtpFault::Email
            | OtpFault::Channel
            | OtpFault::NotFound
            | OtpFault::Forged => Verdict::Malformed,
            OtpFault::NoStore => Verdict::StoreAway,
            OtpFault::Country
            | OtpFault::NumberKind
            | OtpFault::WrongCode { .. }
            | OtpFault::Expired
            | OtpFault::Used
            | OtpFault::Exhausted
            | OtpFault::KeyReused
            | OtpFault::KeyPending
            | OtpFault::Suspicious
            | OtpFault::NoProvider => Verdict::Rejected,
        },
    }
}
