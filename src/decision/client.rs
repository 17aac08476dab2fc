//! Who sent a request: the rightmost address that is not one of our proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderMap, HeaderName};

use super::ipset::IpSet;

/// How the client of a request is told.
#[derive(Clone, Debug)]
pub struct ClientRules {
    /// Proxies whose forwarding header is believed.
    pub trusted: IpSet,
    pub header: ForwardedHeader,
    /// One IPv6 client is one prefix of this length, at most 128.
    pub ipv6_prefix: u8,
}

/// The header in which trusted proxies name whom they forward for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
    /// A header that holds one address, such as `x-real-ip`.
    Single(HeaderName),
}

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// In [`canonical`] form.
    pub address: IpAddr,
    /// Whether the connection came from a trusted proxy, so that its headers are believed.
    pub peer_is_trusted: bool,
    ipv6_prefix: u8,
}

impl Client {
    /// An address alone, as an operator names one.
    pub fn of_address(address: IpAddr, ipv6_prefix: u8) -> Client {
        Client { address: canonical(address), peer_is_trusted: false, ipv6_prefix }
    }

    /// What the client is counted by: a tag of the family, then the address, an IPv6 one cut to its prefix.
    pub fn key_bytes(&self) -> [u8; 17] {
        masked(self.address, 32, self.ipv6_prefix)
    }

    /// What its network is counted by: an IPv4 address cut to /24, an IPv6 one to /48, or shorter if its
    /// prefix is. Such networks are what is commonly given to one site (RFC 6177).
    pub fn network_bytes(&self) -> [u8; 17] {
        masked(self.address, IPV4_NETWORK, IPV6_NETWORK.min(self.ipv6_prefix))
    }

    /// What is counted, for people: `192.0.2.7`, `2001:db8::/64`.
    pub fn shown(&self) -> String {
        match self.address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(_) => network(self.address, self.ipv6_prefix),
        }
    }

    /// Its network, for people: `192.0.2.0/24`, `2001:db8::/48`.
    pub fn shown_network(&self) -> String {
        match self.address {
            IpAddr::V4(_) => network(self.address, IPV4_NETWORK),
            IpAddr::V6(_) => network(self.address, IPV6_NETWORK.min(self.ipv6_prefix)),
        }
    }
}

const IPV4_NETWORK: u8 = 24;
const IPV6_NETWORK: u8 = 48;

fn masked(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> [u8; 17] {
    let mut key = [0; 17];
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(ipv4_prefix.min(32))).unwrap_or(0);
            key[0] = 4;
            key[1..5].copy_from_slice(&(u32::from(v4) & mask).to_be_bytes());
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(ipv6_prefix.min(128))).unwrap_or(0);
            key[0] = 6;
            key[1..].copy_from_slice(&(u128::from(v6) & mask).to_be_bytes());
        }
    }
    key
}

fn network(address: IpAddr, prefix: u8) -> String {
    let [_, bytes @ ..] = masked(address, prefix, prefix);
    let network = match address {
        IpAddr::V4(_) => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        IpAddr::V6(_) => IpAddr::from(bytes),
    };
    format!("{network}/{prefix}")
}

/// Bounds of one walk over a forwarding header.
const HOPS_MAX: usize = 64;
const BYTES_MAX: usize = 8 * 1024;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl ClientRules {
    /// Whether a connection from there is one of our proxies'.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.contains(canonical(peer))
    }

    /// The client behind `peer`, the other end of the connection.
    ///
    /// Addresses are read from the right, where the nearest proxy wrote, over all lines of the
    /// header. What a client wrote itself stands left of its own address and is never reached.
    /// Where the chain cannot be read the client is the last hop that could be.
    pub fn identify(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = canonical(peer);
        let peer_is_trusted = self.trusted.contains(peer);
        let address = if peer_is_trusted { self.behind(peer, headers) } else { peer };
        Client { address, peer_is_trusted, ipv6_prefix: self.ipv6_prefix }
    }

    fn behind(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        match &self.header {
            ForwardedHeader::XForwardedFor => {
                let read = Reading { split_last: last_listed, parse: parse_bytes };
                self.walk(peer, headers, &X_FORWARDED_FOR, read)
            }
            ForwardedHeader::Forwarded => {
                let read = Reading { split_last: last_unquoted, parse: forwarded_for };
                self.walk(peer, headers, &FORWARDED, read)
            }
            ForwardedHeader::Single(name) => single(headers, name).unwrap_or(peer),
        }
    }

    fn walk(&self, peer: IpAddr, headers: &HeaderMap, name: &HeaderName, read: Reading) -> IpAddr {
        let mut last_good = peer;
        let mut hops_left = HOPS_MAX;
        let mut bytes_left = BYTES_MAX;
        for line in headers.get_all(name).iter().rev() {
            // The bounds count from the right too: what a client piles up on the left must not
            // hide what the proxy wrote after it.
            let cut = line.len().saturating_sub(bytes_left);
            bytes_left = bytes_left.saturating_sub(line.len());
            let mut rest = line.as_bytes().get(cut..);
            while let Some(list) = rest {
                let (before, element) = (read.split_last)(list);
                rest = before;
                let is_whole = before.is_some() || cut == 0;
                let hop = if is_whole && hops_left > 0 { (read.parse)(element) } else { None };
                let Some(hop) = hop else { return last_good };
                last_good = canonical(hop);
                hops_left -= 1;
                if !self.trusted.contains(last_good) {
                    return last_good;
                }
            }
        }
        last_good
    }
}

