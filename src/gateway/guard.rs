//! Who is kept out: the book of blocks, looked at before any counter; what begins a block; suspicion.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Gateway;
use super::attempt::Sender;
use super::events::identifier;
use super::memo::memo;
use super::policies::Policies;
use crate::decision::block::Block;
use crate::decision::body::Fields;
use crate::decision::key::{KeyHash, KeySpec};
use crate::decision::limit::{Mode, WhileBlocked};
use crate::decision::plan::{Facts, Identity, Plan};
use crate::decision::policy::Route;
use crate::decision::refusal::Refusal;
use crate::decision::route::RouteIndex;
use crate::decision::suspicion::Suspect;
use crate::decision::tally::{Charge, Judgement};
use crate::decision::time::{Span, Timestamp};
use crate::decision::verdict::{Began, Cause, Limited};
use crate::journal::{BlockRecord, Durable, EventKind, Identifier, Reason};
use crate::telemetry::BlockLine;

/// A key that events of a request add up against.
#[derive(Clone, Debug)]
pub(super) struct Suspected {
    /// The number of the rule of suspicion.
    rule: usize,
    counted: KeyHash,
    banned: KeyHash,
    identity: Identity,
}

/// A block that a limit began.
pub(super) struct NewBlock<'a> {
    pub(super) route: RouteIndex,
    pub(super) began: Began,
    pub(super) key: KeyHash,
    pub(super) identity: &'a Identity,
    pub(super) reason: Reason,
}

/// What a block has to be longer by to be written down anew.
const PROLONGED_BY: Span = Span::from_secs(1);

impl Gateway {
    /// Refuses whoever is blocked, by a limit of the route or over all routes.
    ///
    /// Looks at the keys that the head tells, or, once the body was read, at those that need it.
    pub(super) fn refuse_blocked(
        &self,
        route: &Route,
        plan: &Plan,
        facts: &Facts<'_>,
        fields: Option<&Fields>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let book = self.journal.book();
        if book.is_blank() {
            return Ok(());
        }
        let is_due = |key: &KeySpec| key.needs_body() == fields.is_some();
        let mut last: Option<(Timestamp, Refusal)> = None;
        let mut keep = |until: Timestamp, refusal: &dyn Fn() -> Refusal| {
            if last.as_ref().is_none_or(|(latest, _)| until > *latest) {
                last = Some((until, refusal()));
            }
        };
        for ban in route.bans().iter().filter(|ban| is_due(&ban.key)) {
            let key = Plan::key_by(ban.id, &ban.key, route, facts, fields, &self.hasher);
            if let Some(until) = key.and_then(|key| book.until(key, now)) {
                keep(until, &|| Refusal::Banned { until, key: ban.key.to_string().into() });
            }
        }
        for (&index, charge) in plan.limits().iter().zip(plan.charges(route)) {
            let stands = charge.limit.block.is_none_or(|rule| rule.while_blocked == WhileBlocked::Stands);
            if !stands || charge.limit.mode == Mode::Shadow || !is_due(&charge.limit.key) {
                continue;
            }
            if let Some(until) = book.until(charge.key, now) {
                let cause = Cause::Block { limit: index };
                let all = SmallVec::from_slice(&[cause]);
                keep(until, &|| {
                    Refusal::Limited(Limited { cause, retry_at: until, quota: None, all: all.clone() })
                });
            }
        }
        last.map_or(Ok(()), |(_, refusal)| Err(refusal))
    }

    /// Writes a block down that a limit began; when this returns, it is on disk.
    pub(super) async fn begin_block(
        &self,
        policies: &Policies,
        block: NewBlock<'_>,
        sender: &Sender,
        now: Timestamp,
    ) {
        let NewBlock { route, began, key, identity, reason } = block;
        let handles = policies.handles(Some(route));
        let names = handles.limit_names(began.limit);
        let record = BlockRecord {
            id: self.block_id(now),
            key,
            key_kind: names.map_or_else(|| Arc::from(""), |names| Arc::clone(&names.key)),
            identifier: identifier(identity).unwrap_or_else(|| Identifier::new(&[])),
            reason,
            route: Some(handles.shared_name()),
            policy: names.map(|names| Arc::clone(&names.policy)),
            attempts: began.attempts,
            created_at: now,
            block: began.block,
            by: None,
            spec: None,
        };
        self.write_block(record, sender, now).await;
    }

