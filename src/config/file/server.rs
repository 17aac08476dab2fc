//! Sections about the process, its neighbours and its clients.

use std::net::SocketAddr;

use http::HeaderName;

use super::admin::Webhook;
use crate::config::place::Located;
use crate::config::reader::{Named, NonEmpty};
use crate::config::section::{section, words};
use crate::config::value::http::{CookieName, IdHeader};
use crate::config::value::otp::{Amount, CallUrl};
use crate::config::value::text::{FilePath, Secret, Text, Whole};
use crate::decision::ipset::IpSet;
use crate::decision::time::Span;
use crate::decision::trace::Traceparent;
use crate::identity::Algorithm;
use crate::tls::Demand;

section! {
    /// A public listener.
    Listener "a listener" {
        /// An IP address and a port: 0.0.0.0:8080 or [::]:8080.
        required "address" address: Located<SocketAddr>;
        /// HTTPS: certificates and keys in PEM files, which are read again when they change.
        optional "tls" tls: Located<Tls>;
        /// HTTP/2 by prior knowledge, where there is no TLS; with it, HTTP/2 comes by ALPN.
        default("true") "h2c" h2c: bool;
        /// Peers that begin with a PROXY header, version 1 or 2, and are believed. From others it is refused.
        optional "proxy_protocol" proxy_protocol: IpSet;
        /// Sends every request on to https, with 308; the port that clients reach it on, commonly 443.
        optional "redirect_to_https" redirect_to_https: Located<Whole<1, 65535>>;
        /// How long browsers are to come by https alone (RFC 6797), such as 365d.
        optional "hsts" hsts: Located<Span>;
        /// Connections at the same time; one more is closed as it is accepted.
        default("20000") "max_connections" max_connections: Whole<1, 1_000_000>;
        /// The same of one address, or of one IPv6 network of 64 bits. Trusted proxies are not held to it.
        default("200") "max_connections_per_ip" max_connections_per_ip: Whole<1, 1_000_000>;
        /// How long a whole request head may take, not each part of it. A PROXY header and TLS before it have as long.
        default("10s") "header_timeout" header_timeout: Located<Span>;
        /// How long a connection is kept for a next request.
        default("60s") "idle_timeout" idle_timeout: Located<Span>;
        /// Bytes a second that a client must give of a body and take of an answer, on average, while it is waited
        /// for; 30s without are forgiven. 0: any.
        default("250") "min_body_rate" min_body_rate: Whole<0, 1_000_000>;
        /// Header fields of a request; more are refused with 431.
        default("100") "max_headers" max_headers: Whole<1, 256>;
        /// All header fields together, bytes; more are refused with 431.
        default("32768") "max_header_bytes" max_header_bytes: Whole<1024, 1_000_000>;
        /// The target of a request with its query, bytes; a longer one is refused with 414.
        default("8192") "max_uri_bytes" max_uri_bytes: Whole<64, 65_536>;
        /// What a connection of HTTP/2 may do.
        default("{}") "http2" http2: Http2;
    }
}

section! {
    /// Bounds of one HTTP/2 connection (RFC 9113). How large fields may be is said by max_header_bytes.
    Http2 "http2" {
        /// Requests at the same time; one more is refused (SETTINGS_MAX_CONCURRENT_STREAMS).
        default("100") "max_concurrent_streams" max_concurrent_streams: Whole<1, 10_000>;
        /// Bytes of a body that a client may send ahead of what was taken in (SETTINGS_INITIAL_WINDOW_SIZE).
        default("65536") "initial_window_size" initial_window_size: Located<Whole<1024, 16_777_216>>;
        /// The same of all bodies of a connection.
        default("1048576") "connection_window_size" connection_window_size: Located<Whole<65_535, 1_073_741_824>>;
        /// Bytes of an answer that wait for a client that is slow to take it.
        default("65536") "max_send_buffer_size" max_send_buffer_size: Whole<16_384, 16_777_216>;
        /// Requests that may be taken back (RST_STREAM) before they were looked at; one more ends the connection.
        default("20") "max_unseen_resets" max_unseen_resets: Whole<1, 10_000>;
        /// Requests that may be malformed, beyond max_concurrent_streams or too slow, as long as the connection lasts;
        /// one more ends it.
        default("64") "max_error_resets" max_error_resets: Whole<1, 10_000>;
        /// Requests that may be taken back in 10s; one more ends the connection.
        default("200") "max_resets" max_resets: Whole<1, 1_000_000>;
        /// Frames in 10s that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones), beyond
        /// four for each that carries something and one for each KiB of an answer; one more ends the connection.
        default("1000") "max_control_frames" max_control_frames: Whole<10, 1_000_000>;
    }
}

section! {
    /// What a listener shows and asks for.
    Tls "tls" {
        /// The server's certificate and what vouches for it, in this order.
        optional "cert" cert: Located<FilePath>;
        /// The certificate's private key.
        optional "key" key: Located<FilePath>;
        /// Several certificates in place of one, chosen by the name that clients ask for. The first is for all other names.
        optional "certificates" certificates: NonEmpty<CertificateFiles>;
        /// The authorities that clients' certificates come from: clients have to show one.
        optional "client_ca" client_ca: Located<FilePath>;
        /// Whether a client without a certificate is let in.
        default("required") "client_auth" client_auth: Located<Demand>;
    }
}

