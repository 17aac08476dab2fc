use proptest::prelude::*;

use super::*;

const EN: &str = "{{ code }} is your {{ brand }} code. It expires in {{ minutes }} minutes. Do not share it.";

fn rules() -> TemplateRules {
    TemplateRules {
        brand: "Example".into(),
        webotp_domain: None,
        code_length: 6,
        ttl: Span::from_secs(600),
        segments_max: 1,
    }
}

fn compile(sources: &[(&str, &str)], rules: &TemplateRules) -> Result<Templates, Vec<TemplateFault>> {
    let sources = sources.iter().map(|(locale, source)| ((*locale).into(), (*source).into())).collect();
    Templates::compile(&sources, rules)
}

fn text(templates: &Templates, locale: Option<&str>, seconds: u64) -> String {
    let rendered = templates.render(locale, &"042137".into(), Duration::from_secs(seconds));
    rendered.text.expose_secret().to_owned()
}

/// The one fault of a template for `en`, in words.
fn wrong(source: &str, rules: &TemplateRules) -> String {
    let faults = compile(&[("en", source)], rules).map(|_| ()).unwrap_err();
    assert_eq!((faults.len(), &*faults[0].locale), (1, "en"), "{faults:?}");
    faults[0].wrong.to_string()
}

#[test]
fn a_text_says_the_code_and_how_long_it_is_good_for() {
    let templates = compile(&[("en", EN)], &rules()).unwrap();
    let expected = |minutes: u64| {
        format!("042137 is your Example code. It expires in {minutes} minutes. Do not share it.")
    };
    for (seconds, minutes) in [(600, 10), (599, 10), (541, 10), (540, 9), (61, 2), (60, 1), (1, 1), (0, 1)] {
        assert_eq!(text(&templates, None, seconds), expected(minutes), "{seconds} s");
    }
    // Longer than any code lives.
    assert_eq!(text(&templates, None, 6000), expected(10));
    assert_eq!(templates.render(None, &"042137".into(), Duration::MAX).segments, 1);
}

#[test]
fn a_template_can_tell_one_minute_from_several() {
    let source = "{{ code }}: {{ minutes }} minute{% if minutes != 1 %}s{% endif %}";
    let templates = compile(&[("en", source)], &rules()).unwrap();
    assert_eq!(text(&templates, None, 60), "042137: 1 minute");
    assert_eq!(text(&templates, None, 61), "042137: 2 minutes");
}

#[test]
fn a_locale_without_a_template_is_served_by_a_wider_one() {
    let sources = [("de", "{{ code }} de"), ("en", "{{ code }} en"), ("pt", "{{ code }} pt")];
    let more = [("pt-BR", "{{ code }} br"), ("zh-hant", "{{ code }} zh")];
    let templates = compile(&[&sources[..], &more[..]].concat(), &rules()).unwrap();
    let cases = [
        (Some("pt-BR"), "pt-BR"),
        (Some("PT-br"), "pt-BR"),
        (Some("pt_BR"), "pt-BR"),
        (Some("pt-BR-x-y"), "pt-BR"),
        (Some("pt-PT"), "pt"),
        (Some("zh-Hant-TW"), "zh-Hant"),
        (Some("zh"), "en"),
        (Some("fr-FR"), "en"),
        (Some(""), "en"),
        (Some("-"), "en"),
        (Some("d\u{e9}"), "en"),
        (None, "en"),
    ];
    for (asked, served) in cases {
        let rendered = templates.render(asked, &"042137".into(), Duration::from_secs(60));
        assert_eq!(&*rendered.locale, served, "{asked:?}");
    }
    assert_eq!(&*templates.render(Some(&"pt-".repeat(20)), &"1".into(), Duration::ZERO).locale, "en");
    assert_eq!(text(&templates, Some("pt-br"), 60), "042137 br");
    let without_en = compile(&sources[..1], &rules()).unwrap();
    assert_eq!(text(&without_en, Some("fr"), 60), "042137 de");
}

#[test]
fn the_last_line_binds_the_code_to_a_domain() {
    let rules = TemplateRules { webotp_domain: Some("auth.example.com".into()), ..rules() };
    let templates = compile(&[("en", "Your code: {{ code }}\n\n")], &rules).unwrap();
    assert_eq!(text(&templates, None, 60), "Your code: 042137\n\n@auth.example.com #042137");
}

#[test]
fn a_mistake_is_told_where_it_is() {
    let rules = rules();
    assert!(wrong("{{ code }}\n{{ brand ", &rules).starts_with("line 2: syntax error: "));
    assert_eq!(
        wrong("{{ code }}{% if minutes > 99 %}{{ nam }}{% endif %}", &rules),
        "unknown variable \"nam\"; there are code, brand, minutes"
    );
    assert_eq!(wrong("{{ code }}\n{{ brand.logo }}", &rules), "line 2: undefined value");
    assert!(wrong("{{ code }}{{ brand | shout }}", &rules).starts_with("line 1: "));
    assert_eq!(
        wrong("{{ code }}{% for i in range(99999) %}{{ i }}{% endfor %}", &rules),
        "line 1: it takes too long"
    );
}

#[test]
fn the_code_must_arrive_as_it_is() {
    for source in [
        "",
        "Your {{ brand }} code",
        "{{ code[:3] }}-{{ code[3:] }}",
        "{{ code }} {{ code[:3] }}",
        "{{ code }}{{ code }}",
        "{{ code[1:] }}",
        "1{{ code }}",
        "{{ code }}{{ minutes }}",
        "{% if minutes < 9 %}{{ code }}{% endif %}",
    ] {
        let told = wrong(source, &rules());
        assert_eq!(
            told, "the text does not hold {{ code }} in one piece, apart from other digits",
            "{source}"
        );
    }
    // As a number it would lose its leading zeros.
    assert!(wrong("{{ code | int }}", &rules()).starts_with("line 1: invalid operation: "));
    let shown = wrong("{{ code / 2 }}", &rules());
    assert!(!shown.contains(STAND_IN), "{shown}");
}

