use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const PEER: &str = "10.0.0.1";
const TRUSTED: [&str; 3] = ["10.0.0.0/8", "203.0.113.0/24", "fd00::/8"];

fn rules(header: ForwardedHeader) -> ClientRules {
    let trusted = TRUSTED.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap()).collect();
    ClientRules { trusted, header, ipv6_prefix: 64 }
}

fn headers(name: &'static str, lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

fn check(header: ForwardedHeader, name: &'static str, lines: &[&str], expected: &str) {
    let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let client = rules(header).identify(PEER.parse().unwrap(), &headers(name, &bytes));
    assert_eq!(client.address, expected.parse::<IpAddr>().unwrap(), "{name}: {lines:?}");
    assert!(client.peer_is_trusted);
}

#[test]
fn x_forwarded_for_is_walked_from_the_right() {
    for (lines, expected) in [
        (&[][..], PEER),
        (&["198.51.100.7"], "198.51.100.7"),
        (&["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        (&["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        (&["1.1.1.1, 198.51.100.7, 10.0.0.2, 203.0.113.9"], "198.51.100.7"),
        (&["1.1.1.1", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
        (&["198.51.100.7", "10.0.0.2, 10.0.0.3"], "198.51.100.7"),
        (&["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        (&["10.0.0.9", "10.0.0.2"], "10.0.0.9"),
        (&["198.51.100.7:4711"], "198.51.100.7"),
        (&["198.51.100.7:4711, 10.0.0.2:80"], "198.51.100.7"),
        (&["2001:db8::7"], "2001:db8::7"),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["[2001:db8::7]:443"], "2001:db8::7"),
        (&["2001:db8::7, fd00::1"], "2001:db8::7"),
        (&["fe80::1%eth0"], "fe80::1"),
        (&["[fe80::1%25eth0]:1"], "fe80::1"),
        (&["::ffff:198.51.100.7"], "198.51.100.7"),
        (&["198.51.100.7, ::ffff:10.0.0.2"], "198.51.100.7"),
        (&[" \t198.51.100.7\t "], "198.51.100.7"),
        (&["198.51.100.7,10.0.0.2"], "198.51.100.7"),
        // What cannot be read ends the walk at the hop before it.
        (&["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
        (&["198.51.100.7, , 10.0.0.2"], "10.0.0.2"),
        (&["198.51.100.7,"], PEER),
        (&[""], PEER),
        (&["198.51.100.7", ""], PEER),
        (&["unknown"], PEER),
        (&["198.51.100.07"], PEER),
        (&["198.51.100"], PEER),
        (&["198.51.100.7:"], PEER),
        (&["198.51.100.7:99999"], PEER),
        (&["198.51.100.7:80:80"], PEER),
        (&["198.51.100.7 10.0.0.2"], PEER),
        (&["198.51.100.7; 10.0.0.2"], PEER),
        (&["[198.51.100.7]"], PEER),
        (&["[2001:db8::7"], PEER),
        (&["2001:db8::7]"], PEER),
        (&["[2001:db8::7]x"], PEER),
        (&["2001:db8::g"], PEER),
        (&["fe80::1%"], PEER),
        (&["\"198.51.100.7\""], PEER),
        (&["0x7f.1"], PEER),
        (&["3325256711"], PEER),
        (&["for=198.51.100.7"], PEER),
    ] {
        check(ForwardedHeader::XForwardedFor, "x-forwarded-for", lines, expected);
    }
}

#[test]
fn forwarded_is_walked_from_the_right() {
    for (lines, expected) in [
        (&["for=198.51.100.7"][..], "198.51.100.7"),
        (&["For=198.51.100.7;proto=https;by=10.0.0.1"], "198.51.100.7"),
        (&["proto=https;FOR=198.51.100.7"], "198.51.100.7"),
        (&["for=\"198.51.100.7:4711\""], "198.51.100.7"),
        (&["for=\"[2001:db8::7]:4711\""], "2001:db8::7"),
        (&["for=\"[2001:db8::7]\""], "2001:db8::7"),
        (&["for=\"198.51.100.7:_port\""], "198.51.100.7"),
        (&["for=1.1.1.1, for=198.51.100.7, for=10.0.0.2"], "198.51.100.7"),
        (&["for=198.51.100.7", "for=10.0.0.2"], "198.51.100.7"),
        (&["for=198.51.100.7; proto=http ; host=\"a,b;c\", for=10.0.0.2"], "198.51.100.7"),
        (&["for=198.51.100.7;host=\"a\\\",for=10.0.0.5\", for=10.0.0.2"], "198.51.100.7"),
        (&["for=198.51.100.7;"], "198.51.100.7"),
        (&["for=10.0.0.9, for=10.0.0.2"], "10.0.0.9"),
        // A quote that a client left open does not swallow what the proxy wrote.
        (&["for=\", for=198.51.100.7"], "198.51.100.7"),
        (&["for=\"1.1.1.1, for=198.51.100.7, for=\"10.0.0.2\""], "198.51.100.7"),
        (&["host=\"\\, for=198.51.100.7;host=\"x\""], "198.51.100.7"),
        (&["for=\"", "for=198.51.100.7"], "198.51.100.7"),
        // Obfuscated, unknown and malformed elements end the walk.
        (&["for=198.51.100.7, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
        (&["for=198.51.100.7, for=unknown, for=10.0.0.2"], "10.0.0.2"),
        (&["for=198.51.100.7, proto=https, for=10.0.0.2"], "10.0.0.2"),
        (&["for=_x"], PEER),
        (&["for=\"_x\""], PEER),
        (&["for=unknown"], PEER),
        (&["198.51.100.7"], PEER),
        (&["for=198.51.100.7;for=1.1.1.1"], PEER),
        (&["for=\"198.51.100.7"], PEER),
        (&["for=198.51.100.7\""], PEER),
        (&["for = 198.51.100.7"], PEER),
        (&["for=\"198.51.100.\\7\""], PEER),
        (&["for=198.51.100.7;proto"], PEER),
        (&[""], PEER),
    ] {
        check(ForwardedHeader::Forwarded, "forwarded", lines, expected);
    }
}

#[test]
fn a_single_address_header_must_agree_with_itself() {
    for (lines, expected) in [
        (&["198.51.100.7"][..], "198.51.100.7"),
        (&["2001:db8::7"], "2001:db8::7"),
        (&["::ffff:198.51.100.7"], "198.51.100.7"),
        (&["198.51.100.7", "198.51.100.7"], "198.51.100.7"),
        (&["198.51.100.7, 198.51.100.7:80"], "198.51.100.7"),
        (&["198.51.100.7", "198.51.100.8"], PEER),
        (&["198.51.100.7, 198.51.100.8"], PEER),
        (&["198.51.100.7", "x"], PEER),
        (&[""], PEER),
        (&[], PEER),
        (&["10.0.0.3"], "10.0.0.3"),
    ] {
        let header = ForwardedHeader::Single(HeaderName::from_static("x-real-ip"));
        check(header, "x-real-ip", lines, expected);
    }
}

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_claims() {
    let peer: IpAddr = "198.51.100.1".parse().unwrap();
    let headers = headers("x-forwarded-for", &[b"1.1.1.1"]);
    for header in [
        ForwardedHeader::XForwardedFor,
        ForwardedHeader::Forwarded,
        ForwardedHeader::Single(HeaderName::from_static("x-forwarded-for")),
    ] {
        let client = rules(header).identify(peer, &headers);
        assert_eq!((client.address, client.peer_is_trusted), (peer, false));
    }
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert!(rules(ForwardedHeader::XForwardedFor).identify(mapped, &headers).peer_is_trusted);
}

#[test]
fn what_a_client_piles_up_never_hides_its_own_address() {
    let junk: [Vec<u8>; 5] = [
        vec![b'x'; 3 * BYTES_MAX],
        b"1.1.1.1,".repeat(BYTES_MAX),
        vec![0xff; 64],
        vec![b'"'; 2 * BYTES_MAX + 1],
        b"10.0.0.1,".repeat(BYTES_MAX),
    ];
    for junk in junk {
        for (header, name, own) in [
            (ForwardedHeader::XForwardedFor, "x-forwarded-for", "198.51.100.7, 10.0.0.2"),
            (ForwardedHeader::Forwarded, "forwarded", "for=198.51.100.7, for=10.0.0.2"),
        ] {
            let line = [&junk, own.as_bytes()].join(&b","[..]);
            for lines in [&[&line[..]][..], &[&junk, own.as_bytes()]] {
                let client = rules(header.clone()).identify(PEER.parse().unwrap(), &headers(name, lines));
                assert_eq!(client.address, "198.51.100.7".parse::<IpAddr>().unwrap());
            }
        }
    }
}

#[test]
fn the_walk_is_bounded() {
    let chain = |hops: usize| format!("198.51.100.7{}", ", 10.0.0.2".repeat(hops));
    check(ForwardedHeader::XForwardedFor, "x-forwarded-for", &[&chain(HOPS_MAX - 1)], "198.51.100.7");
    check(ForwardedHeader::XForwardedFor, "x-forwarded-for", &[&chain(HOPS_MAX)], "10.0.0.2");
    let spaced = format!("198.51.100.7{}, 10.0.0.2", " ".repeat(BYTES_MAX));
    check(ForwardedHeader::XForwardedFor, "x-forwarded-for", &[&spaced], "10.0.0.2");
    // A line cut in the middle of an address is not read as another address.
    let cut = format!("198.51.100.71{},10.0.0.2", " ".repeat(BYTES_MAX - 11));
    check(ForwardedHeader::XForwardedFor, "x-forwarded-for", &[&cut], "10.0.0.2");
}

#[test]
fn transition_addresses_are_the_ipv4_address_in_them() {
    for (address, expected) in [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2002:c633:6407::1", "198.51.100.7"),
        ("2002:c633:6407:ffff:ffff:ffff:ffff:ffff", "198.51.100.7"),
        ("64:ff9b::198.51.100.7", "198.51.100.7"),
        ("2001:0:4136:e378:8000:63bf:39cc:9bf8", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001:1::7", "2001:1::7"),
        ("64:ff9b:1::198.51.100.7", "64:ff9b:1::198.51.100.7"),
        ("::1", "::1"),
        ("::198.51.100.7", "::198.51.100.7"),
        // Nobody gets in as a private address.
        ("2002:a00:1::1", "2002:a00:1::1"),
        ("64:ff9b::127.0.0.1", "64:ff9b::127.0.0.1"),
        ("64:ff9b::192.168.0.1", "64:ff9b::192.168.0.1"),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "2001:0:4136:e378:8000:63bf:f5ff:fffe"),
    ] {
        assert_eq!(canonical(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap(), "{address}");
    }
}

#[test]
fn one_ipv6_client_is_one_prefix() {
    let key = |address: &str, ipv6_prefix| {
        Client { address: address.parse().unwrap(), peer_is_trusted: false, ipv6_prefix }.key_bytes()
    };
    assert_eq!(key("2001:db8::1", 64), key("2001:db8::ffff:1", 64));
    assert_ne!(key("2001:db8::1", 64), key("2001:db8:0:1::1", 64));
    assert_eq!(key("2001:db8::1", 56), key("2001:db8:0:ff::1", 56));
    assert_ne!(key("2001:db8::1", 128), key("2001:db8::2", 128));
    assert_eq!(key("2001:db8::1", 255), key("2001:db8::1", 128));
    assert_eq!(key("2001:db8::1", 0), key("::", 0));
    assert_eq!(key("198.51.100.7", 64), key("198.51.100.7", 8));
    assert_ne!(key("198.51.100.7", 64), key("198.51.100.8", 64));
    assert_ne!(key("0.0.0.0", 64), key("::", 64));
}

proptest! {
    #[test]
    fn nothing_left_of_an_untrusted_hop_matters(junk in prop::collection::vec(0x20u8..=0xfe, 0..200)) {
        let junk: Vec<u8> = junk.into_iter().filter(|&byte| byte != 0x7f).collect();
        for (header, name, own) in [
            (ForwardedHeader::XForwardedFor, "x-forwarded-for", "198.51.100.7,10.0.0.2"),
            (ForwardedHeader::Forwarded, "forwarded", "for=\"198.51.100.7:1\",for=10.0.0.2"),
        ] {
            let line = [&junk, own.as_bytes()].join(&b","[..]);
            let client = rules(header).identify(PEER.parse().unwrap(), &headers(name, &[&line]));
            prop_assert_eq!(client.address, "198.51.100.7".parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn any_header_names_some_address(line in prop::collection::vec(0x20u8..=0x7e, 0..64)) {
        for (header, name) in
            [(ForwardedHeader::XForwardedFor, "x-forwarded-for"), (ForwardedHeader::Forwarded, "forwarded")]
        {
            let client = rules(header).identify(PEER.parse().unwrap(), &headers(name, &[&line]));
            prop_assert_eq!(canonical(client.address), client.address);
        }
    }
}

#[test]
fn a_network_is_what_one_site_commonly_has() {
    let client = |text: &str, prefix| Client::of_address(text.parse().unwrap(), prefix);
    let network = |text: &str| client(text, 64).network_bytes();
    assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
    assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
    assert_eq!(network("2001:db8:1:2::3"), network("2001:db8:1:ffff::1"));
    assert_ne!(network("2001:db8:1::"), network("2001:db8:2::"));
    assert_eq!(network("::ffff:192.0.2.9"), network("192.0.2.1"), "an IPv4 address in another spelling");
    // Whoever counts wider networks as one client does not count narrower ones here.
    assert_eq!(client("2001:db8:1::", 32).network_bytes(), client("2001:db8:2::", 32).network_bytes());
    assert_ne!(client("192.0.2.1", 64).key_bytes(), client("192.0.2.1", 64).network_bytes());
}

#[test]
fn a_client_and_its_network_are_told_as_they_are_counted() {
    let check = |text: &str, prefix, shown: &str, network: &str| {
        let client = Client::of_address(text.parse().unwrap(), prefix);
        assert_eq!((client.shown().as_str(), client.shown_network().as_str()), (shown, network));
    };
    check("192.0.2.7", 64, "192.0.2.7", "192.0.2.0/24");
    check("2001:db8:1:2:3::4", 64, "2001:db8:1:2::/64", "2001:db8:1::/48");
    check("2001:db8:1:2:3::4", 128, "2001:db8:1:2:3::4/128", "2001:db8:1::/48");
    check("2001:db8:1:2:3::4", 32, "2001:db8::/32", "2001:db8::/32");
    check("::ffff:192.0.2.7", 64, "192.0.2.7", "192.0.2.0/24");
}
