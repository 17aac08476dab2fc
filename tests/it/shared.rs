//! Several gateways that share their counters: what they promise together, and what each does without the store.

mod blocks;
mod cluster;
mod denied;
mod exact;
mod load;
mod outage;
mod policy;
mod privacy;
mod sentinel;
mod telling;
mod tls;
mod trouble;
mod upstash;

use std::net::SocketAddr;

use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::client::{Answer, Client};
use crate::harness::redis::RedisServer;

/// For what is not about time: not even a slow day is an outage then.
const PATIENT: &str = "timeout: 5s";

/// Gateways on one Redis, in front of one backend.
struct Site {
    redis: RedisServer,
    backend: Backend,
    gateways: Vec<Running>,
}

impl Site {
    /// `settings` are keys of `store`; `rules` is the file from `policies` or `routes` on.
    async fn start(gateways: usize, settings: &str, rules: &str) -> Site {
        let (redis, backend) = (RedisServer::start().await, Backend::ok().await);
        let mut site = Site { redis, backend, gateways: Vec::new() };
        for _ in 0..gateways {
            site.add(settings, rules).await;
        }
        site
    }

    async fn add(&mut self, settings: &str, rules: &str) {
        let store = store_at(&self.redis.url(), settings);
        self.gateways.push(Running::start(&self.backend, &format!("{store}{rules}")).await);
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(|gateway| gateway.address).collect()
    }

    async fn get(&self, gateway: usize, path: &str) -> Answer {
        Client::connect(self.gateways[gateway].address).await.request("GET", path).send().await
    }

    /// The statuses of so many requests, one after the other.
    async fn statuses(&self, gateway: usize, path: &str, count: usize) -> Vec<u16> {
        let mut client = Client::connect(self.gateways[gateway].address).await;
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(client.request("GET", path).send().await.status);
        }
        statuses
    }
}

/// The section `store` for the Redis at this URL.
fn store_at(url: &str, settings: &str) -> String {
    format!("store: {{ kind: redis, url: \"{url}\", {settings} }}\n")
}
