//! Which hosts a request may name. A page anywhere can make a browser resolve its own name to a
//! loopback address and then read what listens there (DNS rebinding): only the name gives it away.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

/// The hosts that requests may be addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostRule {
    /// Listening where others can reach it: they may call it by any name.
    Any,
    /// Listening on loopback: only names that no stranger can point there.
    Loopback,
}

impl HostRule {
    pub(super) fn of(listening: SocketAddr) -> HostRule {
        if listening.ip().to_canonical().is_loopback() { HostRule::Loopback } else { HostRule::Any }
    }

    /// Both the target and the `Host` lines must name an allowed host, where they are there at
    /// all: health checkers of HTTP/1.0 name none, and every browser does.
    pub(super) fn admits(self, target: &Uri, headers: &HeaderMap) -> bool {
        match self {
            HostRule::Any => true,
            HostRule::Loopback => {
                let lines = headers.get_all(HOST).iter();
                target.authority().is_none_or(is_local)
                    && lines
                        .map(|line| Authority::try_from(line.as_bytes()))
                        .all(|named| named.is_ok_and(|named| is_local(&named)))
            }
        }
    }
}

fn is_local(named: &Authority) -> bool {
    if named.as_str().contains('@') {
        return false;
    }
    let host = named.host();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(rule: HostRule, target: &str, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        rule.admits(&target.parse().unwrap(), &headers)
    }

    #[test]
    fn on_loopback_only_local_names_are_answered() {
        for local in [
            "localhost",
            "LOCALHOST:9180",
            "localhost.",
            "127.0.0.1:9180",
            "127.8.9.1",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(admits(HostRule::Loopback, "/metrics", &[local]), "{local}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9180",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "0.0.0.0:9180",
            "192.0.2.1",
            "[::]",
            "[2001:db8::1]:9180",
            "localhost@evil.example",
            "evil@localhost",
            "127.1",
            "0x7f000001",
            "",
        ] {
            assert!(!admits(HostRule::Loopback, "/metrics", &[foreign]), "{foreign:?}");
        }
    }

    #[test]
    fn every_place_that_names_a_host_counts() {
        assert!(admits(HostRule::Loopback, "/", &[]));
        assert!(!admits(HostRule::Loopback, "/", &["localhost", "evil.example"]));
        assert!(!admits(HostRule::Loopback, "http://evil.example/", &["localhost"]));
        assert!(!admits(HostRule::Loopback, "http://localhost/", &["evil.example"]));
        assert!(admits(HostRule::Loopback, "http://localhost/", &["localhost"]));
    }

    #[test]
    fn the_rule_follows_the_address() {
        let rule = |address: &str| HostRule::of(address.parse().unwrap());
        assert_eq!(rule("127.0.0.1:9180"), HostRule::Loopback);
        assert_eq!(rule("[::1]:9180"), HostRule::Loopback);
        assert_eq!(rule("[::ffff:127.0.0.1]:9180"), HostRule::Loopback);
        assert_eq!(rule("0.0.0.0:9180"), HostRule::Any);
        assert_eq!(rule("10.0.0.1:9180"), HostRule::Any);
        assert!(admits(HostRule::Any, "/", &["gateway.example"]));
    }
}
