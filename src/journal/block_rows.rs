//! Blocks as rows.

use rusqlite::{Connection, Row, Statement, Transaction, TransactionBehavior, named_params};

use super::block::{BlockId, BlockRecord, Ended};
use super::book::Book;
use super::file::{JournalFile, Trouble};
use super::identifier::Identifier;
use super::ledger_rows;
use super::queue::{Change, What};
use super::seal::{Purpose, Sealer};
use crate::decision::block::Block;
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;

/// What [`read`] wants of a row.
pub(super) const COLUMNS: &str = "id, key_hash, key_kind, sealed, masked, reason, route, policy, attempts,
    created_at, until, level, forget_at, made_by, spec, ends_at, ended_how, ended_by, seq";

const PUT: &str = "
INSERT INTO blocks (id, key_hash, key_kind, sealed, masked, search, part_a, part_b, reason, route, policy,
    attempts, created_at, until, level, forget_at, made_by, spec, ends_at)
VALUES (:id, :key, :key_kind, :sealed, :masked, :search, :part_a, :part_b, :reason, :route, :policy,
    :attempts, :created_at, :until, :level, :forget_at, :made_by, :spec, :until)
ON CONFLICT (id) DO UPDATE SET
    reason = excluded.reason, route = excluded.route, policy = excluded.policy, attempts = excluded.attempts,
    until = excluded.until, level = excluded.level, forget_at = excluded.forget_at,
    made_by = excluded.made_by, spec = excluded.spec, ends_at = excluded.ends_at, ended_how = 0,
    ended_by = NULL";

/// Ends what is in force of a key and forgets the rest of it.
const END: &str = "
UPDATE blocks SET
    ended_how = CASE WHEN ends_at > :at THEN :how ELSE ended_how END,
    ended_by = CASE WHEN ends_at > :at THEN :by ELSE ended_by END,
    ends_at = min(ends_at, :at),
    forget_at = min(forget_at, :at)
WHERE key_hash = :key AND (forget_at > :at OR ends_at > :at)";

const HELD: &str = "forget_at > ?1 OR ends_at > ?1";

/// A block that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedBlock {
    /// What the next page is asked by: `before`.
    pub cursor: EndedCursor,
    pub record: BlockRecord,
    pub ended_at: Timestamp,
    pub how: Ended,
    /// The operator that ended it.
    pub ended_by: Option<Box<str>>,
}

/// A place among the blocks that are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndedCursor {
    pub(super) ends_at: i64,
    pub(super) seq: i64,
}

impl EndedCursor {
    /// As `Display` writes it.
    pub fn parse(text: &str) -> Option<EndedCursor> {
        let (ends_at, seq) = text.split_once('-')?;
        Some(EndedCursor { ends_at: ends_at.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl std::fmt::Display for EndedCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ends_at, self.seq)
    }
}

impl JournalFile {
    /// Makes changes of book and ledger in one transaction.
    pub(super) fn change(&mut self, sealer: &Sealer, changes: &[Change]) -> Result<(), Trouble> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut put = change.prepare(PUT)?;
        let mut end = change.prepare(END)?;
        let mut keep = change.prepare(ledger_rows::KEEP)?;
        for one in changes {
            match &one.what {
                What::Put(record) => put_row(&mut put, sealer, record)?,
                What::End { key, at, how, by } => {
                    end.execute(named_params! {
                        ":key": &key_bytes(*key)[..],
                        ":at": micros(*at),
                        ":how": *how as i64,
                        ":by": by,
                    })?;
                }
                What::Keep(key, record) => ledger_rows::keep(&mut keep, *key, record)?,
            }
        }
        drop((put, end, keep));
        Ok(change.commit()?)
    }

    /// Writes one shard of the book, whatever the file holds of it.
    pub(super) fn put_shard(&mut self, sealer: &Sealer, book: &Book, shard: usize) -> Result<(), Trouble> {
        let records = book.records(shard);
        if records.is_empty() {
            return Ok(());
        }
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut put = change.prepare(PUT)?;
        for record in &records {
            put_row(&mut put, sealer, record)?;
        }
        drop(put);
        Ok(change.commit()?)
    }

    /// Puts all that is in force or remembered into the book. `false` if the book does not hold all
    /// that the file says is in force.
    pub(super) fn load(&self, sealer: &Sealer, book: &Book, now: Timestamp) -> Result<bool, Trouble> {
        let mut statement = self.connection.prepare(&format!("SELECT {COLUMNS} FROM blocks WHERE {HELD}"))?;
        let mut rows = statement.query([micros(now)])?;
        let mut is_whole = true;
        while let Some(row) = rows.next()? {
            let mut record = read(row, sealer)?.record;
            // A block that was ended early is remembered no longer than the row says.
            let ends_at: i64 = row.get(15)?;
            record.block.until = record.block.until.min(time(ends_at));
            is_whole &= book.restore(record.into(), now);
        }
        Ok(is_whole)
    }

