//! Redis over TLS: a server that somebody trusted vouches for is used, another is not.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::eventually;
use crate::harness::gateway::preamble;
use crate::harness::redis::RedisServer;

use super::store_at;

const RULES: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/min }, on_store_error: closed }] }]";

/// A certificate for 127.0.0.1 and its key, which prove nothing to anybody: both are in the repository.
fn throwaway(folder: &Path) -> (String, String) {
    let pem = |name: &str, kind: &str, base64: &str| {
        let path = folder.join(name);
        let text = format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", base64.trim());
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path of letters").to_owned()
    };
    (
        pem(
            "cert.pem",
            "CERTIFICATE",
            include_str!("../../../src/http_client/tests/certificate_throwaway.b64"),
        ),
        pem("key.pem", "PRIVATE KEY", include_str!("../../../src/http_client/tests/key_throwaway.b64")),
    )
}

struct Secured {
    redis: RedisServer,
    url: String,
    certificate: String,
    _folder: TempDir,
}

impl Secured {
    async fn start() -> Secured {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = throwaway(folder.path());
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("it").port();
        let redis = RedisServer::with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-auth-clients",
            "no",
        ])
        .await;
        Secured { redis, url: format!("rediss://127.0.0.1:{port}"), certificate, _folder: folder }
    }

    async fn gateway(&self, backend: &Backend, roots: &str) -> Running {
        let rules = format!("{}{RULES}", store_at(&self.url, "timeout: 5s"));
        Running::launch(&preamble(backend.addr()), &rules, &[("SSL_CERT_FILE", roots)]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_used_over_tls_if_it_is_vouched_for() {
    let (secured, backend) = (Secured::start().await, Backend::ok().await);
    let gateway = secured.gateway(&backend, &secured.certificate).await;
    let mut client = crate::harness::client::Client::connect(gateway.address).await;
    for expected in [200, 200, 429] {
        assert_eq!(client.request("GET", "/").send().await.status, expected);
    }
    assert_eq!(secured.redis.counters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_vouches_for_is_not_talked_to() {
    let (secured, backend) = (Secured::start().await, Backend::ok().await);
    // Some other authority is trusted: a file without certificates would be an error of its own.
    let others =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let others = others.into_iter().find(|path| Path::new(path).exists()).unwrap_or("/nonexistent");
    let gateway = secured.gateway(&backend, others).await;
    eventually("the gateway to give up", Duration::from_secs(10), async || {
        (gateway.metric("tollgate_store_up").await == 0.0).then_some(())
    })
    .await;
    let mut client = crate::harness::client::Client::connect(gateway.address).await;
    assert_eq!(client.request("GET", "/").send().await.status, 503);
    assert!(secured.redis.counters().await.is_empty());
}
