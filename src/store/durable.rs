//! Files that are replaced whole or not at all, whenever the power goes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Puts what `write` writes in the place of `path`, readable by its owner alone. It is on disk before it is found.
///
/// # Errors
/// The first that came up; what stood there before stands there still.
pub fn replace<W>(path: &Path, write: W) -> io::Result<()>
where
    W: FnOnce(&mut File) -> io::Result<()>,
{
    let beside = beside(path, "new");
    let replaced = write_and_rename(path, &beside, write);
    if replaced.is_err() {
        // A half of it would hold on to room that the disk may have none of. What went wrong first is what is told.
        let _gone = fs::remove_file(&beside);
    }
    replaced
}

fn write_and_rename<W>(path: &Path, beside: &Path, write: W) -> io::Result<()>
where
    W: FnOnce(&mut File) -> io::Result<()>,
{
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    match path.parent() {
        // The name is in the folder.
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

/// The path with one more ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        replace(&path, |file| file.write_all(b"one")).unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"tw")?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
