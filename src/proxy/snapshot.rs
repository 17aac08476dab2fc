//! One configuration in force.

use std::sync::Arc;

use super::Upstream;
use crate::decision::trace::TraceRules;
use crate::gateway::Policies;
use crate::telemetry::AccessLines;

/// One configuration in force: pinned by each request for its whole life.
pub struct Snapshot {
    pub policies: Arc<Policies>,
    /// In the order of the file: what `UpstreamIndex` counts.
    pub upstreams: Box<[Arc<Upstream>]>,
    pub trace: TraceRules,
    pub access_lines: AccessLines,
    /// Some limit counts by a header that holds an id of ours.
    pub(super) counts_ids: bool,
}

impl Snapshot {
    pub fn new(
        policies: Policies,
        upstreams: Box<[Arc<Upstream>]>,
        trace: TraceRules,
        access_lines: AccessLines,
    ) -> Snapshot {
        let counts_ids = trace.headers().any(|name| policies.rules.counts_by_header(&name));
        Snapshot { policies: Arc::new(policies), upstreams, trace, access_lines, counts_ids }
    }

    /// The upstream of this name.
    pub fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.iter().map(|upstream| &**upstream).find(|upstream| upstream.name() == name)
    }
}
