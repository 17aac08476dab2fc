//! The scripts by which codes are kept, and what goes in and out of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use smallvec::SmallVec;
use tokio::time::timeout;

use super::exchange::{Answer, garbage};
use super::{SharedStore, ahead_us, shift};
use crate::decision::bytes::Reader;
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};
use crate::store::codes::{Claimed, CodesFault, NewRecord, Note, Record, Tried, Written};
use crate::store::remote::StoreError;
use crate::store::remote::call::{Bundle, Script};

/// A script of those that stand before it and its own.
macro_rules! script {
    ($name:ident: $($file:literal)+) => {
        static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("../script/code_clock.lua"), $(include_str!($file)),+))
        });
    };
}

script!(OPEN: "../script/code_card.lua" "../script/code_open.lua");
script!(GUESS: "../script/code_card.lua" "../script/code_guess.lua");
script!(CONSUME: "../script/code_card.lua" "../script/code_consume.lua");
script!(LOOK: "../script/code_card.lua" "../script/code_look.lua");
script!(NOTE: "../script/code_card.lua" "../script/code_note.lua");
script!(CLAIM: "../script/claim_take.lua");
script!(ANSWER: "../script/claim_answer.lua");
script!(RELEASE: "../script/claim_release.lua");

/// What somebody waits for who is about to be sent a text message; for longer than for a decision, which every
/// request waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What stands under a key.
#[derive(Clone, Copy)]
enum Kind {
    Code,
    Claim,
}

type Args<'a> = Vec<Cow<'a, [u8]>>;

impl SharedStore {
    pub(in crate::store) async fn open_code(
        &self,
        key: KeyHash,
        new: &NewRecord,
        now: Timestamp,
    ) -> Result<(Record, Written), CodesFault> {
        let NewRecord { nonce, seed, sealed, ttl, kept_after, resent_left, attempts_max } = new;
        let args: Args<'_> = vec![
            nonce[..].into(),
            seed[..].into(),
            sealed.into(),
            micros(*ttl),
            micros(*kept_after),
            micros(*resent_left),
            number(u64::from(*attempts_max)),
        ];
        self.step(&OPEN, (Kind::Code, key), args, now, |said| {
            let written = match said.word {
                0 => Written::Fresh,
                1 => Written::Again,
                _ => return Err(said.strange()),
            };
            Ok((said.record()?, written))
        })
        .await
    }

    pub(in crate::store) async fn guess_code(
        &self,
        key: KeyHash,
        nonce: Option<[u8; 8]>,
        now: Timestamp,
    ) -> Result<Tried, CodesFault> {
        let nonce = nonce.map_or(Vec::new(), Vec::from);
        self.step(&GUESS, (Kind::Code, key), vec![nonce.into()], now, |said| match said.word {
            0 => Ok(Tried::Counted(said.record()?)),
            1 => Ok(Tried::Used),
            2 => Ok(Tried::Expired),
            3 => Ok(Tried::Exhausted),
            4 => Ok(Tried::Unknown),
            _ => Err(said.strange()),
        })
        .await
    }

    pub(in crate::store) async fn consume_code(
        &self,
        key: KeyHash,
        nonce: [u8; 8],
        now: Timestamp,
    ) -> Result<Option<Record>, CodesFault> {
        let args = vec![nonce.to_vec().into()];
        self.step(&CONSUME, (Kind::Code, key), args, now, |said| match said.word {
            0 => said.record().map(Some),
            1 | 2 | 4 => Ok(None),
            _ => Err(said.strange()),
        })
        .await
    }

    pub(in crate::store) async fn look_at_code(
        &self,
        key: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Record>, CodesFault> {
        self.step(&LOOK, (Kind::Code, key), Vec::new(), now, |said| match said.word {
            0 => said.record().map(Some),
            4 => Ok(None),
            _ => Err(said.strange()),
        })
        .await
    }

    pub(in crate::store) async fn note_on_code(
        &self,
        key: KeyHash,
        nonce: [u8; 8],
        note: &Note,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<(Record, bool)>, CodesFault> {
        // The two clocks differ, but not in how long ago something was.
        let ago = |at: Timestamp| number(now.as_micros().saturating_sub(at.as_micros()));
        let args: Args<'_> = vec![
            nonce.to_vec().into(),
            number(note.number.into()),
            number(note.rank.into()),
            ago(note.began_at),
            ago(note.changed_at),
            Cow::from(&note.about),
            number(most as u64),
        ];
        self.step(&NOTE, (Kind::Code, key), args, now, |said| match said.word {
            0 => Ok(Some((said.record()?, false))),
            1 => Ok(Some((said.record()?, true))),
            4 => Ok(None),
            _ => Err(said.strange()),
        })
        .await
    }

    pub(in crate::store) async fn claim_request(
        &self,
        key: KeyHash,
        print: [u8; 16],
        now: Timestamp,
        kept: Span,
    ) -> Result<Claimed, CodesFault> {
        let args = vec![print.to_vec().into(), micros(kept)];
        self.step(&CLAIM, (Kind::Claim, key), args, now, |mut said| match said.word {
            0 => Ok(Claimed::Yours),
            1 => Ok(Claimed::Pending),
            2 => Ok(Claimed::Answered(said.rest.bytes()?)),
            3 => Ok(Claimed::Mismatch),
            _ => Err(said.strange()),
        })
        .await
    }

    pub(in crate::store) async fn answer_request(
        &self,
        key: KeyHash,
        bytes: &[u8],
        now: Timestamp,
        kept: Span,
    ) -> Result<(), CodesFault> {
        self.step(&ANSWER, (Kind::Claim, key), vec![bytes.into(), micros(kept)], now, |_| Ok(())).await
    }

    pub(in crate::store) async fn release_request(&self, key: KeyHash) -> Result<(), CodesFault> {
        let now = self.clock.now();
        self.step(&RELEASE, (Kind::Claim, key), Vec::new(), now, |_| Ok(())).await
    }

    /// One call over one key, unless its part of the store is known to be away; never made again.
    async fn step<T>(
        &self,
        script: &'static Script,
        (kind, key): (Kind, KeyHash),
        mut args: Args<'_>,
        now: Timestamp,
        read: impl FnOnce(Said) -> Result<T, StoreError>,
    ) -> Result<T, CodesFault> {
        let name = self.code_name(kind, key);
        let lane = self.remote.lane(&name);
        if self.breaker(lane).is_open() {
            return Err(CodesFault::Away);
        }
        args.insert(0, self.time_of(now).map_or(Cow::from(&b""[..]), |now| number(now.as_micros())));
        let bundle = Bundle { script, keys: vec![&name], args };
        let watch = self.clock.stopwatch();
        let answer = timeout(self.timeout.max(PATIENCE), self.remote.run_bundle(&bundle)).await;
        self.metrics.called(watch.elapsed());
        let answer = answer.unwrap_or(Err(StoreError::Timeout));
        if answer.is_ok() {
            self.breaker(lane).succeeded(self.clock.now());
        }
        let told = answer.and_then(|pieces| read(Said::read(Answer::of(pieces), now)?));
        told.map_err(|error| {
            self.failed(lane, &error);
            CodesFault::from(error)
        })
    }

    fn code_name(&self, kind: Kind, key: KeyHash) -> String {
        let kind = match kind {
            Kind::Code => "code",
            Kind::Claim => "claim",
        };
        let hash = URL_SAFE_NO_PAD.encode(key.as_u128().to_be_bytes());
        format!("{}{kind}:{hash}", self.name_prefix)
    }
}

