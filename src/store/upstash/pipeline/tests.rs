use super::super::super::remote::call::Script;
use super::super::script::Scripts;
use super::*;

fn run(scripts: &Scripts, source: &str, by: By) -> Command {
    let script = Box::leak(Box::new(Script { source: source.to_owned(), sha1: source.to_owned() }));
    let args = vec![vec![0, 255].into(), vec![].into()];
    let bundle = Bundle { script, keys: vec!["a\"b"], args };
    Command::Script { script: scripts.port(script), operands: operands(&bundle), by }
}

/// The commands of a body: each as its first word, whether its second is a source, and the rest.
fn commands(commands: &[Command]) -> Vec<(String, Vec<String>)> {
    let all: Vec<Vec<String>> = serde_json::from_str(&body(commands.iter())).unwrap();
    all.into_iter().map(|mut words| (words.remove(0), words)).collect()
}

#[test]
fn a_run_names_keys_as_text_and_arguments_in_hexadecimal() {
    let scripts = Scripts::default();
    let plain = Command::Plain(r#"["SET","k","1"]"#.into());
    let body = commands(&[run(&scripts, "return 1", By::Name), plain, run(&scripts, "return 1", By::Source)]);
    let (verb, words) = &body[0];
    assert_eq!((verb.as_str(), words[0].len()), ("EVALSHA", 40));
    assert_eq!(words[1..], ["1", "a\"b", "00ff", ""]);
    assert_eq!(body[1], ("SET".to_owned(), vec!["k".to_owned(), "1".to_owned()]));
    let (verb, words) = &body[2];
    assert!(verb == "EVAL" && words[0].ends_with("return 1"), "{words:?}");
    assert!(words[0].starts_with("#!lua flags=allow-key-locking\n"), "the flag is read in the first line");
    assert_eq!(words[1..], ["1", "a\"b", "00ff", ""]);
    assert_eq!(super::body([].iter()), "[]");
}

#[test]
fn a_source_travels_once_in_a_pipeline() {
    let scripts = Scripts::default();
    let of = |source: &str, by: By| run(&scripts, source, by);
    let mixed = [
        of("x", By::Name),
        of("x", By::SourceOnce),
        of("x", By::SourceOnce),
        of("y", By::SourceOnce),
        of("x", By::Name),
        of("x", By::Source),
    ];
    let verbs: Vec<String> = commands(&mixed).into_iter().map(|(verb, _)| verb).collect();
    assert_eq!(verbs, ["EVALSHA", "EVAL", "EVALSHA", "EVAL", "EVALSHA", "EVAL"]);
}

#[test]
fn every_command_gets_its_own_answer() {
    let answered = replies(br#"[{"result":[1,null]},{"error":"ERR no"},{"result":null}]"#, 3).unwrap();
    assert_eq!(answered[0].result, serde_json::json!([1, null]));
    assert_eq!(answered[1].error.as_deref(), Some("ERR no"));
    assert_eq!(answered[2], Reply { result: Value::Null, error: None });
}

#[test]
fn an_answer_that_is_none_is_garbage() {
    let deep = "[".repeat(100_000);
    for body in ["", "hello", "<html>", "{}", "[1]", r#"{"result":1}"#, "[{}", r#"[{"error":7}]"#, &deep] {
        assert!(matches!(replies(body.as_bytes(), 1), Err(StoreError::Garbage(_))), "{body:.30}");
    }
    assert!(replies(br#"[{"result":1}]"#, 2).is_err());
    assert!(replies(br#"[{"result":1},{"result":1}]"#, 1).is_err());
    assert!(replies(b"[\xff]", 1).is_err());
}

#[test]
fn a_script_answers_numbers_bytes_and_nothing() {
    let answer = serde_json::json!([1, -9_007_199_254_740_993_i64, null, "AP8=", "", "OK"]);
    let bytes = |bytes: &[u8]| Piece::Bytes(bytes.to_vec());
    let expected = [
        Piece::Int(1),
        Piece::Int(-9_007_199_254_740_993),
        Piece::Nil,
        bytes(&[0, 255]),
        bytes(b""),
        bytes(b"OK"),
    ];
    assert_eq!(pieces(answer).unwrap(), expected);
    for garbage in
        ["null", "1", r#""AP8=""#, "{}", "[[1]]", "[1.5]", r#"["A"]"#, r#"["*"]"#, "[true]", "[{}]"]
    {
        let Ok(value) = serde_json::from_str(garbage) else { panic!("{garbage} is JSON") };
        assert!(matches!(pieces(value), Err(StoreError::Garbage(_))), "{garbage}");
    }
}
