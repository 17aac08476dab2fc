//! What is known of one provider.

use parking_lot::Mutex;

use super::breaker::{Breaker, Change, Pass, Why};
use super::health::{Counts, Doubt, Health, Scope, scope};
use super::notice::News;
use super::pace::Paced;
use super::routes::Routes;
use super::spend::{self, Spend, SpendRow};
use crate::decision::recent::Recent;
use crate::decision::time::{Span, Timestamp};
use crate::sms::spec::{Cost, ProviderSpec};
use crate::sms::{Accepted, DeliveryState, Fault, Outcome, Price, Refused, Report};

/// One provider, whoever asks about it. Held for a moment at a time, never while something is sent.
#[derive(Debug)]
pub(super) struct State(Mutex<Known>);

#[derive(Debug)]
struct Known {
    breaker: Breaker,
    cools: Cooling,
    paced: Paced,
    spend: Option<Spend>,
    routes: Routes,
    health: Health,
    /// By the provider's name for the message, so that a report counts once.
    sent: Recent<Box<str>, Sending>,
    last_fault: Option<LastFault>,
    told_spent_out: Option<Timestamp>,
    told_bad_request: Option<Timestamp>,
}

/// After it was given too much at once.
#[derive(Debug, Default)]
struct Cooling {
    until: Option<Timestamp>,
    in_a_row: u32,
}

/// A message that it took.
#[derive(Debug)]
struct Sending {
    at: Timestamp,
    country: Option<Box<str>>,
    prefix: Box<str>,
    /// What is counted for it.
    micros: u64,
    segments: u16,
    rank: u8,
}

/// The last thing that went wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFault {
    pub at: Timestamp,
    pub fault: Fault,
    /// What the provider calls it.
    pub code: Box<str>,
}

/// Whom a message is for, and what it costs.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) cost: Option<&'a Cost>,
    pub(super) country: Option<&'a str>,
    /// Empty where there are no routes, or all of them are meant.
    pub(super) prefix: &'a str,
    pub(super) segments: u16,
}

/// Why a provider is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PassedOver {
    Down { until: Timestamp, why: Why },
    Cooling { until: Timestamp },
    Route,
    Pace,
    SpentOut,
}

/// Whether it is asked once more for the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    First,
    /// It said when to ask again, or was never reached: no reason to let it rest.
    Again,
}

/// Leave to send one message, paid for in advance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pass: Pass,
    at: Timestamp,
    micros: u64,
}

/// What follows from an outcome or a report.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    pub(super) news: Option<News>,
    /// What is counted for the message beyond what was counted already.
    pub(super) micros: u64,
    /// Since it was sent, if it was delivered just now.
    pub(super) delivered_after: Option<Span>,
}

const SENT_HALF: usize = 8192;
/// Between two notices of the same trouble.
const TOLD_EVERY: Span = Span::from_secs(3600);

impl State {
    pub(super) fn new() -> State {
        State(Mutex::new(Known {
            breaker: Breaker::default(),
            cools: Cooling::default(),
            paced: Paced::default(),
            spend: None,
            routes: Routes::new(),
            health: Health::new(),
            sent: Recent::new(SENT_HALF),
            last_fault: None,
            told_spent_out: None,
            told_bad_request: None,
        }))
    }

    /// The provider is one of the configuration in force from now on. Whether it is asked at all.
    pub(super) fn configure(&self, spec: &ProviderSpec, now: Timestamp) -> bool {
        let mut known = self.0.lock();
        known.paced.set(&spec.limits);
        known.breaker.reconsider(now);
        if let Some(cost) = &spec.cost {
            known.spend_in(&cost.currency);
        }
        known.breaker.is_closed()
    }

    /// Whether it would be asked now.
    pub(super) fn would_take(&self, terms: &Terms<'_>, now: Timestamp) -> Result<(), PassedOver> {
        self.0.lock().would_take(terms, Entry::First, now)
    }

