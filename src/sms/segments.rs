//! How many segments a text takes: what it costs, and whether it arrives in one piece.

/// What phones call the alphabet of a text, with the sizes of 3GPP TS 23.038 and 23.040.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    /// Seven bits a character, and two characters for each of the extension table.
    Gsm7,
    /// UTF-16, whole surrogate pairs.
    Ucs2,
}

/// All of the basic table but ASCII letters, digits and the escape.
const GSM7_BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
const GSM7_EXTENSION: &str = "\u{c}^{}\\[~]|€";

impl Alphabet {
    /// Units of a text that goes alone.
    fn alone_max(self) -> usize {
        match self {
            Alphabet::Gsm7 => 160,
            Alphabet::Ucs2 => 70,
        }
    }

    /// Units of each part of a longer one: a header takes the rest.
    fn part_max(self) -> usize {
        match self {
            Alphabet::Gsm7 => 153,
            Alphabet::Ucs2 => 67,
        }
    }

    fn units(self, letter: char) -> usize {
        match self {
            Alphabet::Gsm7 => gsm7_units(letter).unwrap_or(1),
            Alphabet::Ucs2 => letter.len_utf16(),
        }
    }
}

fn gsm7_units(letter: char) -> Option<usize> {
    if letter.is_ascii_alphanumeric() || GSM7_BASIC.contains(letter) {
        Some(1)
    } else if GSM7_EXTENSION.contains(letter) {
        Some(2)
    } else {
        None
    }
}

/// The first character that makes a text UCS-2, which holds less than half as much.
pub(super) fn first_beyond_gsm7(text: &str) -> Option<char> {
    text.chars().find(|letter| gsm7_units(*letter).is_none())
}

/// At least 1: an empty text is sent too. No character is cut in two, so a part may end a unit early.
pub(super) fn count(text: &str) -> usize {
    let alphabet = match first_beyond_gsm7(text) {
        None => Alphabet::Gsm7,
        Some(_) => Alphabet::Ucs2,
    };
    let units = || text.chars().map(|letter| alphabet.units(letter));
    if units().sum::<usize>() <= alphabet.alone_max() {
        return 1;
    }
    let (mut parts, mut used) = (1, 0);
    for needed in units() {
        if used + needed > alphabet.part_max() {
            parts += 1;
            used = 0;
        }
        used += needed;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: usize) {
        assert_eq!(count(text), expected, "{} characters: {text}", text.chars().count());
    }

    #[test]
    fn a_text_is_cut_where_its_alphabet_says() {
        check("", 1);
        check(&"A".repeat(160), 1);
        check(&"A".repeat(161), 2);
        check(&"A".repeat(306), 2);
        check(&"A".repeat(307), 3);
        check(&"€".repeat(80), 1);
        check(&"€".repeat(81), 2);
        check(&"ж".repeat(70), 1);
        check(&"ж".repeat(71), 2);
        check(&"ж".repeat(134), 2);
        check(&"ж".repeat(135), 3);
    }

    #[test]
    fn no_character_is_cut_in_two() {
        // Septet 153 of the first part stays empty, and so the second overflows.
        check(&format!("{}€{}", "A".repeat(152), "A".repeat(152)), 3);
        check(&format!("{}€{}", "A".repeat(151), "A".repeat(153)), 2);
        // The pair would stand on unit 67.
        check(&format!("{}😀{}", "ж".repeat(66), "ж".repeat(66)), 3);
        check(&format!("{}😀{}", "ж".repeat(65), "ж".repeat(67)), 2);
    }

    #[test]
    fn one_character_beyond_gsm7_makes_all_of_it_ucs2() {
        for letter in "’“…`çáíóúÀ\t😀".chars() {
            let text = format!("{}{letter}", "A".repeat(69));
            assert_eq!(first_beyond_gsm7(&text), Some(letter));
            check(&text, 1 + letter.len_utf16() - 1);
            check(&format!("{text}A"), 2);
        }
        for letter in "àèéìòùäöüñåæøÅÄÖÑÜÇßÆØÉ@#\n¿¡§".chars() {
            assert_eq!(first_beyond_gsm7(&letter.to_string()), None, "{letter}");
            check(&letter.to_string().repeat(160), 1);
        }
        let webotp = format!("{}\n\n@example.com #123456", "A".repeat(138));
        assert_eq!(first_beyond_gsm7(&webotp), None);
        check(&webotp, 1);
    }

    /// By the table's positions in the standard, and by trying all cuts.
    fn slow(text: &str) -> usize {
        const TABLE: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
            ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
        assert_eq!(TABLE.chars().count(), 128);
        let septets = |letter: char| match letter {
            '\u{1b}' => None,
            '\u{c}' | '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' | '€' => Some(2),
            _ => TABLE.chars().position(|known| known == letter).map(|_| 1),
        };
        let in_gsm7: Option<Vec<usize>> = text.chars().map(septets).collect();
        let (units, alone, part) = match in_gsm7 {
            Some(units) => (units, 160, 153),
            None => (text.chars().map(|letter| letter.to_string().encode_utf16().count()).collect(), 70, 67),
        };
        if units.iter().sum::<usize>() <= alone {
            return 1;
        }
        // fewest[i]: parts for the first i characters.
        let mut fewest = vec![0_usize];
        for end in 1..=units.len() {
            let best = (0..end).filter(|start| units[*start..end].iter().sum::<usize>() <= part);
            fewest.push(best.map(|start| fewest[start] + 1).min().unwrap());
        }
        fewest[units.len()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_count_is_that_of_a_slower_way(
            letters in proptest::collection::vec(
                prop_oneof![8 => Just('a'), 3 => Just('€'), 2 => proptest::char::range(' ', '~'), 1 => Just('é')],
                0..340,
            ),
            beyond in proptest::collection::vec((0_usize..340, prop_oneof![Just('😀'), Just('ж')]), 0..40),
            is_ucs2 in any::<bool>(),
        ) {
            let mut letters = letters;
            for (place, letter) in beyond.into_iter().filter(|_| is_ucs2) {
                letters.insert(place.min(letters.len()), letter);
            }
            let text: String = letters.into_iter().collect();
            prop_assert_eq!(count(&text), slow(&text), "{}", text);
        }
    }
}
