//! The rules once more, by keeping all that ever happened in a list.

use tollgate::decision::key::KeyHash;
use tollgate::decision::time::{Span, Timestamp};
use tollgate::otp::Claim;
use tollgate::otp::card::{Card, Consumed, Delivery, Draft, Guess, Nonce, Noted, Opened};
use tollgate::otp::desk::Desk;
use tollgate::sms::DeliveryState;

use super::{START, draft, slot};

pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// What happened to a slot.
enum Event {
    Opened { draft: Draft, at: Timestamp },
    Resent { sealed: Vec<u8> },
    Guessed,
    Used { at: Timestamp },
    Told(Delivery),
}

/// What happened to a claim.
enum Claimed {
    Taken { print: u8, ends: Timestamp },
    Answered { bytes: Vec<u8>, ends: Timestamp },
    Released,
}

#[derive(Default)]
struct Model {
    events: Vec<(u128, Event)>,
    claims: Vec<(u128, Claimed)>,
}

impl Model {
    /// The card of a slot: what the story since it was opened comes to.
    fn card(&self, slot: u128, now: Timestamp) -> Option<Card> {
        let of_slot: Vec<&Event> =
            self.events.iter().filter(|(of, _)| *of == slot).map(|(_, event)| event).collect();
        let start = of_slot.iter().rposition(|event| matches!(event, Event::Opened { .. }))?;
        let story = &of_slot[start..];
        let Event::Opened { draft, at } = story[0] else { unreachable!() };
        let expires_at = at.plus(draft.ttl);
        if now >= expires_at.plus(draft.ttl).plus(Span::from_secs(3600)) {
            return None;
        }
        let last_sealed = story.iter().rev().find_map(|event| match event {
            Event::Resent { sealed } => Some(sealed.clone()),
            _ => None,
        });
        let count = |is: fn(&Event) -> bool| story.iter().filter(|event| is(event)).count();
        Some(Card {
            nonce: draft.nonce,
            seed: draft.seed,
            sealed: last_sealed.unwrap_or_else(|| draft.sealed.clone()),
            opened_at: *at,
            expires_at,
            attempts: count(|event| matches!(event, Event::Guessed)) as u8,
            attempts_max: draft.attempts_max,
            used_at: story.iter().find_map(|event| match event {
                Event::Used { at } => Some(*at),
                _ => None,
            }),
            sends: 1 + count(|event| matches!(event, Event::Resent { .. })) as u16,
            deliveries: deliveries(story).into(),
        })
    }

    /// Who holds a claim, and what was answered.
    fn claim(&self, key: u128, now: Timestamp) -> Option<(u8, Option<Vec<u8>>)> {
        let of_key: Vec<&Claimed> =
            self.claims.iter().filter(|(of, _)| *of == key).map(|(_, event)| event).collect();
        let start = of_key.iter().rposition(|event| matches!(event, Claimed::Taken { .. }))?;
        let Claimed::Taken { print, ends } = of_key[start] else { unreachable!() };
        let (mut answer, mut over) = (None, *ends);
        for event in &of_key[start + 1..] {
            match event {
                Claimed::Answered { bytes, ends } => (answer, over) = (Some(bytes.clone()), *ends),
                Claimed::Released => return None,
                Claimed::Taken { .. } => unreachable!(),
            }
        }
        (over > now).then_some((*print, answer))
    }
}

/// Of each attempt the first that was told of the highest rank, and when it was first said to be sent; the eight
/// latest attempts.
fn deliveries(story: &[&Event]) -> Vec<Delivery> {
    let told: Vec<&Delivery> = story
        .iter()
        .filter_map(|event| match event {
            Event::Told(delivery) => Some(delivery),
            _ => None,
        })
        .collect();
    let mut attempts: Vec<u8> = told.iter().map(|delivery| delivery.attempt).collect();
    attempts.sort_unstable();
    attempts.dedup();
    let latest = attempts.split_off(attempts.len().saturating_sub(8));
    let of = |attempt: u8| {
        let all: Vec<_> = told.iter().filter(|delivery| delivery.attempt == attempt).collect();
        let highest = all.iter().map(|delivery| delivery.state.rank()).max().unwrap();
        let best = all.iter().find(|delivery| delivery.state.rank() == highest).unwrap();
        Delivery { sent_at: all[0].sent_at, ..(***best).clone() }
    };
    latest.into_iter().map(of).collect()
}

struct Play<'d> {
    desk: &'d Desk,
    model: Model,
    dice: Dice,
    now: Timestamp,
    run: u64,
    drafts: u64,
    place: String,
}

/// Plays random steps to a desk and to the model; slots and claims are of this run alone.
pub(super) async fn agree(desk: &Desk, run: u64, steps: usize) {
    let dice = Dice::new(run + 1);
    let mut play =
        Play { desk, model: Model::default(), dice, now: START, run, drafts: 0, place: String::new() };
    for step in 0..steps {
        let gap_s = match play.dice.below(40) {
            0..=24 => 0,
            25..=35 => play.dice.below(20),
            36 => 570,
            37 => 30,
            38 => play.dice.below(1500),
            _ => play.dice.below(6000),
        };
        play.now = play.now.plus(Span::from_millis(gap_s * 1000 + play.dice.below(2)));
        let number = u128::from(run) * 10 + u128::from(play.dice.below(3));
        let kind = play.dice.below(13);
        play.place = format!("run {run}, step {step}, slot {number}, kind {kind}");
        match kind {
            0..=2 => play.open(number).await,
            3..=5 => play.guess(number).await,
            6 => play.consume(number).await,
            7 => play.look(number).await,
            8..=10 => play.note(number).await,
            _ => play.claim(number).await,
        }
    }
}

