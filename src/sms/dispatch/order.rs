//! What is to be delivered, and what became of it.

use std::fmt;

use secrecy::SecretString;

use crate::decision::time::Timestamp;
use crate::sms::{Channel, Fault, Outcome};

/// A code to be delivered to its owner. Debug hides whom it goes to and what it says.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    pub channel: Channel,
    /// As in [`Outbound`](crate::sms::Outbound).
    pub to: &'a str,
    /// ISO 3166-1 alpha-2, upper case; none for what is no number.
    pub country: Option<&'a str>,
    /// The number without its last four digits; empty for what is no number.
    pub prefix: &'a str,
    pub text: &'a SecretString,
    /// Of the text; 1 where there are none.
    pub segments: u8,
    pub subject: &'a str,
    pub code: &'a SecretString,
    pub locale: &'a str,
    /// Nobody is asked after that.
    pub expires_at: Timestamp,
    /// The number of the first attempt of this delivery, from 1 over all deliveries of this code.
    pub first_attempt: u8,
    /// Our name for an attempt.
    pub reference: &'a (dyn Fn(u8) -> String + Sync),
    /// Where this provider reports of this attempt.
    pub receipt_url: &'a (dyn Fn(&str, u8) -> Option<String> + Sync),
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({}, from attempt {})", self.channel.word(), self.first_attempt)
    }
}

/// One attempt, after it.
#[derive(Clone, Copy, Debug)]
pub struct Try<'a> {
    /// Its name in the file.
    pub provider: &'a str,
    /// Which provider it is: `twilio`.
    pub kind: &'static str,
    pub attempt: u8,
    pub reference: &'a str,
    /// When it began.
    pub at: Timestamp,
    pub outcome: &'a Outcome,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// A provider took it.
    Accepted,
    /// None took it for certain, but one may have sent it all the same.
    Unsure,
    /// It was given up for what no other provider would change.
    Stopped(Fault),
    /// Nobody took it: all failed, or none could be asked.
    NotSent,
    /// The code or the time for deliveries ended before anybody took it.
    Late,
}

impl Delivered {
    /// For metrics.
    pub fn word(self) -> &'static str {
        match self {
            Delivered::Accepted => "accepted",
            Delivered::Unsure => "unsure",
            Delivered::Stopped(fault) => fault.word(),
            Delivered::NotSent => "not_sent",
            Delivered::Late => "late",
        }
    }
}
