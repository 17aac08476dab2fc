use std::pin::pin;

use futures_util::FutureExt as _;
use rusqlite::Connection;

use super::*;

const LONG: Duration = Duration::from_secs(600);

/// Another program that writes the file and does not let go of it before it is told to.
fn locked(desk: &Desk) -> Connection {
    let other = Connection::open(desk.file("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

fn let_go(other: Connection) {
    other.execute_batch("COMMIT").unwrap();
    other.close().unwrap();
}

async fn keeps(journal: &Journal, desk: &Desk) -> Result<(), Unkept> {
    let put = Amend::Put { until: desk.now().plus(DAY), bytes: vec![1] };
    journal.amend(key(1), desk.now(), |_| ((), put)).await
}

#[tokio::test]
async fn a_journal_that_writes_is_told_once_something_is_on_disk() {
    let desk = Desk::new();
    let journal = desk.open();
    let before = desk.metric("tollgate_journal_commit_seconds_count");
    assert_eq!(journal.settle(LONG).await, Settled::Writes);
    assert_eq!(desk.metric("tollgate_journal_commit_seconds_count"), before + 1);
    assert!(journal.shared.ledger.is_blank(), "it means nothing");
}

#[tokio::test]
async fn a_file_that_is_locked_at_the_start_is_waited_for() {
    let desk = Desk::new();
    desk.open().close().await;
    let other = locked(&desk);
    let journal = desk.open();
    assert!(!journal.is_up());
    assert_eq!(keeps(&journal, &desk).await, Err(Unkept::NotDurable));
    let mut settled = pin!(journal.settle(LONG));
    assert_eq!(settled.as_mut().now_or_never(), None);
    let_go(other);
    assert_eq!(settled.await, Settled::Writes);
    assert_eq!(keeps(&journal, &desk).await, Ok(()));
}

#[tokio::test]
async fn a_first_commit_that_another_program_is_in_the_way_of_is_waited_for() {
    let desk = Desk::new();
    let journal = desk.open();
    let other = locked(&desk);
    let mut settled = pin!(journal.settle(LONG));
    assert_eq!(settled.as_mut().now_or_never(), None);
    eventually("the writer has met the lock", || !journal.is_up());
    let_go(other);
    assert_eq!(settled.await, Settled::Writes);
}

#[tokio::test]
async fn what_cannot_be_used_is_waited_for_by_nobody() {
    let desk = Desk::new();
    std::fs::write(desk.data(), "a file where the folder should be").unwrap();
    assert_eq!(desk.open().settle(LONG).now_or_never(), Some(Settled::Unusable));
    let nowhere = JournalSpec { folder: None, ..desk.spec() };
    assert_eq!(desk.open_as(nowhere, Pace::default()).settle(LONG).now_or_never(), Some(Settled::Unusable));
    let closed = Desk::new();
    let journal = closed.open();
    journal.close().await;
    assert_eq!(journal.settle(LONG).await, Settled::Unusable);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_waited_for_as_long_as_the_caller_likes() {
    let desk = Desk::new();
    let shared = Arc::new(Shared::new(desk.spec(), desk.metrics.journal(), desk.clock.clone(), None));
    // Nobody writes.
    shared.set_standing(Standing::Up);
    let journal = Journal { shared: Arc::clone(&shared), _in_use: Arc::new(InUse(Arc::clone(&shared))) };
    assert_eq!(journal.settle(LONG).await, Settled::Slow);
    shared.set_standing(Standing::Held);
    assert_eq!(journal.settle(LONG).await, Settled::Slow);
}
