use proptest::prelude::*;

use super::*;
use crate::decision::body::{Media, read_fields};

fn list<'l>(entries: impl IntoIterator<Item = &'l str>) -> TextLists {
    let mut list = TextList::default();
    entries.into_iter().for_each(|entry| list.insert(entry).unwrap());
    list.shrink();
    [Arc::new(list)].into_iter().collect()
}

fn domains(entries: &[&str]) -> Condition {
    let domains: Vec<Domain> = entries.iter().map(|entry| Domain::parse(entry).unwrap()).collect();
    Condition::DomainIn(list(domains.iter().map(Domain::as_str)))
}

fn matching(pattern: &str) -> Condition {
    Condition::Matches(Pattern::parse(pattern).unwrap())
}

fn rule(condition: Condition) -> RejectRule {
    RejectRule {
        field: FieldPath::parse("email").unwrap(),
        condition,
        status: StatusCode::UNPROCESSABLE_ENTITY,
        detail: "No.".into(),
    }
}

/// The fields of `{"email": value}`.
fn fields(value: &str) -> Fields {
    let body = serde_json::json!({ "email": value }).to_string();
    read_fields(&Media::Json, body.as_bytes(), &[&FieldPath::parse("email").unwrap()]).unwrap()
}

fn verdict(condition: Condition, value: &str) -> Result<(), Refusal> {
    judge(&[rule(condition)], &fields(value))
}

fn check(condition: &Condition, value: &str, expected: &str) {
    let told = match verdict(condition.clone(), value) {
        Ok(()) => "passes",
        Err(Refusal::Rejected { .. }) => "rejected",
        Err(other) => panic!("{value:?}: {other:?}"),
    };
    assert_eq!(told, expected, "{value:?} by {condition:?}");
}

#[test]
fn an_address_at_a_listed_domain_is_rejected_however_it_is_spelled() {
    let condition =
        domains(&["evil.example", "Bücher.example", "xn--strae-oqa.example", "zip", "faß.example."]);
    for value in [
        "ann@evil.example",
        " Ann@EVIL.Example ",
        "ann@evil.example.",
        "ann@evil.example..",
        "ann@evil.example .",
        "ann@ evil.example",
        "ann@.evil.example",
        "ann@mail.evil.example",
        "ann@a.b.c.Evil.example",
        "\"ann@home.example\"@evil.example",
        "ann@home.example@evil.example",
        "\"a b\"@evil.example",
        "@evil.example",
        "ann+tag@evil.example",
        "Ann <ann@evil.example>",
        "ann＠ｅｖｉｌ．ｅｘａｍｐｌｅ",
        "ann@evil。example",
        "ann@evil．example｡",
        "ann﹫evil.example",
        "ann@ev\u{200b}il.example",
        "ann@ev\u{ad}il.exam\u{2060}ple",
        "ann@ev\u{200d}il.example",
        "ann@bücher.example",
        "ann@BÜCHER.example",
        "ann@bu\u{308}cher.example",
        "ann@xn--bcher-kva.example",
        "ann@XN--BCHER-KVA.EXAMPLE",
        "ann@mail.bücher.example",
        "ann@straße.example",
        "ann@xn--strae-oqa.example",
        "ann@faß.example",
        "ann@xn--fa-hia.example",
        "ann@home.zip",
        // A label that nobody could look up, below a listed domain.
        "ann@\u{fffd}.evil.example",
        "ann@\u{fffd}.bücher.example",
        "ann@xn--\u{fc}.evil.example",
        "ann@a_b.evil.example",
    ] {
        check(&condition, value, "rejected");
    }
    for value in [
        "ann@home.example",
        "ann@notevil.example",
        "ann@evil.example.org",
        "ann@example",
        "ann@evil-example",
        "evil.example",
        "evil.example@home.example",
        "\"ann@evil.example\"@home.example",
        "ann@evil.example@home.example",
        "ann@bucher.example",
        "ann@strase.example",
        "ann@",
        "ann@.",
        "@",
        "",
        " ",
        "ann@zip.example",
        "ann@[192.0.2.1]",
    ] {
        check(&condition, value, "passes");
    }
}

#[test]
fn a_listed_domain_has_one_form() {
    let check = |text: &str, expected: Option<&str>| {
        assert_eq!(Domain::parse(text).as_ref().map(Domain::as_str), expected, "{text}");
    };
    check("Example.COM", Some("example.com"));
    check("example.com.", Some("example.com"));
    check("bücher.example", Some("xn--bcher-kva.example"));
    check("xn--bcher-kva.example", Some("xn--bcher-kva.example"));
    check("_dmarc.example", Some("_dmarc.example"));
    check("zip", Some("zip"));
    let label = "a".repeat(63);
    check(&label, Some(&label));
    for text in [
        "",
        ".",
        ".example.com",
        "*.example.com",
        "a@example.com",
        "a..b",
        "a b.com",
        "a/b",
        "xn--\u{fc}.com",
    ] {
        check(text, None);
    }
    check(&"a".repeat(64), None);
    check(&format!("{}com", "a.".repeat(126)), None);
}

