//! A view of a cluster to work with: servers by slot, and keys to probe them by.

use std::sync::Arc;

use super::super::slot::{SLOTS, slot_of};
use super::topology::{Address, Topology};
use super::{LANES, Node, lane_of};

/// How many keys are tried to find one for each master of each lane. With every slot hit four
/// times on average, only a master with a slot or two in a lane may go without a probe there.
const PROBE_KEYS_TRIED: u32 = 4 * SLOTS as u32;

/// Slots and who serves them.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) topology: Topology,
    /// In the order of the topology's masters.
    masters: Vec<Arc<Node>>,
    probes: Vec<Probe>,
}

/// A key of a lane that a certain master owns.
#[derive(Debug, PartialEq, Eq)]
struct Probe {
    lane: u8,
    master: usize,
    key: Box<str>,
}

impl Map {
    pub(super) fn new(topology: Topology, prefix: &str, node: impl FnMut(&Address) -> Arc<Node>) -> Map {
        let masters = topology.masters.iter().map(node).collect();
        let probes = probes(&topology, prefix);
        Map { topology, masters, probes }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        self.masters.get(self.topology.owner(slot)?)
    }

    pub(super) fn masters(&self) -> &[Arc<Node>] {
        &self.masters
    }

    /// A key for each master that serves a part of the lane. None if no key of ours can lie in
    /// the lane, because the prefix has a tag.
    pub(super) fn probes(&self, lane: u8) -> impl Iterator<Item = (&Arc<Node>, &str)> {
        let of_lane = self.probes.iter().filter(move |probe| probe.lane == lane);
        of_lane.filter_map(|probe| Some((self.masters.get(probe.master)?, &*probe.key)))
    }
}

fn probes(topology: &Topology, prefix: &str) -> Vec<Probe> {
    let mut found: Vec<Probe> = Vec::new();
    let mut wanted = pairs(topology);
    for number in 0..PROBE_KEYS_TRIED {
        if wanted == 0 {
            break;
        }
        let key = format!("{prefix}1:probe:{number}");
        let slot = slot_of(&key);
        let (lane, Some(master)) = (lane_of(slot), topology.owner(slot)) else { continue };
        if !found.iter().any(|probe| probe.lane == lane && probe.master == master) {
            found.push(Probe { lane, master, key: key.into() });
            wanted -= 1;
        }
    }
    found
}

/// How many pairs of a lane and a master in it there are.
fn pairs(topology: &Topology) -> usize {
    let mut seen = vec![false; topology.masters.len() * usize::from(LANES)];
    for slot in 0..SLOTS {
        let place =
            topology.owner(slot).map(|master| master * usize::from(LANES) + usize::from(lane_of(slot)));
        if let Some(seen) = place.and_then(|place| seen.get_mut(place)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count()
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    /// Three masters, split as `redis-cli --cluster create` does.
    fn three() -> Topology {
        let bytes = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |first: i64, last: i64, port: i64| {
            Value::Array(vec![
                Value::Int(first),
                Value::Int(last),
                Value::Array(vec![bytes("h"), Value::Int(port)]),
            ])
        };
        let ranges = vec![range(0, 5460, 1), range(5461, 10922, 2), range(10923, 16383, 3)];
        let told_by = Address { host: "h".into(), port: 1 };
        let Ok(topology) =
            Topology::read(&[bytes("cluster_current_epoch:1"), Value::Array(ranges)], &told_by)
        else {
            panic!("the answers are sound")
        };
        topology
    }

    #[test]
    fn each_master_of_a_lane_has_a_key_there() {
        let topology = three();
        let probes = probes(&topology, "tg:");
        for probe in &probes {
            let slot = slot_of(&probe.key);
            assert!(probe.key.starts_with("tg:1:probe:"), "{probe:?}");
            assert_eq!((lane_of(slot), topology.owner(slot)), (probe.lane, Some(probe.master)), "{probe:?}");
        }
        // Lanes 5 and 10 lie across the borders.
        for lane in 0..LANES {
            let count = probes.iter().filter(|probe| probe.lane == lane).count();
            assert_eq!(count, if matches!(lane, 5 | 10) { 2 } else { 1 }, "lane {lane}");
        }
    }

    #[test]
    fn with_a_tag_in_the_prefix_one_key_is_all_there_is() {
        let probes = probes(&three(), "{gate}:");
        assert_eq!(probes.len(), 1);
        assert_eq!(probes[0].lane, lane_of(slot_of("{gate}:1:x")));
    }
}
