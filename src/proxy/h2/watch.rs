//! What is known of a connection of HTTP/2 from the frames that go by, and what ends it.
//!
//! The library holds it to the rules. What it leaves open is held here: frames that come in drips, frames that are
//! sound and lead to nothing, and rules that it breaks a connection for under another name than they ask for.

use std::time::Duration;

use h2::Reason;
use tokio::io::ReadBuf;

use super::frames::{
    CONTINUATION, DATA, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, Sight, WINDOW_UPDATE,
    Walk, self_dependency,
};
use super::streams::Streams;
use crate::decision::listener::{ClientLimits, Http2Limits};
use crate::decision::time::Span;
use crate::proxy::activity::Overdue;
use crate::proxy::patience::BODY_LOOK;

/// How many looks go into the time that something may take: it is given up to a quarter longer.
const LOOKS: u32 = 4;
/// In what time there may be so many frames of a kind.
const BUDGET_PER_MS: u64 = 10_000;
/// How many frames that carry nothing may come for each that carries something: updates of two windows, a PING that
/// measures the way, and one to spare; and how many bytes of an answer explain one more, for who reads in small pieces.
const EXPLAINED_BY_EACH: u32 = 4;
const BYTES_EXPLAIN: u32 = 1024;
const EXPLAINED_MAX: u32 = 100_000;
/// `SETTINGS_INITIAL_WINDOW_SIZE`, and the most that it may be.
const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// What comes before all frames (RFC 9113 §3.4), which the library reads: bytes.
const PREFACE: usize = 24;

/// Why a connection ends over what came on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Fault {
    /// The first frame is no SETTINGS.
    Preface,
    FrameSize,
    Window,
    /// More came of a request that was whole.
    Closed,
    /// Far more requests than there may be.
    Streams,
    Resets,
    ControlFrames,
    /// Too many requests that are none.
    Malformed,
}

impl Fault {
    pub(in crate::proxy) const ALL: [Fault; 8] = [
        Fault::Preface,
        Fault::FrameSize,
        Fault::Window,
        Fault::Closed,
        Fault::Streams,
        Fault::Resets,
        Fault::ControlFrames,
        Fault::Malformed,
    ];

    /// A label for metrics.
    pub(in crate::proxy) fn label(self) -> &'static str {
        match self {
            Fault::Preface => "http2_preface",
            Fault::FrameSize => "http2_frame_size",
            Fault::Window => "http2_window",
            Fault::Closed => "http2_closed",
            Fault::Streams => "too_many_streams",
            Fault::Resets => "too_many_resets",
            Fault::ControlFrames => "too_many_control_frames",
            Fault::Malformed => "too_many_malformed",
        }
    }

    /// What the client is told (RFC 9113 §7).
    pub(super) fn reason(self) -> Reason {
        match self {
            Fault::Preface => Reason::PROTOCOL_ERROR,
            Fault::FrameSize => Reason::FRAME_SIZE_ERROR,
            Fault::Window => Reason::FLOW_CONTROL_ERROR,
            Fault::Closed => Reason::STREAM_CLOSED,
            Fault::Streams | Fault::Resets | Fault::ControlFrames | Fault::Malformed => {
                Reason::ENHANCE_YOUR_CALM
            }
        }
    }
}

/// What a look gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Requests that were taken from their client.
    pub(super) given_up: Vec<Overdue>,
    /// The connection must end.
    pub(super) end: Option<Overdue>,
}

#[derive(Debug)]
pub(super) struct Watch {
    /// Of the client's preface so much is missing.
    preface: usize,
    inbound: Walk,
    outbound: Walk,
    streams: Streams,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// The client's SETTINGS came.
    is_greeted: bool,
    /// Fields are there in part.
    has_open_fields: bool,
    /// Frames, or fields, that came to their end, and such that began.
    whole: u32,
    /// For so long the same is missing that was missing when so many had come.
    missing: (u32, Duration),
    control: Budget,
    resets: Budget,
    explained: u32,
    /// Streams that the library is to end.
    given_up: Vec<u32>,
    fault: Option<Fault>,
}

