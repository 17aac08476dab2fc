use std::collections::HashMap;

use proptest::prelude::*;

use super::super::Identifier;
use super::*;
use crate::decision::time::Span;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Span::from_secs(seconds))
}

/// Keys whose upper bits differ as those of hashes do.
fn key(number: u64) -> KeyHash {
    KeyHash::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn record(number: u64, id: u64, from_s: u64, to_s: u64, forget_s: u64) -> Arc<BlockRecord> {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&id.to_be_bytes());
    Arc::new(BlockRecord {
        id: BlockId::new(at(from_s), random),
        key: key(number),
        key_kind: "ip".into(),
        identifier: Identifier::new(&[("ip", "192.0.2.1")]),
        reason: Reason::Limit,
        route: None,
        policy: None,
        attempts: 3,
        created_at: at(from_s),
        block: Block { until: at(to_s), level: 0, forget_at: at(to_s + forget_s) },
        by: None,
        spec: None,
    })
}

#[test]
fn a_key_is_blocked_until_its_end_and_remembered_a_while() {
    let book = Book::new();
    assert_eq!(book.until(key(1), NOW), None);
    book.put(record(1, 1, 0, 60, 100), NOW);
    assert_eq!(book.until(key(1), at(59)), Some(at(60)));
    assert_eq!(book.until(key(2), at(59)), None);
    assert_eq!(book.until(key(1), at(60)), None, "the end itself is free");
    assert!(book.get(key(1), at(60)).is_none());
    assert!(book.earlier(key(1), at(159)).is_some());
    assert!(book.earlier(key(1), at(160)).is_none());
    assert_eq!((book.len(at(59)), book.len(at(60))), (1, 0));
    assert!(book.forget_old(at(159)).is_empty());
    assert_eq!(book.forget_old(at(160)).len(), 1);
    assert!(book.is_blank(), "and the next look costs one load again");
}

#[test]
fn who_is_blocked_again_keeps_the_block_and_its_later_end() {
    let book = Book::new();
    let first = book.put(record(1, 1, 0, 60, 0), NOW);
    assert!(first.is_new);
    let longer = book.put(record(1, 2, 10, 90, 0), at(10));
    assert!(!longer.is_new);
    assert_eq!((longer.record.id, longer.record.created_at), (first.record.id, NOW));
    assert_eq!(book.until(key(1), at(10)), Some(at(90)));
    book.put(record(1, 3, 20, 30, 0), at(20));
    assert_eq!(book.until(key(1), at(20)), Some(at(90)), "a shorter one changes nothing");
    let by_operator =
        BlockRecord { reason: Reason::Operator, ..BlockRecord::clone(&record(1, 4, 25, 40, 0)) };
    let placed = book.put(by_operator.into(), at(25));
    assert_eq!(book.until(key(1), at(25)), Some(at(40)), "but an operator may end it earlier");
    assert_eq!((placed.record.id, placed.record.reason), (first.record.id, Reason::Operator));
    let next = book.put(record(1, 5, 50, 70, 0), at(50));
    assert!(next.is_new && next.record.id != first.record.id);
}

#[test]
fn the_one_that_ends_first_gives_way() {
    let book = Book::bounded(1, 3);
    for number in 1..=3 {
        assert!(book.put(record(number, number, 0, 100 - number, 0), NOW).displaced.is_none());
    }
    let placed = book.put(record(4, 4, 0, 50, 0), NOW);
    assert_eq!(placed.displaced.map(|displaced| displaced.key), Some(key(3)));
    assert_eq!(book.until(key(3), NOW), None);
    assert_eq!(book.len(NOW), 3);
    let again = book.put(record(4, 5, 0, 60, 0), NOW);
    assert!(again.displaced.is_none(), "a key that is there needs no room");
}

#[test]
fn a_flood_stays_within_the_bound() {
    let book = Book::bounded(64, 6400);
    for number in 0..50_000 {
        book.put(record(number, number, 0, 100 + number, 0), NOW);
    }
    assert_eq!(book.len(NOW), 6400);
    assert_eq!(book.snapshot(NOW).len(), 6400);
    assert!(book.until(key(49_999), NOW).is_some(), "who ends last stays");
    assert!(book.until(key(0), NOW).is_none());
}

#[test]
fn blocks_are_found_by_id_and_counted_by_reason() {
    let book = Book::new();
    let limit = book.put(record(1, 1, 0, 60, 0), NOW).record;
    let by_operator = BlockRecord { reason: Reason::Operator, ..BlockRecord::clone(&record(2, 2, 0, 90, 0)) };
    book.put(by_operator.into(), NOW);
    assert_eq!(book.find(limit.id).map(|found| found.key), Some(key(1)));
    assert!(book.find(BlockId::new(at(5), [0; 10])).is_none());
    let counts = |now| book.count_by_reason(now).map(|(_, count)| count);
    assert_eq!(counts(NOW), [1, 0, 0, 1]);
    assert_eq!(counts(at(60)), [0, 0, 0, 1]);
    assert_eq!(book.snapshot(at(60)).len(), 1);
    assert!(book.lift(key(2)).is_some());
    assert!(book.lift(key(2)).is_none());
}

