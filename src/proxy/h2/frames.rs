//! The frames of HTTP/2 (RFC 9113 §4.1) as they go by, in whatever pieces they come.

/// The length of a frame's head, bytes.
const HEAD: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

const ACK_OR_END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the head of a frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    flags: u8,
    /// Of what follows, bytes.
    pub(super) length: u32,
    pub(super) stream: u32,
}

/// What is seen of frames that go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// The head of a frame is whole.
    Begun(Frame),
    /// So many bytes of a body, padding and all.
    Body { stream: u32, bytes: u32 },
    /// One of a SETTINGS frame.
    Setting { id: u16, value: u32 },
    /// What a WINDOW_UPDATE adds.
    Increment { stream: u32, by: u32 },
    /// The frame is there to its last byte.
    Ended(Frame),
}

/// One direction of a connection, behind the client's preface.
#[derive(Debug, Default)]
pub(super) struct Walk {
    head: [u8; HEAD],
    /// Of the head of this frame there is so much; between frames, nothing.
    head_length: usize,
    frame: Frame,
    /// Of what follows the head so much is missing.
    missing: usize,
    /// One setting, or one increment, as far as it is there.
    unit: [u8; 6],
    unit_length: usize,
}

impl Frame {
    fn parse(head: &[u8; HEAD]) -> Frame {
        let [a, b, c, kind, flags, stream @ ..] = *head;
        Frame {
            kind,
            flags,
            length: u32::from_be_bytes([0, a, b, c]),
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub(super) fn is_ack(self) -> bool {
        matches!(self.kind, SETTINGS | PING) && self.flags & ACK_OR_END_STREAM != 0
    }

    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & ACK_OR_END_STREAM != 0
    }

    /// Whether more of the same fields must follow.
    pub(super) fn leaves_fields_open(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS == 0
    }
}

impl Walk {
    /// Whether no frame is there in part.
    pub(super) fn is_between_frames(&self) -> bool {
        self.head_length == 0
    }

    /// The frame that is there in part, if its head is whole.
    pub(super) fn amid(&self) -> Option<Frame> {
        (self.head_length == HEAD).then_some(self.frame)
    }

    /// Walks over more bytes.
    ///
    /// # Errors
    /// What `see` gives, with how many of these bytes are before the frame that it is about.
    pub(super) fn pass<F>(
        &mut self,
        bytes: &[u8],
        mut see: impl FnMut(Sight) -> Result<(), F>,
    ) -> Result<(), (usize, F)> {
        let (mut rest, mut start) = (bytes, 0);
        while !rest.is_empty() {
            if self.head_length < HEAD {
                if self.head_length == 0 {
                    start = bytes.len() - rest.len();
                }
                let (now, later) = rest.split_at(rest.len().min(HEAD - self.head_length));
                self.head[self.head_length..self.head_length + now.len()].copy_from_slice(now);
                self.head_length += now.len();
                rest = later;
                if self.head_length < HEAD {
                    return Ok(());
                }
                self.frame = Frame::parse(&self.head);
                self.missing = self.frame.length as usize;
                self.unit_length = 0;
                see(Sight::Begun(self.frame)).map_err(|fault| (start, fault))?;
            } else {
                let (now, later) = rest.split_at(rest.len().min(self.missing));
                self.missing -= now.len();
                rest = later;
                self.look_into(now, &mut see).map_err(|fault| (start, fault))?;
            }
            if self.missing == 0 {
                self.head_length = 0;
                see(Sight::Ended(self.frame)).map_err(|fault| (start, fault))?;
            }
        }
        Ok(())
    }

    fn look_into<F>(
        &mut self,
        payload: &[u8],
        see: &mut impl FnMut(Sight) -> Result<(), F>,
    ) -> Result<(), F> {
        let stream = self.frame.stream;
        match self.frame.kind {
            DATA => {
                // No piece is longer than its frame.
                let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                see(Sight::Body { stream, bytes })
            }
            SETTINGS if !self.frame.is_ack() => self.units::<6, F>(payload, |unit| {
                let [a, b, value @ ..] = *unit;
                see(Sight::Setting { id: u16::from_be_bytes([a, b]), value: u32::from_be_bytes(value) })
            }),
            WINDOW_UPDATE => self.units::<4, F>(payload, |unit| {
                see(Sight::Increment { stream, by: u32::from_be_bytes(*unit) & 0x7fff_ffff })
            }),
            _ => Ok(()),
        }
    }

