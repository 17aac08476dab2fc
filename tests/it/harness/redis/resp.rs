//! A client of Redis that knows nothing but the protocol (RESP2), so that it sees what is there and not what some
//! library makes of it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Nil,
    Bytes(Vec<u8>),
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a status or a value; panics at anything else.
    pub(crate) fn text(self) -> String {
        match self {
            Reply::Simple(text) => text,
            Reply::Bytes(bytes) => String::from_utf8(bytes).expect("text"),
            Reply::Error(_) | Reply::Int(_) | Reply::Nil | Reply::Array(_) => panic!("no text: {self:?}"),
        }
    }

    pub(crate) fn int(self) -> i64 {
        match self {
            Reply::Int(int) => int,
            Reply::Simple(_) | Reply::Error(_) | Reply::Nil | Reply::Bytes(_) | Reply::Array(_) => {
                panic!("no number: {self:?}")
            }
        }
    }

    pub(crate) fn array(self) -> Vec<Reply> {
        match self {
            Reply::Array(array) => array,
            Reply::Simple(_) | Reply::Error(_) | Reply::Int(_) | Reply::Nil | Reply::Bytes(_) => {
                panic!("no array: {self:?}")
            }
        }
    }

    pub(super) fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

/// A connection for one command after the other.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = in_time(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    pub(crate) async fn command(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        let mut message = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            message.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            message.extend_from_slice(word);
            message.extend_from_slice(b"\r\n");
        }
        in_time(self.0.write_all(&message)).await?;
        self.reply().await
    }

    /// What the server says next.
    pub(super) async fn reply(&mut self) -> io::Result<Reply> {
        in_time(self.next()).await
    }

    async fn next(&mut self) -> io::Result<Reply> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| no_reply(&line))?;
        match kind {
            "+" => Ok(Reply::Simple(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Int(rest.parse().map_err(|_| no_reply(&line))?)),
            "$" | "*" if rest == "-1" => Ok(Reply::Nil),
            "$" => {
                let length: usize = rest.parse().map_err(|_| no_reply(&line))?;
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                Ok(Reply::Bytes(bytes))
            }
            "*" => {
                let length: usize = rest.parse().map_err(|_| no_reply(&line))?;
                let mut array = Vec::with_capacity(length);
                for _ in 0..length {
                    array.push(Box::pin(self.next()).await?);
                }
                Ok(Reply::Array(array))
            }
            _ => Err(no_reply(&line)),
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        match line.strip_suffix("\r\n") {
            Some(whole) => Ok(whole.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn no_reply(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no RESP2: {line:?}"))
}

async fn in_time<T>(event: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, event).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
