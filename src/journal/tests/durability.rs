use futures_util::future::join_all;

use super::*;

/// What a process that is killed leaves is what stands in its files.
#[tokio::test]
async fn what_was_acknowledged_is_in_the_files_at_once() {
    let desk = Desk::new();
    let journal = desk.open();
    for number in 0..20 {
        assert_eq!(journal.block(block(number, desk.now(), 600)).await, Durable::Yes);
        let snapshot = Desk::new();
        copy(&desk.data(), &snapshot.data());
        let found = snapshot.open();
        for earlier in 0..=number {
            let record = found.book().get(key(earlier), desk.now()).unwrap();
            assert_eq!(*record, *block(earlier, START, 600), "all of it comes back");
        }
    }
}

#[tokio::test]
async fn blocks_and_events_come_back_after_a_restart() {
    let desk = Desk::new();
    let journal = desk.open();
    assert_eq!(journal.block(block(1, desk.now(), 600)).await, Durable::Yes);
    let noted = Event { identifier: Some(identifier(1)), count: 3, ..event(EventKind::Limited, desk.now()) };
    journal.note(noted.clone());
    journal.close().await;
    drop(journal);

    let journal = desk.open();
    assert_eq!(journal.book().until(key(1), desk.now()), Some(START.plus(Span::from_secs(600))));
    let rows = journal.events(&all(10)).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].event, noted);
    assert_eq!(rows[0].masked.as_deref(), Some("p***@example.com+192.0.2.1"));
    assert_eq!(desk.metric(r#"tollgate_journal_events_total{kind="limited"}"#), 1);
    assert_eq!(desk.metric(r#"tollgate_blocks_started_total{reason="limit"}"#), 1, "a restart starts none");
}

#[tokio::test]
async fn dropping_the_last_handle_still_writes_what_was_noted() {
    let desk = Desk::new();
    let journal = desk.open();
    for _ in 0..100 {
        journal.note(event(EventKind::Denied, desk.now()));
    }
    drop(journal);
    eventually("the writer ends", || desk.metric("tollgate_journal_up") == 0);
    assert_eq!(desk.sql::<i64>("SELECT count(*) FROM events"), 100);
}

/// All that waits when the writer comes goes in one transaction.
#[tokio::test]
async fn blocks_that_wait_together_are_committed_together() {
    let desk = Desk::new();
    let shared = Arc::new(Shared::new(desk.spec(), desk.metrics.journal(), desk.clock.clone(), None));
    let journal = Journal { shared: Arc::clone(&shared), _in_use: Arc::new(InUse(Arc::clone(&shared))) };
    let waiting: Vec<_> = (0..500).map(|number| journal.block(block(number, START, 600))).collect();
    let kept = Kept { events: DAY, rows_max: 10 };
    let writer = Writer::start(shared, kept, Duration::from_secs(5));
    let commits = desk.metric("tollgate_journal_commit_seconds_count");
    let thread = std::thread::spawn(move || writer.run());
    assert!(join_all(waiting).await.into_iter().all(|durable| durable == Durable::Yes));
    assert_eq!(desk.metric("tollgate_journal_commit_seconds_count"), commits + 1);
    journal.close().await;
    thread.join().unwrap();
    assert_eq!(desk.sql::<i64>("SELECT count(*) FROM blocks"), 500);
}

#[tokio::test]
async fn parallel_blocks_are_all_there() {
    let desk = Desk::new();
    let journal = desk.open();
    let blocks = (0..2000).map(|number| journal.block(block(number, START, 600)));
    assert!(join_all(blocks).await.into_iter().all(|durable| durable == Durable::Yes));
    let snapshot = Desk::new();
    copy(&desk.data(), &snapshot.data());
    assert_eq!(snapshot.open().book().len(START), 2000);
}

#[tokio::test]
async fn an_unblocked_key_stays_unblocked_and_its_history_says_by_whom() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    journal.block(block(2, desk.now(), 600)).await;
    desk.hand.advance(Span::from_secs(5));
    let lifted = journal.unblock(key(1), Some("alice"), desk.now()).await;
    assert_eq!(lifted.map(|record| record.key), Some(key(1)));
    assert!(journal.unblock(key(1), Some("alice"), desk.now()).await.is_none());
    journal.close().await;

    let journal = desk.open();
    assert!(journal.book().until(key(1), desk.now()).is_none());
    assert!(journal.book().earlier(key(1), desk.now()).is_none(), "the next one starts from the beginning");
    assert!(journal.book().until(key(2), desk.now()).is_some());
    let ended = journal.ended_blocks(&EndedFilter { limit: 10, ..EndedFilter::default() }).unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].how, ended[0].ended_by.as_deref()), (Ended::Lifted, Some("alice")));
    assert_eq!(ended[0].ended_at, desk.now());
    let rows = journal.events(&EventFilter { kinds: &[EventKind::Unblocked], ..all(10) }).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].event.detail.as_deref(), Some("by alice"));
    assert_eq!(rows[0].event.identifier, Some(identifier(1)));
}