section! {
    /// A certificate and its key.
    CertificateFiles "a certificate" {
        /// The certificate and what vouches for it, in this order.
        required "cert" cert: Located<FilePath>;
        /// Its private key.
        required "key" key: Located<FilePath>;
    }
}

words! { Demand, "a demand on clients", {
    Demand::Required => "required",
    Demand::Optional => "optional",
} }

section! {
    /// How the client behind other proxies is told.
    ClientIp "client_ip" {
        /// Networks whose forwarding header is believed; the client is the rightmost address not in them.
        default("[]") "trusted_proxies" trusted_proxies: IpSet;
        /// The header that trusted proxies write: x-forwarded-for, forwarded, or one that holds a single address.
        default("x-forwarded-for") "header" header: HeaderName;
        /// One IPv6 client is one network of this prefix.
        default("64") "ipv6_prefix" ipv6_prefix: Whole<16, 128>;
    }
}

section! {
    /// Who `key: user` is: one of jwt, header and cookie.
    User "user" {
        /// A signed token (RFC 7519).
        optional "jwt" jwt: Located<Jwt>;
        /// A header that names the user; believed from client_ip.trusted_proxies only.
        optional "header" header: Located<HeaderName>;
        /// A cookie that stands for the user; hashed, never stored.
        optional "cookie" cookie: Located<CookieName>;
    }
}

section! {
    /// How a signed token is verified. One of secret and jwks_file.
    Jwt "jwt" {
        /// The header that carries the token: after `Bearer` in Authorization, alone in any other.
        default("authorization") "header" header: HeaderName;
        /// The signatures that are accepted; any other is no identity.
        default("[HS256]") "algorithms" algorithms: NonEmpty<Located<Algorithm>>;
        /// The shared secret of HS256. Empty: no token is accepted and users count by address.
        optional "secret" secret: Located<Secret>;
        /// A file with the public keys as a JSON Web Key Set (RFC 7517).
        optional "jwks_file" jwks_file: Located<FilePath>;
        /// The claim that names the user.
        default("sub") "claim" claim: Located<Text>;
    }
}

words! { Algorithm, "an algorithm that is supported", {
    Algorithm::Hs256 => "HS256",
    Algorithm::Rs256 => "RS256",
    Algorithm::Es256 => "ES256",
    Algorithm::EdDsa => "EdDSA",
} }

section! {
    /// Who is never limited, and who is always refused. Networks, or `file:` with one a line.
    Access "access" {
        /// Never limited.
        default("[]") "allow" allow: IpSet;
        /// Refused with 403, before any limit.
        default("[]") "deny" deny: IpSet;
    }
}

section! {
    /// What is written to standard output, and how long it is kept.
    Events "events" {
        /// How long the journal in data_dir keeps events, from an hour to a year.
        default("30d") "retention" retention: Located<Span>;
        /// The form of a line.
        default("json") "log" log: LogFormat;
        /// Which requests get a line of their own, as JSON on standard output.
        default("off") "access_log" access_log: AccessLog;
        /// The header with the id of a request, for the backend, on every answer and in our lines. Taken over from
        /// trusted proxies, made anew for everybody else; `off`: requests get none.
        default("x-request-id") "request_id_header" request_id_header: Located<IdHeader>;
        /// generate: we are a span of each trace, and begin one where the client did not; pass: what clients send
        /// goes on as it is (W3C Trace Context).
        default("generate") "traceparent" traceparent: Traceparent;
        /// Where spans of requests go: an OpenTelemetry collector.
        optional "otlp" otlp: Located<Otlp>;
        /// Who is told of blocks, suspicion and outages, by signed requests.
        optional "webhook" webhook: Located<Webhook>;
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

words! { LogFormat, "a log format", {
    LogFormat::Json => "json",
    LogFormat::Text => "text",
} }

section! {
    /// An OpenTelemetry collector that takes OTLP over HTTP, in JSON. For binaries that were built with it.
    Otlp "the collector" {
        /// https://host:4318, or http:// on this machine; spans go to /v1/traces below it.
        required "endpoint" endpoint: Located<CallUrl>;
        /// Of each export: `authorization`, or what else the collector asks for.
        default("{}") "headers" headers: Located<Named<HeaderName, Located<Secret>>>;
        /// The share of requests that are recorded, from 0 to 1. Trusted proxies that trace decide it for theirs.
        default("0.01") "sample" sample: Located<Amount>;
    }
}

/// Which requests get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Errors,
    All,
}

words! { AccessLog, "a choice of requests", {
    AccessLog::Off => "off",
    AccessLog::Errors => "errors",
    AccessLog::All => "all",
} }

words! { Traceparent, "a way to trace", {
    Traceparent::Generated => "generate",
    Traceparent::Passed => "pass",
} }

section! {
    /// The process itself.
    Server "server" {
        /// Worker threads; 0 is one a core.
        default("0") "workers" workers: Whole<0, 1024>;
        /// How long /readyz says no while all is served, once the gateway is told to stop: what a balancer needs to notice. None without it.
        optional "drain_delay" drain_delay: Located<Span>;
        /// How long requests in flight may finish after that.
        default("20s") "drain" drain: Located<Span>;
    }
}
