use super::*;
use crate::decision::time::Timestamp;
use crate::sms::spec::{MailApiSpec, MailgunSpec, SmtpSpec};

fn mailbox(name: Option<&str>, address: &str) -> Mailbox {
    Mailbox { name: name.map(Box::from), address: address.into() }
}

fn written(name: &str) -> String {
    Sender::new(&mailbox(Some(name), "no-reply@example.com")).unwrap().written()
}

fn encoded(name: &str) -> String {
    Sender::new(&mailbox(Some(name), "no-reply@example.com")).unwrap().encoded()
}

#[test]
fn a_sender_is_written_so_that_nothing_can_be_read_into_it() {
    assert_eq!(written("Example"), "Example <no-reply@example.com>");
    assert_eq!(written("  "), "no-reply@example.com");
    assert_eq!(written("Example, Inc."), "\"Example, Inc.\" <no-reply@example.com>");
    assert_eq!(written("a\" <x@y.z> \\"), "\"a\\\" <x@y.z> \\\\\" <no-reply@example.com>");
    assert_eq!(written("B\u{fc}cher"), "B\u{fc}cher <no-reply@example.com>");
    assert_eq!(encoded("Example"), "Example <no-reply@example.com>");
    assert_eq!(encoded("B\u{fc}cher"), "=?UTF-8?B?QsO8Y2hlcg==?= <no-reply@example.com>");
    let long = encoded(&"\u{fc}".repeat(60));
    assert!(long.split(' ').all(|word| word.len() <= 75) && long.is_ascii(), "{long}");
    let none = |mailbox: Mailbox| Sender::new(&mailbox).map(|_| ()).unwrap_err();
    assert_eq!(none(mailbox(Some("a\r\nBcc: b@c.de"), "a@example.com")), MailFault::Name);
    assert_eq!(none(mailbox(None, "a@example.com\r\n")), MailFault::From(AddressFault::Domain));
}

/// Why a message is not sent at all; nothing if it is.
fn unsendable(change: impl FnOnce(&mut Outbound<'_>)) -> Option<Box<str>> {
    let (text, code) = ("042137 is your code.".into(), "042137".into());
    let mut message = Outbound {
        channel: Channel::Email,
        to: "ada@example.com",
        text: &text,
        subject: "Your code",
        code: &code,
        locale: "en",
        expires_in: Duration::from_secs(600),
        attempt: 1,
        reference: "otp-1",
        receipt_url: None,
        now: Timestamp::from_millis(1_800_000_000_000),
    };
    change(&mut message);
    match Letter::of(&message) {
        Ok(_) => None,
        Err(Outcome::Refused(refused)) => {
            assert_eq!(refused.fault, Fault::Request);
            Some(refused.code)
        }
        Err(Outcome::Accepted(_)) => panic!("nothing was sent"),
    }
}

#[test]
fn no_header_holds_a_line_break_and_no_subject_the_code() {
    assert_eq!(unsendable(|_| ()), None);
    assert_eq!(unsendable(|m| m.channel = Channel::Sms).as_deref(), Some("channel"));
    for to in ["+14155550123", "ada@example.com\r\nBcc: b@example.com", "ada@example.com,b@example.com"] {
        assert_eq!(unsendable(|m| m.to = to).as_deref(), Some("address"), "{to}");
    }
    for subject in ["Your code\r\nBcc: b@example.com", "a\nb", "a\u{0}", "042137 is your code"] {
        assert_eq!(unsendable(|m| m.subject = subject).as_deref(), Some("subject"), "{subject}");
    }
    for reference in ["", "a b", "a\r\nx: y"] {
        assert_eq!(unsendable(|m| m.reference = reference).as_deref(), Some("reference"), "{reference}");
    }
}

#[test]
fn what_cannot_work_is_told_before_anything_is_sent() {
    let client = || Arc::new(HttpClient::new(Duration::from_secs(1)));
    let base_url = HttpUrl::parse("https://api.example.com").unwrap();
    let spec = |key: &str, hook: &str| MailApiSpec {
        base_url: base_url.clone(),
        api_key: key.into(),
        from: mailbox(None, "no-reply@example.com"),
        webhook_secret: Some(hook.into()),
    };
    let is_hook = |fault: Option<MailFault>| matches!(fault, Some(MailFault::WebhookSecret(_)));
    let sendgrid = |key: &str, hook: &str| sendgrid::SendGrid::new("it", &spec(key, hook), client()).err();
    for hook in ["", "secret", "AAAA", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"] {
        assert!(is_hook(sendgrid("key", hook)), "{hook}");
    }
    assert_eq!(sendgrid("two\nlines", "").map(|fault| fault.to_string().contains("key")), Some(true));
    let resend = |hook: &str| resend::Resend::new("it", &spec("key", hook), client()).err();
    for hook in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        assert!(is_hook(resend(hook)), "{hook}");
    }
    assert_eq!(resend("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), None);
    let postmark = |hook: &str| postmark::Postmark::new("it", &spec("key", hook), client()).err();
    for hook in ["", "user", "user:", ":password"] {
        assert!(is_hook(postmark(hook)), "{hook}");
    }
    assert_eq!(postmark("user:password"), None);
    let mailgun = |domain: &str| {
        let spec = MailgunSpec {
            base_url: base_url.clone(),
            domain: domain.into(),
            api_key: "key".into(),
            from: mailbox(None, "no-reply@example.com"),
            webhook_secret: None,
        };
        mailgun::Mailgun::new("it", &spec, client()).err()
    };
    for domain in ["", "x", "mg.example.com/..", "mg.example.com?x"] {
        assert_eq!(mailgun(domain), Some(MailFault::Domain), "{domain}");
    }
    assert_eq!(mailgun("mg.example.com"), None);
    let smtp = |url: &str, from: &str| {
        smtp::Smtp::new("it", &SmtpSpec { url: url.into(), from: mailbox(None, from) }).err()
    };
    assert_eq!(smtp("mail.example.com", "a@example.com"), Some(MailFault::Url(SmtpUrlFault::Scheme)));
    assert_eq!(smtp("smtps://mail.example.com", "a@x"), Some(MailFault::From(AddressFault::Domain)));
}