    /// Leave to send one message. It is counted and paid for at once, so that many at a time do not exceed anything.
    pub(super) fn enter(
        &self,
        terms: &Terms<'_>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Ticket, PassedOver> {
        let mut known = self.0.lock();
        known.would_take(terms, entry, now)?;
        known.paced.count(now);
        let micros = terms.price();
        if let Some(cost) = terms.cost {
            known.spend_in(&cost.currency).add(micros, now);
        }
        Ok(Ticket { pass: known.breaker.enter(now), at: now, micros })
    }

    /// What became of a message. A ticket that nobody settles stays paid for.
    pub(super) fn settle(
        &self,
        ticket: Ticket,
        terms: &Terms<'_>,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Learnt {
        let mut known = self.0.lock();
        match outcome {
            Outcome::Accepted(accepted) => known.took(ticket, terms, accepted, now),
            Outcome::Refused(refused) => known.refused(ticket, terms, refused, now),
        }
    }

    /// What it reports of a message that was sent at `sent_at`. A report of one that is not remembered is believed to be new.
    pub(super) fn reported(&self, report: &Report, sent_at: Timestamp, now: Timestamp) -> Learnt {
        self.0.lock().reported(report, sent_at, now)
    }

    /// A code that it carried was given back right.
    pub(super) fn verified(&self, country: Option<&str>, now: Timestamp) {
        self.0
            .lock()
            .health
            .note(scope(country), now, |counts| counts.verified = counts.verified.saturating_add(1));
    }

    /// Whether the notice of this is due, which counts as told then.
    pub(super) fn news_of_spent_out(&self, now: Timestamp) -> Option<News> {
        let mut known = self.0.lock();
        let Known { spend, told_spent_out, .. } = &mut *known;
        let spend = spend.as_ref()?;
        let news = || News::SpentOut { micros: spend.sum(now), currency: spend.currency().into() };
        is_due(told_spent_out, now).then(news)
    }

    pub(super) fn judged(&self, scope: Scope, now: Timestamp) -> Counts {
        self.0.lock().health.judged(scope, now)
    }

    pub(super) fn judge(&self, scope: Scope, others: Counts, now: Timestamp) -> Option<Option<Doubt>> {
        self.0.lock().health.judge(scope, others, now)
    }

    pub(super) fn doubt(&self, scope: Scope) -> Option<Doubt> {
        let known = self.0.lock();
        known.health.doubt(None).or_else(|| known.health.doubt(scope))
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.lock().breaker.is_closed()
    }

    /// The messages of the last hour and of the last day.
    pub(super) fn counts(&self, now: Timestamp) -> (Counts, Counts) {
        let known = self.0.lock();
        (known.health.last_hour(now), known.health.last_day(now))
    }

    pub(super) fn last_fault(&self) -> Option<LastFault> {
        self.0.lock().last_fault.clone()
    }

    pub(super) fn spent(&self, now: Timestamp) -> u64 {
        self.0.lock().spend.as_ref().map_or(0, |spend| spend.sum(now))
    }

    pub(super) fn was_paid(&self, now: Timestamp) -> bool {
        self.spent(now) > 0
    }

    pub(super) fn spend_rows(&self, name: &str, now: Timestamp) -> Vec<SpendRow> {
        self.0.lock().spend.as_ref().map(|spend| spend.rows(name, now)).unwrap_or_default()
    }

    pub(super) fn restore_spend(&self, row: &SpendRow, now: Timestamp) {
        self.0.lock().spend_in(&row.currency).restore(row, now);
    }
}

impl Terms<'_> {
    fn price(&self) -> u64 {
        self.cost.map_or(0, |cost| spend::price(cost, self.country, self.segments))
    }
}

impl Known {
    fn would_take(&self, terms: &Terms<'_>, entry: Entry, now: Timestamp) -> Result<(), PassedOver> {
        if let Some((until, why)) = self.breaker.shut(now) {
            return Err(PassedOver::Down { until, why });
        }
        if let (Entry::First, Some(until)) = (entry, self.cools.until.filter(|until| now < *until)) {
            return Err(PassedOver::Cooling { until });
        }
        if self.routes.is_refused(terms.country, terms.prefix, now) {
            return Err(PassedOver::Route);
        }
        if !self.paced.has_room(now) {
            return Err(PassedOver::Pace);
        }
        if let (Some(cost), Some(spend)) = (terms.cost, &self.spend)
            && !spend.has_room(cost, terms.price(), now)
        {
            return Err(PassedOver::SpentOut);
        }
        Ok(())
    }

