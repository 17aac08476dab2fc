//! The side of the process that takes over.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::sockets::{self, Inherited};
use super::{GO, HELLO, HELLO_PATIENCE, HandoverError, YOURS, YOURS_PATIENCE, in_time, socket_path};

/// The gateway that runs on the folder, asked to hand over.
pub(in crate::app) struct Predecessor {
    stream: UnixStream,
    inherited: Inherited,
}

impl Predecessor {
    /// None if no gateway runs on the folder.
    pub(in crate::app) async fn find(folder: &Path) -> Result<Option<Predecessor>, HandoverError> {
        let path = socket_path(folder);
        let mut stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            // What a gateway leaves behind that ended.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(reason) => return Err(HandoverError::Unreachable { path, reason }),
        };
        let asked = async {
            stream.write_all(HELLO).await?;
            sockets::receive(&stream).await
        };
        let inherited = in_time(HELLO_PATIENCE, asked).await.map_err(HandoverError::NoSockets)?;
        Ok(Some(Predecessor { stream, inherited }))
    }

    /// What it listens on, once.
    pub(in crate::app) fn sockets(&mut self) -> Inherited {
        std::mem::take(&mut self.inherited)
    }

    /// Has it go. The folder is free when this returns, and nobody accepts.
    pub(in crate::app) async fn take_over(mut self) -> Result<(), HandoverError> {
        let mut answer = [0; YOURS.len()];
        let given_up = async {
            self.stream.write_all(GO).await?;
            self.stream.read_exact(&mut answer).await
        };
        match in_time(YOURS_PATIENCE, given_up).await {
            Ok(_) if &answer == YOURS => Ok(()),
            Ok(_) => Err(HandoverError::NotGivenUp(io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(HandoverError::NotGivenUp(error)),
            Err(error) => {
                // It is gone, so the folder is free: serving goes on from what was written last.
                tracing::error!(%error, "the gateway before this one ended before all it had counted was on disk");
                Ok(())
            }
        }
    }
}
