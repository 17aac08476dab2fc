//! What a walk over all blocks sees of a text without looking at it: sixteen bytes beside a million others, where the
//! text itself is somewhere else in memory.

/// Of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    /// Its first eight bytes, as a number: texts are sorted by it as far as they differ there.
    pub(super) head: u64,
    /// A bit for each pair of neighbouring bytes, in lower case; of several pairs the same, now and then.
    pairs: u64,
}

impl Glance {
    pub(super) fn of(text: &str) -> Glance {
        let bytes = text.as_bytes();
        let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or_default());
        let head = (0..8).fold(0, |head, at| head << 8 | byte(at));
        let pairs = bytes.iter().zip(bytes.iter().skip(1)).map(|(&one, &next)| bit(one, next));
        Glance { head, pairs: pairs.fold(0, |pairs, bit| pairs | bit) }
    }

    /// Whether the text of `part` may stand in this one, in either case. Only a no is certain.
    pub(super) fn may_hold(self, part: Glance) -> bool {
        self.pairs & part.pairs == part.pairs
    }
}

fn bit(one: u8, next: u8) -> u64 {
    let pair = u32::from(one.to_ascii_lowercase()) << 8 | u32::from(next.to_ascii_lowercase());
    // Fibonacci hashing: the upper six bits of the product are spread best.
    1 << (pair.wrapping_mul(0x9e37_79b1) >> 26)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_stands_in_a_text_may_be_held(before in ".{0,12}", part in ".{0,8}", after in ".{0,12}") {
            let text = Glance::of(&format!("{before}{part}{after}"));
            prop_assert!(text.may_hold(Glance::of(&part)));
            prop_assert!(text.may_hold(Glance::of(&part.to_ascii_uppercase())));
        }

        #[test]
        fn heads_sort_as_texts_do(one in ".{0,10}", other in ".{0,10}") {
            let heads = Glance::of(&one).head.cmp(&Glance::of(&other).head);
            prop_assert!(heads.is_eq() || heads == one.cmp(&other));
        }
    }

    #[test]
    fn few_texts_may_hold_what_they_do_not() {
        let part = Glance::of("nobody");
        let held =
            (0..10_000).filter(|n| Glance::of(&format!("person{n}@example.com")).may_hold(part)).count();
        assert!(held < 500, "{held} of 10000");
    }
}
