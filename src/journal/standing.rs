//! Whether the journal is written, and how one waits at the start until that is known.

use std::time::Duration;

use smallvec::smallvec;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::queue::{Change, Changes, What};
use super::{Journal, Shared, ledger};

/// How the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Up,
    /// Another program has it locked, which is over soon as a rule: it is tried again at once.
    Held,
    Down,
}

/// What came of the wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// What is written now gets to the disk.
    Writes,
    /// Nothing gets there, and waiting does not help; the log was told why.
    Unusable,
    /// Nobody knows yet: the disk is slow, or another program has the file locked.
    Slow,
}

impl Journal {
    /// Waits until something that was written is on disk, by the way that all takes, or until it is known that
    /// nothing can be; for `patience` at most.
    pub async fn settle(&self, patience: Duration) -> Settled {
        let mut standing = self.shared.standing.subscribe();
        let settled = async {
            loop {
                let known = standing.wait_for(|standing| *standing != Standing::Held).await;
                match known.map(|standing| *standing) {
                    Ok(Standing::Up) => {}
                    Ok(Standing::Held | Standing::Down) | Err(_) => return Settled::Unusable,
                }
                if self.shared.gets_to_the_disk().await {
                    return Settled::Writes;
                }
                // The writer said how the file is before it gave up what was to be written.
            }
        };
        timeout(patience, settled).await.unwrap_or(Settled::Slow)
    }
}

impl Shared {
    /// Writes what means nothing.
    async fn gets_to_the_disk(&self) -> bool {
        let (done, on_disk) = oneshot::channel();
        let (key, record) = ledger::decoy();
        let changes: Changes = smallvec![Change { what: What::Keep(key, record), done: Some(done) }];
        self.queue.push_changes(|| ((), changes));
        on_disk.await.is_ok()
    }
}
