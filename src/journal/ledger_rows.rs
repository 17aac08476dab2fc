//! Records of the ledger as rows.

use rusqlite::{Connection, Statement, Transaction, TransactionBehavior};

use super::block_rows::{key_bytes, micros, time};
use super::file::{JournalFile, Trouble};
use super::ledger::{Ledger, Record};
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;

pub(super) const KEEP: &str = "
INSERT INTO codes (slot, until, packed) VALUES (?1, ?2, ?3)
ON CONFLICT (slot) DO UPDATE SET until = excluded.until, packed = excluded.packed";

/// By the statement [`KEEP`].
pub(super) fn keep(statement: &mut Statement<'_>, key: KeyHash, record: &Record) -> Result<(), Trouble> {
    statement.execute((&key_bytes(key)[..], micros(record.until), &record.bytes[..]))?;
    Ok(())
}

impl JournalFile {
    /// Puts what is kept still into the ledger.
    pub(super) fn load_records(&self, ledger: &Ledger, now: Timestamp) -> Result<(), Trouble> {
        let mut statement =
            self.connection.prepare("SELECT slot, until, packed FROM codes WHERE until > ?1")?;
        let mut rows = statement.query([micros(now)])?;
        while let Some(row) = rows.next()? {
            let key = KeyHash::from_u128(u128::from_be_bytes(row.get(0)?));
            let bytes: Vec<u8> = row.get(2)?;
            ledger.restore(key, Record { until: time(row.get(1)?), bytes: bytes.into() });
        }
        Ok(())
    }

    /// Writes one shard of the ledger, whatever the file holds of it.
    pub(super) fn put_records(&mut self, ledger: &Ledger, shard: usize) -> Result<(), Trouble> {
        let records = ledger.records(shard);
        if records.is_empty() {
            return Ok(());
        }
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut statement = change.prepare(KEEP)?;
        for (key, record) in &records {
            keep(&mut statement, *key, record)?;
        }
        drop(statement);
        Ok(change.commit()?)
    }
}

/// Rows that [`super::tidy`] may drop: over since before a time.
pub(super) fn drop_old(
    connection: &Connection,
    before: Timestamp,
    rows_max: usize,
) -> Result<usize, Trouble> {
    let old = "SELECT slot FROM codes WHERE until < ?1 LIMIT ?2";
    let sql = format!("DELETE FROM codes WHERE slot IN ({old})");
    Ok(connection.execute(&sql, (micros(before), i64::try_from(rows_max).unwrap_or(i64::MAX)))?)
}

pub(super) fn drop_all(change: &Transaction<'_>) -> Result<(), Trouble> {
    change.execute("DELETE FROM codes", [])?;
    Ok(())
}
