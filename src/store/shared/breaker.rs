//! When to stop asking: one breaker for each part of a store that fails by itself.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::decision::time::{Span, Timestamp};
use crate::store::remote::{StoreError, Weight};

/// Open: nobody asks the store, but a probe from time to time.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: AtomicBool,
    troubled: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// How the calls of late went, counted from the first failure on.
#[derive(Debug, Default)]
struct Trouble {
    in_a_row: u32,
    calls: u32,
    failures: u32,
    since: Timestamp,
    why: Option<StoreError>,
}

/// Whether a failure was the one that opened a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tripped {
    Now,
    No,
}

impl Breaker {
    /// So many failures one after the other mean that the store is away.
    const IN_A_ROW: u32 = 5;
    /// So do failures of half of the calls within a second, if there were enough to tell.
    const CALLS_MIN: u32 = 20;
    const SECOND: Span = Span::from_secs(1);

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// A call was answered.
    pub(super) fn succeeded(&self, now: Timestamp) {
        // Without trouble there is nothing to note, and nothing to lock.
        if !self.troubled.load(Ordering::Acquire) {
            return;
        }
        let mut trouble = self.trouble.lock();
        trouble.in_a_row = 0;
        trouble.calls = trouble.calls.saturating_add(1);
        if now >= trouble.since.plus(Breaker::SECOND) {
            self.troubled.store(false, Ordering::Release);
        }
    }

    pub(super) fn failed(&self, error: &StoreError, now: Timestamp) -> Tripped {
        let mut trouble = self.trouble.lock();
        if !self.troubled.swap(true, Ordering::AcqRel) || now >= trouble.since.plus(Breaker::SECOND) {
            let in_a_row = trouble.in_a_row;
            *trouble = Trouble { in_a_row, since: now, ..Trouble::default() };
        }
        trouble.in_a_row = trouble.in_a_row.saturating_add(1);
        trouble.calls = trouble.calls.saturating_add(1);
        trouble.failures = trouble.failures.saturating_add(1);
        let trips = match error.weight() {
            Weight::Away => true,
            Weight::Stumbled => {
                let mostly = trouble.calls >= Breaker::CALLS_MIN && trouble.failures * 2 > trouble.calls;
                trouble.in_a_row >= Breaker::IN_A_ROW || mostly
            }
            Weight::Local => false,
        };
        if !trips || self.open.swap(true, Ordering::AcqRel) {
            return Tripped::No;
        }
        trouble.why = Some(error.clone());
        Tripped::Now
    }

    /// The store does not answer, whatever came before.
    pub(super) fn open(&self, why: StoreError) {
        self.trouble.lock().why = Some(why);
        self.open.store(true, Ordering::Release);
    }

    /// A probe was answered. Whether the breaker was open.
    pub(super) fn close(&self) -> bool {
        let mut trouble = self.trouble.lock();
        *trouble = Trouble::default();
        self.troubled.store(false, Ordering::Release);
        self.open.swap(false, Ordering::AcqRel)
    }

    /// What opened it.
    pub(super) fn why(&self) -> Option<StoreError> {
        self.trouble.lock().why.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    #[test]
    fn one_lost_connection_opens_it() {
        let breaker = Breaker::default();
        assert_eq!(breaker.failed(&StoreError::Disconnected("reset".into()), at(0)), Tripped::Now);
        assert!(breaker.is_open());
        assert_eq!(breaker.failed(&StoreError::Timeout, at(1)), Tripped::No);
        assert_eq!(breaker.why(), Some(StoreError::Disconnected("reset".into())));
        assert!(breaker.close());
        assert!(!breaker.is_open());
        assert!(!breaker.close());
    }

    #[test]
    fn five_timeouts_in_a_row_open_it_and_four_do_not() {
        let breaker = Breaker::default();
        for ms in 0..4 {
            assert_eq!(breaker.failed(&StoreError::Timeout, at(ms)), Tripped::No);
        }
        breaker.succeeded(at(4));
        for ms in 5..9 {
            assert_eq!(breaker.failed(&StoreError::Timeout, at(ms)), Tripped::No);
        }
        assert_eq!(breaker.failed(&StoreError::Timeout, at(9)), Tripped::Now);
    }

    #[test]
    fn timeouts_far_apart_add_up_only_in_a_row() {
        let breaker = Breaker::default();
        for second in 0..50 {
            assert_eq!(breaker.failed(&StoreError::Timeout, at(second * 2_000)), Tripped::No);
            breaker.succeeded(at(second * 2_000 + 1));
        }
    }

    #[test]
    fn half_of_many_calls_open_it() {
        let breaker = Breaker::default();
        let mut tripped = Tripped::No;
        for ms in 0..12 {
            breaker.succeeded(at(ms));
            breaker.failed(&StoreError::Timeout, at(ms));
            tripped = breaker.failed(&StoreError::Timeout, at(ms));
            if tripped == Tripped::Now {
                break;
            }
        }
        assert_eq!(tripped, Tripped::Now);
    }

    #[test]
    fn one_spoilt_key_never_opens_it() {
        let breaker = Breaker::default();
        for ms in 0..100 {
            assert_eq!(breaker.failed(&StoreError::WrongType, at(ms)), Tripped::No);
        }
    }
}
