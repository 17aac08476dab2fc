//! The backends: which server is asked, and what is known of each.

mod care;
mod check;
mod dial;
mod fleet;
mod resolve;
mod server;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::protocols::tls::CaType;
use thiserror::Error;

pub use self::care::Caretaker;
pub use self::resolve::{Resolver, SystemResolver};

use self::fleet::Fleet;
use self::resolve::{Found, look_up};
pub(super) use self::server::{Direct, Server};
use self::server::{Known, authorities};
pub(super) use self::upgrade::carry;
use crate::clock::Clock;
use crate::decision::client::Client;
use crate::decision::time::{Span, Timestamp};
use crate::decision::upstream::balance::fingerprint;
use crate::decision::upstream::health::Standing;
use crate::decision::upstream::{ADDRESSES_MAX, CheckSpec, Protocol, ServerSpec, UpstreamSpec};
use crate::decision::verdict::Permit;
use crate::telemetry::{Metrics, ServerMetrics, UpstreamMetrics};

/// The servers of one backend.
///
/// Requests read the fleet of the moment without a lock. Whatever changes it (a server that goes down, comes back, is
/// ejected, gets another address) puts another one in its place, one change at a time.
pub struct Upstream {
    spec: UpstreamSpec,
    entries: Box<[Entry]>,
    fleet: ArcSwap<Fleet>,
    arranging: Mutex<()>,
    turn: AtomicUsize,
    metrics: UpstreamMetrics,
}

/// One server of the file: none, one or several addresses.
struct Entry {
    authorities: Option<Arc<CaType>>,
    metrics: ServerMetrics,
    /// Whether its name was not found when it was last looked up.
    is_lost: AtomicBool,
}

/// What was in force before.
#[derive(Clone, Copy)]
pub enum Before<'a> {
    /// Nothing: the gateway starts, and does so without those servers that are not found yet.
    Nothing,
    /// A configuration, with or without this upstream. A server that is new to it has to be found.
    Running(Option<&'a Upstream>),
}

/// A server whose name could not be resolved.
#[derive(Debug, Error)]
#[error("upstream {upstream:?}: cannot resolve {server:?}: {reason}")]
pub struct ResolveError {
    pub upstream: Box<str>,
    pub server: Box<str>,
    pub reason: Box<str>,
}

/// Who asks for a server.
pub(super) struct Asker<'a> {
    pub(super) client: &'a Client,
    /// Servers that this request could not be given to.
    pub(super) tried: &'a [Arc<Server>],
}

