//! Whether a provider is asked at all, and when in the order.

use super::*;

fn down_until(world: &World) -> Option<Timestamp> {
    world.notices.lock().iter().rev().find_map(|notice| match notice.news {
        News::Down { until, .. } => Some(until),
        News::Up
        | News::Doubted { .. }
        | News::Trusted { .. }
        | News::SpentOut { .. }
        | News::BadRequest { .. } => None,
    })
}

impl World {
    async fn asked(&self, dispatcher: &Dispatcher) -> Vec<String> {
        self.deliver(dispatcher).await.1
    }

    fn check_up(&self, provider: &str, up: u8) {
        self.check(&format!(r#"tollgate_sms_provider_up{{provider="{provider}"}} {up}"#));
    }

    fn report(&self, dispatcher: &Dispatcher, message_id: &str, state: DeliveryState, fault: Option<Fault>) {
        let refused = fault.map(|fault| Refused::new(fault, "30001"));
        let report = Report { message_id: message_id.into(), state, refused, price: None };
        dispatcher.reported("a", &report, START, self.now());
    }
}

#[tokio::test]
async fn five_failures_in_a_row_and_a_provider_is_left_alone_for_half_a_minute() {
    let world = World::new();
    let faults = [Fault::Transient, Fault::Ambiguous, Fault::Transient, Fault::Ambiguous, Fault::Transient];
    let dispatcher = world.dispatcher(vec![stub("a", faults.map(refuses)), stub("b", [])]);
    for _ in 0..5 {
        assert_eq!(world.asked(&dispatcher).await, ["a", "b"]);
    }
    assert_eq!(world.news(), ["provider_down"]);
    world.check_up("a", 0);
    assert_eq!(world.asked(&dispatcher).await, ["b"]);
    world.check_failovers("a", "b", 5);
    assert!(matches!(dispatcher.health(world.now())[0].standing, Standing::Down { .. }));

    world.hand.advance(Span::from_secs(30));
    assert_eq!(dispatcher.health(world.now())[0].standing, Standing::Trying);
    assert_eq!(world.asked(&dispatcher).await, ["a"]);
    assert_eq!(world.news(), ["provider_up"]);
    world.check_up("a", 1);
}

#[tokio::test]
async fn one_message_alone_tries_a_provider_again() {
    let world = World::new();
    let failures = std::iter::repeat_n(refuses(Fault::Transient), 5);
    let dispatcher = world.dispatcher(vec![stub("a", failures), stub("b", [])]);
    for _ in 0..5 {
        world.deliver(&dispatcher).await;
    }
    world.hand.advance(Span::from_secs(30));
    let before = world.log.lock().len();
    let (text, code) = ("text".into(), CODE.into());
    let order = order(&text, &code, world.now());
    futures_util::future::join_all((0..50).map(|_| dispatcher.deliver(&order, &|_| ()))).await;
    let log = world.log.lock();
    assert_eq!(log[before..].iter().filter(|asked| asked.provider == "a").count(), 1);
}

#[tokio::test]
async fn a_provider_that_refuses_us_is_left_alone_for_long_and_told_once() {
    let world = World::new();
    let dispatcher = world.dispatcher(vec![stub("a", [refuses(Fault::Provider)]), stub("b", [])]);
    assert_eq!(world.asked(&dispatcher).await, ["a", "b"]);
    assert_eq!(down_until(&world), Some(START.plus(Span::from_secs(300))));
    world.hand.advance(Span::from_secs(299));
    assert_eq!(world.asked(&dispatcher).await, ["b"]);
    assert_eq!(world.news(), ["provider_down"]);
    assert!(matches!(dispatcher.health(world.now())[0].standing, Standing::Refusing { .. }));

    // Another configuration may have the right credentials.
    let dispatcher = world.dispatcher(vec![stub("a", []), stub("b", [])]);
    assert_eq!(world.asked(&dispatcher).await, ["a"]);
    assert_eq!(world.news(), ["provider_up"]);
}

#[tokio::test]
async fn recipients_and_routes_say_nothing_of_a_provider() {
    let world = World::new();
    let faults = [Fault::Recipient, Fault::OptedOut, Fault::Fraud, Fault::Route, Fault::Request].repeat(5);
    let dispatcher = world.dispatcher(vec![stub("a", faults.into_iter().map(refuses)), stub("b", [])]);
    for n in 0..25 {
        world.deliver_to(&dispatcher, Some("DE"), &format!("+4917{n}")).await;
    }
    assert!(!world.news().contains(&"provider_down"));
    world.check_up("a", 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_with_too_much_at_once_cools_off() {
    let world = World::new();
    let throttled = |after: Option<u64>| {
        let retry_after = after.map(Duration::from_secs);
        Outcome::Refused(Refused { retry_after, ..Refused::new(Fault::Throttled, "429") })
    };
    let says = [throttled(Some(20)), throttled(None), throttled(None)];
    let dispatcher = world.dispatcher(vec![stub("a", says), stub("b", [])]);
    assert_eq!(world.asked(&dispatcher).await, ["a", "b"]);
    world.hand.advance(Span::from_secs(19));
    assert_eq!(world.asked(&dispatcher).await, ["b"]);
    assert!(matches!(dispatcher.health(world.now())[0].standing, Standing::Cooling { .. }));
    world.hand.advance(Span::from_secs(1));
    assert_eq!(world.asked(&dispatcher).await, ["a", "b"]);
    world.hand.advance(Span::from_secs(2));
    assert_eq!(world.asked(&dispatcher).await, ["a", "b"]);
    world.hand.advance(Span::from_secs(4));
    assert_eq!(world.asked(&dispatcher).await, ["a"]);
    assert!(world.news().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_is_asked_again_if_it_surely_sent_nothing() {
    let soon = Outcome::Refused(Refused {
        retry_after: Some(Duration::from_millis(800)),
        ..Refused::new(Fault::Throttled, "429")
    });
    let unreached = Outcome::Refused(Refused::new(Fault::Transient, "connect"));
    for refusal in [soon, unreached] {
        let world = World::new();
        let dispatcher = world.dispatcher(vec![stub("a", [refusal.clone()])]);
        assert_eq!(world.deliver(&dispatcher).await, (Delivered::Accepted, vec!["a".into(), "a".into()]));
        // Once, and not where another one can be asked.
        let world = World::new();
        let twice = [refusal.clone(), refusal.clone()];
        assert_eq!(world.deliver(&world.dispatcher(vec![stub("a", twice)])).await.1.len(), 2);
        let world = World::new();
        let dispatcher = world.dispatcher(vec![stub("a", [refusal]), stub("b", [])]);
        assert_eq!(world.asked(&dispatcher).await, ["a", "b"]);
    }
    for fault in Fault::ALL {
        let world = World::new();
        assert_eq!(
            world.asked(&world.dispatcher(vec![stub("a", [refuses(fault)])])).await,
            ["a"],
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_route_that_is_not_reached_is_remembered_for_its_prefix() {
    let world = World::new();
    let dispatcher = world.dispatcher(vec![stub("a", [refuses(Fault::Route)]), stub("b", [])]);
    let brazil = async |prefix: &'static str| world.deliver_to(&dispatcher, Some("BR"), prefix).await.1;
    assert_eq!(brazil("+5511").await, ["a", "b"]);
    assert_eq!(brazil("+5511").await, ["b"]);
    assert_eq!(brazil("+5512").await, ["a"]);
    world.hand.advance(Span::from_secs(600));
    assert_eq!(brazil("+5511").await, ["a"]);
}

/// Codes that this provider took in a country, and how many of them came back.
fn carried(world: &World, provider: &str, country: &str, sent: u32, verified: u32) {
    let state = world.states.named(provider);
    for _ in 0..sent {
        let terms = Terms { cost: None, country: Some(country), prefix: "", segments: 1 };
        let ticket = state.enter(&terms, Entry::First, world.now()).unwrap();
        state.settle(ticket, &terms, &taken(""), world.now());
    }
    (0..verified).for_each(|_| state.verified(Some(country), world.now()));
}

#[tokio::test]
async fn codes_that_do_not_come_back_put_a_provider_last() {
    let world = World::new();
    let mut second = stub("b", []);
    second.spec.priority = 2;
    let dispatcher = world.dispatcher(vec![stub("a", []), second]);
    carried(&world, "a", "BR", 40, 5);
    carried(&world, "b", "BR", 40, 30);
    assert_eq!(world.asked(&dispatcher).await, ["a"], "codes may yet come back");
    world.hand.advance(Span::from_secs(600));
    assert_eq!(world.asked(&dispatcher).await, ["b"]);
    assert_eq!(dispatcher.health(world.now())[0].doubt, Some(Doubt::Conversion));
    assert_eq!(world.deliver_to(&dispatcher, Some("BR"), "+5511").await.1, ["b"]);
    assert_eq!(world.news(), ["provider_doubted"], "once for all countries");

    world.hand.advance(Span::from_secs(3900));
    assert_eq!(world.asked(&dispatcher).await, ["a"], "too few to tell: it is tried again");
    assert_eq!(world.news(), ["provider_trusted"]);
}

#[tokio::test]
async fn a_provider_may_be_last_in_one_country_alone() {
    let world = World::new();
    let dispatcher = world.dispatcher(vec![stub("a", []), stub("b", [])]);
    carried(&world, "a", "BR", 40, 5);
    carried(&world, "a", "DE", 400, 400);
    carried(&world, "b", "BR", 40, 30);
    world.hand.advance(Span::from_secs(600));
    assert_eq!(world.deliver_to(&dispatcher, Some("BR"), "+5511").await.1, ["b"]);
    assert_eq!(world.deliver_to(&dispatcher, Some("DE"), "+4917").await.1, ["a"]);
    let told = world.notices.lock().first().map(ToString::to_string).unwrap();
    assert!(told.contains("a is asked last in BR"), "{told}");
    assert_eq!(world.news(), ["provider_doubted"]);
}

#[tokio::test]
async fn messages_that_do_not_arrive_put_a_provider_last() {
    let world = World::new();
    let says = (0..40).map(|n| taken(&n.to_string()));
    let dispatcher = world.dispatcher(vec![stub("a", says), stub("b", [])]);
    for _ in 0..40 {
        world.deliver(&dispatcher).await;
    }
    for n in 0..40 {
        let (state, fault) = match n {
            0..14 => (DeliveryState::Delivered, None),
            14..18 => (DeliveryState::Failed, Some(Fault::Recipient)),
            _ => (DeliveryState::Undelivered, None),
        };
        // Told twice, and out of order.
        world.report(&dispatcher, &n.to_string(), state, fault);
        world.report(&dispatcher, &n.to_string(), DeliveryState::Queued, None);
        world.report(&dispatcher, &n.to_string(), state, fault);
    }
    let counts = dispatcher.health(world.now())[0].last_hour;
    assert_eq!(counts, Counts { sent: 40, delivered: 14, failed: 22, verified: 0 });
    assert_eq!(world.asked(&dispatcher).await, ["b"]);
    assert_eq!(world.news(), ["provider_doubted"]);
    world.check(r#"tollgate_sms_delivery_seconds_count{provider="a"} 14"#);
    world.check(r#"tollgate_sms_receipts_total{provider="a",state="queued"} 40"#);
}

#[tokio::test]
async fn receipts_tell_of_providers_and_routes_too() {
    let world = World::new();
    let says = (0..3).map(|n| taken(&n.to_string()));
    let dispatcher = world.dispatcher(vec![stub("a", says), stub("b", [])]);
    world.deliver_to(&dispatcher, Some("BR"), "+5511").await;
    world.report(&dispatcher, "0", DeliveryState::Failed, Some(Fault::Route));
    assert_eq!(world.deliver_to(&dispatcher, Some("BR"), "+5511").await.1, ["b"]);
    assert_eq!(world.deliver_to(&dispatcher, Some("BR"), "+5512").await.1, ["a"]);
    world.report(&dispatcher, "1", DeliveryState::Failed, Some(Fault::Provider));
    assert_eq!(world.news(), ["provider_down"]);
    assert_eq!(world.asked(&dispatcher).await, ["b"]);
    let fault = dispatcher.health(world.now())[0].last_fault.clone().unwrap();
    assert_eq!((fault.fault, &*fault.code), (Fault::Provider, "30001"));
}

#[tokio::test]
async fn a_provider_that_goes_leaves_no_series() {
    let world = World::new();
    let both = world.dispatcher(vec![stub("a", [refuses(Fault::Transient)]), stub("b", [])]);
    world.deliver(&both).await;
    both.verified("b", Some("DE"), world.now());
    world.check(r#"tollgate_otp_verified_total{provider="b"} 1"#);
    let one = world.dispatcher(vec![stub("b", [])]);
    world.metrics.sms().retain(&["b"]);
    world.deliver(&both).await;
    assert!(!world.metrics.render().contains(r#""a""#), "not even by a delivery that is under way");
    world.deliver(&one).await;
    world.check_sends("b", "accepted", 2);
}
