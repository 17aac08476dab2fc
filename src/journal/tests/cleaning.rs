use super::*;

fn kinds(journal: &Journal) -> Vec<(EventKind, u64)> {
    let rows = journal.events(&all(10_000)).unwrap();
    let days = |at: Timestamp| (at.as_micros() - START.as_micros()) / 86_400_000_000;
    rows.iter().map(|row| (row.event.kind, days(row.event.at))).collect()
}

#[tokio::test]
async fn what_is_old_goes_and_the_rest_stays() {
    let desk = Desk::new();
    let spec = JournalSpec { retention: Span::from_secs(10 * 86_400), ..desk.spec() };
    let journal = desk.open_as(spec, Pace::default());
    for _ in 0..12 {
        for kind in [EventKind::Limited, EventKind::Failure, EventKind::Backoff] {
            journal.note(event(kind, desk.now()));
        }
        desk.hand.advance(DAY);
    }
    journal.tidy(desk.now());
    journal.close().await;
    // The steps that the end cut off are made by the next clean-up.
    let journal =
        desk.open_as(JournalSpec { retention: Span::from_secs(10 * 86_400), ..desk.spec() }, Pace::default());
    journal.tidy(desk.now());
    eventually("the old ones go", || kinds(&journal).len() == 10 + 7 + 7);
    for (kind, day) in kinds(&journal) {
        let oldest = match kind {
            EventKind::Limited => 2,
            EventKind::Failure | EventKind::Backoff => 5,
            other => panic!("{other:?} was not noted"),
        };
        assert!(day >= oldest, "{kind:?} of day {day}");
    }
    eventually("their count is kept", || {
        desk.sql::<i64>("SELECT value FROM meta WHERE name = 'event_rows'") == 24
    });
    let hours = journal.hours(START, desk.now(), None).unwrap();
    assert_eq!(hours.len(), 30, "hours within the retention keep their counts of failures");
}

#[tokio::test]
async fn blocks_go_a_month_after_their_end() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 60)).await;
    journal.block(block(2, desk.now(), 40 * 86_400)).await;
    desk.hand.advance(Span::from_secs(29 * 86_400));
    journal.tidy(desk.now());
    journal.block(block(3, desk.now(), 60)).await;
    desk.hand.advance(Span::from_secs(3 * 86_400));
    journal.tidy(desk.now());
    eventually("the old one goes", || desk.sql::<i64>("SELECT count(*) FROM blocks") == 2);
    assert!(journal.book().until(key(2), desk.now()).is_some());
    assert!(journal.book().earlier(key(1), desk.now()).is_none());
}

#[tokio::test]
async fn past_the_bound_the_oldest_events_go() {
    let desk = Desk::new();
    let journal = desk.open_as(desk.spec(), Pace { event_rows_max: 1500, ..Pace::default() });
    for _ in 0..4000 {
        journal.note(event(EventKind::Limited, desk.now()));
        desk.hand.advance(Span::from_millis(1));
    }
    let newest = desk.now();
    eventually("all are written", || desk.sql::<i64>("SELECT count(*) FROM events") == 4000);
    journal.tidy(newest);
    eventually("the oldest go", || journal.events(&all(10_000)).unwrap().len() == 1500);
    let rows = journal.events(&all(1500)).unwrap();
    assert_eq!(rows[1499].event.at, START.plus(Span::from_millis(2500)));
    // The number of rows is known after a restart too.
    journal.close().await;
    let journal = desk.open_as(desk.spec(), Pace { event_rows_max: 100, ..Pace::default() });
    journal.tidy(newest);
    eventually("the new bound holds", || journal.events(&all(10_000)).unwrap().len() == 100);
}

#[tokio::test]
async fn the_log_is_emptied_by_a_clean_up() {
    let desk = Desk::new();
    let journal = desk.open();
    for _ in 0..2000 {
        journal.note(event(EventKind::Limited, desk.now()));
    }
    eventually("all are written", || desk.sql::<i64>("SELECT count(*) FROM events") == 2000);
    let log = || std::fs::metadata(desk.file("journal.db-wal")).map_or(0, |metadata| metadata.len());
    assert!(log() > 0);
    journal.tidy(desk.now());
    eventually("the log is emptied", || log() == 0);
    assert_eq!(journal.events(&all(10_000)).unwrap().len(), 2000);
}
