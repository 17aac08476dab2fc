//! What the file says of a backend.

use super::time::Span;

/// The servers of one upstream and how long each step towards them may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    pub name: Box<str>,
    /// `host:port`, at least one; asked in turn.
    pub servers: Vec<Box<str>>,
    pub protocol: Protocol,
    pub connect_timeout: Span,
    /// Between two reads, not for the whole answer.
    pub read_timeout: Span,
    pub write_timeout: Span,
    /// How often another server is tried when a connection could not be made.
    pub retries: u32,
}

/// What servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// By prior knowledge.
    Http2,
}
