use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TTL: Span = Span::from_secs(600);

fn draft(number: u8) -> Draft {
    Draft {
        nonce: Nonce([number; 8]),
        seed: [number; 32],
        sealed: vec![number; 40],
        ttl: TTL,
        attempts_max: 3,
    }
}

fn card() -> Card {
    open(None, draft(1), NOW).0
}

fn delivery(attempt: u8, state: DeliveryState) -> Delivery {
    let (sent_at, changed_at) = (NOW, NOW.plus(Span::from_secs(u64::from(attempt))));
    Delivery { attempt, provider: "first".into(), message_id: "SM1".into(), state, sent_at, changed_at }
}

fn after(s: u64) -> Timestamp {
    NOW.plus(Span::from_secs(s))
}

#[test]
fn a_resend_is_the_same_code_for_no_longer() {
    let first = card();
    let (again, opened) = open(Some(first.clone()), draft(2), after(570));
    assert_eq!(opened, Opened::Again);
    assert_eq!(again, Card { sends: 2, sealed: vec![2; 40], ..first.clone() });

    let anew = |held: Card, at: Timestamp| {
        let (card, opened) = open(Some(held), draft(2), at);
        assert_eq!((opened, card.nonce), (Opened::Fresh, Nonce([2; 8])));
        assert_eq!((card.attempts, card.sends, card.expires_at), (0, 1, at.plus(TTL)));
    };
    anew(first.clone(), after(570).plus(Span::from_millis(1)));
    anew(first.clone(), after(600));
    anew(Card { used_at: Some(after(1)), ..first.clone() }, after(2));
    anew(Card { attempts: 3, ..first.clone() }, after(2));
    let last = Card { sends: u16::MAX, ..first };
    assert_eq!(open(Some(last), draft(2), NOW).0.sends, u16::MAX);
}

#[test]
fn a_guess_counts_before_it_is_compared() {
    let mut held = card();
    for attempts in 1..=3 {
        let Guess::Counted(card) = guess(Some(held), None, NOW) else { panic!("{attempts}") };
        assert_eq!(card.attempts, attempts);
        held = card;
    }
    assert_eq!(guess(Some(held.clone()), None, NOW), Guess::Exhausted);
    assert_eq!(guess(Some(held.clone()), None, after(600)), Guess::Expired);
    assert_eq!(guess(Some(held.clone()), Some(Nonce([9; 8])), NOW), Guess::Unknown);
    assert_eq!(guess(Some(Card { used_at: Some(NOW), ..held }), None, after(600)), Guess::Used);
    assert_eq!(guess(None, None, NOW), Guess::Unknown);
    assert!(matches!(guess(Some(card()), Some(Nonce([1; 8])), NOW), Guess::Counted(_)));
}

#[test]
fn a_code_is_used_once_and_in_time() {
    let exhausted = Card { attempts: 3, ..card() };
    let Consumed::First(used) = consume(Some(exhausted), Nonce([1; 8]), after(1)) else { panic!("late") };
    assert_eq!(used.used_at, Some(after(1)));
    assert_eq!(consume(Some(used), Nonce([1; 8]), after(1)), Consumed::Late);
    assert_eq!(consume(Some(card()), Nonce([2; 8]), after(1)), Consumed::Late);
    assert_eq!(consume(Some(card()), Nonce([1; 8]), after(600)), Consumed::Late);
    assert_eq!(consume(None, Nonce([1; 8]), NOW), Consumed::Late);
}

