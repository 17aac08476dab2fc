//! The folder of what outlives the process: whose it is, and the secrets that are kept in it.
//!
//! ```text
//! lock      locked for as long as a gateway has the folder
//! secret    32 random bytes, which the others are derived from; readable by the owner alone
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use thiserror::Error;

use super::StartError;
use crate::store::durable;
use crate::telemetry::DataDirMetrics;

const SECRET_BYTES: usize = 32;

/// The folder, locked while this lives, and what is derived from its secret.
pub(super) struct DataDir {
    /// What keys are hashed under, where no store is shared.
    pub(super) hash_secret: [u8; 16],
    /// What values are sealed under that are written to disk.
    pub(super) seal_key: [u8; 32],
    /// What one-time codes are derived from, where the file names no secret.
    pub(super) codes_secret: [u8; 32],
    /// None if nothing can be kept there; the secrets are of this process alone then.
    pub(super) folder: Option<PathBuf>,
    _lock: Option<File>,
}

/// Why nobody should go on with this folder.
#[derive(Debug, Error)]
pub enum DataDirError {
    #[error(
        "another gateway is running on the folder {}: stop it, or write another `store.data_dir`, one for each gateway",
        folder.display()
    )]
    InUse { folder: PathBuf },
    #[error(
        "{} has {length} bytes, and the secret that was written there has {SECRET_BYTES}: restore the file, or remove \
         it, and all limits and blocks begin anew",
        path.display()
    )]
    Secret { path: PathBuf, length: u64 },
}

/// Why the folder is not used.
enum Unusable {
    Io(&'static str, io::Error),
    Fatal(DataDirError),
}

impl DataDir {
    /// Creates the folder where it is missing. One that cannot be used is told once, and nothing is kept.
    ///
    /// # Errors
    /// Another gateway has the folder, its secret is damaged, or there are no random numbers.
    pub(super) fn open(folder: &Path, metrics: &DataDirMetrics) -> Result<DataDir, StartError> {
        let fresh = random()?;
        match lock(folder).and_then(|lock| Ok((lock, secret(folder, &fresh)?))) {
            Ok((lock, secret)) => {
                metrics.set_up(true);
                let folder = Some(folder.to_owned());
                Ok(DataDir { folder, _lock: Some(lock), ..DataDir::without_folder(&secret) })
            }
            Err(Unusable::Fatal(error)) => Err(error.into()),
            Err(Unusable::Io(what, error)) => {
                metrics.set_up(false);
                tracing::error!(
                    folder = %folder.display(),
                    what,
                    %error,
                    "store.data_dir cannot be used: limits and blocks end with this process"
                );
                Ok(DataDir::without_folder(&fresh))
            }
        }
    }

    /// One that keeps nothing.
    pub(super) fn without_folder(secret: &[u8; SECRET_BYTES]) -> DataDir {
        DataDir {
            hash_secret: derived("names of keys in memory, 1", secret),
            seal_key: derived("seal of values on disk, 1", secret),
            codes_secret: derived("one-time codes, 1", secret),
            folder: None,
            _lock: None,
        }
    }
}

/// Random bytes of this process.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StartError::NoRandomness)?;
    Ok(bytes)
}

/// Up to 32 bytes that tell nothing of the secret, nor of what is derived from it for another purpose.
pub(super) fn derived<const N: usize>(purpose: &str, secret: &[u8]) -> [u8; N] {
    const { assert!(N <= digest::SHA256_OUTPUT_LEN) };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"tollgate: ");
    context.update(purpose.as_bytes());
    context.update(b"\0");
    context.update(secret);
    let digest = context.finish();
    let mut bytes = [0; N];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

fn lock(folder: &Path) -> Result<File, Unusable> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| Unusable::Io("the folder cannot be made", error))?;
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"));
    let lock = lock.map_err(|error| Unusable::Io("nothing can be written there", error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(Unusable::Fatal(DataDirError::InUse { folder: folder.to_owned() }))
        }
        Err(TryLockError::Error(error)) => Err(Unusable::Io("it cannot be locked", error)),
    }
}

/// The secret that is there, or else `fresh`, which is there from now on.
fn secret(folder: &Path, fresh: &[u8; SECRET_BYTES]) -> Result<[u8; SECRET_BYTES], Unusable> {
    let path = folder.join("secret");
    match read_secret(&path) {
        Ok(Ok(secret)) => Ok(secret),
        Ok(Err(length)) => Err(Unusable::Fatal(DataDirError::Secret { path, length })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            durable::replace(&path, |file| file.write_all(fresh))
                .map_err(|error| Unusable::Io("the secret cannot be written", error))?;
            Ok(*fresh)
        }
        Err(error) => Err(Unusable::Io("the secret cannot be read", error)),
    }
}

/// The secret, or how many bytes there are instead.
fn read_secret(path: &Path) -> io::Result<Result<[u8; SECRET_BYTES], u64>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length != SECRET_BYTES as u64 {
        return Ok(Err(length));
    }
    let mut secret = [0; SECRET_BYTES];
    file.read_exact(&mut secret)?;
    Ok(Ok(secret))
}

#[cfg(test)]
mod tests;
