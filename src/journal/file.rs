//! The file: how it is opened, what it looks like, and what becomes of it when it is broken.

mod schema;

pub(super) use self::schema::AT_SHIFT;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use thiserror::Error;

use super::ledger_rows;
use super::seal::{Purpose, Sealer};
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;

/// Where the file is, and what it is sealed with.
pub(super) struct Place {
    /// None where nothing can be kept: the file is away then, for as long as the process lives.
    pub(super) folder: Option<PathBuf>,
    pub(super) sealer: Sealer,
    /// A fixed text hashed like keys are: other hashes mean that keys cannot be matched any more.
    pub(super) hash_check: KeyHash,
    /// The file's bound, for tests of a full disk.
    pub(super) pages_max: Option<u32>,
}

/// The file, open to write. Only one of a process is.
pub(super) struct JournalFile {
    pub(super) connection: Connection,
    /// Keeps apart events of one microsecond.
    pub(super) low: u16,
}

/// Why the file cannot be used now.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("the file is broken: {0}")]
    Broken(String),
    #[error("the file is of version {0}, which a later Tollgate wrote")]
    Newer(i64),
    /// For moments, as a rule: another program reads or writes it as one that is alone with it.
    #[error("another program has the file locked: {0}")]
    Held(String),
    #[error("{0}")]
    Away(String),
}

const NAME: &str = "journal.db";
/// So many broken files are kept.
const BROKEN_MAX: usize = 3;
/// Up to this size all of a file is checked when it is opened; past it the blocks alone, for a
/// gateway must start within seconds.
const CHECKED_WHOLE_MAX: u64 = 64 * 1024 * 1024;
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// What the check of the seal key holds, sealed.
const SEAL_CHECK: &[u8] = b"tollgate";

impl Place {
    fn folder(&self) -> Result<&Path, Trouble> {
        self.folder.as_deref().ok_or_else(|| Trouble::Away("there is no folder for it".to_owned()))
    }
}

impl JournalFile {
    /// Opens the file, or makes it; brings it to today's version; shows by a write that it can be
    /// written.
    pub(super) fn open(place: &Place, now: Timestamp) -> Result<JournalFile, Trouble> {
        let folder = place.folder()?;
        let path = folder.join(NAME);
        create(folder, &path).map_err(|error| Trouble::Away(error.to_string()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let version = version(&connection)?;
        if version > schema::VERSION {
            return Err(Trouble::Newer(version));
        }
        // Takes effect in a new file alone.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        // The log goes into the file every 16 MiB: rarely enough that pages of the indexes, which are hit
        // at random, are not written once an event, and often enough that it is done within moments. Of pages
        // 16 MiB are kept: four times as many cost a batch as much time, a half makes it a seventh longer.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;
             PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864;
             PRAGMA cache_size = -16384;",
        )?;
        if let Some(pages) = place.pages_max {
            connection.pragma_update(None, "max_page_count", pages)?;
        }
        if version > 0 {
            check(&connection, &path)?;
        }
        let mut file = JournalFile { connection, low: 0 };
        file.migrate(version)?;
        file.recognise(place, now)?;
        Ok(file)
    }

    /// All that is in the log goes into the file itself, and the log is emptied. Who reads meanwhile
    /// may keep some of it back: the next time gets it.
    pub(super) fn checkpoint(&self) -> Result<(), Trouble> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Gives some of the room back that deleted rows have left; whether there is more.
    pub(super) fn shrink(&self) -> Result<bool, Trouble> {
        /// Left for rows to come.
        const KEPT: i64 = 4096;
        const STEP: i64 = 512;
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        if free <= KEPT {
            return Ok(false);
        }
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({STEP})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(free - STEP > KEPT)
    }

    /// Notes up to where other gateways were heard: whoever opens the file next goes on from there.
    pub(super) fn note_place(&self, place: &str) -> Result<(), Trouble> {
        let note = "INSERT OR REPLACE INTO meta (name, value) VALUES ('heard_up_to', ?1)";
        self.connection.execute(note, [place])?;
        Ok(())
    }

    /// The place that was noted last. Gone then: after a crash it would be an old one.
    pub(super) fn take_place(&self) -> Result<Option<Box<str>>, Trouble> {
        let take = "DELETE FROM meta WHERE name = 'heard_up_to' RETURNING value";
        let mut statement = self.connection.prepare(take)?;
        let mut rows = statement.query([])?;
        let place = rows.next()?.map(|row| row.get(0)).transpose()?;
        while rows.next()?.is_some() {}
        Ok(place)
    }

    fn migrate(&mut self, from: i64) -> Result<(), Trouble> {
        let steps = schema::STEPS.iter().zip(1..).skip_while(|(_, version)| *version <= from);
        for (step, version) in steps {
            let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute_batch(step)?;
            change.pragma_update(None, "user_version", version)?;
            change.commit()?;
        }
        Ok(())
    }

    /// Whether the file was written under today's secrets; if not, its blocks are ended, and its records forgotten.
    fn recognise(&mut self, place: &Place, now: Timestamp) -> Result<(), Trouble> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let noted = |name: &str| -> Result<Option<Vec<u8>>, rusqlite::Error> {
            let mut statement = change.prepare("SELECT value FROM meta WHERE name = ?1")?;
            let mut rows = statement.query([name])?;
            rows.next()?.map(|row| row.get(0)).transpose()
        };
        let hash_check = place.hash_check.as_u128().to_be_bytes();
        let is_hashed_alike = noted("hash_check")?.is_none_or(|noted| noted == hash_check);
        let opens =
            |sealed: Vec<u8>| place.sealer.open(Purpose::Check, &sealed).as_deref() == Some(SEAL_CHECK);
        let is_sealed_alike = noted("seal_check")?.is_none_or(opens);
        let mut note = change.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?;
        note.execute(("hash_check", &hash_check[..]))?;
        if let Some(sealed) = place.sealer.seal(Purpose::Check, SEAL_CHECK) {
            note.execute(("seal_check", sealed))?;
        }
        note.execute(("opened_at", now.as_micros().cast_signed()))?;
        drop(note);
        if !is_hashed_alike || !is_sealed_alike {
            let ended = change.execute(schema::END_ALL, (now.as_micros().cast_signed(),))?;
            ledger_rows::drop_all(&change)?;
            tracing::warn!(
                ended,
                hashed_alike = is_hashed_alike,
                sealed_alike = is_sealed_alike,
                "the journal was written under other secrets: its blocks and codes cannot be matched to requests and have ended"
            );
        }
        change.commit()?;
        Ok(())
    }
}

