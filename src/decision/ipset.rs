//! A set of addresses and networks, answered by binary search.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// An immutable set of IP networks. IPv4 lives in its IPv4-mapped range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpSet {
    /// Sorted, disjoint, inclusive.
    ranges: Box<[(u128, u128)]>,
}

impl IpSet {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = widen(address);
        let after = self.ranges.partition_point(|&(first, _)| first <= bits);
        after > 0 && bits <= self.ranges[after - 1].1
    }
}

impl FromIterator<IpNet> for IpSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> IpSet {
        let mut ranges: Vec<(u128, u128)> =
            nets.into_iter().map(|net| (widen(net.network()), widen(net.broadcast()))).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
                Some(_) | None => merged.push((first, last)),
            }
        }
        IpSet { ranges: merged.into_boxed_slice() }
    }
}

fn widen(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(Ipv6Addr::from(v6.octets())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nets: &[&str]) -> IpSet {
        nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
    }

    #[test]
    fn finds_addresses_in_overlapping_and_nested_networks() {
        let set = set(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "0.0.0.0/32"]);
        for inside in ["10.0.0.0", "10.255.255.255", "10.1.2.3", "192.0.2.7", "2001:db8::1", "0.0.0.0"] {
            assert!(set.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::1", "0.0.0.1"]
        {
            assert!(!set.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn ipv4_and_its_mapped_form_are_one_address() {
        let set = set(&["192.0.2.0/24"]);
        assert!(set.contains("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!IpSet::default().contains("192.0.2.9".parse().unwrap()));
    }
}
