//! Points in time and lengths of time, in the two units that limits need.

use std::fmt;

/// A point in time, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const fn from_micros(us: u64) -> Timestamp {
        Timestamp(us)
    }

    pub const fn from_millis(ms: u64) -> Timestamp {
        Timestamp(ms.saturating_mul(1000))
    }

    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The last whole millisecond not after this point: what a window compares with.
    pub const fn floor_millis(self) -> u64 {
        self.0 / 1000
    }

    /// The first whole millisecond not before this point: what a counter stores.
    ///
    /// Storing the ceiling and comparing the floor makes every stored event at most one
    /// millisecond late and never early, so no window is shortened by rounding.
    pub const fn ceil_millis(self) -> u64 {
        self.0.div_ceil(1000)
    }

    /// Whole seconds since the epoch, rounded up.
    pub const fn ceil_secs(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }

    pub const fn plus(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0.saturating_mul(1000)))
    }

    /// How long from here until `later`, rounded up to a millisecond; zero if `later` has passed.
    pub const fn until(self, later: Timestamp) -> Span {
        Span(later.0.saturating_sub(self.0).div_ceil(1000))
    }
}

/// A length of time, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn from_millis(ms: u64) -> Span {
        Span(ms)
    }

    pub const fn from_secs(s: u64) -> Span {
        Span(s.saturating_mul(1000))
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up: the unit of `Retry-After` (RFC 9110 §10.2.3).
    pub const fn ceil_secs(self) -> u64 {
        self.0.div_ceil(1000)
    }

    pub const fn plus(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

/// How the times that an earlier process wrote down are read by the clock of this one.
///
/// Where the clock was set back in between they would lie ahead, and hold keys shut until it has caught up: all of
/// them move back with it. So nothing is read as older than it was, and nothing lasts longer than it would have.
#[derive(Clone, Copy, Debug)]
pub struct Resumed {
    now: Timestamp,
    back_us: u64,
}

impl Resumed {
    /// `saved_at` is when the times were written down, by the clock of then.
    pub const fn new(saved_at: Timestamp, now: Timestamp) -> Resumed {
        Resumed { now, back_us: saved_at.0.saturating_sub(now.0) }
    }

    pub const fn now(self) -> Timestamp {
        self.now
    }

    /// A time that may lie ahead, such as the end of a block.
    pub const fn time(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_sub(self.back_us))
    }

    /// The same of milliseconds since the epoch.
    pub const fn time_ms(self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.back_us / 1000)
    }

    /// A time that has passed, milliseconds since the epoch: none is later than now.
    pub fn past_ms(self, at_ms: u64) -> u64 {
        self.time_ms(at_ms).min(self.now.ceil_millis())
    }
}

impl Span {
    /// As [`Display`](fmt::Display) writes it: a number and ms, s, m, h or d.
    pub fn from_text(text: &str) -> Option<Span> {
        const UNITS: [(&str, u64); 5] =
            [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let (_, unit_ms) = UNITS.into_iter().find(|(known, _)| *known == unit)?;
        number.parse::<u64>().ok()?.checked_mul(unit_ms).map(Span)
    }
}

/// As operators write it: `90s` is `90s`, `3600s` is `1h`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        for (unit_ms, suffix) in UNITS {
            if self.0 >= unit_ms && self.0.is_multiple_of(unit_ms) {
                return write!(f, "{}{suffix}", self.0 / unit_ms);
            }
        }
        write!(f, "{}ms", self.0)
    }
}