/// What stands before the last comma of a list, if there is one, and the element behind it.
type LastOf<'a> = (Option<&'a [u8]>, &'a [u8]);

/// How a header lists its hops.
struct Reading {
    split_last: fn(&[u8]) -> LastOf<'_>,
    parse: fn(&[u8]) -> Option<IpAddr>,
}

/// The one form of an address: IPv4-mapped (RFC 4291), 6to4 (RFC 3056), NAT64 (RFC 6052) and
/// Teredo (RFC 4380) addresses become the IPv4 address in them.
///
/// Transition addresses never carry a private IPv4 address; one that does is not unwrapped, lest
/// it pass for a proxy or for somebody on an allow list.
pub fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let bits = u128::from(v6);
    let embedded = match v6.segments() {
        [0x2002, ..] => (bits >> 80) as u32,
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => bits as u32,
        [0x2001, 0, ..] => !(bits as u32),
        _ => return address,
    };
    let v4 = Ipv4Addr::from(embedded);
    if is_reachable(v4) { IpAddr::V4(v4) } else { address }
}

fn is_reachable(v4: Ipv4Addr) -> bool {
    let [first, second, ..] = v4.octets();
    let is_shared = first == 100 && second & 0xc0 == 64;
    !(first == 0 || is_shared || v4.is_private() || v4.is_loopback() || v4.is_link_local())
        && !(v4.is_multicast() || v4.is_broadcast())
}

fn last_listed(list: &[u8]) -> LastOf<'_> {
    split_at_comma(list, list.iter().rposition(|&byte| byte == b','))
}

/// The last element where commas may be quoted. Read from the right, so that a quote which a client left
/// open cannot swallow what a proxy wrote after it.
fn last_unquoted(list: &[u8]) -> LastOf<'_> {
    let mut in_quotes = false;
    let comma = list.iter().enumerate().rposition(|(at, &byte)| {
        if byte == b'"' && !(in_quotes && is_escaped(list, at)) {
            in_quotes = !in_quotes;
        }
        byte == b',' && !in_quotes
    });
    split_at_comma(list, comma)
}

fn split_at_comma(list: &[u8], comma: Option<usize>) -> LastOf<'_> {
    match comma {
        Some(at) => (list.get(..at), list.get(at + 1..).unwrap_or_default()),
        None => (None, list),
    }
}

fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// The `for` of one forwarded-element (RFC 7239 §4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut node = None;
    let mut rest = Some(str::from_utf8(element).ok()?);
    while let Some(pairs) = rest {
        let (pair, after) = split_pair(pairs)?;
        rest = after;
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            if node.is_some() {
                return None;
            }
            node = Some(value);
        }
    }
    match node?.strip_prefix('"') {
        // No address needs an escape inside its quotes.
        Some(quoted) => parse_node(quoted.strip_suffix('"')?),
        None => parse_node(node?),
    }
}

/// The first `name=value` and what stands behind its semicolon; `None` if a quote stays open.
fn split_pair(pairs: &str) -> Option<(&str, Option<&str>)> {
    let mut in_quotes = false;
    let mut escaped = false;
    for (at, byte) in pairs.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_quotes => escaped = true,
            b'"' => in_quotes = !in_quotes,
            b';' if !in_quotes => {
                return Some((trim(pairs.get(..at)?), pairs.get(at + 1..)));
            }
            _ => {}
        }
    }
    (!in_quotes).then(|| (trim(pairs), None))
}

fn parse_bytes(node: &[u8]) -> Option<IpAddr> {
    parse_node(str::from_utf8(node).ok()?)
}

/// An address as proxies write it: with or without brackets, port and zone.
fn parse_node(node: &str) -> Option<IpAddr> {
    let node = trim(node);
    if let Some(bracketed) = node.strip_prefix('[') {
        let (v6, after) = bracketed.split_once(']')?;
        let port_is_sound = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return if port_is_sound { parse_v6(v6) } else { None };
    }
    match node.split_once(':') {
        Some((v4, port)) if is_port(port) && v4.contains('.') => v4.parse().ok().map(IpAddr::V4),
        Some(_) => parse_v6(node),
        None => node.parse().ok().map(IpAddr::V4),
    }
}

fn parse_v6(text: &str) -> Option<IpAddr> {
    let address = match text.split_once('%') {
        Some((address, zone)) => {
            let is_zone =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'%');
            if zone.is_empty() || !zone.bytes().all(is_zone) {
                return None;
            }
            address
        }
        None => text,
    };
    address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// A number, or an obfuscated port (RFC 7239 §6.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        }
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The one address that every line and element of `name` agrees on.
fn single(headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    let mut found = None;
    for line in headers.get_all(name) {
        if line.len() > BYTES_MAX {
            return None;
        }
        for element in line.to_str().ok()?.split(',') {
            let address = canonical(parse_node(element)?);
            if *found.get_or_insert(address) != address {
                return None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
