//! Addresses: where to listen, whom to ask, and sets of clients.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use super::list::{Element, Listed, each_line};
use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, Reader, Scalar, Value};
use crate::config::tree::Node;
use crate::decision::ipset::IpSet;

impl Scalar for SocketAddr {
    const EXPECTED: &'static str = "an address to listen on such as 127.0.0.1:8080";

    fn parse(text: &str) -> Result<SocketAddr, Wrong> {
        text.parse::<SocketAddr>().map_err(|_| {
            let wrong = Wrong::new(format!("`{}` is not {}", shortened(text), SocketAddr::EXPECTED));
            match (text.strip_prefix(':').map(str::parse::<u16>), text.parse::<u16>(), text.parse::<IpAddr>())
            {
                (Some(Ok(port)), _, _) | (None, Ok(port), _) => {
                    wrong.write(format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for all interfaces"))
                }
                (_, _, Ok(IpAddr::V6(ip))) => wrong.write(format!("the port is missing: [{ip}]:8080")),
                (_, _, Ok(IpAddr::V4(ip))) => wrong.write(format!("the port is missing: {ip}:8080")),
                (_, Err(_), Err(_)) => match text.strip_prefix("localhost:") {
                    Some(port) => wrong.write(format!("write 127.0.0.1:{}", shortened(port))),
                    None => wrong.write("write an IP address and a port"),
                },
                (Some(Err(_)), Ok(_), Err(_)) => wrong.write("write an IP address and a port"),
            }
        })
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^(\\[.+\\]|[0-9.]+):[0-9]{1,5}$", "examples": ["127.0.0.1:8080", "[::]:8080"] })
    }
}

/// A server to proxy to: a host name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Scalar for ServerAddress {
    const EXPECTED: &'static str = "a server such as 127.0.0.1:8000 or backend:8000";

    fn parse(text: &str) -> Result<ServerAddress, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), ServerAddress::EXPECTED));
        if let Some((scheme, rest)) = text.split_once("://") {
            let bare = shortened(rest.split('/').next().unwrap_or_default());
            let wrong = wrong();
            return Err(match scheme {
                "http" => wrong.write(format!("leave out the scheme: {bare}")),
                "https" => wrong.write("write { address: host:port, tls: true }"),
                _ => wrong.write("write host:port"),
            });
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(wrong().write(format!("the port is missing: {}:8000", shortened(text))));
        };
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        let Some(port) = port else { return Err(wrong().write("end it with a port from 1 to 65535")) };
        let host = host_of(host).ok_or_else(wrong)?;
        Ok(ServerAddress { host, port })
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^.+:[0-9]{1,5}$", "examples": ["127.0.0.1:8000", "backend:8000"] })
    }
}

/// A name or an address that a certificate can be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostName(pub(crate) Box<str>);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for HostName {
    const EXPECTED: &'static str = "a host name such as backend.example";

    fn parse(text: &str) -> Result<HostName, Wrong> {
        if text.parse::<IpAddr>().is_ok() {
            return Ok(HostName(text.into()));
        }
        host_of(text.strip_suffix('.').unwrap_or(text))
            .map(HostName)
            .ok_or_else(|| Wrong::new(format!("`{}` is not {}", shortened(text), HostName::EXPECTED)))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1, "examples": ["backend.example"] })
    }
}

/// A host name (RFC 1123), an IPv4 address, or an IPv6 address in brackets.
pub(super) fn host_of(text: &str) -> Option<Box<str>> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return matches!(inner.parse(), Ok(IpAddr::V6(_))).then(|| inner.into());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let sound = text.len() <= 253
        && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
        && (!numeric || text.parse::<IpAddr>().is_ok());
    sound.then(|| text.to_ascii_lowercase().into())
}

/// One address, or one network.
struct Network(IpNet);

impl Scalar for Network {
    const EXPECTED: &'static str = "an address or a network such as 192.0.2.1 or 192.0.2.0/24";

    fn parse(text: &str) -> Result<Network, Wrong> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Network(IpNet::from(address)));
        }
        let net = text
            .parse::<IpNet>()
            .map_err(|_| Wrong::new(format!("`{}` is not {}", shortened(text), Network::EXPECTED)))?;
        if net.trunc() != net {
            let wrong = Wrong::new(format!("`{}` has bits set after its prefix", shortened(text)));
            return Err(wrong.write(format!("write {}, or {} for the one address", net.trunc(), net.addr())));
        }
        Ok(Network(net))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "examples": ["10.0.0.0/8", "2001:db8::1", "file:lists/office.txt"] })
    }
}

/// A list of addresses, networks, and `file:` references to files with one of them a line.
impl Value for IpSet {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<IpSet> {
        let entries = Vec::<Networks>::read(node, reader)?;
        Some(entries.into_iter().flat_map(|entry| entry.0).collect())
    }

    fn schema(_: &mut Definitions) -> Json {
        json!({ "type": "array", "items": Network::own_schema() })
    }
}

impl Element for Network {
    const FILE: &'static str = "file:lists/office.txt";
}

struct Networks(Vec<IpNet>);

impl Value for Networks {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Networks> {
        match Listed::<Network>::read(node, reader)? {
            Listed::One(Network(net)) => Some(Networks(vec![net])),
            Listed::File(path) => {
                let mut nets = Vec::new();
                let kept = each_line(&path, node, reader, |Network(net)| {
                    nets.push(net);
                    Ok(())
                });
                kept.map(|()| Networks(nets))
            }
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        IpSet::schema(definitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix<T: Scalar>(text: &str) -> String {
        T::parse(text).err().unwrap().fix.unwrap_or_default()
    }

    #[test]
    fn listens_on_addresses_with_ports() {
        for text in ["127.0.0.1:8080", "[::1]:0", "0.0.0.0:65535"] {
            assert!(SocketAddr::parse(text).is_ok(), "{text}");
        }
        assert_eq!(fix::<SocketAddr>(":8080"), "write 127.0.0.1:8080, or 0.0.0.0:8080 for all interfaces");
        assert_eq!(fix::<SocketAddr>("8080"), "write 127.0.0.1:8080, or 0.0.0.0:8080 for all interfaces");
        assert_eq!(fix::<SocketAddr>("::1"), "the port is missing: [::1]:8080");
        assert_eq!(fix::<SocketAddr>("localhost:80"), "write 127.0.0.1:80");
        assert_eq!(fix::<SocketAddr>("127.0.0.1:99999"), "write an IP address and a port");
    }

    #[test]
    fn servers_are_hosts_with_ports() {
        for (text, shown) in
            [("127.0.0.1:80", "127.0.0.1:80"), ("Backend_1:8000", "backend_1:8000"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(ServerAddress::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(fix::<ServerAddress>("http://backend:8000/x"), "leave out the scheme: backend:8000");
        assert_eq!(fix::<ServerAddress>("backend"), "the port is missing: backend:8000");
        assert_eq!(fix::<ServerAddress>("backend:0"), "end it with a port from 1 to 65535");
        for text in ["::1:80", "a b:80", "-a:80", "999.0.0.1:80", ":80", "[::1:80", "a..b:80"] {
            assert!(ServerAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_have_no_bits_after_their_prefix() {
        for text in ["192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "::1", "0.0.0.0/0"] {
            assert!(Network::parse(text).is_ok(), "{text}");
        }
        assert_eq!(fix::<Network>("10.1.2.3/8"), "write 10.0.0.0/8, or 10.1.2.3 for the one address");
        for text in ["10.0.0.0/33", "example.com", "10.0.0", ""] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
