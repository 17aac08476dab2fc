//! How far the edge has got in taking its leave, as requests need to know it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Shared with whoever ends the process. It goes forward only.
#[derive(Clone, Debug, Default)]
pub struct Farewell(Arc<AtomicU8>);

const LEAVING: u8 = 1;
const OVER: u8 = 2;

impl Farewell {
    /// Each answer is the last on its connection from now on.
    pub fn begin(&self) {
        self.0.fetch_max(LEAVING, Ordering::AcqRel);
    }

    /// Another process counts from now on: what would be admitted here would be counted nowhere.
    pub fn decide_no_more(&self) {
        self.0.fetch_max(OVER, Ordering::AcqRel);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) >= LEAVING
    }

    pub(super) fn decides(&self) -> bool {
        self.0.load(Ordering::Acquire) < OVER
    }
}
