//! The first codes after a start: nobody hears that the gateway is ready before they can be kept.

use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::harness::binary::Running;
use crate::harness::client::get;
use crate::harness::{PATIENCE, eventually};

/// A gateway that sends codes, on ports that are the same after a restart.
async fn running(backend: &Backend, provider: &Backend) -> Running {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    let (public, admin) = (free(), free());
    let preamble = preamble(backend.addr()).replacen("127.0.0.1:0", &public.to_string(), 1);
    let preamble = preamble.replacen("127.0.0.1:0", &admin.to_string(), 1);
    Running::launch(&preamble, &rules(provider, ""), &[]).await
}

/// Another program that writes the file and does not let go of it before it is told to.
fn locked(data: &Path) -> Connection {
    let other = Connection::open(data.join("journal.db")).expect("the journal");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    other
}

/// What the admin listener tells; nothing while none is there, or one that is about to go.
async fn phase(admin: SocketAddr) -> Option<String> {
    let told = Client::try_connect(admin).await.ok()?.request("GET", "/readyz").try_send().await.ok()?;
    told.json()["phase"].as_str().map(str::to_owned)
}

/// Lets the next gateway come to the locked journal, asks it for a code, and lets go of the journal.
async fn first_code(public: SocketAddr, admin: SocketAddr, other: Connection) -> Answer {
    eventually("the next gateway to start", PATIENCE, async || {
        (phase(admin).await? == "starting").then_some(())
    })
    .await;
    let mut client = Client::connect(public).await;
    let body = json!({ "phone": PHONE }).to_string();
    let asked = client.request("POST", "/otp/send").json(&body);
    let (answer, ()) = tokio::join!(asked.send(), async {
        // One that does not wait is ready before it is asked so often, and refuses the code.
        for _ in 0..50 {
            assert_eq!(phase(admin).await.as_deref(), Some("starting"));
        }
        other.execute_batch("COMMIT").expect("the lock was held");
    });
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_code_after_a_restart_is_not_refused_for_a_slow_disk() {
    let backend = Backend::ok().await;
    let provider = Backend::start(|_| Reply::json(200, r#"{"id":"m-1"}"#)).await;
    let running = running(&backend, &provider).await;
    let (public, admin) = (running.address, running.admin);
    let stopped = running.terminated().await;
    let other = locked(&stopped.data());
    let next = tokio::spawn(stopped.start());
    let answer = first_code(public, admin, other).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let running = next.await.expect("it starts");
    assert_eq!(get(admin, "/readyz").await.status, 200);
    running.terminated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_code_after_an_upgrade_is_not_refused_for_a_slow_disk() {
    let backend = Backend::ok().await;
    let provider = Backend::start(|_| Reply::json(200, r#"{"id":"m-1"}"#)).await;
    let running = running(&backend, &provider).await;
    let (public, admin) = (running.address, running.admin);
    let other = locked(&running.folder().join("data"));
    let next = tokio::spawn(running.upgrade());
    let answer = first_code(public, admin, other).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let (running, old) = next.await.expect("it takes over");
    assert_eq!(old.ended().await.code, Some(0));
    running.terminated().await;
}
