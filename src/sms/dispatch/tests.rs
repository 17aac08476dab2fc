mod model;
mod money;
mod standing;

use std::collections::VecDeque;
use std::num::NonZeroU32;

use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;
use crate::clock::ManualClock;
use crate::sms::spec::{Cost, Pace, PlivoSpec};
use crate::sms::{Accepted, Price};
use crate::telemetry::Metrics;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MINUTE: Span = Span::from_secs(60);
const CODE: &str = "042137";

/// What a provider of a test does when it is asked.
#[derive(Clone, Debug)]
enum Reply {
    Says(Outcome),
    /// So much later.
    SaysAfter(Span, Outcome),
    Hangs,
}

/// What a provider of a test was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    provider: String,
    attempt: u8,
    reference: String,
    receipt_url: Option<String>,
    code: String,
    within: Duration,
    expires_in: Duration,
}

#[derive(Debug)]
struct Scripted {
    name: String,
    channels: Vec<Channel>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    log: Arc<Mutex<Vec<Asked>>>,
    hand: ManualClock,
}

#[async_trait::async_trait]
impl SmsSender for Scripted {
    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        self.log.lock().push(Asked {
            provider: self.name.clone(),
            attempt: message.attempt,
            reference: message.reference.to_owned(),
            receipt_url: message.receipt_url.map(str::to_owned),
            code: message.code.expose_secret().to_owned(),
            within,
            expires_in: message.expires_in,
        });
        tokio::task::yield_now().await;
        let reply = self.replies.lock().pop_front();
        match reply.unwrap_or(Reply::Says(taken(""))) {
            Reply::Says(outcome) => outcome,
            Reply::SaysAfter(span, outcome) => {
                self.hand.advance(span);
                outcome
            }
            Reply::Hangs => std::future::pending().await,
        }
    }

    async fn look_up(&self, _: &str, _: Duration, _: Timestamp) -> Result<Report, LookUpFault> {
        Err(LookUpFault::Unknown)
    }

    fn receipts(&self, _: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        Ok(Vec::new())
    }
}

/// An order of one code, good for ten minutes.
fn order<'a>(text: &'a SecretString, code: &'a SecretString, now: Timestamp) -> Order<'a> {
    Order {
        channel: Channel::Sms,
        to: "+491700000123",
        country: Some("DE"),
        prefix: "+49170000",
        text,
        segments: 1,
        subject: "",
        code,
        locale: "en",
        expires_at: now.plus(Span::from_secs(600)),
        first_attempt: 1,
        reference: &|attempt| format!("r{attempt}"),
        receipt_url: &|provider, attempt| Some(format!("https://example.com/{provider}/{attempt}")),
    }
}

fn taken(message_id: &str) -> Outcome {
    Outcome::Accepted(Accepted { message_id: message_id.into(), ..Accepted::default() })
}

fn refuses(fault: Fault) -> Outcome {
    Outcome::Refused(Refused::new(fault, fault.word()))
}

/// One process, of which several configurations come and go.
struct World {
    clock: Clock,
    hand: ManualClock,
    states: ProviderStates,
    metrics: Metrics,
    notices: Arc<Mutex<Vec<Notice>>>,
    log: Arc<Mutex<Vec<Asked>>>,
}

/// A provider of a test, and what it will say.
struct Stub {
    spec: ProviderSpec,
    channels: Vec<Channel>,
    replies: Vec<Reply>,
}

/// One that takes everything once it has said this.
fn stub(name: &str, says: impl IntoIterator<Item = Outcome>) -> Stub {
    let kind = Kind::Plivo(PlivoSpec {
        base_url: crate::http_client::HttpUrl::parse("https://api.plivo.com").unwrap(),
        auth_id: "MA".into(),
        auth_token: "token".into(),
        from: "+12025550100".into(),
    });
    let spec = ProviderSpec {
        name: name.into(),
        priority: 1,
        timeout: Span::from_secs(5),
        limits: Pace { windows: Vec::new() },
        cost: None,
        kind,
    };
    Stub { spec, channels: vec![Channel::Sms], replies: says.into_iter().map(Reply::Says).collect() }
}

impl World {
    fn new() -> World {
        let (clock, hand) = Clock::manual(START);
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let heard = Arc::clone(&notices);
        World {
            clock,
            hand,
            states: ProviderStates::new(move |notice| heard.lock().push(notice.clone())),
            metrics: Metrics::new().unwrap(),
            notices,
            log: Arc::default(),
        }
    }