    /// Gathers what comes in units of so many bytes.
    fn units<const N: usize, F>(
        &mut self,
        payload: &[u8],
        mut see: impl FnMut(&[u8; N]) -> Result<(), F>,
    ) -> Result<(), F> {
        for byte in payload {
            self.unit[self.unit_length] = *byte;
            self.unit_length += 1;
            if let Some((unit, _)) = self.unit[..self.unit_length].split_first_chunk::<N>() {
                self.unit_length = 0;
                see(unit)?;
            }
        }
        Ok(())
    }
}

/// A frame by which a client would make a stream depend on itself: the library takes it for an error of this stream,
/// and ends the stream towards both sides (RFC 7540 §5.3.1).
pub(super) fn self_dependency(stream: u32) -> [u8; HEAD + 5] {
    let [a, b, c, d] = stream.to_be_bytes();
    [0, 0, 5, PRIORITY, 0, a, b, c, d, a, b, c, d, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: &[u8] = b"\0\0\x0c\x04\0\0\0\0\0\0\x04\0\0\0\x10\0\x03\0\0\0\x64\
        \0\0\0\x04\x01\0\0\0\0\
        \0\0\x04\x08\0\x80\0\0\x07\x80\0\0\x05\
        \0\0\x03\0\x01\0\0\0\x07abc\
        \0\0\x02\x01\0\0\0\0\x09\x82\x84";

    fn walk(pieces: impl Iterator<Item = &'static [u8]>) -> Vec<Sight> {
        let (mut walk, mut seen) = (Walk::default(), Vec::new());
        for piece in pieces {
            walk.pass(piece, |sight| {
                seen.push(sight);
                Ok::<(), ()>(())
            })
            .unwrap();
        }
        assert!(walk.is_between_frames());
        seen
    }

    #[test]
    fn frames_are_seen_whole() {
        let frame = |kind, flags, length, stream| Frame { kind, flags, length, stream };
        let (settings, ack) = (frame(SETTINGS, 0, 12, 0), frame(SETTINGS, 1, 0, 0));
        let (update, data) = (frame(WINDOW_UPDATE, 0, 4, 7), frame(DATA, 1, 3, 7));
        let headers = frame(HEADERS, 0, 2, 9);
        let seen = walk([FRAMES].into_iter());
        let expected = [
            Sight::Begun(settings),
            Sight::Setting { id: 4, value: 16 },
            Sight::Setting { id: 3, value: 100 },
            Sight::Ended(settings),
            Sight::Begun(ack),
            Sight::Ended(ack),
            Sight::Begun(update),
            Sight::Increment { stream: 7, by: 5 },
            Sight::Ended(update),
            Sight::Begun(data),
            Sight::Body { stream: 7, bytes: 3 },
            Sight::Ended(data),
            Sight::Begun(headers),
            Sight::Ended(headers),
        ];
        assert_eq!(seen, expected);
        assert!(data.ends_stream() && !headers.ends_stream() && ack.is_ack() && !settings.is_ack());
        assert!(headers.leaves_fields_open() && !data.leaves_fields_open());
    }

    #[test]
    fn pieces_make_no_difference() {
        let is_body = |sight: &Sight| matches!(sight, Sight::Body { .. });
        let whole: Vec<Sight> =
            walk([FRAMES].into_iter()).into_iter().filter(|sight| !is_body(sight)).collect();
        for size in 1..FRAMES.len() {
            let seen = walk(FRAMES.chunks(size));
            let bytes: u32 = seen
                .iter()
                .map(|sight| match sight {
                    Sight::Body { bytes, .. } => *bytes,
                    Sight::Begun(_) | Sight::Setting { .. } | Sight::Increment { .. } | Sight::Ended(_) => 0,
                })
                .sum();
            assert_eq!(bytes, 3, "in pieces of {size}");
            let rest: Vec<Sight> = seen.into_iter().filter(|sight| !is_body(sight)).collect();
            assert_eq!(rest, whole, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_before_a_fault_is_known() {
        let refuse_data = |sight| match sight {
            Sight::Begun(frame) if frame.kind == DATA => Err("no"),
            Sight::Begun(_)
            | Sight::Body { .. }
            | Sight::Setting { .. }
            | Sight::Increment { .. }
            | Sight::Ended(_) => Ok(()),
        };
        let before = 21 + 9 + 13;
        assert_eq!(Walk::default().pass(FRAMES, refuse_data), Err((before, "no")));
        let mut walk = Walk::default();
        walk.pass(&FRAMES[..before + 4], refuse_data).unwrap();
        assert!(!walk.is_between_frames() && walk.amid().is_none());
        assert_eq!(walk.pass(&FRAMES[before + 4..], refuse_data), Err((0, "no")));
    }
}
