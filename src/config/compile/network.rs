//! Where operators are listened to.

use std::net::SocketAddr;

use super::store::Outage;
use super::upstream::timeout;
use crate::config::file::File;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::runtime::{AdminSpec, DrainSpec};
use crate::decision::policy::Rules;
use crate::decision::time::Span;

pub(super) fn admin(file: &File, findings: &mut Findings) -> Option<AdminSpec> {
    let admin = file.admin.as_ref()?;
    let tokens = super::admin::tokens(admin, findings);
    let address = admin.address.as_ref()?;
    if tokens.as_ref().is_some_and(Vec::is_empty) && !address.value.ip().to_canonical().is_loopback() {
        let wrong =
            Wrong::new(format!("the admin listener has no tokens, and `{}` is not loopback", address.told()));
        let port = address.value.port();
        findings.problem(&address.at, wrong.write(format!("write 127.0.0.1:{port}, or add admin.tokens")));
    }
    let listeners = file.listen.iter().flat_map(|listen| &listen.0);
    let mut public = listeners.filter_map(|listener| listener.address.as_ref());
    if let Some(public) = public.find(|public| collide(public.value, address.value)) {
        let wrong = Wrong::new("the admin listener cannot share the public address");
        findings.problem(
            &address.at,
            wrong.write(format!("line {} listens there: use another port", public.at.place.line)),
        );
    }
    Some(AdminSpec {
        address: address.value,
        tokens: tokens?,
        identifiers: admin.identifiers?,
        metrics_public: admin.metrics_public?,
        ready_needs_store: admin.ready_needs_store.as_ref()?.value,
    })
}

/// Readiness that waits for the store says so only where a request does.
pub(super) fn warn_of_idle_readiness(file: &File, rules: &Rules, findings: &mut Findings) {
    let Some(wanted) = file.admin.as_ref().and_then(|admin| admin.ready_needs_store.as_ref()) else { return };
    if wanted.value && (Outage::of(file) == Outage::Never || !rules.need_the_store()) {
        let wrong = Wrong::new("`ready_needs_store` never applies: no limit refuses while the store is away");
        findings.warning(&wanted.at, wrong.write("it waits for a limit that is `closed` then"));
    }
}

/// Whether two listeners would want the same port. Port 0 is a fresh one each time.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && overlap
}

pub(super) fn drain(file: &File, findings: &mut Findings) -> Option<DrainSpec> {
    let server = file.server.as_ref()?;
    let delay = match &server.drain_delay {
        Optional::Given(delay) => timeout(Some(delay), findings),
        Optional::Absent => Some(Span::ZERO),
        Optional::Faulty => None,
    };
    let within = timeout(server.drain.as_ref(), findings);
    Some(DrainSpec { delay: delay?, within: within? })
}
