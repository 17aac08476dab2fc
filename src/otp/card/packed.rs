//! A card as bytes: little-endian numbers, and texts with their lengths before them.
//!
//! ```text
//! version u8 (1) | nonce 8 | seed 32 | opened u64 µs | expires u64 | used u64 (0 not) | attempts u8 | most u8 | sends u16
//! sealed: length u16, bytes
//! deliveries: count u8, each: attempt u8 | sent u64 | changed u64 | state u8 | provider: length u8, text | id: length u8, text
//! ```

use super::{Card, DELIVERIES_MAX, Delivery, MESSAGE_ID_MAX, Nonce, PROVIDER_MAX, SEALED_MAX};
use crate::decision::bytes::{Reader, put};
use crate::decision::time::Timestamp;
use crate::sms::DeliveryState;

const VERSION: u64 = 1;

impl Card {
    /// Longer texts than a card may have are not packed whole; see [`Delivery::bounded`].
    pub(in crate::otp) fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96 + self.sealed.len() + 96 * self.deliveries.len());
        put(&mut bytes, VERSION, 1);
        bytes.extend(self.nonce.0);
        bytes.extend(self.seed);
        put(&mut bytes, self.opened_at.as_micros(), 8);
        put(&mut bytes, self.expires_at.as_micros(), 8);
        put(&mut bytes, self.used_at.map_or(0, Timestamp::as_micros), 8);
        put(&mut bytes, self.attempts.into(), 1);
        put(&mut bytes, self.attempts_max.into(), 1);
        put(&mut bytes, self.sends.into(), 2);
        put(&mut bytes, self.sealed.len() as u64, 2);
        bytes.extend(&self.sealed);
        put(&mut bytes, self.deliveries.len() as u64, 1);
        for delivery in &self.deliveries {
            put(&mut bytes, delivery.attempt.into(), 1);
            put(&mut bytes, delivery.sent_at.as_micros(), 8);
            put(&mut bytes, delivery.changed_at.as_micros(), 8);
            put_about(&mut bytes, delivery);
        }
        bytes
    }

    /// None of what is no card, or one of a later version.
    pub(in crate::otp) fn unpack(bytes: &[u8]) -> Option<Card> {
        let mut reader = Reader::new(bytes);
        if reader.number(1)? != VERSION {
            return None;
        }
        let nonce = Nonce(reader.bytes(8)?.try_into().ok()?);
        let seed = reader.bytes(32)?.try_into().ok()?;
        let (opened_at, expires_at) = (time(&mut reader)?, time(&mut reader)?);
        let used_at = Some(time(&mut reader)?).filter(|at| at.as_micros() > 0);
        let (attempts, attempts_max) = (byte(&mut reader)?, byte(&mut reader)?);
        let sends = u16::try_from(reader.number(2)?).ok()?;
        let sealed = usize::try_from(reader.number(2)?).ok()?;
        let sealed = reader.bytes(sealed).filter(|sealed| sealed.len() <= SEALED_MAX)?.to_vec();
        let count = usize::from(byte(&mut reader)?);
        let delivery = |reader: &mut Reader<'_>| {
            let (attempt, sent_at, changed_at) = (byte(reader)?, time(reader)?, time(reader)?);
            let (state, provider, message_id) = next_about(reader)?;
            Some(Delivery { attempt, provider, message_id, state, sent_at, changed_at })
        };
        let deliveries = (0..count).map(|_| delivery(&mut reader)).collect::<Option<_>>()?;
        (count <= DELIVERIES_MAX && reader.is_empty()).then_some(Card {
            nonce,
            seed,
            sealed,
            opened_at,
            expires_at,
            attempts,
            attempts_max,
            used_at,
            sends,
            deliveries,
        })
    }
}

/// What a delivery says besides its number and its times.
pub(in crate::otp) fn about(delivery: &Delivery) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 + delivery.provider.len() + delivery.message_id.len());
    put_about(&mut bytes, delivery);
    bytes
}

/// State, provider and message id, as [`about`] wrote them.
pub(in crate::otp) fn read_about(bytes: &[u8]) -> Option<(DeliveryState, Box<str>, Box<str>)> {
    let mut reader = Reader::new(bytes);
    next_about(&mut reader).filter(|_| reader.is_empty())
}

fn put_about(bytes: &mut Vec<u8>, delivery: &Delivery) {
    put(bytes, state_number(delivery.state).into(), 1);
    for text in [&delivery.provider, &delivery.message_id] {
        put(bytes, text.len() as u64, 1);
        bytes.extend(text.as_bytes());
    }
}

fn next_about(reader: &mut Reader<'_>) -> Option<(DeliveryState, Box<str>, Box<str>)> {
    let number = byte(reader)?;
    let state = DeliveryState::ALL.into_iter().find(|state| state_number(*state) == number)?;
    Some((state, text(reader, PROVIDER_MAX)?, text(reader, MESSAGE_ID_MAX)?))
}

/// Part of the format: never another one for the same state.
fn state_number(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Accepted => 0,
        DeliveryState::Queued => 1,
        DeliveryState::Sent => 2,
        DeliveryState::Undelivered => 3,
        DeliveryState::Failed => 4,
        DeliveryState::Expired => 5,
        DeliveryState::Rejected => 6,
        DeliveryState::Delivered => 7,
        DeliveryState::Read => 8,
    }
}

fn byte(reader: &mut Reader<'_>) -> Option<u8> {
    u8::try_from(reader.number(1)?).ok()
}

fn time(reader: &mut Reader<'_>) -> Option<Timestamp> {
    reader.number(8).map(Timestamp::from_micros)
}

fn text(reader: &mut Reader<'_>, max: usize) -> Option<Box<str>> {
    let length = usize::from(byte(reader)?);
    let bytes = reader.bytes(length).filter(|bytes| bytes.len() <= max)?;
    std::str::from_utf8(bytes).ok().map(Box::from)
}
