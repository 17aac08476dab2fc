use proptest::prelude::*;

use super::*;

fn check(form: Form, value: &str, expected: &str) {
    let normal = normalise(form, value).unwrap().unwrap_or_default();
    assert_eq!(normal, expected, "{form:?} {value:?}");
    assert_eq!(normalise(form, &normal).unwrap().unwrap_or_default(), normal, "{value:?} is not settled");
}

#[test]
fn text_has_one_spelling() {
    for value in [
        "alice",
        "Alice",
        "ALICE",
        " alice ",
        "ａｌｉｃｅ",
        "al\u{200b}ice",
        "\u{feff}alice",
        "alice\u{ad}",
        "al\u{2060}ice\u{fe0f}",
        "\u{a0}alice\u{3000}",
        "\u{202e}alice",
        "alıce",
        "ALİCE",
        " \u{200b} alice",
        "ali\u{e0041}ce",
    ] {
        check(Form::Text, value, "alice");
    }
    for (value, expected) in [
        ("Ünal", "ünal"),
        ("U\u{308}nal", "ünal"),
        ("ﬁona", "fiona"),
        ("ΟΔΟΣ", "οδοσ"),
        ("\u{212a}elvin", "kelvin"),
        ("maſter", "master"),
        ("①", "1"),
        ("Straße", "strasse"),
        ("a b", "a b"),
        ("a\u{a0}b", "a b"),
        ("日本", "日本"),
        ("", ""),
        ("   ", ""),
        ("\u{200b}", ""),
        ("\u{3164}\u{ffa0}", ""),
    ] {
        check(Form::Text, value, expected);
    }
}

#[test]
fn an_email_has_one_spelling() {
    for (value, expected) in [
        ("a@example.com", "a@example.com"),
        (" A@Example.COM ", "a@example.com"),
        ("a+tag@example.com", "a@example.com"),
        ("a+tag+more@example.com", "a@example.com"),
        ("a+@example.com", "a@example.com"),
        ("a.b@example.com", "a.b@example.com"),
        ("a@example.com.", "a@example.com"),
        ("a@example.com..", "a@example.com"),
        ("a＠example．com", "a@example.com"),
        ("a@example。com", "a@example.com"),
        ("a@example。com。", "a@example.com"),
        ("a\u{200b}@example.com", "a@example.com"),
        ("j.o.e@gmail.com", "joe@gmail.com"),
        ("J.O.E+spam@GoogleMail.com", "joe@gmail.com"),
        ("joe@gmail.com.", "joe@gmail.com"),
        ("joe@gmail。com", "joe@gmail.com"),
        ("joe@mail.gmail.com", "joe@mail.gmail.com"),
        ("mıke@example.org", "mike@example.org"),
        // No address: counted as the text it is.
        ("alice", "alice"),
        ("a@b@c", "a@b@c"),
        ("@example.com", "@example.com"),
        ("+tag@example.com", "+tag@example.com"),
        ("a@", "a@"),
        ("a@.", "a@."),
        ("...@gmail.com", "...@gmail.com"),
        ("a+b", "a+b"),
        ("a +tag@ example.com .", "a@example.com"),
        ("a@ .", "a@ ."),
        (". @gmail.com", ". @gmail.com"),
    ] {
        check(Form::Email, value, expected);
    }
}

