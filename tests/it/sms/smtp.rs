use std::time::Duration;

use tollgate::decision::time::Timestamp;
use tollgate::sms::spec::{Kind, Mailbox, SmtpSpec};
use tollgate::sms::{Accepted, Channel, Fault, LookUpFault, Outcome, ReceiptFault, SmsSender};

use super::common::{Message, NOW_S, Receipt, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::providers::smtp::{FakeSmtp, Manner, PASSWORD, Place, QUEUED, USER};

fn spec(url: &str) -> SmtpSpec {
    let from = Mailbox { name: Some("B\u{fc}cher, Inc.".into()), address: "no-reply@example.com".into() };
    SmtpSpec { url: url.into(), from }
}

fn sender(fake: &FakeSmtp) -> Box<dyn SmsSender> {
    sender_of(Kind::Smtp(spec(&format!("smtp://{}", fake.addr()))))
}

fn accepted(id: &str) -> Outcome {
    Outcome::Accepted(Accepted { message_id: id.into(), ..Accepted::default() })
}

async fn send(sender: &dyn SmsSender) -> Outcome {
    Message::by(Channel::Email).sent_by(sender).await
}

#[tokio::test]
async fn a_letter_is_these_bytes() {
    let fake = FakeSmtp::start().await;
    let sender = sender(&fake);
    assert_eq!(send(&*sender).await, accepted(QUEUED));
    let letter = fake.letters().remove(0);
    assert_eq!((&*letter.from, &*letter.to), ("no-reply@example.com", "ann@example.com"));
    assert_eq!(
        letter.text,
        "From: =?utf-8?b?QsO8Y2hlciwgSW5jLg==?= <no-reply@example.com>\r\n\
        To: ann@example.com\r\n\
        Subject: Your Acme code\r\n\
        Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n\
        Message-ID: <a1B2-c3_D4@example.com>\r\n\
        Auto-Submitted: auto-generated\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        \r\n\
        123456 is your Acme code.\r\n\
        \r\n\
        @acme.example #123456\r\n"
    );
    let now = Timestamp::from_millis(NOW_S * 1000);
    assert_eq!(sender.look_up(QUEUED, PATIENCE, now).await, Err(LookUpFault::None));
    let receipt = Receipt::post("https://gw.example.com/otp/receipts/it/-", "text/plain", "x");
    assert_eq!(receipt.read_by(&*sender), Err(ReceiptFault::None));
}

#[tokio::test]
async fn any_text_arrives_as_it_is() {
    let fake = FakeSmtp::start().await;
    let sender = sender(&fake);
    let mut message = Message::by(Channel::Email);
    message.text = ".\n..\n123456 \u{2014} dein Code f\u{fc}r B\u{fc}cher".into();
    assert_eq!(message.sent_by(&*sender).await, accepted(QUEUED));
    let letter = fake.letters().remove(0).text;
    let (head, body) = letter.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Transfer-Encoding: quoted-printable"), "{head}");
    let expected = ".\r\n..\r\n123456 =E2=80=94 dein Code f=C3=BCr B=C3=BCcher\r\n";
    assert_eq!(body, expected);
}

#[tokio::test]
async fn connections_are_kept_for_the_next_letter() {
    let fake = FakeSmtp::start().await;
    let sender = sender(&fake);
    for _ in 0..3 {
        assert_eq!(send(&*sender).await, accepted(QUEUED));
    }
    assert_eq!(fake.connections(), 1);
    // One that went away in the meantime is replaced.
    fake.behaves(Place::Noop, Manner::HangsUp);
    assert_eq!(send(&*sender).await, accepted(QUEUED));
    assert_eq!(fake.connections(), 2);
    fake.behaves_again();
    // One that has waited too long is not tried.
    let message = Message::by(Channel::Email);
    let mut later = message.outbound();
    later.now = Timestamp::from_millis((NOW_S + 61) * 1000);
    assert_eq!(sender.send(&later, PATIENCE).await, accepted(QUEUED));
    let letters = fake.letters();
    let connections: Vec<usize> = letters.iter().map(|letter| letter.connection).collect();
    assert_eq!(connections, [1, 1, 1, 2, 3]);
}

#[tokio::test]
async fn many_letters_at_once_are_as_many_connections_and_few_are_kept() {
    let fake = FakeSmtp::start().await;
    let sender = sender(&fake);
    let all = futures_util::future::join_all((0..10).map(|_| send(&*sender))).await;
    assert!(all.iter().all(|outcome| *outcome == accepted(QUEUED)), "{all:?}");
    assert_eq!(fake.letters().len(), 10);
    let before = fake.connections();
    futures_util::future::join_all((0..10).map(|_| send(&*sender))).await;
    assert!(fake.connections() >= before + 6, "at most four were kept");
}

#[tokio::test]
async fn what_it_says_no_with_is_somebodys_fault() {
    for (place, reply, fault, code) in [
        (Place::Greeting, "421 4.3.2 closing", Fault::Transient, "421-4.3.2"),
        (Place::Greeting, "554 no mail here", Fault::Provider, "554"),
        (Place::Hello, "550 5.7.1 who?", Fault::Provider, "550-5.7.1"),
        (Place::Sender, "530 5.7.0 Authentication required", Fault::Provider, "530-5.7.0"),
        (Place::Sender, "550 5.7.1 not your domain", Fault::Provider, "550-5.7.1"),
        (Place::Sender, "451 later", Fault::Transient, "451"),
        (Place::Recipient, "450 4.2.0 greylisted", Fault::Transient, "450-4.2.0"),
        (Place::Recipient, "550 5.1.1 no such user", Fault::Recipient, "550-5.1.1"),
        (Place::Recipient, "550 no such user", Fault::Recipient, "550"),
        (Place::Recipient, "551 moved", Fault::Recipient, "551"),
        (Place::Recipient, "553 5.1.3 bad address", Fault::Recipient, "553-5.1.3"),
        (Place::Recipient, "550 5.7.1 relaying denied", Fault::Route, "550-5.7.1"),
        (Place::Recipient, "554 5.7.1 blocked", Fault::Route, "554-5.7.1"),
        (Place::Recipient, "552-5.2.2 full\r\n552 5.2.2 mailbox", Fault::Recipient, "552-5.2.2"),
        (Place::Data, "554 no valid recipients", Fault::Route, "554"),
        (Place::Text, "552 5.3.4 too large", Fault::Request, "552-5.3.4"),
        (Place::Text, "554 5.7.1 spam", Fault::Route, "554-5.7.1"),
        (Place::Text, "451 4.3.0 try again", Fault::Transient, "451-4.3.0"),
    ] {
        let fake = FakeSmtp::start().await;
        fake.behaves(place, Manner::Says(reply));
        assert_eq!(send(&*sender(&fake)).await, refused(fault, code), "{place:?}: {reply}");
        assert_eq!(fake.letters().len(), usize::from(place == Place::Text));
    }
}

#[tokio::test]
async fn only_a_letter_that_was_handed_over_may_have_been_sent() {
    for place in [Place::Greeting, Place::Hello, Place::Sender, Place::Recipient, Place::Data, Place::Text] {
        let fake = FakeSmtp::start().await;
        let fault = if place == Place::Text { Fault::Ambiguous } else { Fault::Transient };
        for manner in [Manner::HangsUp, Manner::Garbage] {
            fake.behaves(place, manner);
            let broken = if place == Place::Text { "broken_off" } else { "unreachable" };
            assert_eq!(send(&*sender(&fake)).await, refused(fault, broken), "{place:?} {manner:?}");
        }
        fake.behaves(place, Manner::Stalls);
        let message = Message::by(Channel::Email);
        let within = Duration::from_millis(500);
        let outcome = sender(&fake).send(&message.outbound(), within).await;
        assert_eq!(outcome, refused(fault, "timeout"), "{place:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_nothing_sent() {
    let gone = FakeSmtp::start().await.addr();
    let sender = sender_of(Kind::Smtp(spec(&format!("smtp://{gone}"))));
    assert_eq!(send(&*sender).await, refused(Fault::Transient, "unreachable"));
}

#[tokio::test]
async fn who_we_are_is_told_to_a_server_that_asks() {
    let fake = FakeSmtp::start().await;
    let by = |password: &str| {
        let user = USER.replace('@', "%40");
        sender_of(Kind::Smtp(spec(&format!("smtp://{user}:{password}@{}", fake.addr()))))
    };
    let right = PASSWORD.replace(':', "%3A").replace('/', "%2F");
    assert_eq!(send(&*by(&right)).await, accepted(QUEUED));
    assert_eq!(send(&*by("wrong")).await, refused(Fault::Provider, "535-5.7.8"));
    fake.behaves(Place::Authentication, Manner::Says("454 4.7.0 later"));
    assert_eq!(send(&*by(&right)).await, refused(Fault::Transient, "454-4.7.0"));
    fake.behaves_again();
    fake.behaves(Place::Hello, Manner::Says("250 fake.example"));
    assert_eq!(send(&*by(&right)).await, refused(Fault::Provider, "authentication"));
    assert!(!format!("{:?}", by(&right)).contains("p:a"));
}

#[tokio::test]
async fn nothing_is_said_in_the_open_to_a_server_elsewhere() {
    let fake = FakeSmtp::start().await;
    // The address of this machine, written as one that is not known to be.
    let elsewhere = format!("smtp://user:secret@[::ffff:127.0.0.1]:{}", fake.addr().port());
    let outcome = send(&*sender_of(Kind::Smtp(spec(&elsewhere)))).await;
    assert_eq!(outcome, refused(Fault::Provider, "no_starttls"));
    assert_eq!((fake.connections(), fake.letters().len()), (1, 0));
}

#[tokio::test]
async fn a_queue_that_tells_no_name_has_taken_the_letter_all_the_same() {
    for (reply, id) in [
        ("250 2.0.0 Ok", ""),
        ("250 OK id=1tABCd-0001-Xy", "1tABCd-0001-Xy"),
        ("250 2.0.0 Ok: queued as <script>", ""),
        ("250-2.0.0 Thanks\r\n250 2.0.0 Queued as 7F00.", "7F00"),
    ] {
        let fake = FakeSmtp::start().await;
        fake.behaves(Place::Text, Manner::Says(reply));
        assert_eq!(send(&*sender(&fake)).await, accepted(id), "{reply}");
    }
}
