//! Whom the gateway asks, and how it knows them.

use std::net::SocketAddr;

use super::listener::{chain, sound};
use crate::config::file::File;
use crate::config::file::upstream::{Eject, HealthCheck, Upstream, UpstreamServer};
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Optional, Reader};
use crate::config::value::address::ServerAddress;
use crate::config::value::text::{FilePath, Name};
use crate::decision::time::Span;
use crate::decision::upstream::{CheckSpec, EjectSpec, ServerSpec, TlsSpec, UpstreamSpec};

const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);
const SECOND: Span = Span::from_secs(1);
/// The shortest time between two checks.
const CHECKS_MIN: Span = Span::from_millis(100);
/// No upstream has more servers.
const SERVERS_MAX: usize = 128;

pub(super) fn upstreams(file: &File, reader: &mut Reader<'_>) -> Option<Vec<UpstreamSpec>> {
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
            reader.findings.warning(&name.at, wrong);
        }
        specs.push(upstream.as_ref().and_then(|upstream| spec(name, upstream, file, reader)));
    }
    specs.into_iter().collect()
}

fn spec(
    name: &Located<Name>,
    upstream: &Upstream,
    file: &File,
    reader: &mut Reader<'_>,
) -> Option<UpstreamSpec> {
    let written: Vec<&UpstreamServer> = upstream.servers.as_ref()?.0.iter().map(|form| &form.0).collect();
    let addresses = || written.iter().filter_map(|server| server.address.as_ref());
    super::refuse_twice("server", addresses(), &mut reader.findings);
    for address in addresses() {
        refuse_loop(address, file, &mut reader.findings);
    }
    if let Some(extra) = addresses().nth(SERVERS_MAX) {
        let wrong = Wrong::new(format!("an upstream has at most {SERVERS_MAX} servers"));
        reader.findings.problem(
            &extra.at,
            wrong.write("put a balancer before them, or use a name of several addresses"),
        );
    }
    let servers: Vec<Option<ServerSpec>> = written.iter().map(|one| server(one, reader)).collect();
    let findings = &mut reader.findings;
    let connect = timeout(upstream.connect_timeout.as_ref(), findings);
    let read = timeout(upstream.read_timeout.as_ref(), findings);
    let write = timeout(upstream.write_timeout.as_ref(), findings);
    let checks = match &upstream.health_check {
        Optional::Given(section) => Some(checks(&section.value, findings)),
        Optional::Absent => None,
        Optional::Faulty => return None,
    };
    let eject = upstream.eject.as_ref().and_then(|section| eject(section, findings));
    let resolve = within("resolve", SECOND, DAY, upstream.resolve.as_ref(), findings);
    Some(UpstreamSpec {
        name: name.value.0.clone(),
        servers: servers.into_iter().collect::<Option<Vec<ServerSpec>>>()?,
        balance: upstream.balance?,
        protocol: upstream.protocol?,
        checks: match checks {
            Some(checks) => Some(checks?),
            None => None,
        },
        eject: eject?,
        resolve_every: resolve?,
        connect_timeout: connect?,
        read_timeout: read?,
        write_timeout: write?,
        retries: upstream.retries?.0,
    })
}

fn server(server: &UpstreamServer, reader: &mut Reader<'_>) -> Option<ServerSpec> {
    let UpstreamServer { address, weight, tls, sni, ca } = server;
    let is_tls = (*tls)?;
    for (key, at) in [("sni", sni.given().map(|sni| &sni.at)), ("ca", ca.given().map(|ca| &ca.at))] {
        if let (false, Some(at)) = (is_tls, at) {
            let wrong = Wrong::new(format!("`{key}` is for servers that speak TLS"));
            reader.findings.problem(at, wrong.write("add `tls: true`, or remove it"));
        }
    }
    let authorities = match ca {
        Optional::Given(path) if is_tls => Some(authorities(path, reader)?),
        Optional::Given(_) | Optional::Absent => None,
        Optional::Faulty => return None,
    };
    let address = &address.as_ref()?.value;
    let name = match sni {
        Optional::Given(name) => name.value.0.clone(),
        Optional::Absent => address.host.clone(),
        Optional::Faulty => return None,
    };
    Some(ServerSpec {
        host: address.host.clone(),
        port: address.port,
        weight: (*weight)?.0,
        tls: is_tls.then_some(TlsSpec { name, authorities }),
    })
}

/// Whom to believe, as DER.
fn authorities(path: &Located<FilePath>, reader: &mut Reader<'_>) -> Option<Box<[Box<[u8]>]>> {
    let chain = chain(path, reader)?;
    sound(chain.authorities(), path, reader)
}

fn checks(section: &HealthCheck, findings: &mut Findings) -> Option<CheckSpec> {
    let every = within("interval", CHECKS_MIN, HOUR, section.interval.as_ref(), findings);
    let timeout = section.timeout.as_ref()?;
    if every.is_some_and(|every| timeout.value > every) {
        let wrong = Wrong::new("a check has to end before the next one begins");
        findings.problem(&timeout.at, wrong.write("make `timeout` shorter, or `interval` longer"));
    }
    Some(CheckSpec {
        path: section.path.as_ref()?.0.clone(),
        every: every?,
        timeout: timeout.value,
        unhealthy_after: section.unhealthy_after?.0,
        healthy_after: section.healthy_after?.0,
    })
}

fn eject(section: &Eject, findings: &mut Findings) -> Option<EjectSpec> {
    let span = within("for", SECOND, HOUR, section.span.as_ref(), findings)?;
    Some(EjectSpec { after: section.after?.0, span })
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

/// A span between two bounds, both included.
fn within(
    key: &str,
    min: Span,
    max: Span,
    span: Option<&Located<Span>>,
    findings: &mut Findings,
) -> Option<Span> {
    let span = span?;
    if span.value < min || span.value > max {
        let wrong = Wrong::new(format!("`{key}` is out of range"));
        findings.problem(&span.at, wrong.write(format!("write {min} to {max}")));
        return None;
    }
    Some(span.value)
}