#[test]
fn reports_come_twice_and_in_any_order() {
    let noted = |held: Card, delivery: Delivery| match note(Some(held), Nonce([1; 8]), delivery) {
        Noted::Changed(card) => Some(card),
        Noted::Unchanged => None,
        Noted::Unknown => panic!("it is there"),
    };
    let held = noted(card(), delivery(2, DeliveryState::Sent)).unwrap();
    assert_eq!(noted(held.clone(), delivery(2, DeliveryState::Sent)), None);
    assert_eq!(noted(held.clone(), delivery(2, DeliveryState::Accepted)), None);
    let held = noted(held, delivery(1, DeliveryState::Failed)).unwrap();
    assert_eq!(noted(held.clone(), delivery(1, DeliveryState::Expired)), None, "of the same rank");
    let told = Delivery { sent_at: after(9), changed_at: after(10), ..delivery(1, DeliveryState::Delivered) };
    let held = noted(held, told).unwrap();
    let attempts: Vec<_> = held.deliveries.iter().map(|known| (known.attempt, known.state)).collect();
    assert_eq!(attempts, [(1, DeliveryState::Delivered), (2, DeliveryState::Sent)]);
    assert_eq!((held.deliveries[0].sent_at, held.deliveries[0].changed_at), (NOW, after(10)));
    assert_eq!(note(Some(held), Nonce([2; 8]), delivery(1, DeliveryState::Read)), Noted::Unknown);
}

#[test]
fn of_many_attempts_the_latest_are_kept() {
    let mut card = card();
    for attempt in (2..=20).step_by(2) {
        assert!(card.absorb(delivery(attempt, DeliveryState::Sent)));
    }
    let attempts = |card: &Card| card.deliveries.iter().map(|known| known.attempt).collect::<Vec<_>>();
    assert_eq!(attempts(&card), [6, 8, 10, 12, 14, 16, 18, 20]);
    assert!(!card.absorb(delivery(5, DeliveryState::Read)), "earlier than all that are kept");
    assert!(card.absorb(delivery(9, DeliveryState::Read)));
    assert_eq!(attempts(&card), [8, 9, 10, 12, 14, 16, 18, 20]);
}

#[test]
fn long_texts_are_cut_between_letters() {
    let long = Delivery {
        provider: "é".repeat(40).into(),
        message_id: format!("a{}", "é".repeat(80)).into(),
        ..delivery(1, DeliveryState::Sent)
    };
    let cut = long.bounded();
    assert_eq!((cut.provider.len(), cut.message_id.len()), (64, 127));
}

#[test]
fn debug_shows_nothing_a_code_could_be_made_of() {
    let told = format!("{:?} {:?} {:?}", card(), draft(1), Nonce([1; 8]));
    assert!(!told.contains("seed") && !told.contains("1, 1"), "{told}");
}

fn cards() -> impl Strategy<Value = Card> {
    let texts = ("[a-z]{0,64}", "[A-Za-z0-9é]{0,64}");
    let times = (0..u64::MAX, 0..u64::MAX);
    let one = (any::<u8>(), texts, 0..DeliveryState::ALL.len(), times).prop_map(
        |(attempt, (provider, id), state, (sent, changed))| Delivery {
            attempt,
            provider: provider.into(),
            message_id: id.into(),
            state: DeliveryState::ALL[state],
            sent_at: Timestamp::from_micros(sent),
            changed_at: Timestamp::from_micros(changed),
        },
    );
    let sealed = prop::collection::vec(any::<u8>(), 0..=SEALED_MAX);
    let deliveries = prop::collection::vec(one, 0..=DELIVERIES_MAX);
    let numbers = (any::<u8>(), any::<u8>(), any::<u16>(), any::<[u8; 8]>(), any::<[u8; 32]>());
    let times = (any::<u64>(), any::<u64>(), prop::option::of(1..u64::MAX));
    (sealed, deliveries, numbers, times).prop_map(|(sealed, deliveries, numbers, times)| Card {
        nonce: Nonce(numbers.3),
        seed: numbers.4,
        sealed,
        opened_at: Timestamp::from_micros(times.0),
        expires_at: Timestamp::from_micros(times.1),
        attempts: numbers.0,
        attempts_max: numbers.1,
        used_at: times.2.map(Timestamp::from_micros),
        sends: numbers.2,
        deliveries: deliveries.into(),
    })
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(card in cards()) {
        let bytes = card.pack();
        prop_assert_eq!(Card::unpack(&bytes), Some(card));
        for end in 0..bytes.len() {
            prop_assert_eq!(Card::unpack(&bytes[..end]), None);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let versioned: Vec<u8> = std::iter::once(1).chain(bytes.iter().copied()).collect();
        let _ = (Card::unpack(&bytes), Card::unpack(&versioned), read_about(&bytes));
    }
}
