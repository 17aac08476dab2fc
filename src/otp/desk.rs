//! Where codes are kept: in the store that several gateways share, or in this one's journal.
//!
//! Each step is atomic, and done for good before its future resolves: in the journal it is on disk then, in a shared
//! store it is as lasting as the store. Who is told that a step failed must refuse: it may have been taken.
//!
//! Times are those of this gateway's clock; a shared store goes by its own, and what is left of a code is what the
//! store says.

use std::sync::Arc;

use smallvec::SmallVec;
use thiserror::Error;

use super::card::{self, Card, Consumed, Delivery, Draft, Guess, Nonce, Noted, Opened, SEALED_MAX, Slot};
use super::claims::{ANSWER_MAX, Claim, Claims, Full};
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};
use crate::journal::{Amend, Journal, Unkept};
use crate::store::Store;
use crate::store::codes::{Claimed, CodesFault, NewRecord, Note, Record, Tried, Written};

/// Where codes are kept. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Desk {
    store: Arc<Store>,
    journal: Journal,
    claims: Arc<Claims>,
}

/// Why nothing is known of a step. It may have been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DeskFault {
    #[error("the shared store is away")]
    Away,
    #[error("the disk fails or is slow")]
    NotDurable,
    /// No code gives way to another, so no more are made.
    #[error("there is no room for more codes")]
    Full,
    /// What stands there is not ours or of another version, or what should stand there is too long.
    #[error("a code is kept in a way that cannot be read")]
    Broken,
}

impl Desk {
    /// In the store if it is shared, or else in the journal.
    pub fn new(store: Arc<Store>, journal: Journal) -> Desk {
        Desk { store, journal, claims: Arc::default() }
    }

    /// Makes a code out of the draft, unless one stands there that was not used up and is good for 30 seconds more:
    /// that one is sent again then, with what the draft has sealed, and lasts no longer for it.
    pub async fn open(&self, slot: Slot, draft: Draft, now: Timestamp) -> Result<(Card, Opened), DeskFault> {
        if draft.sealed.len() > SEALED_MAX {
            return Err(DeskFault::Broken);
        }
        let Some(codes) = self.store.codes() else {
            let step = |held| {
                let (card, opened) = card::open(held, draft, now);
                let put = put(&card);
                ((card, opened), put)
            };
            return self.amend(slot, now, step).await;
        };
        let Draft { nonce, seed, sealed, ttl, attempts_max } = draft;
        let kept_after = card::kept_after(ttl);
        let resent_left = card::RESENT_LEFT;
        let record =
            NewRecord { nonce: nonce.bytes(), seed, sealed, ttl, kept_after, resent_left, attempts_max };
        let (record, written) = codes.open(slot.hash(), &record, now).await?;
        let opened = match written {
            Written::Fresh => Opened::Fresh,
            Written::Again => Opened::Again,
        };
        Ok((card_of(record)?, opened))
    }

    /// Counts a guess, if there may be one more. Without a nonce it is of whatever code stands there. Takes as long
    /// whatever it finds.
    pub async fn guess(&self, slot: Slot, nonce: Option<Nonce>, now: Timestamp) -> Result<Guess, DeskFault> {
        let Some(codes) = self.store.codes() else {
            let step = |held| {
                let guess = card::guess(held, nonce, now);
                let amend = match &guess {
                    Guess::Counted(card) => put(card),
                    Guess::Expired | Guess::Exhausted | Guess::Used | Guess::Unknown => Amend::Feign,
                };
                (guess, amend)
            };
            return self.amend(slot, now, step).await;
        };
        Ok(match codes.guess(slot.hash(), nonce.map(Nonce::bytes), now).await? {
            Tried::Counted(record) => Guess::Counted(card_of(record)?),
            Tried::Expired => Guess::Expired,
            Tried::Exhausted => Guess::Exhausted,
            Tried::Used => Guess::Used,
            Tried::Unknown => Guess::Unknown,
        })
    }

    /// Uses a code up: of any number of callers one is the first.
    pub async fn consume(&self, slot: Slot, nonce: Nonce, now: Timestamp) -> Result<Consumed, DeskFault> {
        let Some(codes) = self.store.codes() else {
            let step = |held| {
                let consumed = card::consume(held, nonce, now);
                let amend = match &consumed {
                    Consumed::First(card) => put(card),
                    Consumed::Late => Amend::Feign,
                };
                (consumed, amend)
            };
            return self.amend(slot, now, step).await;
        };
        match codes.consume(slot.hash(), nonce.bytes(), now).await? {
            Some(record) => Ok(Consumed::First(card_of(record)?)),
            None => Ok(Consumed::Late),
        }
    }

    /// The code of this nonce, used or expired ones among them.
    pub async fn look(&self, slot: Slot, nonce: Nonce, now: Timestamp) -> Result<Option<Card>, DeskFault> {
        let card = match self.store.codes() {
            Some(codes) => codes.look(slot.hash(), now).await?.map(card_of).transpose()?,
            None => match self.journal.record(slot.hash(), now) {
                Some(bytes) => Some(Card::unpack(&bytes).ok_or(DeskFault::Broken)?),
                None => None,
            },
        };
        Ok(card.filter(|card| card.nonce == nonce))
    }

