//! One connection to a server, for as long as one request has it.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use pingora::{Error, ErrorType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::answer::{Expected, Extent, Head};
use super::{Broken, Deadline};
use crate::clock::Clock;
use crate::proxy::head::{self, Body, Passed};
use crate::proxy::upstream::Direct;
use crate::proxy::wire::Wire;

/// What an answer is read into: nearly all fit.
const ROOM: usize = 4096;
/// What is read at a time of a long one, bytes.
const PIECE: usize = 64 * 1024;
/// Interim answers to one request.
const INTERIM_MAX: usize = 16;

pub(super) struct Line {
    tcp: TcpStream,
    direct: Direct,
    clock: Clock,
    came: BytesMut,
    has_heard: bool,
    has_answered: bool,
}

impl Line {
    pub(super) fn new(tcp: TcpStream, direct: Direct, clock: Clock) -> Line {
        Line {
            tcp,
            direct,
            clock,
            came: BytesMut::with_capacity(ROOM),
            has_heard: false,
            has_answered: false,
        }
    }

    /// Whether anything came.
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Whether that was the head of an answer, were it an interim one.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// How much of the answer is here that was not passed on, bytes.
    pub(super) fn there(&self) -> usize {
        self.came.len()
    }

    /// Sends a request, and reads the head of its answer. Interim answers are passed on (RFC 9110 §15.2).
    pub(super) async fn ask(
        &mut self,
        request: &[u8],
        expected: &Expected<'_>,
        wire: &mut Wire,
        deadline: &mut Deadline,
    ) -> Result<Head, Broken> {
        self.write(request, deadline).await?;
        let mut interim = 0;
        loop {
            if self.has_heard
                && let Some(head) = Head::read(&self.came, expected).map_err(unreadable)?
            {
                self.came.advance(head.length);
                self.has_answered = true;
                if !head.status.is_informational() {
                    return Ok(head);
                }
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(failed(ErrorType::InvalidHTTPHeader, "interim answers and no other"));
                }
                // Nobody asked whether to go on.
                if head.status != http::StatusCode::CONTINUE {
                    wire.send(&head.interim_text()).await.map_err(gone)?;
                }
                if !self.came.is_empty() {
                    continue;
                }
            }
            if self.read(wire, deadline).await? == 0 {
                return Err(failed(ErrorType::ConnectionClosed, "the server closed the connection unasked"));
            }
        }
    }

    /// Passes an answer on, which begins with `text` and what is here already. `keep` takes the connection once all was
    /// read on it, which is before all is written: who asks next on another may use it.
    pub(super) async fn pass(
        mut self,
        mut text: Vec<u8>,
        extent: Extent,
        (wire, deadline): (&mut Wire, &mut Deadline),
        passed: &mut usize,
        keep: impl FnOnce(TcpStream),
    ) -> Result<(), Broken> {
        let mut rest = Rest::of(extent);
        loop {
            let count = rest.take(&self.came).map_err(|fault| unsound(fault, &text))?;
            *passed += count;
            if rest.is_over() {
                let Line { tcp, came, .. } = self;
                if came.len() == count {
                    keep(tcp);
                }
                return send(wire, &mut text, came.get(..count).unwrap_or_default()).await;
            }
            send(wire, &mut text, self.came.get(..count).unwrap_or_default()).await?;
            self.came.advance(count);
            self.came.reserve(PIECE);
            match (self.read(wire, deadline).await.map_err(Broken::amid)?, &rest) {
                (0, Rest::Close) => return Ok(()),
                (0, Rest::Body(_) | Rest::Over) => {
                    return Err(failed(ErrorType::ConnectionClosed, "the answer broke off").amid());
                }
                (1.., _) => {}
            }
        }
    }

    async fn write(&mut self, request: &[u8], deadline: &mut Deadline) -> Result<(), Broken> {
        let time = self.direct.write_timeout.min(self.direct.read_timeout);
        let watch = self.clock.stopwatch();
        let mut writing = pin!(self.tcp.write_all(request));
        let written = poll_fn(|cx| {
            if let Poll::Ready(written) = writing.as_mut().poll(cx) {
                return Poll::Ready(Some(written));
            }
            deadline.poll_over(cx, watch, time).map(|()| None)
        });
        match written.await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(broke(&error)),
            None => Err(timed_out(ErrorType::WriteTimedout, time)),
        }
    }

    /// Reads what there is, and waits until there is something. 0: the server says no more.
    async fn read(&mut self, wire: &Wire, deadline: &mut Deadline) -> Result<usize, Broken> {
        let time = self.direct.read_timeout;
        let watch = self.clock.stopwatch();
        if self.came.len() == self.came.capacity() {
            self.came.reserve(PIECE);
        }
        let mut reading = pin!(self.tcp.read_buf(&mut self.came));
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = reading.as_mut().poll(cx) {
                return Poll::Ready(read.map_err(|error| broke(&error)));
            }
            if wire.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Broken::ClientGone));
            }
            deadline.poll_over(cx, watch, time).map(|()| Err(timed_out(ErrorType::ReadTimedout, time)))
        });
        let read = read.await?;
        self.has_heard |= read > 0;
        Ok(read)
    }
}

