//! Pace and money: what a provider is given, and what it is paid.

use super::*;

fn cost(daily_max_micros: Option<u64>) -> Option<Cost> {
    let by_country = [("BR".into(), 40)].into();
    Some(Cost { default_micros: 10, by_country, currency: "USD".into(), daily_max_micros })
}

/// A paid provider.
fn paid(name: &str, daily_max_micros: u64, says: impl IntoIterator<Item = Outcome>) -> Stub {
    let mut stub = stub(name, says);
    stub.spec.cost = cost(Some(daily_max_micros));
    stub
}

fn priced(message_id: &str, micros: u64, currency: &str) -> Outcome {
    let price = Some(Price { micros, currency: currency.into() });
    Outcome::Accepted(Accepted { message_id: message_id.into(), price, parts: Some(1) })
}

impl World {
    fn spent(&self) -> u64 {
        self.states.spent(self.now()).iter().map(|row| row.micros).sum()
    }

    fn report_price(&self, dispatcher: &Dispatcher, message_id: &str, state: DeliveryState, micros: u64) {
        let price = Some(Price { micros, currency: "USD".into() });
        let report = Report { message_id: message_id.into(), state, refused: None, price };
        dispatcher.reported("a", &report, START, self.now());
    }
}

#[tokio::test]
async fn a_provider_over_its_own_limits_is_passed_over() {
    let world = World::new();
    let mut limited = stub("a", []);
    limited.spec.limits = Pace { windows: vec![(NonZeroU32::new(2).unwrap(), MINUTE)] };
    let dispatcher = world.dispatcher(vec![limited, stub("b", [])]);
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.extend(world.deliver(&dispatcher).await.1);
    }
    assert_eq!(asked, ["a", "a", "b"]);
    assert_eq!(dispatcher.health(world.now())[0].standing, Standing::Full);
    world.hand.advance(Span::from_secs(63));
    assert_eq!(world.deliver(&dispatcher).await.1, ["a"]);
    world.check_failovers("a", "b", 0);
}

#[tokio::test]
async fn when_all_are_over_their_limits_nothing_can_be_taken() {
    let world = World::new();
    let mut limited = stub("a", []);
    limited.spec.limits = Pace { windows: vec![(NonZeroU32::MIN, MINUTE)] };
    let dispatcher = world.dispatcher(vec![limited]);
    assert!(dispatcher.can_take(Channel::Sms, None, world.now()));
    assert!(dispatcher.can_take(Channel::Sms, None, world.now()), "asking takes nothing");
    world.deliver(&dispatcher).await;
    assert!(!dispatcher.can_take(Channel::Sms, None, world.now()));
    assert_eq!(world.deliver(&dispatcher).await, (Delivered::NotSent, vec![]));
}