    /// Puts a block in force in this node and on disk, with its event and its line in the log.
    pub(super) async fn write_block(&self, record: BlockRecord, sender: &Sender, now: Timestamp) {
        let record = Arc::new(record);
        let identifier = record.identifier.masked();
        let line = BlockLine {
            reason: record.reason.word(),
            route: record.route.as_deref(),
            policy: record.policy.as_deref(),
            key: &record.key_kind,
            identifier,
            client: sender.client,
            attempts: record.attempts,
            for_s: now.until(record.block.until).ceil_secs(),
        };
        self.blocks.began(&line, now);
        let mut event = sender.event(EventKind::Blocked, now);
        event.route = record.route.clone();
        event.policy = record.policy.clone();
        event.key = Some(Arc::clone(&record.key_kind));
        event.identifier = Some(record.identifier.clone());
        event.detail =
            Some(format!("{}, for {}", record.reason.word(), now.until(record.block.until)).into());
        self.journal.note(event);
        // Where that failed, the journal said so in the log and its metrics, and the block holds in this process.
        match self.journal.block(record).await {
            Durable::Yes | Durable::No => {}
        }
    }

    /// Writes down that a block lasts longer. One that is asked for all the time is written once a second.
    pub(super) async fn write_longer(&self, key: KeyHash, until: Timestamp) {
        // What is written down may be over by a moment that was not worth writing.
        let Some(held) = self.journal.book().last(key) else { return };
        if until <= held.block.until.plus(PROLONGED_BY) {
            return;
        }
        let forgets_after = held.block.until.until(held.block.forget_at);
        let block = Block { until, forget_at: until.plus(forgets_after), ..held.block };
        match self.journal.prolong(Arc::new(BlockRecord { block, ..(*held).clone() })).await {
            Some(Durable::Yes | Durable::No) | None => {}
        }
    }

    /// What events of this request add up against.
    pub(super) fn suspects(
        &self,
        policies: &Policies,
        route: &Route,
        facts: &Facts<'_>,
        fields: Option<&Fields>,
    ) -> SmallVec<[Suspected; 1]> {
        let rules = policies.rules.suspicion.iter().enumerate();
        let suspected = rules.filter_map(|(index, rule)| {
            let any = rule.any_limit()?;
            if any.exempt.contains(facts.client.address) {
                return None;
            }
            let key = |id| Plan::key_by(id, &rule.ban.key, route, facts, fields, &self.hasher);
            Some(Suspected {
                rule: index,
                counted: key(any.id)?,
                banned: key(rule.ban.id)?,
                identity: Plan::identity_by(&rule.ban.key, route, facts, fields),
            })
        });
        suspected.collect()
    }

    /// Adds an event up against whom it came from, and bans whoever is past the threshold: until when.
    pub(super) async fn suspect(
        &self,
        policies: &Policies,
        suspect: Suspect,
        suspects: &[Suspected],
        sender: &Sender,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut banned_until = None;
        for suspected in suspects {
            let Some(rule) = policies.rules.suspicion.get(suspected.rule) else { continue };
            let Some(limit) = rule.limit(suspect) else { continue };
            let charge = Charge { key: suspected.counted, limit };
            let tallies = self.store.take(&[charge], now).await;
            let Some(Judgement::Blocked { began: Some(block), .. }) =
                tallies.list.first().map(|tally| tally.judgement)
            else {
                continue;
            };
            policies.suspicion_found(suspected.rule);
            let record = self.ban_record(suspected, &rule.ban.key, block, suspect, now);
            match rule.mode {
                Mode::Enforce => {
                    self.write_block(record, sender, now).await;
                    banned_until = banned_until.max(Some(block.until));
                }
                Mode::Shadow => self.note_suspicion(&record, sender, now),
            }
        }
        banned_until
    }

    fn ban_record(
        &self,
        suspected: &Suspected,
        key: &KeySpec,
        block: Block,
        suspect: Suspect,
        now: Timestamp,
    ) -> BlockRecord {
        BlockRecord {
            id: self.block_id(now),
            key: suspected.banned,
            key_kind: key.to_string().into(),
            identifier: identifier(&suspected.identity).unwrap_or_else(|| Identifier::new(&[])),
            reason: Reason::Suspicion,
            route: None,
            policy: Some(format!("suspicion by {}", suspect.word()).into()),
            attempts: 0,
            created_at: now,
            block,
            by: None,
            spec: memo(Some(suspected.counted), None),
        }
    }

    fn note_suspicion(&self, record: &BlockRecord, sender: &Sender, now: Timestamp) {
        let mut event = sender.event(EventKind::Suspicion, now);
        event.policy = record.policy.clone();
        event.key = Some(Arc::clone(&record.key_kind));
        event.identifier = Some(record.identifier.clone());
        event.detail = Some("mode: shadow, nobody is blocked".into());
        self.journal.note(event);
    }
}
