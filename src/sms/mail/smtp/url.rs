//! Where a mail server is, and who we are to it.

use std::fmt;
use std::net::IpAddr;

use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

const SUBMISSION_PORT: u16 = 587;
const SUBMISSIONS_PORT: u16 = 465;

/// `smtps://[user:password@]host[:port]`, encrypted from the first byte, or `smtp://…`, encrypted before anything is
/// said (STARTTLS) unless the host is this machine. User and password have what is special in URLs escaped.
#[derive(Clone)]
pub struct SmtpUrl {
    host: Box<str>,
    port: u16,
    security: Security,
    credentials: Option<(Box<str>, SecretString)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// Nobody but this machine sees the bytes.
    None,
    StartTls,
    Tls,
}

/// What is wrong with the URL; says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SmtpUrlFault {
    #[error("it begins with smtps:// or smtp://")]
    Scheme,
    #[error("it ends with the host and its port")]
    Path,
    #[error("the host is none")]
    Host,
    #[error("the port is none")]
    Port,
    #[error("before the @ stand user:password, with what is special in URLs as %XX")]
    Credentials,
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpUrl({}:{})", self.host, self.port)
    }
}

impl SmtpUrl {
    pub fn parse(url: &SecretString) -> Result<SmtpUrl, SmtpUrlFault> {
        let (scheme, rest) = url.expose_secret().split_once("://").ok_or(SmtpUrlFault::Scheme)?;
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "smtps" => true,
            "smtp" => false,
            _ => return Err(SmtpUrlFault::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(SmtpUrlFault::Path);
        }
        let (user_info, server) = match authority.rsplit_once('@') {
            Some((user_info, server)) => (Some(user_info), server),
            None => (None, authority),
        };
        let (host, port) = host_and_port(server)?;
        let security = match (is_encrypted, is_loopback(host)) {
            (true, _) => Security::Tls,
            (false, true) => Security::None,
            (false, false) => Security::StartTls,
        };
        let usual = if is_encrypted { SUBMISSIONS_PORT } else { SUBMISSION_PORT };
        let credentials =
            user_info.map(|pair| credentials(pair).ok_or(SmtpUrlFault::Credentials)).transpose()?;
        Ok(SmtpUrl { host: host.into(), port: port.unwrap_or(usual), security, credentials })
    }

    /// A name or an address, without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn security(&self) -> Security {
        self.security
    }

    pub(super) fn credentials(&self) -> Option<(&str, &SecretString)> {
        self.credentials.as_ref().map(|(user, password)| (&**user, password))
    }
}

fn host_and_port(server: &str) -> Result<(&str, Option<u16>), SmtpUrlFault> {
    let (host, port) = match server.strip_prefix('[') {
        Some(bracketed) => {
            let (host, behind) = bracketed.split_once(']').ok_or(SmtpUrlFault::Host)?;
            match behind {
                "" => (host, None),
                _ => (host, Some(behind.strip_prefix(':').ok_or(SmtpUrlFault::Port)?)),
            }
        }
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let is_name =
        |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let is_host = match server.starts_with('[') {
        true => host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
        false => !host.is_empty() && is_name(host),
    };
    if !is_host {
        return Err(SmtpUrlFault::Host);
    }
    let number = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(SmtpUrlFault::Port);
    Ok((host, port.map(number).transpose()?))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Both are there, and neither holds a control character: SASL separates its fields by NUL.
fn credentials(pair: &str) -> Option<(Box<str>, SecretString)> {
    let (user, password) = pair.split_once(':')?;
    let (user, password) = (unescaped(user)?, unescaped(password)?);
    let is_plain = |text: &str| !text.is_empty() && !text.contains(char::is_control);
    (is_plain(&user) && is_plain(&password)).then(|| (user.into(), password.into()))
}

fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, plain) = piece.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(plain.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SmtpUrl, SmtpUrlFault> {
        SmtpUrl::parse(&text.into())
    }

    #[test]
    fn a_server_is_spoken_to_in_secret_unless_it_is_here() {
        for (text, host, port, security) in [
            ("smtps://mail.example.com", "mail.example.com", 465, Security::Tls),
            ("smtps://127.0.0.1:1465/", "127.0.0.1", 1465, Security::Tls),
            ("SMTP://mail.example.com:25", "mail.example.com", 25, Security::StartTls),
            ("smtp://mail.example.com", "mail.example.com", 587, Security::StartTls),
            ("smtp://127.0.0.1.example.com", "127.0.0.1.example.com", 587, Security::StartTls),
            ("smtp://10.0.0.1", "10.0.0.1", 587, Security::StartTls),
            ("smtp://127.0.0.1:1025", "127.0.0.1", 1025, Security::None),
            ("smtp://localhost:1025", "localhost", 1025, Security::None),
            ("smtp://[::1]:1025", "::1", 1025, Security::None),
            ("smtp://[2001:db8::1]", "2001:db8::1", 587, Security::StartTls),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.host(), url.port(), url.security()), (host, port, security), "{text}");
            assert!(url.credentials().is_none());
        }
    }

    #[test]
    fn user_and_password_may_hold_anything_escaped() {
        let url = parse("smtps://ada%40example.com:p%3Aa%2Fs%25s%C3%A9@mail.example.com:465").unwrap();
        let (user, password) = url.credentials().unwrap();
        assert_eq!((user, password.expose_secret()), ("ada@example.com", "p:a/s%s\u{e9}"));
        assert_eq!(format!("{url:?}"), "SmtpUrl(mail.example.com:465)");
        // The last @ ends them.
        let url = parse("smtps://ada@example.com:secret@mail.example.com").unwrap();
        assert_eq!(url.credentials().unwrap().0, "ada@example.com");
    }

    #[test]
    fn a_mistake_is_told_without_what_it_holds() {
        for (text, fault) in [
            ("", SmtpUrlFault::Scheme),
            ("mail.example.com", SmtpUrlFault::Scheme),
            ("https://mail.example.com", SmtpUrlFault::Scheme),
            ("smtps://mail.example.com/x", SmtpUrlFault::Path),
            ("smtps://mail.example.com?tls=none", SmtpUrlFault::Path),
            ("smtps://", SmtpUrlFault::Host),
            ("smtps://mail example.com", SmtpUrlFault::Host),
            ("smtps://[::1", SmtpUrlFault::Host),
            ("smtps://[mail.example.com]", SmtpUrlFault::Host),
            ("smtps://m\u{e4}il.example.com", SmtpUrlFault::Host),
            ("smtps://mail.example.com:", SmtpUrlFault::Port),
            ("smtps://mail.example.com:0", SmtpUrlFault::Port),
            ("smtps://mail.example.com:65536", SmtpUrlFault::Port),
            ("smtps://[::1]465", SmtpUrlFault::Port),
            ("smtps://ada@mail.example.com", SmtpUrlFault::Credentials),
            ("smtps://:secret@mail.example.com", SmtpUrlFault::Credentials),
            ("smtps://ada:@mail.example.com", SmtpUrlFault::Credentials),
            ("smtps://ada:%zz@mail.example.com", SmtpUrlFault::Credentials),
            ("smtps://ada:%+1@mail.example.com", SmtpUrlFault::Credentials),
            ("smtps://ada:%4@mail.example.com", SmtpUrlFault::Credentials),
            ("smtps://ada:a%00b@mail.example.com", SmtpUrlFault::Credentials),
            ("smtps://ada:%ff@mail.example.com", SmtpUrlFault::Credentials),
        ] {
            assert_eq!(parse(text).map(|_| ()), Err(fault), "{text}");
        }
    }
}
