//! One request, as the edge shows it.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method};

use crate::decision::refusal::Refusal;
use crate::decision::trace::TraceId;

/// The head of a request as the edge sees it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// In the spelling that the backend gets.
    pub method: &'a Method,
    /// The target without its query, as the client sent it.
    pub path: &'a str,
    pub query: &'a str,
    /// The authority of the target, which stands above the Host field (RFC 9112 §3.2.2).
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// Who is at the other end of the connection.
    pub peer: IpAddr,
    /// Whom the client's verified certificate names.
    pub client_cert: Option<&'a str>,
    /// The id of the request; none where requests get none.
    pub request_id: Option<&'a str>,
    /// The trace that it belongs to, if anybody knows one.
    pub trace: Option<TraceId>,
}

impl<'a> Head<'a> {
    /// As the client wrote it; empty if it wrote none.
    pub(crate) fn host(&self) -> &'a str {
        let field = || self.headers.get(HOST).and_then(|host| host.to_str().ok());
        self.authority.or_else(field).unwrap_or_default()
    }
}

/// One request, as far as the gateway needs the edge for it.
pub trait Exchange: Send {
    fn head(&self) -> Head<'_>;

    fn has_body(&mut self) -> bool;

    /// The whole body, which is still forwarded byte for byte afterwards.
    fn read_body(&mut self) -> impl Future<Output = Result<Bytes, BodyUnread>> + Send;
}

/// Why a body could not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUnread {
    TooLarge,
    TimedOut,
    ClientGone,
}

impl From<BodyUnread> for Refusal {
    fn from(unread: BodyUnread) -> Refusal {
        match unread {
            BodyUnread::TooLarge => Refusal::BodyTooLarge,
            BodyUnread::TimedOut => Refusal::BodyTimedOut,
            BodyUnread::ClientGone => Refusal::ClientGone,
        }
    }
}
