use std::num::NonZeroU32;

use super::*;
use crate::config::section::section;
use crate::config::tree::parse;
use crate::config::value::text::{Secret, Text, Whole};
use crate::config::value::time::Rate;
use crate::decision::time::Span;

section! {
    /// A section
    /// for tests.
    Sample "a sample" {
        /// It must be there.
        required "count" count: Whole<1, 100>;
        /// It may be there.
        optional "text" text: Text;
        /// It is there, if only by default.
        default("10ms") "timeout" timeout: Span;
        /// A list.
        default("[]") "rates" rates: Vec<Rate>;
        optional "flag" flag: bool;
        optional "secret" secret: Secret;
    }
}

fn read(text: &str, environment: &Environment) -> Result<Sample, Vec<String>> {
    let mut reader = Reader::new(environment, Path::new("."));
    let file = reader.source("x.yaml", text);
    let sample = Sample::read(&parse(file, text).root.unwrap(), &mut reader);
    match reader.into_parts().0.finish() {
        Ok(_) => Ok(sample.unwrap()),
        Err(problems) => Err(problems.brief().collect()),
    }
}

fn problems(text: &str) -> Vec<String> {
    read(text, &Environment::empty().with("S", "hunter2")).unwrap_err()
}

#[test]
fn reads_values_and_defaults() {
    let sample = read("{ count: 5, rates: [3/hour] }", &Environment::empty()).unwrap();
    assert_eq!(sample.count, Some(Whole(5)));
    assert_eq!(sample.text, Optional::Absent);
    assert_eq!(sample.timeout, Some(Span::from_millis(10)));
    let rate = Rate { count: NonZeroU32::new(3).unwrap(), per: Span::from_secs(3600) };
    assert_eq!(sample.rates, Some(vec![rate]));
    assert!(sample.flag.is_absent() && sample.secret.is_absent());
}

#[test]
fn every_mistake_is_told_in_one_run() {
    let text = "text: [a]\ntimout: 5s\ntimeout: 5\nrates: [3/hour, x, 5/fortnight]\nflag: yes\n";
    assert_eq!(
        problems(text),
        [
            "x.yaml:1:1: `count` is missing in a sample; add `count: …`",
            "x.yaml:1:7: text: expected a text, found a list",
            "x.yaml:2:1: timout: unknown key `timout` in a sample; did you mean `timeout`?",
            "x.yaml:3:10: timeout: the duration `5` has no unit; write 5s for seconds, 5m for minutes",
            "x.yaml:4:17: rates[1]: `x` is not a rate such as 3/hour, 2/min or 100/60s; \
             write how many in what time, as in 3/hour",
            "x.yaml:4:20: rates[2]: unknown unit of time `fortnight`; write ms, s, min, hour, day, week or month",
            "x.yaml:5:7: flag: `yes` is not true or false; write true",
        ]
    );
}

#[test]
fn variables_stand_for_any_kind_of_value() {
    let environment = Environment::empty().with("N", "60").with("B", "true").with("E", "");
    let text = "{ count: \"${N}\", flag: \"${B}\", text: \"a${E:-b}c\", timeout: \"${T:-30s}\" }";
    let sample = read(text, &environment).unwrap();
    assert_eq!((sample.count, sample.flag), (Some(Whole(60)), Optional::Given(true)));
    assert_eq!(sample.text, Optional::Given(Text("abc".into())));
    assert_eq!(sample.timeout, Some(Span::from_secs(30)));
}

#[test]
fn a_variable_cannot_add_keys() {
    let environment = Environment::empty().with("N", "x\nflag: true");
    let problems = read("{ count: 1, text: \"${N}\" }", &environment).unwrap_err();
    assert_eq!(problems, ["x.yaml:1:19: text: the value of ${N} is not a text"]);
}

#[test]
fn what_a_variable_holds_is_never_told() {
    for text in
        ["{ count: \"${S}\" }", "{ count: 1, timeout: \"${S}\" }", "{ count: 1, rates: [\"3/${S}\"] }"]
    {
        let told = problems(text).join("\n");
        assert!(told.contains("the value of ${S} is not"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert_eq!(
        problems("{ count: \"${UNSET}\" }"),
        ["x.yaml:1:10: count: the environment variable UNSET is not set; \
          set it, or give a default: ${UNSET:-value}"]
    );
}

#[test]
fn quotes_make_a_text_and_their_lack_a_number() {
    assert_eq!(
        problems("{ count: \"5\" }"),
        ["x.yaml:1:10: count: expected a whole number from 1 to 100, found a text in quotes; \
          remove the quotes"]
    );
    assert_eq!(
        problems("{ count: 5, text: 1e3 }"),
        ["x.yaml:1:19: text: expected a text, found a bare `1e3`; write \"1e3\" in quotes"]
    );
    assert_eq!(
        problems("count: 5\ntext:\n"),
        ["x.yaml:2:5: text: expected a text, found nothing; give it a value, or remove the key"]
    );
    let told = problems("{ count: 5, secret: 123456 }").join("\n");
    assert!(!told.contains("123456"), "{told}");
}

#[test]
fn a_file_reference_reads_the_file_without_its_last_line_break() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
    let environment = Environment::empty();
    let mut reader = Reader::new(&environment, folder.path());
    let text = "{ count: 1, text: \"${file:secret}\" }";
    let file = reader.source("x.yaml", text);
    let sample = Sample::read(&parse(file, text).root.unwrap(), &mut reader).unwrap();
    assert_eq!(sample.text, Optional::Given(Text("hunter2".into())));
    let (_, files) = reader.into_parts();
    assert_eq!(files[0].path(), folder.path().join("secret"));
}

#[test]
fn a_missing_file_is_told_and_still_watched() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::empty();
    let mut reader = Reader::new(&environment, folder.path());
    let text = "{ count: 1, text: \"${file:nowhere}\" }";
    let file = reader.source("x.yaml", text);
    let sample = Sample::read(&parse(file, text).root.unwrap(), &mut reader).unwrap();
    assert_eq!((sample.count, sample.text), (Some(Whole(1)), Optional::Faulty));
    let (findings, files) = reader.into_parts();
    let told = findings.finish().unwrap_err().to_string();
    assert!(told.contains("cannot read the file `nowhere`"), "{told}");
    assert_eq!(files.len(), 1);
}

#[test]
fn the_schema_says_what_the_reader_does() {
    let mut definitions = Definitions::default();
    assert_eq!(Sample::schema(&mut definitions), json!({ "$ref": "#/$defs/Sample" }));
    let sample = &definitions.into_json()["Sample"];
    assert_eq!(sample["description"], "A section for tests.");
    assert_eq!(sample["required"], json!(["count"]));
    assert_eq!(sample["additionalProperties"], json!(false));
    assert_eq!(sample["properties"]["timeout"]["default"], "10ms");
    assert_eq!(sample["properties"]["rates"]["default"], json!([]));
    assert_eq!(sample["properties"]["text"]["description"], "It may be there.");
    assert_eq!(sample["properties"]["count"]["anyOf"][0]["maximum"], 100);
}

#[test]
fn a_misspelled_key_is_not_told_as_missing_too() {
    assert_eq!(
        problems("{ cuont: 5 }"),
        ["x.yaml:1:3: cuont: unknown key `cuont` in a sample; did you mean `count`?"]
    );
}
