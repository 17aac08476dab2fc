//! What is counted of one-time codes and of the providers that carry them.

use std::time::Duration;

use prometheus::{Counter, Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

use super::family::Family;

/// From a carrier next door to one that keeps a message until the code is dead, seconds.
const DELIVERY_BUCKETS: [f64; 12] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The metrics of codes and providers. A clone is another handle to the same.
#[derive(Clone)]
pub struct SmsMetrics {
    sends: Family<IntCounter, 3>,
    failovers: Family<IntCounter, 2>,
    delivery_seconds: Family<Histogram, 1>,
    receipts: Family<IntCounter, 2>,
    cost: Family<Counter, 2>,
    up: Family<IntGauge, 1>,
    verified: Family<IntCounter, 1>,
    otp_sends: Family<IntCounter, 2>,
    verifications: Family<IntCounter, 1>,
    fraud_findings: Family<IntCounter, 2>,
}

/// The label values of one provider. Words that are `'static` come from closed sets.
#[derive(Clone, Copy, Debug)]
pub struct ProviderLabels<'a> {
    pub name: &'a str,
    pub channels: &'a [&'static str],
    /// What may become of a send.
    pub outcomes: &'a [&'static str],
    /// What receipts tell.
    pub states: &'a [&'static str],
    /// Of its prices, if it has any.
    pub currency: Option<&'a str>,
    /// The other providers.
    pub others: &'a [&'a str],
}

/// The metrics of one provider.
#[derive(Clone)]
pub struct ProviderMetrics {
    sends: Vec<([&'static str; 2], IntCounter)>,
    receipts: Vec<(&'static str, IntCounter)>,
    /// By the provider that was asked before.
    failovers: Vec<(Box<str>, IntCounter)>,
    delivery_seconds: Histogram,
    cost: Option<Counter>,
    up: IntGauge,
    verified: IntCounter,
}

impl SmsMetrics {
    pub(super) fn new(registry: &Registry) -> Result<SmsMetrics, prometheus::Error> {
        let counts = |name, help, labels| Family::new(registry, name, help, labels, IntCounter::with_opts);
        Ok(SmsMetrics {
            sends: Family::new(
                registry,
                "tollgate_sms_sends_total",
                "Messages given to a provider, by what it made of them.",
                ["provider", "channel", "outcome"],
                IntCounter::with_opts,
            )?,
            failovers: counts(
                "tollgate_sms_failovers_total",
                "Messages given to a provider after another one had not taken them.",
                ["from", "to"],
            )?,
            delivery_seconds: Family::new(
                registry,
                "tollgate_sms_delivery_seconds",
                "Time from giving a message to the provider to the receipt that says it was delivered.",
                ["provider"],
                |opts| Histogram::with_opts(HistogramOpts::from(opts).buckets(DELIVERY_BUCKETS.to_vec())),
            )?,
            receipts: counts(
                "tollgate_sms_receipts_total",
                "What providers reported of their messages, by state.",
                ["provider", "state"],
            )?,
            cost: Family::new(
                registry,
                "tollgate_sms_cost_total",
                "What messages cost, by the prices of the configuration, or as the provider told; a price that is told later only raises it.",
                ["provider", "currency"],
                Counter::with_opts,
            )?,
            up: Family::new(
                registry,
                "tollgate_sms_provider_up",
                "1 while the provider is asked, 0 while it is left alone because it failed.",
                ["provider"],
                IntGauge::with_opts,
            )?,
            verified: Family::new(
                registry,
                "tollgate_otp_verified_total",
                "Codes that were given back right, by the provider that carried them.",
                ["provider"],
                IntCounter::with_opts,
            )?,
            otp_sends: counts(
                "tollgate_otp_sends_total",
                "Codes that were asked for, by channel and what became of them.",
                ["channel", "outcome"],
            )?,
            verifications: Family::new(
                registry,
                "tollgate_otp_verifications_total",
                "Codes that were given back, by result.",
                ["result"],
                IntCounter::with_opts,
            )?,
            fraud_findings: counts(
                "tollgate_otp_fraud_findings_total",
                "Signs of fraud among those who ask for codes; mode=\"monitor\" were let go.",
                ["kind", "mode"],
            )?,
        })
    }

    /// The handles of one provider. One of the same name goes on counting where it was.
    pub fn provider(&self, labels: &ProviderLabels<'_>) -> ProviderMetrics {
        let ProviderLabels { name, channels, outcomes, states, currency, others } = *labels;
        let pairs =
            channels.iter().flat_map(|&channel| outcomes.iter().map(move |&outcome| [channel, outcome]));
        let sends =
            pairs.map(|[channel, outcome]| ([channel, outcome], self.sends.child([name, channel, outcome])));
        ProviderMetrics {
            sends: sends.collect(),
            receipts: states.iter().map(|&state| (state, self.receipts.child([name, state]))).collect(),
            failovers: others.iter().map(|&from| (from.into(), self.failovers.child([from, name]))).collect(),
            delivery_seconds: self.delivery_seconds.child([name]),
            cost: currency.map(|currency| self.cost.child([name, currency])),
            up: self.up.child([name]),
            verified: self.verified.child([name]),
        }
    }

    /// Drops the series of providers that are not among these any more.
    pub fn retain(&self, providers: &[&str]) {
        self.sends.retain(providers);
        self.failovers.retain_where(|[from, to]| providers.contains(&&**from) && providers.contains(&&**to));
        self.delivery_seconds.retain(providers);
        self.receipts.retain(providers);
        self.cost.retain(providers);
        self.up.retain(providers);
        self.verified.retain(providers);
    }

    /// A code was asked for over this channel, and this became of it.
    pub fn otp_asked(&self, channel: &'static str, outcome: &'static str) {
        self.otp_sends.child([channel, outcome]).inc();
    }

    /// A code was given back.
    pub fn otp_verification(&self, result: &'static str) {
        self.verifications.child([result]).inc();
    }

    pub fn fraud_finding(&self, kind: &'static str, mode: &'static str) {
        self.fraud_findings.child([kind, mode]).inc();
    }
}

impl ProviderMetrics {
    /// It was given a message over this channel, and this became of it.
    pub fn sent(&self, channel: &str, outcome: &str) {
        if let Some((_, count)) = self.sends.iter().find(|(labels, _)| *labels == [channel, outcome]) {
            count.inc();
        }
    }

    /// It was given a message that this other provider had not taken.
    pub fn took_over_from(&self, other: &str) {
        if let Some((_, count)) = self.failovers.iter().find(|(from, _)| **from == *other) {
            count.inc();
        }
    }

    /// It reported of a message.
    pub fn reported(&self, state: &str) {
        if let Some((_, count)) = self.receipts.iter().find(|(known, _)| *known == state) {
            count.inc();
        }
    }

    pub fn delivered_after(&self, took: Duration) {
        self.delivery_seconds.observe(took.as_secs_f64());
    }

    /// `micros`: millionths of its currency.
    pub fn spent(&self, micros: u64) {
        if let Some(cost) = &self.cost {
            cost.inc_by(micros as f64 / 1e6);
        }
    }

    pub fn set_up(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
    }

    /// A code that it carried was given back right.
    pub fn verified(&self) {
        self.verified.inc();
    }
}
