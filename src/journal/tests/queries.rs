use super::*;

/// Ten events a minute apart, of two kinds, routes, policies and people by turns.
async fn filled(desk: &Desk) -> Journal {
    let journal = desk.open();
    for number in 0..10_u64 {
        let kind = if number.is_multiple_of(2) { EventKind::Limited } else { EventKind::Failure };
        let route = if number < 5 { "login" } else { "signup" };
        let policy = if number.is_multiple_of(3) { "strict" } else { "lax" };
        journal.note(Event {
            route: Some(route.into()),
            policy: Some(policy.into()),
            identifier: Some(identifier(number % 4)),
            count: u32::try_from(number + 1).unwrap(),
            ..event(kind, desk.now())
        });
        desk.hand.advance(Span::from_secs(60));
    }
    journal.close().await;
    journal
}

/// The numbers of the events that a filter finds: each stands for one more than its number.
fn found(journal: &Journal, filter: &EventFilter<'_>) -> Vec<u32> {
    journal.events(filter).unwrap().iter().map(|row| row.event.count - 1).collect()
}

#[tokio::test]
async fn events_are_found_by_each_filter_newest_first() {
    let desk = Desk::new();
    let journal = filled(&desk).await;
    let check = |filter: EventFilter<'_>, expected: &[u32]| {
        assert_eq!(found(&journal, &EventFilter { limit: 100, ..filter }), expected, "{filter:?}");
    };
    let any = EventFilter::default();
    let minute = |minute: u64| Some(START.plus(Span::from_secs(60 * minute)));
    check(any, &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    check(EventFilter { kinds: &[EventKind::Limited], ..any }, &[8, 6, 4, 2, 0]);
    check(EventFilter { kinds: &[EventKind::Failure, EventKind::Admin], ..any }, &[9, 7, 5, 3, 1]);
    check(
        EventFilter { kinds: &[EventKind::Failure, EventKind::Limited], ..any },
        &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    );
    check(EventFilter { kinds: &[EventKind::Admin], ..any }, &[]);
    check(EventFilter { route: Some("login"), ..any }, &[4, 3, 2, 1, 0]);
    check(EventFilter { route: Some("nowhere"), ..any }, &[]);
    check(EventFilter { policy: Some("strict"), ..any }, &[9, 6, 3, 0]);
    check(EventFilter { policy: Some("strict"), route: Some("login"), ..any }, &[3, 0]);
    check(EventFilter { policy: Some("strict"), kinds: &[EventKind::Limited], ..any }, &[6, 0]);
    check(EventFilter { since: minute(7), ..any }, &[9, 8, 7]);
    check(EventFilter { until: minute(2), ..any }, &[1, 0]);
    check(EventFilter { since: minute(4), until: minute(7), route: Some("signup"), ..any }, &[6, 5]);
    check(EventFilter { identifier: Some("person1@example.com"), ..any }, &[9, 5, 1]);
    check(EventFilter { identifier: Some("person1@example.com+192.0.2.1"), ..any }, &[9, 5, 1]);
    check(EventFilter { identifier: Some("192.0.2.1"), ..any }, &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    check(EventFilter { identifier: Some("person1"), ..any }, &[]);
    check(EventFilter { identifier: Some("person1@example.com"), route: Some("signup"), ..any }, &[9, 5]);
    check(EventFilter { identifier: Some("person2@example.com"), kinds: &[EventKind::Failure], ..any }, &[]);
    assert_eq!(found(&journal, &EventFilter { limit: 0, ..any }), [0; 0]);
}

#[tokio::test]
async fn pages_follow_on_one_another_without_a_gap() {
    let desk = Desk::new();
    let journal = filled(&desk).await;
    for filter in [all(3), EventFilter { kinds: &EventKind::ALL, ..all(3) }] {
        let mut pages = Vec::new();
        let mut before = None;
        loop {
            let rows = journal.events(&EventFilter { before, ..filter }).unwrap();
            let Some(last) = rows.last() else { break };
            before = EventCursor::parse(&last.cursor.to_string());
            assert_eq!(before, Some(last.cursor));
            pages.extend(rows.iter().map(|row| row.event.count - 1));
        }
        assert_eq!(pages, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    }
    assert_eq!(EventCursor::parse("-1"), None);
    assert_eq!(EventCursor::parse("x"), None);
}

/// More events in one instant than the ids of an instant.
#[tokio::test]
async fn events_of_one_instant_are_all_kept_apart() {
    let desk = Desk::new();
    let journal = desk.open();
    for _ in 0..3000 {
        journal.note(event(EventKind::Limited, START));
    }
    journal.note(event(EventKind::Failure, START.plus(Span::from_millis(1))));
    journal.note(event(EventKind::Failure, Timestamp::from_micros(START.as_micros() - 1)));
    journal.close().await;
    let rows = journal.events(&all(10_000)).unwrap();
    assert_eq!(rows.len(), 3002);
    assert!(rows.windows(2).all(|pair| pair[0].cursor > pair[1].cursor));
    assert_eq!(rows[3001].event.kind, EventKind::Failure);
    assert_eq!(rows[3000].event.at, START);
}

#[tokio::test]
async fn hours_add_up_what_events_stand_for() {
    let desk = Desk::new();
    let journal = desk.open();
    let hour = Span::from_secs(3600);
    for count in [1, 2, 3] {
        journal.note(Event { count, ..event(EventKind::Limited, desk.now()) });
        journal.note(Event { route: None, policy: None, ..event(EventKind::Reload, desk.now()) });
        desk.hand.advance(Span::from_secs(1800));
    }
    journal.close().await;
    let counts = |since, until, route| journal.hours(since, until, route).unwrap();
    let end = START.plus(Span::from_secs(7200));
    let first = HourCount { hour: START, kind: EventKind::Limited, count: 3 };
    let reloads = HourCount { hour: START, kind: EventKind::Reload, count: 2 };
    let second = HourCount { hour: START.plus(hour), ..first };
    let second_reload = HourCount { hour: START.plus(hour), count: 1, ..reloads };
    assert_eq!(counts(START, end, None), [first, reloads, second, second_reload]);
    assert_eq!(counts(START, end, Some("login")), [first, second]);
    assert_eq!(counts(START.plus(hour), end, Some("login")), [second]);
    assert_eq!(counts(START, START.plus(Span::from_secs(1)), Some("login")), [first]);
    assert_eq!(counts(START, end, Some("nowhere")), []);
}

#[tokio::test]
async fn ended_blocks_are_found_the_last_one_first() {
    let desk = Desk::new();
    let journal = desk.open();
    for number in 0..6 {
        let reason = if number < 3 { Reason::Limit } else { Reason::Failures };
        let record = BlockRecord { reason, ..BlockRecord::clone(&block(number, START, 60 + number)) };
        journal.block(record.into()).await;
    }
    journal.block(block(7, START, 600)).await;
    desk.hand.advance(Span::from_secs(100));
    let any = EndedFilter { limit: 100, ..EndedFilter::default() };
    let found = |filter: EndedFilter<'_>| -> Vec<u64> {
        let ended = journal.ended_blocks(&filter).unwrap();
        let lasted = |block: &EndedBlock| block.ended_at.as_micros() - START.as_micros();
        ended.iter().map(|block| lasted(block) / 1_000_000 - 60).collect()
    };
    assert_eq!(found(any), [5, 4, 3, 2, 1, 0]);
    assert_eq!(found(EndedFilter { reason: Some(Reason::Failures), ..any }), [5, 4, 3]);
    assert_eq!(found(EndedFilter { identifier: Some("person2@example.com"), ..any }), [2]);
    let person = Some("person2@example.com");
    assert_eq!(found(EndedFilter { identifier: person, reason: Some(Reason::Failures), ..any }), [0; 0]);
    assert_eq!(found(EndedFilter { identifier: Some("192.0.2.1"), limit: 2, ..any }), [5, 4]);
    let from_62 = START.plus(Span::from_secs(62));
    assert_eq!(found(EndedFilter { since: Some(from_62), ..any }), [5, 4, 3, 2]);
    assert_eq!(found(EndedFilter { until: Some(from_62), ..any }), [1, 0]);
    let page = journal.ended_blocks(&EndedFilter { limit: 4, ..any }).unwrap();
    let before = EndedCursor::parse(&page[3].cursor.to_string());
    assert_eq!(found(EndedFilter { before, ..any }), [1, 0]);
    let expected = BlockRecord { reason: Reason::Failures, ..BlockRecord::clone(&block(5, START, 65)) };
    assert_eq!(page[0].record, expected);
    assert_eq!(EndedCursor::parse("1"), None);
}

/// A plan that sorts or scans would take seconds with ten million rows.
#[tokio::test]
async fn every_filter_reads_an_index_in_order() {
    let desk = Desk::new();
    let journal = filled(&desk).await;
    let connection = rusqlite::Connection::open(desk.file("journal.db")).unwrap();
    let check = |filter: EventFilter<'_>, count: usize| {
        let sealer = &journal.shared.place.sealer;
        let stretches = query::stretches(&connection, sealer, &filter).unwrap().unwrap();
        assert_eq!(stretches.len(), count, "{filter:?}");
        for stretch in stretches {
            let sql = format!(
                "EXPLAIN QUERY PLAN SELECT id FROM {stretch} AND id >= 0 AND id < 9 ORDER BY id DESC LIMIT 5"
            );
            let mut statement = connection.prepare(&sql).unwrap();
            let lines = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
            let plan = lines.map(Result::unwrap).collect::<Vec<_>>().join("; ");
            assert!(plan.starts_with("SEARCH") && plan.contains("rowid>?"), "{stretch}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{stretch}: {plan}");
        }
    };
    let any = EventFilter::default();
    check(any, 1);
    check(EventFilter { kinds: &[EventKind::Limited, EventKind::Admin, EventKind::Limited], ..any }, 2);
    check(EventFilter { route: Some("login"), ..any }, EventKind::ALL.len());
    check(EventFilter { policy: Some("strict"), kinds: &[EventKind::Limited], ..any }, 1);
    check(EventFilter { policy: Some("strict"), route: Some("login"), ..any }, EventKind::ALL.len());
    check(EventFilter { identifier: Some("x"), route: Some("login"), kinds: &[EventKind::Admin], ..any }, 3);
    let client = Some("192.0.2.1".parse().unwrap());
    check(EventFilter { client, route: Some("login"), kinds: &[EventKind::Admin], ..any }, 1);
    check(EventFilter { client, identifier: Some("x"), ..any }, 3);
}