impl Watch {
    pub(super) fn new(limits: &ClientLimits, http2: &Http2Limits) -> Watch {
        Watch {
            preface: PREFACE,
            inbound: Walk::default(),
            outbound: Walk::default(),
            streams: Streams::new(limits.body_rate, http2),
            header_timeout: length(limits.header_timeout),
            idle_timeout: length(limits.idle_timeout),
            is_greeted: false,
            has_open_fields: false,
            whole: 0,
            missing: (0, Duration::ZERO),
            control: Budget::new(http2.control_frames),
            resets: Budget::new(http2.resets),
            explained: 0,
            given_up: Vec::new(),
            fault: None,
        }
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// These bytes came from the client: how many of them the library may see. What is behind has a fault.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        let (preface, frames) = bytes.split_at(bytes.len().min(self.preface));
        self.preface -= preface.len();
        let owed = self.owes_the_rest();
        let mut inbound = std::mem::take(&mut self.inbound);
        let passed = inbound.pass(frames, |sight| self.see_received(sight));
        self.inbound = inbound;
        if !owed && self.owes_the_rest() {
            // Its time begins with the next look, not with the last.
            self.whole = self.whole.wrapping_add(1);
        }
        match passed {
            Ok(()) => bytes.len(),
            Err((sound, fault)) => {
                self.fault = Some(fault);
                preface.len() + sound
            }
        }
    }

