//! Nobody hears that the gateway is ready before its journal is written, or is known not to be: what needs the disk,
//! one-time codes first of all, would be refused. Newcomers wait in the queues of the sockets meanwhile.

use std::time::Duration;

use crate::journal::{Journal, Settled};

/// How long a disk may take for its first write. Past it the gateway serves what it can.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn wait(journal: &Journal) {
    match journal.settle(PATIENCE).await {
        // What is wrong with the folder or the file was told when it was found.
        Settled::Writes | Settled::Unusable => {}
        Settled::Slow => {
            let seconds = PATIENCE.as_secs();
            tracing::warn!(
                seconds,
                "the journal has written nothing for {seconds} s: the gateway serves without waiting for it, and refuses \
                 what must be on disk first"
            );
        }
    }
}
