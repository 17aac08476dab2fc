//! Carries a request to its server and the answer back, without Pingora.
//!
//! Most of what comes to a gateway is a head and at most a small body, for a backend that speaks HTTP/1.1 in clear
//! nearby. Of that, Pingora makes two maps of headers and three tasks' worth of state, which cost more than all that is
//! decided here. The courier copies lines: the request is a text already, and of the answer only the head is looked at.
//! Whatever else a request may be (one that is not there to its end, that changes the protocol, that goes by TLS or
//! HTTP/2) is Pingora's.

mod answer;
mod deadline;
mod line;

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};
use thiserror::Error;

pub(super) use self::deadline::Deadline;

use self::answer::{Expected, Extent, Head};
use self::line::Line;
use super::doorstep::trip;
use super::failure::{failure_kind, failure_status, is_own_fault};
use super::farewell::Farewell;
use super::own::Afterwards;
use super::respond::{self, Asking, BackendFailure, Told};
use super::upstream::{Asker, Server};
use super::wire::Wire;
use super::{NO_SERVER, Upstream};
use crate::clock::Stopwatch;
use crate::decision::client::Client;
use crate::decision::failure::{ByHead, FailureRule};
use crate::decision::headers::Quota;
use crate::decision::route::RouteIndex;
use crate::decision::tally::Outcome;
use crate::decision::verdict::Permit;
use crate::gateway::{Attempt, Gateway};

/// One admitted request, and all that its way takes.
pub(super) struct Errand<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) farewell: &'a Farewell,
    pub(super) upstream: &'a Upstream,
    pub(super) asking: Asking<'a>,
    pub(super) route: RouteIndex,
    pub(super) permit: &'a Permit,
    pub(super) client: &'a Client,
    /// As the server gets it, head and body.
    pub(super) request: &'a [u8],
    /// It may be sent again if nobody knows whether it was read (RFC 9110 §9.2.2).
    pub(super) is_repeatable: bool,
    pub(super) attempt: Option<Box<Attempt>>,
    pub(super) failure: Option<&'a FailureRule>,
}

/// What became of an errand.
#[derive(Default)]
pub(super) struct Carried {
    /// What the client was told, as far as it was.
    pub(super) told: Option<Told>,
    pub(super) server: Option<SocketAddr>,
    pub(super) asked_at: Option<Stopwatch>,
    pub(super) answered_at: Option<Stopwatch>,
}

/// Why a request has no answer, or not all of it.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// The server gave none that could be passed on. The client was told nothing.
    #[error("{0}")]
    Unanswered(Box<Error>),
    /// The client was told the beginning.
    #[error("{0}")]
    Amid(Box<Error>),
    #[error("the client is gone")]
    ClientGone,
}

/// A server that has the request, and the head of what it says to it.
struct Answering {
    line: Line,
    head: Head,
}

