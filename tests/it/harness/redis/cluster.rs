//! A cluster of six servers: three masters, each with a replica that takes over.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::port::Port;
use super::{AGREEMENT, RedisServer, Reply, eventually};

/// After so long without a word a node counts as dead.
const NODE_TIMEOUT_MS: &str = "1500";

const SLOTS: [RangeInclusive<u16>; 3] = [0..=5460, 5461..=10_922, 10_923..=16_383];

pub(crate) struct RedisCluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
    _buses: Vec<Port>,
}

/// A line of CLUSTER NODES: what one node thinks of another.
struct Member {
    id: String,
    flags: HashSet<String>,
    is_linked: bool,
    slots: Vec<RangeInclusive<u16>>,
}

impl RedisCluster {
    pub(crate) async fn start() -> RedisCluster {
        let buses: Vec<Port> = (0..2 * SLOTS.len()).map(|_| Port::free()).collect();
        let nodes: Vec<RedisServer> = buses.iter().map(spawn).collect();
        let mut ids = Vec::new();
        for node in &nodes {
            node.answers().await;
            ids.push(node.must(&["CLUSTER", "MYID"]).await.text());
        }
        let cluster = RedisCluster { nodes, ids, _buses: buses };
        cluster.meet().await;
        cluster.attach_replicas().await;
        cluster
    }

    /// What a configuration names it by: some of its nodes.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    pub(crate) fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    pub(crate) async fn slot_of(&self, key: &str) -> u16 {
        let slot = self.living().must(&["CLUSTER", "KEYSLOT", key]).await.int();
        slot.try_into().expect("a slot")
    }

    /// The node that the cluster sends this slot's commands to.
    pub(crate) async fn master_of(&self, slot: u16) -> usize {
        self.owner_of(slot).await.expect("every slot has a master")
    }

    /// Kills a node; returns once the process is gone, the cluster does not know yet.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].kill_9();
    }

    /// Waits until another node has taken over from a killed one, and all that live agree on it.
    pub(crate) async fn wait_for_failover(&self, killed: usize) {
        let what = format!("a replica to take over from {}", self.nodes[killed].address());
        eventually(&what, AGREEMENT, async || {
            for node in self.nodes.iter().filter(|node| node.is_running) {
                let members = members(node).await?;
                let dead = members.iter().find(|member| member.id == self.ids[killed])?;
                let taken_over = dead.slots.is_empty() && is_ok(node).await;
                taken_over.then_some(())?;
            }
            Some(())
        })
        .await;
    }

    /// Moves a slot with all its keys to another master, as an operator does who reshards.
    pub(crate) async fn move_slot(&self, slot: u16, to: usize) {
        let from = self.master_of(slot).await;
        assert_ne!(from, to, "the slot is there already");
        let (slot, source, target) = (slot.to_string(), &self.nodes[from], &self.nodes[to]);
        target.must(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]).await;
        source.must(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]).await;
        let port = target.port.number.to_string();
        loop {
            let keys = source.must(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await.array();
            if keys.is_empty() {
                break;
            }
            let keys: Vec<String> = keys.into_iter().map(Reply::text).collect();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            source.must(&migrate).await;
        }
        // The target first: it must not send back what the source no longer takes.
        let others = self.nodes.iter().enumerate().filter(|(index, node)| *index != to && node.is_running);
        for node in [target].into_iter().chain(others.map(|(_, node)| node)) {
            // Replicas hear it from their master, and say so.
            let _told = node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &self.ids[to]]).await;
        }
    }

    /// The keys of all counters.
    pub(crate) async fn counters(&self) -> Vec<String> {
        let mut counters = Vec::new();
        for master in [0, 8_000, 16_000] {
            let master = self.master_of(master).await;
            counters.extend(self.nodes[master].counters().await);
        }
        counters
    }

    fn living(&self) -> &RedisServer {
        self.nodes.iter().find(|node| node.is_running).expect("a node that lives")
    }

    async fn owner_of(&self, slot: u16) -> Option<usize> {
        let members = members(self.living()).await?;
        let owner =
            members.into_iter().find(|member| member.slots.iter().any(|range| range.contains(&slot)))?;
        self.ids.iter().position(|id| *id == owner.id)
    }

    async fn meet(&self) {
        for ((node, slots), epoch) in self.nodes.iter().zip(&SLOTS).zip(1..) {
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            node.must(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            node.must(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]).await;
        }
        let (first, others) = self.nodes.split_first().expect("six nodes");
        for (node, bus) in others.iter().zip(&self._buses[1..]) {
            let (port, bus) = (node.port.number.to_string(), bus.number.to_string());
            first.must(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        eventually("six nodes to know each other", AGREEMENT, async || {
            for node in &self.nodes {
                let members = members(node).await?;
                let known = members.iter().filter(|m| m.is_linked && !m.flags.contains("handshake"));
                (known.count() == self.nodes.len()).then_some(())?;
            }
            Some(())
        })
        .await;
    }

    async fn attach_replicas(&self) {
        let (masters, replicas) = self.nodes.split_at(SLOTS.len());
        for (replica, master) in replicas.iter().zip(&self.ids) {
            replica.must(&["CLUSTER", "REPLICATE", master]).await;
        }
        eventually("replicas in step, and a cluster that all nodes call sound", AGREEMENT, async || {
            for replica in replicas {
                let link = replica.info("replication", "master_link_status").await?;
                (link == "up").then_some(())?;
            }
            for master in masters {
                let replica = master.info("replication", "slave0").await?;
                replica.contains("state=online").then_some(())?;
            }
            for node in &self.nodes {
                let replicas = members(node).await?.iter().filter(|m| m.flags.contains("slave")).count();
                (is_ok(node).await && replicas == SLOTS.len()).then_some(())?;
            }
            Some(())
        })
        .await;
    }
}

fn spawn(bus: &Port) -> RedisServer {
    let bus = bus.number.to_string();
    RedisServer::spawn(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        NODE_TIMEOUT_MS,
        // A replica takes over however long ago it heard of its master.
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ])
}

async fn is_ok(node: &RedisServer) -> bool {
    let Ok(Reply::Bytes(info)) = node.try_command(&["CLUSTER", "INFO"]).await else { return false };
    String::from_utf8_lossy(&info).lines().any(|line| line == "cluster_state:ok")
}

/// What this node thinks of all that it knows; none while it does not answer.
async fn members(node: &RedisServer) -> Option<Vec<Member>> {
    let Reply::Bytes(nodes) = node.try_command(&["CLUSTER", "NODES"]).await.ok()? else { return None };
    String::from_utf8_lossy(&nodes).lines().map(member).collect()
}

/// `<id> <address> <flags> <master> <ping> <pong> <epoch> <link> <slot>…`
fn member(line: &str) -> Option<Member> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, _address, flags, _master, _ping, _pong, _epoch, link, slots @ ..] = words.as_slice() else {
        return None;
    };
    // `[93-<-id]` is a slot on its way.
    let slots = slots.iter().filter(|slot| !slot.starts_with('['));
    let slots = slots.map(|slot| {
        let (first, last) = slot.split_once('-').unwrap_or((slot, slot));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    Some(Member {
        id: (*id).to_owned(),
        flags: flags.split(',').map(str::to_owned).collect(),
        is_linked: flags.contains("myself") || *link == "connected",
        slots: slots.collect::<Option<_>>()?,
    })
}
