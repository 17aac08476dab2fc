//! Answers as text, to requests that are no session of Pingora's.

use bytes::Bytes;
use http::{HeaderValue, Method};
use pingora::http::RequestHeader;

use super::{Answer, BackendFailure, Terms, Told, dress, worded_failure, worded_refusal};
use crate::decision::headers::Quota;
use crate::decision::refusal::Refusal;
use crate::decision::route::RouteIndex;
use crate::decision::time::Timestamp;
use crate::proxy::own::{self, Afterwards, Fields};

/// To whom an answer goes as text: a request of HTTP/1.1 that was taken in whole.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Asking<'a> {
    pub(in crate::proxy) terms: Terms<'a>,
    pub(in crate::proxy) request: &'a RequestHeader,
    pub(in crate::proxy) hsts: Option<&'a HeaderValue>,
    pub(in crate::proxy) afterwards: Afterwards,
}

impl Asking<'_> {
    /// The same answer as [`refuse`] gives.
    pub(in crate::proxy) fn refusal(
        self,
        route: Option<RouteIndex>,
        refusal: &Refusal,
        now: Timestamp,
    ) -> (Vec<u8>, Told) {
        let mut lines = Fields::lines();
        let answer = worded_refusal(self.terms, route, refusal, now, &mut lines);
        self.text(answer, lines)
    }

    /// The same answer as [`backend_failed`] gives, on a connection that goes on if it can.
    pub(in crate::proxy) fn failure(
        self,
        quota: Option<(RouteIndex, &Quota)>,
        failure: &BackendFailure,
        now: Timestamp,
    ) -> (Vec<u8>, Told) {
        let mut lines = Fields::lines();
        let answer = worded_failure(Some(self.terms), quota, failure, now, &mut lines);
        self.text(answer, lines)
    }

    fn text(self, answer: Answer, mut lines: Fields) -> (Vec<u8>, Told) {
        dress(&answer, &mut lines, Some(self.terms), self.request, self.hsts);
        let body = if self.request.method == Method::HEAD { Bytes::new() } else { answer.body };
        let told = Told { status: answer.status, body_bytes: body.len() };
        (own::answer(answer.status, lines.text(), &body, self.afterwards), told)
    }
}
