use super::*;

#[tokio::test]
async fn a_broken_file_is_moved_aside_and_a_new_one_begins() {
    let desk = Desk::new();
    std::fs::create_dir(desk.data()).unwrap();
    std::fs::write(desk.file("journal.db"), "no database, and long enough to be taken for one".repeat(100))
        .unwrap();
    let journal = desk.open();
    assert!(journal.is_up());
    assert_eq!(journal.block(block(1, desk.now(), 600)).await, Durable::Yes);
    assert_eq!(desk.broken(), ["journal.db.broken-1800000000"]);
    assert_eq!(desk.metric("tollgate_journal_broken_files_total"), 1);
    journal.close().await;
    assert_eq!(desk.open().book().len(desk.now()), 1);
}

#[tokio::test]
async fn a_file_with_a_damaged_page_is_broken_too() {
    let desk = Desk::new();
    let journal = desk.open();
    for number in 0..200 {
        drop(journal.block(block(number, desk.now(), 600)));
    }
    journal.close().await;
    let mut bytes = std::fs::read(desk.file("journal.db")).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 8192].fill(0xa5);
    std::fs::write(desk.file("journal.db"), bytes).unwrap();
    let journal = desk.open();
    assert_eq!(journal.block(block(1000, desk.now(), 600)).await, Durable::Yes);
    assert_eq!(desk.broken().len(), 1);
    journal.close().await;
    assert!(desk.open().book().until(key(1000), desk.now()).is_some());
}

#[tokio::test]
async fn a_file_that_breaks_meanwhile_is_replaced_with_the_blocks_in_force() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    for name in ["journal.db", "journal.db-wal"] {
        let length = std::fs::metadata(desk.file(name)).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(desk.file(name)).unwrap();
        std::io::Write::write_all(&mut &file, &vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
    }
    assert!(matches!(journal.events(&all(1)), Err(JournalError::Unreadable(_))));
    eventually("the file is replaced", || desk.metric("tollgate_journal_broken_files_total") == 1);
    eventually("it is read again", || journal.events(&all(1)).is_ok());
    assert_eq!(journal.block(block(2, desk.now(), 600)).await, Durable::Yes);
    journal.close().await;
    assert_eq!(desk.broken().len(), 1);
    let journal = desk.open();
    assert_eq!(journal.book().len(desk.now()), 2, "the old block and the new one");
}

#[tokio::test]
async fn three_broken_files_are_kept() {
    let desk = Desk::new();
    std::fs::create_dir(desk.data()).unwrap();
    for _ in 0..5 {
        std::fs::write(desk.file("journal.db"), "broken".repeat(1000)).unwrap();
        std::fs::write(desk.file("journal.db-wal"), "broken too").unwrap();
        desk.open().close().await;
        desk.hand.advance(Span::from_secs(1));
    }
    let kept: Vec<_> = (2..5).map(|second| format!("journal.db.broken-{}", 1_800_000_000 + second)).collect();
    assert_eq!(desk.broken(), kept);
}

