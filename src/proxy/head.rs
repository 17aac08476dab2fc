//! The head of an HTTP/1 request, checked before anything parses it.
//!
//! What two parsers could read differently is the way into a request that nobody counted: framings that
//! contradict each other, line ends that are none, names with a space behind them (RFC 9112 §11.2). All of that is
//! refused here, whatever the parser behind would make of it. The check knows nothing of sockets or time: it looks at
//! what is there of a head, line by line, and says the same however the bytes were cut.

mod body;
mod fault;
mod field;

use memchr::memchr;

pub(super) use self::body::{Body, Passed, Trailers};
pub(super) use self::fault::Fault;
use self::field::Facts;
pub(super) use self::field::split_field;
use crate::decision::listener::ClientLimits;

/// The longest method, bytes.
const METHOD_MAX: usize = 32;
/// ` `, ` HTTP/1.1` and the line's end.
const AROUND_TARGET: usize = 12;

/// How far the check of one head has come.
#[derive(Debug, Default)]
pub(super) struct HeadCheck {
    /// Where the first line begins that was not checked yet.
    line_start: usize,
    /// No line ends between `line_start` and here.
    scanned: usize,
    /// Where the fields begin, once the request line was read.
    fields_start: Option<usize>,
    facts: Facts,
}

/// A head that is there to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Of the head with its closing empty line, bytes.
    pub(super) length: usize,
    /// What follows it.
    pub(super) body: Body,
}

impl HeadCheck {
    /// Goes on with a head of which so much is there: what it was shown before, and more. `None` while the end
    /// is missing.
    pub(super) fn look(&mut self, head: &[u8], limits: &ClientLimits) -> Result<Option<Whole>, Fault> {
        loop {
            let unseen = head.get(self.scanned..).unwrap_or_default();
            let end = memchr(b'\n', unseen).map(|at| self.scanned + at + 1);
            let line_end = end.unwrap_or(head.len());
            let line = head.get(self.line_start..line_end).unwrap_or_default();
            self.must_fit(line, line_end, limits)?;
            self.scanned = line_end;
            if end.is_none() {
                return Ok(None);
            }
            let line = line.strip_suffix(b"\r\n").ok_or(Fault::LineEnd)?;
            let start = std::mem::replace(&mut self.line_start, line_end);
            match (self.fields_start, line) {
                // One empty line before a request is a slip of old clients (RFC 9112 §2.2).
                (None, []) if start == 0 => {}
                (None, line) => {
                    self.facts.read_request_line(line, start, limits)?;
                    self.fields_start = Some(line_end);
                }
                (Some(_), []) => {
                    let body = self.facts.conclude()?;
                    return Ok(Some(Whole { length: line_end, body }));
                }
                (Some(_), line) => self.facts.read_field(line, head, limits)?,
            }
        }
    }

    /// Judges what is there of a line by its size and its first byte alone, so that a line that is too long is
    /// told before its end.
    fn must_fit(&self, line: &[u8], line_end: usize, limits: &ClientLimits) -> Result<(), Fault> {
        match self.fields_start {
            // Of TLS and other protocols no line end may ever come.
            None if line.first().is_some_and(|first| !field::may_begin_request(*first)) => {
                Err(Fault::RequestLine)
            }
            None if line.len() > limits.uri_bytes as usize + METHOD_MAX + AROUND_TARGET => {
                Err(Fault::UriTooLong)
            }
            Some(fields_start) if line_end - fields_start > limits.header_bytes as usize => {
                Err(Fault::FieldsTooLarge)
            }
            None | Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
