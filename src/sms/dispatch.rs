//! Who is asked to send a code, in which order, and what is learnt of it.
//!
//! ```text
//! deliver ─► in order ─► State::enter ─► SmsSender::send ─► State::settle ─► rules::step
//!               ▲           │ passed over: down, cooling,        │              ├─► done, or nobody else
//!               │           ▼ route, pace, spent out             ▼              │
//!               └──────── the next one ◄───────────────── breaker, spend, … ◄───┘
//! ```
//!
//! All attempts send the same code. Whether another provider is asked is decided by the outcome alone (`rules`); whether this one
//! is, by what is known of it (`state`).

mod breaker;
mod health;
mod notice;
mod order;
mod pace;
mod routes;
mod rules;
mod spend;
mod state;
mod states;
mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::{sleep, timeout};

use self::breaker::Why;
use self::health::{Scope, scope};
use self::rules::Step;
use self::state::{Entry, PassedOver, State, Terms};
use super::spec::{Kind, ProviderSpec};
use super::{
    Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender,
};
use crate::clock::Clock;
use crate::decision::time::{Span, Timestamp};
use crate::telemetry::{ProviderLabels, ProviderMetrics, SmsMetrics};

pub use self::health::{Counts, Doubt};
pub use self::notice::{News, Notice};
pub use self::order::{Delivered, Order, Try};
pub use self::spend::SpendRow;
pub use self::state::LastFault;
pub use self::states::ProviderStates;
pub use self::view::{ProviderHealth, Spent, Standing};

/// All attempts of a delivery together.
const DELIVERY_MAX: Span = Span::from_secs(12);
const TRIES_MAX: u8 = 5;
/// With less time than that nobody is asked any more.
const TRY_MIN: Span = Span::from_secs(1);
/// A sender has to end by itself; one that does not is cut off a little later.
const GRACE: Duration = Duration::from_millis(250);

/// What [`ProviderMetrics`] counts as the outcome of a message that was taken.
const ACCEPTED: &str = "accepted";

/// The providers of one configuration.
pub struct Dispatcher {
    /// In the order they are asked.
    members: Vec<Member>,
    states: ProviderStates,
    clock: Clock,
}

/// A provider of the configuration.
pub struct Provider {
    pub spec: ProviderSpec,
    pub sender: Box<dyn SmsSender>,
}

struct Member {
    spec: ProviderSpec,
    sender: Box<dyn SmsSender>,
    state: Arc<State>,
    metrics: ProviderMetrics,
}

/// A delivery under way.
struct Delivery<'a> {
    order: &'a Order<'a>,
    noted: &'a (dyn Fn(&Try<'_>) + Sync),
    ends_at: Timestamp,
    tries: u8,
    /// Who was asked last.
    last: Option<&'a str>,
    /// How many said that it is no message.
    requests: u8,
    may_be_sent: bool,
}

/// How it goes on.
enum Flow {
    On,
    End(Delivered),
}

