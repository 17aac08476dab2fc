//! What may be wrong with a request before it is one.

use http::StatusCode;

/// Why a request was not let in. Each ends its connection: nobody knows where the next request would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Fault {
    RequestLine,
    Version,
    Target,
    UriTooLong,
    /// A line that ends in a bare LF, or holds a bare CR.
    LineEnd,
    /// A value that goes on in the next line (RFC 9112 §5.2).
    Folded,
    FieldName,
    FieldValue,
    TooManyFields,
    FieldsTooLarge,
    Host,
    ContentLength,
    TransferEncoding,
    /// A length and chunks.
    TwoFramings,
    Chunk,
    Trailer,
    /// The head or the body came too slowly.
    TooSlow,
}

impl Fault {
    /// All of them, for who counts them.
    pub(in crate::proxy) const ALL: [Fault; 17] = [
        Fault::RequestLine,
        Fault::Version,
        Fault::Target,
        Fault::UriTooLong,
        Fault::LineEnd,
        Fault::Folded,
        Fault::FieldName,
        Fault::FieldValue,
        Fault::TooManyFields,
        Fault::FieldsTooLarge,
        Fault::Host,
        Fault::ContentLength,
        Fault::TransferEncoding,
        Fault::TwoFramings,
        Fault::Chunk,
        Fault::Trailer,
        Fault::TooSlow,
    ];

    pub(in crate::proxy) fn status(self) -> StatusCode {
        match self {
            Fault::UriTooLong => StatusCode::URI_TOO_LONG,
            Fault::TooManyFields | Fault::FieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Fault::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Fault::RequestLine
            | Fault::Version
            | Fault::Target
            | Fault::LineEnd
            | Fault::Folded
            | Fault::FieldName
            | Fault::FieldValue
            | Fault::Host
            | Fault::ContentLength
            | Fault::TransferEncoding
            | Fault::TwoFramings
            | Fault::Chunk
            | Fault::Trailer => StatusCode::BAD_REQUEST,
        }
    }

    /// One sentence for the client.
    pub(in crate::proxy) fn detail(self) -> &'static str {
        match self {
            Fault::RequestLine => "The request line is malformed.",
            Fault::Version => "The protocol version is not supported.",
            Fault::Target => "The request target is malformed.",
            Fault::UriTooLong => "The request target is too long.",
            Fault::LineEnd => "A line must end in CR LF.",
            Fault::Folded => "A header field must not go on in another line.",
            Fault::FieldName => "The name of a header field is malformed.",
            Fault::FieldValue => "The value of a header field holds a control character.",
            Fault::TooManyFields => "The request has too many header fields.",
            Fault::FieldsTooLarge => "The header fields are too large.",
            Fault::Host => "The request must name one host.",
            Fault::ContentLength => "Content-Length is malformed or repeated.",
            Fault::TransferEncoding => "Transfer-Encoding must be chunked, once.",
            Fault::TwoFramings => "Content-Length and Transfer-Encoding exclude each other.",
            Fault::Chunk => "The chunked body is malformed.",
            Fault::Trailer => "A trailer field is malformed or not allowed.",
            Fault::TooSlow => "The request did not arrive in time.",
        }
    }

    /// A label for metrics and the log.
    pub(in crate::proxy) fn name(self) -> &'static str {
        match self {
            Fault::RequestLine => "request_line",
            Fault::Version => "version",
            Fault::Target => "target",
            Fault::UriTooLong => "uri_too_long",
            Fault::LineEnd => "line_end",
            Fault::Folded => "folded",
            Fault::FieldName => "field_name",
            Fault::FieldValue => "field_value",
            Fault::TooManyFields => "too_many_fields",
            Fault::FieldsTooLarge => "fields_too_large",
            Fault::Host => "host",
            Fault::ContentLength => "content_length",
            Fault::TransferEncoding => "transfer_encoding",
            Fault::TwoFramings => "two_framings",
            Fault::Chunk => "chunk",
            Fault::Trailer => "trailer",
            Fault::TooSlow => "too_slow",
        }
    }

    /// The whole answer, which is the last on its connection.
    pub(in crate::proxy) fn answer(self) -> String {
        self.answer_to_head() + &self.body()
    }

    /// The same without its body.
    pub(in crate::proxy) fn answer_to_head(self) -> String {
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or_default();
        format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            status.as_u16(),
            self.body().len()
        )
    }

    fn body(self) -> String {
        format!("{{\"detail\":\"{}\"}}", self.detail())
    }
}
