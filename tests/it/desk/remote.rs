//! What is particular to a store that several gateways share: whose clock it goes by, what stands there, and what
//! becomes of steps while it is away.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

use tollgate::decision::key::KeyHasher;
use tollgate::otp::Claim;
use tollgate::otp::card::{Delivery, Noted};
use tollgate::otp::desk::DeskFault;
use tollgate::sms::DeliveryState;
use tollgate::store::spec::{Place, SharedSpec, StoreKind, StoreSpec};

use crate::harness::redis::Reply;

/// By the server's clock, with so much patience.
fn hasty(place: Place, timeout: Duration) -> Desk {
    let spec = SharedSpec { place, prefix: "tg:".into(), timeout, secret: None };
    let spec = StoreSpec { max_keys: 1000, data_dir: PathBuf::new(), kind: StoreKind::Shared(spec) };
    let metrics = Metrics::new().unwrap();
    let store =
        Store::open(&spec, KeyHasher::new([9; 16]), metrics.store(), Clock::system(), ScriptTime::Server);
    on(store)
}

fn delivery(state: DeliveryState, at: Timestamp) -> Delivery {
    Delivery {
        attempt: 1,
        provider: "first".into(),
        message_id: "SM1".into(),
        state,
        sent_at: at,
        changed_at: at,
    }
}

#[tokio::test]
async fn a_gateway_whose_clock_is_wrong_sees_the_time_that_is_left() {
    let server = RedisServer::start().await;
    let desk = on(shared(node(&server.url()), ScriptTime::Server));
    for now in [Timestamp::from_millis(86_400_000), START, Timestamp::from_millis(4_000_000_000_000)] {
        let slot = slot(u128::from(now.as_micros()));
        let (card, _) = desk.open(slot, draft(1), now).await.unwrap();
        assert_eq!((card.opened_at, card.expires_at), (now, now.plus(TTL)));
        let noted = desk.note(slot, card.nonce, delivery(DeliveryState::Sent, now), now).await;
        let Ok(Noted::Changed(noted)) = noted else { panic!("{noted:?}") };
        assert_eq!((noted.deliveries[0].sent_at, noted.deliveries[0].changed_at), (now, now));
        // Some time has passed meanwhile: not more than all of it.
        let Ok(Consumed::First(used)) = desk.consume(slot, card.nonce, now).await else { panic!("late") };
        assert_eq!(used.used_at, Some(now));
        assert!(used.opened_at < now && used.expires_at < now.plus(TTL) && used.expires_at > now);
    }
}

#[tokio::test]
async fn what_stands_there_goes_away_by_itself_and_is_nothing_else() {
    let server = RedisServer::start().await;
    let desk = on(shared(node(&server.url()), ScriptTime::Server));
    let now = Clock::system().now();
    for number in 0..4 {
        desk.guess(slot(100 + number), None, now).await.unwrap();
    }
    assert_eq!(server.dbsize().await, 0, "a guess at nothing leaves nothing");
    for number in 0..4 {
        let (card, _) = desk.open(slot(number.into()), draft(number), now).await.unwrap();
        desk.guess(slot(number.into()), None, now).await.unwrap();
        let sent = delivery(DeliveryState::Sent, now);
        desk.note(slot(number.into()), card.nonce, sent, now).await.unwrap();
        desk.consume(slot(number.into()), card.nonce, now).await.unwrap();
        let key = KeyHash::from_u128(number.into());
        desk.claim(key, [1; 16], now, Span::from_secs(30)).await.unwrap();
        desk.answer(key, b"202", now, Span::from_secs(300)).await.unwrap();
    }
    let keys = server.keys().await;
    assert_eq!(keys.len(), 8, "{keys:?}");
    for key in keys {
        let (kind, hash) = key.strip_prefix("tg:1:").and_then(|name| name.split_once(':')).expect("ours");
        assert_eq!(hash.len(), 22, "{key}");
        let (longest_s, known): (i64, &[&str]) = match kind {
            "code" => (
                2 * 600 + 3600,
                &[
                    "attempts", "d1", "expires", "kept", "most", "nonce", "opened", "sealed", "seed",
                    "sends", "used",
                ],
            ),
            "claim" => (300, &["answer", "ends", "mark"]),
            other => panic!("{other}"),
        };
        let ttl_s = server.must(&["TTL", &key]).await.int();
        assert!((longest_s - 60..=longest_s).contains(&ttl_s), "{key} stays {ttl_s} s");
        let fields: BTreeSet<String> =
            server.must(&["HKEYS", &key]).await.array().into_iter().map(Reply::text).collect();
        assert_eq!(fields, known.iter().map(|&field| field.to_owned()).collect(), "{key}");
        if kind == "code" {
            // The bytes that were given, and no other form of them.
            let sealed = server.must(&["HGET", &key, "sealed"]).await;
            assert!((0..4).any(|number| sealed == Reply::Bytes(draft(number).sealed)), "{key}");
        }
    }
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let server = RedisServer::start().await;
    let desk = on(shared(node(&server.url()), ScriptTime::Server));
    let now = Clock::system().now();
    desk.open(slot(1), draft(1), now).await.unwrap();
    let key = server.keys().await.remove(0);
    for spoil in [vec!["SET", &key, "x"], vec!["HSET", &key, "nonce", "x"], vec!["LPUSH", &key, "x"]] {
        server.must(&["DEL", &key]).await;
        server.must(&spoil).await;
        assert_eq!(desk.open(slot(1), draft(1), now).await, Err(DeskFault::Broken), "{spoil:?}");
        assert_eq!(desk.guess(slot(1), None, now).await, Err(DeskFault::Broken), "{spoil:?}");
        assert_eq!(desk.look(slot(1), draft(1).nonce, now).await, Err(DeskFault::Broken), "{spoil:?}");
        assert_eq!(server.dbsize().await, 1);
    }
    assert!(desk.open(slot(2), draft(2), now).await.is_ok(), "others go on");
}