impl Dispatcher {
    /// `states` outlive it; `metrics` count for the providers of these names. Providers of the same priority are asked in the
    /// order given.
    pub fn new(
        mut providers: Vec<Provider>,
        states: &ProviderStates,
        metrics: &SmsMetrics,
        clock: Clock,
    ) -> Dispatcher {
        let now = clock.now();
        providers.sort_by_key(|provider| provider.spec.priority);
        let names: Vec<Box<str>> = providers.iter().map(|provider| provider.spec.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let member = |provider| Member::new(provider, states, metrics, &names, now);
        let members = providers.into_iter().map(member).collect();
        states.tidy(now);
        Dispatcher { members, states: states.clone(), clock }
    }

    /// Whether a provider is set up for this channel, well or not.
    pub fn has(&self, channel: Channel) -> bool {
        self.members.iter().any(|member| member.sender.channels().contains(&channel))
    }

    /// Whether anybody could be asked now. If not, nobody should be charged for asking.
    pub fn can_take(&self, channel: Channel, country: Option<&str>, now: Timestamp) -> bool {
        self.serving(channel).into_iter().any(|member| {
            let terms = Terms { cost: member.spec.cost.as_ref(), country, prefix: "", segments: 1 };
            match member.state.would_take(&terms, now) {
                Ok(()) => true,
                Err(why) => {
                    self.pass_over(member, why, now);
                    false
                }
            }
        })
    }

    /// Asks one provider after another until one takes it, for 12 seconds and 5 attempts at most and while the code
    /// lives. `noted` hears of each attempt before the next one begins.
    pub async fn deliver(&self, order: &Order<'_>, noted: &(dyn Fn(&Try<'_>) + Sync)) -> Delivered {
        let now = self.clock.now();
        let ends_at = now.plus(DELIVERY_MAX).min(order.expires_at);
        let mut delivery =
            Delivery { order, noted, ends_at, tries: 0, last: None, requests: 0, may_be_sent: false };
        let members = self.in_order(order.channel, order.country, now);
        for (place, member) in members.iter().enumerate() {
            let rest = members.get(place + 1..).unwrap_or_default();
            if let Flow::End(delivered) = self.ask(member, rest, &mut delivery).await {
                return delivered;
            }
        }
        delivery.given_up(Delivered::NotSent)
    }

    /// Checks a receipt, and reads it.
    pub fn receipts(
        &self,
        provider: &str,
        request: &ReceiptRequest<'_>,
    ) -> Result<Vec<Report>, ReceiptFault> {
        self.member(provider).ok_or(ReceiptFault::None)?.sender.receipts(request)
    }

    /// Asks a provider what became of a message.
    pub async fn look_up(&self, provider: &str, message_id: &str) -> Result<Report, LookUpFault> {
        let member = self.member(provider).ok_or(LookUpFault::None)?;
        let within = duration(member.spec.timeout);
        let answer = member.sender.look_up(message_id, within, self.clock.now());
        timeout(within + GRACE, answer)
            .await
            .unwrap_or_else(|_| Err(LookUpFault::Away("no answer in time".into())))
    }

    /// Learns from what a provider reports of a message that was given to it at `sent_at`. A report that is told twice counts
    /// once while the message is remembered; of others the caller tells changes alone.
    pub fn reported(&self, provider: &str, report: &Report, sent_at: Timestamp, now: Timestamp) {
        let Some(member) = self.member(provider) else { return };
        member.metrics.reported(report.state.word());
        let learnt = member.state.reported(report, sent_at, now);
        if let Some(took) = learnt.delivered_after {
            member.metrics.delivered_after(duration(took));
        }
        self.heed(member, learnt);
    }

    /// Learns that a code was given back right which this provider had carried.
    pub fn verified(&self, provider: &str, country: Option<&str>, now: Timestamp) {
        let Some(member) = self.member(provider) else { return };
        member.metrics.verified();
        member.state.verified(country, now);
    }

    /// Asks one provider, and once more if nobody of `rest` can be asked and it surely sent nothing.
    async fn ask<'a>(&'a self, member: &'a Member, rest: &[&Member], delivery: &mut Delivery<'a>) -> Flow {
        let order = delivery.order;
        let terms = member.terms(order);
        let mut entry = Entry::First;
        loop {
            let now = self.clock.now();
            let left = now.until(delivery.ends_at);
            if left < TRY_MIN {
                return Flow::End(delivery.given_up(Delivered::Late));
            }
            if delivery.tries >= TRIES_MAX {
                return Flow::End(delivery.given_up(Delivered::NotSent));
            }
            let ticket = match member.state.enter(&terms, entry, now) {
                Ok(ticket) => ticket,
                Err(why) => {
                    self.pass_over(member, why, now);
                    return Flow::On;
                }
            };
            if let Some(last) = delivery.last.replace(&member.spec.name) {
                member.metrics.took_over_from(last);
            }
            let outcome = member.send(delivery, left, now).await;
            let now = self.clock.now();
            let learnt = member.state.settle(ticket, &terms, &outcome, now);
            self.heed(member, learnt);
            let step = rules::step(&outcome, delivery.requests);
            delivery.heed(&outcome);
            match step {
                Step::Done => return Flow::End(Delivered::Accepted),
                Step::Stop(fault) => return Flow::End(Delivered::Stopped(fault)),
                Step::Next => {}
            }
            let is_alone = || rest.iter().all(|next| next.state.would_take(&next.terms(order), now).is_err());
            match (entry, rules::again_after(&outcome)) {
                (Entry::First, Some(pause)) if is_alone() => sleep(pause).await,
                (Entry::First | Entry::Again, Some(_) | None) => return Flow::On,
            }
            entry = Entry::Again;
        }
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| *member.spec.name == *name)
    }

    /// Those that serve a channel, by priority. The console never stands in for a provider: a code in a log is no delivery.
    fn serving(&self, channel: Channel) -> SmallVec<[&Member; 8]> {
        let mut serving: SmallVec<[&Member; 8]> =
            self.members.iter().filter(|member| member.sender.channels().contains(&channel)).collect();
        if serving.iter().any(|member| !member.is_console()) {
            serving.retain(|member| !member.is_console());
        }
        serving
    }

    /// Those that serve a channel, in the order they are asked: those in doubt after the others.
    fn in_order(&self, channel: Channel, country: Option<&str>, now: Timestamp) -> SmallVec<[&Member; 8]> {
        let mut serving = self.serving(channel);
        let here = scope(country);
        self.judge(&serving, None, now);
        if here.is_some() {
            self.judge(&serving, here, now);
        }
        serving.sort_by_key(|member| member.state.doubt(here).is_some());
        serving
    }

    /// Compares each of these with all others that serve the same people.
    fn judge(&self, members: &[&Member], scope: Scope, now: Timestamp) {
        // Who is in doubt everywhere need not be in doubt here.
        let is_open = |member: &&&Member| scope.is_none() || member.state.doubt(None).is_none();
        for member in members.iter().filter(is_open) {
            let is_other = |other: &&Member| {
                let shares = |channel| member.sender.channels().contains(channel);
                other.spec.name != member.spec.name && other.sender.channels().iter().any(shares)
            };
            let others = self.members.iter().filter(is_other).map(|other| other.state.judged(scope, now));
            let others = others.fold(Counts::default(), Counts::plus);
            let Some(doubt) = member.state.judge(scope, others, now) else { continue };
            let country = scope.map(|letters| String::from_utf8_lossy(&letters).into());
            let news = match doubt {
                Some(doubt) => News::Doubted { country, doubt },
                None => News::Trusted { country },
            };
            self.tell(member, news);
        }
    }

    /// It is not asked, which is no news but where money is the reason.
    fn pass_over(&self, member: &Member, why: PassedOver, now: Timestamp) {
        match why {
            PassedOver::SpentOut => {
                if let Some(news) = member.state.news_of_spent_out(now) {
                    self.tell(member, news);
                }
            }
            PassedOver::Down { why: Why::Trouble | Why::Refused, .. }
            | PassedOver::Cooling { .. }
            | PassedOver::Route
            | PassedOver::Pace => {}
        }
    }

    fn heed(&self, member: &Member, learnt: state::Learnt) {
        member.metrics.spent(learnt.micros);
        if let Some(news) = learnt.news {
            member.metrics.set_up(member.state.is_up());
            self.tell(member, news);
        }
    }

    fn tell(&self, member: &Member, news: News) {
        self.states.tell(&Notice { provider: member.spec.name.clone(), news });
    }
}

