//! Where servers are: names to addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::decision::upstream::ServerSpec;

/// What is not found by then counts as not found.
const DEADLINE: Duration = Duration::from_secs(5);

/// Who knows the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of a name, of both families.
    ///
    /// # Errors
    /// Where it has none, or nobody could be asked.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own way: its hosts file, then DNS.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// The addresses of one server in their order, at least one; or why there are none.
pub(super) type Found = Result<Vec<SocketAddr>, Box<str>>;

/// Looks for all servers at once.
pub(super) async fn look_up(resolver: &dyn Resolver, servers: &[ServerSpec]) -> Vec<Found> {
    join_all(servers.iter().map(|server| find(resolver, server))).await
}

async fn find(resolver: &dyn Resolver, server: &ServerSpec) -> Found {
    if let Some(address) = server.literal() {
        return Ok(vec![address]);
    }
    let found = match timeout(DEADLINE, resolver.addresses(&server.host)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(error.to_string().into()),
        Err(_) => return Err(format!("no answer within {} s", DEADLINE.as_secs()).into()),
    };
    // Answers come in another order each time.
    let mut all: Vec<SocketAddr> = found.into_iter().map(|ip| SocketAddr::new(ip, server.port)).collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() { Err("the name has no address".into()) } else { Ok(all) }
}
