//! What a provider was paid of late.

use crate::decision::rolling::Rolling;
use crate::decision::time::{Span, Timestamp};
use crate::sms::spec::Cost;

const HOUR: Span = Span::from_secs(3600);

/// What one provider's messages of the last 24 hours cost, by hour: what was reserved for them, or what they cost as far as the
/// provider told. The oldest hour counts whole, so the sum is never less than what was spent.
#[derive(Clone, Debug)]
pub(super) struct Spend {
    /// ISO 4217. Amounts in another one start anew: nobody knows what they are worth.
    currency: Box<str>,
    hours: Rolling<u64, 25>,
}

/// What a provider was paid in one hour, to outlive the process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpendRow {
    pub provider: Box<str>,
    /// Hours since the epoch.
    pub hour: u64,
    /// ISO 4217, upper case.
    pub currency: Box<str>,
    /// Millionths of the currency.
    pub micros: u64,
}

/// What `segments` cost, in the currency's millionths.
pub(super) fn price(cost: &Cost, country: Option<&str>, segments: u16) -> u64 {
    let one = country.and_then(|country| cost.by_country.get(country)).unwrap_or(&cost.default_micros);
    one.saturating_mul(u64::from(segments.max(1)))
}

impl Spend {
    pub(super) fn new(currency: &str) -> Spend {
        Spend { currency: currency.into(), hours: Rolling::new(HOUR) }
    }

    pub(super) fn currency(&self) -> &str {
        &self.currency
    }

    /// Of the last 24 hours, and of less than one before.
    pub(super) fn sum(&self, now: Timestamp) -> u64 {
        self.hours.sum(now)
    }

    pub(super) fn has_room(&self, cost: &Cost, micros: u64, now: Timestamp) -> bool {
        cost.daily_max_micros.is_none_or(|max| self.sum(now).saturating_add(micros) <= max)
    }

    pub(super) fn add(&mut self, micros: u64, at: Timestamp) {
        self.correct(0, micros, at);
    }

    /// What was noted as `from` at that time was `to`.
    pub(super) fn correct(&mut self, from: u64, to: u64, at: Timestamp) {
        if let Some(hour) = self.hours.at(at) {
            *hour = hour.saturating_sub(from).saturating_add(to);
        }
    }

    pub(super) fn rows(&self, provider: &str, now: Timestamp) -> Vec<SpendRow> {
        let current = now.floor_millis() / HOUR.as_millis();
        let row = |(age, micros): (u64, u64)| SpendRow {
            provider: provider.into(),
            hour: current.saturating_sub(age),
            currency: self.currency.clone(),
            micros,
        };
        self.hours.recent(now).filter(|(_, micros)| *micros > 0).map(row).collect()
    }

    /// Takes over what an earlier process spent. An hour that lies ahead, because the clock was set back, counts as this one.
    pub(super) fn restore(&mut self, row: &SpendRow, now: Timestamp) {
        let at = Timestamp::from_millis(row.hour.saturating_mul(HOUR.as_millis())).min(now);
        self.add(row.micros, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + minutes * 60_000)
    }

    fn cost(daily_max_micros: u64) -> Cost {
        Cost {
            default_micros: 7500,
            by_country: [("DE".into(), 80_000)].into(),
            currency: "USD".into(),
            daily_max_micros: Some(daily_max_micros),
        }
    }

    #[test]
    fn a_price_is_that_of_the_country_for_each_segment() {
        let cost = cost(0);
        assert_eq!(price(&cost, Some("DE"), 2), 160_000);
        assert_eq!(price(&cost, Some("FR"), 1), 7500);
        assert_eq!(price(&cost, None, 0), 7500);
    }

    #[test]
    fn no_24_hours_have_more_than_the_maximum() {
        for first in [0, 1, 29, 59] {
            let mut spend = Spend::new("USD");
            let cost = cost(1000);
            assert!(spend.has_room(&cost, 1000, at(first)));
            spend.add(1000, at(first));
            assert!(!spend.has_room(&cost, 1, at(first)));
            assert!(!spend.has_room(&cost, 1, at(first + 24 * 60 - 1)), "{first}");
            assert!(spend.has_room(&cost, 1000, at(first + 25 * 60)), "{first}");
        }
    }

    #[test]
    fn corrections_go_to_their_own_hour() {
        let mut spend = Spend::new("USD");
        spend.add(100, at(0));
        spend.add(10, at(60));
        spend.correct(100, 70, at(0));
        assert_eq!(spend.sum(at(60)), 80);
        spend.correct(70, 0, at(0));
        spend.correct(70, 0, at(0));
        assert_eq!(spend.sum(at(60)), 10, "never below nothing");
        spend.correct(10, 500, at(60));
        assert_eq!(spend.sum(at(60 + 25 * 60)), 0);
    }

    #[test]
    fn what_was_spent_outlives_the_process_wherever_the_clock_stands() {
        let mut spend = Spend::new("EUR");
        spend.add(100, at(0));
        spend.add(10, at(300));
        let rows = spend.rows("twilio", at(300));
        assert_eq!(rows.iter().map(|row| row.micros).sum::<u64>(), 110);
        for now in [at(300), at(0), at(301)] {
            let mut restored = Spend::new("EUR");
            rows.iter().for_each(|row| restored.restore(row, now));
            assert_eq!(restored.sum(now), 110);
        }
    }
}
