use futures_util::future::join_all;

use super::*;

/// Counts up in a record; what it counts to.
async fn count(journal: &Journal, number: u64, desk: &Desk) -> Result<u8, Unkept> {
    let until = desk.now().plus(DAY);
    let step = |held: Option<&[u8]>| {
        let next = held.map_or(1, |held| held[0] + 1);
        (next, Amend::Put { until, bytes: vec![next] })
    };
    journal.amend(key(number), desk.now(), step).await
}

fn counted(journal: &Journal, number: u64, desk: &Desk) -> Option<u8> {
    journal.record(key(number), desk.now()).map(|bytes| bytes[0])
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_files_at_once() {
    let desk = Desk::new();
    let journal = desk.open();
    for expected in 1..20 {
        assert_eq!(count(&journal, 1, &desk).await, Ok(expected));
        let snapshot = Desk::new();
        copy(&desk.data(), &snapshot.data());
        assert_eq!(counted(&snapshot.open(), 1, &desk), Some(expected));
    }
}

#[tokio::test]
async fn steps_that_wait_together_are_committed_together() {
    let desk = Desk::new();
    let journal = desk.open();
    let before = desk.metric("tollgate_journal_commit_seconds_count");
    let mut all = join_all((0..250).map(|_| count(&journal, 1, &desk))).await;
    all.sort_unstable_by_key(|counted| counted.unwrap());
    assert!(all.into_iter().map(Result::unwrap).eq(1..=250));
    let commits = desk.metric("tollgate_journal_commit_seconds_count") - before;
    assert!(commits < 125, "{commits} commits");
}

#[tokio::test]
async fn what_is_feigned_is_written_and_is_nothing() {
    let desk = Desk::new();
    let journal = desk.open();
    for number in 0..3 {
        let before = desk.metric("tollgate_journal_commit_seconds_count");
        let done = journal.amend(key(number), desk.now(), |held| (held.is_some(), Amend::Feign)).await;
        assert_eq!(done, Ok(false));
        assert_eq!(desk.metric("tollgate_journal_commit_seconds_count"), before + 1);
    }
    assert_eq!(desk.sql::<i64>("SELECT count(*) FROM codes"), 1);
    let before = desk.metric("tollgate_journal_commit_seconds_count");
    assert_eq!(journal.amend(key(1), desk.now(), |_| ((), Amend::Leave)).await, Ok(()));
    assert_eq!(desk.metric("tollgate_journal_commit_seconds_count"), before);
    assert_eq!(counted(&journal, 1, &desk), None);
}

#[tokio::test]
async fn without_the_disk_no_step_counts_and_once_it_is_there_the_file_catches_up() {
    let desk = Desk::new();
    std::fs::write(desk.data(), "a file where the folder should be").unwrap();
    let journal = desk.open();
    assert_eq!(count(&journal, 1, &desk).await, Err(Unkept::NotDurable));
    assert_eq!(count(&journal, 1, &desk).await, Err(Unkept::NotDurable));
    assert_eq!(desk.metric(r#"tollgate_journal_dropped_total{what="codes"}"#), 2);
    std::fs::remove_file(desk.data()).unwrap();
    eventually("it is tried again", || journal.is_up());
    let snapshot = Desk::new();
    copy(&desk.data(), &snapshot.data());
    assert_eq!(counted(&snapshot.open(), 1, &desk), Some(2), "too strict, not too lenient");
    assert_eq!(count(&journal, 1, &desk).await, Ok(3));
}

#[tokio::test]
async fn a_file_that_breaks_meanwhile_is_replaced_with_all_records() {
    let desk = Desk::new();
    let journal = desk.open();
    assert_eq!(count(&journal, 1, &desk).await, Ok(1));
    for name in ["journal.db", "journal.db-wal"] {
        let length = std::fs::metadata(desk.file(name)).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(desk.file(name)).unwrap();
        std::io::Write::write_all(&mut &file, &vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
    }
    assert!(journal.events(&all(1)).is_err());
    eventually("it is read again", || journal.events(&all(1)).is_ok());
    journal.close().await;
    assert_eq!(counted(&desk.open(), 1, &desk), Some(1));
}

#[tokio::test]
async fn on_a_full_disk_what_counts_is_kept() {
    let desk = Desk::new();
    let journal = desk.open_as(desk.spec(), Pace { pages_max: Some(80), ..Pace::default() });
    let big = |number| {
        let step = |_: Option<&[u8]>| ((), Amend::Put { until: START.plus(DAY), bytes: vec![1; 900] });
        journal.amend(key(number), desk.now(), step)
    };
    let mut number = 0;
    while big(number).await.is_ok() {
        number += 1;
        assert!(number < 10_000, "the disk never fills");
    }
    assert_eq!(big(number + 1).await, Err(Unkept::NotDurable));
    journal.close().await;
    let journal = desk.open();
    assert_eq!(desk.broken(), [""; 0], "full is not broken");
    for acknowledged in 0..number {
        assert_eq!(counted(&journal, acknowledged, &desk), Some(1), "record {acknowledged}");
    }
}

#[tokio::test]
async fn where_nothing_is_kept_memory_is_enough() {
    let desk = Desk::new();
    let journal = desk.open_as(JournalSpec { folder: None, ..desk.spec() }, Pace::default());
    assert_eq!(count(&journal, 1, &desk).await, Ok(1));
    assert_eq!(count(&journal, 1, &desk).await, Ok(2));
    assert_eq!(desk.metric(r#"tollgate_journal_dropped_total{what="codes"}"#), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_disk_that_hangs_is_refused_after_a_second() {
    let desk = Desk::new();
    let shared = Arc::new(Shared::new(desk.spec(), desk.metrics.journal(), desk.clock.clone(), None));
    // Nobody writes.
    let journal = Journal { shared: Arc::clone(&shared), _in_use: Arc::new(InUse(shared)) };
    assert_eq!(count(&journal, 1, &desk).await, Err(Unkept::NotDurable));
}

#[tokio::test]
async fn a_file_from_before_codes_were_kept_is_brought_up() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    journal.close().await;
    let connection = rusqlite::Connection::open(desk.file("journal.db")).unwrap();
    connection.execute_batch("DROP TABLE codes; PRAGMA user_version = 3").unwrap();
    connection.close().unwrap();
    let journal = desk.open();
    assert_eq!(count(&journal, 1, &desk).await, Ok(1));
    assert!(journal.book().until(key(1), desk.now()).is_some(), "what was there stays");
    journal.close().await;
    assert_eq!(counted(&desk.open(), 1, &desk), Some(1));
}

#[tokio::test]
async fn what_is_over_is_tidied_away() {
    let desk = Desk::new();
    let journal = desk.open();
    join_all((0..1500).map(|number| count(&journal, number, &desk))).await;
    desk.hand.advance(Span::from_secs(3600));
    assert_eq!(count(&journal, 5000, &desk).await, Ok(1));
    desk.hand.advance(DAY);
    assert_eq!(counted(&journal, 1, &desk), None);
    desk.hand.advance(Span::from_millis(1));
    journal.tidy(desk.now());
    eventually("all are gone", || desk.sql::<i64>("SELECT count(*) FROM codes") == 0);
    assert!(journal.shared.ledger.is_blank());
}

#[tokio::test]
async fn records_made_under_another_secret_are_forgotten() {
    let desk = Desk::new();
    let journal = desk.open();
    assert_eq!(count(&journal, 1, &desk).await, Ok(1));
    journal.close().await;
    let other = JournalSpec { hash_check: KeyHash::from_u128(43), ..desk.spec() };
    let journal = desk.open_as(other, Pace::default());
    assert_eq!(counted(&journal, 1, &desk), None);
    assert_eq!(desk.sql::<i64>("SELECT count(*) FROM codes"), 0);
}
