//! Numbers that a provider does not reach.

use crate::decision::recent::Recent;
use crate::decision::time::{Span, Timestamp};

/// The prefixes that a provider refused of late. At most twice [`Routes::HALF`]; those used last stay.
#[derive(Debug)]
pub(super) struct Routes(Recent<Box<str>, Refusal>);

#[derive(Clone, Copy, Debug)]
struct Refusal {
    until: Timestamp,
    lasts: Span,
}

impl Routes {
    const HALF: usize = 2048;
    const FIRST: Span = Span::from_secs(600);
    const LONGEST: Span = Span::from_secs(3600);

    pub(super) fn new() -> Routes {
        Routes(Recent::new(Routes::HALF))
    }

    pub(super) fn is_refused(&self, country: Option<&str>, prefix: &str, now: Timestamp) -> bool {
        let known = key(country, prefix).and_then(|key| self.0.peek(&key).copied());
        known.is_some_and(|refusal| now < refusal.until)
    }

    /// It is not asked for this prefix for ten minutes; each time twice as long, up to an hour.
    pub(super) fn refused(&mut self, country: Option<&str>, prefix: &str, now: Timestamp) {
        let Some(key) = key(country, prefix) else { return };
        let refusal = self.0.entry(key, || Refusal { until: now, lasts: Span::ZERO });
        let is_fresh = now < refusal.until;
        if !is_fresh {
            let doubled = Span::from_millis(refusal.lasts.as_millis().saturating_mul(2));
            refusal.lasts = doubled.clamp(Routes::FIRST, Routes::LONGEST);
            refusal.until = now.plus(refusal.lasts);
        }
    }

    pub(super) fn reached(&mut self, country: Option<&str>, prefix: &str) {
        if let Some(key) = key(country, prefix) {
            self.0.remove(&key);
        }
    }
}

/// Addresses that are no numbers have no routes.
fn key(country: Option<&str>, prefix: &str) -> Option<Box<str>> {
    let country = country.filter(|_| !prefix.is_empty())?;
    Some(format!("{country} {prefix}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + minutes * 60_000)
    }

    #[test]
    fn a_prefix_is_refused_for_longer_each_time() {
        let mut routes = Routes::new();
        let mut now = 0;
        for minutes in [10, 20, 40, 60, 60] {
            routes.refused(Some("BR"), "+5511", at(now));
            routes.refused(Some("BR"), "+5511", at(now));
            assert!(routes.is_refused(Some("BR"), "+5511", at(now + minutes - 1)), "{minutes}");
            now += minutes;
            assert!(!routes.is_refused(Some("BR"), "+5511", at(now)), "{minutes}");
        }
        routes.refused(Some("BR"), "+5511", at(now));
        routes.reached(Some("BR"), "+5511");
        assert!(!routes.is_refused(Some("BR"), "+5511", at(now)));
    }

    #[test]
    fn other_prefixes_and_addresses_are_not_meant() {
        let mut routes = Routes::new();
        routes.refused(Some("BR"), "+5511", at(0));
        assert!(!routes.is_refused(Some("BR"), "+5512", at(0)));
        assert!(!routes.is_refused(Some("PT"), "+5511", at(0)));
        routes.refused(None, "", at(0));
        assert!(!routes.is_refused(None, "", at(0)));
    }

    #[test]
    fn a_flood_of_prefixes_is_bounded() {
        let mut routes = Routes::new();
        for prefix in 0..3 * Routes::HALF {
            routes.refused(Some("BR"), &prefix.to_string(), at(0));
        }
        assert!(routes.0.len() <= 2 * Routes::HALF);
    }
}
