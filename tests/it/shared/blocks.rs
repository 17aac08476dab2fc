//! A block by one gateway holds in all that share the store, and so does its end; the store may lose both.

mod node;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::clock::Clock;
use tollgate::decision::key::KeyHash;
use tollgate::decision::time::{Span, Timestamp};
use tollgate::journal::{BlockRecord, Event, EventKind};
use tollgate::store::redis::RedisUrl;
use tollgate::store::spec::{Place, RedisPlace};
use tollgate::store::upstash::UpstashUrl;

use self::node::{HEARD_WITHIN, Node, SECRET};
use super::{PATIENT, Site};
use crate::conformance::node as at;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::redis::{RedisCluster, RedisServer};
use crate::harness::upstash::Upstash;

/// What the issue promises after the store lost all.
const ASSERTED_WITHIN: Duration = Duration::from_secs(10);

/// Gateways on one Redis.
struct Nodes {
    redis: RedisServer,
    nodes: Vec<Node>,
}

impl Nodes {
    async fn start(count: usize) -> Nodes {
        let redis = RedisServer::start().await;
        let nodes = (0..count).map(|number| Node::start(at(&redis.url()), &name(number))).collect();
        let nodes = Nodes { redis, nodes };
        // Everybody has looked at the store before anything happens.
        let first = nodes.nodes[0].block("the first", 600).await;
        nodes.all_hold(&first).await;
        nodes
    }

    fn add(&mut self) -> &Node {
        let name = name(self.nodes.len());
        self.nodes.push(Node::start(at(&self.redis.url()), &name));
        &self.nodes[self.nodes.len() - 1]
    }

    async fn all_hold(&self, record: &BlockRecord) {
        for (number, node) in self.nodes.iter().enumerate() {
            holds(node, record, &format!("gateway {number} to hold the block")).await;
        }
    }

