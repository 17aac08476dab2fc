//! Listening sockets on their way from one process to another.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// More listeners than anybody writes down, and fewer than the kernel takes in one message.
pub(in crate::app) const SOCKETS_MAX: usize = 64;
const SPACE: usize = rustix::cmsg_space!(ScmRights(SOCKETS_MAX));

/// What the process before this one listened on.
#[derive(Debug, Default)]
pub(in crate::app) struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// The socket for an address that the file names. Where it names no port, any on that IP address.
    pub(in crate::app) fn take(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let is_it = |at: SocketAddr| at == wanted || wanted.port() == 0 && at.ip() == wanted.ip();
        let index = self.0.iter().position(|(at, _)| is_it(*at))?;
        Some(self.0.remove(index).1)
    }

    fn of(sockets: Vec<OwnedFd>) -> io::Result<Inherited> {
        let listeners = sockets.into_iter().map(|socket| {
            let listener = TcpListener::from(socket);
            Ok((listener.local_addr()?, listener))
        });
        listeners.collect::<io::Result<Vec<_>>>().map(Inherited)
    }
}

/// Hands these over; they stay open here as well.
pub(super) async fn send(stream: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
    let message = || {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other(format!("there are more than {SOCKETS_MAX} listeners")));
        }
        // They need a byte to go with.
        sendmsg(stream, &[IoSlice::new(b"s")], &mut rights, SendFlags::empty())?;
        Ok(())
    };
    stream.async_io(Interest::WRITABLE, message).await
}

pub(super) async fn receive(stream: &UnixStream) -> io::Result<Inherited> {
    let message = || {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut rights, flags())?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut sockets = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        Ok(sockets)
    };
    Inherited::of(stream.async_io(Interest::READABLE, message).await?)
}

/// No program that this one starts has them by accident.
#[cfg(target_os = "linux")]
fn flags() -> RecvFlags {
    RecvFlags::CMSG_CLOEXEC
}

#[cfg(not(target_os = "linux"))]
fn flags() -> RecvFlags {
    RecvFlags::empty()
}
