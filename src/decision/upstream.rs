//! What the file says of a backend, and how its servers are chosen and judged.

pub mod balance;
pub mod health;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::time::Span;

/// No upstream asks more addresses, however many its names have.
pub const ADDRESSES_MAX: usize = 256;

/// The servers of one upstream and how long each step towards them may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    pub name: Box<str>,
    /// At least one, all with different addresses.
    pub servers: Vec<ServerSpec>,
    pub balance: Balance,
    pub protocol: Protocol,
    pub checks: Option<CheckSpec>,
    pub eject: EjectSpec,
    /// How often names are looked up again.
    pub resolve_every: Span,
    pub connect_timeout: Span,
    /// Between two reads, not for the whole answer.
    pub read_timeout: Span,
    pub write_timeout: Span,
    /// How often a request is tried again that nothing has read.
    pub retries: u32,
}

/// One server as it is written. A name may have several addresses, each of which is asked as a server of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// A name or an address, without brackets.
    pub host: Box<str>,
    pub port: u16,
    /// Its share among all weights; at least 1.
    pub weight: u32,
    pub tls: Option<TlsSpec>,
}

/// How a server has to prove who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSpec {
    /// The name that it is asked for and that its certificate has to be for.
    pub name: Box<str>,
    /// Certificates (DER) of whom to believe in place of those whom the system believes.
    pub authorities: Option<Box<[Box<[u8]>]>>,
}

/// How a server is picked among several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The same client goes to the same server while it is there.
    Consistent,
}

/// What servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// By prior knowledge, or by ALPN where there is TLS.
    Http2,
}

/// How servers are asked whether they are well: `GET` of this path has to be answered with 2xx or 3xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    pub path: Box<str>,
    pub every: Span,
    /// From connecting to the head of the answer.
    pub timeout: Span,
    /// So many failures in a row and a server is down; at least 1.
    pub unhealthy_after: u32,
    /// So many successes in a row and it is up again; at least 1.
    pub healthy_after: u32,
}

/// When a server that does not answer is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectSpec {
    /// So many requests in a row without an answer; at least 1.
    pub after: u32,
    pub span: Span,
}

impl ServerSpec {
    /// Where it is, if that needs no looking up.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// `backend:8000`, `[::1]:8000`
impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
