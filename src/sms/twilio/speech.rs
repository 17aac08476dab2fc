//! What a call says: the text, with its code digit by digit and a pause after each, twice.

/// The languages of the voice that every account has. Not verified beyond the list that older clients carry. What is in another
/// language is read as if it were English: the digits at least come out as digits.
const LANGUAGES: [&str; 26] = [
    "en-US", "ca-ES", "da-DK", "de-DE", "en-AU", "en-CA", "en-GB", "en-IN", "es-ES", "es-MX", "fi-FI",
    "fr-FR", "fr-CA", "it-IT", "ja-JP", "ko-KR", "nb-NO", "nl-NL", "pl-PL", "pt-BR", "pt-PT", "ru-RU",
    "sv-SE", "zh-CN", "zh-HK", "zh-TW",
];
const TIMES: usize = 2;

/// A document that says `text`; where the code is not in it, the code behind it.
pub(super) fn twiml(text: &str, code: &str, locale: &str) -> String {
    let (before, behind) = spoken(text, code);
    let open = format!("<Say language=\"{}\">", language(locale));
    let mut once = String::new();
    push_said(&mut once, &open, before);
    for digit in code.chars() {
        // One sentence for all of them would be read as a number, or faster than anybody writes.
        push_said(&mut once, &open, digit.encode_utf8(&mut [0; 4]));
        once.push_str("<Pause length=\"1\"/>");
    }
    push_said(&mut once, &open, behind);
    let all = vec![once; TIMES].join("<Pause length=\"2\"/>");
    format!("<Response>{all}</Response>")
}

/// The text before the code and behind it.
fn spoken<'t>(text: &'t str, code: &str) -> (&'t str, &'t str) {
    let text = match text.trim_end().rsplit_once('\n') {
        // The line by which browsers find a code, `@domain #code`, is for no ear.
        Some((said, last)) if last.starts_with('@') && last.contains('#') => said,
        Some(_) | None => text,
    };
    text.split_once(code).unwrap_or((text, ""))
}

/// Nothing if there is no letter or digit in the text.
fn push_said(document: &mut String, open: &str, text: &str) {
    let text = text.trim_matches(|letter: char| !letter.is_alphanumeric());
    if text.is_empty() {
        return;
    }
    document.push_str(open);
    for letter in text.chars() {
        match letter {
            '&' => document.push_str("&amp;"),
            '<' => document.push_str("&lt;"),
            '>' => document.push_str("&gt;"),
            // No other control character can stand in XML.
            letter if letter.is_control() => document.push(' '),
            letter => document.push(letter),
        }
    }
    document.push_str("</Say>");
}

/// The one of this language and region, else the first of the language, else English.
fn language(locale: &str) -> &'static str {
    let (first, last) = (locale.split('-').next().unwrap_or_default(), locale.rsplit('-').next());
    // Norwegian goes by three tags.
    let first = if matches!(first, "no" | "nn") { "nb" } else { first };
    let is_same = |known: &&&str| {
        known.split_once('-').is_some_and(|(language, region)| {
            language.eq_ignore_ascii_case(first) && last.is_some_and(|last| region.eq_ignore_ascii_case(last))
        })
    };
    let is_alike = |known: &&&str| known.split('-').next().is_some_and(|of| of.eq_ignore_ascii_case(first));
    let found = LANGUAGES.iter().find(is_same).or_else(|| LANGUAGES.iter().find(is_alike));
    found.unwrap_or(&LANGUAGES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_said_slowly_and_twice() {
        let once = "<Say language=\"pt-BR\">Seu código é</Say>\
            <Say language=\"pt-BR\">0</Say><Pause length=\"1\"/><Say language=\"pt-BR\">7</Say><Pause length=\"1\"/>\
            <Say language=\"pt-BR\">7</Say><Pause length=\"1\"/><Say language=\"pt-BR\">9</Say><Pause length=\"1\"/>\
            <Say language=\"pt-BR\">Vale 10 minutos</Say>";
        let expected = format!("<Response>{once}<Pause length=\"2\"/>{once}</Response>");
        let text = "Seu código é 0779. Vale 10 minutos.";
        assert_eq!(twiml(text, "0779", "pt-BR"), expected);
        assert_eq!(twiml(&format!("{text}\n\n@acme.example #0779"), "0779", "pt-br"), expected);
    }

    #[test]
    fn a_text_cannot_become_markup() {
        let said = twiml("</Say><Dial>+1</Dial> & \u{1}\"Co\" 12", "12", "en");
        assert!(said.starts_with("<Response><Say language=\"en-US\">Say&gt;&lt;Dial&gt;"), "{said}");
        assert!(said.contains("+1&lt;/Dial&gt; &amp;  \"Co</Say>"), "{said}");
    }

    #[test]
    fn a_code_that_the_text_leaves_out_comes_behind_it() {
        let said = twiml("Hello", "12", "en-GB");
        assert!(
            said.starts_with("<Response><Say language=\"en-GB\">Hello</Say><Say language=\"en-GB\">1</Say>")
        );
    }

    #[test]
    fn each_locale_has_a_voice() {
        for (locale, expected) in [
            ("de-DE", "de-DE"),
            ("de", "de-DE"),
            ("DE-at", "de-DE"),
            ("es-AR", "es-ES"),
            ("en", "en-US"),
            ("fr-ca", "fr-CA"),
            ("no", "nb-NO"),
            ("zh-Hant-TW", "zh-TW"),
            ("eo", "en-US"),
            ("", "en-US"),
        ] {
            assert_eq!(language(locale), expected, "{locale}");
        }
    }
}