    fn took(&mut self, ticket: Ticket, terms: &Terms<'_>, accepted: &Accepted, now: Timestamp) -> Learnt {
        self.cools = Cooling::default();
        self.routes.reached(terms.country, terms.prefix);
        self.health.note(scope(terms.country), now, |counts| counts.sent = counts.sent.saturating_add(1));
        let segments = accepted.parts.unwrap_or(0).max(terms.segments);
        let micros =
            self.told(accepted.price.as_ref()).unwrap_or_else(|| Terms { segments, ..*terms }.price());
        self.pay(ticket.micros, micros, ticket.at);
        if !accepted.message_id.is_empty() {
            let (country, prefix) = (terms.country.map(Box::from), terms.prefix.into());
            let rank = DeliveryState::Accepted.rank();
            let sending = Sending { at: ticket.at, country, prefix, micros, segments, rank };
            self.sent.insert(accepted.message_id.clone(), sending);
        }
        let news = news(self.breaker.worked(ticket.pass), "");
        Learnt { news, micros, delivered_after: None }
    }

    fn refused(&mut self, ticket: Ticket, terms: &Terms<'_>, refused: &Refused, now: Timestamp) -> Learnt {
        // What nobody knows about may have been sent, and then it is paid for.
        let micros = match refused.fault {
            Fault::Ambiguous => ticket.micros,
            Fault::Recipient
            | Fault::OptedOut
            | Fault::Route
            | Fault::Provider
            | Fault::Throttled
            | Fault::Transient
            | Fault::Request
            | Fault::Fraud => 0,
        };
        self.pay(ticket.micros, micros, ticket.at);
        self.note_fault(refused, now);
        let change = match refused.fault {
            Fault::Recipient | Fault::OptedOut | Fault::Fraud | Fault::Request => {
                self.breaker.answered(ticket.pass)
            }
            Fault::Route => {
                self.routes.refused(terms.country, terms.prefix, now);
                self.breaker.answered(ticket.pass)
            }
            Fault::Throttled => {
                self.cools.cool(refused, now);
                self.breaker.answered(ticket.pass)
            }
            Fault::Provider => self.breaker.refused(ticket.pass, now),
            Fault::Transient | Fault::Ambiguous => self.breaker.failed(ticket.pass, now),
        };
        let is_bad_request = refused.fault == Fault::Request && is_due(&mut self.told_bad_request, now);
        let bad_request = is_bad_request.then(|| News::BadRequest { code: refused.code.clone() });
        Learnt { news: news(change, &refused.code).or(bad_request), micros, delivered_after: None }
    }

    fn reported(&mut self, report: &Report, sent_at: Timestamp, now: Timestamp) -> Learnt {
        let mut learnt = Learnt::default();
        let price = self.told(report.price.as_ref());
        let (before, sent_at, country, prefix) = match self.sent.get_mut(&*report.message_id) {
            Some(sending) => {
                let before = sending.rank;
                sending.rank = before.max(report.state.rank());
                // Of a long message each part may be reported with its own price, and cost less than the whole.
                if let Some(price) = price.filter(|price| sending.segments <= 1 || *price > sending.micros) {
                    learnt.micros = price.saturating_sub(sending.micros);
                    let counted = std::mem::replace(&mut sending.micros, price);
                    if let Some(spend) = &mut self.spend {
                        spend.correct(counted, price, sending.at);
                    }
                }
                (before, sending.at, sending.country.clone(), sending.prefix.clone())
            }
            None => (0, sent_at, None, Box::default()),
        };
        let rank = report.state.rank();
        if rank <= before {
            return learnt;
        }
        let is_delivered = rank >= DeliveryState::Delivered.rank();
        let was_delivered = before >= DeliveryState::Delivered.rank();
        if is_delivered && !was_delivered {
            learnt.delivered_after = Some(sent_at.until(now));
            let note = |counts: &mut Counts| counts.delivered = counts.delivered.saturating_add(1);
            self.health.note(scope(country.as_deref()), now, note);
        }
        if rank == DeliveryState::Failed.rank() {
            learnt.news = self.undelivered(report.refused.as_ref(), country.as_deref(), &prefix, now);
        }
        learnt
    }

