//! HTTP/1.1 message framing on a socket, the same for both sides.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything here is waited for before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The most that one message may hold; past it the test fails instead of filling the memory.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const MAX_HEADERS: usize = 256;

/// Header fields as they came: order, repetition, letter case and bytes kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

impl Headers {
    /// The first value of this name, in any letter case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).first().copied()
    }

    /// All values of this name, in order. Panics at one that is not UTF-8: read those from `fields`.
    pub(crate) fn get_all(&self, name: &str) -> Vec<&str> {
        let same_name = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same_name.map(|(_, value)| std::str::from_utf8(value).expect("a header value in UTF-8")).collect()
    }

    fn from_parsed(parsed: &[httparse::Header<'_>]) -> Headers {
        Headers { fields: parsed.iter().map(|h| (h.name.to_owned(), h.value.to_vec())).collect() }
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().ends_with("chunked"))
    }

    fn content_length(&self) -> io::Result<Option<usize>> {
        self.get("content-length").map(|v| v.parse().map_err(invalid)).transpose()
    }
}

/// The start line and headers of a request.
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Headers,
}

impl RequestHead {
    pub(crate) fn parse(raw: &[u8]) -> io::Result<RequestHead> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(raw).map_err(invalid)?;
        Ok(RequestHead {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            headers: Headers::from_parsed(request.headers),
        })
    }

    /// RFC 9112 §6.3: a request without framing headers has no body.
    pub(crate) fn framing(&self) -> io::Result<Framing> {
        if self.headers.is_chunked() {
            return Ok(Framing::Chunked);
        }
        Ok(self.headers.content_length()?.map_or(Framing::Empty, Framing::Length))
    }
}

/// The status line and headers of an answer.
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
}

impl AnswerHead {
    pub(crate) fn parse(raw: &[u8]) -> io::Result<AnswerHead> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        answer.parse(raw).map_err(invalid)?;
        let status = answer.code.unwrap_or_default();
        Ok(AnswerHead { status, headers: Headers::from_parsed(answer.headers) })
    }

    /// RFC 9112 §6.3: without framing headers the body of an answer ends with the connection.
    pub(crate) fn framing(&self, request_method: &str) -> io::Result<Framing> {
        if request_method == "HEAD" || matches!(self.status, 100..200 | 204 | 304) {
            return Ok(Framing::Empty);
        }
        if self.headers.is_chunked() {
            return Ok(Framing::Chunked);
        }
        Ok(self.headers.content_length()?.map_or(Framing::UntilClose, Framing::Length))
    }
}

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Empty,
    Length(usize),
    Chunked,
    UntilClose,
}

/// A body as content and as the bytes that carried it, chunk sizes included.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) content: Vec<u8>,
    pub(crate) raw: Vec<u8>,
}

/// A connection and the bytes read from it that no message has claimed yet.
pub(crate) struct Wire {
    stream: TcpStream,
    unclaimed: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        // Both sides are tested for when they write, so nothing may wait for more to send.
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Wire { stream, unclaimed: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next head with its closing empty line; `None` where the peer closed between messages.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = position_of(&self.unclaimed, b"\r\n\r\n") {
                return Ok(Some(self.claim(end + 4)));
            }
            if self.fill().await? == 0 {
                let broken_off = !self.unclaimed.is_empty();
                return if broken_off { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
    }

    pub(crate) async fn body(&mut self, framing: Framing) -> io::Result<Body> {
        match framing {
            Framing::Empty => Ok(Body::default()),
            Framing::Length(length) => {
                let raw = self.exactly(length).await?;
                Ok(Body { content: raw.clone(), raw })
            }
            Framing::Chunked => self.chunked().await,
            Framing::UntilClose => {
                while self.fill().await? > 0 {}
                let raw = std::mem::take(&mut self.unclaimed);
                Ok(Body { content: raw.clone(), raw })
            }
        }
    }

    /// Returns once the peer has closed, having sent nothing more.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        if !self.unclaimed.is_empty() || self.fill().await? > 0 {
            return Err(invalid("bytes after the last message"));
        }
        Ok(())
    }

    async fn chunked(&mut self) -> io::Result<Body> {
        let mut body = Body::default();
        loop {
            let line = self.line().await?;
            let digits = std::str::from_utf8(&line).map_err(invalid)?.trim_end();
            let digits = digits.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(digits, 16).map_err(invalid)?;
            body.raw.extend_from_slice(&line);
            if size == 0 {
                break;
            }
            let chunk = self.exactly(size.saturating_add(2)).await?;
            body.content.extend_from_slice(&chunk[..size]);
            body.raw.extend_from_slice(&chunk);
        }
        loop {
            let trailer = self.line().await?;
            body.raw.extend_from_slice(&trailer);
            if trailer == b"\r\n" {
                return Ok(body);
            }
        }
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = position_of(&self.unclaimed, b"\r\n") {
                return Ok(self.claim(end + 2));
            }
            self.fill_some().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unclaimed.len() < length {
            self.fill_some().await?;
        }
        Ok(self.claim(length))
    }

    fn claim(&mut self, length: usize) -> Vec<u8> {
        let rest = self.unclaimed.split_off(length);
        std::mem::replace(&mut self.unclaimed, rest)
    }

    async fn fill_some(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads what is there; 0 at the end of the stream.
    async fn fill(&mut self) -> io::Result<usize> {
        if self.unclaimed.len() > MAX_MESSAGE_BYTES {
            return Err(invalid("a message over the harness's bound"));
        }
        self.unclaimed.reserve(16 << 10);
        self.stream.read_buf(&mut self.unclaimed).await
    }
}

/// A body in `Transfer-Encoding: chunked`, this many bytes a chunk, without trailers.
pub(super) fn in_chunks(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 16);
    for chunk in body.chunks(chunk_bytes.max(1)) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

fn position_of(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}
