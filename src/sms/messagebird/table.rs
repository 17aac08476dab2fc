//! What MessageBird's codes mean, of answers and of receipts.

use crate::sms::{Fault, Refused};

/// `parameter` is the field that the error is about. None for codes that only their HTTP status explains.
pub(super) fn fault(code: u32, parameter: &str) -> Option<Fault> {
    Some(match code {
        2 | 25 => Fault::Provider,
        9 | 10 => match parameter {
            "recipient" | "recipients" => Fault::Recipient,
            "originator" => Fault::Route,
            _ => Fault::Request,
        },
        20 => Fault::Provider,
        // Not verified: 21 as a bad request, 98 and 99 as its own trouble.
        21 => Fault::Request,
        98 | 99 => Fault::Transient,
        _ => return None,
    })
}

/// `statusErrorCode`, an error of the network that was to deliver; none for what arrived.
pub(super) fn undelivered(code: u32) -> Option<Refused> {
    let fault = match code {
        0 => return None,
        // Not verified: the number is nobody's. All others are taken for temporary.
        1 => Fault::Recipient,
        _ => Fault::Transient,
    };
    Some(Refused::new(fault, &format!("ec_{code}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_meaning() {
        for (code, parameter, expected) in [
            (2, "access_key", Some(Fault::Provider)),
            (9, "recipient", Some(Fault::Recipient)),
            (9, "recipients", Some(Fault::Recipient)),
            (9, "body", Some(Fault::Request)),
            (10, "recipients", Some(Fault::Recipient)),
            (10, "originator", Some(Fault::Route)),
            (10, "", Some(Fault::Request)),
            (20, "", Some(Fault::Provider)),
            (21, "", Some(Fault::Request)),
            (25, "", Some(Fault::Provider)),
            (98, "", Some(Fault::Transient)),
            (99, "", Some(Fault::Transient)),
            (7, "recipients", None),
        ] {
            assert_eq!(fault(code, parameter), expected, "{code} {parameter}");
        }
        assert_eq!(undelivered(0), None);
        assert_eq!(undelivered(1), Some(Refused::new(Fault::Recipient, "ec_1")));
        assert_eq!(undelivered(107), Some(Refused::new(Fault::Transient, "ec_107")));
    }
}
