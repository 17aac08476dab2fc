//! What stands between an HTTP/1 client and Pingora: no byte passes that was not checked.
//!
//! Pingora is shown whole, sound heads alone, and bodies as far as they are sound. What is refused it never sees: the
//! gate answers by itself, takes in what is still on its way so that the answer is not lost to a reset, and tells
//! Pingora that the client is gone.

mod gathered;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter, ReadBuf};
use tokio::time::Sleep;

use self::gathered::{Gathered, REQUEST_BYTES};
use super::activity::Activity;
use super::head::{Body, Fault, HeadCheck, Passed, Whole};
use crate::decision::listener::ClientLimits;
use crate::telemetry::EdgeMetrics;

/// How long, and for how many bytes, a client may go on sending after it was refused.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;
/// What a connection may let in next.
pub(super) struct Gate {
    stage: Stage,
    /// A head that is not there to its end; with what came behind it, until Pingora took it.
    held: Vec<u8>,
    gathered: Gathered,
    /// Of the answer to this request nothing is written yet.
    is_unanswered: bool,
    /// An answer to this request has no body.
    is_head: bool,
    limits: ClientLimits,
    activity: Arc<Activity>,
    metrics: EdgeMetrics,
}

enum Stage {
    Head(HeadCheck),
    /// What is in `held` is sound: Pingora took so many bytes of it.
    HandOver {
        taken: usize,
        next: Next,
    },
    Body(Body),
    /// Behind a request, which goes on as long as its answer does. What comes here is no request: Pingora ends the
    /// connection over it, or passes it on after a change of protocol.
    Behind,
    Refused(Refused),
}

/// What comes behind a head.
enum Next {
    Body(Body),
    Behind,
}

/// What is to be done about bytes that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Pass,
    /// They are kept here until more is there.
    Hold,
}

/// The last that a client hears.
pub(super) struct Refused {
    answer: Vec<u8>,
    written: usize,
    is_told: bool,
    /// Bytes that still came.
    taken: usize,
    /// Pingora waits for the rest of a request.
    is_amid: bool,
    linger: Pin<Box<Sleep>>,
}

