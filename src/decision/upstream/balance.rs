//! Which server is asked: in turn by weight, or by client.

/// The order in which servers are asked, over and over.
///
/// The smooth weighted round robin of nginx, written down for one whole cycle: servers of weights 5, 1 and 1 come as
/// a a b a c a a, not as a a a a a b c. So asking takes no lock; the order is made anew when a server comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns(Box<[u16]>);

impl Turns {
    /// Of the servers with these weights, at most 65,536; a server of weight 0 is left out.
    pub fn smooth(weights: &[u32]) -> Turns {
        let divisor = weights.iter().copied().filter(|weight| *weight > 0).reduce(greatest_common_divisor);
        let Some(divisor) = divisor else { return Turns(Box::default()) };
        let shares: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        let total: i64 = shares.iter().sum();
        let mut credits = vec![0_i64; shares.len()];
        let next = |_| {
            let mut best: Option<usize> = None;
            for (index, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
                credits[index] += share;
                if best.is_none_or(|best| credits[best] < credits[index]) {
                    best = Some(index);
                }
            }
            let best = best?;
            credits[best] -= total;
            u16::try_from(best).ok()
        };
        Turns((0..total).filter_map(next).collect())
    }

    /// The server of this turn, or the next one in the order that is not to be avoided.
    pub fn at(&self, turn: usize, avoided: impl Fn(usize) -> bool) -> Option<usize> {
        let start = turn.checked_rem(self.0.len())?;
        let (before, from) = self.0.split_at(start);
        from.iter().chain(before).map(|index| usize::from(*index)).find(|index| !avoided(*index))
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A server that may be chosen for a client.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub index: usize,
    /// Tells servers apart, the same in every gateway: a [`fingerprint`].
    pub id: u64,
    /// At least 1.
    pub weight: u32,
}

/// The server of a client: the one that ranks highest for it (weighted rendezvous hashing).
///
/// Each server's rank depends on the client and itself alone. So when one goes, its clients move and no others do,
/// and they come back with it.
pub fn rendezvous(client: u64, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    let ranked = candidates.map(|candidate| (candidate.index, rank(client, candidate)));
    ranked.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(index, _)| index)
}

/// Evenly spread between 0 and 1, raised to one over the weight, as its logarithm: never NaN, for neither is zero.
fn rank(client: u64, candidate: Candidate) -> f64 {
    // 53 bits are what a double holds exactly.
    let drawn = mixed(client ^ candidate.id.rotate_left(32)) >> 11;
    let unit = (drawn as f64 + 0.5) / (1_u64 << 53) as f64;
    unit.ln() / f64::from(candidate.weight.max(1))
}

/// A number that stands for these bytes, the same in every process (FNV-1a, then mixed).
pub fn fingerprint(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    mixed(bytes.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
}

/// The finisher of SplitMix64: every bit of the outcome depends on every bit of what went in.
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cycle(weights: &[u32], turns: usize) -> Vec<usize> {
        let order = Turns::smooth(weights);
        (0..turns).map(|turn| order.at(turn, |_| false).unwrap()).collect()
    }

    #[test]
    fn a_heavy_server_is_asked_often_but_not_in_a_row() {
        assert_eq!(cycle(&[5, 1, 1], 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(cycle(&[3, 3, 3], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(cycle(&[0, 100, 50], 6), [1, 2, 1, 1, 2, 1]);
    }

    #[test]
    fn what_is_avoided_is_passed_over_and_all_avoided_is_nobody() {
        let order = Turns::smooth(&[1, 1, 1]);
        assert_eq!(order.at(0, |index| index == 0), Some(1));
        assert_eq!(order.at(2, |index| index != 1), Some(1));
        assert_eq!(order.at(usize::MAX, |_| true), None);
        assert_eq!(Turns::smooth(&[]).at(7, |_| false), None);
        assert_eq!(Turns::smooth(&[0, 0]).at(7, |_| false), None);
    }

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let each = weights.iter().enumerate().map(|(index, weight)| Candidate {
            index,
            id: fingerprint(format!("10.0.0.{index}:80").as_bytes()),
            weight: *weight,
        });
        each.collect()
    }

    fn client(number: u32) -> u64 {
        fingerprint(&number.to_be_bytes())
    }

    #[test]
    fn only_the_clients_of_a_server_that_goes_move() {
        let all = candidates(&[1, 2, 1, 3, 1]);
        let mut moved = 0;
        for number in 0..20_000 {
            let home = rendezvous(client(number), all.iter().copied()).unwrap();
            let left = all.iter().copied().filter(|candidate| candidate.index != 3);
            let then = rendezvous(client(number), left).unwrap();
            if home == 3 {
                moved += 1;
                assert_ne!(then, 3);
            } else {
                assert_eq!(then, home);
            }
        }
        // Three of eight parts.
        assert!((7_200..7_800).contains(&moved), "{moved}");
    }

    #[test]
    fn clients_spread_by_weight_and_alike_in_every_process() {
        let all = candidates(&[1, 1, 2]);
        let mut homes = [0; 3];
        for number in 0..40_000 {
            homes[rendezvous(client(number), all.iter().copied()).unwrap()] += 1;
        }
        for (home, expected) in homes.iter().zip([10_000_i32, 10_000, 20_000]) {
            assert!((home - expected).abs() < 500, "{homes:?}");
        }
        // What gateways of another version must agree with.
        assert_eq!(fingerprint(b"10.0.0.1:80"), mixed(fnv(b"10.0.0.1:80")));
        assert_eq!(rendezvous(1, std::iter::empty()), None);
    }

    /// The published hash, written another way.
    fn fnv(bytes: &[u8]) -> u64 {
        let mut hash: u64 = 14_695_981_039_346_656_037;
        for byte in bytes {
            hash ^= u64::from(*byte);
            hash = hash.wrapping_mul(1_099_511_628_211);
        }
        hash
    }

    proptest! {
        /// In every cycle each server is asked exactly as often as its weight says, and never much ahead of it.
        #[test]
        fn turns_are_exact(weights in prop::collection::vec(0_u32..40, 1..12)) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let asked = cycle(&weights, total as usize);
            let mut counts = vec![0_u32; weights.len()];
            for (so_far, index) in (1_u32..).zip(asked) {
                counts[index] += 1;
                let fair = f64::from(so_far) * f64::from(weights[index]) / f64::from(total);
                prop_assert!(f64::from(counts[index]) <= fair + weights.len() as f64);
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