/// What a script said: a word, and what comes with it.
struct Said {
    word: u64,
    /// How far the store's clock is ahead of this gateway's, microseconds.
    ahead_us: i64,
    rest: Answer,
}

impl Said {
    fn read(mut answer: Answer, now: Timestamp) -> Result<Said, StoreError> {
        let store_now = answer.time()?;
        Ok(Said { word: answer.number()?, ahead_us: ahead_us(store_now, now), rest: answer })
    }

    fn strange(&self) -> StoreError {
        garbage("a word that no script says")
    }

    /// The card that comes with it.
    fn record(mut self) -> Result<Record, StoreError> {
        let mut fields = BTreeMap::new();
        while !self.rest.is_over() {
            fields.insert(self.rest.bytes()?, self.rest.bytes()?);
        }
        Fields { map: fields, ahead_us: self.ahead_us }.record().ok_or_else(|| garbage("no card"))
    }
}

struct Fields {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    ahead_us: i64,
}

impl Fields {
    fn record(mut self) -> Option<Record> {
        Some(Record {
            nonce: self.map.remove(&b"nonce"[..])?.try_into().ok()?,
            seed: self.map.remove(&b"seed"[..])?.try_into().ok()?,
            sealed: self.map.remove(&b"sealed"[..])?,
            opened_at: self.time("opened")?,
            expires_at: self.time("expires")?,
            attempts: self.number("attempts")?.try_into().ok()?,
            attempts_max: self.number("most")?.try_into().ok()?,
            used_at: match self.map.contains_key(&b"used"[..]) {
                true => Some(self.time("used")?),
                false => None,
            },
            sends: self.number("sends")?.try_into().ok()?,
            notes: self.notes()?,
        })
    }

    fn number(&self, name: &str) -> Option<u64> {
        std::str::from_utf8(self.map.get(name.as_bytes())?).ok()?.parse().ok()
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        self.number(name).map(|us| self.here(us))
    }

    /// A time of the store by this gateway's clock.
    fn here(&self, us: u64) -> Timestamp {
        shift(Timestamp::from_micros(us), self.ahead_us.saturating_neg())
    }

    fn notes(&self) -> Option<SmallVec<[Note; 2]>> {
        let numbered = self.map.iter().filter_map(|(field, value)| {
            let number = std::str::from_utf8(field.strip_prefix(b"d")?).ok()?.parse().ok()?;
            Some((number, value))
        });
        let note = |(number, value): (u8, &Vec<u8>)| {
            let mut reader = Reader::new(value);
            let rank = u8::try_from(reader.number(1)?).ok()?;
            let (began, changed) = (reader.number(7)?, reader.number(7)?);
            let about = reader.bytes(reader.len())?.to_vec();
            Some(Note { number, rank, began_at: self.here(began), changed_at: self.here(changed), about })
        };
        let mut notes = numbered.map(note).collect::<Option<SmallVec<[Note; 2]>>>()?;
        notes.sort_unstable_by_key(|note| note.number);
        Some(notes)
    }
}

impl From<StoreError> for CodesFault {
    fn from(error: StoreError) -> CodesFault {
        match error {
            StoreError::WrongType | StoreError::Garbage(_) => CodesFault::Broken,
            StoreError::OutOfMemory => CodesFault::Full,
            StoreError::Timeout
            | StoreError::Disconnected(_)
            | StoreError::Auth(_)
            | StoreError::ReadOnly
            | StoreError::Loading
            | StoreError::Cluster(_)
            | StoreError::Refused(_) => CodesFault::Away,
        }
    }
}

fn number<'a>(number: u64) -> Cow<'a, [u8]> {
    number.to_string().into_bytes().into()
}

fn micros<'a>(span: Span) -> Cow<'a, [u8]> {
    number(span.as_millis().saturating_mul(1000))
}
