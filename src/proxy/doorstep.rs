//! Decides requests that come whole, before Pingora reads them.
//!
//! Nearly every request is there to its end when its first byte is. It is decided here: who is refused has his answer,
//! for the price of its text; who is admitted to a backend nearby is carried there. What is left to Pingora is whatever
//! takes more than that. It goes by the same rules there, and what was decided here is not decided again.

mod caller;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;
use pingora::protocols::Shutdown as _;

use self::caller::Caller;
use super::account::{Ending, Notes, Teller};
use super::context::Judged;
use super::courier::{self, Carried, Deadline, Errand};
use super::farewell::Farewell;
use super::forward::{self, Origin};
use super::own::Afterwards;
use super::respond::{Asking, BackendFailure, Terms, Told};
use super::trace::{self, Ids};
use super::wire::{Connection, Wire};
use super::{Snapshot, Upstream};
use crate::decision::policy::{Route, Target};
use crate::decision::route::RouteIndex;
use crate::decision::verdict::Permit;
use crate::gateway::{Admission, Exchange as _, Gateway};

/// Where tests make mistakes.
#[cfg(test)]
pub(super) use self::tests::trip;
#[cfg(not(test))]
pub(super) const fn trip(_: &pingora::http::RequestHeader, _: &str) {}

/// What all connections are served by.
#[derive(Clone)]
pub(super) struct Doorstep {
    pub(super) gateway: Arc<Gateway>,
    pub(super) live: Arc<ArcSwap<Snapshot>>,
    pub(super) ids: Arc<Ids>,
    pub(super) farewell: Farewell,
    pub(super) teller: Teller,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attended {
    /// It has its answer, and the connection goes on.
    Answered,
    /// It was the last on its connection.
    Over,
    /// Pingora is to read it.
    Left,
}

/// A request on its way in, and the rules that it goes by.
struct Call<'a> {
    caller: Caller<'a>,
    snapshot: Arc<Snapshot>,
    connection: Arc<Connection>,
    afterwards: Afterwards,
}

/// Where a request goes that was decided.
enum Way<'s> {
    /// Back, with this answer.
    Back(Vec<u8>, Told, Afterwards),
    /// To a server of this upstream, as this text.
    Out { upstream: &'s Upstream, permit: &'s Permit, route: RouteIndex, text: Vec<u8> },
    /// To Pingora, as this text.
    On(Vec<u8>),
}

impl Doorstep {
    /// Sees to a request that came whole. `deadline` is of the connection.
    pub(super) async fn attend(&self, wire: &mut Wire, came: Vec<u8>, deadline: &mut Deadline) -> Attended {
        let _underway = wire.underway();
        let Some(mut call) = self.hear(wire, &came) else {
            wire.put_back(came);
            return Attended::Left;
        };
        trip(&call.caller.header, "before it is decided");
        let mut admission = self.gateway.admit(&call.snapshot.policies, &mut call.caller).await;
        let attempt = admission.attempt.take();
        let (head, traced) = (call.caller.head(), &call.caller.traced);
        let mut notes = Notes::if_wanted(&admission, head, &call.snapshot, traced);
        let mut carried = Carried::default();
        trip(&call.caller.header, "after it is decided");
        let afterwards = match self.way(&call, &admission, &came) {
            Way::Back(text, told, afterwards) => {
                carried.told = Some(told);
                courier::send(wire, &text).await.then_some(afterwards)
            }
            Way::Out { upstream, permit, route, text } => {
                let errand = Errand {
                    gateway: &self.gateway,
                    farewell: &self.farewell,
                    upstream,
                    asking: call.asking(),
                    route,
                    permit,
                    client: &admission.client,
                    request: &text,
                    is_repeatable: call.caller.is_repeatable(),
                    failure: call.snapshot.policies.rules.route(route).failure(),
                    attempt,
                };
                errand.run(wire, deadline, &mut carried).await
            }
            Way::On(text) => {
                admission.attempt = attempt;
                let Call { caller: Caller { traced, .. }, snapshot, afterwards, .. } = call;
                wire.hand_over(text, Judged { snapshot, traced, admission, notes, afterwards });
                return Attended::Left;
            }
        };
        trip(&call.caller.header, "after its end");
        if let Some(notes) = &mut notes {
            self.tell(notes, &call, &carried);
        }
        match afterwards {
            Some(Afterwards::KeepAlive) => Attended::Answered,
            Some(Afterwards::Close) => {
                wire.shutdown().await;
                Attended::Over
            }
            // Without a good-bye, by which a client of TLS knows that it has not all.
            None => Attended::Over,
        }
    }