#[tokio::test]
async fn without_a_folder_blocks_hold_in_memory_and_are_written_once_there_is_one() {
    let desk = Desk::new();
    std::fs::write(desk.data(), "a file where the folder should be").unwrap();
    let journal = desk.open();
    assert!(!journal.is_up());
    assert_eq!(desk.metric("tollgate_journal_up"), 0);
    assert_eq!(journal.block(block(1, desk.now(), 600)).await, Durable::No);
    assert!(journal.book().until(key(1), desk.now()).is_some(), "in force all the same");
    assert_eq!(desk.metric(r#"tollgate_journal_dropped_total{what="blocks"}"#), 1);
    journal.note(event(EventKind::Limited, desk.now()));
    eventually("the event is given up", || {
        desk.metric(r#"tollgate_journal_dropped_total{what="events"}"#) == 1
    });
    assert!(journal.events(&all(1)).is_err());

    std::fs::remove_file(desk.data()).unwrap();
    eventually("it is tried again", || journal.is_up());
    let snapshot = Desk::new();
    copy(&desk.data(), &snapshot.data());
    assert!(snapshot.open().book().until(key(1), desk.now()).is_some());
    assert_eq!(journal.block(block(2, desk.now(), 600)).await, Durable::Yes);
}

#[tokio::test]
async fn a_file_that_is_found_late_keeps_its_blocks() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    journal.block(block(2, desk.now(), 600)).await;
    journal.close().await;
    let elsewhere = desk.folder.path().join("elsewhere");
    std::fs::rename(desk.data(), &elsewhere).unwrap();
    std::fs::write(desk.data(), "").unwrap();
    desk.hand.advance(Span::from_secs(10));
    let journal = desk.open();
    assert_eq!(journal.block(block(2, desk.now(), 900)).await, Durable::No);
    std::fs::remove_file(desk.data()).unwrap();
    std::fs::rename(elsewhere, desk.data()).unwrap();
    eventually("the file is found", || journal.is_up());
    let until = |journal: &Journal, number| journal.book().until(key(number), desk.now());
    let check = |journal: &Journal| {
        assert_eq!(until(journal, 1), Some(START.plus(Span::from_secs(600))));
        assert_eq!(until(journal, 2), Some(desk.now().plus(Span::from_secs(900))), "the later one counts");
    };
    check(&journal);
    journal.close().await;
    check(&desk.open());
    let ended = journal.ended_blocks(&EndedFilter { limit: 10, ..EndedFilter::default() }).unwrap();
    assert_eq!(ended.iter().map(|ended| ended.how).collect::<Vec<_>>(), [Ended::Displaced]);
}

#[tokio::test]
async fn on_a_full_disk_the_gateway_goes_on() {
    let desk = Desk::new();
    let journal = desk.open_as(desk.spec(), Pace { pages_max: Some(60), ..Pace::default() });
    assert_eq!(journal.block(block(1, desk.now(), 600)).await, Durable::Yes);
    let mut number = 2;
    while journal.block(block(number, desk.now(), 600)).await == Durable::Yes {
        number += 1;
        assert!(number < 10_000, "the disk never fills");
    }
    assert_eq!(journal.book().len(desk.now()), usize::try_from(number).unwrap());
    assert!(desk.metric(r#"tollgate_journal_dropped_total{what="blocks"}"#) >= 1);
    journal.close().await;
    let journal = desk.open();
    assert_eq!(desk.broken(), [""; 0], "full is not broken");
    for acknowledged in 1..number {
        assert!(journal.book().until(key(acknowledged), desk.now()).is_some(), "block {acknowledged}");
    }
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_alone() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    journal.close().await;
    let connection = rusqlite::Connection::open(desk.file("journal.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    connection.close().unwrap();
    let before = std::fs::read(desk.file("journal.db")).unwrap();
    let journal = desk.open();
    assert!(!journal.is_up());
    assert_eq!(journal.block(block(2, desk.now(), 600)).await, Durable::No);
    let error = journal.events(&all(1)).unwrap_err().to_string();
    assert!(error.contains("of version 99"), "{error}");
    journal.close().await;
    assert_eq!(std::fs::read(desk.file("journal.db")).unwrap(), before);
}

#[tokio::test]
async fn a_file_from_before_events_had_a_gateway_is_brought_up() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.note(event(EventKind::Limited, desk.now()));
    journal.close().await;
    let connection = rusqlite::Connection::open(desk.file("journal.db")).unwrap();
    connection
        .execute_batch(
            "ALTER TABLE events DROP COLUMN node; DROP INDEX events_client; DROP TABLE codes;
             PRAGMA user_version = 1",
        )
        .unwrap();
    connection.close().unwrap();
    let journal = desk.open();
    journal.note(Event { node: Some("web-2".into()), ..event(EventKind::Denied, desk.now()) });
    journal.close().await;
    let rows = journal.events(&all(9)).unwrap();
    let nodes: Vec<_> = rows.iter().map(|row| row.event.node.as_deref()).collect();
    assert_eq!(nodes, [Some("web-2"), None]);
}

#[test]
fn a_full_queue_drops_and_says_so() {
    let queue = Queue::new();
    for _ in 0..queue::EVENTS_MAX {
        assert!(queue.push_event(event(EventKind::Limited, START)));
    }
    assert!(!queue.push_event(event(EventKind::Limited, START)));
    assert_eq!(queue.events(), queue::EVENTS_MAX);
    assert_eq!(queue.take(None).events.len(), queue::EVENTS_MAX);
    assert!(queue.push_event(event(EventKind::Limited, START)));
}

#[tokio::test]
async fn past_the_bound_events_are_counted_as_dropped() {
    let desk = Desk::new();
    let shared = Arc::new(Shared::new(desk.spec(), desk.metrics.journal(), desk.clock.clone(), None));
    let journal = Journal { shared: Arc::clone(&shared), _in_use: Arc::new(InUse(shared)) };
    for _ in 0..queue::EVENTS_MAX + 5 {
        journal.note(event(EventKind::Limited, START));
    }
    assert_eq!(desk.metric(r#"tollgate_journal_dropped_total{what="events"}"#), 5);
    journal.refresh(START);
    assert_eq!(desk.metric("tollgate_journal_queue"), queue::EVENTS_MAX as u64);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_disk_that_hangs_goes_on_after_a_second() {
    let desk = Desk::new();
    let shared = Arc::new(Shared::new(desk.spec(), desk.metrics.journal(), desk.clock.clone(), None));
    // Nobody writes.
    let journal = Journal { shared: Arc::clone(&shared), _in_use: Arc::new(InUse(shared)) };
    assert_eq!(journal.block(block(1, START, 600)).await, Durable::No);
    assert!(journal.unblock(key(1), None, START).await.is_some());
    assert_eq!(desk.metric(r#"tollgate_journal_dropped_total{what="blocks"}"#), 2);
}

#[tokio::test]
async fn blocks_that_found_no_room_in_the_queue_are_written_after_all() {
    let desk = Desk::new();
    let shared = Arc::new(Shared::new(desk.spec(), desk.metrics.journal(), desk.clock.clone(), None));
    let journal = Journal { shared: Arc::clone(&shared), _in_use: Arc::new(InUse(Arc::clone(&shared))) };
    let blocks = 66_000;
    for number in 0..blocks {
        drop(journal.block(block(number, START, 600)));
    }
    let writer = Writer::start(shared, Kept { events: DAY, rows_max: 10 }, Duration::from_secs(5));
    let thread = std::thread::spawn(move || writer.run());
    eventually("all are written", || desk.sql::<i64>("SELECT count(*) FROM blocks") == blocks as i64);
    journal.close().await;
    thread.join().unwrap();
}

#[tokio::test]
async fn after_the_end_nothing_is_taken_and_nobody_waits() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.close().await;
    journal.note(event(EventKind::Limited, desk.now()));
    assert_eq!(desk.metric(r#"tollgate_journal_dropped_total{what="events"}"#), 1);
    assert_eq!(journal.block(block(1, desk.now(), 600)).await, Durable::No);
    journal.close().await;
}
