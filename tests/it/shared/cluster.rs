//! A cluster that loses a master or moves slots, with two gateways under load.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::adversary;
use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::client::Client;
use crate::harness::redis::RedisCluster;

use super::PATIENT;
use super::load::{Effect, Stress};

fn store_on(cluster: &RedisCluster, settings: &str) -> String {
    // Two of six: the others have to be found.
    let urls = cluster.urls()[..2].join("\", \"");
    format!("store: {{ kind: redis, url: [\"{urls}\"], {settings} }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_follow_a_failover() {
    let mut cluster = RedisCluster::start().await;
    let stress = Stress::on(|settings| store_on(&cluster, settings)).await;
    let lost = 0;
    let killed = cluster.master_of(lost).await;
    cluster.kill(killed);
    let since = Instant::now();
    stress.is_noticed().await;
    cluster.wait_for_failover(killed).await;
    println!("failover after {:?}", since.elapsed());
    let heir = cluster.master_of(lost).await;
    stress.is_back(async || Some(cluster.node(heir).decisions().await)).await;
    // Two masters of three never were away, though they say so themselves until the third is replaced.
    stress.stop("failover in a cluster", &Effect::Some).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_timing_gets_more_through_while_the_slots_of_the_keys_move() {
    let (cluster, backend) = (RedisCluster::start().await, Backend::ok().await);
    let rules = format!("{}{}", store_on(&cluster, "timeout: 5s, on_error: closed"), adversary::RULES);
    let gateways = [Running::start(&backend, &rules).await, Running::start(&backend, &rules).await];
    let addresses = gateways.each_ref().map(|gateway| gateway.address);
    let moves = Cell::new(0);
    let moving = async {
        loop {
            for key in cluster.counters().await {
                let slot = cluster.slot_of(&key).await;
                let (from, elsewhere) = (cluster.master_of(slot).await, (slot + 8_192) % 16_384);
                let to = [elsewhere, (elsewhere + 5_461) % 16_384];
                let to = [cluster.master_of(to[0]).await, cluster.master_of(to[1]).await];
                let to =
                    to.into_iter().find(|to| *to != from).expect("two slots so far apart have two masters");
                cluster.move_slot(slot, to).await;
                moves.set(moves.get() + 1);
                // No cluster is rearranged faster than its nodes tell each other.
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    tokio::select! {
        () = adversary::attack(&addresses, 4, &[429, 503]) => {}
        () = moving => {}
    }
    println!("{} moves", moves.get());
    for gateway in &gateways {
        // Redirections are followed: nobody notices.
        let page = gateway.metrics().await;
        let errors: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("tollgate_store_errors_total") && !line.ends_with(" 0"))
            .collect();
        assert!(errors.is_empty(), "{errors:?} in {} moves", moves.get());
    }
    assert!(moves.get() > 5, "{} moves", moves.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_in_several_slots_are_made_together_or_taken_back() {
    const RULES: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 5/hour } }, { key: header.x-key, windows: { w: 3/hour } }] }]";
    let (cluster, backend) = (RedisCluster::start().await, Backend::ok().await);
    let rules = format!("{}{RULES}", store_on(&cluster, PATIENT));
    let gateways = [Running::start(&backend, &rules).await, Running::start(&backend, &rules).await];
    let statuses = async |gateway: &Running, key: &str, count: usize| {
        let mut client = Client::connect(gateway.address).await;
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(client.request("GET", "/").header("x-key", key).send().await.status);
        }
        statuses
    };
    assert_eq!(statuses(&gateways[0], "a", 3).await, [200; 3]);
    // Each node asks once before it knows.
    assert_eq!(statuses(&gateways[0], "a", 9).await, [429; 9]);
    assert_eq!(statuses(&gateways[1], "a", 9).await, [429; 9]);
    assert_eq!(statuses(&gateways[1], "b", 3).await, [200, 200, 429], "refusals have used up nothing");
    assert_eq!(statuses(&gateways[0], "c", 1).await, [429]);
    assert_eq!(backend.count(), 5);
    let mut refunds = 0.0;
    for gateway in &gateways {
        assert_eq!(gateway.metric("tollgate_store_fallback_decisions_total{policy=\"local\"}").await, 0.0);
        refunds += gateway.metric("tollgate_store_refunds_total").await;
    }
    assert!(refunds >= 2.0, "{refunds} refunds");
}
