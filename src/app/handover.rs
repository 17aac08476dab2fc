//! One process hands its sockets and its folder to the next, of another version perhaps, without a refused connection.
//!
//! ```text
//! the one that runs                                        tollgate run --upgrade
//! listens on data_dir/upgrade.sock          ◄── hello ───  has read its configuration
//! goes on serving                           ── sockets ─►  resolves names, makes whatever else may fail
//! accepts no more; its answers are the last ◄─── go ─────
//! on their connections; what is silent is closed
//! counters and journal are on disk,
//! and the folder is free                    ─── yours ──►  locks the folder, goes on from the counters, accepts
//! requests in flight finish                                ready
//! ```
//!
//! **No connection is refused**: both have the same listening sockets, so the kernel keeps who comes between the last
//! `accept` of the one and the first of the other. **Nothing is counted twice or forgotten**: the one decides nothing
//! any more before the counters are written ([`Farewell`](crate::proxy::Farewell)), the other nothing before it has
//! read them. An attempt whose answer comes later than that is the exception: it counts as failed when its lease ends,
//! as after a crash; too strict for a while, never too lenient.
//!
//! Up to `go` either may fail, and the one that runs goes on as if nothing had been.

mod predecessor;
mod sockets;
mod successor;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

pub(super) use self::predecessor::Predecessor;
pub(super) use self::sockets::{Inherited, SOCKETS_MAX};
pub use self::successor::Successor;
pub(super) use self::successor::{Offer, offer};

/// How long a connection may be silent once nobody accepts any more, before it is closed: between two requests of a
/// client that is busy, and no longer than newcomers can be kept waiting. Also where no successor is there yet.
pub(super) const LINGER: Duration = Duration::from_millis(500);
/// How long codes that are being sent are waited for while newcomers wait; what becomes of later ones is not noted.
pub(super) const CODES_PATIENCE: Duration = Duration::from_secs(2);
/// For what the other side has at hand.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// Of the one that runs, for a successor to resolve its names. It serves meanwhile.
const GO_PATIENCE: Duration = Duration::from_secs(120);
/// Of the next one, for counters and journal to be written.
const YOURS_PATIENCE: Duration = Duration::from_secs(60);

/// The number is another one when what follows is.
const HELLO: &[u8; 19] = b"tollgate upgrade 1\n";
const GO: &[u8; 3] = b"go\n";
const YOURS: &[u8; 6] = b"yours\n";

/// Why a gateway could not take over from the one that runs, which goes on.
#[derive(Debug, Error)]
pub enum HandoverError {
    #[error("the gateway that runs on {} cannot be asked to hand over: {reason}", path.display())]
    Unreachable { path: PathBuf, reason: io::Error },
    #[error(
        "the gateway that runs did not hand over its sockets: {0}; its log may say why, or it speaks another version of \
         the protocol: restart it"
    )]
    NoSockets(io::Error),
    #[error("the gateway that runs did not give up its folder in time: {0}")]
    NotGivenUp(io::Error),
}

fn socket_path(folder: &Path) -> PathBuf {
    folder.join("upgrade.sock")
}

async fn in_time<T>(patience: Duration, event: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, event).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests;
