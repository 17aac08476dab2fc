use proptest::prelude::*;

use super::*;

fn header(client: Option<&str>, length: usize) -> Result<Said, HeaderFault> {
    Ok(Said::Header { client: client.map(|client| client.parse().unwrap()), length })
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

const V4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 1, 0xbb];

fn v6() -> Vec<u8> {
    let [source, destination] =
        ["2001:db8::9", "2001:db8::1"].map(|ip| ip.parse::<Ipv6Addr>().unwrap().octets());
    [&source[..], &destination, &[0x30, 0x39, 1, 0xbb]].concat()
}

#[test]
fn lines_of_version_1_are_read() {
    for (line, client) in [
        ("PROXY TCP4 203.0.113.9 10.0.0.1 12345 443", Some("203.0.113.9:12345")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", Some("255.255.255.255:65535")),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0", Some("0.0.0.0:0")),
        ("PROXY TCP6 2001:db8::9 2001:db8::1 12345 443", Some("[2001:db8::9]:12345")),
        ("PROXY UNKNOWN", None),
        ("PROXY UNKNOWN ffff::1 and whatever else", None),
    ] {
        let bytes = format!("{line}\r\nGET / HTTP/1.1\r\n\r\n");
        assert_eq!(parse(bytes.as_bytes()), header(client, line.len() + 2), "{line}");
    }
}

#[test]
fn malformed_lines_are_refused() {
    use HeaderFault::{Absent, Malformed, TooLong, Unsupported};
    let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
    for (line, fault) in [
        ("GET / HTTP/1.1", Absent),
        ("proxy TCP4 203.0.113.9 10.0.0.1 1 2", Absent),
        (" PROXY TCP4 203.0.113.9 10.0.0.1 1 2", Absent),
        ("PROXY\tTCP4 203.0.113.9 10.0.0.1 1 2", Absent),
        ("PROXY  TCP4 203.0.113.9 10.0.0.1 1 2", Unsupported),
        ("PROXY TCP5 203.0.113.9 10.0.0.1 1 2", Unsupported),
        ("PROXY UDP4 203.0.113.9 10.0.0.1 1 2", Unsupported),
        ("PROXY tcp4 203.0.113.9 10.0.0.1 1 2", Unsupported),
        ("PROXY ", Unsupported),
        ("PROXY TCP4", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 1", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 1 2 ", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 1 2 3", Malformed),
        ("PROXY TCP4  203.0.113.9 10.0.0.1 1 2", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 01 2", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 +1 2", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 65536 2", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 -1 2", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 1 x", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.256 1 2", Malformed),
        ("PROXY TCP4 203.0.113.09 10.0.0.1 1 2", Malformed),
        ("PROXY TCP4 0xcb.0.113.9 10.0.0.1 1 2", Malformed),
        ("PROXY TCP4 203.0.113 10.0.0.1 1 2", Malformed),
        ("PROXY TCP4 ::1 ::1 1 2", Malformed),
        ("PROXY TCP6 203.0.113.9 10.0.0.1 1 2", Malformed),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2", Malformed),
        ("PROXY TCP4 203.0.113.9 10.0.0.1 1 2\nX", Malformed),
        (&long, TooLong),
    ] {
        assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(fault), "{line}");
    }
    assert_eq!(parse(&[b'P'; 20]), Err(Absent));
    assert_eq!(parse(b"PROXY TCP4 \xff\r\n"), Err(Malformed));
}

#[test]
fn headers_of_version_2_are_read() {
    let additions = [&[4, 0, 0][..], &[1, 0, 2, b'h', b'2'], &[0xee, 0, 1, 0]].concat();
    for (command, family, rest, client) in [
        (0x21, 0x11, V4.to_vec(), Some("203.0.113.9:12345")),
        (0x21, 0x21, v6(), Some("[2001:db8::9]:12345")),
        (0x21, 0x11, [V4, &additions].concat(), Some("203.0.113.9:12345")),
        (0x21, 0x21, [&v6()[..], &additions].concat(), Some("[2001:db8::9]:12345")),
        (0x21, 0x00, Vec::new(), None),
        (0x20, 0x00, Vec::new(), None),
        (0x20, 0x11, V4.to_vec(), None),
        (0x20, 0x77, vec![1, 2, 3], None),
    ] {
        let mut bytes = v2(command, family, &rest);
        let length = bytes.len();
        bytes.extend_from_slice(b"\x16\x03\x01");
        assert_eq!(parse(&bytes), header(client, length), "{command:x} {family:x} {rest:?}");
    }
}

#[test]
fn malformed_headers_of_version_2_are_refused() {
    use HeaderFault::{Absent, Malformed, TooLong, Unsupported};
    for (bytes, fault) in [
        (v2(0x11, 0x11, V4), Unsupported),
        (v2(0x31, 0x11, V4), Unsupported),
        (v2(0x22, 0x11, V4), Unsupported),
        (v2(0x21, 0x12, V4), Unsupported),
        (v2(0x21, 0x31, &[0; 216]), Unsupported),
        (v2(0x21, 0x41, V4), Unsupported),
        (v2(0x21, 0x11, &V4[..11]), Malformed),
        (v2(0x21, 0x21, V4), Malformed),
        (v2(0x21, 0x21, &v6()[..35]), Malformed),
        (v2(0x21, 0x11, &[V4, &[1]].concat()), Malformed),
        (v2(0x21, 0x11, &[V4, &[1, 0]].concat()), Malformed),
        (v2(0x21, 0x11, &[V4, &[1, 0, 2, 9]].concat()), Malformed),
        (v2(0x21, 0x11, &[V4, &[0; 5000]].concat()), TooLong),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Absent),
        (b"\r\n\r\nGET".to_vec(), Absent),
    ] {
        assert_eq!(parse(&bytes), Err(fault), "{bytes:?}");
    }
}

#[test]
fn a_header_in_pieces_is_the_same_header() {
    let line = b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 443\r\n".to_vec();
    for whole in [line, v2(0x21, 0x21, &v6()), v2(0x20, 0, &[])] {
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Ok(Said::More), "{end} of {whole:?}");
        }
        assert!(matches!(parse(&whole), Ok(Said::Header { length, .. }) if length == whole.len()));
    }
}

proptest! {
    /// Whatever comes, it is told within the bound, and more bytes do not change what was told.
    #[test]
    fn any_bytes_are_told_in_the_end(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, &rest].concat();
        let mut told = None;
        for end in 0..=bytes.len() {
            match (told, parse(&bytes[..end])) {
                (None, Ok(Said::More)) => {}
                (None, said) => told = Some(said),
                (Some(before), said) => prop_assert_eq!(before, said),
            }
        }
        let filled = [&bytes[..], &[b'x'; HEADER_MAX]].concat();
        prop_assert_ne!(parse(&filled), Ok(Said::More));
    }
}