#[test]
fn a_listed_value_is_found_by_its_text() {
    let condition =
        Condition::ValueIn(list(["admin", "straße"].map(|value| match normalise(Form::Text, value) {
            Ok(Some(text)) => &*text.into_owned().leak(),
            other => panic!("{other:?}"),
        })));
    for value in ["admin", " ADMIN ", "ａｄｍｉｎ", "ad\u{200b}min", "Straße", "STRASSE"] {
        check(&condition, value, "rejected");
    }
    for value in ["admins", "an admin", "adm in", "", "a@admin"] {
        check(&condition, value, "passes");
    }
}

#[test]
fn a_pattern_is_looked_for_in_the_value_as_sent_and_as_text() {
    check(&matching("^test"), " TEST-1", "rejected");
    check(&matching("^TEST"), "ｔｅｓｔ-1", "rejected");
    check(&matching("ß"), "Straße", "rejected");
    check(&matching("[+]"), "ann+tag@home.example", "rejected");
    check(&matching("^test$"), "a test", "passes");
    check(&matching(r"^\d{4}$"), "12345", "passes");
}

#[test]
fn a_pattern_that_would_take_long_elsewhere_is_quick_here() {
    let evil = format!("{}!", "a".repeat(64 * 1024));
    let nested = Pattern::parse("^(a+)+$").unwrap();
    assert!(!nested.is_in(&evil));
    assert!(Pattern::parse("(a+)+$").unwrap().is_in(&evil[..evil.len() - 1]));
    // No value is as long as that: who sends one is told so.
    let refusal = verdict(matching("(a+)+$"), &evil).unwrap_err();
    assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn a_pattern_is_bounded() {
    let fault = |text: &str| Pattern::parse(text).unwrap_err();
    assert_eq!(fault(&"a".repeat(1025)), PatternFault::TooLong);
    assert_eq!(fault(r"\w{1000}{1000}"), PatternFault::TooLarge);
    assert_eq!(fault("(a"), PatternFault::Syntax("unclosed group".into()));
    assert!(matches!(fault(r"(a)\1"), PatternFault::Syntax(_)));
    assert!(matches!(fault("(?=a)"), PatternFault::Syntax(_)));
    assert!(matches!(fault(&"(".repeat(200)), PatternFault::Syntax(_)));
    assert!(matches!(fault(&format!("{}a{}", "(".repeat(200), ")".repeat(200))), PatternFault::Syntax(_)));
}

#[test]
fn the_first_rule_that_applies_gives_the_answer() {
    let status = StatusCode::FORBIDDEN;
    let rules = [
        RejectRule { field: FieldPath::parse("name").unwrap(), ..rule(matching(".")) },
        rule(domains(&["other.example"])),
        RejectRule { status, detail: "First.".into(), ..rule(domains(&["evil.example"])) },
        rule(matching(".")),
    ];
    let refusal = judge(&rules, &fields("ann@evil.example")).unwrap_err();
    assert_eq!(refusal, Refusal::Rejected { status, detail: "First.".into(), rule: 2 });
    assert_eq!((refusal.status(), refusal.detail()), (status, "First."));
    assert_eq!(judge(&rules, &Fields::default()), Ok(()));
}

#[test]
fn a_value_that_has_no_text_is_malformed() {
    let refusal = verdict(matching("x"), "a\u{7}b").unwrap_err();
    let detail = "\"body.email\": The value contains a control character.".into();
    assert_eq!(refusal, Refusal::Malformed { detail });
}

#[test]
fn a_list_is_a_set_that_ends() {
    let mut list = TextList::default();
    for number in 0..TextList::ENTRIES_MAX {
        list.insert(&number.to_string()).unwrap();
    }
    assert_eq!(list.insert("7"), Ok(()));
    assert_eq!(list.insert("one more"), Err(ListFull));
    list.shrink();
    let lists: TextLists = [Arc::new(list)].into_iter().collect();
    assert_eq!(lists.entries(), TextList::ENTRIES_MAX);
    assert!(lists.contains("999999") && !lists.contains("1000000") && !lists.contains(""));
    // The texts themselves are 5.9 million bytes.
    assert!(lists.bytes() < 30 << 20, "{}", lists.bytes());
}

proptest! {
    #[test]
    fn no_value_panics(value in any::<String>(), domain in "[.@ａa\u{ad}。ß>-]{0,12}") {
        let condition = domains(&["evil.example"]);
        let rules = [rule(condition), rule(Condition::ValueIn(list(["a"]))), rule(matching("(a+)+$"))];
        for value in [value.clone(), format!("{value}@{domain}"), format!("a@xn--{domain}")] {
            let _ = judge(&rules, &fields(&value));
            let _ = Domain::parse(&value);
            let _ = Pattern::parse(&value);
        }
    }

    #[test]
    fn what_is_put_below_a_listed_domain_is_rejected(label in "[a-zäöüßé0-9]{1,20}", local in "[a-z@.]{0,8}") {
        check(&domains(&["evil.example"]), &format!("{local}@{label}.evil.example"), "rejected");
        check(&domains(&["evil.example"]), &format!("{local}@{label}evil.example"), "passes");
    }

    #[test]
    fn a_domain_finds_itself(domain in "[a-zäöüß]{1,10}[.][a-zäöü]{2,10}") {
        check(&domains(&[&domain]), &format!("a@{domain}"), "rejected");
        if !domain.contains('ß') {
            check(&domains(&[&domain]), &format!("a@{}", domain.to_uppercase()), "rejected");
        }
        check(&domains(&[&domain]), &format!("a@{}", Domain::parse(&domain).unwrap().as_str()), "rejected");
    }
}
