//! A cluster of real servers: three masters, and a replica where one is needed.

use std::time::{Duration, Instant};

use redis::Value;

use super::super::super::remote::{Lane, StoreError};
use super::super::RedisCluster;
use super::super::slot::slot_of;
use super::process::{Process, free_port};
use super::{TIMEOUT, call, counted, counting, soon};

const BORDERS: [u16; 4] = [0, 5461, 10923, 16384];

/// The masters of a third of the slots each; whatever follows is a replica of the first.
struct Servers(Vec<Process>);

impl Servers {
    async fn start(count: usize) -> Servers {
        let servers = Servers((0..count).map(|_| start_one()).collect());
        for (place, server) in servers.0.iter().enumerate() {
            server.command(&format!("CLUSTER SET-CONFIG-EPOCH {}", place + 1));
            if let Some([first, end]) = BORDERS.get(place..place + 2) {
                server.command(&format!("CLUSTER ADDSLOTSRANGE {first} {}", end - 1));
            }
            let Value::Array(setting) = servers.0[0].command("CONFIG GET cluster-port") else {
                panic!("a setting has a name and a value")
            };
            let bus = text(&setting[1]);
            server.command(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", servers.0[0].port));
        }
        for replica in servers.0.iter().skip(3) {
            soon(async || replica.try_command(&format!("CLUSTER REPLICATE {}", servers.id(0)))).await;
        }
        for server in &servers.0 {
            soon(async || {
                let info = text(&server.command("CLUSTER INFO"));
                let nodes = format!("cluster_known_nodes:{count}\r\n");
                if info.contains("cluster_state:ok") && info.contains(&nodes) { Ok(()) } else { Err(info) }
            })
            .await;
        }
        servers
    }

    fn id(&self, place: usize) -> String {
        text(&self.0[place].command("CLUSTER MYID"))
    }

    /// Known by the second, so that the first may be away.
    fn client(&self) -> RedisCluster {
        RedisCluster::new(vec![self.0[1].url(), self.0[2].url()], "tg:", TIMEOUT)
    }
}

fn start_one() -> Process {
    let bus = free_port().to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port"];
    Process::start(&[&options as &[&str], &[&bus, "--cluster-require-full-coverage", "no"]].concat())
}

fn text(value: &Value) -> String {
    redis::from_redis_value_ref(value).unwrap()
}

/// A key that the server at that place owns, another for each number.
fn key_at(place: usize, number: usize) -> String {
    let owned = BORDERS[place]..BORDERS[place + 1];
    let keys = (0..).map(|n| format!("tg:1:{n}"));
    keys.filter(|key| owned.contains(&slot_of(key))).nth(number).unwrap()
}

#[tokio::test]
async fn calls_and_probes_find_the_servers_of_their_keys() {
    let servers = Servers::start(3).await;
    let (cluster, script) = (servers.client(), counting());
    for lane in 0..cluster.lanes() {
        assert_eq!(cluster.probe(Lane(lane)).await, Ok(()), "lane {lane}");
    }
    for key in (0..60).map(|number| key_at(number % 3, number)) {
        assert_eq!(cluster.run(&call(script, &key, b"a")).await, Ok(counted(1, b"a")), "{key}");
    }
    servers.0.iter().for_each(|server| {
        server.command("SCRIPT FLUSH");
    });
    let key = key_at(2, 2);
    assert_eq!(cluster.run(&call(script, &key, b"a")).await, Ok(counted(2, b"a")));
    assert!(cluster.share_a_slot("a{x}", "b{x}") && !cluster.share_a_slot("a", "b"));
    assert_eq!(cluster.advice().await, None);
}

#[tokio::test]
async fn a_slot_on_the_move_loses_no_call() {
    let servers = Servers::start(3).await;
    let (cluster, script) = (servers.client(), counting());
    let (from, to) = (&servers.0[0], &servers.0[1]);
    let (key, old) = (key_at(0, 0), key_at(0, 1));
    let slot = slot_of(&key);
    assert_eq!(cluster.run(&call(script, &old, b"a")).await, Ok(counted(1, b"a")));
    to.command(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", servers.id(0)));
    from.command(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", servers.id(1)));
    // The key is new, so its calls are sent on, to a server that does not know the script.
    for count in 1..4 {
        assert_eq!(cluster.run(&call(script, &key, b"a")).await, Ok(counted(count, b"a")));
    }
    to.command(&format!("CLUSTER SETSLOT {slot} NODE {}", servers.id(1)));
    from.command(&format!("CLUSTER SETSLOT {slot} NODE {}", servers.id(1)));
    for count in 4..7 {
        assert_eq!(cluster.run(&call(script, &key, b"a")).await, Ok(counted(count, b"a")));
    }
    assert_eq!(cluster.probe(cluster.lane(&key)).await, Ok(()));
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_no_other() {
    let servers = Servers::start(3).await;
    let (cluster, script) = (servers.client(), counting());
    let (hung, well) = (key_at(0, 0), key_at(2, 0));
    for key in [&hung, &well] {
        assert_eq!(cluster.run(&call(script, key, b"a")).await, Ok(counted(1, b"a")));
    }
    servers.0[0].signal("STOP");
    let began = Instant::now();
    let (probed, answered) = tokio::join!(cluster.probe(cluster.lane(&hung)), async {
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let sent = Instant::now();
            cluster.run(&call(script, &well, b"a")).await.unwrap();
            slowest = slowest.max(sent.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slowest
    });
    assert_eq!(probed, Err(StoreError::Timeout));
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    assert!(answered < Duration::from_millis(250), "{answered:?}");
    servers.0[0].signal("CONT");
    soon(async || cluster.probe(cluster.lane(&hung)).await).await;
}

#[tokio::test]
async fn a_promoted_replica_is_found_by_the_probes() {
    let mut servers = Servers::start(4).await;
    let (cluster, script) = (servers.client(), counting());
    let key = key_at(0, 0);
    assert_eq!(cluster.run(&call(script, &key, b"a")).await, Ok(counted(1, b"a")));
    let lane = cluster.lane(&key);
    servers.0.remove(0).kill();
    assert!(cluster.probe(lane).await.is_err());
    let error = cluster.run(&call(script, &key, b"a")).await.unwrap_err();
    assert!(matches!(error, StoreError::Disconnected(_)), "{error:?}");
    servers.0[2].command("CLUSTER FAILOVER TAKEOVER");
    let promoted = Instant::now();
    soon(async || cluster.probe(lane).await).await;
    assert!(promoted.elapsed() < Duration::from_secs(2), "{:?}", promoted.elapsed());
    assert!(cluster.run(&call(script, &key, b"a")).await.is_ok());
}

#[tokio::test]
async fn what_is_no_cluster_is_told() {
    let single = Process::start(&[]);
    let error = RedisCluster::new(vec![single.url()], "tg:", TIMEOUT).probe(Lane(0)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Refused(text) if text.contains("cluster support disabled")),
        "{error:?}"
    );
    let nobody = RedisCluster::new(vec![], "tg:", TIMEOUT).probe(Lane(0)).await.unwrap_err();
    assert!(matches!(nobody, StoreError::Disconnected(_)), "{nobody:?}");
}
