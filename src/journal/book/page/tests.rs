use proptest::prelude::*;

use super::*;
use crate::decision::block::Block;
use crate::decision::key::KeyHash;
use crate::decision::time::Span;
use crate::journal::Identifier;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn record(number: u64, created: u64, until: u64, attempts: u32, who: u8, reason: Reason) -> Arc<BlockRecord> {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let until = NOW.plus(Span::from_millis(until));
    Arc::new(BlockRecord {
        id: BlockId::new(NOW, random),
        key: KeyHash::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        key_kind: if who.is_multiple_of(2) { "user".into() } else { "ip".into() },
        identifier: Identifier::new(&[("user", &format!("Person{who}"))]),
        reason,
        route: Some(format!("route{}", who % 3).into()),
        policy: None,
        attempts,
        created_at: NOW.plus(Span::from_millis(created)),
        block: Block { until, level: 0, forget_at: until },
        by: None,
        spec: None,
    })
}

fn all_pages(book: &Book, query: BlockQuery<'_>) -> Vec<BlockId> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let query = BlockQuery { after: after.as_ref(), ..query };
        let page = book.page(&query, NOW);
        found.extend(page.iter().map(|record| record.id));
        match page.last() {
            Some(last) if page.len() == query.limit => after = Some(query.place(last)),
            Some(_) | None => return found,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn pages_are_what_sorting_all_of_them_would_give(
        blocks in prop::collection::vec((0_u64..5, 0_u64..5, 0_u32..3, 0_u8..12, 0_usize..4), 0..60),
        sort in prop::sample::select(vec![
            BlockSort::CreatedAt, BlockSort::ExpiresAt, BlockSort::Identifier, BlockSort::Attempts,
        ]),
        is_descending: bool,
        limit in 1_usize..9,
        sight in prop::sample::select(vec![Sight::Masked, Sight::Full]),
        reason in prop::option::of(0_usize..4),
    ) {
        let book = Book::bounded(4, 1000);
        let records: Vec<_> = (0..).zip(&blocks).map(|(number, &(created, until, attempts, who, reason))| {
            record(number, created, until, attempts, who, Reason::ALL[reason])
        }).collect();
        for record in &records {
            book.put(Arc::clone(record), NOW);
        }
        let filter = BlockFilter { sight, reason: reason.map(|reason| Reason::ALL[reason]), ..BlockFilter::default() };
        let query = BlockQuery { filter, sort, is_descending, after: None, limit };
        let mut expected: Vec<_> = records
            .iter()
            .filter(|record| record.block.until > NOW && filter.reason.is_none_or(|reason| reason == record.reason))
            .collect();
        expected.sort_by(|a, b| {
            let ordering = match sort {
                BlockSort::CreatedAt => a.created_at.cmp(&b.created_at),
                BlockSort::ExpiresAt => a.block.until.cmp(&b.block.until),
                BlockSort::Identifier => sight.of(a).cmp(sight.of(b)),
                BlockSort::Attempts => a.attempts.cmp(&b.attempts),
            };
            let ordering = ordering.then(a.id.cmp(&b.id));
            if is_descending { ordering.reverse() } else { ordering }
        });
        let expected: Vec<BlockId> = expected.iter().map(|record| record.id).collect();
        prop_assert_eq!(all_pages(&book, query), expected.clone());
        let mut matching: Vec<BlockId> = book.matching(&filter, NOW).iter().map(|record| record.id).collect();
        matching.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        prop_assert_eq!(matching, expected);
    }
}

#[test]
fn each_filter_holds() {
    let book = Book::bounded(4, 1000);
    for who in 0..6 {
        book.put(record(u64::from(who), 0, 1000, 1, who, Reason::Limit), NOW);
    }
    let count = |filter: BlockFilter<'_>| book.matching(&filter, NOW).len();
    let any = BlockFilter { sight: Sight::Full, ..BlockFilter::default() };
    assert_eq!(count(any), 6);
    assert_eq!(count(BlockFilter { search: Some("SON3"), ..any }), 1);
    assert_eq!(count(BlockFilter { search: Some("person"), ..any }), 6);
    assert_eq!(count(BlockFilter { search: Some("persons"), ..any }), 0);
    assert_eq!(count(BlockFilter { key_kind: Some("ip"), ..any }), 3);
    assert_eq!(count(BlockFilter { route: Some("route1"), ..any }), 2);
    assert_eq!(count(BlockFilter { route: Some("route1"), key_kind: Some("ip"), ..any }), 1);
    assert_eq!(count(BlockFilter { policy: Some("none"), ..any }), 0);
    let masked = BlockFilter { sight: Sight::Masked, ..any };
    assert_eq!(
        count(BlockFilter { search: Some("person"), ..masked }),
        0,
        "masks show no more than a letter"
    );
    assert_eq!(count(BlockFilter { search: Some("P***"), ..masked }), 6);
    assert_eq!(count(BlockFilter { search: Some("Person3"), ..masked }), 1, "who knows it finds it");
}

#[test]
fn a_large_book_is_walked_by_several_and_told_the_same() {
    let book = Book::bounded(64, 200_000);
    let count = Book::MANY as u64 + 1000;
    for number in 0..count {
        book.put(record(number, number % 777, 1000 + number, 1, (number % 200) as u8, Reason::Limit), NOW);
    }
    let filter = BlockFilter { sight: Sight::Full, search: Some("person19"), ..BlockFilter::default() };
    // 19 and 190 to 199.
    let expected = (0..count).filter(|number| number % 200 == 19 || number % 200 >= 190).count();
    assert_eq!(book.matching(&filter, NOW).len(), expected);
    let query =
        BlockQuery { filter, sort: BlockSort::ExpiresAt, is_descending: true, after: None, limit: 5000 };
    let pages = all_pages(&book, query);
    assert_eq!(pages.len(), expected);
    let mut once = pages.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_search_finds_what_reading_every_text_would(
        who in prop::collection::vec(0_u8..40, 0..40),
        search in "(?i)(p|pe|per|person[0-9]?|n[0-9]{1,2}|\\*|P\\*|[0-9]|xy)",
        sight in prop::sample::select(vec![Sight::Masked, Sight::Full]),
    ) {
        let book = Book::bounded(4, 1000);
        let records: Vec<_> = (0..).zip(&who).map(|(number, &who)| record(number, 1, 1000, 1, who, Reason::Limit)).collect();
        for record in &records {
            book.put(Arc::clone(record), NOW);
        }
        let filter = BlockFilter { search: Some(&search), sight, ..BlockFilter::default() };
        let finds = |record: &&Arc<BlockRecord>| {
            sight.of(record).to_lowercase().contains(&search.to_lowercase())
                || record.identifier.expose() == search
        };
        prop_assert_eq!(book.matching(&filter, NOW).len(), records.iter().filter(finds).count());
    }
}
