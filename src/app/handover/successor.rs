//! The side of the process that runs, and goes.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{GO, GO_PATIENCE, HELLO, HELLO_PATIENCE, YOURS, in_time, socket_path, sockets};

/// How long to wait when no connection can be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The offer to hand over, to whoever asks.
pub(in crate::app) struct Offer {
    task: JoinHandle<()>,
    accepted: mpsc::Receiver<Successor>,
}

/// The gateway that takes over. It has all it needs but the folder.
pub struct Successor {
    stream: UnixStream,
}

/// Offers these sockets to the next process; `folder` must be locked by this one. A folder that no socket can be made in is
/// told, and a successor cannot take over then.
pub(in crate::app) fn offer(folder: &Path, sockets: Vec<OwnedFd>) -> Offer {
    let (tell, accepted) = mpsc::channel(1);
    let task = match listen(folder) {
        Ok((listener, owner)) => tokio::spawn(wait(listener, owner, sockets, tell)),
        Err(error) => {
            tracing::warn!(%error, "no socket for upgrades can be made in store.data_dir: a new version takes a restart");
            tokio::spawn(std::future::ready(()))
        }
    };
    Offer { task, accepted }
}

impl Offer {
    /// Waits for a successor; for ever if there is none.
    pub(in crate::app) async fn accepted(&mut self) -> Successor {
        match self.accepted.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        }
    }

    /// Takes it back. The sockets are this process's alone again, and closed when it closes them.
    pub(in crate::app) async fn withdraw(self) {
        self.task.abort();
        // That it was taken back is how it ends.
        let _ = self.task.await;
    }
}

impl Successor {
    /// The folder is free: the successor may have it.
    pub(in crate::app) async fn hand_over(mut self) {
        if let Err(error) = self.stream.write_all(YOURS).await {
            tracing::error!(%error, "the gateway that was to take over is gone");
        }
    }
}

/// The socket, and the user that may connect to it.
fn listen(folder: &Path) -> io::Result<(UnixListener, u32)> {
    let path = socket_path(folder);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let owner = fs::metadata(&path)?.uid();
    Ok((listener, owner))
}

/// Serves one after the other until one of them takes over.
async fn wait(listener: UnixListener, owner: u32, sockets: Vec<OwnedFd>, tell: mpsc::Sender<Successor>) {
    loop {
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a gateway that wants to take over cannot be heard right now");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        match negotiate(&mut stream, owner, &sockets).await {
            Ok(()) => {
                // Nobody receives where the process ends anyway.
                let _ = tell.send(Successor { stream }).await;
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "a gateway that wanted to take over did not; this one goes on")
            }
        }
    }
}

async fn negotiate(stream: &mut UnixStream, owner: u32, sockets: &[OwnedFd]) -> io::Result<()> {
    const ROOT: u32 = 0;
    let uid = stream.peer_cred()?.uid();
    if uid != owner && uid != ROOT {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it runs as user {uid}")));
    }
    let mut hello = [0; HELLO.len()];
    in_time(HELLO_PATIENCE, stream.read_exact(&mut hello)).await?;
    if &hello != HELLO {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks another version of the protocol"));
    }
    sockets::send(stream, sockets).await?;
    let mut go = [0; GO.len()];
    in_time(GO_PATIENCE, stream.read_exact(&mut go)).await?;
    if &go != GO {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it did not say that it is ready"));
    }
    Ok(())
}