impl Errand<'_> {
    /// Takes the request to a server, and its answer to the client. None: the connection breaks off, for an answer that was
    /// begun must not be ended as if it were whole.
    pub(super) async fn run(
        mut self,
        wire: &mut Wire,
        deadline: &mut Deadline,
        carried: &mut Carried,
    ) -> Option<Afterwards> {
        let ended = self.carry(wire, deadline, carried).await;
        let afterwards = match &ended {
            Ok(afterwards) => Some(*afterwards),
            Err(Broken::Unanswered(error)) => self.apologise(wire, error, carried).await,
            Err(Broken::Amid(error)) => {
                self.note_failure(error);
                None
            }
            Err(Broken::ClientGone) => None,
        };
        // Who hangs up before the answer may have seen enough of it, or guess without waiting for it.
        let outcome = match ended {
            Err(Broken::ClientGone) => Outcome::Failure,
            Ok(_) | Err(Broken::Unanswered(_) | Broken::Amid(_)) => Outcome::Neither,
        };
        self.settle(outcome).await;
        afterwards
    }

    async fn carry(
        &mut self,
        wire: &mut Wire,
        deadline: &mut Deadline,
        carried: &mut Carried,
    ) -> Result<Afterwards, Broken> {
        let (server, Answering { line, head }) = self.ask_somebody(wire, deadline, carried).await?;
        trip(self.asking.request, "before it is learnt from");
        let (answered_at, now) = self.gateway.clock().read();
        carried.answered_at = Some(answered_at);
        server.answered();
        if let Some(asked_at) = carried.asked_at {
            self.upstream.metrics().answered(head.status.as_u16(), asked_at.until(answered_at));
        }
        // A client that sees the answer is counted already. Where its body may tell otherwise, it is not carried.
        match self.failure.map(|rule| rule.by_head(head.status)) {
            Some(ByHead::Told(outcome) | ByHead::InTheBody { otherwise: outcome }) => {
                self.settle(outcome).await
            }
            None => {}
        }
        trip(self.asking.request, "after it is learnt from");
        let afterwards = if head.extent == Extent::Close { Afterwards::Close } else { self.afterwards() };
        let fields = respond::ours(self.asking.terms, self.quota(), &head.quota_said, now);
        let text = head.text(fields.text(), afterwards, line.there());
        let told = carried.told.insert(Told { status: head.status, body_bytes: 0 });
        let keep = |tcp| {
            if head.is_kept {
                server.keep(tcp);
            }
        };
        line.pass(text, head.extent, (wire, deadline), &mut told.body_bytes, keep).await?;
        trip(self.asking.request, "after it is passed on");
        Ok(afterwards)
    }

    /// Asks one server after the other, until one answers or there are no more tries.
    async fn ask_somebody(
        &self,
        wire: &mut Wire,
        deadline: &mut Deadline,
        carried: &mut Carried,
    ) -> Result<(Arc<Server>, Answering), Broken> {
        // Empty for nearly all, and takes no memory then.
        let mut tried: Vec<Arc<Server>> = Vec::new();
        loop {
            let (at, now) = self.gateway.clock().read();
            let asker = Asker { client: self.client, tried: &tried };
            let Some(server) = self.upstream.next(self.permit, &asker, now) else {
                let nobody = Error::explain(NO_SERVER, "none of the names has an address").into_up();
                return Err(Broken::Unanswered(nobody));
            };
            trip(self.asking.request, "before it is asked");
            (carried.asked_at, carried.server) = (Some(at), Some(server.address()));
            let Unanswered { error, may_be_tried_again, is_silent } =
                match self.ask(&server, wire, deadline).await {
                    Ok(answering) => return Ok((server, answering)),
                    Err(Refused::ClientGone) => return Err(Broken::ClientGone),
                    Err(Refused::Unanswered(unanswered)) => unanswered,
                };
            if is_silent {
                self.upstream.unanswered(&server, self.gateway.clock().now());
            }
            let has_tries_left = (tried.len() as u64) < u64::from(self.upstream.retries());
            if !may_be_tried_again || !has_tries_left {
                return Err(Broken::Unanswered(error));
            }
            self.upstream.metrics().retried();
            tried.push(server);
        }
    }

    /// Asks one server.
    async fn ask(
        &self,
        server: &Server,
        wire: &mut Wire,
        deadline: &mut Deadline,
    ) -> Result<Answering, Refused> {
        let Some(direct) = server.direct() else {
            let error = Error::explain(ErrorType::InternalError, "a server that takes Pingora");
            return Err(Refused::Unanswered(Unanswered {
                error,
                may_be_tried_again: false,
                is_silent: false,
            }));
        };
        let kept = server.kept();
        let is_used = kept.is_some();
        let tcp = match kept {
            Some(tcp) => tcp,
            // Nothing of the request has reached a server yet, so another may be asked.
            None => server.connect(direct).await.map_err(|error| {
                let is_silent = !is_own_fault(&error);
                Refused::Unanswered(Unanswered { error, may_be_tried_again: true, is_silent })
            })?,
        };
        let mut line = Line::new(tcp, *direct, self.gateway.clock().clone());
        match line.ask(self.request, &self.expected(), wire, deadline).await {
            Ok(head) => Ok(Answering { line, head }),
            Err(Broken::ClientGone) => Err(Refused::ClientGone),
            Err(Broken::Unanswered(error) | Broken::Amid(error)) => {
                // The connection was closed before the request came to it, or was to be given up anyway. That tells
                // nothing of the server; but nobody knows whether the request was read.
                let is_stale = is_used && !line.has_heard() && *error.etype() == ErrorType::ConnectionClosed;
                let may_be_tried_again = is_stale && self.is_repeatable;
                let is_silent = !is_stale && !line.has_answered();
                Err(Refused::Unanswered(Unanswered { error, may_be_tried_again, is_silent }))
            }
        }
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            is_head: self.asking.request.method == http::Method::HEAD,
            id: self.asking.terms.request_id().map(|(name, _)| name),
            tells_hsts: self.asking.hsts.is_some(),
        }
    }

    fn quota(&self) -> Option<(RouteIndex, &Quota)> {
        self.permit.quota().map(|quota| (self.route, quota))
    }

    /// Tells the client that there is no answer.
    async fn apologise(&self, wire: &mut Wire, error: &Error, carried: &mut Carried) -> Option<Afterwards> {
        self.note_failure(error);
        let status = failure_status(error).unwrap_or(StatusCode::BAD_GATEWAY);
        let retry_after = (*error.etype() == NO_SERVER).then(|| self.upstream.retry_after());
        let failure = BackendFailure { status, retry_after };
        let asking = Asking { afterwards: self.afterwards(), ..self.asking };
        let (text, told) = asking.failure(self.quota(), &failure, self.gateway.clock().now());
        carried.told = Some(told);
        send(wire, &text).await.then_some(asking.afterwards)
    }

    /// Whether the client's connection goes on, as far as it is for us to say.
    fn afterwards(&self) -> Afterwards {
        if self.farewell.has_begun() { Afterwards::Close } else { self.asking.afterwards }
    }

    fn note_failure(&self, error: &Error) {
        if *error.esource() == ErrorSource::Upstream {
            self.upstream.metrics().failed(failure_kind(error));
            let id = self.asking.terms.traced.and_then(super::trace::Traced::request_id);
            self.gateway.backend_failed(self.upstream.name(), error.etype().as_str(), id);
        }
    }

    async fn settle(&mut self, outcome: Outcome) {
        if let Some(attempt) = self.attempt.take() {
            let policies = &self.asking.terms.snapshot.policies;
            Box::pin(self.gateway.observe(policies, *attempt, outcome)).await;
        }
    }
}

/// Whether the client was there to be told.
pub(super) async fn send(wire: &mut Wire, text: &[u8]) -> bool {
    let sent = wire.send(text).await;
    sent.inspect_err(|error| tracing::debug!(%error, "a client left before its answer")).is_ok()
}

/// Why a server gave no answer.
enum Refused {
    Unanswered(Unanswered),
    ClientGone,
}

struct Unanswered {
    error: Box<Error>,
    may_be_tried_again: bool,
    /// It is the server's fault, and counts against it.
    is_silent: bool,
}