/// A connection that reads, of a file of today's version.
pub(super) fn open_to_read(place: &Place) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(place.folder()?.join(NAME), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    match version(&connection)? {
        schema::VERSION => Ok(connection),
        version if version > schema::VERSION => Err(Trouble::Newer(version)),
        version => Err(Trouble::Away(format!("the file is of version {version} and not brought up yet"))),
    }
}

/// Moves a broken file and its log out of the way; the oldest of those that were moved before go.
pub(super) fn set_aside(place: &Place, now: Timestamp) -> Result<(), Trouble> {
    let away = |error: io::Error| Trouble::Away(format!("a broken file cannot be moved aside: {error}"));
    let folder = place.folder()?;
    let path = folder.join(NAME);
    let prefix = format!("{NAME}.broken-");
    let broken = folder.join(format!("{prefix}{}", now.as_micros() / 1_000_000));
    fs::rename(&path, &broken).map_err(away)?;
    // The log belongs to the file it was written for: left behind, it would be read into the next.
    for (suffix, is_kept) in [("-wal", true), ("-shm", false)] {
        let beside = with_suffix(&path, suffix);
        let moved = if is_kept {
            fs::rename(&beside, with_suffix(&broken, suffix))
        } else {
            fs::remove_file(&beside)
        };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(away(error)),
            Ok(()) | Err(_) => {}
        }
    }
    let mut kept: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(away)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| is_broken(&name.to_string_lossy(), &prefix)))
        .collect();
    kept.sort();
    let too_many = kept.len().saturating_sub(BROKEN_MAX);
    for old in kept.iter().take(too_many) {
        fs::remove_file(old).map_err(away)?;
        match fs::remove_file(with_suffix(old, "-wal")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(away(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn is_broken(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn check(connection: &Connection, path: &Path) -> Result<(), Trouble> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let checks: &[&str] = if size <= CHECKED_WHOLE_MAX {
        &["PRAGMA quick_check(1)"]
    } else {
        &["PRAGMA quick_check('meta')", "PRAGMA quick_check('blocks')", "PRAGMA quick_check('codes')"]
    };
    for check in checks {
        let found: String = connection.query_row(check, [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Trouble::Broken(found.chars().take(200).collect()));
        }
    }
    Ok(())
}

/// Folder and file for the gateway's own eyes; SQLite gives what it puts beside the file the same mode.
#[cfg(unix)]
fn create(folder: &Path, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn create(folder: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map(drop)
}

/// Messages of SQLite name tables and statements, never values.
impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Broken(error.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Held(error.to_string()),
            Some(_) | None => Trouble::Away(error.to_string()),
        }
    }
}