impl Upstream {
    /// Looks up the servers. What is known of those that were there before stays known.
    pub async fn resolve(
        spec: &UpstreamSpec,
        metrics: &Metrics,
        resolver: &dyn Resolver,
        before: Before<'_>,
        now: Timestamp,
    ) -> Result<Upstream, ResolveError> {
        let found = look_up(resolver, &spec.servers).await;
        let entries = spec.servers.iter().map(|server| Entry {
            authorities: server.tls.as_ref().and_then(authorities),
            metrics: metrics.server(&spec.name, &server.to_string()),
            is_lost: AtomicBool::new(false),
        });
        let upstream = Upstream {
            spec: spec.clone(),
            entries: entries.collect(),
            fleet: ArcSwap::from_pointee(Fleet::arranged(Box::default(), spec.balance, now)),
            arranging: Mutex::new(()),
            turn: AtomicUsize::new(0),
            metrics: metrics.upstream(&spec.name),
        };
        let previous = match before {
            Before::Nothing | Before::Running(None) => None,
            Before::Running(Some(previous)) => Some(previous),
        };
        let mut addresses = Vec::with_capacity(found.len());
        for (entry, found) in found.into_iter().enumerate() {
            let kept = previous.and_then(|previous| previous.addresses_of(&spec.servers[entry]));
            let must_be_found = match before {
                Before::Nothing => false,
                Before::Running(_) => kept.is_none(),
            };
            addresses.push(match found {
                Ok(found) => found,
                Err(reason) if must_be_found => {
                    let (upstream, server) = (spec.name.clone(), spec.servers[entry].to_string().into());
                    return Err(ResolveError { upstream, server, reason });
                }
                Err(reason) => {
                    upstream.lost(entry, &reason);
                    kept.unwrap_or_default()
                }
            });
        }
        {
            let _arranging = upstream.arranging.lock();
            upstream.put(upstream.manned(&addresses, previous), now);
        }
        Ok(upstream)
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    pub(super) fn retries(&self) -> u32 {
        self.spec.retries
    }

    /// When to ask again while there is no server.
    pub(super) fn retry_after(&self) -> Span {
        self.spec.resolve_every
    }

    /// The next server. Only who was admitted has a permit to ask with.
    pub(super) fn next(&self, _: &Permit, asker: &Asker<'_>, now: Timestamp) -> Option<Arc<Server>> {
        if self.fleet.load().until.is_some_and(|until| until <= now) {
            self.arrange(now);
        }
        let turn = || self.turn.fetch_add(1, Ordering::Relaxed);
        let client = || fingerprint(&asker.client.key_bytes());
        self.fleet.load().pick(turn, client, asker.tried)
    }

    /// A server gave a request no answer. The last one that is well is never ejected.
    pub(super) fn unanswered(&self, server: &Arc<Server>, now: Timestamp) {
        if !server.struck(&self.spec.eject, now) {
            return;
        }
        let _arranging = self.arranging.lock();
        let servers = self.servers();
        let is_well = |other: &Arc<Server>| other.standing(now) == Standing::Up;
        let mut others = servers.iter().filter(|other| other.address != server.address);
        // Another request may have seen to it in the meantime.
        if is_well(server) && others.any(is_well) {
            server.eject(&self.spec.eject, now);
            self.entries.get(server.entry).inspect(|entry| entry.metrics.ejected());
            self.put(servers, now);
        }
    }

    /// Whether nothing of it takes Pingora: requests can be carried to it as they are.
    pub(super) fn is_direct(&self) -> bool {
        self.spec.protocol == Protocol::Http1 && self.spec.servers.iter().all(|server| server.tls.is_none())
    }

    /// Brings order and gauges up to date, if a server stands otherwise than they say.
    fn refresh(&self, now: Timestamp) {
        if self.fleet.load().is_stale(now) {
            self.arrange(now);
        }
    }

    fn checked(
        &self,
        server: &Arc<Server>,
        outcome: Result<(), Box<str>>,
        rules: &CheckSpec,
        now: Timestamp,
    ) {
        if outcome.is_err() {
            self.entries.get(server.entry).inspect(|entry| entry.metrics.check_failed());
        }
        server.checked(outcome, rules);
        self.refresh(now);
    }

    fn servers(&self) -> Box<[Arc<Server>]> {
        self.fleet.load().servers.clone()
    }

    fn arrange(&self, now: Timestamp) {
        let _arranging = self.arranging.lock();
        self.put(self.servers(), now);
    }

    /// Puts these servers in force as they stand, and tells what is new. To be called by who holds `arranging`.
    fn put(&self, servers: Box<[Arc<Server>]>, now: Timestamp) {
        for server in &servers {
            self.tell(server, now);
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let addresses = servers.iter().filter(|server| server.entry == index);
            let (all, up) = addresses.fold((0, 0), |(all, up), server| {
                (all + 1, up + usize::from(server.standing(now) == Standing::Up))
            });
            entry.metrics.set(all, up);
        }
        let fleet = Fleet::arranged(servers, self.spec.balance, now);
        if self.fleet.load().fails_open != fleet.fails_open && fleet.fails_open {
            tracing::error!(upstream = self.name(), "no server is well: all are asked nevertheless");
        }
        self.metrics.set_fails_open(fleet.fails_open);
        self.fleet.store(Arc::new(fleet));
    }

    /// A line for a server that stands otherwise than before.
    fn tell(&self, server: &Server, now: Timestamp) {
        let Some(news) = server.news(now) else { return };
        let (upstream, address) = (self.name(), server.address);
        match news.standing {
            Standing::Up => tracing::info!(upstream, %address, "a server is asked again"),
            Standing::Down => {
                let reason = news.reason.as_deref().unwrap_or_default();
                tracing::warn!(upstream, %address, reason, "a server is down: it does not pass its checks");
            }
            Standing::Ejected { until } => {
                let span = now.until(until);
                tracing::warn!(upstream, %address, %span, "a server gives no answers: it is left out");
            }
        }
    }

    /// Looks up the names again. Where that fails, what was found last stays.
    async fn resolve_again(&self, resolver: &dyn Resolver, clock: &Clock) {
        let found = look_up(resolver, &self.spec.servers).await;
        let current = self.servers();
        let mut has_changed = false;
        let mut addresses = Vec::with_capacity(found.len());
        for (entry, found) in found.into_iter().enumerate() {
            let before = addresses_in(&current, entry);
            let now = self.settled(entry, found, &before);
            has_changed |= now != before;
            addresses.push(now);
        }
        if has_changed {
            let _arranging = self.arranging.lock();
            self.put(self.manned(&addresses, None), clock.now());
        }
    }

    /// What a look-up means for the server: a line where it is news.
    fn settled(&self, entry: usize, found: Found, before: &[SocketAddr]) -> Vec<SocketAddr> {
        match found {
            Ok(found) => {
                let (upstream, server) = (self.name(), self.written(entry));
                if self.entries.get(entry).is_some_and(|it| it.is_lost.swap(false, Ordering::Relaxed)) {
                    tracing::info!(upstream, server, "the name is found again");
                }
                if found != before {
                    tracing::info!(upstream, server, addresses = ?found, "the name has other addresses now");
                }
                found
            }
            Err(reason) => {
                self.lost(entry, &reason);
                before.to_vec()
            }
        }
    }

    /// A name was not found: counted each time, told once.
    fn lost(&self, entry: usize, reason: &str) {
        let Some(state) = self.entries.get(entry) else { return };
        state.metrics.lookup_failed();
        if !state.is_lost.swap(true, Ordering::Relaxed) {
            let (upstream, server) = (self.name(), self.written(entry));
            tracing::error!(upstream, server, reason, "a name cannot be resolved: its last addresses stay");
        }
    }

    /// The server as it is written.
    fn written(&self, entry: usize) -> String {
        self.spec.servers.get(entry).map(ToString::to_string).unwrap_or_default()
    }

    /// A server for each address: those that are there already, and new ones that know what `previous` knew.
    fn manned(&self, addresses: &[Vec<SocketAddr>], previous: Option<&Upstream>) -> Box<[Arc<Server>]> {
        let current = self.servers();
        let mut all = Vec::new();
        for (entry, (written, addresses)) in self.spec.servers.iter().zip(addresses).enumerate() {
            let authorities = self.entries.get(entry).and_then(|entry| entry.authorities.as_ref());
            for address in addresses {
                let same = |server: &&Arc<Server>| server.entry == entry && server.address == *address;
                all.push(current.iter().find(same).cloned().unwrap_or_else(|| {
                    let known = previous.and_then(|previous| previous.known(&written.to_string(), *address));
                    let known = known.unwrap_or_else(|| Arc::new(Known::nothing()));
                    Arc::new(Server::new(*address, entry, &self.spec, written, authorities, known))
                }));
            }
        }
        if all.len() > ADDRESSES_MAX {
            let (upstream, addresses) = (self.name(), all.len());
            tracing::warn!(upstream, addresses, "only the first {ADDRESSES_MAX} addresses are asked");
            all.truncate(ADDRESSES_MAX);
        }
        all.into()
    }

    /// The addresses of a server, if it is one of these.
    fn addresses_of(&self, written: &ServerSpec) -> Option<Vec<SocketAddr>> {
        let same = |own: &ServerSpec| (&own.host, own.port) == (&written.host, written.port);
        let entry = self.spec.servers.iter().position(same)?;
        Some(addresses_in(&self.servers(), entry))
    }

    /// What is known of an address of a server.
    fn known(&self, written: &str, address: SocketAddr) -> Option<Arc<Known>> {
        let servers = self.servers();
        let same = |server: &&Arc<Server>| server.address == address && self.written(server.entry) == written;
        servers.iter().find(same).map(|server| server.known())
    }
}

fn addresses_in(servers: &[Arc<Server>], entry: usize) -> Vec<SocketAddr> {
    servers.iter().filter(|server| server.entry == entry).map(|server| server.address).collect()
}
