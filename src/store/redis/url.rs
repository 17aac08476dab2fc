//! Where a server is and how to log in to it, as operators write it.

use std::fmt;
use std::net::Ipv6Addr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// `redis://[[user]:password@]host[:port][/database]`, or `rediss://` for TLS; `valkey://` and
/// `valkeys://` mean the same. Shows itself without credentials. The syntax is that of RFC 3986,
/// so what is special in a user or password is percent-encoded.
#[derive(Clone)]
pub struct RedisUrl {
    channel: Channel,
    user: Option<Box<str>>,
    password: Option<SecretString>,
    host: Box<str>,
    /// As written.
    port: Option<u16>,
    database: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Plain,
    Tls,
}

/// What is wrong with a URL. Never shows what was written: it may be a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RedisUrlFault {
    #[error("is empty; write redis://host:6379")]
    Empty,
    #[error("is not a URL; write redis://host:6379, or rediss://host:6379 for TLS")]
    NotAUrl,
    #[error("has a scheme that is not Redis; write redis://, or rediss:// for TLS")]
    Scheme,
    #[error(
        "is a unix socket, which is not supported; let the server listen on 127.0.0.1 and write redis://127.0.0.1:6379"
    )]
    UnixSocket,
    #[error("has a space or control character in it; in a password write a space as %20")]
    Space,
    #[error(
        "has an empty user or password; write redis://user:password@host or redis://:password@host, or leave out all before the host"
    )]
    EmptyCredential,
    #[error(
        "has a user but no password; write redis://user:password@host, or redis://:password@host without a user"
    )]
    UserAlone,
    #[error("has a '/', '?' or '#' in the user or password; write %2F for '/', %3F for '?', %23 for '#'")]
    BareCredential,
    #[error("has a '%' in the user or password that is no escape of UTF-8; write %25 for '%'")]
    Escape,
    #[error("has no host; write redis://host:6379")]
    NoHost,
    #[error("names several hosts; write one URL for each, as a list")]
    SeveralHosts,
    #[error("has a host that is neither a name nor an address")]
    Host,
    #[error("has an IPv6 address without brackets; write redis://[::1]:6379")]
    Brackets,
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    #[error("has a path that is not the number of a database; write redis://host:6379/0 or leave it out")]
    Database,
    #[error("has something after '?' or '#'; leave it out, no options are given in the URL")]
    Options,
    #[error("names a database other than 0, and a cluster has no other; leave it out")]
    DatabaseInCluster,
    #[error("names a database, and a Sentinel has none; write it in the URL of the node")]
    DatabaseInSentinel,
}

impl RedisUrl {
    pub fn parse(text: &SecretString) -> Result<RedisUrl, RedisUrlFault> {
        let text = text.expose_secret();
        if text.is_empty() {
            return Err(RedisUrlFault::Empty);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(RedisUrlFault::Space);
        }
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlFault::NotAUrl)?;
        let channel = channel_of(scheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains('@') {
            return Err(RedisUrlFault::BareCredential);
        }
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let (user, password) = credentials.map_or(Ok((None, None)), read_credentials)?;
        let (host, port) = read_place(place)?;
        Ok(RedisUrl { channel, user, password, host, port, database: read_database(path)? })
    }

    /// The same, if it can be a node of a cluster.
    pub fn for_cluster(self) -> Result<RedisUrl, RedisUrlFault> {
        if self.database == 0 { Ok(self) } else { Err(RedisUrlFault::DatabaseInCluster) }
    }

    /// The same, if it can be a Sentinel; its port is 26379 if none is written.
    pub fn for_sentinel(self) -> Result<RedisUrl, RedisUrlFault> {
        let port = self.port.or(Some(SENTINEL_PORT));
        if self.database == 0 {
            Ok(RedisUrl { port, ..self })
        } else {
            Err(RedisUrlFault::DatabaseInSentinel)
        }
    }

    /// The password, if the URL has one.
    pub fn password(&self) -> Option<SecretString> {
        self.password.clone()
    }

    /// `host:port`, for people.
    pub fn host_and_port(&self) -> String {
        host_and_port(&self.host, self.port())
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(SERVER_PORT)
    }

    /// Another server that takes the same credentials in the same way.
    pub(super) fn at(&self, host: &str, port: u16) -> RedisUrl {
        RedisUrl { host: host.into(), port: Some(port), ..self.clone() }
    }

    /// A server that asks for no credentials.
    pub(super) fn plain(host: &str, port: u16) -> RedisUrl {
        let place = (host.into(), Some(port));
        RedisUrl {
            channel: Channel::Plain,
            user: None,
            password: None,
            host: place.0,
            port: place.1,
            database: 0,
        }
    }

