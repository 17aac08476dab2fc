//! The bytes of a connection of HTTP/2, watched in both directions.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use tokio::sync::Notify;

use super::watch::{Fault, Watch};
use crate::decision::listener::{ClientLimits, Http2Limits};
use crate::proxy::activity::Activity;
use crate::proxy::gate::Refused;

/// What both ends of a watch hold: the pipe that frames go through, and who looks after the connection.
pub(super) struct Watched {
    pub(super) watch: Mutex<Watch>,
    /// There is a fault, or less time until the next look than there was.
    attention: Notify,
}

impl Watched {
    pub(super) fn new(limits: &ClientLimits, http2: &Http2Limits) -> Watched {
        Watched { watch: Mutex::new(Watch::new(limits, http2)), attention: Notify::new() }
    }

    /// Returns when there is something to look at before its time.
    pub(super) async fn attention(&self) {
        self.attention.notified().await;
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.watch.lock().fault()
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

/// What a connection of HTTP/2 has in the place of the gate.
pub(in crate::proxy) struct Pipe {
    watched: Arc<Watched>,
    /// Who is told of answers that the client's socket does not take.
    activity: Arc<Activity>,
    ending: Option<Refused>,
}

impl Pipe {
    pub(super) fn new(watched: Arc<Watched>, activity: Arc<Activity>) -> Pipe {
        Pipe { watched, activity, ending: None }
    }

    pub(in crate::proxy) fn poll_read<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut watch = self.watched.watch.lock();
            if watch.fault().is_some() {
                // All before it was seen.
                self.watched.attention.notify_one();
                return Poll::Pending;
            }
            if watch.inject(buf) {
                return Poll::Ready(Ok(()));
            }
        }
        let before = buf.filled().len();
        ready!(Pin::new(stream.get_mut()).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if came.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut watch = self.watched.watch.lock();
        let pause = watch.pause();
        let sound = watch.receive(came);
        if sound < came.len() {
            buf.set_filled(before + sound);
            if sound == 0 {
                self.watched.attention.notify_one();
                return Poll::Pending;
            }
        } else if watch.pause() < pause {
            self.watched.attention.notify_one();
        }
        Poll::Ready(Ok(()))
    }

    pub(in crate::proxy) fn poll_write<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(stream).poll_write(cx, bytes);
        self.note_written(&written, &[io::IoSlice::new(bytes)]);
        written
    }

    pub(in crate::proxy) fn poll_write_vectored<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(stream).poll_write_vectored(cx, slices);
        self.note_written(&written, slices);
        written
    }

    pub(in crate::proxy) fn poll_flush<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let flushed = Pin::new(stream).poll_flush(cx);
        match &flushed {
            Poll::Ready(_) => self.activity.send(0),
            Poll::Pending => self.activity.stuff(),
        }
        flushed
    }

    /// Ends the connection. What is still on its way is taken in for a while: closed on it, the client would be told
    /// of a reset and never of our GOAWAY.
    pub(in crate::proxy) fn poll_shutdown<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufWriter<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.ending.get_or_insert_with(Refused::without_words).poll_end(stream, cx)
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>, slices: &[io::IoSlice<'_>]) {
        match written {
            Poll::Ready(Ok(count)) => {
                self.activity.send(*count);
                let (mut left, mut watch) = (*count, self.watched.watch.lock());
                for slice in slices {
                    let now = slice.get(..left).unwrap_or(slice);
                    watch.send(now);
                    left -= now.len();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.stuff(),
        }
    }
}
