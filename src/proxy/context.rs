//! What is kept of one request from hook to hook.
//!
//! | field      | set by           | used by                                        |
//! |------------|------------------|------------------------------------------------|
//! | `snapshot` | `request_filter` | all later hooks: one configuration per request |
//! | `admitted` | `request_filter` | upstream choice, limit headers                 |
//! | `attempts` | `upstream_peer`  | retries                                        |
//! | `asked`    | `upstream_peer`  | backend latency, what is known of the server   |
//! | `underway` | `early_request_filter` | the connection is no idle one while it is kept |
//! | `tried`    | `fail_to_connect`, `error_while_proxy` | retries: another server     |
//! | `attempt`  | `request_filter` | settled by the answer, or when the request ends |
//! | `answer`   | `response_filter`| an answer whose body tells the outcome         |
//! | `notes`    | `request_filter` | told when the request ends, if anybody asks    |
//! | `traced`   | `request_filter` | the ids that lines and answers name            |
//! | `told`     | `request_filter` | what we answered past Pingora                  |

use std::sync::Arc;

use super::account::Notes;
use super::activity::Underway;
use super::own::Afterwards;
use super::respond::{Terms, Told};
use super::trace::Traced;
use super::upstream::Server;
use super::{Snapshot, Upstream};
use crate::clock::Stopwatch;
use crate::decision::client::Client;
use crate::decision::failure::FailureRule;
use crate::decision::headers::Quota;
use crate::decision::policy::Target;
use crate::decision::route::RouteIndex;
use crate::decision::verdict::Permit;
use crate::gateway::{Admission, AnswerWatch, Attempt};

/// Pingora moves it about: what few requests need is boxed.
#[derive(Default)]
pub struct Context {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) admitted: Option<Admitted>,
    /// How many servers were tried.
    pub(super) attempts: u32,
    pub(super) asked: Option<Asked>,
    pub(super) underway: Option<Underway>,
    /// Servers that the request could not be given to. Empty for nearly all, and takes no memory then.
    pub(super) tried: Vec<Arc<Server>>,
    /// What this request reserved, until it is settled.
    pub(super) attempt: Option<Box<Attempt>>,
    pub(super) answer: Option<Box<AnswerWatch>>,
    pub(super) notes: Option<Box<Notes>>,
    pub(super) traced: Option<Traced>,
    pub(super) told: Option<Told>,
}

/// A request that was decided before Pingora read it.
pub(super) struct Judged {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) traced: Traced,
    pub(super) admission: Admission,
    pub(super) notes: Option<Box<Notes>>,
    pub(super) afterwards: Afterwards,
}

/// Where an admitted request goes, and by what right.
pub(super) struct Admitted {
    pub(super) route: RouteIndex,
    pub(super) permit: Permit,
    pub(super) client: Client,
}

/// The server that has the request, and what it did so far.
pub(super) struct Asked {
    pub(super) server: Arc<Server>,
    pub(super) at: Stopwatch,
    /// Whether anything came from it.
    pub(super) has_answered: bool,
}

impl Context {
    /// The backend of the request's route.
    pub(super) fn upstream(&self) -> Option<&Upstream> {
        let (snapshot, admitted) = (self.snapshot.as_ref()?, self.admitted.as_ref()?);
        match snapshot.policies.rules.route(admitted.route).target() {
            Target::Upstream(upstream) => snapshot.upstreams.get(upstream.0).map(|upstream| &**upstream),
            Target::Otp(_) => None,
        }
    }

    /// Whether the request may be given to another server after this one.
    pub(super) fn has_retries_left(&self) -> bool {
        self.upstream().is_some_and(|upstream| self.attempts <= upstream.retries())
    }

    /// On what terms the request is answered.
    pub(super) fn terms(&self) -> Option<Terms<'_>> {
        Some(Terms { snapshot: self.snapshot.as_deref()?, traced: self.traced.as_ref() })
    }

    /// The id of the request.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.traced.as_ref()?.request_id()
    }

    /// Which answers of the request's route are a failed attempt.
    pub(super) fn failure_rule(&self) -> Option<&FailureRule> {
        let (snapshot, admitted) = (self.snapshot.as_ref()?, self.admitted.as_ref()?);
        snapshot.policies.rules.route(admitted.route).failure()
    }

    /// What the client is told of its tightest window.
    pub(super) fn quota(&self) -> Option<(RouteIndex, &Quota)> {
        let admitted = self.admitted.as_ref()?;
        admitted.permit.quota().map(|quota| (admitted.route, quota))
    }
}