    /// What the client library connects by. Fails never for what `parse` made.
    pub(super) fn connection_info(&self, protocol: ProtocolVersion) -> redis::RedisResult<ConnectionInfo> {
        let mut login = RedisConnectionInfo::default()
            .set_db(i64::from(self.database))
            .set_protocol(protocol)
            .set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password.expose_secret());
        }
        let (host, port) = (self.host.to_string(), self.port());
        let address = match self.channel {
            Channel::Plain => ConnectionAddr::Tcp(host, port),
            Channel::Tls => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let info = address.into_connection_info()?;
        // Calls are small and each waits for its answer: held back, they would wait for nothing.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(info.set_tcp_settings(tcp).set_redis_settings(login))
    }
}

/// Whether an edit of the configuration changed anything; the credentials count, and are not shown.
impl PartialEq for RedisUrl {
    fn eq(&self, other: &RedisUrl) -> bool {
        let RedisUrl { channel, user, password: _, host, port, database } = self;
        let place = (channel, user, host, port, database);
        let own = self.password.as_ref().map(|password| password.expose_secret());
        let others = other.password.as_ref().map(|password| password.expose_secret());
        place == (&other.channel, &other.user, &other.host, &other.port, &other.database) && own == others
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.host_and_port())
    }
}

pub(super) fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn channel_of(scheme: &str) -> Result<Channel, RedisUrlFault> {
    match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => Ok(Channel::Plain),
        "rediss" | "valkeys" => Ok(Channel::Tls),
        "unix" | "redis+unix" | "valkey+unix" | "redis+socket" => Err(RedisUrlFault::UnixSocket),
        _ => Err(RedisUrlFault::Scheme),
    }
}

type Credentials = (Option<Box<str>>, Option<SecretString>);

fn read_credentials(text: &str) -> Result<Credentials, RedisUrlFault> {
    let (user, password) = text.split_once(':').ok_or(RedisUrlFault::UserAlone)?;
    if password.is_empty() {
        return Err(RedisUrlFault::EmptyCredential);
    }
    let user = if user.is_empty() { None } else { Some(unescape(user)?.into_boxed_str()) };
    Ok((user, Some(SecretString::from(unescape(password)?))))
}

fn unescape(text: &str) -> Result<String, RedisUrlFault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let (digits, after) = after.split_at_checked(2).ok_or(RedisUrlFault::Escape)?;
            bytes.push(hex_pair(digits).ok_or(RedisUrlFault::Escape)?);
            rest = after;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| RedisUrlFault::Escape)
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |value: u8, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u8::try_from(digit).ok()?)
    })
}

/// Host, without brackets, and port.
fn read_place(text: &str) -> Result<(Box<str>, Option<u16>), RedisUrlFault> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(RedisUrlFault::Host)?;
        let address: Ipv6Addr = address.parse().map_err(|_| RedisUrlFault::Host)?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(read_port(port)?),
            None if port.is_empty() => None,
            None => return Err(RedisUrlFault::Port),
        };
        return Ok((address.to_string().into(), port));
    }
    if text.contains(',') {
        return Err(RedisUrlFault::SeveralHosts);
    }
    let (host, port) = match text.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(RedisUrlFault::Brackets),
        Some((host, port)) => (host, Some(read_port(port)?)),
        None => (text, None),
    };
    if host.is_empty() {
        return Err(RedisUrlFault::NoHost);
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.len() > 253 || !host.chars().all(is_plain) {
        return Err(RedisUrlFault::Host);
    }
    Ok((host.into(), port))
}

fn read_port(text: &str) -> Result<u16, RedisUrlFault> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or(RedisUrlFault::Port)
}

