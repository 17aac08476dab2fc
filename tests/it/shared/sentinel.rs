//! A master that dies, and sentinels that put its replica in its place, with two gateways under load.

use std::time::Instant;

use crate::harness::redis::Watched;

use super::load::{Effect, Stress};

#[tokio::test(flavor = "multi_thread")]
async fn gateways_follow_a_failover() {
    let mut watched = Watched::start().await;
    let sentinels = watched.sentinel_urls().join("\", \"");
    let stress = Stress::on(|settings| {
        let (master, urls) = (watched.master_name(), &sentinels);
        format!(
            "store: {{ kind: redis, sentinel: {{ master: {master}, urls: [\"{urls}\"] }}, {settings} }}\n"
        )
    })
    .await;
    watched.kill_master().await;
    let from = Instant::now();
    stress.is_noticed().await;
    let until = watched.wait_for_promotion().await;
    watched.wait_for_failover().await;
    println!("failover after {:?}", from.elapsed());
    stress.is_back(async || Some(watched.master().await?.decisions().await)).await;
    stress.stop("failover by Sentinel", &Effect::Outage { from, until }).await;
}
