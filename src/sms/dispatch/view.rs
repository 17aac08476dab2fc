//! How the providers are, for the people who watch them.

use super::Dispatcher;
use super::breaker::Why;
use super::health::{Counts, Doubt};
use super::state::{LastFault, PassedOver, Terms};
use crate::decision::time::Timestamp;
use crate::sms::Channel;

/// How one provider is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderHealth {
    pub name: Box<str>,
    /// Which provider it is: `twilio`.
    pub kind: &'static str,
    pub priority: u32,
    pub channels: Box<[Channel]>,
    pub standing: Standing,
    /// Asked after the others, in all countries.
    pub doubt: Option<Doubt>,
    pub last_hour: Counts,
    pub last_day: Counts,
    /// Of the last 24 hours.
    pub spent: Option<Spent>,
    pub last_fault: Option<LastFault>,
}

/// What was paid, in millionths of a currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub micros: u64,
    pub currency: Box<str>,
    pub daily_max_micros: Option<u64>,
}

/// Whether a provider would be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// It failed, and is left alone.
    Down {
        until: Timestamp,
    },
    /// It refused us (credentials, funds, account), and is left alone.
    Refusing {
        until: Timestamp,
    },
    /// It failed, and the next message finds out whether it does still.
    Trying,
    /// It was given too much at once.
    Cooling {
        until: Timestamp,
    },
    /// It has had as many messages as the file says.
    Full,
    /// What may be spent a day is spent.
    SpentOut,
}

impl Standing {
    pub fn word(self) -> &'static str {
        match self {
            Standing::Up => "up",
            Standing::Down { .. } => "down",
            Standing::Refusing { .. } => "refusing",
            Standing::Trying => "trying",
            Standing::Cooling { .. } => "cooling",
            Standing::Full => "full",
            Standing::SpentOut => "spent_out",
        }
    }

    pub fn until(self) -> Option<Timestamp> {
        match self {
            Standing::Down { until } | Standing::Refusing { until } | Standing::Cooling { until } => {
                Some(until)
            }
            Standing::Up | Standing::Trying | Standing::Full | Standing::SpentOut => None,
        }
    }
}

impl Dispatcher {
    /// All providers, in the order of their priority.
    pub fn health(&self, now: Timestamp) -> Vec<ProviderHealth> {
        let health = |member: &super::Member| {
            let spec = &member.spec;
            let terms = Terms { cost: spec.cost.as_ref(), country: None, prefix: "", segments: 1 };
            let standing = match member.state.would_take(&terms, now) {
                Ok(()) if member.state.is_up() => Standing::Up,
                // A route is one of a prefix, and none is asked about.
                Ok(()) | Err(PassedOver::Route) => Standing::Trying,
                Err(PassedOver::Down { until, why: Why::Trouble }) => Standing::Down { until },
                Err(PassedOver::Down { until, why: Why::Refused }) => Standing::Refusing { until },
                Err(PassedOver::Cooling { until }) => Standing::Cooling { until },
                Err(PassedOver::Pace) => Standing::Full,
                Err(PassedOver::SpentOut) => Standing::SpentOut,
            };
            let (last_hour, last_day) = member.state.counts(now);
            let spent = spec.cost.as_ref().map(|cost| Spent {
                micros: member.state.spent(now),
                currency: cost.currency.clone(),
                daily_max_micros: cost.daily_max_micros,
            });
            ProviderHealth {
                name: spec.name.clone(),
                kind: spec.kind.word(),
                priority: spec.priority,
                channels: member.sender.channels().into(),
                standing,
                doubt: member.state.doubt(None),
                last_hour,
                last_day,
                spent,
                last_fault: member.state.last_fault(),
            }
        };
        self.members.iter().map(health).collect()
    }
}