fn read_database(path: &str) -> Result<u32, RedisUrlFault> {
    if path.contains(['?', '#']) {
        return Err(RedisUrlFault::Options);
    }
    let number = path.strip_prefix('/').unwrap_or(path);
    if number.is_empty() {
        return Ok(0);
    }
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits).ok_or(RedisUrlFault::Database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RedisUrl, RedisUrlFault> {
        RedisUrl::parse(&SecretString::from(text))
    }

    /// Scheme, user, password, place and database as they were understood.
    fn check(text: &str, understood: &str) {
        let url = read(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let password = url.password().map(|password| password.expose_secret().to_owned());
        let shown = format!(
            "{:?} {} {} {} {}",
            url.channel,
            url.user.as_deref().unwrap_or("-"),
            password.as_deref().unwrap_or("-"),
            url.host_and_port(),
            url.database
        );
        assert_eq!(shown, understood, "{text}");
    }

    fn check_fault(text: &str, fault: RedisUrlFault) {
        assert_eq!(read(text).unwrap_err(), fault, "{text}");
    }

    #[test]
    fn sound_urls_are_understood() {
        check("redis://localhost", "Plain - - localhost:6379 0");
        check("redis://localhost/", "Plain - - localhost:6379 0");
        check("redis://127.0.0.1:7000/3", "Plain - - 127.0.0.1:7000 3");
        check("rediss://cache.example.com:6380", "Tls - - cache.example.com:6380 0");
        check("REDIS://Host_1", "Plain - - Host_1:6379 0");
        check("valkey://v", "Plain - - v:6379 0");
        check("valkeys://v:1", "Tls - - v:1 0");
        check("redis://:secret@h", "Plain - secret h:6379 0");
        check("redis://gate:secret@h:65535/15", "Plain gate secret h:65535 15");
        check("redis://gate:a:b@h", "Plain gate a:b h:6379 0");
        check("redis://gate:a@b@h", "Plain gate a@b h:6379 0");
        check("redis://g%40te:p%2Fw%3f%23%25%20@h", "Plain g@te p/w?#%  h:6379 0");
        check("redis://:gr%C3%BC%C3%9Fe@h", "Plain - grüße h:6379 0");
        check("redis://[::1]", "Plain - - [::1]:6379 0");
        check("rediss://u:p@[2001:DB8::0:1]:7001/2", "Tls u p [2001:db8::1]:7001 2");
    }

    #[test]
    fn mistakes_are_told_by_what_they_are() {
        check_fault("", RedisUrlFault::Empty);
        check_fault("localhost:6379", RedisUrlFault::NotAUrl);
        check_fault("redis:localhost", RedisUrlFault::NotAUrl);
        check_fault("http://localhost", RedisUrlFault::Scheme);
        check_fault("://localhost", RedisUrlFault::Scheme);
        check_fault("unix:///run/redis.sock", RedisUrlFault::UnixSocket);
        check_fault("redis+unix:///run/redis.sock", RedisUrlFault::UnixSocket);
        check_fault(" redis://h", RedisUrlFault::Space);
        check_fault("redis://:a b@h", RedisUrlFault::Space);
        check_fault("redis://h\n", RedisUrlFault::Space);
        check_fault("redis://gate@h", RedisUrlFault::UserAlone);
        check_fault("redis://gate:@h", RedisUrlFault::EmptyCredential);
        check_fault("redis://:@h", RedisUrlFault::EmptyCredential);
        check_fault("redis://:pa/ss@h", RedisUrlFault::BareCredential);
        check_fault("redis://:pa#ss@h", RedisUrlFault::BareCredential);
        check_fault("redis://:pa?ss@h", RedisUrlFault::BareCredential);
        check_fault("redis://:100%@h", RedisUrlFault::Escape);
        check_fault("redis://:%zz@h", RedisUrlFault::Escape);
        check_fault("redis://:%+1@h", RedisUrlFault::Escape);
        check_fault("redis://:%ff@h", RedisUrlFault::Escape);
        check_fault("redis://", RedisUrlFault::NoHost);
        check_fault("redis://:6379", RedisUrlFault::NoHost);
        check_fault("redis:///0", RedisUrlFault::NoHost);
        check_fault("redis://a:1,b:2", RedisUrlFault::SeveralHosts);
        check_fault("redis://h*st", RedisUrlFault::Host);
        check_fault("redis://[::1", RedisUrlFault::Host);
        check_fault("redis://[1.2.3.4]", RedisUrlFault::Host);
        check_fault("redis://::1", RedisUrlFault::Brackets);
        check_fault("redis://h:0", RedisUrlFault::Port);
        check_fault("redis://h:65536", RedisUrlFault::Port);
        check_fault("redis://h:+1", RedisUrlFault::Port);
        check_fault("redis://h:", RedisUrlFault::Port);
        check_fault("redis://[::1]6379", RedisUrlFault::Port);
        check_fault("redis://h/one", RedisUrlFault::Database);
        check_fault("redis://h/-1", RedisUrlFault::Database);
        check_fault("redis://h/0/1", RedisUrlFault::Database);
        check_fault("redis://h/0?protocol=resp3", RedisUrlFault::Options);
        check_fault("rediss://h#insecure", RedisUrlFault::Options);
    }

    #[test]
    fn databases_are_for_single_nodes() {
        assert_eq!(read("redis://h/1").unwrap().for_cluster().unwrap_err(), RedisUrlFault::DatabaseInCluster);
        assert_eq!(
            read("redis://h/1").unwrap().for_sentinel().unwrap_err(),
            RedisUrlFault::DatabaseInSentinel
        );
        assert_eq!(read("redis://h/0").unwrap().for_cluster().unwrap().host_and_port(), "h:6379");
        assert_eq!(read("redis://h").unwrap().for_sentinel().unwrap().host_and_port(), "h:26379");
        assert_eq!(read("redis://h:1").unwrap().for_sentinel().unwrap().host_and_port(), "h:1");
    }

    #[test]
    fn neither_debug_nor_fault_shows_credentials() {
        let url = read("redis://gate:hunter2@h/1").unwrap();
        assert_eq!(format!("{url:?}"), "RedisUrl(h:6379)");
        for text in
            ["redis://gate:hunter2%@h", "redis://gate:hun/ter2@h", "gate:hunter2@h", "x://gate:hunter2@h"]
        {
            let fault = read(text).unwrap_err();
            assert!(!format!("{fault} {fault:?}").contains("hun"), "{fault}");
        }
    }
}