/// Passes a piece on. What is left to be said of the head leaves with it.
async fn send(wire: &mut Wire, head: &mut Vec<u8>, piece: &[u8]) -> Result<(), Broken> {
    if head.is_empty() {
        return wire.send(piece).await.map_err(gone);
    }
    head.extend_from_slice(piece);
    wire.send(&std::mem::take(head)).await.map_err(gone)
}

/// What is still to come of an answer.
enum Rest {
    Body(Body),
    Close,
    Over,
}

impl Rest {
    fn of(extent: Extent) -> Rest {
        match extent {
            Extent::Head => Rest::Over,
            Extent::Body(body) => Rest::Body(body),
            Extent::Close => Rest::Close,
        }
    }

    /// How many of these bytes belong to it.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, head::Fault> {
        match self {
            Rest::Body(body) => match body.pass(bytes)? {
                Passed::All => Ok(bytes.len()),
                Passed::ToTheEnd { behind } => {
                    *self = Rest::Over;
                    Ok(bytes.len() - behind)
                }
            },
            Rest::Close => Ok(bytes.len()),
            Rest::Over => Ok(0),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Rest::Over)
    }
}

impl Broken {
    /// The same, of an answer that was begun.
    fn amid(self) -> Broken {
        match self {
            Broken::Unanswered(error) | Broken::Amid(error) => Broken::Amid(error),
            Broken::ClientGone => Broken::ClientGone,
        }
    }
}

fn failed(kind: ErrorType, told: &'static str) -> Broken {
    Broken::Unanswered(Error::explain(kind, told).into_up())
}

fn timed_out(kind: ErrorType, time: Duration) -> Broken {
    Broken::Unanswered(Error::explain(kind, format!("nothing within {time:?}")).into_up())
}

/// A connection that the server reset or closed.
fn broke(error: &io::Error) -> Broken {
    Broken::Unanswered(Error::explain(ErrorType::ConnectionClosed, error.to_string()).into_up())
}

fn unreadable(fault: super::answer::Fault) -> Broken {
    Broken::Unanswered(Error::explain(ErrorType::InvalidHTTPHeader, fault.to_string()).into_up())
}

/// A body that cannot be passed on; of its answer so much is still to be said.
fn unsound(fault: head::Fault, unsaid: &[u8]) -> Broken {
    let error = Error::explain(ErrorType::InvalidHTTPHeader, fault.name()).into_up();
    if unsaid.is_empty() { Broken::Amid(error) } else { Broken::Unanswered(error) }
}

fn gone(error: io::Error) -> Broken {
    tracing::debug!(%error, "a client left before its answer");
    Broken::ClientGone
}
