//! The scripts by which gateways tell each other things, and what goes in and out of them.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::timeout;

use super::SharedStore;
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;
use crate::store::exchange::{
    Cursor, End, Epoch, ExchangeFault, Heard, Mark, News, Notice, Page, Reading, SEALED_MAX, Scan, Subject,
    Told,
};
use crate::store::remote::call::{Bundle, Piece, Script};
use crate::store::remote::{Remote, StoreError};

static TELL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../script/tell.lua")));
static HEAR: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../script/hear.lua")));
static PAGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../script/page.lua")));

/// Marks that the hash holds at most; more than any gateway's book.
const MARKS_MAX: &str = "1000000";
/// Entries that the stream holds, about.
const ENTRIES_MAX: &str = "10000";
/// How long all of it stays when no gateway is there any more: eight days.
const KEPT_MS: &str = "691200000";
/// Entries of one answer.
const ENTRIES: &str = "256";
/// Marks of one page, about.
const MARKS: &str = "100";
/// Nobody waits for it who is being served, so it may take longer than a decision; but what takes longer than this is
/// as good as lost, and all is compared afterwards.
const PATIENCE: Duration = Duration::from_secs(1);
/// A server is asked this often, a provider that takes money for each call less so.
const PACE: Duration = Duration::from_millis(25);
const PACE_PAID: Duration = Duration::from_secs(1);

impl SharedStore {
    pub(in crate::store) fn exchange_pace(&self) -> Duration {
        match self.remote {
            Remote::Node(_) | Remote::Cluster(_) => PACE,
            Remote::Upstash(_) => PACE_PAID,
        }
    }

    /// Forgets what this node knows of a key; the store itself is not told.
    pub(in crate::store) fn forget_in_node(&self, key: KeyHash) {
        self.local.forget(self.rekey.rekey(key));
        self.denied.forget(key);
    }

    /// See [`crate::store::exchange::Exchange::tell`].
    pub(in crate::store) async fn tell_others(
        &self,
        epoch: &str,
        own: &str,
        notices: &[Notice],
    ) -> Result<Told, ExchangeFault> {
        let mut args: Vec<Vec<u8>> =
            [epoch, own, MARKS_MAX, ENTRIES_MAX, KEPT_MS].iter().map(|arg| arg.as_bytes().to_vec()).collect();
        for notice in notices {
            let (op, mark) = match notice.subject {
                Subject::Block { mark, end: End::Latest } => ("b", Some(mark)),
                Subject::Block { mark, end: End::Ordered } => ("o", Some(mark)),
                Subject::Lift(mark) => ("l", Some(mark)),
                Subject::Event => ("e", None),
            };
            args.push(op.into());
            match mark {
                Some(Mark { key, id, until }) => {
                    args.push(field_of(key).into_bytes());
                    args.push(until.floor_millis().to_string().into_bytes());
                    args.push(format!("{:032x}", u128::from_be_bytes(id)).into_bytes());
                }
                None => args.extend([Vec::new(), Vec::new(), Vec::new()]),
            }
            args.push(notice.sealed.clone());
        }
        let mut answer = Answer::of(self.ask(&TELL, args).await?);
        Ok(Told { epoch: Epoch(answer.bytes()?.into()), crowded: answer.number()? })
    }

    /// See [`crate::store::exchange::Exchange::hear`].
    pub(in crate::store) async fn hear_others(
        &self,
        since: Option<Cursor>,
        own: &str,
    ) -> Result<News, ExchangeFault> {
        let place = since.map(|since| since.to_string()).unwrap_or_default();
        let sealed_max = SEALED_MAX.to_string();
        let args = [&*place, own, ENTRIES, &sealed_max].iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let mut answer = Answer::of(self.ask(&HEAR, args).await?);
        let now = answer.time()?;
        let epoch = answer.bytes_or_nil()?.map(|epoch| Epoch(epoch.into()));
        let (newest, upto) = (answer.cursor()?, answer.cursor()?);
        let has_gap = answer.number()? == 1;
        let (mut heard, mut strange) = (Vec::new(), 0);
        while !answer.is_over() {
            let told_at = answer.cursor()?.told_at();
            match answer.heard(told_at)? {
                Some(one) => heard.push(one),
                None => strange += 1,
            }
        }
        Ok(News { now, epoch, newest, upto, has_gap, heard, strange })
    }

