//! A block that a client was told of stays, whatever becomes of the process or its disk.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::backend::{Backend, Reply};
use crate::harness::binary::Running;
use crate::harness::client::{Answer, Client};
use crate::harness::{PATIENCE, eventually};

/// Blocks by a limit, by failures, and by suspicion; each lasts a day, and no window here more than an hour.
const RULES: &str = r"
client_ip: { trusted_proxies: [127.0.0.1] }
routes:
  - { name: limit, match: { path: /limit }, upstream: app,
      limits: [{ key: header.x-key, windows: { w: 1/hour }, block: 24h }] }
  - { name: login, match: { path: /login }, upstream: app,
      limits: [{ key: header.x-key, count: failures, windows: { tries: 1/hour }, block: 24h }] }
  - { name: otp, match: { path: /otp }, upstream: app, suspect: otp_request }
suspicion:
  - { key: ip, weights: { otp_request: 1, failure: 0, limited: 0 }, threshold: 1/hour, block: 24h }
";

const ROUNDS: u32 = 50;
const CLIENTS: u32 = 8;
/// A refusal that is told to come back later than this is blocked: no window is as long.
const WINDOW_S: u64 = 3600;
/// How long a refusal waits for its block to be on disk.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// What makes a client blocked: a path to go to, and who goes there.
#[derive(Clone, Debug)]
struct Culprit {
    path: &'static str,
    name: String,
    address: String,
}

impl Culprit {
    /// Another one for each number.
    fn new(number: u32) -> Culprit {
        let path = ["/limit", "/login", "/otp"][number as usize % 3];
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
        Culprit { path, name: format!("culprit-{number}"), address }
    }

    async fn ask(&self, client: &mut Client) -> std::io::Result<Answer> {
        let request = client.request("GET", self.path).header("x-key", &self.name);
        request.header("x-forwarded-for", &self.address).try_send().await
    }

    /// Goes on until it is told that it is blocked. Not more than three times: the third answer tells.
    async fn provoke(&self, client: &mut Client) -> std::io::Result<()> {
        for _ in 0..3 {
            if is_blocked(&self.ask(client).await?) {
                return Ok(());
            }
        }
        panic!("{self:?} is not blocked");
    }
}

fn is_blocked(answer: &Answer) -> bool {
    answer.status == 429 && answer.number("retry-after") > WINDOW_S
}

async fn refuser() -> Backend {
    Backend::start(|request| Reply::json(if request.target == "/login" { 401 } else { 200 }, "{}")).await
}

/// A number below `below` that nobody can tell in advance.
fn random(below: u64) -> u64 {
    RandomState::new().build_hasher().finish() % below
}

/// Clients that get themselves blocked as fast as they can until nobody answers; each tells whom it was told of.
struct Load {
    clients: JoinSet<Vec<Culprit>>,
    announced: watch::Receiver<u64>,
}

impl Load {
    fn start(gateway: SocketAddr, round: u32) -> Load {
        let (told, announced) = watch::channel(0);
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let told = told.clone();
            clients.spawn(async move {
                let mut blocked = Vec::new();
                let mut connection = Client::connect(gateway).await;
                for nth in 0.. {
                    let culprit = Culprit::new((round * CLIENTS + client) * 10_000 + nth);
                    let asked = Instant::now();
                    if culprit.provoke(&mut connection).await.is_err() {
                        break;
                    }
                    // One that had to wait for longer may have been told before the disk had it: it says so in its
                    // metrics, and promises nothing.
                    if asked.elapsed() < DISK_PATIENCE {
                        blocked.push(culprit);
                        told.send_modify(|count| *count += 1);
                    }
                }
                blocked
            });
        }
        Load { clients, announced }
    }

    /// Waits until so many blocks were announced, over all clients.
    async fn reaches(&mut self, count: u64) {
        let enough = self.announced.wait_for(|announced| *announced >= count);
        let enough = tokio::time::timeout(PATIENCE * 3, enough).await;
        assert!(enough.is_ok_and(|told| told.is_ok()), "the clients get themselves blocked");
    }
}

