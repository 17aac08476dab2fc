//! The admin listener: metrics, health and readiness, on an address of their own.

mod host;
mod routes;
mod server;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::net::TcpListener;

use crate::telemetry::metrics::Metrics;
use server::Bounds;

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
        let router = routes::router(self, listener.local_addr()?);
        server::serve(router, bounds, listener, shutdown).await;
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
