//! Notices that a file of the configuration changed.
//!
//! By looking, not by inotify: a look at what a path leads to survives an editor's rename, the
//! symlink swap of a Kubernetes ConfigMap and a bind mount alike, on every file system.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often while a change settles.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(50);
/// A file is read once it has been quiet for so long: no half-written file is.
const QUIET: Duration = Duration::from_millis(100);
/// A file that is gone may be between the two steps of a replacement: it gets so long to return.
const QUIET_WHILE_GONE: Duration = Duration::from_millis(500);

/// A file, and what it was when it was last read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedFile {
    path: PathBuf,
    stamp: Option<Stamp>,
}

impl WatchedFile {
    /// To be called before the file is read: a change in between is then seen, not missed.
    pub fn about_to_be_read(path: &Path) -> WatchedFile {
        WatchedFile { path: path.to_owned(), stamp: Stamp::of(path) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has not been touched since: what was read of it was no half of a write. Blocks.
    pub fn is_as_read(&self) -> bool {
        Stamp::of(&self.path) == self.stamp
    }
}

/// What tells one state of a file from another: which file it is, and when it was last touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that the path leads to, through all symlinks; `None` if there is none.
    fn of(path: &Path) -> Option<Stamp> {
        std::fs::metadata(path).ok().map(|metadata| Stamp::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Waits for changes of a set of files.
#[derive(Debug)]
pub struct Watch {
    files: Vec<WatchedFile>,
    /// What the files last looked like, and for how long at least, while a change settles.
    settling: Option<Settling>,
}

#[derive(Debug)]
struct Settling {
    stamps: Vec<Option<Stamp>>,
    quiet: Duration,
}

/// What a look at the files says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Unchanged,
    /// Something changed, but may not be finished.
    Settling,
    /// Something changed and has been quiet since.
    Changed,
}

impl Watch {
    pub fn new(files: Vec<WatchedFile>) -> Watch {
        Watch { files, settling: None }
    }

    /// From now on waits for changes of these files, against what they were when they were read.
    pub fn follow(&mut self, files: Vec<WatchedFile>) {
        self.files = files;
        self.settling = None;
    }

    /// Returns once a file differs from what was read and all have been quiet for 100 ms. Each
    /// change is told once. Safe to be cancelled.
    pub async fn changed(&mut self) {
        loop {
            let pause = if self.settling.is_some() { LOOK_CLOSELY_EVERY } else { LOOK_EVERY };
            tokio::time::sleep(pause).await;
            let paths: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
            let looked = tokio::task::spawn_blocking(move || {
                paths.iter().map(|path| Stamp::of(path)).collect::<Vec<_>>()
            });
            // The runtime is shutting down: nothing is worth telling any more.
            let Ok(stamps) = looked.await else { return std::future::pending().await };
            match self.look(stamps, pause) {
                Look::Unchanged | Look::Settling => {}
                Look::Changed => return,
            }
        }
    }

    /// `waited`: at least so long ago was the look before this one.
    fn look(&mut self, stamps: Vec<Option<Stamp>>, waited: Duration) -> Look {
        if self.files.iter().map(|file| &file.stamp).eq(&stamps) {
            self.settling = None;
            return Look::Unchanged;
        }
        let still = self.settling.as_ref().filter(|settling| settling.stamps == stamps);
        let quiet = still.map_or(Duration::ZERO, |settling| settling.quiet.saturating_add(waited));
        let gone = self.files.iter().zip(&stamps).any(|(file, now)| file.stamp.is_some() && now.is_none());
        if quiet < if gone { QUIET_WHILE_GONE } else { QUIET } {
            self.settling = Some(Settling { stamps, quiet });
            return Look::Settling;
        }
        for (file, stamp) in self.files.iter_mut().zip(stamps) {
            file.stamp = stamp;
        }
        self.settling = None;
        Look::Changed
    }
}

#[cfg(test)]
mod tests;
