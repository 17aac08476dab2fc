//! What became of a message: what providers report, and what clients may know of it.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::Otp;
use super::answer::Answer;
use super::card::{Card, Delivery, Nonce, Noted, Slot};
use super::keys;
use super::phone::masked;
use super::wish::ReceiptOrder;
use crate::decision::otp::OtpFault;
use crate::decision::time::Timestamp;
use crate::sms::DeliveryState;

impl Otp {
    /// Takes what a provider reports. Twice the same, something older or something of nobody changes nothing.
    pub async fn take_receipt(&self, order: &ReceiptOrder, now: Timestamp) -> Result<Answer, OtpFault> {
        let ReceiptOrder { provider, reports } = order;
        for (link, report) in reports {
            let delivery = Delivery {
                attempt: link.attempt,
                provider: provider.clone(),
                message_id: report.message_id.clone(),
                state: report.state,
                sent_at: now,
                changed_at: now,
            };
            match self.lasting.desk.note(link.slot, link.nonce, delivery, now).await? {
                Noted::Changed(card) => {
                    let sent = card.deliveries.iter().find(|delivery| delivery.attempt == link.attempt);
                    let sent_at = sent.map_or(now, |delivery| delivery.sent_at);
                    self.dispatcher.reported(provider, report, sent_at, now);
                }
                Noted::Unchanged | Noted::Unknown => {}
            }
        }
        Ok(Answer::taken())
    }

    /// Whether a code is on its way.
    pub async fn status(
        self: &Arc<Otp>,
        slot: Slot,
        nonce: Nonce,
        now: Timestamp,
    ) -> Result<Answer, OtpFault> {
        let card = self.lasting.desk.look(slot, nonce, now).await?.ok_or(OtpFault::NotFound)?;
        let subject = self.keys.unseal(&card.sealed, slot).ok_or(OtpFault::NotFound)?;
        self.enquire(slot, &card, now);
        let body = json!({
            "id": keys::id(slot, nonce),
            "to": masked(&subject.destination),
            "channel": subject.channel.word(),
            "status": state_of(&card, now),
            "expires_in": now.until(card.expires_at).ceil_secs(),
            "attempts_left": card.attempts_max.saturating_sub(card.attempts),
        });
        Ok(Answer::json(StatusCode::OK, &body))
    }

    /// The keys by which backends check proofs.
    pub fn jwks(&self) -> Answer {
        Answer::json(StatusCode::OK, &self.prover.jwks())
    }
}

/// What anybody may know. That a number does not exist or wants no messages is nobody's business: it
/// looks like one that was sent to.
fn state_of(card: &Card, now: Timestamp) -> &'static str {
    if card.used_at.is_some() {
        return "verified";
    }
    if card.expires_at <= now {
        return "expired";
    }
    if card.attempts >= card.attempts_max {
        return "attempts_exhausted";
    }
    let is_there =
        |delivery: &Delivery| matches!(delivery.state, DeliveryState::Delivered | DeliveryState::Read);
    if card.deliveries.iter().any(is_there) {
        return "delivered";
    }
    let last = card.deliveries.iter().max_by_key(|delivery| delivery.attempt);
    match last.map(|delivery| delivery.state) {
        None => "pending",
        Some(
            DeliveryState::Delivered
            | DeliveryState::Read
            | DeliveryState::Accepted
            | DeliveryState::Queued
            | DeliveryState::Sent
            | DeliveryState::Undelivered
            | DeliveryState::Rejected,
        ) => "sent",
        Some(DeliveryState::Failed | DeliveryState::Expired) => "failed",
    }
}
