//! Asking a provider what became of a message, where it does not report by itself.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Otp;
use super::card::{Card, Delivery, Noted, Slot};
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};
use crate::sms::{DeliveryState, LookUpFault};

/// When each code was asked after last, bounded.
#[derive(Debug, Default)]
pub struct Enquiries(Mutex<HashMap<KeyHash, Timestamp>>);

/// Providers count questions as they count messages: one code is asked after no more often than this.
const PAUSE: Span = Span::from_secs(15);
/// So many codes are remembered; when there are more, nobody is asked for a while.
const CODES_MAX: usize = 4096;

impl Enquiries {
    /// Whether it is time to ask after this code.
    fn is_due(&self, slot: Slot, now: Timestamp) -> bool {
        let mut asked = self.0.lock();
        asked.retain(|_, at| at.until(now) < PAUSE);
        if asked.len() >= CODES_MAX || asked.contains_key(&slot.hash()) {
            return false;
        }
        asked.insert(slot.hash(), now);
        true
    }
}

impl Otp {
    /// Has the provider asked, behind the answer, after a message of which no more is known than that it was taken a while
    /// ago. Whoever looks again sees what it said.
    pub(super) fn enquire(self: &Arc<Otp>, slot: Slot, card: &Card, now: Timestamp) {
        let last = card.deliveries.iter().max_by_key(|delivery| delivery.attempt);
        let Some(last) = last.filter(|last| is_open(last, now)) else { return };
        if card.used_at.is_some() || card.expires_at <= now || !self.lasting.enquiries.is_due(slot, now) {
            return;
        }
        let Some(errand) = self.lasting.deliveries.begin() else { return };
        let (otp, nonce, last) = (Arc::clone(self), card.nonce, last.clone());
        tokio::spawn(async move {
            match otp.dispatcher.look_up(&last.provider, &last.message_id).await {
                Ok(report) => {
                    let now = otp.lasting.clock.now();
                    let sent_at = last.sent_at;
                    let told = Delivery { state: report.state, changed_at: now, ..last.clone() };
                    match otp.lasting.desk.note(slot, nonce, told, now).await {
                        Ok(Noted::Changed(_)) => {
                            otp.dispatcher.reported(&last.provider, &report, sent_at, now)
                        }
                        Ok(Noted::Unchanged | Noted::Unknown) => {}
                        Err(fault) => tracing::debug!(?fault, "what became of a code could not be kept"),
                    }
                }
                Err(LookUpFault::None) => {}
                Err(fault) => {
                    tracing::debug!(provider = &*last.provider, %fault, "a message was asked after in vain")
                }
            }
            drop(errand);
        });
    }
}

/// Whether more may be learnt of it.
fn is_open(delivery: &Delivery, now: Timestamp) -> bool {
    let is_under_way = match delivery.state {
        DeliveryState::Accepted | DeliveryState::Queued | DeliveryState::Sent => true,
        DeliveryState::Undelivered
        | DeliveryState::Failed
        | DeliveryState::Expired
        | DeliveryState::Rejected
        | DeliveryState::Delivered
        | DeliveryState::Read => false,
    };
    is_under_way && !delivery.message_id.is_empty() && delivery.changed_at.until(now) >= PAUSE
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn a_code_is_asked_after_now_and_then() {
        let enquiries = Enquiries::default();
        let slot = |number| Slot::new(KeyHash::from_u128(number));
        assert!(enquiries.is_due(slot(1), NOW));
        assert!(!enquiries.is_due(slot(1), NOW.plus(Span::from_millis(14_999))));
        assert!(enquiries.is_due(slot(1), NOW.plus(PAUSE)));
        let later = NOW.plus(PAUSE).plus(PAUSE);
        let due = (0..10_000).filter(|&number| enquiries.is_due(slot(number), later)).count();
        assert_eq!(due, CODES_MAX, "bounded");
    }
}
