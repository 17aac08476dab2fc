//! What happened of late, in pieces of time that are all equally long.

use super::time::{Span, Timestamp};

/// The current piece of time and the `N - 1` before it, each with what was noted in it.
///
/// All of them together cover at least `N - 1` pieces: a sum over them is never less than what happened in that
/// time, and more by what happened in one piece at most.
#[derive(Clone, Debug)]
pub struct Rolling<T, const N: usize> {
    piece_ms: u64,
    /// Each with the number of its piece since the epoch.
    pieces: [(u64, T); N],
}

impl<T: Copy + Default, const N: usize> Rolling<T, N> {
    /// `piece`: at least a millisecond.
    pub fn new(piece: Span) -> Rolling<T, N> {
        Rolling { piece_ms: piece.as_millis().max(1), pieces: [(0, T::default()); N] }
    }

    /// What was noted in the piece that this time is in, to be changed. None if that piece has passed by.
    pub fn at(&mut self, at: Timestamp) -> Option<&mut T> {
        let number = self.number(at);
        let place = usize::try_from(number % N as u64).ok()?;
        let piece = self.pieces.get_mut(place)?;
        if piece.0 < number {
            *piece = (number, T::default());
        }
        (piece.0 == number).then_some(&mut piece.1)
    }

    /// The pieces that still count, each with its age: 0 is the current one.
    pub fn recent(&self, now: Timestamp) -> impl Iterator<Item = (u64, T)> + '_ {
        let current = self.number(now);
        self.pieces.iter().filter_map(move |(number, noted)| {
            let age = current.checked_sub(*number)?;
            (age < N as u64).then_some((age, *noted))
        })
    }

    fn number(&self, at: Timestamp) -> u64 {
        at.floor_millis() / self.piece_ms
    }
}

impl<const N: usize> Rolling<u64, N> {
    pub fn sum(&self, now: Timestamp) -> u64 {
        self.recent(now).fold(0, |sum, (_, noted)| sum.saturating_add(noted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: Span = Span::from_secs(60);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    #[test]
    fn what_happened_counts_for_at_least_all_pieces_but_one() {
        // Ten pieces are nine minutes, whenever in its piece something happened.
        for offset in [0, 1, 30_000, 59_999] {
            let mut rolling: Rolling<u64, 10> = Rolling::new(PIECE);
            *rolling.at(at(offset)).unwrap() += 1;
            assert_eq!(rolling.sum(at(offset + 9 * 60_000)), 1, "{offset}");
            assert_eq!(rolling.sum(at(offset + 10 * 60_000)), 0, "{offset}");
        }
    }

    #[test]
    fn a_piece_that_has_passed_by_is_not_changed_and_changes_none() {
        let mut rolling: Rolling<u64, 3> = Rolling::new(PIECE);
        *rolling.at(at(0)).unwrap() += 5;
        *rolling.at(at(60_000)).unwrap() += 7;
        *rolling.at(at(0)).unwrap() -= 1;
        assert_eq!(rolling.sum(at(60_000)), 11);
        *rolling.at(at(180_000)).unwrap() += 2;
        assert!(rolling.at(at(0)).is_none());
        assert_eq!(rolling.sum(at(180_000)), 9);
        let mut ages: Vec<_> = rolling.recent(at(180_000)).collect();
        ages.sort_unstable();
        assert_eq!(ages, [(0, 2), (2, 7)]);
    }
}