impl Gate {
    pub(super) fn new(limits: ClientLimits, activity: Arc<Activity>, metrics: EdgeMetrics) -> Gate {
        Gate {
            stage: Stage::Head(HeadCheck::default()),
            held: Vec::new(),
            gathered: Gathered::default(),
            is_unanswered: true,
            is_head: false,
            limits,
            activity,
            metrics,
        }
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// See [`super::wire::Wire::poll_request`].
    pub(super) fn poll_request<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Vec<u8>>>> {
        self.expect_next();
        let is_at_head = matches!(self.stage, Stage::Head(_)) && self.held.is_empty();
        if !is_at_head && !self.is_gathering() {
            return Poll::Ready(Ok(None));
        }
        loop {
            let mut room = [MaybeUninit::uninit(); REQUEST_BYTES];
            let mut buf = ReadBuf::uninit(&mut room);
            match Pin::new(stream.get_mut()).poll_read(cx, &mut buf) {
                Poll::Ready(read) => read?,
                Poll::Pending if self.gathered.poll_over(cx).is_ready() => {
                    self.give_back(&[]);
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending => return Poll::Pending,
            }
            let came = buf.filled();
            if came.is_empty() {
                self.give_back(&[]);
                return Poll::Ready(Ok(None));
            }
            match self.judge(came) {
                Ok(Course::Pass) if matches!(self.stage, Stage::Behind) => {
                    return Poll::Ready(Ok(Some(self.gathered.take(came))));
                }
                Ok(Course::Pass) if self.is_nearly_whole(came) => self.gathered.add(came),
                Ok(Course::Pass) => self.give_back(came),
                Ok(Course::Hold) => {}
                Err(fault) => self.refuse(fault),
            }
            if !self.is_gathering() {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Whether a request has begun that is waited for.
    pub(super) fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Whether the rest of a body is still to come.
    pub(super) fn awaits_body(&self) -> bool {
        matches!(self.stage, Stage::Body(_) | Stage::HandOver { next: Next::Body(_), .. })
    }

    /// Whether so little is missing behind these bytes that it is waited for.
    fn is_nearly_whole(&self, came: &[u8]) -> bool {
        match &self.stage {
            Stage::Body(Body::Length(left)) => self.gathered.waits_for(*left, came),
            Stage::Body(Body::Chunked(..))
            | Stage::Head(_)
            | Stage::HandOver { .. }
            | Stage::Behind
            | Stage::Refused(_) => false,
        }
    }

    /// Leaves to Pingora what was gathered, and these bytes behind it.
    pub(super) fn give_back(&mut self, came: &[u8]) {
        let gathered = self.gathered.take(came);
        if !gathered.is_empty() {
            self.put_back(gathered);
        }
    }

    /// See [`super::wire::Wire::put_back`].
    pub(super) fn put_back(&mut self, request: Vec<u8>) {
        self.held = request;
        let next = match std::mem::replace(&mut self.stage, Stage::Behind) {
            Stage::Body(body) => Next::Body(body),
            Stage::Head(_) | Stage::HandOver { .. } | Stage::Behind | Stage::Refused(_) => Next::Behind,
        };
        self.stage = Stage::HandOver { taken: 0, next };
    }

    /// Behind a request that was answered comes the next.
    fn expect_next(&mut self) {
        if matches!(self.stage, Stage::Behind) && !self.activity.has_request() {
            self.stage = Stage::Head(HeadCheck::default());
            self.is_unanswered = true;
        }
    }

    pub(super) fn poll_read<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.stage {
                Stage::HandOver { .. } => {
                    self.hand_over(buf);
                    return Poll::Ready(Ok(()));
                }
                Stage::Refused(refused) => return refused.poll_end(stream, cx),
                Stage::Behind => self.expect_next(),
                Stage::Head(_) | Stage::Body(_) => {}
            }
            let before = buf.filled().len();
            match Pin::new(stream.get_mut()).poll_read(cx, buf) {
                Poll::Ready(read) => read?,
                Poll::Pending if self.is_overdue(cx) => {
                    self.refuse(Fault::TooSlow);
                    continue;
                }
                Poll::Pending => return Poll::Pending,
            }
            let came = buf.filled().get(before..).unwrap_or_default();
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.judge(came) {
                Ok(Course::Pass) => return Poll::Ready(Ok(())),
                Ok(Course::Hold) => buf.set_filled(before),
                Err(fault) => {
                    buf.set_filled(before);
                    self.refuse(fault);
                }
            }
        }
    }

    pub(super) fn poll_write<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Stage::Refused(_) = self.stage {
            // Its answer was another.
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.is_unanswered && !bytes.starts_with(b"HTTP/1.1 1") {
            self.is_unanswered = false;
        }
        let written = Pin::new(stream).poll_write(cx, bytes);
        self.note_written(&written);
        written
    }

    pub(super) fn poll_write_vectored<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Stage::Refused(_) = self.stage {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.is_unanswered = false;
        let written = Pin::new(stream).poll_write_vectored(cx, slices);
        self.note_written(&written);
        written
    }

    pub(super) fn poll_flush<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Stage::Refused(_) = self.stage {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(stream).poll_flush(cx);
        match &flushed {
            Poll::Ready(_) => self.activity.send(0),
            Poll::Pending => self.activity.stuff(),
        }
        flushed
    }

    /// Ends a connection on which all was said. A body that nobody wanted is taken in for a while: closed on it, the
    /// client would be told of a reset and never of its answer.
    pub(super) async fn end<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
    ) -> io::Result<()> {
        if !matches!(self.stage, Stage::Body(_)) {
            return stream.shutdown().await;
        }
        let mut refused = Refused::without_words();
        let ended = poll_fn(|cx| refused.poll_end(stream, cx)).await;
        self.stage = Stage::Refused(refused);
        ended
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(count)) => self.activity.send(*count),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.stuff(),
        }
    }

    /// Whether the client owes something of a request for too long, now that it is waited for.
    fn is_overdue(&self, cx: &Context<'_>) -> bool {
        match &self.stage {
            Stage::Head(_) => !self.held.is_empty() && self.activity.fall_short(cx.waker()),
            Stage::Body(_) => {
                self.activity.await_body();
                self.activity.fall_short(cx.waker())
            }
            Stage::HandOver { .. } | Stage::Behind | Stage::Refused(_) => false,
        }
    }