/// All of them still are, at this gateway.
async fn all_are_blocked(gateway: SocketAddr, culprits: &[Culprit]) {
    let mut clients = JoinSet::new();
    for part in culprits.chunks(culprits.len().div_ceil(CLIENTS as usize).max(1)) {
        let part = part.to_vec();
        clients.spawn(async move {
            let mut client = Client::connect(gateway).await;
            for culprit in part {
                let answer = culprit.ask(&mut client).await.expect("an answer");
                assert!(
                    is_blocked(&answer),
                    "{culprit:?} was told that it is blocked, and now {}",
                    answer.status
                );
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_announced_block_is_lost_by_a_kill_at_any_moment() {
    let backend = refuser().await;
    let mut running = Running::start(&backend, RULES).await;
    let mut all: Vec<Culprit> = Vec::new();
    for round in 0..ROUNDS {
        let mut load = Load::start(running.address, round);
        load.reaches(1 + random(24)).await;
        // Now, while each of the clients is at some point of the next one.
        let stopped = running.killed();
        let announced = load.clients.join_all().await.concat();
        running = stopped.start().await;
        all_are_blocked(running.address, &announced).await;
        all.extend(announced);
    }
    all_are_blocked(running.address, &all).await;
    let page = running.metrics().await;
    let held: f64 = page
        .lines()
        .filter(|line| line.starts_with("tollgate_blocks{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert!(held >= all.len() as f64, "{held} blocks in the book, {} announced", all.len());
    println!("{ROUNDS} kills, {} announced blocks, none lost", all.len());
}

/// The numbers from here on are of nobody else.
fn some(from: u32) -> Vec<Culprit> {
    (from..from + 30).map(Culprit::new).collect()
}

async fn provoke_all(gateway: SocketAddr, culprits: &[Culprit]) {
    let mut client = Client::connect(gateway).await;
    for culprit in culprits {
        culprit.provoke(&mut client).await.expect("an answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_nobody_from_being_blocked() {
    let backend = refuser().await;
    // Room for the file as it begins, and not for what is written to it.
    let running = Running::start_cramped(&backend, RULES, 160 * 1024).await;
    assert_eq!(running.metric("tollgate_journal_up").await, 1.0, "at first there is room");
    let nth = AtomicU32::new(0);
    eventually("the disk to be full", PATIENCE * 3, async || {
        provoke_all(running.address, &some(30 * nth.fetch_add(1, Ordering::AcqRel))).await;
        (running.metric("tollgate_journal_up").await == 0.0).then_some(())
    })
    .await;
    let late = some(1_000_000);
    provoke_all(running.address, &late).await;
    all_are_blocked(running.address, &late).await;
    assert!(running.metric(r#"tollgate_journal_dropped_total{what="blocks"}"#).await >= 1.0);
    running.terminated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_overwritten_keeps_nobody_from_being_blocked() {
    let backend = refuser().await;
    let running = Running::start(&backend, RULES).await;
    let before = some(0);
    provoke_all(running.address, &before).await;
    let data = data_of(&running);
    for name in ["journal.db", "journal.db-wal"] {
        let length = fs::metadata(data.join(name)).unwrap().len();
        let garbage = vec![0xa5; usize::try_from(length).unwrap()];
        let file = fs::OpenOptions::new().write(true).open(data.join(name)).unwrap();
        std::io::Write::write_all(&mut &file, &garbage).unwrap();
    }
    let after = some(1_000);
    provoke_all(running.address, &after).await;
    all_are_blocked(running.address, &[before, after].concat()).await;
    // The next process finds what is left of it, says so, and begins a new one.
    let running = running.killed().start().await;
    assert_eq!(running.metric("tollgate_journal_up").await, 1.0);
    let kept_aside = fs::read_dir(data_of(&running))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("journal.db.broken-"));
    assert!(kept_aside.count() >= 1, "what was overwritten is kept aside");
    let anew = some(2_000);
    provoke_all(running.address, &anew).await;
    let running = running.killed().start().await;
    all_are_blocked(running.address, &anew).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_goes_away_keeps_nobody_from_being_blocked() {
    let backend = refuser().await;
    let running = Running::start(&backend, RULES).await;
    let before = some(0);
    provoke_all(running.address, &before).await;
    let data = data_of(&running);
    fs::rename(&data, running.folder().join("moved")).unwrap();
    fs::write(&data, "no folder").unwrap();
    let after = some(1_000);
    provoke_all(running.address, &after).await;
    all_are_blocked(running.address, &[before, after].concat()).await;
    eventually("the counters not to be written", PATIENCE * 3, async || {
        (running.metric("tollgate_snapshot_failures_total").await >= 1.0).then_some(())
    })
    .await;
}

fn data_of(running: &Running) -> std::path::PathBuf {
    running.folder().join("data")
}
