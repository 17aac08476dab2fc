use super::super::tests::{DAY, Desk, START, block, eventually, key};
use super::super::{BlockRecord, EndedFilter, Event, EventFilter, EventKind, Journal, Reason, Telling};
use super::*;
use crate::decision::time::Span;

/// The same block, its end moved by so many milliseconds.
fn until(record: &BlockRecord, ms: i64) -> Arc<BlockRecord> {
    let mut moved = record.clone();
    moved.block.until =
        Timestamp::from_micros(moved.block.until.as_micros().saturating_add_signed(ms * 1000));
    Arc::new(moved)
}

fn lift_of(record: &BlockRecord) -> Arc<Lift> {
    Arc::new(Lift {
        key: record.key,
        id: record.id,
        at: START,
        until: record.block.until,
        by: Some("root".into()),
    })
}

fn in_force(journal: &Journal, number: u64) -> Option<Timestamp> {
    journal.book().until(key(number), START)
}

fn listening(desk: &Desk) -> Journal {
    let journal = desk.open();
    journal.outbox().listen();
    journal
}

#[test]
fn a_foreign_block_is_in_force_and_written_down_and_not_told_on() {
    let desk = Desk::new();
    let journal = listening(&desk);
    let record = block(1, START, 600);
    assert!(matches!(journal.adopt(Arc::clone(&record), START), Adoption::Taken));
    assert!(matches!(journal.adopt(until(&record, 500), START), Adoption::Known), "clocks differ a little");
    assert_eq!(in_force(&journal, 1), Some(record.block.until));
    assert!(journal.outbox().take_news(9).is_empty());
    drop(journal);
    eventually("the block is on disk", || {
        let again = desk.open();
        again.book().get(key(1), START).is_some_and(|held| *held == *record)
    });
}

#[test]
fn two_gateways_come_to_the_same_block_in_whatever_order_they_hear() {
    let (shorter, longer) = (block(1, START, 600), block(1, START.plus(Span::from_secs(1)), 900));
    let (desk, other) = (Desk::new(), Desk::new());
    let (one, two) = (listening(&desk), listening(&other));
    drop(one.block(Arc::clone(&shorter)));
    drop(two.block(Arc::clone(&longer)));
    assert!(matches!(one.adopt(Arc::clone(&longer), START), Adoption::Taken));
    assert!(matches!(two.adopt(Arc::clone(&shorter), START), Adoption::Known));
    for journal in [&one, &two] {
        assert_eq!(journal.book().get(key(1), START).map(|held| held.id), Some(longer.id));
    }
    // The row of the other is over.
    eventually("the shorter block has ended", || {
        let ended = one.ended_blocks(&EndedFilter { limit: 9, ..EndedFilter::default() });
        ended.is_ok_and(|ended| {
            ended.iter().any(|row| row.record.id == shorter.id && row.how == Ended::Replaced)
        })
    });
}

#[test]
fn the_end_of_a_block_is_moved_nearer_by_an_operator_alone() {
    let desk = Desk::new();
    let journal = listening(&desk);
    let record = block(1, START, 600);
    assert!(matches!(journal.adopt(Arc::clone(&record), START), Adoption::Taken));
    assert!(matches!(journal.adopt(until(&record, -60_000), START), Adoption::Known));
    assert!(matches!(journal.adopt(until(&record, 60_000), START), Adoption::Taken));
    let mut ordered = BlockRecord::clone(&until(&record, -60_000));
    ordered.reason = Reason::Operator;
    assert!(matches!(journal.adopt(Arc::new(ordered), START), Adoption::Taken));
    assert_eq!(in_force(&journal, 1), Some(START.plus(Span::from_secs(540))));
    assert!(matches!(journal.adopt(block(2, START, 0), START), Adoption::Known), "it is over");
    assert!(journal.book().find(block(2, START, 0).id).is_none());
}

#[test]
fn what_was_lifted_is_not_brought_back() {
    let desk = Desk::new();
    let journal = listening(&desk);
    let record = block(1, START, 600);
    assert!(matches!(journal.adopt(Arc::clone(&record), START), Adoption::Taken));
    let lift = lift_of(&record);
    assert_eq!(journal.let_go(&lift, START).map(|held| held.id), Some(record.id));
    assert_eq!(in_force(&journal, 1), None);
    assert!(matches!(journal.adopt(Arc::clone(&record), START), Adoption::Lifted(known) if known == lift));
    assert_eq!(in_force(&journal, 1), None);
    // A later block of the key is another matter, and the lift does not touch it.
    let later = block(1, START.plus(Span::from_secs(1)), 600);
    assert!(matches!(journal.adopt(Arc::clone(&later), START), Adoption::Taken));
    assert_eq!(journal.let_go(&lift, START), None);
    assert!(in_force(&journal, 1).is_some());
    assert!(journal.outbox().take_news(9).is_empty(), "nothing is told on");
    eventually("the end is on disk", || {
        let ended = journal.ended_blocks(&EndedFilter { limit: 9, ..EndedFilter::default() });
        ended.is_ok_and(|rows| {
            rows.iter()
                .any(|row| (row.record.id, row.how) == (record.id, Ended::Lifted) && row.ended_by.is_some())
        })
    });
}

#[tokio::test]
async fn what_is_done_here_is_told_in_its_order() {
    let desk = Desk::new();
    let journal = listening(&desk);
    let record = block(1, START, 600);
    journal.block(Arc::clone(&record)).await;
    journal.unblock(key(1), Some("root"), START).await;
    journal.outbox().changed().await;
    let news = journal.outbox().take_news(9);
    let [Telling::Block(told), Telling::Lift(lift)] = news.as_slice() else { panic!("{news:?}") };
    assert_eq!((told.id, lift.id, lift.by.as_deref()), (record.id, record.id, Some("root")));
    assert!(matches!(journal.adopt(record, START), Adoption::Lifted(_)), "it is remembered here too");
    let (events, _) = journal.outbox().take_events(9);
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Unblocked]);
}

#[test]
fn a_foreign_event_keeps_the_name_of_its_gateway() {
    let desk = Desk::new();
    let journal = listening(&desk);
    journal.note(Event { node: Some("web-2".into()), ..Event::new(EventKind::Limited, START) });
    journal.note(Event::new(EventKind::Denied, START.plus(DAY)));
    let told = journal.outbox().take_events(9).0;
    assert_eq!(
        told.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::Denied],
        "one's own alone"
    );
    eventually("both are on disk", || {
        let rows = journal.events(&EventFilter { limit: 9, ..EventFilter::default() });
        rows.is_ok_and(|rows| {
            let nodes: Vec<_> = rows.iter().map(|row| row.event.node.as_deref()).collect();
            nodes == [None, Some("web-2")]
        })
    });
}

#[tokio::test]
async fn the_place_that_is_left_is_found_once() {
    let desk = Desk::new();
    let journal = desk.open();
    assert_eq!(journal.take_place(), None);
    journal.leave_place("1800000000000-1");
    journal.leave_place("1800000000000-2");
    journal.close().await;
    let journal = desk.open();
    assert_eq!(journal.take_place().as_deref(), Some("1800000000000-2"));
    assert_eq!(journal.take_place(), None);
    journal.close().await;
    assert_eq!(desk.open().take_place(), None, "it would be an old one");
}