impl Play<'_> {
    /// The nonce of the code that stands there, or now and then of another.
    fn nonce(&mut self, slot: u128) -> Nonce {
        let stands = self.model.card(slot, self.now).map(|card| card.nonce);
        match self.dice.below(8) {
            0 => Nonce::new([0xff; 8]),
            _ => stands.unwrap_or(Nonce::new([0xee; 8])),
        }
    }

    async fn open(&mut self, number: u128) {
        self.drafts += 1;
        let mut draft = draft(self.run << 32 | self.drafts);
        draft.ttl = Span::from_secs(self.dice.one_of(&[20, 60, 600]));
        draft.attempts_max = self.dice.one_of(&[1, 2, 3, 5]);
        let now = self.now;
        let is_open = self.model.card(number, now).is_some_and(|card| {
            let is_spent = card.used_at.is_some() || card.attempts >= card.attempts_max;
            !is_spent && now.plus(Span::from_secs(30)) <= card.expires_at
        });
        let event = match is_open {
            true => Event::Resent { sealed: draft.sealed.clone() },
            false => Event::Opened { draft: draft.clone(), at: now },
        };
        self.model.events.push((number, event));
        let opened = if is_open { Opened::Again } else { Opened::Fresh };
        let expected = (self.model.card(number, now).unwrap(), opened);
        assert_eq!(self.desk.open(slot(number), draft, now).await, Ok(expected), "{}", self.place);
    }

    async fn guess(&mut self, number: u128) {
        let nonce = self.nonce(number);
        let asked = self.dice.one_of(&[None, Some(nonce)]);
        let card = self.model.card(number, self.now);
        let expected = match card.filter(|card| asked.is_none_or(|nonce| nonce == card.nonce)) {
            None => Guess::Unknown,
            Some(card) if card.used_at.is_some() => Guess::Used,
            Some(card) if self.now >= card.expires_at => Guess::Expired,
            Some(card) if card.attempts == card.attempts_max => Guess::Exhausted,
            Some(_) => {
                self.model.events.push((number, Event::Guessed));
                Guess::Counted(self.model.card(number, self.now).unwrap())
            }
        };
        assert_eq!(self.desk.guess(slot(number), asked, self.now).await, Ok(expected), "{}", self.place);
    }

    async fn consume(&mut self, number: u128) {
        let nonce = self.nonce(number);
        let is_good = self
            .model
            .card(number, self.now)
            .is_some_and(|card| card.nonce == nonce && card.used_at.is_none() && self.now < card.expires_at);
        let expected = match is_good {
            true => {
                self.model.events.push((number, Event::Used { at: self.now }));
                Consumed::First(self.model.card(number, self.now).unwrap())
            }
            false => Consumed::Late,
        };
        assert_eq!(self.desk.consume(slot(number), nonce, self.now).await, Ok(expected), "{}", self.place);
    }

    async fn look(&mut self, number: u128) {
        let nonce = self.nonce(number);
        let expected = self.model.card(number, self.now).filter(|card| card.nonce == nonce);
        assert_eq!(self.desk.look(slot(number), nonce, self.now).await, Ok(expected), "{}", self.place);
    }

    async fn note(&mut self, number: u128) {
        let nonce = self.nonce(number);
        let earlier = |by_ms: u64| Timestamp::from_micros(self.now.as_micros() - by_ms * 1000);
        let changed_at = earlier(self.dice.below(3));
        let delivery = Delivery {
            attempt: 1 + self.dice.below(12) as u8,
            provider: self.dice.one_of(&["first", "the second", "d3"]).into(),
            message_id: self.dice.one_of(&["", "SM0123", "<a b@c>\n\0é"]).into(),
            state: self.dice.one_of(&DeliveryState::ALL),
            sent_at: earlier(5 + self.dice.below(10)),
            changed_at,
        };
        let before = self.model.card(number, self.now).filter(|card| card.nonce == nonce);
        let expected = before.map_or(Noted::Unknown, |before| {
            self.model.events.push((number, Event::Told(delivery.clone())));
            let after = self.model.card(number, self.now).unwrap();
            if after == before { Noted::Unchanged } else { Noted::Changed(after) }
        });
        let noted = self.desk.note(slot(number), nonce, delivery, self.now).await;
        assert_eq!(noted, Ok(expected), "{}", self.place);
    }

    async fn claim(&mut self, number: u128) {
        // Keys in a server go away by its own time: long enough for that not to matter.
        let kept = Span::from_secs(600 + self.dice.below(600));
        let (key, now, ends) = (KeyHash::from_u128(number + 7), self.now, self.now.plus(kept));
        let held = self.model.claim(number, now);
        let mut note = |event| self.model.claims.push((number, event));
        match self.dice.below(6) {
            0 => {
                if held.is_some_and(|(_, answer)| answer.is_none()) {
                    note(Claimed::Released);
                }
                assert_eq!(self.desk.release(key).await, Ok(()), "{}", self.place);
            }
            1 => {
                let bytes: Vec<u8> = (0..2048).map(|at| (at + self.drafts) as u8).collect();
                if held.is_some() {
                    note(Claimed::Answered { bytes: bytes.clone(), ends });
                }
                assert_eq!(self.desk.answer(key, &bytes, now, kept).await, Ok(()), "{}", self.place);
            }
            print => {
                let print = (print % 2) as u8;
                let expected = match held {
                    None => {
                        note(Claimed::Taken { print, ends });
                        Claim::Yours
                    }
                    Some((other, _)) if other != print => Claim::Mismatch,
                    Some((_, None)) => Claim::Pending,
                    Some((_, Some(bytes))) => Claim::Answered(bytes),
                };
                let claimed = self.desk.claim(key, [print; 16], now, kept).await;
                assert_eq!(claimed, Ok(expected), "{}", self.place);
            }
        }
    }
}