    /// Takes in a request, if it is one of those that are seen to here.
    fn hear<'a>(&self, wire: &Wire, came: &'a [u8]) -> Option<Call<'a>> {
        let connection = wire.connection();
        if connection.entrance.redirect_port.is_some() {
            return None;
        }
        let snapshot = self.live.load_full();
        let is_trusted = snapshot.policies.rules.client.trusts(wire.peer());
        let caller = Caller::of(wire, came, |header| {
            // Before anything is decided: what is counted by must be what the backend reads.
            let traced = trace::enter(header, &snapshot.trace, is_trusted, &self.ids)?;
            if snapshot.counts_ids {
                traced.put_on(header, &snapshot.trace)?;
            }
            Ok(traced)
        })?;
        let afterwards = if self.farewell.has_begun() { Afterwards::Close } else { caller.afterwards };
        Some(Call { caller, snapshot, connection, afterwards })
    }

    /// What follows from what was decided.
    fn way<'s>(&self, call: &'s Call<'_>, admission: &'s Admission, came: &[u8]) -> Way<'s> {
        let asking = call.asking();
        let rules = &call.snapshot.policies.rules;
        let permit = match &admission.outcome {
            Ok(permit) => permit,
            Err(refusal) => {
                let (text, told) = asking.refusal(admission.route, refusal, admission.decided_at);
                return Way::Back(text, told, asking.afterwards);
            }
        };
        let (true, Some(path), Some(index)) = (self.farewell.decides(), &admission.path, admission.route)
        else {
            // It took so long that the counters went to another process before they counted it.
            let asking = Asking { afterwards: Afterwards::Close, ..asking };
            let late = BackendFailure { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None };
            let (text, told) = asking.failure(None, &late, admission.decided_at);
            return Way::Back(text, told, Afterwards::Close);
        };
        let route = rules.route(index);
        let upstream = match route.target() {
            Target::Upstream(upstream) => call.snapshot.upstreams.get(upstream.0),
            Target::Otp(_) => None,
        };
        // The gateway's own routes read the request as it came.
        let Some(upstream) = upstream else { return Way::On(came.to_vec()) };
        let text = call.text(path.as_str(), admission, route);
        let tells_in_body = route.failure().is_some_and(|rule| !rule.members.is_empty());
        match upstream.is_direct() && !tells_in_body {
            true => Way::Out { upstream, permit, route: index, text },
            false => Way::On(text),
        }
    }

    fn tell(&self, notes: &mut Notes, call: &Call<'_>, carried: &Carried) {
        (notes.server, notes.answered_at) = (carried.server, carried.answered_at);
        let end = Ending {
            told: carried.told,
            headers: &call.caller.header.headers,
            asked_at: carried.asked_at,
            traced: Some(&call.caller.traced),
        };
        self.teller.tell(notes, &call.snapshot, &end);
    }
}

impl Call<'_> {
    fn asking(&self) -> Asking<'_> {
        Asking {
            terms: Terms { snapshot: &self.snapshot, traced: Some(&self.caller.traced) },
            request: &self.caller.header,
            hsts: self.connection.entrance.hsts.as_ref(),
            afterwards: self.afterwards,
        }
    }

    /// The request as backends get it.
    fn text(&self, path: &str, admission: &Admission, route: &Route) -> Vec<u8> {
        let snapshot = &self.snapshot;
        let origin = Origin {
            peer: self.caller.peer,
            peer_is_trusted: admission.client.peer_is_trusted,
            user_header: snapshot.policies.users.trusted_header(),
            overrides: route.override_headers(),
            scheme: self.connection.entrance.scheme(),
            reads_answer: route.failure().is_some_and(|rule| !rule.members.is_empty()),
        };
        let (caller, rules) = (&self.caller, &snapshot.trace);
        let mut text = forward::head_text(&caller.sent(), path, &origin, &caller.traced, rules);
        text.extend_from_slice(caller.body);
        text
    }
}

#[cfg(test)]
mod tests;
