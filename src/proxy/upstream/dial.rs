//! Connections to servers that Pingora does not make, and those of them that are kept.

use std::io;
use std::net::SocketAddr;

use parking_lot::Mutex;
use pingora::{Error, ErrorType, OrErr as _};
use tokio::net::{TcpSocket, TcpStream};

/// How many unused connections to one address are kept.
const KEPT_MAX: usize = 512;

/// Connects, for as long as that takes.
///
/// # Errors
/// As Pingora tells them apart where it connects by itself.
pub(super) async fn dial(address: SocketAddr) -> pingora::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.or_err(ErrorType::SocketError, "no socket for a connection to a server")?;
    socket.connect(address).await.map_err(|error| {
        Error::because(kind(&error), format!("no connection to the server {address}"), error)
    })
}

fn kind(error: &io::Error) -> ErrorType {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::AddrNotAvailable => ErrorType::BindError,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    }
}

/// Connections to one address that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<TcpStream>>);

impl Kept {
    /// The one that was used last, for it is the one that lives most likely.
    pub(super) fn take(&self) -> Option<TcpStream> {
        loop {
            let tcp = self.0.lock().pop()?;
            if is_quiet(&tcp) {
                return Some(tcp);
            }
        }
    }

    /// One on which all was said and read.
    pub(super) fn put(&self, tcp: TcpStream) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT_MAX {
            kept.push(tcp);
        }
    }

    /// Closes those that the server has closed.
    pub(super) fn tidy(&self) {
        self.0.lock().retain(is_quiet);
    }
}

/// Whether the server has said nothing that nobody asked for, its good-bye above all. Costs no call to the kernel where
/// nothing came.
fn is_quiet(tcp: &TcpStream) -> bool {
    matches!(tcp.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_the_server_closed_or_spoke_on_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept::default();
        let mut servers = Vec::new();
        for _ in 0..4 {
            kept.put(dial(address).await.unwrap());
            servers.push(listener.accept().await.unwrap().0);
        }
        let [first, second, mut third, fourth] = servers.try_into().unwrap();
        let local = |tcp: &TcpStream| tcp.local_addr().unwrap();
        // The last is taken first, and can be put back.
        let last = kept.take().unwrap();
        assert_eq!(local(&last), fourth.peer_addr().unwrap());
        kept.put(last);
        third.write_all(b"HTTP/1.1 408").await.unwrap();
        drop(fourth);
        drop(second);
        // What is on its way to us is here once the socket is readable.
        let all = std::mem::take(&mut *kept.0.lock());
        for tcp in all.iter().skip(1) {
            tcp.readable().await.unwrap();
        }
        kept.0.lock().extend(all);
        assert_eq!(local(&kept.take().unwrap()), first.peer_addr().unwrap());
        assert!(kept.take().is_none());
    }

    #[tokio::test]
    async fn what_is_dead_is_closed_without_being_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kept = Kept::default();
        kept.put(dial(listener.local_addr().unwrap()).await.unwrap());
        drop(listener.accept().await.unwrap());
        let taken = std::mem::take(&mut *kept.0.lock());
        taken[0].readable().await.unwrap();
        kept.0.lock().extend(taken);
        kept.tidy();
        assert!(kept.0.lock().is_empty());
    }

    #[tokio::test]
    async fn who_refuses_is_told_from_who_cannot_be_found() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(*dial(address).await.unwrap_err().etype(), ErrorType::ConnectRefused);
    }
}