    fn judge(&mut self, came: &[u8]) -> Result<Course, Fault> {
        match &mut self.stage {
            Stage::Head(_) => self.judge_head(came),
            Stage::Body(body) => {
                self.activity.receive(came.len());
                if body.pass(came)? != Passed::All {
                    self.activity.body_came();
                    self.stage = Stage::Behind;
                }
                Ok(Course::Pass)
            }
            Stage::HandOver { .. } | Stage::Behind | Stage::Refused(_) => Ok(Course::Pass),
        }
    }

    fn judge_head(&mut self, came: &[u8]) -> Result<Course, Fault> {
        let is_in_parts = !self.held.is_empty();
        if is_in_parts {
            self.held.extend_from_slice(came);
        }
        let head = if is_in_parts { &*self.held } else { came };
        self.is_head = head.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HEAD "));
        let check = match &mut self.stage {
            Stage::Head(check) => check,
            Stage::HandOver { .. } | Stage::Body(_) | Stage::Behind | Stage::Refused(_) => {
                return Ok(Course::Pass);
            }
        };
        let Some(whole) = check.look(head, &self.limits)? else {
            if !is_in_parts {
                self.held = came.to_vec();
            }
            self.activity.await_head();
            return Ok(Course::Hold);
        };
        let next = next(head, whole)?;
        self.activity.head_came();
        if is_in_parts {
            self.stage = Stage::HandOver { taken: 0, next };
            return Ok(Course::Hold);
        }
        self.stage = next.into();
        Ok(Course::Pass)
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let Stage::HandOver { taken, .. } = &mut self.stage else { return };
        let rest = self.held.get(*taken..).unwrap_or_default();
        let count = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..count).unwrap_or_default());
        *taken += count;
        if *taken < self.held.len() {
            return;
        }
        self.held = Vec::new();
        if let Stage::HandOver { next, .. } = std::mem::replace(&mut self.stage, Stage::Behind) {
            self.stage = next.into();
        }
    }

    fn refuse(&mut self, fault: Fault) {
        self.metrics.malformed(fault.name());
        self.held = Vec::new();
        self.gathered = Gathered::default();
        let is_amid = matches!(self.stage, Stage::Body(_));
        let answer = match (self.is_unanswered, self.is_head) {
            (false, _) => String::new(),
            (true, false) => fault.answer(),
            (true, true) => fault.answer_to_head(),
        };
        self.stage = Stage::Refused(Refused::telling(answer, is_amid));
    }
}

impl Refused {
    fn telling(answer: String, is_amid: bool) -> Refused {
        Refused {
            answer: answer.into_bytes(),
            written: 0,
            is_told: false,
            taken: 0,
            is_amid,
            linger: Box::pin(tokio::time::sleep(LINGER)),
        }
    }

    /// An end of which nothing is left to be said.
    pub(super) fn without_words() -> Refused {
        Refused::telling(String::new(), false)
    }

    /// Tells the client, and waits a little until it has stopped sending.
    pub(super) fn poll_end<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_over = self.linger.as_mut().poll(cx).is_ready();
        if !is_over {
            ready!(self.poll_tell(stream, cx))?;
        }
        let amid = || io::Error::new(io::ErrorKind::InvalidData, "the request was refused");
        Poll::Ready(if self.is_amid { Err(amid()) } else { Ok(()) })
    }

    fn poll_tell<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.answer.get(self.written..) {
            self.written += ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
        }
        if !self.is_told {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.is_told = true;
        }
        let mut scratch = [0; 4096];
        while self.taken < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(stream.get_mut()).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                count => self.taken += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl From<Next> for Stage {
    fn from(next: Next) -> Stage {
        match next {
            Next::Body(body) => Stage::Body(body),
            Next::Behind => Stage::Behind,
        }
    }
}

/// What comes behind this head, which may have more behind it already.
fn next(head: &[u8], whole: Whole) -> Result<Next, Fault> {
    let mut body = whole.body;
    let behind = head.get(whole.length..).unwrap_or_default();
    Ok(match body.pass(behind)? {
        Passed::All => Next::Body(body),
        Passed::ToTheEnd { behind: _ } => Next::Behind,
    })
}

#[cfg(test)]
mod tests;
