//! Comparing a code: the attempt is counted before it is looked at, and a right one is used up before anybody is told.

use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::Otp;
use super::answer::Answer;
use super::card::{Card, Consumed, Guess, Nonce};
use super::code::is_same;
use super::fraud::Signs;
use super::keys::{self, Subject};
use super::phone::prefix;
use super::wish::VerifyOrder;
use crate::decision::otp::OtpFault;
use crate::decision::tally::Outcome;
use crate::decision::time::Timestamp;
use crate::journal::{Event, EventKind, Identifier};

/// What a guess came to, and what it counts as.
pub struct Verdict {
    pub answer: Result<Answer, OtpFault>,
    /// A wrong code is a failure; one that could not be compared is neither.
    pub outcome: Outcome,
}

impl Otp {
    pub async fn verify(&self, order: &VerifyOrder, now: Timestamp) -> Verdict {
        let answer = self.compare(order, now).await;
        let result = answer.as_ref().map_or_else(OtpFault::code, |_| "verified");
        self.lasting.metrics.otp_verification(result);
        let outcome = match &answer {
            Ok(_) => Outcome::Success,
            Err(OtpFault::WrongCode { .. }) => Outcome::Failure,
            Err(_) => Outcome::Neither,
        };
        Verdict { answer, outcome }
    }

    async fn compare(&self, order: &VerifyOrder, now: Timestamp) -> Result<Answer, OtpFault> {
        let desk = &self.lasting.desk;
        let guess = desk.guess(order.slot, order.nonce, now).await?;
        let card = match &guess {
            Guess::Counted(card) => Some(card),
            Guess::Expired | Guess::Exhausted | Guess::Used | Guess::Unknown => None,
        };
        // The same work whether or not there is a code.
        let subject = card.and_then(|card| self.keys.unseal(&card.sealed, order.slot));
        let right = self.expected(order, card, subject.as_ref());
        let is_right = is_same(&right, &order.given);
        let (card, subject) = match (guess, subject) {
            (Guess::Counted(card), Some(subject)) => (card, subject),
            // Sealed under another secret: nobody can tell whose it was.
            (Guess::Counted(_), None) | (Guess::Expired | Guess::Unknown, _) => {
                return Err(OtpFault::Expired);
            }
            (Guess::Used, _) => return Err(OtpFault::Used),
            (Guess::Exhausted, _) => return Err(OtpFault::Exhausted),
        };
        if !is_right {
            let attempts_left = card.attempts_max.saturating_sub(card.attempts);
            return Err(OtpFault::WrongCode { attempts_left });
        }
        match desk.consume(order.slot, card.nonce, now).await? {
            Consumed::First(card) => Ok(self.proven(order, &card, &subject, now)),
            Consumed::Late => Err(OtpFault::Used),
        }
    }

    /// The right code; of no card, one that nobody can give.
    fn expected(
        &self,
        order: &VerifyOrder,
        card: Option<&Card>,
        subject: Option<&Subject>,
    ) -> secrecy::SecretString {
        let nobody =
            Subject { purpose: "".into(), destination: "".into(), channel: crate::sms::Channel::Sms };
        let nonce = card.map_or(Nonce::new([0; 8]), |card| card.nonce);
        let seed = card.map_or([0; 32], |card| card.seed);
        let id = keys::id(order.slot, nonce);
        self.keys.code(subject.unwrap_or(&nobody), &id, &seed, self.rules.length)
    }

    fn proven(&self, order: &VerifyOrder, card: &Card, subject: &Subject, now: Timestamp) -> Answer {
        let id = keys::id(order.slot, card.nonce);
        let token = self.prover.token(subject, &id, now);
        self.learn_of_success(order, card, subject, now);
        Answer::json(StatusCode::OK, &json!({ "verified": true, "token": token.expose_secret() }))
    }

    /// A code that was used has arrived, whatever its provider reports.
    fn learn_of_success(&self, order: &VerifyOrder, card: &Card, subject: &Subject, now: Timestamp) {
        let country = self.country(&subject.destination);
        if let Some(last) = card.deliveries.iter().max_by_key(|delivery| delivery.attempt) {
            self.dispatcher.verified(&last.provider, country.as_deref(), now);
        }
        let signs = Signs {
            client: order.client,
            country: country.as_deref(),
            number: &subject.destination,
            prefix: prefix(&subject.destination),
        };
        self.lasting.fraud.verified(&signs, now);
        self.lasting.journal.note(Event {
            client: Some(order.client),
            key: Some("phone".into()),
            identifier: Some(Identifier::new(&[("phone", &subject.destination)])),
            detail: Some(format!("for {}", subject.purpose).into()),
            ..Event::new(EventKind::CodeVerified, now)
        });
    }
}
