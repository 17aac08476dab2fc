//! What is kept of a code, and what each step makes of it. Never the code: a seed, from which only who has the key
//! makes one.

mod packed;

use std::fmt;

use smallvec::SmallVec;

use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};
use crate::sms::DeliveryState;

pub(super) use self::packed::{about, read_about};

/// Where the code for a purpose and a destination is kept: a keyed hash of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(KeyHash);

/// Tells the codes apart that a slot holds one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 8]);

/// A code that may come to be.
#[derive(Clone)]
pub struct Draft {
    pub nonce: Nonce,
    pub seed: [u8; 32],
    /// Purpose, destination, channel: sealed by whoever makes the draft, at most [`SEALED_MAX`] bytes.
    pub sealed: Vec<u8>,
    pub ttl: Span,
    /// How many guesses are compared.
    pub attempts_max: u8,
}

/// A code as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Card {
    pub nonce: Nonce,
    pub seed: [u8; 32],
    pub sealed: Vec<u8>,
    pub opened_at: Timestamp,
    pub expires_at: Timestamp,
    pub attempts: u8,
    pub attempts_max: u8,
    pub used_at: Option<Timestamp>,
    /// How often it was asked for.
    pub sends: u16,
    /// What became of the messages, by attempt; at most [`DELIVERIES_MAX`], the latest.
    pub deliveries: SmallVec<[Delivery; 2]>,
}

/// What became of one attempt to send a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// From 1 on, whatever the provider.
    pub attempt: u8,
    /// At most 64 bytes.
    pub provider: Box<str>,
    /// As the provider calls it, at most 128 bytes; empty if it gave no name.
    pub message_id: Box<str>,
    pub state: DeliveryState,
    pub sent_at: Timestamp,
    pub changed_at: Timestamp,
}

/// Whether a code was made or is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    Fresh,
    /// The same code, for no longer than before.
    Again,
}

/// What became of a guess before anything is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guess {
    /// It is counted, and may be compared.
    Counted(Card),
    Expired,
    Exhausted,
    Used,
    /// There is no such code.
    Unknown,
}

/// What became of using a code up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    First(Card),
    /// It was used, has expired, or another one has taken its place.
    Late,
}

/// What became of a word on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    Changed(Card),
    /// That much was known.
    Unchanged,
    /// There is no such code.
    Unknown,
}

pub const SEALED_MAX: usize = 1024;
pub const DELIVERIES_MAX: usize = 8;
const PROVIDER_MAX: usize = 64;
const MESSAGE_ID_MAX: usize = 128;
/// A code that is good for less than this is not sent again: it would come too late.
pub(super) const RESENT_LEFT: Span = Span::from_secs(30);

impl Slot {
    pub fn new(hash: KeyHash) -> Slot {
        Slot(hash)
    }

    pub fn hash(self) -> KeyHash {
        self.0
    }
}

impl Nonce {
    pub fn new(bytes: [u8; 8]) -> Nonce {
        Nonce(bytes)
    }

    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

/// What a card says to a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    Used,
    Expired,
    Exhausted,
}

impl Card {
    fn new(draft: Draft, now: Timestamp) -> Card {
        let Draft { nonce, seed, sealed, ttl, attempts_max } = draft;
        Card {
            nonce,
            seed,
            sealed,
            opened_at: now,
            expires_at: now.plus(ttl),
            attempts: 0,
            attempts_max,
            used_at: None,
            sends: 1,
            deliveries: SmallVec::new(),
        }
    }

    /// Until when it is remembered, so that "used" and "expired" can be told from "never was".
    pub fn kept_until(&self) -> Timestamp {
        self.expires_at.plus(kept_after(self.opened_at.until(self.expires_at)))
    }

    fn standing(&self, now: Timestamp) -> Standing {
        if self.used_at.is_some() {
            Standing::Used
        } else if self.expires_at <= now {
            Standing::Expired
        } else if self.attempts >= self.attempts_max {
            Standing::Exhausted
        } else {
            Standing::Good
        }
    }
}

