//! A client of HTTP/2 that sends exactly what a test says, and tells what comes back frame by frame.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frames::{ACK, END_STREAM, GO_AWAY, HEADERS, PING, PREFACE, RESET, SETTINGS, frame};
use super::in_time;

/// A connection on which both sides have said and acknowledged their settings, unless a test wanted it otherwise.
pub(crate) struct RawH2 {
    read: Reading,
    write: Writing,
}

/// The two directions of a connection.
pub(crate) struct Reading(OwnedReadHalf);
pub(crate) struct Writing(OwnedWriteHalf);

/// A frame that the gateway sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl RawH2 {
    /// Connects, sends these settings, and waits until both sides have acknowledged the other's.
    pub(crate) async fn connect(address: SocketAddr, settings: &[u8]) -> RawH2 {
        let mut client = RawH2::bare(address).await;
        client.send(&[PREFACE, settings].concat()).await;
        let (mut theirs, mut acknowledged) = (false, false);
        while !(theirs && acknowledged) {
            let frame = in_time(client.next()).await.expect("settings");
            if frame.kind == SETTINGS {
                match frame.flags & ACK {
                    0 => {
                        theirs = true;
                        client.send(&super::frames::frame(SETTINGS, ACK, 0, b"")).await;
                    }
                    _ => acknowledged = true,
                }
            }
        }
        client
    }

    /// A connection on which nothing was said.
    pub(crate) async fn bare(address: SocketAddr) -> RawH2 {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let (read, write) = stream.into_split();
        RawH2 { read: Reading(read), write: Writing(write) }
    }

    /// For a test that reads and writes at the same time.
    pub(crate) fn split(self) -> (Reading, Writing) {
        (self.read, self.write)
    }

    /// Sends this. Whether anybody takes it is told by what comes back.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.write.send(bytes).await;
    }

    /// The next frame; none where the gateway has closed the connection. Waits as long as it takes.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        self.read.next().await
    }

    /// The next frame of this kind on this stream; none where the connection is closed before.
    pub(crate) async fn next_of(&mut self, kind: u8, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if (frame.kind, frame.stream) == (kind, stream) {
                return Some(frame);
            }
        }
    }

    /// The status of the answer on this stream, which is read to its end.
    pub(crate) async fn answer(&mut self, stream: u32) -> u16 {
        let mut status = None;
        loop {
            let frame = in_time(self.next()).await.expect("an answer");
            if frame.stream != stream {
                continue;
            }
            if frame.kind == HEADERS {
                status = status.or(frame.status());
            }
            assert_ne!(frame.kind, RESET, "stream {stream} was reset");
            if frame.ends_stream() {
                return status.expect("a status that can be read");
            }
        }
    }

    /// Asks whether the connection is there; all frames that came before the reply.
    pub(crate) async fn ping(&mut self) -> Vec<Frame> {
        const MARK: &[u8] = b"are you?";
        self.send(&frame(PING, 0, 0, MARK)).await;
        let mut before = Vec::new();
        loop {
            let frame = in_time(self.next()).await.expect("a reply");
            if frame.kind == PING && frame.payload == MARK {
                return before;
            }
            before.push(frame);
        }
    }

    /// All that comes until the gateway closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut rest = Vec::new();
        while let Some(frame) = in_time(self.next()).await {
            rest.push(frame);
        }
        rest
    }
}

impl Reading {
    /// As [`RawH2::next`].
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}

impl Writing {
    /// Sends this, if the connection is there to take it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        self.kind <= HEADERS && self.flags & END_STREAM != 0
    }

    /// What a RST_STREAM or a GOAWAY gives as its reason (RFC 9113 §7).
    pub(crate) fn code(&self) -> Option<u32> {
        let code = match self.kind {
            RESET => self.payload.get(..4)?,
            GO_AWAY => self.payload.get(4..8)?,
            _ => return None,
        };
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }

    /// The status at the begin of an answer's fields, on a connection that had no answer yet (RFC 7541, appendix A).
    pub(crate) fn status(&self) -> Option<u16> {
        match *self.payload.first()? {
            0x88 => Some(200),
            0x89 => Some(204),
            0x8a => Some(206),
            0x8b => Some(304),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            0x48 | 0x08 => {
                let length = *self.payload.get(1)?;
                let text = self.payload.get(2..2 + usize::from(length & 0x7f))?;
                let digits = if length & 0x80 == 0 { text.to_vec() } else { huffman_digits(text) };
                std::str::from_utf8(&digits).ok()?.parse().ok()
            }
            _ => None,
        }
    }
}

/// Digits alone (RFC 7541, appendix B): `0`, `1` and `2` have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u8, |number, bit| number << 1 | bit);
    let (mut rest, mut digits) = (&bits[..], Vec::new());
    while rest.len() >= 5 {
        match number(&rest[..5]) {
            short @ 0..=2 => {
                digits.push(b'0' + short);
                rest = &rest[5..];
            }
            _ if rest.len() >= 6 && (0x19..=0x1f).contains(&number(&rest[..6])) => {
                digits.push(b'3' + number(&rest[..6]) - 0x19);
                rest = &rest[6..];
            }
            _ => break,
        }
    }
    digits
}
