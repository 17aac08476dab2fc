//! A service manager that keeps the sockets: nobody is refused between the end of one process and the start of the next.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use h2::Reason;
use http::{Method, StatusCode};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Load, Loss, RULES, counted};
use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::binary::{Binary, Running, Signal};
use crate::harness::client::{Client, get};
use crate::harness::gateway::preamble;
use crate::harness::h2::H2Client;
use crate::harness::process::Process;

/// A socket that the test keeps, as a service manager does.
fn kept(address: &str) -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(address).unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

/// The file's beginning with this address in `listen`.
fn listening_on(at: SocketAddr, backend: &Backend) -> String {
    preamble(backend.addr()).replacen("127.0.0.1:0", &at.to_string(), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_and_upgrades_under_load_fail_no_request_and_forget_no_count() {
    let backend = Backend::ok().await;
    let (socket, at) = kept("127.0.0.1:0");
    let mut running = Running::given(&listening_on(at, &backend), RULES, &socket).await;
    assert_eq!(running.address, at);
    let load = Load::start(at, 8, Loss::Fails);
    let busy = async || backend.wait_for(backend.count() + 50).await;
    for round in 1..=4 {
        busy().await;
        running = running.terminated().await.start_given(&socket).await;
        busy().await;
        let (next, old) = running.upgrade().await;
        let ended = old.ended().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "round {round}: {}", ended.stdout);
        assert!(!ended.stdout.contains("did not finish"), "round {round}: {}", ended.stdout);
        running = next;
    }
    let asked = load.stop().await;
    assert_eq!(counted(&running).await, asked.answered + 1);
}

/// Requests one after the other on a connection of HTTP/2, for as long as it is kept. How many were answered.
async fn ask_by_http_2(address: SocketAddr, stopped: watch::Receiver<bool>) -> u64 {
    let mut answered = 0;
    let mut client = H2Client::connect(address).await;
    while !*stopped.borrow() {
        let request = client.request(Method::GET, "/");
        match client.send(request, b"").await {
            Ok(answer) => {
                assert_eq!(answer.status, StatusCode::OK);
                answered += 1;
            }
            // It hears that this one was not begun, and that the connection takes no other.
            Err(error) if error.is_go_away() && error.reason() == Some(Reason::NO_ERROR) => {
                client = H2Client::connect(address).await;
            }
            Err(error) => panic!("no answer after {answered}: {error:?}"),
        }
        sleep(Duration::from_millis(1)).await;
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_http_2_are_answered_or_told_to_come_again() {
    let backend = Backend::ok().await;
    let (socket, at) = kept("127.0.0.1:0");
    let mut running = Running::given(&listening_on(at, &backend), RULES, &socket).await;
    let (stop, stopped) = watch::channel(false);
    let clients: JoinSet<u64> = (0..4).map(|_| ask_by_http_2(at, stopped.clone())).collect();
    for _ in 1..=4 {
        backend.wait_for(backend.count() + 50).await;
        running = running.terminated().await.start_given(&socket).await;
        backend.wait_for(backend.count() + 50).await;
        let (next, old) = running.upgrade().await;
        assert_eq!(old.ended().await.code, Some(0));
        running = next;
    }
    stop.send_replace(true);
    let answered: u64 = clients.join_all().await.into_iter().sum();
    assert_eq!(counted(&running).await, answered + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_nobody_accepts_is_served_by_the_next_process() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |request| match request.target.as_str() {
        "/held" => Reply::json(200, "{}").after(&held),
        _ => Reply::json(200, "{}"),
    })
    .await;
    let (socket, at) = kept("127.0.0.1:0");
    let mut running = Running::given(&listening_on(at, &backend), RULES, &socket).await;
    let mut silent = Client::connect(at).await;
    assert_eq!(silent.request("GET", "/").send().await.status, 200);
    let in_flight = tokio::spawn(async move { get(at, "/held").await });
    backend.wait_for(2).await;

    running.binary.signal(Signal::Terminate);
    running.binary.stdout.line_with("stopping").await;
    // Which happens after nobody accepts any more.
    silent.closed().await;
    let mut early = Client::connect(at).await;
    early.send_raw(b"GET /early HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(!in_flight.is_finished());
    gate.open();
    let answer = in_flight.await.unwrap();
    assert_eq!((answer.status, answer.connection_closed), (200, true));
    let stopped = running.ended().await;
    let mut late = Client::connect(at).await;
    assert_eq!(backend.count(), 2, "nobody has read it yet");

    let running = stopped.start_given(&socket).await;
    assert_eq!(early.answer_to("GET").await.unwrap().status, 200);
    assert_eq!(late.request("GET", "/").send().await.status, 200);
    assert_eq!(counted(&running).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_as_the_process_stops_is_answered() {
    let backend = Backend::ok().await;
    let (socket, at) = kept("127.0.0.1:0");
    let mut running = Running::given(&listening_on(at, &backend), RULES, &socket).await;
    let mut kept = Client::connect(at).await;
    assert!(!kept.request("GET", "/").send().await.connection_closed);
    let mut fresh = Client::connect(at).await;
    fresh.send_raw(b"GET /fresh HTTP/1.1\r\n").await;
    running.binary.signal(Signal::Terminate);
    running.binary.stdout.line_with("stopping").await;
    // Each is the last on its connection.
    assert!(kept.request("GET", "/").send().await.connection_closed);
    fresh.send_raw(b"host: h\r\n\r\n").await;
    let answer = fresh.answer_to("GET").await.unwrap();
    assert_eq!(answer.status, 200);
    running.ended().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_process_that_is_started_has_the_sockets_or_hears_of_them_by_accident() {
    let backend = Backend::ok().await;
    let (socket, at) = kept("127.0.0.1:0");
    let mut running = Running::given(&listening_on(at, &backend), RULES, &socket).await;
    running.binary.signal(Signal::Renew);
    let line = running.binary.stdout.line_with("a successor was started").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let successor = super::Foster(line["pid"].to_string());
    let environment = std::fs::read(format!("/proc/{}/environ", line["pid"])).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    assert!(!environment.contains("LISTEN_"), "{environment}");
    let facts = std::fs::read_to_string(format!("/proc/{}/fdinfo/3", running.binary.id())).unwrap();
    let flags = facts.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
    assert_eq!(flags & 0o2_000_000, 0o2_000_000, "it is closed where a program is started: {facts}");
    let ready_twice = |text: &str| text.matches("the gateway is ready").count() == 2;
    running.binary.stdout.until("a second one that is ready", ready_twice).await;
    assert_eq!(counted(&running).await, 1);
    assert!(successor.signal("TERM"));
    assert_eq!(running.binary.ended().await.code, Some(0));
}

/// A folder with a file in it, for a gateway that is given something odd.
struct Odd {
    folder: TempDir,
    backend: Backend,
}

impl Odd {
    async fn new() -> Odd {
        Odd { folder: tempfile::tempdir().unwrap(), backend: Backend::ok().await }
    }

    fn spawn(
        &self,
        beginning: &str,
        given: impl Into<OwnedFd>,
        variables: &str,
        descriptors: &str,
    ) -> Process {
        let file = format!("{beginning}{RULES}");
        std::fs::write(self.folder.path().join("gateway.yaml"), file).unwrap();
        Binary::spawn_given(self.folder.path(), given.into(), variables, descriptors)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_promise_nothing_to_this_process_are_left_alone() {
    const MINE: &str = "LISTEN_PID=$$";
    let odd = Odd::new().await;
    for (variables, told) in [
        ("LISTEN_FDS=1".to_owned(), None),
        ("LISTEN_PID=1 LISTEN_FDS=1".to_owned(), None),
        (MINE.to_owned(), None),
        (format!("{MINE} LISTEN_FDS=0"), None),
        (format!("{MINE} LISTEN_FDS=one"), Some("LISTEN_FDS is not a number")),
        ("LISTEN_PID=me LISTEN_FDS=1".to_owned(), Some("LISTEN_PID is not a number")),
        (format!("{MINE} LISTEN_FDS=65"), Some("LISTEN_FDS is more than 64")),
    ] {
        let (socket, at) = kept("127.0.0.1:0");
        let ended = odd.spawn(&listening_on(at, &odd.backend), socket, &variables, "3<&0").ended().await;
        assert_eq!(ended.code, Some(1), "{variables}: {ended:?}");
        assert!(ended.stderr.contains(&format!("{at} (listen) is in use")), "{variables}: {ended:?}");
        let warned: Vec<&str> = ended.stdout.lines().collect();
        match told {
            Some(part) => assert!(warned.len() == 1 && warned[0].contains(part), "{variables}: {ended:?}"),
            None => assert!(warned.is_empty(), "{variables}: {ended:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_socket_to_listen_on_is_told_by_its_number_and_name() {
    let odd = Odd::new().await;
    let unix = UnixListener::bind(odd.folder.path().join("socket")).unwrap();
    let (peer, peer_at) = kept("127.0.0.1:0");
    let (one, two, three) = (kept("127.0.0.1:0"), kept("127.0.0.1:0"), kept("127.0.0.1:0"));
    let any = "127.0.0.1:0".parse().unwrap();
    let closed = r#"descriptor 4 of the service manager (\"b\") cannot be listened on: fd 4 is not a socket"#;
    for (given, listen, descriptors, told) in [
        (OwnedFd::from(one.0), one.1, "3<&0", closed),
        (two.0.into(), two.1, "3<&0 4<gateway.yaml", closed),
        (three.0.into(), three.1, "3<&0 4<&0", "or another socket has it"),
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), any, "4<&0", "fd 4 is not a valid tcp socket"),
        (unix.into(), any, "4<&0", "fd 4 is not a valid tcp socket"),
        (TcpStream::connect(peer_at).unwrap().into(), any, "4<&0", "it does not listen"),
        (kept("127.0.0.1:0").0.into(), any, "4<&0", "neither `listen` nor `admin.address` names its address"),
    ] {
        let beginning = listening_on(listen, &odd.backend);
        let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b";
        let mut process = odd.spawn(&beginning, given, variables, descriptors);
        process.stdout.line_with("the gateway is ready").await;
        process.signal(Signal::Terminate);
        let ended = process.ended().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{descriptors}: {}", ended.stdout);
        let told: Vec<&str> = ended.stdout.lines().filter(|line| line.contains(told)).collect();
        assert!(told.len() == 1 && told[0].contains(r#""level":"WARN""#), "{}", ended.stdout);
    }
    drop(peer);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_is_given_its_socket_by_its_address() {
    let odd = Odd::new().await;
    let (socket, at) = kept("127.0.0.2:0");
    let beginning = preamble(odd.backend.addr())
        .replace("admin: { address: 127.0.0.1:0", &format!("admin: {{ address: {at}"));
    let copy = socket.try_clone().unwrap();
    let mut process = odd.spawn(&beginning, copy, "LISTEN_PID=$$ LISTEN_FDS=1", "3<&0");
    process.stdout.line_with("the gateway is ready").await;
    let client = async { Client::connect_from("127.0.0.1".parse().unwrap(), at).await };
    assert_eq!(client.await.request("GET", "/healthz").send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_in_the_way_of_a_listener_is_named() {
    let odd = Odd::new().await;
    let (socket, at) = kept("127.0.0.1:0");
    let wanted = SocketAddr::new("0.0.0.0".parse().unwrap(), at.port());
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=tollgate.socket";
    let ended = odd.spawn(&listening_on(wanted, &odd.backend), socket, variables, "3<&0").ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let told = format!(
        "{wanted} (listen) is in use by {at}, which the service manager opened as \"tollgate.socket\""
    );
    assert!(ended.stderr.contains(&told), "{ended:?}");
}
