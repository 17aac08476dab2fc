//! Where operators are listened to, and whom the gateway asks.

use std::net::SocketAddr;

use super::store::Outage;
use crate::config::file::File;
use crate::config::file::server::Upstream;
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::runtime::AdminSpec;
use crate::config::value::address::ServerAddress;
use crate::config::value::text::Name;
use crate::decision::policy::Rules;
use crate::decision::time::Span;
use crate::decision::upstream::UpstreamSpec;

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

pub(super) fn upstreams(file: &File, findings: &mut Findings) -> Option<Vec<UpstreamSpec>> {
    let named = &file.upstreams.as_ref()?.entries;
    let routes = file.routes.as_ref().map(|routes| routes.0.as_slice()).unwrap_or_default();
    let mut specs = Vec::new();
    for (name, upstream) in named {
        let used = routes.iter().any(|route| {
            // A route whose upstream could not be read may have meant this one.
            match &route.value.upstream {
                Optional::Given(wanted) => wanted.value == name.value,
                Optional::Absent => false,
                Optional::Faulty => true,
            }
        });
        if !used {
            let wrong = Wrong::new(format!("upstream `{}` is used by no route", name.told()));
            findings.warning(&name.at, wrong);
        }
        specs.push(upstream.as_ref().and_then(|upstream| spec(name, upstream, file, findings)));
    }
    specs.into_iter().collect()
}

fn spec(
    name: &Located<Name>,
    upstream: &Upstream,
    file: &File,
    findings: &mut Findings,
) -> Option<UpstreamSpec> {
    upstream.balance?;
    let servers = upstream.servers.as_ref().map(|servers| servers.0.as_slice()).unwrap_or_default();
    super::refuse_twice("server", servers.iter(), findings);
    for server in servers {
        refuse_loop(server, file, findings);
    }
    let connect = timeout(upstream.connect_timeout.as_ref(), findings);
    let read = timeout(upstream.read_timeout.as_ref(), findings);
    let write = timeout(upstream.write_timeout.as_ref(), findings);
    Some(UpstreamSpec {
        name: name.value.0.clone(),
        servers: servers.iter().map(|server| server.value.to_string().into()).collect(),
        protocol: upstream.protocol?,
        connect_timeout: connect?,
        read_timeout: read?,
        write_timeout: write?,
        retries: upstream.retries?.0,
    })
}

/// A gateway that proxies to itself answers no request and opens connections without end.
fn refuse_loop(server: &Located<ServerAddress>, file: &File, findings: &mut Findings) {
    let Ok(ip) = server.value.host.parse() else { return };
    let own = SocketAddr::new(ip, server.value.port);
    let listeners = file.listen.iter().flat_map(|listen| &listen.0);
    let mut addresses = listeners.filter_map(|listener| listener.address.as_ref());
    let found = addresses.find(|listen| {
        let everywhere = listen.value.ip().is_unspecified() && ip.is_loopback();
        listen.value.port() == own.port() && own.port() != 0 && (listen.value.ip() == ip || everywhere)
    });
    if let Some(listen) = found {
        let wrong =
            Wrong::new(format!("the gateway would proxy to itself: it listens on `{}`", listen.told()));
        findings.problem(&server.at, wrong.write("name the address of the backend"));
    }
}

pub(super) fn timeout(span: Option<&Located<Span>>, findings: &mut Findings) -> Option<Span> {
    const MAX: Span = Span::from_secs(3600);
    let span = span?;
    if span.value > MAX {
        let wrong = Wrong::new(format!("a timeout of {} is too long", span.told()));
        findings.problem(&span.at, wrong.write(format!("write {MAX} or less")));
        return None;
    }
    Some(span.value)
}
