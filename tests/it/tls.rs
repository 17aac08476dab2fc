//! HTTPS: what is agreed on, which certificate is shown, files that change, clients that show certificates.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use http::{Method, StatusCode};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tollgate::clock::Clock;
use tollgate::config::Environment;

use crate::harness::backend::{Backend, Reply};
use crate::harness::client::Client;
use crate::harness::gateway::{Gateway, replace};
use crate::harness::h2::{H2Client, in_time};
use crate::harness::tls::{Authority, Issued, TlsClient, ask};

const OPEN: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
const TWO: &str =
    "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/min } }] }]";
const ONE_PAIR: &str = "{ address: 127.0.0.1:0, hsts: 365d, tls: { cert: a.pem, key: a.key } }";

/// A gateway whose files lie beside its configuration.
struct Site {
    gateway: Gateway,
    authority: Authority,
    folder: TempDir,
}

impl Site {
    /// `a` and `b` are certificates for `a.example` and `b.example`, `ca.pem` the authority of clients.
    async fn start(backend: &Backend, listen: &str, rules: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        for name in ["a", "b"] {
            authority.issue(&[&format!("{name}.example")], name).write(folder.path(), name);
        }
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let config = folder.path().join("gateway.yaml");
        let backend = backend.addr();
        let text = format!(
            "version: 1\nlisten: [{listen}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
             upstreams: {{ app: {{ servers: [\"{backend}\"] }} }}\n{rules}"
        );
        std::fs::write(&config, text).unwrap();
        let gateway = Gateway::from_file(&config, Environment::empty(), Clock::system()).await.unwrap();
        Site { gateway, authority, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn client(&self) -> TlsClient<'_> {
        TlsClient::of(&self.authority)
    }

    async fn h2(&self) -> H2Client {
        let stream = self.client().asking_for(&["h2"]).connect(self.gateway.address, "a.example").await;
        H2Client::over(stream.unwrap(), "https", "a.example").await.unwrap()
    }

    /// The certificate that is shown to who asks for this name.
    async fn shown(&self, name: &str) -> Vec<u8> {
        let stream = self.client().connect(self.gateway.address, name).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

#[tokio::test]
async fn what_comes_within_is_checked_as_strictly() {
    let backend = Backend::ok().await;
    let listen = ONE_PAIR.replace("hsts: 365d", "header_timeout: 300ms");
    let site = Site::start(&backend, &listen, OPEN).await;
    for (raw, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", "408"),
    ] {
        let mut stream = site.client().connect(site.gateway.address, "a.example").await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        let mut answer = String::new();
        in_time(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{raw:?}: {answer}");
    }
    let mut silent = TcpStream::connect(site.gateway.address).await.unwrap();
    let mut rest = Vec::new();
    in_time(silent.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
    assert_eq!(site.gateway.metric("tollgate_connections_timed_out_total{awaited=\"head\"}").await, 1.0);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn the_protocol_is_agreed_on() {
    let backend = Backend::ok().await;
    let site = Site::start(&backend, ONE_PAIR, OPEN).await;
    for (asked, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = site.client().asking_for(asked);
        let mut stream = client.connect(site.gateway.address, "a.example").await.unwrap();
        let alpn = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(alpn.as_deref(), agreed, "{asked:?}");
        if agreed == Some("h2") {
            let mut client = H2Client::over(stream, "https", "a.example").await.unwrap();
            assert_eq!(client.get("/").await.status, StatusCode::OK);
        } else {
            assert!(ask(&mut stream, "/").await.unwrap().starts_with("HTTP/1.1 200 "));
        }
    }
    assert_eq!(backend.count(), 4);
}

#[tokio::test]
async fn both_versions_that_are_safe_are_spoken() {
    let backend = Backend::ok().await;
    let site = Site::start(&backend, ONE_PAIR, OPEN).await;
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let only: &'static [&'static SupportedProtocolVersion] = Box::leak(Box::new([version]));
        let client = site.client().speaking(only);
        let mut stream = client.connect(site.gateway.address, "a.example").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        assert!(ask(&mut stream, "/").await.unwrap().starts_with("HTTP/1.1 200 "));
    }
    // Plain HTTP is no TLS: the connection ends, and the next one is served.
    let mut plain = Client::connect(site.gateway.address).await;
    plain.send_raw(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(plain.answer_to("GET").await.is_err());
    assert_eq!(site.h2().await.get("/").await.status, StatusCode::OK);
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn every_answer_keeps_browsers_on_https_and_the_backend_knows() {
    let backend = Backend::ok().await;
    let site = Site::start(&backend, ONE_PAIR, TWO).await;
    let mut client = site.h2().await;
    for status in [200, 200, 429] {
        let request = client.request(Method::GET, "/").header("x-forwarded-proto", "http");
        let answer = client.send(request, b"").await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000"));
    }
    for received in backend.received() {
        assert_eq!(received.headers.get_all("x-forwarded-proto"), ["https"]);
        assert_eq!(received.headers.get_all("host"), ["a.example"]);
    }
}

#[tokio::test]
async fn certificates_are_chosen_by_the_name_that_is_asked_for() {
    let backend = Backend::ok().await;
    let listen = "{ address: 127.0.0.1:0, tls: { certificates: [{ cert: a.pem, key: a.key }, { cert: b.pem, key: b.key }] } }";
    let site = Site::start(&backend, listen, OPEN).await;
    assert_ne!(site.shown("a.example").await, site.shown("b.example").await);
    // Of no name that it has it shows the first, which this client does not take for that name.
    let refused = site.client().connect(site.gateway.address, "c.example").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[tokio::test]
async fn new_files_are_shown_to_new_connections_and_old_ones_live_on() {
    let backend = Backend::ok().await;
    let site = Site::start(&backend, ONE_PAIR, OPEN).await;
    let before = site.shown("a.example").await;
    let mut old = site.h2().await;
    old.get("/").await;

    let end = "tollgate_certificate_end_timestamp_seconds{listener=\"127.0.0.1:0\"}";
    assert!(site.gateway.metric(end).await > 1e10);

    let renewed = site.authority.issue(&["a.example"], "renewed");
    replace(&site.path().join("a.pem"), &renewed.cert);
    // For as long as the key is that of the old one, the two do not fit, and the old pair stays.
    site.gateway.reloaded("failed", 1).await;
    assert_eq!(site.shown("a.example").await, before);
    replace(&site.path().join("a.key"), &renewed.key);
    site.gateway.reloaded("ok", 2).await;
    assert_eq!(site.shown("a.example").await, renewed.der().to_vec());

    replace(&site.path().join("a.pem"), "no certificate");
    site.gateway.reloaded("failed", 2).await;
    assert_eq!(site.shown("a.example").await, renewed.der().to_vec());
    assert_eq!(old.get("/").await.status, StatusCode::OK);
    assert_eq!(backend.connections(), 1);
}

const PER_CERTIFICATE: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: client_cert, windows: { w: 1/min } }] }]";

async fn status(site: &Site, own: Option<&Issued>) -> Option<String> {
    let client = own.map_or_else(|| site.client(), |own| site.client().showing(own));
    let mut stream = client.connect(site.gateway.address, "a.example").await.ok()?;
    // With TLS 1.3 a client learns that it is refused when it reads.
    let answer = ask(&mut stream, "/").await.ok()?;
    Some(answer.split(' ').nth(1)?.to_owned())
}

#[tokio::test]
async fn clients_are_counted_by_their_certificates() {
    let backend = Backend::ok().await;
    let listen = "{ address: 127.0.0.1:0, tls: { cert: a.pem, key: a.key, client_ca: ca.pem } }";
    let site = Site::start(&backend, listen, PER_CERTIFICATE).await;
    let [one, two] = ["svc-one", "svc-two"].map(|name| site.authority.issue(&[], name));
    let again = site.authority.issue(&["other.example"], "svc-one");
    for (own, expected) in [(&one, "200"), (&two, "200"), (&one, "429"), (&again, "429"), (&two, "429")] {
        assert_eq!(status(&site, Some(own)).await.as_deref(), Some(expected));
    }
    assert_eq!(status(&site, None).await, None);
    let stranger = Authority::new().issue(&[], "svc-three");
    assert_eq!(status(&site, Some(&stranger)).await, None);
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn where_certificates_are_optional_their_lack_counts_by_address() {
    let backend = Backend::ok().await;
    let listen = "{ address: 127.0.0.1:0, tls: { cert: a.pem, key: a.key, client_ca: ca.pem, client_auth: optional } }";
    let site = Site::start(&backend, listen, PER_CERTIFICATE).await;
    let own = site.authority.issue(&[], "svc-one");
    assert_eq!(status(&site, None).await.as_deref(), Some("200"));
    assert_eq!(status(&site, None).await.as_deref(), Some("429"));
    assert_eq!(status(&site, Some(&own)).await.as_deref(), Some("200"));
    let stranger = Authority::new().issue(&[], "svc-one");
    assert_eq!(status(&site, Some(&stranger)).await, None);
}

#[tokio::test]
async fn plain_requests_are_sent_on_to_https() {
    let backend = Backend::ok().await;
    let listen = format!(
        "{{ address: 127.0.0.1:0, redirect_to_https: 443 }}, {{ address: 127.0.0.1:0, redirect_to_https: 8443 }}, {ONE_PAIR}"
    );
    let site = Site::start(&backend, &listen, OPEN).await;
    let [first, second, _] = *site.gateway.addresses() else { panic!("three listeners") };
    let mut client = Client::connect(first).await;
    for (host, target, expected) in [
        ("a.example", "/b//c?d=%2F&e", "https://a.example/b//c?d=%2F&e"),
        ("a.example:8080", "/", "https://a.example/"),
        ("[::1]:8080", "/", "https://[::1]/"),
    ] {
        let answer = client.request("POST", target).header("host", host).body("a body").send().await;
        assert_eq!((answer.status, answer.headers.get("location")), (308, Some(expected)));
        assert!(!answer.connection_closed);
    }
    let mut client = H2Client::connect(second).await;
    let answer = client.get("/x").await;
    let expected = "https://127.0.0.1:8443/x";
    assert_eq!((answer.status, answer.header("location")), (StatusCode::PERMANENT_REDIRECT, Some(expected)));
    assert_eq!(backend.count(), 0);
}

/// What is told of a listener that is set up so, in a folder with sound and broken files.
fn told(folder: &Path, listen: &str) -> Vec<String> {
    let config = folder.join("gateway.yaml");
    let text = format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0, {listen} }}]\nupstreams: {{ app: {{ servers: [\"127.0.0.1:1\"] }} }}\n{OPEN}"
    );
    std::fs::write(&config, text).unwrap();
    let refused = tollgate::config::load(&config, &Environment::empty()).unwrap_err();
    let brief: Vec<String> = refused.problems.brief().collect();
    brief.into_iter().map(|brief| brief.split_once(": listen[0].").unwrap().1.to_owned()).collect()
}

#[test]
fn broken_files_are_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = Authority::new();
    let [one, other] = ["one", "other"].map(|name| authority.issue(&["a.example"], name));
    one.write(path, "one");
    other.write(path, "other");
    std::fs::write(path.join("none.pem"), "nothing").unwrap();
    std::fs::write(path.join("cut.pem"), &one.cert[..one.cert.len() / 2]).unwrap();
    std::fs::write(path.join("odd.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    std::fs::write(path.join("binary.pem"), [0xff, 0xfe]).unwrap();
    let pair = |cert: &str, key: &str| format!("tls: {{ cert: {cert}, key: {key} }}");
    for (listen, expected) in [
        (
            pair("gone.pem", "one.key"),
            "tls.cert: cannot read the file `gone.pem`: No such file or directory (os error 2)",
        ),
        (
            pair("one.pem", "gone.key"),
            "tls.key: cannot read the file `gone.key`: No such file or directory (os error 2)",
        ),
        (pair("binary.pem", "one.key"), "tls.cert: the file `binary.pem` is not UTF-8 text"),
        (
            pair("none.pem", "one.key"),
            "tls.cert: the file `none.pem`: there is no certificate in PEM form in it",
        ),
        (pair("odd.pem", "one.key"), "tls.cert: the file `odd.pem`: certificate 1 in it is malformed"),
        (
            pair("one.pem", "none.pem"),
            "tls.key: the file `none.pem`: there is no private key in PEM form in it, or only an encrypted one",
        ),
        (
            pair("one.pem", "other.key"),
            "tls.key: the file `other.key`: the private key in it belongs to another certificate than `one.pem`",
        ),
        (
            "tls: { cert: one.pem, key: one.key, client_ca: none.pem }".to_owned(),
            "tls.client_ca: the file `none.pem`: there is no certificate in PEM form in it",
        ),
        (
            "tls: { cert: one.pem, key: one.key, client_auth: optional }".to_owned(),
            "tls.client_auth: nobody vouches for the certificates of clients; add `client_ca`, or remove `client_auth`",
        ),
        (
            format!("{}, redirect_to_https: 443", pair("one.pem", "one.key")),
            "redirect_to_https: a listener that speaks https sends nobody on to it; redirect on the plain listener, or remove `tls`",
        ),
    ] {
        assert_eq!(told(path, &listen), [expected], "{listen}");
    }
    assert!(told(path, &pair("cut.pem", "one.key"))[0].contains("`cut.pem`: it is not sound PEM"));
    for (key, expected) in [
        (
            "client_auth: maybe",
            "tls.client_auth: `maybe` is not a demand on clients; write required or optional",
        ),
        (
            "ciphers: all",
            "tls.ciphers: unknown key `ciphers` in tls; it knows cert, key, certificates, client_ca, client_auth",
        ),
    ] {
        assert_eq!(told(path, &format!("tls: {{ cert: one.pem, key: one.key, {key} }}")), [expected]);
    }
    // Each of several is told.
    let many = "tls: { certificates: [{ cert: none.pem, key: one.key }, { cert: one.pem, key: other.key }] }";
    assert_eq!(told(path, many).len(), 2);
}

#[tokio::test]
async fn all_but_the_address_of_a_listener_changes_without_a_restart() {
    let backend = Backend::ok().await;
    let site = Site::start(&backend, "{ address: 127.0.0.1:0 }", OPEN).await;
    let mut old = Client::connect(site.gateway.address).await;
    assert_eq!(old.request("GET", "/").send().await.status, 200);
    let text = std::fs::read_to_string(site.gateway.config()).unwrap();
    // Also where one more listener waits for a restart.
    let more = format!("{{ address: 127.0.0.1:1 }}, {ONE_PAIR}");
    replace(site.gateway.config(), &text.replacen("{ address: 127.0.0.1:0 }", &more, 1));
    site.gateway.reloaded("ok", 2).await;
    assert_eq!(site.h2().await.get("/").await.status, StatusCode::OK);
    // Who is in already stays as it came.
    assert_eq!(old.request("GET", "/").send().await.status, 200);
    replace(site.gateway.config(), &text);
    site.gateway.reloaded("ok", 3).await;
    assert_eq!(Client::connect(site.gateway.address).await.request("GET", "/").send().await.status, 200);
}

async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    in_time(socket.connect(to)).await.unwrap()
}

/// Nothing comes, and then the end: what is not for a client of TLS to read is not said to it.
async fn is_closed_without_a_word(mut stream: TcpStream) {
    let mut rest = Vec::new();
    in_time(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest.escape_ascii().to_string(), "");
}

#[tokio::test]
async fn who_finds_no_room_costs_no_handshake_and_a_failed_one_takes_none() {
    let backend = Backend::ok().await;
    let listen = ONE_PAIR.replace("hsts: 365d", "max_connections: 3, max_connections_per_ip: 2");
    let site = Site::start(&backend, &listen, OPEN).await;
    let connections = "tollgate_connections";
    let refused = |limit: &str| format!("tollgate_connections_refused_total{{limit=\"{limit}\"}}");
    for _ in 0..5 {
        let mut no_tls = connect_from(1, site.gateway.address).await;
        no_tls.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        // An alert, and the end.
        let _ended = in_time(no_tls.read_to_end(&mut Vec::new())).await;
        site.gateway.reaches(connections, 0.0).await;
    }
    let mut kept = Vec::new();
    for last in [1, 1, 2] {
        let stream = connect_from(last, site.gateway.address).await;
        let stream = site.client().asking_for(&["h2"]).over(stream, "a.example").await.unwrap();
        let mut client = H2Client::over(stream, "https", "a.example").await.unwrap();
        assert_eq!(client.get("/").await.status, StatusCode::OK);
        kept.push(client);
    }
    assert_eq!(site.gateway.metric(connections).await, 3.0);
    // Of those here nobody has sent anything.
    is_closed_without_a_word(connect_from(3, site.gateway.address).await).await;
    let one_more = connect_from(3, site.gateway.address).await;
    assert!(site.client().over(one_more, "a.example").await.is_err());
    assert_eq!(site.gateway.metric(&refused("max_connections")).await, 2.0);
    drop(kept.pop());
    site.gateway.reaches(connections, 2.0).await;
    is_closed_without_a_word(connect_from(1, site.gateway.address).await).await;
    assert_eq!(site.gateway.metric(&refused("max_connections_per_ip")).await, 1.0);
    // A handshake under way has its place.
    let silent = connect_from(2, site.gateway.address).await;
    site.gateway.reaches(connections, 3.0).await;
    is_closed_without_a_word(connect_from(3, site.gateway.address).await).await;
    drop(silent);
    site.gateway.reaches(connections, 2.0).await;
    let stream = connect_from(3, site.gateway.address).await;
    assert!(site.client().over(stream, "a.example").await.is_ok());
    assert_eq!(site.gateway.metric("tollgate_malformed_requests_total{fault=\"tls\"}").await, 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_ends_without_a_good_bye() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/half" => Reply::new(200).body("all of it").half(),
        _ => Reply::new(200).body("all of it"),
    })
    .await;
    let site = Site::start(&backend, ONE_PAIR, OPEN).await;
    for (target, is_whole) in [("/", true), ("/half", false)] {
        let mut stream = site.client().connect(site.gateway.address, "a.example").await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = in_time(stream.read_to_end(&mut answer)).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{target}");
        assert_eq!(ended.is_ok(), is_whole, "{target}: {ended:?}");
    }
}