    /// See [`crate::store::exchange::Exchange::page`].
    pub(in crate::store) async fn page_in_force(
        &self,
        from: Option<&Scan>,
        reading: Reading,
    ) -> Result<Page, ExchangeFault> {
        let from = from.map_or(&b"0"[..], |scan| &scan.0);
        let sealed_max = SEALED_MAX.to_string();
        let reading = match reading {
            Reading::Marks => "1",
            Reading::Nothing => "0",
        };
        let rest = [MARKS, &*sealed_max, KEPT_MS, reading];
        let mut args: Vec<Vec<u8>> = vec![from.to_vec()];
        args.extend(rest.iter().map(|arg| arg.as_bytes().to_vec()));
        let mut answer = Answer::of(self.ask(&PAGE, args).await?);
        let now = answer.time()?;
        let next = Some(answer.bytes()?).filter(|next| next != b"0").map(|next| Scan(next.into()));
        let (mut heard, mut strange) = (Vec::new(), 0);
        while !answer.is_over() {
            match answer.heard(now)? {
                Some(one) => heard.push(one),
                None => strange += 1,
            }
        }
        Ok(Page { next, heard, strange })
    }

    /// One call over the two keys, unless their part of the store is known to be away. That it fails opens no breaker:
    /// those are for what requests wait for.
    async fn ask(&self, script: &'static Script, args: Vec<Vec<u8>>) -> Result<Vec<Piece>, ExchangeFault> {
        let [blocks, told] = ["blocks", "told"].map(|name| format!("{}{{mirror}}:{name}", self.name_prefix));
        if self.breaker(self.remote.lane(&blocks)).is_open() {
            return Err(ExchangeFault::Away);
        }
        let args = args.into_iter().map(Cow::from).collect();
        let bundle = Bundle { script, keys: vec![&blocks, &told], args };
        let answer = timeout(PATIENCE, self.remote.run_bundle(&bundle)).await;
        let answer = answer.unwrap_or(Err(StoreError::Timeout));
        if let Err(error) = &answer {
            self.metrics.failed(error.kind());
        }
        Ok(answer?)
    }
}

/// As the names of counters spell it.
fn field_of(key: KeyHash) -> String {
    URL_SAFE_NO_PAD.encode(key.as_u128().to_be_bytes())
}

fn key_of(field: &[u8]) -> Option<KeyHash> {
    let bytes: [u8; 16] = URL_SAFE_NO_PAD.decode(field).ok()?.try_into().ok()?;
    Some(KeyHash::from_u128(u128::from_be_bytes(bytes)))
}

/// The pieces that are not read yet.
pub(super) struct Answer(std::vec::IntoIter<Piece>);

impl Answer {
    pub(super) fn of(pieces: Vec<Piece>) -> Answer {
        Answer(pieces.into_iter())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        match self.0.next() {
            Some(Piece::Int(number)) => u64::try_from(number).map_err(|_| garbage("a number below zero")),
            Some(Piece::Bytes(_) | Piece::Nil) | None => Err(garbage("no number where one should be")),
        }
    }

    fn bytes_or_nil(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.next() {
            Some(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Piece::Nil) => Ok(None),
            Some(Piece::Int(_)) | None => Err(garbage("no text where one should be")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.bytes_or_nil()?.ok_or_else(|| garbage("nothing where a text should be"))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        let (seconds, micros) = (self.number()?, self.number()?);
        Ok(Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros)))
    }

    fn cursor(&mut self) -> Result<Cursor, StoreError> {
        let bytes = self.bytes()?;
        let cursor = std::str::from_utf8(&bytes).ok().and_then(Cursor::parse);
        cursor.ok_or_else(|| garbage("no place in the stream"))
    }

    /// The next notice; none if it is of no kind that this version knows.
    fn heard(&mut self, told_at: Timestamp) -> Result<Option<Heard>, StoreError> {
        let op = self.bytes()?;
        let (field, ends, id, sealed) = (self.bytes()?, self.bytes()?, self.bytes()?, self.bytes()?);
        let number = |bytes: &[u8], radix| u128::from_str_radix(std::str::from_utf8(bytes).ok()?, radix).ok();
        let mark = || {
            let until = Timestamp::from_millis(u64::try_from(number(&ends, 10)?).ok()?);
            Some(Mark { key: key_of(&field)?, id: number(&id, 16)?.to_be_bytes(), until })
        };
        let subject = match &*op {
            b"b" => mark().map(|mark| Subject::Block { mark, end: End::Latest }),
            b"l" => mark().map(Subject::Lift),
            b"e" => Some(Subject::Event),
            _ => None,
        };
        Ok(subject.map(|subject| Heard { subject, told_at, sealed }))
    }
}

pub(super) fn garbage(what: &str) -> StoreError {
    StoreError::Garbage(what.into())
}