#[tokio::test]
async fn what_was_taken_or_may_have_been_is_paid_for_and_nothing_else() {
    for fault in Fault::ALL {
        let world = World::new();
        world.deliver(&world.dispatcher(vec![paid("a", 1000, [refuses(fault)])])).await;
        let expected = if fault == Fault::Ambiguous { 10 } else { 0 };
        assert_eq!(world.spent(), expected, "{fault:?}");
    }
    let world = World::new();
    let dispatcher =
        world.dispatcher(vec![paid("a", 1000, [refuses(Fault::Ambiguous)]), paid("b", 1000, [])]);
    world.deliver_to(&dispatcher, Some("BR"), "+5511").await;
    assert_eq!(world.spent(), 80, "both, at the price of the country");
    world.check(r#"tollgate_sms_cost_total{currency="USD",provider="a"} 0.00004"#);
    world.check(r#"tollgate_sms_cost_total{currency="USD",provider="b"} 0.00004"#);
}

#[tokio::test]
async fn a_hundred_at_once_spend_no_more_than_the_maximum() {
    let world = World::new();
    let dispatcher = world.dispatcher(vec![paid("a", 305, [])]);
    let all = futures_util::future::join_all((0..100).map(|_| async {
        let (text, code) = ("text".into(), CODE.into());
        let order = order(&text, &code, world.now());
        dispatcher.deliver(&order, &|_| ()).await
    }))
    .await;
    assert_eq!(all.iter().filter(|delivered| **delivered == Delivered::Accepted).count(), 30);
    assert_eq!(world.spent(), 300);
    assert_eq!(world.news(), ["provider_spent_out"], "told once");
    assert!(!dispatcher.can_take(Channel::Sms, None, world.now()));
    assert_eq!(dispatcher.health(world.now())[0].standing, Standing::SpentOut);

    world.hand.advance(Span::from_secs(24 * 3600 - 1));
    assert!(!dispatcher.can_take(Channel::Sms, None, world.now()));
    assert_eq!(world.news(), ["provider_spent_out"], "once an hour");
    world.hand.advance(Span::from_secs(3601));
    assert!(dispatcher.can_take(Channel::Sms, None, world.now()));
}

#[tokio::test]
async fn what_was_spent_survives_a_restart_and_a_reload() {
    let world = World::new();
    let dispatcher = world.dispatcher(vec![paid("a", 20, [])]);
    world.deliver(&dispatcher).await;
    world.deliver(&dispatcher).await;
    let rows = world.states.spent(world.now());
    assert_eq!(rows.len(), 1);

    drop(dispatcher);
    // Taken out of the file and put back in.
    drop(world.dispatcher(vec![stub("b", [])]));
    let dispatcher = world.dispatcher(vec![paid("a", 20, [])]);
    assert!(!dispatcher.can_take(Channel::Sms, None, world.now()));

    let next = World::new();
    next.states.restore(&rows, next.now());
    let dispatcher = next.dispatcher(vec![paid("a", 20, [])]);
    assert!(!dispatcher.can_take(Channel::Sms, None, next.now()));
    assert_eq!(next.states.spent(next.now()), rows);
}

#[tokio::test]
async fn a_price_that_the_provider_tells_takes_the_place_of_ours() {
    let world = World::new();
    let says = [priced("1", 25, "USD"), priced("2", 99, "EUR"), priced("3", 0, "USD")];
    let dispatcher = world.dispatcher(vec![paid("a", 1000, says)]);
    world.deliver(&dispatcher).await;
    assert_eq!(world.spent(), 25);
    world.deliver(&dispatcher).await;
    assert_eq!(world.spent(), 35, "in another currency it tells nothing");
    world.deliver(&dispatcher).await;
    assert_eq!(world.spent(), 45, "nothing is free before it is known");

    world.report_price(&dispatcher, "1", DeliveryState::Sent, 30);
    assert_eq!(world.spent(), 50);
    world.report_price(&dispatcher, "1", DeliveryState::Sent, 30);
    assert_eq!(world.spent(), 50, "told twice");
    world.report_price(&dispatcher, "2", DeliveryState::Delivered, 4);
    assert_eq!(world.spent(), 44);
    world.report_price(&dispatcher, "unknown", DeliveryState::Delivered, 500);
    assert_eq!(world.spent(), 44);
    world.check(r#"tollgate_sms_cost_total{currency="USD",provider="a"} 0.00005"#);
}

#[tokio::test]
async fn the_price_of_one_part_does_not_lower_that_of_a_long_message() {
    let world = World::new();
    let long = Outcome::Accepted(Accepted { message_id: "1".into(), parts: Some(3), price: None });
    let dispatcher = world.dispatcher(vec![paid("a", 1000, [long])]);
    world.deliver(&dispatcher).await;
    assert_eq!(world.spent(), 30, "three parts, though we took it for one");
    world.report_price(&dispatcher, "1", DeliveryState::Delivered, 10);
    assert_eq!(world.spent(), 30);
}

#[tokio::test]
async fn a_delivery_that_is_dropped_stays_paid_for() {
    let world = World::new();
    let hanging = Stub { replies: vec![Reply::Hangs], ..paid("a", 1000, []) };
    let dispatcher = world.dispatcher(vec![hanging]);
    tokio::select! {
        biased;
        _ = world.deliver(&dispatcher) => panic!("it hangs"),
        () = async { for _ in 0..10 { tokio::task::yield_now().await } } => {}
    }
    assert_eq!(world.spent(), 10);
}
