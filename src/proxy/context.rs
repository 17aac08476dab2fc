//! What is kept of one request from hook to hook.
//!
//! | field       | set by                 | used by                                        |
//! |-------------|------------------------|------------------------------------------------|
//! | `snapshot`  | `request_filter`       | all later hooks: one configuration per request |
//! | `admission` | `request_filter`       | upstream choice, limit headers                 |
//! | `attempts`  | `upstream_peer`        | retries                                        |
//! | `asked_at`  | `upstream_peer`        | backend latency                                |

use std::sync::Arc;

use super::{Snapshot, Upstream};
use crate::clock::Stopwatch;
use crate::decision::headers::Quota;
use crate::decision::route::RouteIndex;
use crate::gateway::Admission;

#[derive(Default)]
pub struct Context {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) admission: Option<Admission>,
    /// How many servers were tried.
    pub(super) attempts: u32,
    pub(super) asked_at: Option<Stopwatch>,
}

impl Context {
    /// The backend of the request's route.
    pub(super) fn upstream(&self) -> Option<&Upstream> {
        let (snapshot, route) = (self.snapshot.as_ref()?, self.admission.as_ref()?.route?);
        snapshot.upstreams.get(snapshot.policies.rules.route(route).upstream().0)
    }

    /// What the client is told of its tightest window.
    pub(super) fn quota(&self) -> Option<(RouteIndex, &Quota)> {
        let admission = self.admission.as_ref()?;
        let permit = admission.outcome.as_ref().ok()?;
        admission.route.zip(permit.quota())
    }
}
