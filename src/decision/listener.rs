//! What one client may take of a public listener.

use super::time::Span;

/// How much of the gateway clients may hold at one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at the same time.
    pub connections: u32,
    /// The same of one address; trusted proxies speak for many and are not held to it.
    pub connections_per_ip: u32,
    /// For a whole request head, counted from its first byte, and on a new connection from its start.
    pub header_timeout: Span,
    /// Between an answer and the first byte of the next request.
    pub idle_timeout: Span,
    /// What a client must give of a body and take of an answer while it is waited for, bytes a second on
    /// average; 0 is any.
    pub body_rate: u32,
    /// Header fields of a request.
    pub header_fields: u32,
    /// All of them together, bytes.
    pub header_bytes: u32,
    /// The request's target with its query, bytes.
    pub uri_bytes: u32,
}

/// What a connection of HTTP/2 may hold and do (RFC 9113).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Requests at the same time.
    pub concurrent_streams: u32,
    /// What a client may send of a body ahead of what was taken in, bytes.
    pub stream_window: u32,
    /// The same of all bodies of the connection, bytes.
    pub connection_window: u32,
    /// What waits for a client that is slow to take an answer, bytes of each.
    pub send_buffer: u32,
    /// Requests that were taken back before they were looked at and are not forgotten yet (CVE-2023-44487).
    pub unseen_resets: u32,
    /// Requests that the gateway took back, or answered with 400, for an error of the client's.
    pub error_resets: u32,
    /// Requests that the client took back, in ten seconds.
    pub resets: u32,
    /// Frames that carry nothing and that no traffic explains, in ten seconds.
    pub control_frames: u32,
}
