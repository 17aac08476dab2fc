//! Who is asked after an outcome: the table of outcomes, as a function.

use std::time::Duration;

use crate::sms::{Fault, Outcome, Refused};

/// What follows for the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Done,
    /// Nobody else is asked: it would be in vain, or do harm.
    Stop(Fault),
    /// The next provider sends the same code.
    Next,
}

/// `requests`: how many providers have said before that it is no message.
pub(super) fn step(outcome: &Outcome, requests: u8) -> Step {
    let fault = match outcome {
        Outcome::Accepted(_) => return Step::Done,
        Outcome::Refused(refused) => refused.fault,
    };
    match fault {
        // The next one would be paid to learn the same, would dodge a STOP, or defeat a shield.
        Fault::Recipient | Fault::OptedOut | Fault::Fraud => Step::Stop(fault),
        // Two who say so are right.
        Fault::Request if requests > 0 => Step::Stop(fault),
        Fault::Request
        | Fault::Route
        | Fault::Provider
        | Fault::Throttled
        | Fault::Transient
        | Fault::Ambiguous => Step::Next,
    }
}

/// A provider that asks for more is not waited for.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How adapters name what kept a request from ever leaving this machine.
const NEVER_LEFT: [&str; 2] = ["connect", "tls"];

/// After which pause the same provider may be asked once more, when there is no other one. Only where it is certain that it
/// sent nothing: after a 429, or when no byte of the request was written.
pub(super) fn again_after(outcome: &Outcome) -> Option<Duration> {
    let Outcome::Refused(Refused { fault, code, retry_after }) = outcome else { return None };
    match fault {
        Fault::Throttled => retry_after.filter(|after| *after <= WAIT_MAX),
        Fault::Transient => NEVER_LEFT.contains(&&**code).then_some(Duration::ZERO),
        Fault::Recipient
        | Fault::OptedOut
        | Fault::Route
        | Fault::Provider
        | Fault::Ambiguous
        | Fault::Request
        | Fault::Fraud => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::Accepted;

    fn refused(fault: Fault, code: &str, retry_after_ms: Option<u64>) -> Outcome {
        let retry_after = retry_after_ms.map(Duration::from_millis);
        Outcome::Refused(Refused { retry_after, ..Refused::new(fault, code) })
    }

    #[test]
    fn each_fault_has_its_row() {
        let next = |fault| (fault, Step::Next, Step::Next);
        let stop = |fault| (fault, Step::Stop(fault), Step::Stop(fault));
        let rows = [
            stop(Fault::Recipient),
            stop(Fault::OptedOut),
            next(Fault::Route),
            next(Fault::Provider),
            next(Fault::Throttled),
            next(Fault::Transient),
            next(Fault::Ambiguous),
            (Fault::Request, Step::Next, Step::Stop(Fault::Request)),
            stop(Fault::Fraud),
        ];
        assert_eq!(rows.map(|(fault, _, _)| fault), Fault::ALL);
        for (fault, first, second) in rows {
            assert_eq!(step(&refused(fault, "1", None), 0), first);
            assert_eq!(step(&refused(fault, "1", None), 1), second);
        }
        assert_eq!(step(&Outcome::Accepted(Accepted::default()), 1), Step::Done);
    }

    #[test]
    fn the_same_provider_is_asked_again_only_if_it_surely_sent_nothing() {
        let check = |fault, code, retry_after_ms, expected: Option<u64>| {
            let again = again_after(&refused(fault, code, retry_after_ms));
            assert_eq!(again, expected.map(Duration::from_millis), "{fault:?} {code}");
        };
        check(Fault::Throttled, "429", Some(1000), Some(1000));
        check(Fault::Throttled, "429", Some(1001), None);
        check(Fault::Throttled, "429", None, None);
        check(Fault::Transient, "connect", None, Some(0));
        check(Fault::Transient, "tls", None, Some(0));
        check(Fault::Transient, "503", Some(0), None);
        check(Fault::Ambiguous, "connect", Some(0), None);
        check(Fault::Provider, "401", Some(0), None);
    }
}