    /// A message did not arrive.
    fn undelivered(
        &mut self,
        why: Option<&Refused>,
        country: Option<&str>,
        prefix: &str,
        now: Timestamp,
    ) -> Option<News> {
        let fault = why.map(|refused| refused.fault);
        if !matches!(fault, Some(Fault::Recipient | Fault::OptedOut)) {
            let note = |counts: &mut Counts| counts.failed = counts.failed.saturating_add(1);
            self.health.note(scope(country), now, note);
        }
        let refused = why?;
        self.note_fault(refused, now);
        match refused.fault {
            Fault::Provider => news(self.breaker.refused(Pass::Ordinary, now), &refused.code),
            Fault::Route => {
                self.routes.refused(country, prefix, now);
                None
            }
            Fault::Throttled => {
                self.cools.cool(refused, now);
                None
            }
            // Of this message alone.
            Fault::Recipient
            | Fault::OptedOut
            | Fault::Transient
            | Fault::Ambiguous
            | Fault::Request
            | Fault::Fraud => None,
        }
    }

    /// Counts `to` where `from` was counted.
    fn pay(&mut self, from: u64, to: u64, at: Timestamp) {
        if let Some(spend) = &mut self.spend {
            spend.correct(from, to, at);
        }
    }

    /// A price that can be counted: of nothing is none, as providers say before they know.
    fn told(&self, price: Option<&Price>) -> Option<u64> {
        let (price, spend) = (price?, self.spend.as_ref()?);
        (price.micros > 0 && *price.currency == *spend.currency()).then_some(price.micros)
    }

    fn note_fault(&mut self, refused: &Refused, now: Timestamp) {
        if !matches!(refused.fault, Fault::Recipient | Fault::OptedOut) {
            let code = refused.code.clone();
            self.last_fault = Some(LastFault { at: now, fault: refused.fault, code });
        }
    }

    fn spend_in(&mut self, currency: &str) -> &mut Spend {
        match &mut self.spend {
            Some(spend) if spend.currency() == currency => {}
            other => *other = Some(Spend::new(currency)),
        }
        self.spend.get_or_insert_with(|| Spend::new(currency))
    }
}

impl Cooling {
    /// Where the provider does not say for how long.
    const FIRST: Span = Span::from_secs(1);
    const LONGEST: Span = Span::from_secs(5);
    /// A provider that asks for more is tried again all the same.
    const TOLD_MAX: Span = Span::from_secs(300);

    fn cool(&mut self, refused: &Refused, now: Timestamp) {
        let told = refused.retry_after.map(|after| {
            Span::from_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)).min(Cooling::TOLD_MAX)
        });
        let doubled = Span::from_millis(Cooling::FIRST.as_millis() << self.in_a_row.min(8));
        self.in_a_row = self.in_a_row.saturating_add(1);
        let until = now.plus(told.unwrap_or(doubled.min(Cooling::LONGEST)));
        self.until = self.until.max(Some(until));
    }
}

fn news(change: Change, code: &str) -> Option<News> {
    match change {
        Change::None => None,
        Change::Opened { until } => Some(News::Down { code: code.into(), until }),
        Change::Closed => Some(News::Up),
    }
}

/// Whether it is long enough since it was told, which it is now.
fn is_due(told: &mut Option<Timestamp>, now: Timestamp) -> bool {
    let is_due = told.is_none_or(|told| now >= told.plus(TOLD_EVERY));
    if is_due {
        *told = Some(now);
    }
    is_due
}
