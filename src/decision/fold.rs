//! Folding of letters: two texts that any backend may compare as equal fold to one.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// Case-folded: lower case of upper case. Lower case alone keeps `ı`, `ſ` and `ς` apart from
/// `i`, `s` and `σ`, which a comparison by upper case (SQL, Java) takes for the same.
/// Borrowed when nothing changes.
pub(super) fn fold_case(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        };
    }
    let folded: String = text.chars().flat_map(fold_char).collect();
    if folded == text { Cow::Borrowed(text) } else { Cow::Owned(folded) }
}

/// Case-folded in compatibility form (NFKC): full-width letters, ligatures and `K` (Kelvin) are
/// the plain letters.
pub(super) fn fold_compatible(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return fold_case(text);
    }
    let mut folded = fold_round(text);
    // Folding may take apart what composing joined; two rounds settle all of Unicode.
    for _ in 0..2 {
        folded = fold_round(&folded);
    }
    Cow::Owned(folded)
}

fn fold_round(text: &str) -> String {
    text.nfkc().flat_map(fold_char).nfkc().collect()
}

fn fold_char(letter: char) -> impl Iterator<Item = char> {
    // `İ` has no lower case of one letter; most databases take it for `i`.
    let letter = if letter == 'İ' { 'i' } else { letter };
    letter.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_that_some_comparison_takes_for_one_fold_to_one() {
        for (one, other) in [
            ("EMAIL", "email"),
            ("maſter", "MASTER"),
            ("\u{212a}ey", "key"),
            ("mıke", "MIKE"),
            ("İstanbul", "istanbul"),
            ("ΟΔΟΣ", "οδος"),
            ("οδοσ", "οδος"),
            ("STRASSE", "straße"),
            ("ẞ", "ß"),
            ("ǅ", "ǆ"),
        ] {
            assert_eq!(fold_case(one), fold_case(other), "{one} {other}");
        }
        assert_eq!(fold_compatible("ｅｍａｉｌ"), "email");
        assert_eq!(fold_compatible("ﬁeld"), "field");
        assert_ne!(fold_case("ｅ"), "e");
    }

    #[test]
    fn a_folded_text_is_borrowed() {
        assert!(matches!(fold_case("straube-ü"), Cow::Borrowed(_)));
        assert!(matches!(fold_compatible("email_2"), Cow::Borrowed(_)));
    }

    #[test]
    fn every_letter_folds_for_good() {
        // Letter case ends in the supplementary multilingual plane.
        for letter in ('\0'..='\u{1ffff}').map(String::from) {
            let once = fold_case(&letter);
            assert_eq!(fold_case(&once), once, "U+{:04X}", letter.chars().next().unwrap() as u32);
            let once = fold_compatible(&letter);
            assert_eq!(fold_compatible(&once), once, "U+{:04X}", letter.chars().next().unwrap() as u32);
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,24}") {
            let once = fold_compatible(&text).into_owned();
            let twice = fold_compatible(&once).into_owned();
            prop_assert_eq!(twice, once);
        }
    }
}
