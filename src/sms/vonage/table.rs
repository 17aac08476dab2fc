//! What Vonage's statuses mean, of answers and of receipts.

use std::time::Duration;

use crate::sms::{Fault, Refused};

/// Who is asked to wait longer than this is not throttled any more.
const WAIT_MAX_MS: u64 = 60_000;

/// `text` is what it says of it, for people, and the only place where it says which parameter it does not like.
pub(super) fn refused(status: u32, text: &str) -> Refused {
    let fault = match status {
        1 | 10 => Fault::Throttled,
        3 if blames_the_number(text) => Fault::Recipient,
        2 | 3 | 12 | 22 | 23 => Fault::Request,
        4 | 8 | 9 | 11 | 14 | 29 | 32 => Fault::Provider,
        5 => Fault::Transient,
        6 | 15 => Fault::Route,
        7 | 33 => Fault::Recipient,
        // New since this was written: nobody says that it was sent, nor whose fault it is.
        _ => Fault::Transient,
    };
    Refused { retry_after: wait(text), ..Refused::new(fault, &format!("status_{status}")) }
}

fn blames_the_number(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let signs =
        ["`to`", "'to'", "\"to\"", "to param", "to address", "parameter: to", "parameter to", "param: to"];
    signs.iter().any(|sign| text.contains(sign))
}

/// `… please wait [ 978 ] and retry`, milliseconds.
fn wait(text: &str) -> Option<Duration> {
    let (_, behind) = text.split_once("wait [")?;
    let milliseconds: u64 = behind.split_once(']')?.0.trim().parse().ok()?;
    Some(Duration::from_millis(milliseconds.min(WAIT_MAX_MS)))
}

/// `err-code` of a receipt; none for what arrived.
pub(super) fn undelivered(code: u32) -> Option<Refused> {
    let fault = match code {
        0 => return None,
        // The phone is off or busy, the network is down.
        2 | 7 | 8 => Fault::Transient,
        3 | 4 | 13 | 15 => Fault::Recipient,
        9 => Fault::OptedOut,
        // Ported away, no route, unreachable; taken for spam, blocked by the carrier.
        5 | 6 | 11 | 12 | 14 => Fault::Route,
        10 => Fault::Request,
        // What India demands of senders.
        50..=54 => Fault::Provider,
        // Among them 1, unknown, and 99, general.
        _ => Fault::Transient,
    };
    Some(Refused::new(fault, &format!("err_{code}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        for (expected, statuses) in [
            (Fault::Throttled, &[1, 10][..]),
            (Fault::Request, &[2, 3, 12, 22, 23]),
            (Fault::Provider, &[4, 8, 9, 11, 14, 29, 32]),
            (Fault::Transient, &[5, 99]),
            (Fault::Route, &[6, 15]),
            (Fault::Recipient, &[7, 33]),
        ] {
            for status in statuses {
                assert_eq!(refused(*status, "").fault, expected, "{status}");
            }
        }
        assert_eq!(*refused(29, "").code, *"status_29");
    }

    #[test]
    fn a_text_says_which_parameter_and_how_long() {
        for text in ["Missing to param", "to address is not numeric", "Invalid value for parameter: to"] {
            assert_eq!(refused(3, text).fault, Fault::Recipient, "{text}");
        }
        for text in ["Invalid from param", "You are not allowed to do this", "Invalid ttl"] {
            assert_eq!(refused(3, text).fault, Fault::Request, "{text}");
        }
        let throttled = "Throughput Rate Exceeded - please wait [ 978 ] and retry";
        assert_eq!(refused(1, throttled).retry_after, Some(Duration::from_millis(978)));
        for text in ["", "wait [ ]", "wait [x]", "wait [ 5", "wait [-1]"] {
            assert_eq!(refused(1, text).retry_after, None, "{text}");
        }
        assert_eq!(refused(1, "wait [9999999999]").retry_after, Some(Duration::from_secs(60)));
    }

    #[test]
    fn every_error_of_a_receipt_has_its_meaning() {
        assert_eq!(undelivered(0), None);
        for (expected, codes) in [
            (Fault::Transient, &[1, 2, 7, 8, 99][..]),
            (Fault::Recipient, &[3, 4, 13, 15]),
            (Fault::OptedOut, &[9]),
            (Fault::Route, &[5, 6, 11, 12, 14]),
            (Fault::Request, &[10]),
            (Fault::Provider, &[50, 51, 52, 53, 54]),
        ] {
            for code in codes {
                assert_eq!(undelivered(*code).unwrap().fault, expected, "{code}");
            }
        }
    }
}
