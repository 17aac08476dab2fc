//! What is known of providers for as long as the process lives.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::notice::Notice;
use super::spend::SpendRow;
use super::state::State;
use crate::decision::time::Timestamp;

/// By name: breaker, pace, spend and health, so that a reload of the configuration forgets none of it. A clone is another
/// handle to the same.
#[derive(Clone)]
pub struct ProviderStates(Arc<Inner>);

struct Inner {
    by_name: Mutex<BTreeMap<Box<str>, Arc<State>>>,
    tell: Box<dyn Fn(&Notice) + Send + Sync>,
}

impl ProviderStates {
    /// Of providers of which nothing is known yet. `tell` hears what operators should; it must not wait for anything.
    pub fn new(tell: impl Fn(&Notice) + Send + Sync + 'static) -> ProviderStates {
        ProviderStates(Arc::new(Inner { by_name: Mutex::default(), tell: Box::new(tell) }))
    }

    /// What each provider was paid in the last 24 hours, by hour.
    pub fn spent(&self, now: Timestamp) -> Vec<SpendRow> {
        let by_name = self.0.by_name.lock();
        by_name.iter().flat_map(|(name, state)| state.spend_rows(name, now)).collect()
    }

    /// Takes over what an earlier process [`spent`](ProviderStates::spent). To be called once, before anything is sent.
    pub fn restore(&self, rows: &[SpendRow], now: Timestamp) {
        for row in rows {
            self.named(&row.provider).restore_spend(row, now);
        }
    }

    /// The state of this provider; a new one if it has none.
    pub(super) fn named(&self, name: &str) -> Arc<State> {
        let mut by_name = self.0.by_name.lock();
        Arc::clone(by_name.entry(name.into()).or_insert_with(|| Arc::new(State::new())))
    }

    /// Forgets providers that no dispatcher has any more, but for those that were paid of late: taking one out of the
    /// file and back in does not make its daily maximum anew.
    pub(super) fn tidy(&self, now: Timestamp) {
        let is_used = |state: &Arc<State>| Arc::strong_count(state) > 1 || state.was_paid(now);
        self.0.by_name.lock().retain(|_, state| is_used(state));
    }

    /// One line in the log, and a word to whoever listens.
    pub(super) fn tell(&self, notice: &Notice) {
        notice.log();
        (self.0.tell)(notice);
    }
}

impl fmt::Debug for ProviderStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderStates({})", self.0.by_name.lock().len())
    }
}