    /// Ends the blocks that the book does not hold.
    pub(super) fn end_strangers(&mut self, book: &Book, now: Timestamp) -> Result<(), Trouble> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let strangers = strangers(&change, book, now)?;
        let mut end = change.prepare(&END.replace("key_hash = :key", "seq = :key"))?;
        for seq in strangers {
            end.execute(named_params! {
                ":key": seq, ":at": micros(now), ":how": Ended::Displaced as i64, ":by": None::<&str>,
            })?;
        }
        drop(end);
        Ok(change.commit()?)
    }
}

fn strangers(change: &Transaction<'_>, book: &Book, now: Timestamp) -> Result<Vec<i64>, Trouble> {
    let mut statement = change.prepare(&format!("SELECT seq, key_hash, id FROM blocks WHERE {HELD}"))?;
    let mut rows = statement.query([micros(now)])?;
    let mut strangers = Vec::new();
    while let Some(row) = rows.next()? {
        let key = KeyHash::from_u128(u128::from_be_bytes(row.get(1)?));
        if !book.holds(key, BlockId::from_bytes(row.get(2)?)) {
            strangers.push(row.get(0)?);
        }
    }
    Ok(strangers)
}

fn put_row(put: &mut Statement<'_>, sealer: &Sealer, record: &BlockRecord) -> Result<(), Trouble> {
    let identifier = sealer.seal_identifier(Purpose::Block, &record.identifier);
    let spec = record.spec.as_ref().and_then(|spec| sealer.seal(Purpose::Spec, spec.as_bytes()));
    put.execute(named_params! {
        ":id": &record.id.to_bytes()[..],
        ":key": &key_bytes(record.key)[..],
        ":key_kind": record.key_kind,
        ":sealed": identifier.sealed,
        ":masked": identifier.masked,
        ":search": identifier.search,
        ":part_a": identifier.part_a,
        ":part_b": identifier.part_b,
        ":reason": record.reason as i64,
        ":route": record.route,
        ":policy": record.policy,
        ":attempts": record.attempts,
        ":created_at": micros(record.created_at),
        ":until": micros(record.block.until),
        ":level": record.block.level,
        ":forget_at": micros(record.block.forget_at),
        ":made_by": record.by,
        ":spec": spec,
    })?;
    Ok(())
}

/// A block of the [`COLUMNS`].
pub(super) fn read(row: &Row<'_>, sealer: &Sealer) -> Result<EndedBlock, Trouble> {
    let reason: i64 = row.get(5)?;
    let how: i64 = row.get(16)?;
    let strange = |what: &str, number: i64| Trouble::Broken(format!("there is no {what} {number}"));
    let spec: Option<Vec<u8>> = row.get(14)?;
    let record = BlockRecord {
        id: BlockId::from_bytes(row.get(0)?),
        key: KeyHash::from_u128(u128::from_be_bytes(row.get(1)?)),
        key_kind: row.get(2)?,
        identifier: identifier(row, sealer)?,
        reason: super::block::Reason::from_number(reason).ok_or_else(|| strange("reason", reason))?,
        route: row.get(6)?,
        policy: row.get(7)?,
        attempts: row.get(8)?,
        created_at: time(row.get(9)?),
        block: Block { until: time(row.get(10)?), level: row.get(11)?, forget_at: time(row.get(12)?) },
        by: row.get(13)?,
        spec: spec.and_then(|spec| opened_text(sealer, &spec)),
    };
    let ends_at: i64 = row.get(15)?;
    Ok(EndedBlock {
        cursor: EndedCursor { ends_at, seq: row.get(18)? },
        record,
        ended_at: time(ends_at),
        how: Ended::from_number(how).ok_or_else(|| strange("end", how))?,
        ended_by: row.get(17)?,
    })
}

fn identifier(row: &Row<'_>, sealer: &Sealer) -> Result<Identifier, Trouble> {
    let sealed: Option<Vec<u8>> = row.get(3)?;
    let masked: Box<str> = row.get(4)?;
    let opened = sealed.and_then(|sealed| sealer.open_identifier(Purpose::Block, &sealed, masked.clone()));
    Ok(opened.unwrap_or_else(|| Identifier::only_masked(masked)))
}

fn opened_text(sealer: &Sealer, sealed: &[u8]) -> Option<Box<str>> {
    String::from_utf8(sealer.open(Purpose::Spec, sealed)?).ok().map(String::into)
}

pub(super) fn key_bytes(key: KeyHash) -> [u8; 16] {
    key.as_u128().to_be_bytes()
}

/// As a column holds a time.
pub(super) fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Rows that [`super::tidy`] may drop: over and forgotten since before a time.
pub(super) fn drop_ended(
    connection: &Connection,
    before: Timestamp,
    rows_max: usize,
) -> Result<usize, Trouble> {
    let old = "SELECT seq FROM blocks WHERE ends_at < ?1 AND forget_at < ?1 LIMIT ?2";
    let sql = format!("DELETE FROM blocks WHERE seq IN ({old})");
    Ok(connection.execute(&sql, (micros(before), i64::try_from(rows_max).unwrap_or(i64::MAX)))?)
}
