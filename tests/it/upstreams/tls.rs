//! Servers that speak TLS: believed only with a certificate for their name, from whom the file says to believe.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollgate::clock::Clock;

use super::{ALL, before, file, statuses};
use crate::harness::backend::Backend;
use crate::harness::gateway::{Gateway, START};
use crate::harness::h2::H2Backend;
use crate::harness::tls::{Authority, TlsFront};
use crate::harness::{PATIENCE, eventually};

const DISTRUSTED: &str = r#"tollgate_upstream_failures_total{kind="tls",upstream="app"}"#;

fn server(address: SocketAddr, more: &str) -> String {
    format!("servers: [{{ address: \"{address}\", tls: true{more} }}], retries: 0")
}

fn written(authority: &Authority, folder: &Path) -> String {
    let path = folder.join("ca.pem");
    std::fs::write(&path, authority.pem()).unwrap();
    format!(", ca: \"{}\"", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_believed_by_its_name_and_its_authority_alone() {
    let (folder, authority, backend) = (tempfile::tempdir().unwrap(), Authority::new(), Backend::ok().await);
    let issued = authority.issue(&["backend.test", "127.0.0.1"], "backend");
    let front = TlsFront::start(backend.addr(), &issued, &["http/1.1"]).await;
    let ca = written(&authority, folder.path());
    let other = tempfile::tempdir().unwrap();
    let foreign = written(&Authority::new(), other.path());
    for (case, more, status) in [
        ("the right name", format!("{ca}, sni: backend.test"), 200),
        ("the address, which the certificate is for", ca.clone(), 200),
        ("another name", format!("{ca}, sni: other.test"), 502),
        ("another authority", format!("{foreign}, sni: backend.test"), 502),
        ("whom the system believes", ", sni: backend.test".to_owned(), 502),
    ] {
        let so_far = (backend.count(), front.names().len());
        let (gateway, _hand) = before(&server(front.addr(), &more)).await;
        assert_eq!(statuses(&gateway, 1).await, [status], "{case}");
        if status == 200 {
            assert_eq!(backend.count(), so_far.0 + 1, "{case}");
            let name = more.contains("sni").then(|| "backend.test".to_owned());
            assert_eq!(front.names()[so_far.1..], [name], "{case}");
        } else {
            assert_eq!(backend.count(), so_far.0, "{case}");
            assert_eq!(gateway.metric(DISTRUSTED).await, 1.0, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_not_spoken_to_where_it_is_wanted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (gateway, _hand) = before(&server(listener.local_addr().unwrap(), "")).await;
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let mut read = Vec::new();
        // It ends with a reset or without.
        let _ended = stream.read_to_end(&mut read).await;
        read
    });
    assert_eq!(statuses(&gateway, 1).await, [502]);
    assert_eq!(gateway.metric(DISTRUSTED).await, 1.0);
    let read = plain.await.unwrap();
    assert!(!read.windows(4).any(|bytes| bytes == b"GET "), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_and_http_2_go_by_tls_too() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let issued = authority.issue(&["backend.test"], "backend");
    let backend = H2Backend::start().await;
    let front = TlsFront::start(backend.address(), &issued, &["h2"]).await;
    let more = format!("{}, sni: backend.test", written(&authority, folder.path()));
    let upstream = format!(
        "{}, protocol: http2, health_check: {{ path: /healthz, interval: 1h }}",
        server(front.addr(), &more)
    );
    let (gateway, _hand) = before(&upstream).await;
    assert_eq!(statuses(&gateway, 2).await, [200; 2]);
    let check = eventually("a check", PATIENCE, async || {
        backend.received().into_iter().find(|request| request.uri.path() == "/healthz")
    })
    .await;
    let authority = format!("backend.test:{}", front.addr().port());
    assert_eq!(check.uri.authority().map(|name| name.as_str()), Some(authority.as_str()));
    assert_eq!(check.uri.scheme_str(), Some("https"));
    assert!(front.names().iter().all(|name| name.as_deref() == Some("backend.test")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_others_vouched_for_is_not_used_again() {
    let (folder, authority, backend) = (tempfile::tempdir().unwrap(), Authority::new(), Backend::ok().await);
    let front =
        TlsFront::start(backend.addr(), &authority.issue(&["backend.test"], "backend"), &["http/1.1"]).await;
    let more = format!("{}, sni: backend.test", written(&authority, folder.path()));
    let gateway = Gateway::launch(&file(&server(front.addr(), &more)), ALL, Clock::manual(START).0)
        .await
        .expect("it starts");
    assert_eq!(statuses(&gateway, 2).await, [200; 2]);
    assert_eq!(front.names().len(), 1, "one connection for both");
    written(&Authority::new(), folder.path());
    gateway.reloaded("ok", 2).await;
    assert_eq!(statuses(&gateway, 1).await, [502]);
    assert_eq!(backend.count(), 2);
}
