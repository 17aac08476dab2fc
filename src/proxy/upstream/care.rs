//! What goes on beside requests: checks of servers, their names looked up again, ejections that end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use pingora::connectors::http::Connector;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::check::{check, duration};
use super::{Resolver, Upstream};
use crate::clock::Clock;
use crate::decision::upstream::CheckSpec;

/// How soon the end of an ejection shows where nobody asks, and a connection is closed that its server has closed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks after the upstreams of one configuration, until it is given those of another or is dropped.
pub struct Caretaker {
    clock: Clock,
    resolver: Arc<dyn Resolver>,
    /// Made for the first check: it reads whom the system believes.
    connector: Arc<OnceLock<Connector>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Caretaker {
    pub fn new(clock: Clock, resolver: Arc<dyn Resolver>) -> Caretaker {
        Caretaker { clock, resolver, connector: Arc::default(), tasks: Mutex::new(JoinSet::new()) }
    }

    pub fn resolver(&self) -> &dyn Resolver {
        &*self.resolver
    }

    /// Looks after these from now on, and after no others.
    pub fn take_over(&self, upstreams: &[Arc<Upstream>]) {
        let mut tasks = JoinSet::new();
        for upstream in upstreams {
            let (upstream, clock) = (Arc::clone(upstream), self.clock.clone());
            let (resolver, connector) = (Arc::clone(&self.resolver), Arc::clone(&self.connector));
            tasks.spawn(async move {
                tokio::join!(
                    keep_arranged(&upstream, &clock),
                    keep_resolved(&upstream, &clock, &*resolver),
                    keep_checked(&upstream, &clock, &connector),
                );
            });
        }
        // What was there ends by being dropped.
        *self.tasks.lock() = tasks;
    }
}

async fn keep_arranged(upstream: &Upstream, clock: &Clock) {
    loop {
        sleep(LOOK_EVERY).await;
        upstream.refresh(clock.now());
        upstream.servers().iter().for_each(|server| server.tidy());
    }
}

async fn keep_resolved(upstream: &Upstream, clock: &Clock, resolver: &dyn Resolver) {
    if upstream.spec.servers.iter().all(|server| server.literal().is_some()) {
        return;
    }
    loop {
        sleep(duration(upstream.spec.resolve_every)).await;
        upstream.resolve_again(resolver, clock).await;
    }
}

async fn keep_checked(upstream: &Upstream, clock: &Clock, connector: &OnceLock<Connector>) {
    let Some(rules) = &upstream.spec.checks else { return };
    let connector = connector.get_or_init(|| Connector::new(None));
    let mut ticks = interval(duration(rules.every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        check_all(upstream, clock, connector, rules).await;
    }
}

/// Each outcome counts at once, whatever the others take.
async fn check_all(upstream: &Upstream, clock: &Clock, connector: &Connector, rules: &CheckSpec) {
    let servers = upstream.servers();
    let checks = servers.iter().map(|server| async {
        let Some(written) = upstream.spec.servers.get(server.entry) else { return };
        let outcome = check(connector, server, written, upstream.spec.protocol, rules).await;
        upstream.checked(server, outcome, rules, clock.now());
    });
    join_all(checks).await;
}