    fn dispatcher(&self, stubs: Vec<Stub>) -> Dispatcher {
        let provider = |stub: Stub| Provider {
            sender: Box::new(Scripted {
                name: stub.spec.name.to_string(),
                channels: stub.channels,
                replies: Arc::new(Mutex::new(stub.replies.into())),
                log: Arc::clone(&self.log),
                hand: self.hand.clone(),
            }),
            spec: stub.spec,
        };
        let providers = stubs.into_iter().map(provider).collect();
        Dispatcher::new(providers, &self.states, &self.metrics.sms(), self.clock.clone())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Delivers one code, and tells who was asked for it.
    async fn deliver(&self, dispatcher: &Dispatcher) -> (Delivered, Vec<String>) {
        self.deliver_to(dispatcher, Some("DE"), "+49170000").await
    }

    async fn deliver_to(
        &self,
        dispatcher: &Dispatcher,
        country: Option<&str>,
        prefix: &str,
    ) -> (Delivered, Vec<String>) {
        let before = self.log.lock().len();
        let noted: Mutex<Vec<String>> = Mutex::default();
        let (text, code) = (format!("{CODE} is your code.").into(), CODE.into());
        let order = Order { country, prefix, ..order(&text, &code, self.now()) };
        let delivered =
            dispatcher.deliver(&order, &|tried| noted.lock().push(tried.provider.to_owned())).await;
        let asked: Vec<String> =
            self.log.lock()[before..].iter().map(|asked| asked.provider.clone()).collect();
        assert_eq!(*noted.lock(), asked, "each attempt is noted");
        (delivered, asked)
    }

    fn check(&self, line: &str) {
        let text = self.metrics.render();
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }

    fn check_sends(&self, provider: &str, outcome: &str, count: u32) {
        self.check(&format!(
            r#"tollgate_sms_sends_total{{channel="sms",outcome="{outcome}",provider="{provider}"}} {count}"#
        ));
    }

    fn check_failovers(&self, from: &str, to: &str, count: u32) {
        self.check(&format!(r#"tollgate_sms_failovers_total{{from="{from}",to="{to}"}} {count}"#));
    }

    /// The words of the notices since the last look.
    fn news(&self) -> Vec<&'static str> {
        self.notices.lock().drain(..).map(|notice| notice.word()).collect()
    }
}

#[tokio::test]
async fn the_first_in_order_of_priority_is_asked_and_nobody_else() {
    let world = World::new();
    let mut second = stub("second", []);
    second.spec.priority = 2;
    let dispatcher = world.dispatcher(vec![second, stub("first", []), stub("also_first", [])]);
    assert_eq!(world.deliver(&dispatcher).await, (Delivered::Accepted, vec!["first".to_owned()]));
    world.check_sends("first", "accepted", 1);
    world.check_sends("second", "accepted", 0);
    world.check_failovers("first", "second", 0);
}

#[tokio::test]
async fn who_is_asked_next_is_in_the_table() {
    let stop = |fault| (fault, Delivered::Stopped(fault), 1);
    let next = |fault| (fault, Delivered::Accepted, 2);
    let rows = [
        stop(Fault::Recipient),
        stop(Fault::OptedOut),
        next(Fault::Route),
        next(Fault::Provider),
        next(Fault::Throttled),
        next(Fault::Transient),
        next(Fault::Ambiguous),
        next(Fault::Request),
        stop(Fault::Fraud),
    ];
    for (fault, expected, count) in rows {
        let world = World::new();
        let dispatcher = world.dispatcher(vec![stub("a", [refuses(fault)]), stub("b", [])]);
        let (delivered, asked) = world.deliver(&dispatcher).await;
        assert_eq!((delivered, asked.len()), (expected, count), "{fault:?}");
        world.check_sends("a", fault.word(), 1);
        world.check_sends("b", "accepted", count as u32 - 1);
        world.check_failovers("a", "b", count as u32 - 1);
    }
}

#[tokio::test]
async fn all_attempts_bring_the_same_code_under_names_of_their_own() {
    let world = World::new();
    let dispatcher = world.dispatcher(vec![stub("a", [refuses(Fault::Ambiguous)]), stub("b", [])]);
    world.deliver(&dispatcher).await;
    let log = world.log.lock();
    let expected = |provider: &str, attempt: u8| Asked {
        provider: provider.to_owned(),
        attempt,
        reference: format!("r{attempt}"),
        receipt_url: Some(format!("https://example.com/{provider}/{attempt}")),
        code: CODE.to_owned(),
        within: Duration::from_secs(5),
        expires_in: Duration::from_secs(600),
    };
    assert_eq!(*log, [expected("a", 1), expected("b", 2)]);
}

#[tokio::test]
async fn two_who_say_that_it_is_no_message_are_right() {
    let world = World::new();
    let no_message = || [refuses(Fault::Request)];
    let stubs = vec![stub("a", no_message()), stub("b", no_message()), stub("c", [])];
    let (delivered, asked) = world.deliver(&world.dispatcher(stubs)).await;
    assert_eq!((delivered, asked.len()), (Delivered::Stopped(Fault::Request), 2));
    assert_eq!(world.news(), ["provider_bad_request", "provider_bad_request"]);
    world.check_sends("c", "accepted", 0);
}

#[tokio::test]
async fn a_delivery_has_five_attempts() {
    let world = World::new();
    let stubs = (0..7).map(|n| stub(&format!("p{n}"), [refuses(Fault::Transient)])).collect();
    let (delivered, asked) = world.deliver(&world.dispatcher(stubs)).await;
    assert_eq!((delivered, asked.len()), (Delivered::NotSent, 5));
}

#[tokio::test]
async fn a_delivery_has_twelve_seconds() {
    let world = World::new();
    let slow = |name, seconds, fault| Stub {
        replies: vec![Reply::SaysAfter(Span::from_secs(seconds), refuses(fault))],
        ..stub(name, [])
    };
    let stubs = vec![
        slow("a", 5, Fault::Transient),
        slow("b", 4, Fault::Ambiguous),
        slow("c", 3, Fault::Transient),
        stub("d", []),
    ];
    let (delivered, asked) = world.deliver(&world.dispatcher(stubs)).await;
    assert_eq!((delivered, asked), (Delivered::Unsure, vec!["a".into(), "b".into(), "c".into()]));
    let within: Vec<u64> = world.log.lock().iter().map(|asked| asked.within.as_secs()).collect();
    assert_eq!(within, [5, 5, 3]);
}

#[tokio::test]
async fn nobody_is_asked_for_a_code_that_is_dead() {
    let world = World::new();
    let slow = Stub {
        replies: vec![Reply::SaysAfter(Span::from_secs(5), refuses(Fault::Transient))],
        ..stub("a", [])
    };
    let dispatcher = world.dispatcher(vec![slow, stub("b", [])]);
    let (text, code) = ("text".into(), CODE.into());
    let expires_at = world.now().plus(Span::from_millis(5_500));
    let order = Order { expires_at, first_attempt: 4, ..order(&text, &code, world.now()) };
    assert_eq!(dispatcher.deliver(&order, &|_| ()).await, Delivered::Late);
    let log = world.log.lock();
    assert_eq!(
        log.iter().map(|asked| (asked.attempt, asked.expires_in.as_millis())).collect::<Vec<_>>(),
        [(4, 5500)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_does_not_end_is_cut_off_and_the_next_one_asked() {
    let world = World::new();
    let stubs = vec![Stub { replies: vec![Reply::Hangs], ..stub("a", []) }, stub("b", [])];
    let (delivered, _) = world.deliver(&world.dispatcher(stubs)).await;
    assert_eq!(delivered, Delivered::Accepted);
    world.check_sends("a", "ambiguous", 1);
    world.check_failovers("a", "b", 1);
}

#[tokio::test]
async fn the_console_never_stands_in_for_a_provider() {
    let console = || {
        let mut console = stub("console", []);
        console.spec.kind = Kind::Console;
        console
    };
    let world = World::new();
    let dispatcher = world.dispatcher(vec![console(), stub("a", [refuses(Fault::Provider)])]);
    assert_eq!(world.deliver(&dispatcher).await, (Delivered::NotSent, vec!["a".to_owned()]));
    assert!(!dispatcher.can_take(Channel::Sms, Some("DE"), world.now()));
    assert_eq!(world.deliver(&dispatcher).await, (Delivered::NotSent, vec![]));

    let alone = World::new();
    let dispatcher = alone.dispatcher(vec![console()]);
    assert!(dispatcher.can_take(Channel::Sms, Some("DE"), alone.now()));
    assert_eq!(alone.deliver(&dispatcher).await.0, Delivered::Accepted);
}

#[tokio::test]
async fn a_channel_has_its_own_providers() {
    let world = World::new();
    let mail = Stub { channels: vec![Channel::Email], ..stub("mail", []) };
    let dispatcher = world.dispatcher(vec![mail, stub("a", [refuses(Fault::Transient)])]);
    assert!(dispatcher.can_take(Channel::Email, None, world.now()));
    assert!(!dispatcher.can_take(Channel::Voice, None, world.now()));
    assert_eq!(world.deliver(&dispatcher).await, (Delivered::NotSent, vec!["a".to_owned()]));
}

#[tokio::test]
async fn nobody_hears_of_providers_that_are_not_there() {
    let world = World::new();
    let dispatcher = world.dispatcher(vec![stub("a", [])]);
    assert!(matches!(dispatcher.look_up("gone", "1").await, Err(LookUpFault::None)));
    assert!(matches!(dispatcher.look_up("a", "1").await, Err(LookUpFault::Unknown)));
    dispatcher.verified("gone", None, world.now());
}

#[test]
fn debug_hides_whom_it_goes_to_and_what_it_says() {
    let (text, code) = ("042137 is your code".into(), CODE.into());
    let order = order(&text, &code, START);
    let shown = format!("{order:?} {:?} {:?}", order.text, order.code);
    assert!(!shown.contains("4917") && !shown.contains(CODE), "{shown}");
}
