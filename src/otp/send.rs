//! Opening a verification: the code is kept before anybody is told of it.

use std::sync::Arc;

use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::Otp;
use super::answer::Answer;
use super::card::{self, Card, Draft, Nonce};
use super::delivery::Errand;
use super::fraud::Signs;
use super::keys;
use super::phone::{masked, prefix};
use super::spec::{Exposure, FraudMode};
use super::wish::{ANSWERS_KEPT, SendOrder};
use crate::decision::key::KeyHash;
use crate::decision::otp::OtpFault;
use crate::decision::time::{Span, Timestamp};
use crate::journal::{Event, EventKind, Identifier};

/// A code that is kept, and not sent yet.
pub struct Opened {
    order: Box<SendOrder>,
    card: Card,
    /// A place among the messages under way.
    errand: Errand,
}

impl Otp {
    /// Keeps a code for this order; the same one as before while it is good.
    pub async fn open(&self, order: Box<SendOrder>, now: Timestamp) -> Result<Opened, OtpFault> {
        match self.try_to_open(&order, now).await {
            Ok((card, errand)) => Ok(Opened { order, card, errand }),
            Err(fault) => {
                self.lasting.metrics.otp_asked(order.subject.channel.word(), fault.code());
                if let Some(claim) = order.claim {
                    let _ = self.lasting.desk.release(claim).await;
                }
                Err(fault)
            }
        }
    }

    async fn try_to_open(&self, order: &SendOrder, now: Timestamp) -> Result<(Card, Errand), OtpFault> {
        let signs = Signs {
            client: order.client,
            country: order.country.as_deref(),
            number: &order.subject.destination,
            prefix: prefix(&order.subject.destination),
        };
        self.refuse_fraud(&signs, now)?;
        let errand = self.lasting.deliveries.begin().ok_or(OtpFault::NoProvider)?;
        let draft = self.draft(order).map_err(|_| OtpFault::NoStore)?;
        let (card, opened) = self.lasting.desk.open(order.slot, draft, now).await?;
        match opened {
            card::Opened::Fresh => self.lasting.fraud.sent(&signs, now),
            card::Opened::Again => {}
        }
        Ok((card, errand))
    }

    /// Answers, and sends the code behind the answer. `resend_at` is when the next one may be asked for.
    pub async fn send(
        self: &Arc<Otp>,
        opened: Opened,
        resend_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Answer {
        let Opened { order, card, errand } = opened;
        let id = keys::id(order.slot, card.nonce);
        let mut body = json!({
            "id": id,
            "to": masked(&order.subject.destination),
            "channel": order.subject.channel.word(),
            "expires_in": now.until(card.expires_at).ceil_secs(),
            "resend_in": resend_at.map_or(0, |at| wait(now, at)),
            "attempts_left": card.attempts_max.saturating_sub(card.attempts),
        });
        let code = self.keys.code(&order.subject, &id, &card.seed, self.rules.length);
        match self.exposure {
            Exposure::Nobody => {}
            Exposure::Sender => body["code"] = Value::from(code.expose_secret()),
        }
        let answer = Answer::json(StatusCode::ACCEPTED, &body);
        if let Some(claim) = order.claim {
            self.keep_answer(claim, &answer, now).await;
        }
        self.lasting.metrics.otp_asked(order.subject.channel.word(), "accepted");
        self.deliver(errand, order, card, code);
        answer
    }

    /// So that the same request gets the same answer. Without it the key stays taken, and nothing is sent twice.
    async fn keep_answer(&self, claim: KeyHash, answer: &Answer, now: Timestamp) {
        let kept = self.lasting.desk.answer(claim, &answer.to_bytes(), now, ANSWERS_KEPT).await;
        if let Err(fault) = kept {
            tracing::debug!(?fault, "the answer to an Idempotency-Key could not be kept");
        }
    }

    fn draft(&self, order: &SendOrder) -> Result<Draft, keys::Unsealable> {
        Ok(Draft {
            nonce: Nonce::new(self.keys.random()?),
            seed: self.keys.random()?,
            sealed: self.keys.seal(&order.subject, order.slot)?,
            ttl: self.rules.ttl,
            attempts_max: self.rules.attempts,
        })
    }

    /// Tells of signs of fraud, and refuses where that is asked for.
    fn refuse_fraud(&self, signs: &Signs<'_>, now: Timestamp) -> Result<(), OtpFault> {
        let mode = match self.fraud_mode {
            FraudMode::Off => return Ok(()),
            FraudMode::Monitor => "monitor",
            FraudMode::Enforce => "enforce",
        };
        let findings = self.lasting.fraud.asked(signs, now);
        for finding in &findings {
            self.lasting.metrics.fraud_finding(finding.kind.word(), mode);
            self.lasting.journal.note(Event {
                client: Some(signs.client),
                key: Some("phone".into()),
                identifier: Some(Identifier::new(&[("phone", signs.number)])),
                detail: Some(format!("{}: {}", finding.kind.word(), finding.detail).into()),
                ..Event::new(EventKind::Fraud, now)
            });
        }
        match self.fraud_mode {
            FraudMode::Enforce if !findings.is_empty() => Err(OtpFault::Suspicious),
            FraudMode::Enforce | FraudMode::Monitor | FraudMode::Off => Ok(()),
        }
    }
}

/// In whole seconds. Counters round their times up to a millisecond, and this takes longer than that to be read.
fn wait(now: Timestamp, until: Timestamp) -> u64 {
    const ROUNDED_UP: Span = Span::from_millis(1);
    now.plus(ROUNDED_UP).until(until).ceil_secs()
}
