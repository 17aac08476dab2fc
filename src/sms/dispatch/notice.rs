//! What operators should be told of providers.

use std::fmt;

use super::health::Doubt;
use crate::decision::rfc3339;
use crate::decision::time::Timestamp;

/// Something changed at a provider. Displays as a sentence without identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The provider's name in the file.
    pub provider: Box<str>,
    pub news: News,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is left alone. `code`: what it calls the last fault.
    Down { code: Box<str>, until: Timestamp },
    /// It takes messages again.
    Up,
    /// It is asked after the others, in this country or in all.
    Doubted { country: Option<Box<str>>, doubt: Doubt },
    /// It is asked in its turn again.
    Trusted { country: Option<Box<str>> },
    /// What may be spent a day is spent. At most once an hour.
    SpentOut { micros: u64, currency: Box<str> },
    /// It says that what we ask for is no message. At most once an hour.
    BadRequest { code: Box<str> },
}

impl Notice {
    /// Which kind of news it is, for events.
    pub fn word(&self) -> &'static str {
        match &self.news {
            News::Down { .. } => "provider_down",
            News::Up => "provider_up",
            News::Doubted { .. } => "provider_doubted",
            News::Trusted { .. } => "provider_trusted",
            News::SpentOut { .. } => "provider_spent_out",
            News::BadRequest { .. } => "provider_bad_request",
        }
    }

    /// Writes the one line that the log has of it.
    pub(super) fn log(&self) {
        match &self.news {
            News::Down { .. } | News::SpentOut { .. } | News::BadRequest { .. } => {
                tracing::error!(provider = &*self.provider, "{self}");
            }
            News::Doubted { .. } => tracing::warn!(provider = &*self.provider, "{self}"),
            News::Up | News::Trusted { .. } => tracing::info!(provider = &*self.provider, "{self}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.provider;
        let place = |country: &Option<Box<str>>| match country {
            Some(country) => format!(" in {country}"),
            None => String::new(),
        };
        match &self.news {
            News::Down { code, until } => {
                let until = rfc3339::written(*until);
                write!(f, "the provider {name} failed ({code}) and is not asked until {until}")
            }
            News::Up => write!(f, "the provider {name} takes messages again"),
            News::Doubted { country, doubt: Doubt::Conversion } => {
                let place = place(country);
                write!(
                    f,
                    "the provider {name} is asked last{place}: its codes come back less often than those of others"
                )
            }
            News::Doubted { country, doubt: Doubt::Receipts } => {
                let place = place(country);
                write!(f, "the provider {name} is asked last{place}: most of its messages do not arrive")
            }
            News::Trusted { country } => {
                write!(f, "the provider {name} is asked in its turn again{}", place(country))
            }
            News::SpentOut { micros, currency } => {
                let amount = *micros as f64 / 1e6;
                write!(f, "the provider {name} is not asked: {amount:.2} {currency} were spent in 24 hours")
            }
            News::BadRequest { code } => {
                write!(f, "the provider {name} says that what it was asked for is no message ({code})")
            }
        }
    }
}
