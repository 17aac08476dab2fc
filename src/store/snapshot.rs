//! The counters of this process on disk, so that limits and blocks outlive it.
//!
//! One file, `counters.snapshot`, replaced whole. It holds keyed hashes and no value of a client; the secret that they
//! are hashed under stands in another. All numbers are little-endian:
//!
//! ```text
//! "TOLLGATE" | version u16 | check u128 | saved at u64 µs | shards u16 | frames | 0 u32 | SHA-256 of all before
//! frame  length u32 | records (memory/shard/frozen.rs)
//! ```
//!
//! `check` is a fixed text hashed as keys are: under another secret no key would be found again. What is torn, foreign
//! or of a later version is refused whole and put aside as `counters.snapshot.broken`.

mod file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;

use self::file::{Incoming, Outgoing};
use super::durable;
use super::memory::{MemoryStore, Thawing};
use super::{Place, Store};
use crate::clock::Clock;
use crate::decision::key::{KeyHash, KeyHasher, LimitId};
use crate::decision::time::{Resumed, Timestamp};
use crate::telemetry::DataDirMetrics;

/// Writes the counters of a store down and reads them back.
pub struct Snapshots {
    path: PathBuf,
    check: KeyHash,
    clock: Clock,
    metrics: DataDirMetrics,
    /// Locked while a snapshot is written: there is one at a time.
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// [`MemoryStore::changes`] as of the last snapshot.
    changes: u64,
    took: Duration,
    is_failing: bool,
}

/// Why a file cannot be gone on from.
#[derive(Debug, Error)]
enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no snapshot of counters")]
    Foreign,
    #[error("its format is number {0}, and this version reads number {VERSION}")]
    Version(u16),
    #[error("it was made under another secret")]
    Secret,
    #[error("it ends early")]
    Torn,
    #[error("it is damaged")]
    Damaged,
}

/// What a file held.
struct Thawed {
    counters: MemoryStore,
    saved_at: Timestamp,
    left_out: u64,
}

/// Another one whenever a gateway of the version before would misread the file: also when keys are made otherwise.
const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"TOLLGATE";

impl Snapshots {
    /// The pause between two snapshots, and how many times longer it is than writing one takes.
    const PAUSE: Duration = Duration::from_secs(5);
    const PAUSE_FACTOR: u32 = 20;

    /// In this folder, of a store whose keys `hasher` makes.
    pub fn new(folder: &Path, hasher: &KeyHasher, metrics: DataDirMetrics, clock: Clock) -> Snapshots {
        let check = hasher.key(LimitId::derive(&["a snapshot of counters"])).finish();
        let path = folder.join("counters.snapshot");
        Snapshots { path, check, clock, metrics, progress: Mutex::default() }
    }

    /// How long to wait before the next [`Snapshots::save`], so that writing takes a twentieth of the time at most.
    pub fn pause(&self) -> Duration {
        Snapshots::PAUSE.max(self.progress.lock().took.saturating_mul(Snapshots::PAUSE_FACTOR))
    }

    /// Puts what was saved last into a store that has counted nothing yet. What cannot be used is told and put aside.
    /// A shared store is left as it is: its counters do not end with this process.
    pub fn load(&self, store: &mut Store) {
        let Place::Memory(counters) = &mut store.0 else { return };
        let (watch, now) = self.clock.read();
        match self.read(counters, now) {
            Ok(None) => {}
            Ok(Some(thawed)) => {
                let size = thawed.counters.size(now);
                let took_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
                let saved_s = thawed.saved_at.until(now).ceil_secs();
                tracing::info!(
                    keys = size.keys,
                    blocks = size.blocks,
                    age_s = saved_s,
                    took_ms,
                    "the counters go on from where they were"
                );
                if thawed.left_out > 0 {
                    let count = thawed.left_out;
                    tracing::warn!(
                        count,
                        "store.max_keys has no room for some of the counters; they begin anew"
                    );
                }
                *counters = thawed.counters;
            }
            Err(reason) => self.put_aside(&reason),
        }
    }

    /// Writes the counters down if anything was counted since the last time. Blocks until it is on disk.
    pub fn save(&self, store: &Store) {
        let Place::Memory(counters) = &store.0 else { return };
        let mut progress = self.progress.lock();
        let changes = counters.changes();
        if changes == progress.changes {
            return;
        }
        let (watch, now) = self.clock.read();
        let written = self.write(counters, now);
        progress.took = watch.elapsed();
        match written {
            Ok(()) => {
                progress.changes = changes;
                self.metrics.saved(progress.took, now);
                if std::mem::take(&mut progress.is_failing) {
                    tracing::info!("the counters are saved again");
                }
            }
            Err(error) => {
                self.metrics.save_failed();
                if !std::mem::replace(&mut progress.is_failing, true) {
                    tracing::error!(%error, "the counters cannot be saved: what is counted from now on ends with this process; trying on");
                }
            }
        }
    }

    fn write(&self, counters: &MemoryStore, now: Timestamp) -> io::Result<()> {
        durable::replace(&self.path, |file| {
            let mut out = Outgoing::new(file);
            out.put(MAGIC)?;
            out.put(&VERSION.to_le_bytes())?;
            out.put(&self.check.as_u128().to_le_bytes())?;
            out.put(&now.as_micros().to_le_bytes())?;
            out.put(&(counters.shards() as u16).to_le_bytes())?;
            counters.freeze(now, |frame| out.frame(frame))?;
            out.finish()
        })
    }

    /// None if there is no file.
    fn read(&self, like: &MemoryStore, now: Timestamp) -> Result<Option<Thawed>, Unusable> {
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut incoming = Incoming::new(file);
        if &incoming.take::<8>().map_err(|torn| torn.in_head())? != MAGIC {
            return Err(Unusable::Foreign);
        }
        let version = u16::from_le_bytes(incoming.take()?);
        if version != VERSION {
            return Err(Unusable::Version(version));
        }
        if u128::from_le_bytes(incoming.take()?) != self.check.as_u128() {
            return Err(Unusable::Secret);
        }
        let saved_at = Timestamp::from_micros(u64::from_le_bytes(incoming.take()?));
        let shards = usize::from(u16::from_le_bytes(incoming.take()?));
        let mut thawing = Thawing::new(like, shards, Resumed::new(saved_at, now)).ok_or(Unusable::Damaged)?;
        while let Some(frame) = incoming.frame()? {
            thawing.frame(frame).ok_or(Unusable::Damaged)?;
        }
        incoming.finish()?;
        let (counters, left_out) = thawing.finish();
        Ok(Some(Thawed { counters, saved_at, left_out }))
    }

    fn put_aside(&self, reason: &Unusable) {
        let kept = durable::beside(&self.path, "broken");
        match fs::rename(&self.path, &kept) {
            Ok(()) => tracing::error!(
                %reason,
                kept = %kept.display(),
                "the saved counters cannot be used: all limits and blocks begin anew"
            ),
            Err(error) => tracing::error!(
                %reason,
                %error,
                "the saved counters cannot be used, nor put aside: all limits and blocks begin anew"
            ),
        }
    }
}

impl Unusable {
    /// What is too short to tell what it is, is none of ours.
    fn in_head(self) -> Unusable {
        match self {
            Unusable::Torn => Unusable::Foreign,
            Unusable::Io(_)
            | Unusable::Foreign
            | Unusable::Version(_)
            | Unusable::Secret
            | Unusable::Damaged => self,
        }
    }
}

#[cfg(test)]
mod tests;
