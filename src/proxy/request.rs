//! A Pingora session as the gateway sees it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::trace::Traced;
use super::{body, wire};
use crate::gateway::{BodyUnread, Exchange, Head};

/// One request on its way in.
pub(super) struct Arrival<'s> {
    session: &'s mut Session,
    peer: IpAddr,
    client_cert: Option<Arc<str>>,
    traced: Option<&'s Traced>,
}

impl<'s> Arrival<'s> {
    pub(super) fn new(session: &'s mut Session) -> Arrival<'s> {
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(|inet| inet.ip());
        spell_method(session.req_header_mut());
        let client_cert = wire::connection_of(session).and_then(|connection| connection.client_cert.clone());
        // Every connection knows its peer; one that does not is counted as nobody's.
        let peer = peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Arrival { session, peer, client_cert, traced: None }
    }

    /// By which ids the gateway is to tell of it.
    pub(super) fn known_by(&mut self, traced: &'s Traced) {
        self.traced = Some(traced);
    }

    /// Who is at the other end of the connection.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    pub(super) fn header_mut(&mut self) -> &mut RequestHeader {
        self.session.req_header_mut()
    }
}

/// Some backends take `post` for `POST`; one spelling, so that the limit sees what they see.
pub(super) fn spell_method(request: &mut RequestHeader) {
    let method = &request.method;
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase())
        && let Ok(upper) = Method::from_bytes(method.as_str().to_ascii_uppercase().as_bytes())
    {
        request.set_method(upper);
    }
}

impl Exchange for Arrival<'_> {
    fn head(&self) -> Head<'_> {
        let header = self.session.req_header();
        Head {
            method: &header.method,
            path: header.uri.path(),
            query: header.uri.query().unwrap_or_default(),
            authority: header.uri.authority().map(|authority| authority.as_str()),
            headers: &header.headers,
            peer: self.peer,
            client_cert: self.client_cert.as_deref(),
            request_id: self.traced.and_then(Traced::request_id),
            trace: self.traced.and_then(Traced::known),
        }
    }

    fn has_body(&mut self) -> bool {
        !self.session.as_downstream_mut().is_body_empty()
    }

    async fn read_body(&mut self) -> Result<Bytes, BodyUnread> {
        body::peek(self.session).await
    }
}
