//! The last thing before the terminal: whatever came into a line, it stays one line and steers
//! nothing.

use std::fmt::Write as _;
use std::io;

/// Writes whole lines; every character but the last newline that is not plainly shown is
/// written as `\uXXXX`, which is an escape in JSON and readable in text.
pub(in crate::telemetry) struct Sanitized<W>(W);

impl<W: io::Write> Sanitized<W> {
    pub(in crate::telemetry) fn new(inner: W) -> Sanitized<W> {
        Sanitized(inner)
    }
}

impl<W: io::Write> io::Write for Sanitized<W> {
    /// `line` is one whole event: the layer hands over each in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        if body.iter().all(|byte| matches!(byte, 0x20..=0x7e)) {
            self.0.write_all(line)?;
        } else {
            let mut shown = String::with_capacity(line.len() + 16);
            String::from_utf8_lossy(body).chars().for_each(|c| push_shown(&mut shown, c));
            if body.len() < line.len() {
                shown.push('\n');
            }
            self.0.write_all(shown.as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn push_shown(shown: &mut String, c: char) {
    if steers(c) {
        // Writing to a string cannot fail.
        let _ = write!(shown, "\\u{:04x}", u32::from(c));
    } else {
        shown.push(c);
    }
}

/// Control characters, line separators, and those that turn the direction of what follows
/// (CVE-2021-42574). None lies outside the basic plane.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn written(line: &[u8]) -> String {
        let mut out = Vec::new();
        Sanitized::new(&mut out).write_all(line).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_lines_pass_as_they_are() {
        for line in ["ok\n", "ok", "", "\n", "grüße 日本\n"] {
            assert_eq!(written(line.as_bytes()), line);
        }
    }

    #[test]
    fn what_steers_is_spelled_out() {
        assert_eq!(written(b"a\nb\r\x1b[0m\n"), "a\\u000ab\\u000d\\u001b[0m\n");
        assert_eq!(written("\u{9b}\u{7f}\u{202e}\u{2028}\n".as_bytes()), "\\u009b\\u007f\\u202e\\u2028\n");
        assert_eq!(written(b"\xff\n"), "\u{fffd}\n");
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let value = serde_json::json!({"path": "/\u{9b}\u{202e}\u{7f}\n"});
        let shown = written(format!("{value}\n").as_bytes());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(!shown.trim_end().contains(char::is_control), "{shown:?}");
    }
}
