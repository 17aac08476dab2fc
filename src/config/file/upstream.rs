//! Backends, as they are written.

use serde_json::{Value as Json, json};

use crate::config::place::Located;
use crate::config::reader::{Definitions, NonEmpty, Optional, Reader, Value};
use crate::config::section::{section, words};
use crate::config::tree::{Node, NodeKind};
use crate::config::value::address::{HostName, ServerAddress};
use crate::config::value::http::CheckPath;
use crate::config::value::text::{FilePath, Whole};
use crate::decision::time::Span;
use crate::decision::upstream::{Balance, Protocol};

section! {
    /// Servers that answer alike.
    Upstream "an upstream" {
        /// One or several: `host:port`, or with more to say of them. Each address of a name is a server of its own.
        required "servers" servers: NonEmpty<ServerForm>;
        /// How a server is picked among several: round_robin, by weight, or consistent: a client goes where it went before.
        default("round_robin") "balance" balance: Balance;
        /// What the servers speak: http2, which gRPC needs, by prior knowledge or by ALPN.
        default("http1") "protocol" protocol: Protocol;
        /// Asks servers whether they are well; those that are not get no requests. Unset: they are not asked.
        optional "health_check" health_check: Located<HealthCheck>;
        /// When a server that gives no answers is left out for a while. The last one that is well never is.
        default("{ after: 5, for: 10s }") "eject" eject: Eject;
        /// How often the names of servers are looked up again, from 1s to a day.
        default("30s") "resolve" resolve: Located<Span>;
        /// How long connecting may take.
        default("2s") "connect_timeout" connect_timeout: Located<Span>;
        /// How long the server may be silent.
        default("30s") "read_timeout" read_timeout: Located<Span>;
        /// How long the server may refuse to take more.
        default("30s") "write_timeout" write_timeout: Located<Span>;
        /// How often a request is tried again that never reached a server.
        default("1") "retries" retries: Whole<0, 5>;
    }
}

words! { Balance, "a way to balance that is supported", {
    Balance::RoundRobin => "round_robin",
    Balance::Consistent => "consistent",
} }

words! { Protocol, "a protocol that is supported", {
    Protocol::Http1 => "http1",
    Protocol::Http2 => "http2",
} }

section! {
    /// A server, with more to say of it than its address.
    UpstreamServer "a server" {
        /// `host:port`
        required "address" address: Located<ServerAddress>;
        /// Its share among all weights: of the requests, or of the clients where `consistent` says which.
        default("1") "weight" weight: Whole<1, 100>;
        /// Whether it speaks TLS. Its certificate is always verified.
        default("false") "tls" tls: bool;
        /// The name that it is asked for by TLS, and that its certificate is for. Unset: the host of the address.
        optional "sni" sni: Located<HostName>;
        /// A PEM file with the authorities to believe in place of the system's.
        optional "ca" ca: Located<FilePath>;
    }
}

/// A server in its short form, `host:port`, or in its long one.
#[derive(Clone, Debug)]
pub(crate) struct ServerForm(pub(crate) UpstreamServer);

impl Value for ServerForm {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<ServerForm> {
        match &node.kind {
            NodeKind::Map(_) => UpstreamServer::read(node, reader).map(ServerForm),
            NodeKind::Scalar { .. } | NodeKind::Seq(_) => Located::read(node, reader).map(|address| {
                ServerForm(UpstreamServer {
                    address: Some(address),
                    weight: Some(Whole(1)),
                    tls: Some(false),
                    sni: Optional::Absent,
                    ca: Optional::Absent,
                })
            }),
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        let short = <ServerAddress as Value>::schema(definitions);
        json!({ "anyOf": [short, UpstreamServer::schema(definitions)] })
    }
}

section! {
    /// How servers are asked whether they are well.
    HealthCheck "health_check" {
        /// GET of this path has to be answered with 2xx or 3xx.
        required "path" path: CheckPath;
        /// How often, from 100ms to an hour.
        default("5s") "interval" interval: Located<Span>;
        /// How long an answer may take; not longer than the interval.
        default("1s") "timeout" timeout: Located<Span>;
        /// So many failures in a row and a server is down.
        default("3") "unhealthy_after" unhealthy_after: Whole<1, 100>;
        /// So many successes in a row and it is up again.
        default("1") "healthy_after" healthy_after: Whole<1, 100>;
    }
}

section! {
    /// When a server that gives no answers is left out for a while.
    Eject "eject" {
        /// So many requests in a row that it could not be given to, or that it never answered.
        default("5") "after" after: Whole<1, 1000>;
        /// For how long, from 1s to an hour. Then one more such request is enough.
        default("10s") "for" span: Located<Span>;
    }
}