#[test]
fn controls_are_no_text() {
    assert_eq!(wrong("{{ code }}\u{0}x", &rules()), "the text holds the control character U+0000");
    assert_eq!(wrong("{{ code }}\rx", &rules()), "the text holds the control character U+000D");
    let bell = TemplateRules { brand: "Ding\u{7}".into(), ..rules() };
    assert_eq!(wrong("{{ code }} {{ brand }}", &bell), "the text holds the control character U+0007");
    let lines = compile(&[("en", "{{ code }}\r\nx")], &rules()).unwrap();
    assert_eq!(text(&lines, None, 1), "042137\nx");
}

#[test]
fn a_text_that_may_take_too_many_segments_is_refused() {
    // 154 characters beside the code.
    let tight = format!("{{{{ code }}}}{}", "x".repeat(154));
    assert!(compile(&[("en", &tight)], &rules()).is_ok());
    let longer = TemplateRules { code_length: 7, ..rules() };
    assert_eq!(wrong(&tight, &longer), "at its worst the text takes 2 segments, more than 1");
    // One minute fits, ten do not.
    let by_minutes = format!("{}{{{{ minutes }}}}", &tight[..tight.len() - 1]);
    assert_eq!(wrong(&by_minutes, &rules()), "at its worst the text takes 2 segments, more than 1");
    let short_lived = TemplateRules { ttl: Span::from_secs(540), ..rules() };
    assert!(compile(&[("en", &by_minutes)], &short_lived).is_ok());
    let bound = TemplateRules { webotp_domain: Some("a.io".into()), ..rules() };
    assert_eq!(wrong(&tight, &bound), "at its worst the text takes 2 segments, more than 1");
    let two = TemplateRules { segments_max: 2, ..bound };
    let templates = compile(&[("en", &tight)], &two).unwrap();
    assert_eq!(templates.render(None, &"042137".into(), Duration::ZERO).segments, 2);
    let quoted = format!("{{{{ code }}}} isn’t{}", "x".repeat(70));
    assert_eq!(
        wrong(&quoted, &rules()),
        "at its worst the text takes 2 segments, more than 1; '’' (U+2019) more than doubles them"
    );
    let endless = "{{ code }}{% for i in range(300) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        xxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}";
    assert!(wrong(endless, &rules()).starts_with("at its worst the text takes 3"));
}

#[test]
fn locales_are_language_tags_and_each_is_there_once() {
    let tags = [("en", "en"), ("PT-br", "pt-BR"), ("zh-HANT-tw", "zh-Hant-TW"), ("es-419", "es-419")];
    for (written, canonical) in tags {
        assert_eq!(canonical_tag(written).as_deref(), Some(canonical), "{written}");
    }
    assert_eq!(canonical_tag("sl-rozaj-biske-1994").as_deref(), Some("sl-rozaj-biske-1994"));
    assert_eq!(canonical_tag("de-DE-u-co-phonebk").as_deref(), Some("de-DE-u-CO-phonebk"));
    for written in
        ["", "e", "en_US", "en-", "-en", "en--us", "en-x", "en-a-b", "42", "en us", "fran\u{e7}ais"]
    {
        assert_eq!(canonical_tag(written), None, "{written}");
    }
    let faults = compile(&[("en_US", EN), ("pt-BR", EN), ("pt-br", EN), ("xx", "{{")], &rules()).unwrap_err();
    let told: Vec<String> = faults.iter().map(TemplateFault::to_string).collect();
    assert_eq!(told[0], "en_US: this is no language tag; write one such as en or pt-BR");
    assert_eq!(told[1], "pt-br: the same language as pt-BR, spelled otherwise");
    assert!(told[2].starts_with("xx: line 1: syntax error"), "{}", told[2]);
    assert_eq!(compile(&[], &rules()).unwrap_err()[0].wrong, Wrong::None);
}

#[test]
fn no_text_is_shown_by_debug() {
    let templates = compile(&[("en", EN)], &rules()).unwrap();
    let rendered = templates.render(None, &"042137".into(), Duration::ZERO);
    assert!(!format!("{rendered:?}").contains("042137"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is accepted holds the code, within its segments, at any time and for any locale.
    #[test]
    fn what_compiles_always_renders(
        pieces in proptest::collection::vec(prop_oneof![
            Just("{{ code }}"), Just("{{ brand }}"), Just("{{ minutes }}"), Just("{{ code[:2] }}"), Just("{{"),
            Just("{% if minutes > 5 %}"), Just("{% endif %}"), Just(" text "), Just("\n"), Just("’"), Just("}}"),
        ], 0..12),
        seconds in 0_u64..100_000,
        locale in "[a-zA-Z_-]{0,12}",
        segments_max in 1_u8..3,
    ) {
        let rules = TemplateRules { segments_max, ..rules() };
        if let Ok(templates) = compile(&[("en", &pieces.concat())], &rules) {
            let rendered = templates.render(Some(&locale), &"042137".into(), Duration::from_secs(seconds));
            let text = rendered.text.expose_secret();
            prop_assert!(text.contains("042137") && !text.contains(STAND_IN), "{}", text);
            prop_assert_eq!(usize::from(rendered.segments), segments::count(text));
            prop_assert!(rendered.segments <= segments_max);
        }
    }
}
