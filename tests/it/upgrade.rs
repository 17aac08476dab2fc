//! Deploys: a new process takes over without a failed request or a forgotten count, an old one takes its leave in an
//! orderly way, and whoever looks after the service is told.

mod activation;

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::binary::{Binary, Running, Signal};
use crate::harness::client::{Client, get};
use crate::harness::gateway::{preamble, replace};
use crate::harness::{PATIENCE, eventually};

const MAX: u64 = 1_000_000;
const RULES: &str = "routes:
  - { name: all, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1000000/day } }] }
";

/// Clients that ask without end: half of them by one connection for as long as it is kept, half by one a request.
struct Load {
    stop: watch::Sender<bool>,
    clients: JoinSet<Asked>,
}

/// What the clients did.
#[derive(Clone, Copy, Default)]
struct Asked {
    answered: u64,
    /// Sent, and nobody knows what became of it.
    lost: u64,
}

/// What a request without an answer means.
#[derive(Clone, Copy)]
enum Loss {
    Fails,
    Happens,
}

/// What a client does with a connection that was left open.
#[derive(Clone, Copy)]
enum Manner {
    Keeps,
    ComesAnew,
}

impl Load {
    fn start(address: SocketAddr, clients: usize, loss: Loss) -> Load {
        let (stop, stopped) = watch::channel(false);
        let manners = [Manner::Keeps, Manner::ComesAnew].into_iter().cycle().take(clients);
        let clients = manners.map(|manner| ask(address, stopped.clone(), manner, loss)).collect();
        Load { stop, clients }
    }

    async fn stop(self) -> Asked {
        self.stop.send_replace(true);
        let add = |a: Asked, b: Asked| Asked { answered: a.answered + b.answered, lost: a.lost + b.lost };
        self.clients.join_all().await.into_iter().fold(Asked::default(), add)
    }
}

