use std::sync::LazyLock;

use smallvec::smallvec;

use super::*;

static ONE: LazyLock<Script> = LazyLock::new(|| Script::new("return 1"));
static OTHER: LazyLock<Script> = LazyLock::new(|| Script::new("return 2"));

fn entry(key: &str, limit: &[u8], kept_ms: u64) -> Entry {
    Entry { key: key.to_owned(), terms: Terms { limit: limit.to_vec(), kept_ms } }
}

fn call(head: &str, entries: impl IntoIterator<Item = Entry>) -> Call {
    Call { script: &ONE, head: head.to_owned(), entries: entries.into_iter().collect() }
}

fn of_keys(count: usize) -> Call {
    call("", (0..count).map(|number| entry(&number.to_string(), b"", 1)))
}

#[test]
fn a_script_is_named_by_its_sha1() {
    assert_eq!(ONE.sha1, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
}

#[test]
fn calls_go_together_that_tell_a_script_the_same() {
    let go = |one: &Call, other: &Call| one.goes_with(other);
    assert!(go(&call("1", [entry("a", b"x", 1)]), &call("1", [])));
    assert!(!go(&call("1", []), &call("2", [])));
    assert!(!go(&call("1", []), &Call { script: &OTHER, ..call("1", []) }));
}

#[test]
fn terms_that_are_shared_are_sent_once() {
    let calls = [
        call("now", [entry("a", b"\0x", 10), entry("b", b"y", 10)]),
        call("now", [entry("a", b"\0x", 10)]),
        call("now", []),
        call("now", [entry("c", b"\0x", 20), entry("d", b"y", 10)]),
    ];
    let bundle = Bundle::of(&calls).unwrap();
    assert_eq!(bundle.keys, ["a", "b", "a", "c", "d"]);
    let args: Vec<&[u8]> = bundle.args.iter().map(AsRef::as_ref).collect();
    let layout: &[u8] = &[2, 1, 2, 1, 1, 0, 2, 3, 2];
    assert_eq!(args, [layout, b"now", b"\0x", b"10", b"y", b"10", b"\0x", b"20"]);
    assert!(std::ptr::eq(bundle.script, &*ONE));
    assert!(Bundle::of(&[]).is_none());
}

#[test]
fn as_many_terms_as_keys_can_be_numbered() {
    let kept = 0..Bundle::KEYS_MAX as u64;
    let calls: Vec<Call> = kept.map(|kept_ms| call("", [entry("k", b"", kept_ms)])).collect();
    let bundle = Bundle::of(&calls).unwrap();
    assert_eq!(bundle.args.len(), 2 + 2 * Bundle::KEYS_MAX);
    assert_eq!(bundle.args[0].last(), Some(&(Bundle::KEYS_MAX as u8)));
}

#[test]
fn each_call_gets_its_own_answer() {
    let calls = [of_keys(2), of_keys(1), of_keys(1), of_keys(0)];
    let (int, bytes) = (Piece::Int, |bytes: &[u8]| Piece::Bytes(bytes.to_vec()));
    let pieces = vec![
        int(3),
        int(14),
        int(1),
        Piece::Nil,
        bytes(b"s"),
        bytes(b"WRONGTYPE no"),
        Piece::Nil,
        int(0),
        bytes(b"\0"),
        int(7),
    ];
    let answer = |said, states: &[Option<&[u8]>]| {
        let states = states.iter().map(|state| state.map(<[u8]>::to_vec)).collect();
        Ok(Answer { now: Timestamp::from_micros(3_000_014), said, states })
    };
    let expected = [
        answer(1, &[None, Some(b"s")]),
        Err(StoreError::WrongType),
        answer(0, &[Some(b"\0")]),
        answer(7, &[]),
    ];
    assert_eq!(answers(pieces, &calls).unwrap(), expected);
    assert_eq!(answers(vec![int(0), int(0)], &[]), Ok(vec![]));
}

#[test]
fn an_answer_of_another_shape_is_garbage() {
    let (int, nil, bytes) = (Piece::Int(1), Piece::Nil, Piece::Bytes(vec![1]));
    let cases: [&[&Piece]; 10] = [
        &[],
        &[&int],
        &[&int, &int],
        &[&int, &int, &int],
        &[&nil, &int, &int, &nil],
        &[&int, &bytes, &int, &nil],
        &[&int, &int, &nil, &nil],
        &[&int, &int, &int, &int],
        &[&int, &int, &int, &nil, &nil],
        &[&int, &Piece::Int(-1), &int, &nil],
    ];
    for case in cases {
        let pieces = case.iter().map(|piece| (*piece).clone()).collect();
        let answered = answers(pieces, &[of_keys(1)]);
        assert!(matches!(answered, Err(StoreError::Garbage(_))), "{case:?}: {answered:?}");
    }
    let no_state: SmallVec<[Option<Vec<u8>>; 2]> = smallvec![None];
    let well = answers(vec![int.clone(), int.clone(), int, nil], &[of_keys(1)]).unwrap();
    assert_eq!(well[0].as_ref().map(|answer| &answer.states), Ok(&no_state));
}
