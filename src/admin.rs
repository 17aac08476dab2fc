//! The admin listener, on an address of its own: metrics, health and readiness; the page for operators and its API.

mod api;
mod auth;
mod blocks;
mod codes;
mod export;
mod host;
mod hours;
mod input;
mod item;
mod keys;
mod logs;
mod minutes;
mod openapi;
mod page;
mod reply;
mod routes;
mod rules;
mod server;
mod session;
mod stats;
mod stream;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::gateway::{Gateway, Policies};
use crate::telemetry::metrics::Metrics;
use api::Api;
use auth::NoRandomness;
use routes::Health;
use server::Bounds;

pub use auth::{Access, Role, Token};

/// What the admin listener answers from.
pub struct Admin {
    pub metrics: Metrics,
    pub readiness: Readiness,
    /// Whether `/metrics`, `/healthz` and `/readyz` answer without a token.
    pub metrics_public: bool,
    /// Called before each scrape, to bring gauges up to date. May block.
    pub gauges: Arc<dyn Fn(&Metrics) + Send + Sync>,
    /// Asked by each look at readiness; does not block.
    pub store_state: Arc<dyn Fn() -> StoreState + Send + Sync>,
    pub room: WatchRoom,
}

/// What operators look at and act on.
pub struct WatchRoom {
    pub gateway: Arc<Gateway>,
    /// The policies in force.
    pub policies: Arc<dyn Fn() -> Arc<Policies> + Send + Sync>,
    /// What the routes of these match, as it was written.
    pub routes: Arc<dyn Fn() -> Arc<Box<[RouteText]>> + Send + Sync>,
    /// Sends here ask for the configuration to be read again.
    pub reload: mpsc::Sender<()>,
    pub access: Access,
    /// `memory`, `redis` or `upstash`.
    pub store_kind: Box<str>,
}

/// A route, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteText {
    pub name: Box<str>,
    /// `POST a.example/login`
    pub matches: Box<str>,
    pub upstream: Box<str>,
}

/// The store, as a load balancer needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    Up,
    /// It is away, and this node does without.
    Down,
    /// It is away, and requests should go where it is not.
    Missed,
}

impl Admin {
    /// Serves until `shutdown` is there, then lets requests in flight finish, for a few seconds.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        self.serve_within(Bounds::DEFAULT, listener, shutdown).await
    }

    async fn serve_within(
        self,
        bounds: Bounds,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (end, ended) = watch::channel(false);
        let Admin { metrics, readiness, metrics_public, gauges, store_state, room } = self;
        let api =
            Api::new(room, ended.clone()).map_err(|NoRandomness| io::Error::other("no random numbers"))?;
        let api = Arc::new(api);
        let health = Health { metrics, readiness, metrics_public, gauges, store_state };
        let router = routes::router(health, Arc::clone(&api), listener.local_addr()?);
        let shutdown = async move {
            shutdown.await;
            // Streams end by themselves then; there may be none.
            let _ = end.send(true);
        };
        tokio::join!(server::serve(router, bounds, listener, shutdown), minutes::watch(api, ended));
        Ok(())
    }
}

/// The life of the process as a load balancer needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Starting,
    Ready,
    /// Finishing what it has; nothing new should be sent.
    Draining,
}

/// The phase the process is in, shared. It goes forward only.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    pub fn new() -> Readiness {
        Readiness(Arc::new(AtomicU8::new(Phase::Starting as u8)))
    }

    /// Enters a phase; one that has passed is not entered again.
    pub fn set(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }

    pub fn phase(&self) -> Phase {
        let phase = self.0.load(Ordering::Acquire);
        if phase == Phase::Starting as u8 {
            Phase::Starting
        } else if phase == Phase::Ready as u8 {
            Phase::Ready
        } else {
            Phase::Draining
        }
    }
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness::new()
    }
}

#[cfg(test)]
mod tests;