    async fn none_holds(&self, key: KeyHash) {
        for (number, node) in self.nodes.iter().enumerate() {
            eventually(&format!("gateway {number} to let go"), HEARD_WITHIN, async || {
                node.holds(key).is_none().then_some(())
            })
            .await;
        }
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

async fn holds(node: &Node, record: &BlockRecord, what: &str) {
    eventually(what, HEARD_WITHIN, async || node.holds(record.key).filter(|held| held.id == record.id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_by_one_gateway_holds_in_the_others_within_a_moment() {
    let site = Nodes::start(3).await;
    let mut took = Vec::new();
    for round in 0..30 {
        let (maker, since) = (&site.nodes[round % 3], Instant::now());
        let record = maker.block(&format!("user {round}"), 600).await;
        site.all_hold(&record).await;
        took.push(since.elapsed());
    }
    took.sort();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("a block holds in all gateways after {median:?} (median), {slowest:?} at most");
    // Each of them has been waited for; of a busy machine the slowest tells nothing.
    assert!(median < Duration::from_millis(500), "median {median:?}");
    assert!(site.nodes[1].metric("tollgate_mirror_applied_total{what=\"blocks\"}") >= 20.0);
    assert!(site.nodes[1].metric("tollgate_mirror_published_total{what=\"blocks\"}") >= 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_go_by_one_gateway_is_let_go_by_all() {
    let mut site = Nodes::start(3).await;
    let record = site.nodes[0].block("ada", 600).await;
    site.all_hold(&record).await;
    let since = Instant::now();
    site.nodes[1].unblock(record.id).await;
    site.none_holds(record.key).await;
    println!("let go by all after {:?}", since.elapsed());
    // A later block of the same is another matter.
    let again = site.nodes[2].block("ada", 600).await;
    site.all_hold(&again).await;
    site.nodes[0].unblock(again.id).await;
    site.none_holds(record.key).await;
    let late = site.add();
    let first = late.gateway.journal().book();
    eventually("the late one to know the others' block", HEARD_WITHIN, async || {
        (first.len(late.clock.now()) == 1).then_some(())
    })
    .await;
    assert!(late.holds(record.key).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_moves_an_end_in_all_gateways() {
    let site = Nodes::start(2).await;
    let record = site.nodes[0].block("ada", 6000).await;
    site.all_hold(&record).await;
    site.nodes[1].block("ada", 60).await;
    for node in &site.nodes {
        eventually("the nearer end", HEARD_WITHIN, async || {
            let held = node.holds(record.key)?;
            assert_eq!(held.id, record.id, "it is the same block");
            (node.clock.now().until(held.block.until) <= Span::from_secs(60)).then_some(())
        })
        .await;
    }
}

/// Whoever starts now knows all that is in force, which is told again by those who were there.
async fn is_asserted_again(site: &mut Nodes, known: &[Arc<BlockRecord>], let_go: KeyHash, what: &str) {
    let since = Instant::now();
    let late = site.add();
    for record in known {
        eventually(what, ASSERTED_WITHIN, async || {
            late.holds(record.key).filter(|held| held.id == record.id)
        })
        .await;
    }
    println!("{what} after {:?}", since.elapsed());
    // Who had not heard of the end may have told the block again: the end is told again as well.
    eventually("what was lifted to be let go", ASSERTED_WITHIN, async || {
        late.holds(let_go).is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_told_again_when_the_store_comes_back_empty() {
    let mut site = Nodes::start(2).await;
    let mut known = Vec::new();
    for number in 0..200 {
        known.push(site.nodes[number % 2].block(&format!("user {number}"), 600).await);
    }
    let lifted = known.remove(7);
    site.nodes[0].unblock(lifted.id).await;
    site.redis.must(&["FLUSHALL"]).await;
    is_asserted_again(&mut site, &known, lifted.key, "blocks are told again after FLUSHALL").await;
    site.redis.restart_empty().await;
    is_asserted_again(&mut site, &known, lifted.key, "blocks are told again to an empty server").await;
    site.none_holds(lifted.key).await;
    for node in &site.nodes {
        assert_eq!(node.metric("tollgate_mirror_dropped_total{what=\"unreadable\"}"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_store_is_away_is_told_when_it_is_back() {
    let mut site = Nodes::start(2).await;
    let before = site.nodes[0].block("before", 600).await;
    site.all_hold(&before).await;
    site.redis.kill_9();
    let meanwhile = site.nodes[0].block("meanwhile", 600).await;
    site.nodes[1].unblock(before.id).await;
    assert!(site.nodes[1].holds(meanwhile.key).is_none(), "nobody could tell it");
    site.redis.restart_empty().await;
    site.all_hold(&meanwhile).await;
    site.none_holds(before.key).await;
}

/// As a replica does that takes over and never heard the last of what its master was told.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_lost_is_told_again() {
    let site = Nodes::start(2).await;
    let record = site.nodes[0].block("ada", 600).await;
    site.all_hold(&record).await;
    let marks = "tg:1:{mirror}:blocks";
    let fields = async || {
        let fields = site.redis.must(&["HKEYS", marks]).await.array().into_iter();
        fields.map(|field| field.text()).collect::<Vec<_>>()
    };
    let held = fields().await;
    assert_eq!(held.len(), 3, "an epoch and two blocks: {held:?}");
    for field in held.iter().filter(|field| *field != "epoch") {
        site.redis.must(&["HDEL", marks, field]).await;
    }
    let since = Instant::now();
    site.redis.pause();
    for node in &site.nodes {
        eventually("the gateway to give up on its store", HEARD_WITHIN, async || {
            (!node.gateway.store_is_up()).then_some(())
        })
        .await;
    }
    site.redis.resume();
    eventually("the blocks to be told again", ASSERTED_WITHIN, async || {
        (fields().await.len() == 3).then_some(())
    })
    .await;
    println!("what a failover lost is told again after {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_away_learns_of_all_it_missed_and_brings_nothing_back() {
    let mut site = Nodes::start(3).await;
    let lifted = site.nodes[0].block("lifted meanwhile", 600).await;
    site.all_hold(&lifted).await;
    let folder = site.nodes.remove(2).stop().await;
    let meanwhile = site.nodes[0].block("blocked meanwhile", 600).await;
    site.nodes[1].unblock(lifted.id).await;
    site.none_holds(lifted.key).await;
    // The store forgets that too: the others remember.
    site.redis.must(&["FLUSHALL"]).await;
    let url = site.redis.url();
    site.nodes.push(Node::start_in(folder, at(&url), "node-2", Clock::system(), SECRET));
    site.all_hold(&meanwhile).await;
    site.none_holds(lifted.key).await;
    let late = site.add();
    holds(late, &meanwhile, "the last one to know").await;
    assert!(late.holds(lifted.key).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_lasts_as_long_for_a_gateway_whose_clock_differs() {
    let site = Nodes::start(1).await;
    let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let other = Node::start_in(folder, at(&site.redis.url()), "in 2027", clock, SECRET);
    let record = site.nodes[0].block("ada", 600).await;
    holds(&other, &record, "a gateway in another year to hold it").await;
    let left = other.clock.now().until(other.holds(record.key).unwrap().block.until);
    assert!((Span::from_secs(590)..=Span::from_secs(601)).contains(&left), "{left}");
    let back = other.block("grace", 600).await;
    holds(&site.nodes[0], &back, "and the other way round").await;
    let node = &site.nodes[0];
    let left = node.clock.now().until(node.holds(back.key).unwrap().block.until);
    assert!((Span::from_secs(590)..=Span::from_secs(601)).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_all_gateways_are_in_the_journal_of_each() {
    let site = Nodes::start(3).await;
    for (node, kind) in site.nodes.iter().zip([EventKind::Limited, EventKind::Failure, EventKind::Denied]) {
        node.gateway.journal().note(Event::new(kind, node.clock.now()));
    }
    for (number, node) in site.nodes.iter().enumerate() {
        let of = |maker: usize| if maker == number { "own".to_owned() } else { name(maker) };
        let mut wanted = vec![
            ("blocked".to_owned(), of(0)),
            ("limited".to_owned(), of(0)),
            ("failure".to_owned(), of(1)),
            ("denied".to_owned(), of(2)),
        ];
        wanted.sort();
        let what = format!("{wanted:?} in the journal of gateway {number}");
        eventually(&what, HEARD_WITHIN, async || {
            let mut events = node.events();
            events.retain(|(kind, _)| !kind.starts_with("store"));
            (events == wanted).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_time_in_between_are_heard_by_a_gateway_that_comes_back() {
    let mut site = Nodes::start(2).await;
    let note = |node: &Node, kind| node.gateway.journal().note(Event::new(kind, node.clock.now()));
    let has = async |node: &Node, kind: &str, count: usize| {
        eventually(&format!("{count} {kind}"), HEARD_WITHIN, async || {
            let events = node.events();
            (events.iter().filter(|(known, _)| known == kind).count() == count).then_some(())
        })
        .await;
    };
    note(&site.nodes[0], EventKind::Limited);
    has(&site.nodes[1], "limited", 1).await;
    note(&site.nodes[1], EventKind::Reload);
    let folder = site.nodes.remove(1).stop().await;
    has(&site.nodes[0], "reload", 1).await;
    note(&site.nodes[0], EventKind::Denied);
    has(&site.nodes[0], "denied", 1).await;
    let back = Node::start_in(folder, at(&site.redis.url()), "node-1", Clock::system(), SECRET);
    has(&back, "denied", 1).await;
    has(&back, "limited", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_store_learns_of_nobody() {
    let site = Nodes::start(2).await;
    let record = site.nodes[0].block("Ada.Lovelace@example.com", 600).await;
    site.nodes[0].block("+12025550123", 600).await;
    site.all_hold(&record).await;
    site.nodes[1].unblock(record.id).await;
    site.none_holds(record.key).await;
    eventually("events in the store", HEARD_WITHIN, async || {
        (site.nodes[0].metric("tollgate_mirror_published_total{what=\"events\"}") >= 2.0).then_some(())
    })
    .await;
    let stored = site.redis.mirrored().await;
    assert!(stored.len() > 6, "marks and entries: {stored:?}");
    for line in stored {
        let line = line.to_lowercase();
        for told in ["lovelace", "example.com", "2025550123", "operator", "node-0", "user"] {
            assert!(!line.contains(told), "{told} is in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_under_another_secret_is_left_alone_and_counted() {
    let site = Nodes::start(1).await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let stranger = Node::start_in(folder, at(&site.redis.url()), "stranger", Clock::system(), [6; 32]);
    let unreadable = "tollgate_mirror_dropped_total{what=\"unreadable\"}";
    eventually("the block that was there before", HEARD_WITHIN, async || {
        (stranger.metric(unreadable) >= 1.0).then_some(())
    })
    .await;
    let record = site.nodes[0].block("ada", 600).await;
    eventually("the new one", HEARD_WITHIN, async || (stranger.metric(unreadable) >= 2.0).then_some(()))
        .await;
    assert!(stranger.holds(record.key).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_understands_does_not_stop_the_exchange() {
    let site = Nodes::start(2).await;
    let (marks, told) = ("tg:1:{mirror}:blocks", "tg:1:{mirror}:told");
    site.redis.must(&["XADD", told, "*", "n", "x", "o", "z", "k", "", "e", "", "i", "", "s", ""]).await;
    site.redis.must(&["XADD", told, "*", "a", "b"]).await;
    site.redis
        .must(&["XADD", told, "*", "n", "x", "o", "b", "k", "no key", "e", "1", "i", "g", "s", "x"])
        .await;
    site.redis.must(&["HSET", marks, "AAAAAAAAAAAAAAAAAAAAAA", "no mark"]).await;
    let record = site.nodes[0].block("ada", 600).await;
    site.all_hold(&record).await;
    for node in &site.nodes {
        eventually("strange notices to be counted", HEARD_WITHIN, async || {
            (node.metric("tollgate_mirror_dropped_total{what=\"unreadable\"}") == 3.0).then_some(())
        })
        .await;
    }
}

/// One block and its end, from one gateway to the other.
async fn is_exchanged(place: impl Fn() -> Place) {
    let nodes = [Node::start(place(), "one"), Node::start(place(), "other")];
    let since = Instant::now();
    let record = nodes[0].block("ada", 600).await;
    holds(&nodes[1], &record, "the other gateway to hold the block").await;
    println!("held after {:?}", since.elapsed());
    nodes[1].unblock(record.id).await;
    eventually("the first to let go", HEARD_WITHIN, async || {
        nodes[0].holds(record.key).is_none().then_some(())
    })
    .await;
    for node in nodes {
        assert_eq!(node.metric("tollgate_mirror_dropped_total{what=\"unreadable\"}"), 0.0);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_on_a_cluster_exchange_blocks() {
    let cluster = RedisCluster::start().await;
    let urls = cluster.urls();
    is_exchanged(|| {
        let nodes = urls.iter().map(|url| RedisUrl::parse(&url.clone().into()).expect("a URL"));
        Place::Redis(RedisPlace::Cluster(nodes.collect()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_on_upstash_exchange_blocks() {
    let redis = RedisServer::start().await;
    let upstash = Upstash::start(redis.address(), "a token").await;
    is_exchanged(|| {
        let url = UpstashUrl::parse(&upstash.url()).expect("a URL");
        Place::Upstash { url, token: "a token".to_owned().into() }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspected_by_one_gateway_is_banned_by_three() {
    const RULES: &str = "
routes:
  - { name: tight, match: { path: /tight }, upstream: app, limits: [{ key: ip, windows: { one: 1/h } }] }
  - { name: rest, match: { path: /* }, upstream: app }
suspicion: [{ key: ip, weights: { limited: 1 }, threshold: 3/hour, block: 24h }]
";
    let mut site = Site::start(3, PATIENT, RULES).await;
    assert_eq!(site.statuses(0, "/tight", 5).await, [200, 429, 429, 429, 429]);
    let since = Instant::now();
    for gateway in 0..3 {
        let mut client = Client::connect(site.gateways[gateway].address).await;
        loop {
            let answer = client.request("GET", "/").send().await;
            if answer.status == 429 {
                assert!((86_390..=86_400).contains(&answer.number("retry-after")), "{:?}", answer.headers);
                break;
            }
            assert!(since.elapsed() < HEARD_WITHIN, "gateway {gateway} lets it pass");
        }
    }
    println!("banned by three gateways after {:?}", since.elapsed());
    // The store loses it all; a gateway that starts then has it from the others.
    site.redis.must(&["FLUSHALL"]).await;
    site.add(PATIENT, RULES).await;
    eventually("the new gateway to know", ASSERTED_WITHIN, async || {
        (site.get(3, "/").await.status == 429).then_some(())
    })
    .await;
}
