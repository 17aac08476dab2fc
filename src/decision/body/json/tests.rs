use proptest::prelude::*;

use super::*;
use crate::decision::body::tests::{About, about, check, field};
use crate::decision::body::{Media, read_fields};

#[test]
fn a_json_field_is_read_as_the_backend_reads_it() {
    for (body, expected) in [
        (r#"{}"#, None),
        (r#" { } "#, None),
        (r#"{"other":1}"#, None),
        (r#"{"email":"a@b"}"#, Some("a@b")),
        ("\t{\r\n \"email\" : \"a@b\" , \"x\" : [ ] }\n", Some("a@b")),
        (r#"{"Email":"a"}"#, Some("a")),
        (r#"{"\u0065mail":"a"}"#, Some("a")),
        (r#"{"email":"\u0061\n\"\\\/\b\f\r\t"}"#, Some("a\n\"\\/\u{8}\u{c}\r\t")),
        (r#"{"email":"\ud83d\ude00"}"#, Some("😀")),
        (r#"{"email":"é"}"#, Some("é")),
        (r#"{"email":""}"#, Some("")),
        (r#"{"email":null}"#, None),
        (r#"{"email":123}"#, Some("123")),
        (r#"{"email":-5}"#, Some("-5")),
        (r#"{"email":0}"#, Some("0")),
        (r#"{"email":9007199254740991}"#, Some("9007199254740991")),
        (r#"{"emails":"x","e_mail":"y","email":"a"}"#, Some("a")),
        (r#"{"x":{"email":"b"},"email":"a","y":[{"email":"c"}]}"#, Some("a")),
        (r#"{"x":{"a":1,"a":2},"email":"a"}"#, Some("a")),
        (r#"{"x":[1.5e+10,-0,true,false,null,"s",{}],"email":"a"}"#, Some("a")),
        (r#"{"x":"{\"email\":\"b\"}","email":"a"}"#, Some("a")),
    ] {
        check(&Media::Json, body, "email", expected);
    }
    for (body, expected) in [
        (r#"{"user":{"email":"a"}}"#, Some("a")),
        (r#"{"User":{"EMAIL":"a"}}"#, Some("a")),
        (r#"{"user":{}}"#, None),
        (r#"{"user":null}"#, None),
        (r#"{"email":"a"}"#, None),
        (r#"{"user":{"email":null}}"#, None),
        (r#"{"email":1,"user":{"name":{"email":2},"email":"a"}}"#, Some("a")),
    ] {
        check(&Media::Json, body, "user.email", expected);
    }
}

#[test]
fn json_that_backends_read_differently_is_refused() {
    for (body, expected) in [
        (r#"{"email":"a","email":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","email":"a"}"#, About::Repeated),
        (r#"{"email":"a","Email":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","\u0065mail":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","ema\u0131l":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","ｅmail":"mallory"}"#, About::Repeated),
        (r#"{"email":null,"email":"mallory"}"#, About::Repeated),
        (r#"{"email":true}"#, About::NotOneValue),
        (r#"{"email":false}"#, About::NotOneValue),
        (r#"{"email":1.0}"#, About::NotOneValue),
        (r#"{"email":1e3}"#, About::NotOneValue),
        (r#"{"email":-0}"#, About::NotOneValue),
        (r#"{"email":["mallory"]}"#, About::NotOneValue),
        (r#"{"email":{"x":"mallory"}}"#, About::NotOneValue),
        (r#"{"email":9007199254740992}"#, About::Syntax),
        (r#"{"email":-9007199254740993}"#, About::Syntax),
        (r#"{"email":99999999999999999999999}"#, About::Syntax),
        (r#"["email"]"#, About::Syntax),
        (r#""email""#, About::Syntax),
        (r#"null"#, About::Syntax),
        (r#" "#, About::Syntax),
        (r#"{"email":"a"} {"email":"mallory"}"#, About::Syntax),
        (r#"{"email":"a"}x"#, About::Syntax),
        (r#"{"email":"a""#, About::Syntax),
        (r#"{"email":"a"#, About::Syntax),
        (r#"{"email":"a",}"#, About::Syntax),
        (r#"{,"email":"a"}"#, About::Syntax),
        (r#"{"email":}"#, About::Syntax),
        (r#"{"email" "a"}"#, About::Syntax),
        (r#"{email:"a"}"#, About::Syntax),
        (r#"{'email':'a'}"#, About::Syntax),
        (r#"{"email":"a"/*,"email":"mallory"*/}"#, About::Syntax),
        ("{\"email\":\"a\"//\n}", About::Syntax),
        (r#"{"email":NaN}"#, About::Syntax),
        (r#"{"x":Infinity,"email":"a"}"#, About::Syntax),
        (r#"{"email":01}"#, About::Syntax),
        (r#"{"email":+1}"#, About::Syntax),
        (r#"{"email":.5}"#, About::Syntax),
        (r#"{"email":1.}"#, About::Syntax),
        (r#"{"email":1e}"#, About::Syntax),
        (r#"{"email":0x10}"#, About::Syntax),
        (r#"{"email":nul}"#, About::Syntax),
        (r#"{"email":nulll}"#, About::Syntax),
        (r#"{"email":"\ud83d"}"#, About::Syntax),
        (r#"{"email":"\ude00\ud83d"}"#, About::Syntax),
        (r#"{"email":"\ud83dx"}"#, About::Syntax),
        (r#"{"email":"\ud83d\u0041"}"#, About::Syntax),
        (r#"{"x":"\ud800","email":"a"}"#, About::Syntax),
        (r#"{"email":"\u00g0"}"#, About::Syntax),
        (r#"{"email":"\u00"}"#, About::Syntax),
        (r#"{"email":"\u+041"}"#, About::Syntax),
        (r#"{"email":"\x41"}"#, About::Syntax),
        (r#"{"email":"\a"}"#, About::Syntax),
        ("{\"email\":\"a\nb\"}", About::Syntax),
        ("{\"email\":\"a\0b\"}", About::Syntax),
        ("{\"email\u{0}\":\"a\"}", About::Syntax),
        (r#"{"email\u0000":"a"}"#, About::Syntax),
        ("\u{feff}{\"email\":\"a\"}", About::Syntax),
        ("{\u{a0}\"email\":\"a\"}", About::Syntax),
        ("{\u{c}\"email\":\"a\"}", About::Syntax),
    ] {
        assert_eq!(about(&Media::Json, body.as_bytes(), "email"), expected, "{body}");
    }
    for body in [&b"{\"email\":\"\xff\"}"[..], b"{\"email\":\"\xed\xa0\x80\"}", b"{\0\"\0e\0", b"\xff\xfe{\0"]
    {
        assert_eq!(about(&Media::Json, body, "email"), About::Syntax, "{body:?}");
    }
    for (body, expected) in [
        (r#"{"user":"mallory"}"#, About::NotNested),
        (r#"{"user":["mallory"]}"#, About::NotNested),
        (r#"{"user":[{"email":"mallory"}]}"#, About::NotNested),
        (r#"{"user":1}"#, About::NotNested),
        (r#"{"user.email":"mallory"}"#, About::NotNested),
        (r#"{"User.Email":"mallory","user":{"email":"a"}}"#, About::NotNested),
        (r#"{"user":{"email":"a"},"user":{}}"#, About::Repeated),
        (r#"{"user":{"email":"a"},"USER":{"email":"mallory"}}"#, About::Repeated),
        (r#"{"user":{"email":"a","Email":"mallory"}}"#, About::Repeated),
        (r#"{"user":{"email":["mallory"]}}"#, About::NotOneValue),
        (r#"{"user":{"email":{}}}"#, About::NotOneValue),
    ] {
        assert_eq!(about(&Media::Json, body.as_bytes(), "user.email"), expected, "{body}");
    }
}

#[test]
fn json_nests_only_so_deep() {
    let nested =
        |depth: usize| format!("{{\"x\":{}{},\"email\":\"a\"}}", "[".repeat(depth), "]".repeat(depth));
    check(&Media::Json, &nested(DEPTH_MAX - 1), "email", Some("a"));
    assert_eq!(about(&Media::Json, nested(DEPTH_MAX).as_bytes(), "email"), About::Syntax);
    assert_eq!(about(&Media::Json, "{\"x\":".repeat(20_000).as_bytes(), "email"), About::Syntax);
    assert_eq!(
        about(&Media::Json, format!("{{\"x\":{}", "[".repeat(48_000)).as_bytes(), "email"),
        About::Syntax
    );
}

/// Text made of the pieces that JSON tricks are made of.
fn tricky_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"email\"",
        "\"Email\"",
        "\"user\"",
        "\"user.email\"",
        "\"a\"",
        "\"\\u0061\"",
        "\"\\ud800\"",
        "null",
        "true",
        "1",
        "-0",
        "1.5",
        "12345678901234567890",
        " ",
        "\\",
        "\"",
        "{\"email\":",
        "{\"user\":{\"email\":",
    ]);
    prop::collection::vec(piece, 1..14).prop_map(|pieces| pieces.concat())
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1000i64..1000).prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    let name = || {
        prop_oneof![Just("email".to_owned()), Just("user".to_owned()), Just("EMAIL".to_owned()), "\\PC{0,6}"]
    };
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map(name(), inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    });
    let name = || prop_oneof![Just("email".to_owned()), Just("user".to_owned()), "\\PC{0,6}"];
    prop::collection::hash_map(name(), value, 0..5)
        .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
}

/// What a reader that takes the last of several members finds.
fn last_wins(body: &str, path: &FieldPath) -> Option<String> {
    let root: serde_json::Value = serde_json::from_str(body).expect(body);
    let found = path.names().try_fold(&root, |value, name| match value {
        serde_json::Value::Object(members) => {
            members.iter().find(|(known, _)| known.to_lowercase() == name).map(|(_, value)| value)
        }
        _ => None,
    });
    match found? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

proptest! {
    #[test]
    fn a_value_read_from_json_is_what_serde_json_reads(value in json_value(), nested in any::<bool>()) {
        let path = field(if nested { "user.email" } else { "email" });
        let body = value.to_string();
        if let Ok(fields) = read_fields(&Media::Json, body.as_bytes(), &[&path]) {
            prop_assert_eq!(fields.get(&path).map(str::to_owned), last_wins(&body, &path));
        }
    }

    #[test]
    fn json_that_is_accepted_is_json(body in tricky_json()) {
        for path in ["email", "user.email"].map(field) {
            if let Ok(fields) = read_fields(&Media::Json, body.as_bytes(), &[&path]) {
                prop_assert_eq!(fields.get(&path).map(str::to_owned), last_wins(&body, &path), "{}", body);
            }
        }
    }

    #[test]
    fn a_plain_object_is_always_read(email in any::<String>(), other in any::<String>()) {
        let body = serde_json::json!({ "email": email, "x": [other, 1.5], "user": { "email": other } });
        let [flat, nested] = ["email", "user.email"].map(field);
        let fields = read_fields(&Media::Json, body.to_string().as_bytes(), &[&flat, &nested]).unwrap();
        prop_assert_eq!(fields.get(&flat), Some(email.as_str()));
        prop_assert_eq!(fields.get(&nested), Some(other.as_str()));
    }
}