/// How long a code of such a life is remembered after its end.
pub(super) fn kept_after(ttl: Span) -> Span {
    ttl.plus(Span::from_secs(3600))
}

/// The card of a slot once its code was asked for: the one that stands there, where it is good for a while yet, or
/// else the draft.
pub(super) fn open(held: Option<Card>, draft: Draft, now: Timestamp) -> (Card, Opened) {
    match held {
        Some(card) if card.standing(now) == Standing::Good && now.plus(RESENT_LEFT) <= card.expires_at => {
            (Card { sends: card.sends.saturating_add(1), sealed: draft.sealed, ..card }, Opened::Again)
        }
        Some(_) | None => (Card::new(draft, now), Opened::Fresh),
    }
}

/// Counts a guess, if there may be one. Without a nonce it is of whatever code the slot holds.
pub(super) fn guess(held: Option<Card>, nonce: Option<Nonce>, now: Timestamp) -> Guess {
    let Some(card) = held.filter(|card| nonce.is_none_or(|nonce| nonce == card.nonce)) else {
        return Guess::Unknown;
    };
    match card.standing(now) {
        Standing::Good => Guess::Counted(Card { attempts: card.attempts.saturating_add(1), ..card }),
        Standing::Used => Guess::Used,
        Standing::Expired => Guess::Expired,
        Standing::Exhausted => Guess::Exhausted,
    }
}

/// Uses a code up. That its guesses are used up does not matter: the last of them may have been right.
pub(super) fn consume(held: Option<Card>, nonce: Nonce, now: Timestamp) -> Consumed {
    let Some(card) = held.filter(|card| nonce == card.nonce) else { return Consumed::Late };
    match card.standing(now) {
        Standing::Good | Standing::Exhausted => Consumed::First(Card { used_at: Some(now), ..card }),
        Standing::Used | Standing::Expired => Consumed::Late,
    }
}

/// Takes down what is known of a message, unless that much is known already.
pub(super) fn note(held: Option<Card>, nonce: Nonce, delivery: Delivery) -> Noted {
    let Some(mut card) = held.filter(|card| nonce == card.nonce) else { return Noted::Unknown };
    if card.absorb(delivery) { Noted::Changed(card) } else { Noted::Unchanged }
}

impl Card {
    /// Whether it says anything new. Where there is no room the first attempt gives way to a later one.
    fn absorb(&mut self, delivery: Delivery) -> bool {
        if let Some(known) = self.deliveries.iter_mut().find(|known| known.attempt == delivery.attempt) {
            let is_news = delivery.state.rank() > known.state.rank();
            if is_news {
                *known = Delivery { sent_at: known.sent_at, ..delivery };
            }
            return is_news;
        }
        let earlier = self.deliveries.iter().take_while(|known| known.attempt < delivery.attempt).count();
        if self.deliveries.len() < DELIVERIES_MAX {
            self.deliveries.insert(earlier, delivery);
        } else if earlier > 0 {
            self.deliveries.remove(0);
            self.deliveries.insert(earlier - 1, delivery);
        } else {
            return false;
        }
        true
    }
}

impl Delivery {
    /// With texts no longer than they may be.
    pub(super) fn bounded(self) -> Delivery {
        let cut = |text: Box<str>, max: usize| match text.len() > max {
            true => {
                let end = (0..=max).rev().find(|&end| text.is_char_boundary(end));
                text[..end.unwrap_or_default()].into()
            }
            false => text,
        };
        Delivery {
            provider: cut(self.provider, PROVIDER_MAX),
            message_id: cut(self.message_id, MESSAGE_ID_MAX),
            ..self
        }
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce")
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Draft { ttl, attempts_max, .. } = self;
        write!(f, "Draft(for {ttl}, {attempts_max} attempts)")
    }
}

/// Without what a code could be made of.
impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("opened_at", &self.opened_at)
            .field("expires_at", &self.expires_at)
            .field("attempts", &self.attempts)
            .field("attempts_max", &self.attempts_max)
            .field("used_at", &self.used_at)
            .field("sends", &self.sends)
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