#[tokio::test]
async fn what_is_most_frequent_is_told_first() {
    let desk = Desk::new();
    let journal = desk.open();
    let note = |kind, policy: &str, person, count| {
        journal.note(Event {
            policy: Some(policy.into()),
            route: Some("login".into()),
            key: Some("body.email+ip".into()),
            identifier: Some(identifier(person)),
            count,
            ..event(kind, desk.now())
        });
    };
    note(EventKind::Limited, "strict", 1, 5);
    note(EventKind::Limited, "lax", 2, 7);
    note(EventKind::Failure, "lax", 1, 3);
    note(EventKind::Unblocked, "lax", 3, 100);
    journal.note(event(EventKind::Reload, desk.now()));
    desk.hand.advance(Span::from_secs(7200));
    note(EventKind::Limited, "late", 4, 1000);
    journal.close().await;
    let tops = journal.tops(START, START.plus(Span::from_secs(3600)), 10).unwrap();
    let reasons: Vec<_> =
        tops.reasons.iter().map(|top| (top.kind, top.policy.as_deref().unwrap(), top.count)).collect();
    assert_eq!(
        reasons,
        [(EventKind::Limited, "lax", 7), (EventKind::Limited, "strict", 5), (EventKind::Failure, "lax", 3)]
    );
    assert_eq!(tops.routes, [TopRoute { route: "login".into(), count: 15 }]);
    let people: Vec<_> =
        tops.identifiers.iter().map(|top| (top.identifier.clone().unwrap(), top.count)).collect();
    assert_eq!(people, [(identifier(1), 8), (identifier(2), 7)]);
    assert_eq!(tops.identifiers[0].key.as_deref(), Some("body.email+ip"));
    let all = START.plus(Span::from_secs(20_000));
    assert_eq!(journal.tops(START, all, 1).unwrap().identifiers[0].count, 1000, "and no more than asked for");
    assert_eq!(journal.tops(all, all.plus(Span::from_secs(1)), 10).unwrap(), Tops::default());
}

#[tokio::test]
async fn who_listens_is_told_as_it_happens() {
    let desk = Desk::new();
    let journal = desk.open();
    let mut news = journal.feed().listen();
    journal.note(event(EventKind::Limited, desk.now()));
    let record = block(1, START, 60);
    journal.block(Arc::clone(&record)).await;
    journal.unblock(record.key, Some("ada"), desk.now()).await;
    assert!(
        matches!(news.recv().await.unwrap(), Happening::Event(event) if event.kind == EventKind::Limited)
    );
    assert!(matches!(news.recv().await.unwrap(), Happening::Blocked(told) if told.id == record.id));
    assert!(matches!(news.recv().await.unwrap(), Happening::Unblocked(told) if told.id == record.id));
    assert!(
        matches!(news.recv().await.unwrap(), Happening::Event(event) if event.kind == EventKind::Unblocked)
    );
    drop(news);
    journal.note(event(EventKind::Limited, desk.now()));
    assert_eq!(journal.feed().backlog(), 0, "nothing is kept for nobody");
}