#[tokio::test]
async fn while_the_store_is_away_nothing_is_done() {
    let mut server = RedisServer::start().await;
    let desk = hasty(node(&server.url()), Duration::from_millis(50));
    let now = Clock::system().now();
    desk.open(slot(1), draft(1), now).await.unwrap();
    server.kill_9();
    // The first may find out, the others know.
    for _ in 0..3 {
        assert_eq!(desk.guess(slot(1), None, now).await, Err(DeskFault::Away));
        assert_eq!(desk.open(slot(2), draft(2), now).await, Err(DeskFault::Away));
        assert_eq!(desk.consume(slot(1), draft(1).nonce, now).await, Err(DeskFault::Away));
        assert_eq!(desk.look(slot(1), draft(1).nonce, now).await, Err(DeskFault::Away));
        let claimed = desk.claim(KeyHash::from_u128(1), [1; 16], now, TTL).await;
        assert_eq!(claimed, Err(DeskFault::Away));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_no_longer_than_a_second() {
    let server = RedisServer::start().await;
    let desk = hasty(node(&server.url()), Duration::from_millis(50));
    let now = Clock::system().now();
    desk.open(slot(1), draft(1), now).await.unwrap();
    server.pause();
    // Five in a row, and then nobody waits any more.
    for _ in 0..6 {
        assert_eq!(desk.guess(slot(1), None, now).await, Err(DeskFault::Away));
    }
    server.resume();
    // What was not answered was counted or was not: never more than was asked for, and nothing was asked for twice.
    let fresh = hasty(node(&server.url()), Duration::from_secs(5));
    let card = fresh.look(slot(1), draft(1).nonce, now).await.unwrap().unwrap();
    assert!(card.attempts <= 3);
}

#[tokio::test]
async fn a_claim_is_held_by_one_of_all_gateways() {
    let server = RedisServer::start().await;
    let desks = [(); 2].map(|()| on(shared(node(&server.url()), ScriptTime::Server)));
    let (key, now) = (KeyHash::from_u128(77), Clock::system().now());
    let claims = (0..100).map(|nth| {
        let desk = desks[nth % 2].clone();
        tokio::spawn(async move { desk.claim(key, [1; 16], now, TTL).await.unwrap() })
    });
    let claimed = all(claims).await;
    assert_eq!(claimed.iter().filter(|&claim| *claim == Claim::Yours).count(), 1);
    assert_eq!(claimed.iter().filter(|&claim| *claim == Claim::Pending).count(), 99);
    desks[0].answer(key, b"202 {}", now, TTL).await.unwrap();
    let answered = desks[1].claim(key, [1; 16], now, TTL).await;
    assert_eq!(answered, Ok(Claim::Answered(b"202 {}".to_vec())));
    assert_eq!(desks[1].claim(key, [2; 16], now, TTL).await, Ok(Claim::Mismatch));
}