#[test]
fn of_several_written_blocks_the_last_one_made_is_restored() {
    for order in [[0, 1], [1, 0]] {
        let book = Book::new();
        let both = [record(1, 1, 0, 200, 0), record(1, 2, 10, 90, 0)];
        let whole: Vec<bool> = order.iter().map(|&at| book.restore(Arc::clone(&both[at]), NOW)).collect();
        assert_eq!(whole, [true, false], "one that is in force was left out");
        assert_eq!(book.until(key(1), NOW), Some(at(90)));
    }
    let book = Book::new();
    assert!(book.restore(record(1, 1, 0, 20, 100), at(30)));
    assert!(book.restore(record(1, 2, 25, 90, 0), at(30)), "one that is over may be left out");
    let small = Book::bounded(1, 1);
    assert!(small.restore(record(1, 1, 0, 60, 0), NOW));
    assert!(!small.restore(record(2, 2, 0, 90, 0), NOW));
}

#[derive(Clone, Debug)]
enum Step {
    Put { number: u64, lasts: u64, forget: u64, by_operator: bool },
    Lift(u64),
    Forget,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12_u64, 1..40_u64, 0..20_u64, any::<bool>())
            .prop_map(|(number, lasts, forget, by_operator)| Step::Put { number, lasts, forget, by_operator }),
        1 => (0..12_u64).prop_map(Step::Lift),
        1 => Just(Step::Forget),
        2 => (0..15_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// The simplest thing that keeps the promises: what is held of each key, in full.
#[derive(Default)]
struct Model(HashMap<u64, BlockRecord>);

impl Model {
    fn put(&mut self, number: u64, record: &BlockRecord, now: Timestamp, most: usize) {
        let mut next = record.clone();
        match self.0.remove(&number) {
            Some(held) if held.block.until > now => {
                if held.block.until > record.block.until && record.reason != Reason::Operator {
                    next = held.clone();
                }
                next.attempts = record.attempts.max(held.attempts);
                (next.id, next.created_at) = (held.id, held.created_at);
            }
            Some(_) | None => {}
        }
        if self.0.len() >= most {
            let first = self.0.iter().min_by_key(|(_, held)| (held.block.until, held.key));
            let first = first.map(|(&number, _)| number).unwrap();
            self.0.remove(&first);
        }
        self.0.insert(number, next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_book_does_as_the_simple_model_does(steps in steps()) {
        const MOST: usize = 6;
        let (book, mut model) = (Book::bounded(1, MOST), Model::default());
        let (mut second, mut id) = (0, 0);
        for step in steps {
            let now = at(second);
            match step {
                Step::Put { number, lasts, forget, by_operator } => {
                    id += 1;
                    let reason = if by_operator { Reason::Operator } else { Reason::Limit };
                    let attempts = u32::try_from(lasts).unwrap();
                    let record = record(number, id, second, second + lasts, forget);
                    let record = BlockRecord { reason, attempts, ..BlockRecord::clone(&record) };
                    model.put(number, &record, now, MOST);
                    book.put(record.into(), now);
                }
                Step::Lift(number) => {
                    let lifted = book.lift(key(number)).map(|record| BlockRecord::clone(&record));
                    prop_assert_eq!(lifted, model.0.remove(&number));
                }
                Step::Forget => {
                    let before = model.0.len();
                    model.0.retain(|_, held| held.block.forget_at > now);
                    prop_assert_eq!(book.forget_old(now).len(), before - model.0.len());
                }
                Step::Wait(seconds) => second += seconds,
            }
            let now = at(second);
            let in_force = |held: &&BlockRecord| held.block.until > now;
            for number in 0..12 {
                let held = model.0.get(&number);
                let got = book.get(key(number), now).map(|record| BlockRecord::clone(&record));
                prop_assert_eq!(got.as_ref(), held.filter(in_force));
                prop_assert_eq!(book.until(key(number), now), got.map(|record| record.block.until));
                let earlier = held.map(|held| held.block).filter(|block| block.forget_at > now);
                prop_assert_eq!(book.earlier(key(number), now), earlier);
            }
            prop_assert_eq!(book.len(now), model.0.values().filter(in_force).count());
            prop_assert_eq!(book.is_blank(), model.0.is_empty());
        }
    }
}
