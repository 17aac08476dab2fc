//! Refuses those who were refused just before, without a request of Pingora's.
//!
//! Who hammers on a limit does so on one connection, and each of its requests would cost a future of 13 KB, two maps of
//! headers and an answer made of a third. Here they cost a look at what came and the answer's text. Nothing is admitted
//! here: whoever is not refused goes on to Pingora as if nobody had looked, and so does every request that is in any
//! way more than a head and its whole body.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use memchr::memmem;
use pingora::http::RequestHeader;
use tokio::io::AsyncWrite as _;

use super::farewell::Farewell;
use super::head::split_field;
use super::request::spell_method;
use super::respond::{self, Terms};
use super::trace::{self, Ids, Traced};
use super::wire::Wire;
use super::{BODY_MAX, Snapshot};
use crate::gateway::{BodyUnread, Exchange, Gateway, Head};

const HEAD_END: &[u8] = b"\r\n\r\n";

/// What all connections are refused by.
#[derive(Clone)]
pub(super) struct Doorstep {
    pub(super) gateway: Arc<Gateway>,
    pub(super) live: Arc<ArcSwap<Snapshot>>,
    pub(super) ids: Arc<Ids>,
    pub(super) farewell: Farewell,
}

/// A request that is there to its end.
struct Caller {
    header: RequestHeader,
    body: Bytes,
    peer: IpAddr,
    client_cert: Option<Arc<str>>,
    traced: Option<Traced>,
}

impl Doorstep {
    /// Refuses what comes for as long as it can be refused here; what comes then is left to be read.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) async fn clear(&self, wire: &mut Wire) -> io::Result<()> {
        while wire.is_refusing() {
            let Some(came) = poll_fn(|cx| wire.poll_request(cx)).await? else { return Ok(()) };
            let underway = wire.underway();
            match self.refusal(wire, &came).await {
                Some(answer) => {
                    wire.answer(answer);
                    poll_fn(|cx| Pin::new(&mut *wire).poll_flush(cx)).await?;
                }
                None => {
                    wire.put_back(came);
                    return Ok(());
                }
            }
            drop(underway);
        }
        Ok(())
    }

    /// The whole text of an answer to who is refused whatever else is found out.
    async fn refusal(&self, wire: &Wire, came: &[u8]) -> Option<Vec<u8>> {
        let snapshot = self.live.load_full();
        let entrance = &wire.connection().entrance;
        if self.farewell.has_begun() || entrance.redirect_port.is_some() || snapshot.tells_of_each() {
            return None;
        }
        let mut caller = Caller::of(wire, came)?;
        let rules = &snapshot.trace;
        let is_trusted = snapshot.policies.rules.client.trusts(caller.peer);
        let traced = trace::enter(&mut caller.header, rules, is_trusted, &self.ids).ok()?;
        if snapshot.counts_ids {
            traced.put_on(&mut caller.header, rules).ok()?;
        }
        caller.traced = Some(traced);
        let refused = self.gateway.refuse_early(&snapshot.policies, &mut caller).await?;
        let refusal = refused.outcome.err()?;
        let terms = Terms { snapshot: &snapshot, traced: caller.traced.as_ref() };
        let hsts = entrance.hsts.as_ref();
        Some(respond::refusal_text(terms, &caller.header, hsts, refused.route, &refusal, refused.decided_at))
    }
}

impl Caller {
    /// None: something about it is Pingora's to know.
    fn of(wire: &Wire, came: &[u8]) -> Option<Caller> {
        let (head, body) = came.split_at(memmem::find(came, HEAD_END)? + HEAD_END.len());
        let mut lines = head.strip_suffix(HEAD_END)?.split(|byte| *byte == b'\n');
        let header = header_of(&mut lines)?;
        let length = match header.headers.get(CONTENT_LENGTH) {
            Some(length) => length.to_str().ok()?.parse().ok()?,
            None => 0,
        };
        if body.len() != length || length > BODY_MAX {
            return None;
        }
        let client_cert = wire.connection().client_cert.clone();
        Some(Caller {
            header,
            body: Bytes::copy_from_slice(body),
            peer: wire.peer(),
            client_cert,
            traced: None,
        })
    }
}

/// The head of these lines, which were found sound; none where it says more than what is asked for.
fn header_of<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> Option<RequestHeader> {
    let mut parts = lines.next()?.strip_suffix(b"\r")?.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    if version != b"HTTP/1.1" || !target.starts_with(b"/") || target.contains(&b'#') || parts.next().is_some()
    {
        return None;
    }
    let mut header = RequestHeader::build_no_case(method, target, Some(12)).ok()?;
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (name, value) = split_field(line).ok()?;
        let name = http::HeaderName::from_bytes(name).ok()?;
        header.append_header(name, HeaderValue::from_bytes(value).ok()?).ok()?;
    }
    let says_more = [CONNECTION, EXPECT, TRANSFER_ENCODING, UPGRADE];
    if says_more.iter().any(|name| header.headers.contains_key(name)) {
        return None;
    }
    spell_method(&mut header);
    Some(header)
}

impl Exchange for Caller {
    fn head(&self) -> Head<'_> {
        Head {
            method: &self.header.method,
            path: self.header.uri.path(),
            query: self.header.uri.query().unwrap_or_default(),
            authority: None,
            headers: &self.header.headers,
            peer: self.peer,
            client_cert: self.client_cert.as_deref(),
            request_id: self.traced.as_ref().and_then(Traced::request_id),
            trace: self.traced.as_ref().and_then(Traced::known),
        }
    }

    fn has_body(&mut self) -> bool {
        !self.body.is_empty()
    }

    async fn read_body(&mut self) -> Result<Bytes, BodyUnread> {
        Ok(self.body.clone())
    }
}
