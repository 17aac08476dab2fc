//! How long a counter matters after its last event, in one byte.

use crate::decision::time::Span;

/// A span rounded up to one of 256 steps, at most a quarter longer than asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keep(u8);

impl Keep {
    /// The smallest step that is not shorter than `span`.
    pub(super) fn at_least(span: Span) -> Keep {
        let wanted = span.ceil_secs();
        let code = (0..=u8::MAX).find(|&code| Keep(code).as_secs() >= wanted);
        Keep(code.unwrap_or(u8::MAX))
    }

    /// The step as it is written down.
    pub(super) fn code(self) -> u8 {
        self.0
    }

    pub(super) fn of_code(code: u8) -> Keep {
        Keep(code)
    }

    pub(super) fn as_millis(self) -> u64 {
        self.as_secs() * 1000
    }

    /// Two bits of mantissa, six of exponent; the exponent is held at 2^40 s.
    fn as_secs(self) -> u64 {
        (4 + u64::from(self.0 & 3)) << (self.0 >> 2).min(40)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shorter_and_at_most_a_quarter_longer() {
        for secs in [1, 4, 5, 60, 61, 900, 3600, 86_400, 7 * 86_400, 31 * 86_400] {
            let kept = Keep::at_least(Span::from_secs(secs)).as_secs();
            assert!(kept >= secs, "{secs} kept {kept}");
            assert!(kept <= 4 || kept * 4 <= secs * 5, "{secs} kept {kept}");
        }
    }
}
