use super::*;

fn bytes_of(folder: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

#[tokio::test]
async fn no_identifier_is_readable_in_the_files() {
    let desk = Desk::new();
    let journal = desk.open();
    let whole = Identifier::new(&[("body.email", "secret.person@example.com"), ("phone", "+15555550123")]);
    let spec = "{\"value\":\"secret.person@example.com\"}";
    let record = BlockRecord {
        identifier: whole.clone(),
        spec: Some(spec.into()),
        ..BlockRecord::clone(&block(1, desk.now(), 600))
    };
    journal.block(record.into()).await;
    let noted = Event { identifier: Some(whole), ..event(EventKind::Failure, desk.now()) };
    (0..50).for_each(|_| journal.note(noted.clone()));
    let check = |when: &str| {
        let bytes = bytes_of(&desk.data());
        assert!(holds(&bytes, "curl/8") && holds(&bytes, "s***@example.com"), "{when}: the rows are there");
        for text in ["secret.person", "5555550123", "15555550123", "\"value\""] {
            assert!(!holds(&bytes, text), "{when}: {text}");
        }
    };
    eventually("the events are in the log", || holds(&bytes_of(&desk.data()), "curl/8"));
    check("while it runs");
    journal.unblock(key(1), Some("alice"), desk.now()).await;
    journal.close().await;
    check("when it is closed");
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_for_nobody_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    std::fs::create_dir(desk.data()).unwrap();
    std::fs::write(desk.file("journal.db"), "").unwrap();
    std::fs::set_permissions(desk.file("journal.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        assert_eq!(mode(&desk.file(name)), 0o600, "{name}");
    }
    let other = Desk::new();
    drop(other.open());
    assert_eq!(mode(&other.data()), 0o700);
}

#[tokio::test]
async fn blocks_made_under_another_secret_end() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    journal.close().await;
    let other = JournalSpec { hash_check: KeyHash::from_u128(43), ..desk.spec() };
    let journal = desk.open_as(other, Pace::default());
    assert!(journal.book().is_blank());
    let ended = journal.ended_blocks(&EndedFilter { limit: 10, ..EndedFilter::default() }).unwrap();
    assert_eq!(ended[0].how, Ended::Unmatched);
    assert_eq!(ended[0].record.identifier, identifier(1), "whom it was about can still be told");
    journal.close().await;
    assert!(desk.open().book().is_blank(), "and they do not come back with the earlier secret");
}

#[tokio::test]
async fn under_another_seal_key_blocks_end_and_identifiers_are_masked() {
    let desk = Desk::new();
    let journal = desk.open();
    journal.block(block(1, desk.now(), 600)).await;
    journal.note(Event { identifier: Some(identifier(1)), ..event(EventKind::Limited, desk.now()) });
    journal.close().await;
    let other = JournalSpec { seal_key: [8; 32], ..desk.spec() };
    let journal = desk.open_as(other, Pace::default());
    assert!(journal.book().is_blank());
    let ended = journal.ended_blocks(&EndedFilter { limit: 10, ..EndedFilter::default() }).unwrap();
    assert_eq!(ended[0].record.identifier.expose(), "p***@example.com+192.0.2.1");
    assert_eq!(ended[0].record.spec, None);
    let rows = journal.events(&all(10)).unwrap();
    assert_eq!(rows[0].event.identifier, None);
    assert_eq!(rows[0].masked.as_deref(), Some("p***@example.com+192.0.2.1"));
    assert_eq!(journal.events(&EventFilter { identifier: Some("192.0.2.1"), ..all(10) }).unwrap(), []);
    journal.block(block(2, desk.now(), 600)).await;
    journal.close().await;
    let other = JournalSpec { seal_key: [8; 32], ..desk.spec() };
    assert_eq!(desk.open_as(other, Pace::default()).book().len(desk.now()), 1, "the key is known now");
}