    /// Takes down what is known of a message. A state gives way to those of a higher rank alone, so words may come
    /// twice and in any order. When it was sent is what was said first. Texts that are too long are cut.
    pub async fn note(
        &self,
        slot: Slot,
        nonce: Nonce,
        delivery: Delivery,
        now: Timestamp,
    ) -> Result<Noted, DeskFault> {
        let delivery = delivery.bounded();
        let Some(codes) = self.store.codes() else {
            let step = |held| {
                let noted = card::note(held, nonce, delivery);
                let amend = match &noted {
                    Noted::Changed(card) => put(card),
                    Noted::Unchanged | Noted::Unknown => Amend::Leave,
                };
                (noted, amend)
            };
            return self.amend(slot, now, step).await;
        };
        let note = Note {
            number: delivery.attempt,
            rank: delivery.state.rank(),
            began_at: delivery.sent_at,
            changed_at: delivery.changed_at,
            about: card::about(&delivery),
        };
        let most = card::DELIVERIES_MAX;
        Ok(match codes.note(slot.hash(), nonce.bytes(), &note, most, now).await? {
            Some((record, true)) => Noted::Changed(card_of(record)?),
            Some((_, false)) => Noted::Unchanged,
            None => Noted::Unknown,
        })
    }

    /// Claims a request by its name. `print` tells requests of the same name apart, and `kept` is how long it is
    /// pending at most: who dies over it holds nobody up for longer.
    pub async fn claim(
        &self,
        key: KeyHash,
        print: [u8; 16],
        now: Timestamp,
        kept: Span,
    ) -> Result<Claim, DeskFault> {
        let Some(codes) = self.store.codes() else {
            return self.claims.claim(key, print, now, kept).map_err(|Full| DeskFault::Full);
        };
        Ok(match codes.claim(key, print, now, kept).await? {
            Claimed::Yours => Claim::Yours,
            Claimed::Pending => Claim::Pending,
            Claimed::Answered(bytes) => Claim::Answered(bytes),
            Claimed::Mismatch => Claim::Mismatch,
        })
    }

    /// Keeps the answer to a request that was claimed, [`ANSWER_MAX`] bytes at most, for `kept` from now on. A claim
    /// that is over is not brought back.
    pub async fn answer(
        &self,
        key: KeyHash,
        bytes: &[u8],
        now: Timestamp,
        kept: Span,
    ) -> Result<(), DeskFault> {
        if bytes.len() > ANSWER_MAX {
            return Err(DeskFault::Broken);
        }
        match self.store.codes() {
            Some(codes) => codes.answer(key, bytes, now, kept).await?,
            None => self.claims.answer(key, bytes, now, kept),
        }
        Ok(())
    }

    /// Lets a claim go that is not answered: the next one may be made.
    pub async fn release(&self, key: KeyHash) -> Result<(), DeskFault> {
        match self.store.codes() {
            Some(codes) => codes.release(key).await?,
            None => self.claims.release(key),
        }
        Ok(())
    }

    /// A step on the card of a slot, in the journal.
    async fn amend<T>(
        &self,
        slot: Slot,
        now: Timestamp,
        step: impl FnOnce(Option<Card>) -> (T, Amend),
    ) -> Result<T, DeskFault> {
        let on_bytes = |bytes: Option<&[u8]>| match bytes.map(Card::unpack) {
            Some(None) => (Err(DeskFault::Broken), Amend::Feign),
            held => {
                let (out, amend) = step(held.flatten());
                (Ok(out), amend)
            }
        };
        self.journal.amend(slot.hash(), now, on_bytes).await.map_err(|unkept| match unkept {
            Unkept::NotDurable => DeskFault::NotDurable,
            Unkept::Full => DeskFault::Full,
        })?
    }
}

fn put(card: &Card) -> Amend {
    Amend::Put { until: card.kept_until(), bytes: card.pack() }
}

fn card_of(record: Record) -> Result<Card, DeskFault> {
    let Record { nonce, seed, sealed, opened_at, expires_at, attempts, attempts_max, used_at, sends, notes } =
        record;
    let delivery = |note: Note| {
        let Note { number: attempt, rank: _, began_at: sent_at, changed_at, about } = note;
        let (state, provider, message_id) = card::read_about(&about)?;
        Some(Delivery { attempt, provider, message_id, state, sent_at, changed_at })
    };
    let deliveries: Option<SmallVec<[Delivery; 2]>> = notes.into_iter().map(delivery).collect();
    Ok(Card {
        nonce: Nonce::new(nonce),
        seed,
        sealed,
        opened_at,
        expires_at,
        attempts,
        attempts_max,
        used_at,
        sends,
        deliveries: deliveries.ok_or(DeskFault::Broken)?,
    })
}

impl From<CodesFault> for DeskFault {
    fn from(fault: CodesFault) -> DeskFault {
        match fault {
            CodesFault::Away => DeskFault::Away,
            CodesFault::Full => DeskFault::Full,
            CodesFault::Broken => DeskFault::Broken,
        }
    }
}
