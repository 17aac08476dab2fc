//! What Twilio's error codes mean, of answers and of receipts: https://www.twilio.com/docs/api/errors

use crate::sms::Fault;

/// None for codes that only their HTTP status explains. Twilio splits its codes now and then, so no code is needed for
/// anything: what is not here is judged by the class of its status.
pub(super) fn fault(code: u32) -> Option<Fault> {
    Some(match code {
        // The number is none, or none that reads texts. The last is the answer for landlines, which a call reaches.
        21211 | 21214 | 21217 | 21614 | 21635 | 30005 | 30006 | 60205 | 63003 | 63024 => Fault::Recipient,
        21610 | 63014 => Fault::OptedOut,
        // No permission for the country (texts, calls), unreachable from this sender, blocked on the way, a loop.
        21408 | 21215 | 21612 | 14107 | 30004 | 30007 | 60605 => Fault::Route,
        // Credentials, account, trial; senders that cannot send; redaction that the account is not set up for; no registration.
        20003 | 20404 | 21210 | 21212 | 21603 | 21606 | 21608 | 21659 | 21703 | 21705 | 30002 | 30029
        | 30030 | 30034 => Fault::Provider,
        // Requests, calls at once, queues, daily caps, WhatsApp's pace.
        20429 | 10004 | 21611 | 30001 | 30022 | 30023 | 60202 | 60203 | 60207 | 60212 | 63017 | 63018 => {
            Fault::Throttled
        }
        // Its own trouble, a phone that is off, a message that grew too old.
        20500 | 30003 | 30008 | 30036 | 30410 => Fault::Transient,
        21602 | 21617 | 60200 | 63016 => Fault::Request,
        // Not verified of 30450: what is believed to be a refusal for fraud is never taken to another provider.
        30450 | 60238 | 60410 => Fault::Fraud,
        _ => return None,
    })
}

/// The message was given up because it grew too old.
pub(super) const EXPIRED: u32 = 30036;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_code_has_its_meaning() {
        for (expected, codes) in [
            (Fault::Recipient, &[21211, 21614, 21217, 21635, 30005, 30006, 60205, 63003, 63024][..]),
            (Fault::OptedOut, &[21610, 63014]),
            (Fault::Route, &[21408, 21612, 14107, 30004, 30007, 60605]),
            (Fault::Provider, &[20003, 20404, 21608, 21606, 21659, 21603, 21212, 21703, 21705, 30002, 30034]),
            (Fault::Throttled, &[20429, 21611, 10004, 30001, 30022, 30023, 63017, 63018]),
            (Fault::Throttled, &[60202, 60203, 60207, 60212]),
            (Fault::Transient, &[20500, 30003, 30008, 30036, 30410]),
            (Fault::Request, &[21602, 21617, 63016, 60200]),
            (Fault::Fraud, &[30450, 60238, 60410]),
        ] {
            for code in codes {
                assert_eq!(fault(*code), Some(expected), "{code}");
            }
        }
        for unknown in [0, 1, 20001, 21219, 99999] {
            assert_eq!(fault(unknown), None, "{unknown}");
        }
    }
}
