//! What ties together what several services say of one request: W3C Trace Context, and an id of the request.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// Where the trace stands that a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems say to each other about it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What the file says of traces and ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRules {
    /// The header with the id of a request; none where requests get none.
    pub request_id: Option<HeaderName>,
    pub traceparent: Traceparent,
    /// Which requests are recorded, where spans go to a collector.
    pub sampler: Option<Sampler>,
}

/// Picks a share of all requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    millionths: u32,
}

/// Whether the gateway takes part in traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traceparent {
    /// It is a span of each trace, and begins one where a client did not.
    Generated,
    /// What clients send goes on as it is.
    Passed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub [u8; 8]);

/// Whether somebody before us wants the trace recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    Yes,
    No,
}

/// A span of a trace, as `traceparent` names it (Trace Context §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: TraceId,
    pub span: SpanId,
    pub sampled: Sampled,
}

impl TraceRules {
    /// The headers that the gateway writes ids into.
    pub fn headers(&self) -> impl Iterator<Item = HeaderName> {
        let traceparent = match self.traceparent {
            Traceparent::Generated => Some(TRACEPARENT),
            Traceparent::Passed => None,
        };
        self.request_id.clone().into_iter().chain(traceparent)
    }
}

impl Sampler {
    pub const ALL: u32 = 1_000_000;

    /// More than all of them is all of them.
    pub fn new(millionths: u32) -> Sampler {
        Sampler { millionths: millionths.min(Sampler::ALL) }
    }

    /// By an id of ours, which nobody outside can choose.
    pub fn pick(self, span: SpanId) -> Sampled {
        let [a, b, c, d, ..] = span.0;
        let place = u64::from(u32::from_be_bytes([a, b, c, d]));
        // Below this share of all places: of 2^32, so that all is all.
        let share = (u64::from(self.millionths) << 32) / u64::from(Sampler::ALL);
        if place < share { Sampled::Yes } else { Sampled::No }
    }
}

impl TraceContext {
    /// The length of the text of version 00, bytes.
    pub const LEN: usize = 55;

    /// The only `traceparent` of a request. Of a later version what version 00 knows is read.
    pub fn of(headers: &HeaderMap) -> Option<TraceContext> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) => TraceContext::parse(line.as_bytes().trim_ascii()),
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    pub fn parse(text: &[u8]) -> Option<TraceContext> {
        let (known, rest) = text.split_first_chunk::<{ TraceContext::LEN }>()?;
        let [version] = unhex(&known[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            1..0xff => rest.is_empty() || rest.starts_with(b"-"),
        };
        if !is_whole || known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
            return None;
        }
        let (trace, span, [flags]) = (unhex(&known[3..35])?, unhex(&known[36..52])?, unhex(&known[53..])?);
        let sampled = if flags & 1 == 1 { Sampled::Yes } else { Sampled::No };
        let is_sound = trace != [0; 16] && span != [0; 8];
        is_sound.then_some(TraceContext { trace: TraceId(trace), span: SpanId(span), sampled })
    }

    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`
    pub fn text(&self) -> [u8; TraceContext::LEN] {
        let mut text = [b'-'; TraceContext::LEN];
        let flags = match self.sampled {
            Sampled::Yes => 1,
            Sampled::No => 0,
        };
        hex(&[0], &mut text[..2]);
        hex(&self.trace.0, &mut text[3..35]);
        hex(&self.span.0, &mut text[36..52]);
        hex(&[flags], &mut text[53..]);
        text
    }
}

impl TraceId {
    /// As it stands in headers, lines and events: 32 lower-case digits.
    pub fn text(&self) -> [u8; 32] {
        let mut text = [0; 32];
        hex(&self.0, &mut text);
        text
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// Whether a request id of another proxy is one to go on with: 1 to 128 bytes that are harmless wherever it is shown.
pub fn is_request_id(text: &[u8]) -> bool {
    const LEN_MAX: usize = 128;
    let is_harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=LEN_MAX).contains(&text.len()) && text.iter().all(is_harmless)
}

fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Lower-case digits alone: others are no `traceparent`.
fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_sound_one_is_read_and_written_alike() {
        let context = TraceContext::parse(SOUND.as_bytes()).unwrap();
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.trace.text(), *b"4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span.to_string(), "00f067aa0ba902b7");
        assert_eq!(context.sampled, Sampled::Yes);
        assert_eq!(context.text(), *SOUND.as_bytes());
    }

    #[test]
    fn what_the_standard_calls_invalid_is_none() {
        let zero_trace = SOUND.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = SOUND.replace("00f067aa0ba902b7", &"0".repeat(16));
        let (upper, long) = (SOUND.to_uppercase(), format!("{SOUND}-x"));
        for broken in [
            "",
            "00",
            &SOUND[..54],
            &long,
            &upper,
            &zero_trace,
            &zero_span,
            &SOUND.replacen("00-", "ff-", 1),
            &SOUND.replacen("00-", "0g-", 1),
            &SOUND.replace('-', "_"),
        ] {
            assert_eq!(TraceContext::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for later in
            [SOUND.replacen("00-", "cc-", 1), format!("{}-what-comes", SOUND.replacen("00-", "01-", 1))]
        {
            let context = TraceContext::parse(later.as_bytes()).unwrap();
            assert_eq!(context.text(), *SOUND.as_bytes(), "{later}");
        }
        assert_eq!(TraceContext::parse(format!("{}x", SOUND.replacen("00-", "01-", 1)).as_bytes()), None);
        let flags = SOUND.replace("-01", "-02");
        assert_eq!(TraceContext::parse(flags.as_bytes()).unwrap().sampled, Sampled::No);
    }

    #[test]
    fn of_two_none_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(SOUND));
        assert!(TraceContext::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(SOUND));
        assert_eq!(TraceContext::of(&headers), None);
    }

    #[test]
    fn a_share_of_requests_is_picked() {
        let picked =
            |millionths, first: u8| Sampler::new(millionths).pick(SpanId([first, 255, 255, 255, 0, 0, 0, 0]));
        assert!((0..=255).all(|first| picked(0, first) == Sampled::No));
        assert!((0..=255).all(|first| picked(1_000_000, first) == Sampled::Yes));
        let quarter = (0..=255).filter(|&first| picked(250_000, first) == Sampled::Yes).count();
        assert_eq!(quarter, 64);
    }

    #[test]
    fn a_request_id_is_short_and_harmless() {
        for sound in ["a", "4bf92f3577b34da6", "2b0c-11:f.0_x/+=", &"x".repeat(128)] {
            assert!(is_request_id(sound.as_bytes()), "{sound}");
        }
        for broken in ["", " ", "a b", "a\"b", "a\u{1b}", "é", "<a>", "a,b", &"x".repeat(129)] {
            assert!(!is_request_id(broken.as_bytes()), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_it_and_what_is_read_is_written_again(text in prop::collection::vec(any::<u8>(), 0..70), at in 0..55_usize, byte: u8) {
            let _ = TraceContext::parse(&text);
            let mut nearly = SOUND.as_bytes().to_vec();
            nearly[at] = byte;
            if let Some(context) = TraceContext::parse(&nearly) {
                prop_assert_eq!(TraceContext::parse(&context.text()), Some(context));
            }
        }
    }
}