#[test]
fn a_phone_number_has_one_spelling() {
    for value in [
        "+12125550123",
        "+1 212 555 0123",
        "+1 (212) 555-0123",
        "(212) 555-0123",
        "212-555-0123",
        "212.555.0123",
        "2125550123",
        "12125550123",
        "1-212-555-0123",
        "0012125550123",
        "00 1 212 555 0123",
        " +1/212/555/0123 ",
        "＋１２１２５５５０１２３",
        "+1\u{200b}2125550123",
        "011 1 212 555 0123",
    ] {
        check(Form::Phone, value, "+12125550123");
    }
    for (value, expected) in [
        ("+44 7911 123456", "+447911123456"),
        ("+44 (0)7911 123456", "+447911123456"),
        ("0044 7911 123456", "+447911123456"),
        ("+49 1512 3456789", "+4915123456789"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+33 1 23 45 67 89", "+33123456789"),
        ("+7 912 345-67-89", "+79123456789"),
        // No number: counted as the text it is.
        ("call me", "call me"),
        ("+1 212 555 0123 x5", "+1 212 555 0123 x5"),
        ("+1 212 555 0123;ext=5", "+1 212 555 0123;ext=5"),
        ("tel:+12125550123", "tel:+12125550123"),
        ("1-800-FLOWERS", "1-800-flowers"),
        ("+1+2125550123", "+1+2125550123"),
        ("+", "+"),
        ("()", "()"),
        ("1", "1"),
        // Digits that are no known number: counted without their punctuation.
        ("+999 1234-5678", "+99912345678"),
        ("(67) 00-000", "6700000"),
        ("0000 1", "+001"),
        ("00", "00"),
    ] {
        check(Form::Phone, value, expected);
    }
    let long = "1".repeat(33);
    check(Form::Phone, &long, &long);
}

#[test]
fn exact_is_byte_for_byte() {
    for value in ["Alice", " a ", "a\tb", "é", "e\u{301}", "\u{200b}"] {
        check(Form::Exact, value, value);
    }
    assert_eq!(normalise(Form::Exact, ""), Ok(None));
}

#[test]
fn what_cannot_be_counted_is_refused() {
    for form in [Form::Text, Form::Email, Form::Phone] {
        for value in ["a\0", "a\nb", "a\r", "\ta", "a\u{7f}", "a\u{85}"] {
            assert_eq!(normalise(form, value), Err(ValueFault::Control), "{value:?}");
        }
    }
    assert_eq!(normalise(Form::Exact, "a\0"), Err(ValueFault::Control));
    for form in [Form::Text, Form::Exact, Form::Email, Form::Phone] {
        assert_eq!(normalise(form, &"a".repeat(LEN_MAX + 1)), Err(ValueFault::TooLong));
        assert!(normalise(form, &"a".repeat(LEN_MAX)).is_ok());
    }
}

#[test]
fn a_settled_value_is_not_copied() {
    for (form, value) in [
        (Form::Text, "alice"),
        (Form::Text, " alice "),
        (Form::Exact, "Alice"),
        (Form::Email, "alice@example.com"),
        (Form::Email, "alice@gmail.com"),
    ] {
        assert!(matches!(normalise(form, value), Ok(Some(Cow::Borrowed(_)))), "{value}");
    }
}

fn assert_settles(form: Form, value: &str) -> Result<(), TestCaseError> {
    if let Ok(Some(once)) = normalise(form, value) {
        prop_assert!(!once.is_empty());
        if once.len() <= LEN_MAX {
            let twice = normalise(form, &once).unwrap().unwrap();
            prop_assert_eq!(&twice, &once);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(value in any::<String>()) {
        for form in [Form::Text, Form::Exact, Form::Email, Form::Phone] {
            assert_settles(form, &value)?;
        }
    }

    #[test]
    fn normalising_an_email_twice_changes_nothing(value in "[aB.+@。 ßΣ\u{200b}]{0,8}@?(gmail|x)[.]com[.@+]{0,2}") {
        assert_settles(Form::Email, &value)?;
    }

    #[test]
    fn normalising_a_phone_number_twice_changes_nothing(value in "[+0]{0,2}[0-9 ()./-]{1,18}") {
        assert_settles(Form::Phone, &value)?;
    }

    #[test]
    fn an_american_number_is_what_the_parser_makes_of_it(number in "[+]1[2-9][0-9]{9}") {
        let parsed = phonenumber::parse(None, &number).unwrap();
        let normal = normalise(Form::Phone, &number).unwrap().unwrap().into_owned();
        prop_assert_eq!(normal, parsed.format().mode(Mode::E164).to_string());
    }

    #[test]
    fn punctuation_never_changes_a_phone_number(digits in "[+]?[0-9]{6,14}", gaps in "[ ()./-]{16}") {
        let spaced: String = digits.chars().zip(gaps.chars()).flat_map(|(digit, gap)| [gap, digit]).collect();
        let one = normalise(Form::Phone, &digits).unwrap().unwrap();
        prop_assert_eq!(normalise(Form::Phone, &spaced).unwrap().unwrap(), one);
    }
}
