//! Who owns which slot, as one node of a cluster tells it.

use redis::{Pipeline, Value};

use super::super::advice::text_of;
use super::super::slot::SLOTS;
use super::super::wire::Trouble;

/// More than Redis recommends for a cluster.
const NODES_MAX: usize = 1024;

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

/// The slots and their owners.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Topology {
    /// Grows with every failover and every slot that moved: of two views the greater is newer.
    pub(super) epoch: u64,
    pub(super) masters: Vec<Address>,
    pub(super) replicas: Vec<Address>,
    /// For each slot its place in `masters`.
    owners: Vec<Option<u16>>,
}

/// What to ask a node; `Topology::read` takes the answers.
pub(super) fn questions() -> Pipeline {
    let mut questions = Pipeline::with_capacity(2);
    questions.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    questions
}

impl Topology {
    /// `told_by` is who answered: a node need not know its own address.
    pub(super) fn read(answers: &[Value], told_by: &Address) -> Result<Topology, Trouble> {
        let unreadable = || Trouble::garbage("the slots of the cluster are not understood");
        let [info, Value::Array(ranges)] = answers else { return Err(unreadable()) };
        let epoch = text_of(info).and_then(epoch_of).ok_or_else(unreadable)?;
        let owners = vec![None; usize::from(SLOTS)];
        let mut topology = Topology { epoch, masters: Vec::new(), replicas: Vec::new(), owners };
        for range in ranges {
            topology.add(range, told_by).ok_or_else(unreadable)?;
        }
        Ok(topology)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.masters.is_empty()
    }

    /// The place in `masters` of a slot's owner.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).copied().flatten().map(usize::from)
    }

    /// `[first, last, master, replica, …]`.
    fn add(&mut self, range: &Value, told_by: &Address) -> Option<()> {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), master, replicas @ ..] = parts.as_slice() else {
            return None;
        };
        let slots = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
        // A master whose address nobody knows leaves its slots without an owner.
        if let Some(master) = address_of(master, told_by)? {
            let place = u16::try_from(place_in(&mut self.masters, master)?).ok()?;
            self.owners.get_mut(slots)?.fill(Some(place));
        }
        for replica in replicas {
            if let Some(replica) = address_of(replica, told_by)? {
                place_in(&mut self.replicas, replica)?;
            }
        }
        Some(())
    }
}

fn epoch_of(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.trim_end().strip_prefix("cluster_current_epoch:")?.parse().ok())
}

/// `[host, port, …]`; nothing inside if the cluster does not know the host.
fn address_of(node: &Value, told_by: &Address) -> Option<Option<Address>> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::Nil => "",
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        _ => return None,
    };
    let port = u16::try_from(*port).ok()?;
    Some(match host {
        "?" => None,
        "" => Some(Address { host: told_by.host.clone(), port }),
        host => Some(Address { host: host.into(), port }),
    })
}

fn place_in(nodes: &mut Vec<Address>, node: Address) -> Option<usize> {
    if let Some(place) = nodes.iter().position(|known| *known == node) {
        return Some(place);
    }
    nodes.push(node);
    (nodes.len() <= NODES_MAX).then(|| nodes.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(slots: &str) -> Option<Topology> {
        let info = Value::BulkString(b"cluster_state:ok\r\ncluster_current_epoch:7\r\n".to_vec());
        let slots = redis::parse_redis_value(slots.as_bytes()).unwrap();
        Topology::read(&[info, slots], &at("me", 1)).ok()
    }

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    fn range(first: u16, last: u16, nodes: &[(&str, u16)]) -> String {
        let nodes = nodes.iter().map(|(host, port)| format!("*3\r\n{host}:{port}\r\n$1\r\nx\r\n"));
        let nodes: Vec<String> = nodes.collect();
        format!("*{}\r\n:{first}\r\n:{last}\r\n{}", nodes.len() + 2, nodes.concat())
    }

    #[test]
    fn slots_have_the_owners_that_are_told() {
        let ranges = [
            range(0, 99, &[("$1\r\na\r\n", 7), ("$1\r\nr\r\n", 8)]),
            range(100, 100, &[("$-1\r\n", 9), ("$0\r\n\r\n", 10)]),
            range(16383, 16383, &[("$1\r\na\r\n", 7), ("$1\r\nr\r\n", 8)]),
            range(200, 300, &[("$1\r\n?\r\n", 0)]),
        ];
        let topology = read(&format!("*4\r\n{}", ranges.concat())).unwrap();
        assert_eq!(topology.epoch, 7);
        assert_eq!(topology.masters, [at("a", 7), at("me", 9)]);
        assert_eq!(topology.replicas, [at("r", 8), at("me", 10)]);
        for (slot, owner) in
            [(0, Some(0)), (99, Some(0)), (100, Some(1)), (101, None), (250, None), (16383, Some(0))]
        {
            assert_eq!(topology.owner(slot), owner, "{slot}");
        }
        assert!(read("*0\r\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_map_is_not_taken_for_one() {
        let backwards = format!("*1\r\n{}", range(9, 1, &[("$1\r\na\r\n", 7)]));
        let beyond = format!("*1\r\n{}", range(0, 16384, &[("$1\r\na\r\n", 7)]));
        let bare = "*1\r\n*2\r\n:0\r\n:1\r\n".to_owned();
        let port = "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:70000\r\n".to_owned();
        for text in [backwards, beyond, bare, port, "+OK\r\n".to_owned(), "*1\r\n:1\r\n".to_owned()] {
            assert_eq!(read(&text), None, "{text}");
        }
    }
}