    /// These bytes went to the client.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let mut outbound = std::mem::take(&mut self.outbound);
        let passed = outbound.pass(bytes, |sight| {
            self.see_sent(sight);
            Ok::<(), std::convert::Infallible>(())
        });
        self.outbound = outbound;
        match passed {
            Ok(()) => {}
            Err((_, never)) => match never {},
        }
    }

    /// Has the library end the streams that were given up, as far as there is room. Whether there were any.
    pub(super) fn inject(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let mut is_injected = false;
        while self.takes_frames()
            && let Some(stream) = self.given_up.pop()
        {
            let frame = self_dependency(stream);
            if buf.remaining() < frame.len() {
                self.given_up.push(stream);
                break;
            }
            buf.put_slice(&frame);
            is_injected = true;
        }
        is_injected
    }

    /// How long until the next look.
    pub(super) fn pause(&self) -> Duration {
        if self.owes_the_rest() {
            (self.header_timeout / LOOKS).min(BODY_LOOK)
        } else if self.streams.is_empty() && self.control.is_full() && self.resets.is_full() {
            self.idle_timeout / LOOKS
        } else {
            BODY_LOOK
        }
    }

    /// Looks what happened since the last time, which was so long ago.
    pub(super) fn look(&mut self, pause: Duration) -> Looked {
        self.control.refill(pause);
        self.resets.refill(pause);
        let mut looked = Looked::default();
        self.missing = match self.missing {
            (whole, waited) if whole == self.whole && self.owes_the_rest() => (whole, waited + pause),
            _ => (self.whole, Duration::ZERO),
        };
        if self.missing.1 >= self.header_timeout {
            looked.end = Some(Overdue::Head);
        }
        for (stream, overdue) in self.streams.overdue(pause) {
            if self.takes_frames() {
                self.given_up.push(stream);
                looked.given_up.push(overdue);
            } else {
                // Behind a frame that is there in part nothing else comes, whoever's it is.
                looked.end = Some(overdue);
            }
        }
        looked
    }

    /// Whether the library may be given a frame that did not come from the client.
    fn takes_frames(&self) -> bool {
        self.is_greeted && self.inbound.is_between_frames() && !self.has_open_fields
    }

    /// Whether the client has begun to say something, other than a body, that it has to say to the end.
    fn owes_the_rest(&self) -> bool {
        let is_body =
            |frame: Frame| frame.kind == DATA && frame.length > 0 && self.streams.is_open(frame.stream);
        let is_amid = !self.inbound.is_between_frames() && !self.inbound.amid().is_some_and(is_body);
        !self.is_greeted || self.has_open_fields || is_amid
    }

    fn see_received(&mut self, sight: Sight) -> Result<(), Fault> {
        match sight {
            Sight::Begun(frame) => self.check(frame)?,
            Sight::Body { stream, bytes } => self.streams.receive(stream, bytes),
            Sight::Setting { id: INITIAL_WINDOW_SIZE, value } if value > WINDOW_MAX => {
                return Err(Fault::Window);
            }
            Sight::Setting { id: INITIAL_WINDOW_SIZE, value } => self.streams.set_first_window(value),
            Sight::Setting { .. } => {}
            Sight::Increment { stream, by } => self.streams.widen_window(stream, by),
            Sight::Ended(frame) => self.end_received(frame),
        }
        Ok(())
    }

    fn check(&mut self, frame: Frame) -> Result<(), Fault> {
        if !self.is_greeted && (frame.kind != SETTINGS || frame.is_ack()) {
            return Err(Fault::Preface);
        }
        let is_sized = match frame.kind {
            SETTINGS if frame.is_ack() => frame.length == 0,
            SETTINGS => frame.length.is_multiple_of(6),
            PING => frame.length == 8,
            RST_STREAM | WINDOW_UPDATE => frame.length == 4,
            PRIORITY => frame.length == 5,
            GOAWAY => frame.length >= 8,
            _ => true,
        };
        if !is_sized {
            return Err(Fault::FrameSize);
        }
        let is_more = matches!(frame.kind, HEADERS | DATA) && !self.has_open_fields;
        if is_more && self.streams.has_whole_body(frame.stream) {
            return Err(Fault::Closed);
        }
        match frame.kind {
            HEADERS => {
                self.streams.fields_come(frame.stream).ok_or(Fault::Streams)?;
                self.explain(0);
            }
            DATA if frame.length > 0 || frame.ends_stream() => {}
            // Those of them that have no end the library bounds.
            CONTINUATION => {}
            RST_STREAM if self.streams.is_open(frame.stream) => {
                self.resets.spend().ok_or(Fault::Resets)?;
            }
            _ => match self.explained.checked_sub(1) {
                Some(explained) => self.explained = explained,
                None => self.control.spend().ok_or(Fault::ControlFrames)?,
            },
        }
        if frame.leaves_fields_open() {
            self.has_open_fields = true;
        }
        Ok(())
    }

    fn end_received(&mut self, frame: Frame) {
        match frame.kind {
            SETTINGS => self.is_greeted = true,
            HEADERS | CONTINUATION => self.has_open_fields = frame.leaves_fields_open(),
            RST_STREAM => self.streams.reset(frame.stream),
            _ => {}
        }
        if frame.ends_stream() {
            self.streams.body_ends(frame.stream);
        }
        if !self.has_open_fields {
            self.whole = self.whole.wrapping_add(1);
        }
    }

    fn see_sent(&mut self, sight: Sight) {
        match sight {
            Sight::Begun(frame) => match frame.kind {
                HEADERS => {
                    self.streams.answer_begins(frame.stream);
                    self.explain(0);
                }
                DATA => {
                    self.streams.send(frame.stream, frame.length);
                    self.explain(frame.length);
                }
                _ => {}
            },
            Sight::Body { .. } => {}
            Sight::Setting { id: INITIAL_WINDOW_SIZE, value } => self.streams.set_first_credit(value),
            Sight::Setting { .. } => {}
            Sight::Increment { stream, by } => self.streams.widen_credit(stream, by),
            Sight::Ended(frame) if frame.kind == RST_STREAM => self.streams.reset(frame.stream),
            Sight::Ended(frame) if frame.ends_stream() => self.streams.answer_ends(frame.stream),
            Sight::Ended(_) => {}
        }
    }

    fn explain(&mut self, bytes: u32) {
        self.explained = (self.explained + EXPLAINED_BY_EACH + bytes / BYTES_EXPLAIN).min(EXPLAINED_MAX);
    }
}

/// How often something may still happen.
#[derive(Debug)]
struct Budget {
    most: u32,
    left: u32,
}

impl Budget {
    fn new(most: u32) -> Budget {
        Budget { most, left: most }
    }

    fn is_full(&self) -> bool {
        self.left == self.most
    }

    fn spend(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    fn refill(&mut self, pause: Duration) {
        let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let back = u64::from(self.most).saturating_mul(ms) / BUDGET_PER_MS;
        let back = u32::try_from(back).unwrap_or(u32::MAX).max(1);
        self.left = self.left.saturating_add(back).min(self.most);
    }
}

pub(super) fn length(span: Span) -> Duration {
    Duration::from_millis(span.as_millis())
}

#[cfg(test)]
mod tests;