impl Member {
    fn new(
        provider: Provider,
        states: &ProviderStates,
        metrics: &SmsMetrics,
        names: &[&str],
        now: Timestamp,
    ) -> Member {
        let Provider { spec, sender } = provider;
        let channels: Vec<&'static str> = sender.channels().iter().map(|channel| channel.word()).collect();
        let outcomes: Vec<&'static str> = [ACCEPTED].into_iter().chain(Fault::ALL.map(Fault::word)).collect();
        let others: Vec<&str> = names.iter().copied().filter(|name| *name != &*spec.name).collect();
        let metrics = metrics.provider(&ProviderLabels {
            name: &spec.name,
            channels: &channels,
            outcomes: &outcomes,
            states: &DeliveryState::ALL.map(DeliveryState::word),
            currency: spec.cost.as_ref().map(|cost| &*cost.currency),
            others: &others,
        });
        let state = states.named(&spec.name);
        metrics.set_up(state.configure(&spec, now));
        Member { spec, sender, state, metrics }
    }

    fn is_console(&self) -> bool {
        matches!(self.spec.kind, Kind::Console)
    }

    fn terms<'a>(&'a self, order: &Order<'a>) -> Terms<'a> {
        let segments = u16::from(order.segments);
        Terms { cost: self.spec.cost.as_ref(), country: order.country, prefix: order.prefix, segments }
    }

    /// One attempt, within `left` and its own time, noted and counted.
    async fn send(&self, delivery: &mut Delivery<'_>, left: Span, now: Timestamp) -> Outcome {
        let order = delivery.order;
        let attempt = order.first_attempt.saturating_add(delivery.tries);
        delivery.tries += 1;
        let reference = (order.reference)(attempt);
        let receipt_url = (order.receipt_url)(&self.spec.name, attempt);
        let message = Outbound {
            channel: order.channel,
            to: order.to,
            text: order.text,
            subject: order.subject,
            code: order.code,
            locale: order.locale,
            expires_in: duration(now.until(order.expires_at)),
            attempt,
            reference: &reference,
            receipt_url: receipt_url.as_deref(),
            now,
        };
        let within = duration(self.spec.timeout.min(left));
        let sent = timeout(within + GRACE, self.sender.send(&message, within)).await;
        let outcome = sent.unwrap_or_else(|_| Outcome::Refused(Refused::new(Fault::Ambiguous, "timeout")));
        let word = match &outcome {
            Outcome::Accepted(_) => ACCEPTED,
            Outcome::Refused(refused) => refused.fault.word(),
        };
        self.metrics.sent(order.channel.word(), word);
        (delivery.noted)(&Try {
            provider: &self.spec.name,
            kind: self.spec.kind.word(),
            attempt,
            reference: &reference,
            at: now,
            outcome: &outcome,
        });
        outcome
    }
}

impl Delivery<'_> {
    fn heed(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted(_) => {}
            Outcome::Refused(Refused { fault: Fault::Request, .. }) => self.requests += 1,
            Outcome::Refused(Refused { fault: Fault::Ambiguous, .. }) => self.may_be_sent = true,
            Outcome::Refused(_) => {}
        }
    }

    /// How it ended if nobody took it for certain.
    fn given_up(&self, otherwise: Delivered) -> Delivered {
        if self.may_be_sent { Delivered::Unsure } else { otherwise }
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.iter().map(|member| &member.spec.name)).finish()
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({}, {})", self.spec.name, self.spec.kind.word())
    }
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(span.as_millis())
}

#[cfg(test)]
mod tests;