#[tokio::test]
async fn a_block_that_is_prolonged_stays_one_row_and_the_next_is_another() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 60)).await;
    desk.hand.advance(Span::from_secs(30));
    let again = BlockRecord { attempts: 9, ..BlockRecord::clone(&block(1, desk.now(), 60)) };
    journal.block(again.into()).await;
    let held = journal.book().get(key(1), desk.now()).unwrap();
    assert_eq!((held.created_at, held.attempts), (START, 9));
    assert_eq!(desk.sql::<i64>("SELECT count(*) FROM blocks WHERE attempts = 9"), 1);
    desk.hand.advance(Span::from_secs(61));
    journal.block(block(1, desk.now(), 60)).await;
    assert_eq!(desk.sql::<i64>("SELECT count(*) FROM blocks"), 2);
    journal.close().await;
    let ended = desk.open().ended_blocks(&EndedFilter { limit: 10, ..EndedFilter::default() }).unwrap();
    assert_eq!(ended.iter().map(|ended| ended.how).collect::<Vec<_>>(), [Ended::Expired]);
    assert_eq!(desk.metric(r#"tollgate_blocks_started_total{reason="limit"}"#), 2);
}

#[tokio::test]
async fn a_block_that_is_over_is_remembered_over_a_restart() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 60)).await;
    journal.close().await;
    desk.hand.advance(Span::from_secs(61));
    let journal = desk.open();
    assert!(journal.book().until(key(1), desk.now()).is_none());
    assert_eq!(journal.book().earlier(key(1), desk.now()).map(|block| block.level), Some(2));
    journal.close().await;
    desk.hand.advance(DAY);
    assert!(desk.open().book().is_blank());
}

#[tokio::test]
async fn the_gauges_say_what_is_in_force() {
    let desk = Desk::new();
    let journal = desk.open();
    assert!(journal.is_up());
    assert_eq!(desk.metric("tollgate_journal_up"), 1);
    journal.block(block(1, desk.now(), 60)).await;
    journal.refresh(desk.now());
    assert_eq!(desk.metric(r#"tollgate_blocks{reason="limit"}"#), 1);
    desk.hand.advance(Span::from_secs(60));
    journal.refresh(desk.now());
    assert_eq!(desk.metric(r#"tollgate_blocks{reason="limit"}"#), 0);
}

#[tokio::test]
async fn a_block_that_was_let_go_is_not_brought_back_by_who_wanted_it_longer() {
    let desk = Desk::new();
    let journal = desk.open();
    let longer = |record: &BlockRecord| {
        let until = record.block.until.plus(Span::from_secs(600));
        Arc::new(BlockRecord { block: Block { until, ..record.block }, ..record.clone() })
    };
    let record = block(1, desk.now(), 600);
    journal.block(Arc::clone(&record)).await;
    assert_eq!(journal.prolong(longer(&record)).await, Some(Durable::Yes));
    assert_eq!(journal.book().until(key(1), desk.now()), Some(START.plus(Span::from_secs(1200))));

    // Somebody looked at the block, and then it was let go.
    let looked = journal.book().get(key(1), desk.now()).unwrap();
    journal.unblock(key(1), Some("ops"), desk.now()).await;
    assert_eq!(journal.prolong(longer(&looked)).await, None);
    assert_eq!(journal.book().until(key(1), desk.now()), None);
    journal.close().await;
    drop(journal);
    assert_eq!(desk.open().book().until(key(1), desk.now()), None, "nor by a restart");

    // One that began anew is another block.
    let journal = desk.open();
    desk.hand.advance(Span::from_secs(1));
    let anew = block(1, desk.now(), 60);
    journal.block(Arc::clone(&anew)).await;
    assert_eq!(journal.prolong(longer(&looked)).await, None);
    assert_eq!(journal.book().until(key(1), desk.now()), Some(anew.block.until));
}