async fn ask(address: SocketAddr, stopped: watch::Receiver<bool>, manner: Manner, loss: Loss) -> Asked {
    let mut asked = Asked::default();
    let mut kept: Option<Client> = None;
    while !*stopped.borrow() {
        let mut client = match kept.take() {
            Some(client) => client,
            None => match Client::try_connect(address).await {
                Ok(client) => client,
                // Refused, so not counted.
                Err(error) => {
                    assert!(matches!(loss, Loss::Happens), "a connection was refused: {error}");
                    sleep(Duration::from_millis(5)).await;
                    continue;
                }
            },
        };
        match client.request("GET", "/").try_send().await {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                asked.answered += 1;
                kept = match manner {
                    Manner::Keeps => (!answer.connection_closed).then_some(client),
                    Manner::ComesAnew => None,
                };
            }
            Err(error) => {
                assert!(matches!(loss, Loss::Happens), "no answer: {error}");
                asked.lost += 1;
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    asked
}

/// How many requests are counted, this one included.
async fn counted(running: &Running) -> u64 {
    MAX - get(running.address, "/").await.number("x-ratelimit-remaining")
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_under_load_fail_no_request_and_forget_no_count() {
    let backend = Backend::ok().await;
    let mut running = Running::start(&backend, RULES).await;
    let load = Load::start(running.address, 8, Loss::Fails);
    for round in 1..=5 {
        let before = backend.count();
        backend.wait_for(before + 50).await;
        let (next, old) = running.upgrade().await;
        let ended = old.ended().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "round {round}: {}", ended.stdout);
        assert!(!ended.stdout.contains("did not finish"), "round {round}: {}", ended.stdout);
        running = next;
    }
    let asked = load.stop().await;
    assert_eq!(counted(&running).await, asked.answered + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_under_load_forget_no_count() {
    let backend = Backend::ok().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let preamble = preamble(backend.addr()).replacen("127.0.0.1:0", &free.to_string(), 1);
    let mut running = Running::launch(&preamble, RULES, &[]).await;
    let load = Load::start(running.address, 4, Loss::Happens);
    for _ in 0..5 {
        let before = backend.count();
        backend.wait_for(before + 20).await;
        running = running.terminated().await.start().await;
    }
    let asked = load.stop().await;
    // What was not answered may have been counted, or may not have arrived.
    let counted = counted(&running).await - 1;
    let bounds = asked.answered..=asked.answered + asked.lost;
    assert!(bounds.contains(&counted), "{counted} of {bounds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_ends_where_it_began_and_silent_connections_are_closed() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |request| match request.target.as_str() {
        "/held" => Reply::json(200, r#"{"late":true}"#).after(&held),
        _ => Reply::json(200, "{}"),
    })
    .await;
    let running = Running::start(&backend, RULES).await;
    let mut silent = Client::connect(running.address).await;
    assert_eq!(silent.request("GET", "/").send().await.status, 200);
    let address = running.address;
    let in_flight = tokio::spawn(async move { get(address, "/held").await });
    backend.wait_for(2).await;

    let (running, mut old) = running.upgrade().await;
    silent.closed().await;
    old.stdout.line_with("another process takes over").await;
    assert_eq!(counted(&running).await, 3, "the one in flight was counted before");
    assert!(!in_flight.is_finished());
    gate.open();
    let answer = in_flight.await.unwrap();
    assert!(answer.json()["late"] == true && answer.connection_closed);
    let ended = old.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stdout.contains("did not finish"), "{}", ended.stdout);
    let ready = get(running.admin, "/readyz").await;
    assert_eq!((ready.status, ready.json()["phase"].as_str()), (200, Some("ready")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_cannot_start_changes_nothing() {
    let backend = Backend::ok().await;
    let running = Running::start(&backend, RULES).await;
    let sound = std::fs::read_to_string(running.config()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("listen: [{{ address: {} }}, ", taken.local_addr().unwrap());
    for (broken, told) in [
        (sound.replace("upstream:", "upstraem:"), "upstraem"),
        (sound.replace("listen: [", &other), "is in use by another program"),
    ] {
        replace(&running.config(), &broken);
        let failed = Binary::run(running.folder(), &["run", "--upgrade"]).await;
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(failed.stderr.contains(told), "{failed:?}");
    }
    replace(&running.config(), &sound);
    assert_eq!(counted(&running).await, 1);
    let (running, old) = running.upgrade().await;
    assert_eq!(old.ended().await.code, Some(0));
    assert_eq!(counted(&running).await, 2);
    // Where nobody runs, it is a start like any other.
    let stopped = running.terminated().await;
    let mut alone = Binary::spawn(stopped.folder(), &["run", "--upgrade"], &[]);
    alone.stdout.line_with("the gateway is ready").await;
}

/// Ends a process that the test did not start itself.
struct Foster(String);

impl Foster {
    fn signal(&self, name: &str) -> bool {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {} 2>/dev/null", self.0)]).status();
        sent.unwrap().success()
    }
}

impl Drop for Foster {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_starts_a_successor_by_itself() {
    let backend = Backend::ok().await;
    let mut running = Running::start(&backend, RULES).await;
    assert_eq!(counted(&running).await, 1);
    running.binary.signal(Signal::Renew);
    let line = running.binary.stdout.line_with("a successor was started").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let successor = Foster(line["pid"].to_string());
    // Both write to the same place, so the end of the one is not to be seen there.
    running
        .binary
        .stdout
        .until("a second one that is ready", |text| text.matches("the gateway is ready").count() == 2)
        .await;
    assert_eq!(counted(&running).await, 2);
    assert!(successor.signal("TERM"));
    let ended = running.binary.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_goes_first_and_stays_visible_for_as_long_as_the_file_says() {
    let backend = Backend::ok().await;
    let rules = format!("server: {{ drain_delay: 1h }}\n{RULES}");
    let running = Running::start(&backend, &rules).await;
    let mut kept = Client::connect(running.address).await;
    assert!(!kept.request("GET", "/").send().await.connection_closed);
    running.binary.signal(Signal::Terminate);
    let admin = running.admin;
    eventually("a readiness that says no", PATIENCE, async || {
        let ready = get(admin, "/readyz").await;
        (ready.status == 503 && ready.json()["phase"] == "draining").then_some(())
    })
    .await;
    // It serves on, and asks its clients to go elsewhere.
    assert!(kept.request("GET", "/").send().await.connection_closed);
    let anew = get(running.address, "/").await;
    assert_eq!((anew.status, anew.connection_closed), (200, true));
    assert_eq!(get(admin, "/healthz").await.status, 200);
    running.terminated_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_of_each_step() {
    let backend = Backend::ok().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("it is told in time");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let main_process = |told: &str| {
        assert!(told.starts_with("READY=1\n"), "{told}");
        told.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().to_owned()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut running = Running::launch(&preamble(backend.addr()), RULES, &variables).await;
    let first = main_process(&heard());
    running.binary.signal(Signal::HangUp);
    running.binary.stdout.line_with("the configuration was reloaded").await;
    assert!(heard().starts_with("RELOADING=1\n"));
    assert_eq!(main_process(&heard()), first);
    let (running, old) = running.upgrade_with(&variables).await;
    assert_ne!(main_process(&heard()), first);
    assert_eq!(old.ended().await.code, Some(0));
    running.terminated().await;
    assert!(heard().starts_with("STOPPING=1\n"), "the one that handed over said nothing of stopping");
}
