//! What mail servers say no with.

use crate::sms::Fault;

/// The enhanced status (RFC 3463) that a reply begins with, without its class: `5.1.1 no such user` is `(1, 1)`.
pub(super) fn enhanced(reply: &str) -> Option<(u16, u16)> {
    let first = reply.split_ascii_whitespace().next()?;
    let mut parts = first.split('.');
    let class = parts.next()?;
    let subject = parts.next()?.parse().ok()?;
    let detail = parts.next()?.parse().ok()?;
    (matches!(class, "2" | "4" | "5") && parts.next().is_none()).then_some((subject, detail))
}

/// Whose fault a reply to `RCPT` or to the letter tells of, which a bounce repeats.
pub(super) fn fault(code: u16, enhanced: Option<(u16, u16)>) -> Fault {
    let by_code = match code {
        400..=499 => return Fault::Transient,
        530 | 534 | 535 | 538 => return Fault::Provider,
        550 | 551 | 553 => Fault::Recipient,
        500..=504 | 552 | 555 => Fault::Request,
        505..=599 => Fault::Route,
        0..=399 | 600.. => return Fault::Ambiguous,
    };
    match enhanced {
        // The sender's address, not the recipient's.
        Some((1, 7 | 8)) => Fault::Provider,
        Some((1 | 2, _)) => Fault::Recipient,
        // Policy: relaying denied, a block list, content. Another provider may be let through.
        Some((7, _)) => Fault::Route,
        Some(_) | None => by_code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_tells_whose_fault_it_is() {
        for (code, text, expected) in [
            (421, "4.3.2 closing", Fault::Transient),
            (450, "mailbox busy", Fault::Transient),
            (452, "4.2.2 full", Fault::Transient),
            (501, "syntax", Fault::Request),
            (530, "5.7.0 authenticate first", Fault::Provider),
            (535, "5.7.8 bad credentials", Fault::Provider),
            (550, "no such user", Fault::Recipient),
            (550, "5.1.1 no such user", Fault::Recipient),
            (550, "5.7.1 relaying denied", Fault::Route),
            (550, "5.1.8 your domain does not exist", Fault::Provider),
            (551, "moved", Fault::Recipient),
            (552, "too large", Fault::Request),
            (552, "5.2.2 mailbox full", Fault::Recipient),
            (553, "bad mailbox name", Fault::Recipient),
            (554, "spam", Fault::Route),
            (554, "5.1.0 rejected", Fault::Recipient),
            (571, "blocked", Fault::Route),
            (250, "ok", Fault::Ambiguous),
        ] {
            assert_eq!(fault(code, enhanced(text)), expected, "{code} {text}");
        }
        for text in ["", "5", "5.1", "5.1.1.1", "3.1.1", "five.1.1", "192.0.2.1 blocked"] {
            assert_eq!(enhanced(text), None, "{text}");
        }
    }
}
