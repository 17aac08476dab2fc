//! Messages under way, behind the answers that told of them.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::Otp;
use super::card::{Card, Delivery};
use super::keys::{self, Link, Subject};
use super::phone::{Phone, prefix};
use super::spec::{self, Countries};
use super::wish::SendOrder;
use crate::journal::{Event, EventKind, Identifier};
use crate::sms::dispatch::{Delivered, Order, Try};
use crate::sms::{Channel, DeliveryState, Fault, Outcome};

/// How many messages are under way at once, in this process.
const UNDER_WAY_MAX: u32 = 1024;

/// The messages under way.
#[derive(Clone, Debug)]
pub struct Deliveries(Arc<Semaphore>);

/// A place among them.
pub(super) struct Errand {
    _place: OwnedSemaphorePermit,
}

impl Deliveries {
    pub fn new() -> Deliveries {
        Deliveries(Arc::new(Semaphore::new(UNDER_WAY_MAX as usize)))
    }

    /// None while there are too many.
    pub(super) fn begin(&self) -> Option<Errand> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(|_place| Errand { _place })
    }

    /// Waits for those under way; whether all of them came to an end in time. No other begins meanwhile.
    pub async fn finish(&self, within: Duration) -> bool {
        timeout(within, self.0.acquire_many(UNDER_WAY_MAX)).await.is_ok()
    }
}

impl Default for Deliveries {
    fn default() -> Deliveries {
        Deliveries::new()
    }
}

impl Otp {
    /// Sends a code by whoever takes it, and writes down what became of it.
    pub(super) fn deliver(
        self: &Arc<Otp>,
        errand: Errand,
        order: Box<SendOrder>,
        card: Card,
        code: SecretString,
    ) {
        let otp = Arc::clone(self);
        tokio::spawn(async move {
            otp.carry(&order, &card, &code).await;
            drop(errand);
        });
    }

    async fn carry(&self, order: &SendOrder, card: &Card, code: &SecretString) {
        let now = self.lasting.clock.now();
        let locale = order.locale.as_deref();
        let rendered = self.templates.render(
            locale,
            code,
            Duration::from_millis(now.until(card.expires_at).as_millis()),
        );
        let Subject { destination, channel, .. } = &order.subject;
        let last = card.deliveries.iter().map(|delivery| delivery.attempt).max();
        let (noted, notes) = mpsc::unbounded_channel();
        let message = Order {
            channel: *channel,
            to: destination,
            country: order.country.as_deref(),
            prefix: prefix(destination),
            text: &rendered.text,
            segments: rendered.segments,
            subject: self.templates.subject(),
            code,
            locale: &rendered.locale,
            expires_at: card.expires_at,
            first_attempt: last.map_or(1, |last| last.saturating_add(1)),
            reference: &|attempt| keys::reference(card.nonce, attempt),
            receipt_url: &|provider, attempt| self.receipt_url(provider, order, card, attempt),
        };
        let deliver = async {
            // Bounded by the attempts that a delivery has; dropped at the end, which ends the notes.
            let noted = noted;
            let note = |tried: &Try<'_>| {
                // Nobody listens any more only if this task is gone.
                let _ = noted.send(Tried::of(tried));
            };
            self.dispatcher.deliver(&message, &note).await
        };
        let (delivered, told) = tokio::join!(deliver, self.write_down(order, card, notes));
        self.tell(order, delivered, &told);
        self.lasting.note_spending(self.lasting.clock.now()).await;
    }

    /// So that a receipt that comes at once finds what it is about. What was tried, in a few words each.
    async fn write_down(
        &self,
        order: &SendOrder,
        card: &Card,
        mut notes: UnboundedReceiver<Tried>,
    ) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(Tried { delivery, words }) = notes.recv().await {
            told.push(words);
            if !delivery.message_id.is_empty() && order.subject.channel == Channel::Email {
                let link = Link { slot: order.slot, nonce: card.nonce, attempt: delivery.attempt };
                self.lasting.letters.remember(&delivery.provider, &delivery.message_id, link);
            }
            let now = self.lasting.clock.now();
            if let Err(fault) = self.lasting.desk.note(order.slot, card.nonce, delivery, now).await {
                tracing::debug!(?fault, "what became of a code could not be kept");
            }
        }
        told
    }

    /// The event of a code that was sent, or that nobody took.
    fn tell(&self, order: &SendOrder, delivered: Delivered, tried: &[String]) {
        let now = self.lasting.clock.now();
        let Subject { destination, channel, .. } = &order.subject;
        let kind = match delivered {
            Delivered::Accepted | Delivered::Unsure => EventKind::CodeSent,
            Delivered::Stopped(_) | Delivered::NotSent | Delivered::Late => EventKind::CodeUndelivered,
        };
        let tried = match tried {
            [] => "no provider could be asked".to_owned(),
            tried => tried.join("; "),
        };
        self.lasting.journal.note(Event {
            client: Some(order.client),
            key: Some("phone".into()),
            identifier: Some(Identifier::new(&[("phone", destination)])),
            detail: Some(format!("{}, {}: {tried}", channel.word(), delivered.word()).into()),
            ..Event::new(kind, now)
        });
    }

    fn receipt_url(&self, provider: &str, order: &SendOrder, card: &Card, attempt: u8) -> Option<String> {
        let (url, path) = (self.public_url.as_ref()?, self.receipts.as_ref()?);
        let token = self.keys.link_token(&Link { slot: order.slot, nonce: card.nonce, attempt });
        Some(spec::receipt_url(url, path, provider, &token))
    }

    /// The country of a destination that was accepted before.
    pub(super) fn country(&self, destination: &str) -> Option<Box<str>> {
        let phone = Phone::parse(destination, self.region, &Countries::default()).ok()?;
        phone.country().map(Into::into)
    }
}

/// An attempt, as it is written down.
struct Tried {
    delivery: Delivery,
    words: String,
}

impl Tried {
    fn of(tried: &Try<'_>) -> Tried {
        let Try { provider, attempt, at, outcome, .. } = *tried;
        let (message_id, state, words) = match outcome {
            Outcome::Accepted(accepted) => {
                (accepted.message_id.clone(), DeliveryState::Accepted, format!("{provider} took it"))
            }
            Outcome::Refused(refused) => {
                let space = if refused.code.is_empty() { "" } else { " " };
                let words = format!("{provider}: {}{space}{}", refused.fault.word(), refused.code);
                ("".into(), state_after(refused.fault), words)
            }
        };
        let delivery =
            Delivery { attempt, provider: provider.into(), message_id, state, sent_at: at, changed_at: at };
        Tried { delivery, words }
    }
}

fn state_after(fault: Fault) -> DeliveryState {
    match fault {
        Fault::Recipient | Fault::OptedOut => DeliveryState::Rejected,
        Fault::Route
        | Fault::Provider
        | Fault::Throttled
        | Fault::Transient
        | Fault::Ambiguous
        | Fault::Request
        | Fault::Fraud => DeliveryState::Failed,
    }
}
