//! The PROXY protocol, versions 1 and 2: a proxy in front says whom it speaks for.
//!
//! Strict: what is not exactly as the specification (haproxy.org, proxy-protocol.txt, 2020/03/05) has it ends the
//! connection, for the address in it decides whom requests are counted for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// No header is longer, bytes: one line of version 1 has 107 at most, and additions to one of version 2 are few.
pub(super) const HEADER_MAX: usize = 4096;

const LINE_MAX: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Not all of the header is there.
    More,
    /// A whole header of so many bytes. The peer speaks for this client, or for itself.
    Header { client: Option<SocketAddr>, length: usize },
}

/// Why the first bytes of a connection are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum HeaderFault {
    #[error("it does not begin with a PROXY header")]
    Absent,
    #[error("its PROXY header is too long")]
    TooLong,
    #[error("its PROXY header is malformed")]
    Malformed,
    #[error("its PROXY header is of a version, command or family that is not supported")]
    Unsupported,
}

/// Reads the header that `bytes` begins with.
pub(super) fn parse(bytes: &[u8]) -> Result<Said, HeaderFault> {
    if begins(bytes, SIGNATURE) {
        version_2(bytes)
    } else if begins(bytes, LINE_START) {
        version_1(bytes)
    } else {
        Err(HeaderFault::Absent)
    }
}

/// Whether `bytes` begins with all of `start`, or is the beginning of it.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

fn version_1(bytes: &[u8]) -> Result<Said, HeaderFault> {
    let head = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_MAX { Ok(Said::More) } else { Err(HeaderFault::TooLong) };
    };
    let length = end + 2;
    let line = str::from_utf8(&head[LINE_START.len()..end]).map_err(|_| HeaderFault::Malformed)?;
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    match family {
        // Whatever follows is to be ignored.
        "UNKNOWN" => return Ok(Said::Header { client: None, length }),
        "TCP4" | "TCP6" => {}
        _ => return Err(HeaderFault::Unsupported),
    }
    let mut fields = rest.split(' ');
    let mut next = || fields.next().ok_or(HeaderFault::Malformed);
    let address = |text: &str| -> Option<IpAddr> {
        if family == "TCP4" { text.parse().ok().map(IpAddr::V4) } else { text.parse().ok().map(IpAddr::V6) }
    };
    let (source, destination) = (address(next()?), address(next()?));
    let (source_port, destination_port) = (port(next()?), port(next()?));
    if fields.next().is_some() || destination.is_none() || destination_port.is_none() {
        return Err(HeaderFault::Malformed);
    }
    let client = source.zip(source_port).map(|(ip, port)| SocketAddr::new(ip, port));
    Ok(Said::Header { client: Some(client.ok_or(HeaderFault::Malformed)?), length })
}

/// Decimal, without leading zeros or a sign.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

fn version_2(bytes: &[u8]) -> Result<Said, HeaderFault> {
    let Some(fixed) = bytes.get(..FIXED) else { return Ok(Said::More) };
    let (command, family) = (fixed[12], fixed[13]);
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > HEADER_MAX {
        return Err(HeaderFault::TooLong);
    }
    let Some(rest) = bytes.get(FIXED..length) else { return Ok(Said::More) };
    match command {
        // LOCAL: the peer looks whether we are there. What else it says is to be ignored.
        0x20 => return Ok(Said::Header { client: None, length }),
        0x21 => {}
        _ => return Err(HeaderFault::Unsupported),
    }
    let (client, additions) = match family {
        // Of a kind that has no address.
        0x00 => (None, rest),
        0x11 => {
            let (addresses, additions) = rest.split_first_chunk::<12>().ok_or(HeaderFault::Malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            (Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port)), additions)
        }
        0x21 => {
            let (source, others) = rest.split_first_chunk::<16>().ok_or(HeaderFault::Malformed)?;
            let (others, additions) = others.split_first_chunk::<20>().ok_or(HeaderFault::Malformed)?;
            let port = u16::from_be_bytes([others[16], others[17]]);
            (Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)), additions)
        }
        _ => return Err(HeaderFault::Unsupported),
    };
    are_sound(additions).then_some(Said::Header { client, length }).ok_or(HeaderFault::Malformed)
}

/// Whether these are type, length and value again and again. None of them says anything that is needed here.
fn are_sound(mut additions: &[u8]) -> bool {
    while let Some((&[_, high, low], rest)) = additions.split_first_chunk() {
        match rest.get(usize::from(u16::from_be_bytes([high, low]))..) {
            Some(rest) => additions = rest,
            None => return false,
        }
    }
    additions.is_empty()
}

#[cfg(test)]
mod tests;
