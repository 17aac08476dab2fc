//! Durations (`30s`) and rates (`3/hour`).

use std::num::NonZeroU32;

use serde_json::{Value as Json, json};

use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::Scalar;
use crate::config::section::nearest;
use crate::decision::time::Span;

/// So many events in a length of time: `3/hour`, `100/60s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) count: NonZeroU32,
    pub(crate) per: Span,
}

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 24 * 60 * 60 * SECOND_MS;

/// Milliseconds, the sign, and the words. A month is 30 days; there is no short form of it, for
/// `m` is a minute.
const UNITS: [(u64, &[&str]); 7] = [
    (1, &["ms"]),
    (SECOND_MS, &["s", "sec", "second"]),
    (60 * SECOND_MS, &["m", "min", "minute"]),
    (60 * 60 * SECOND_MS, &["h", "hour"]),
    (DAY_MS, &["d", "day"]),
    (7 * DAY_MS, &["w", "week"]),
    (30 * DAY_MS, &["month"]),
];

/// No duration is longer; windows have a limit of their own.
const SPAN_MAX: Span = Span::from_secs(366 * 86_400);

impl Scalar for Span {
    const EXPECTED: &'static str = "a duration such as 30s, 10m or 2h";

    fn parse(text: &str) -> Result<Span, Wrong> {
        let (number, unit) = split_number(text);
        if number.is_empty() {
            return Err(Wrong::new(format!("`{}` is not {}", shortened(text), Span::EXPECTED)));
        }
        if unit.is_empty() {
            let shown = shortened(text);
            return Err(Wrong::new(format!("the duration `{shown}` has no unit"))
                .write(format!("write {shown}s for seconds, {shown}m for minutes")));
        }
        let span = multiple(number, unit_ms(unit)?, text)?;
        match span {
            Span::ZERO => {
                Err(Wrong::new("a duration must be longer than nothing").write("write 1ms or more"))
            }
            span if span > SPAN_MAX => {
                Err(Wrong::new(format!("`{}` is longer than a year", shortened(text))))
            }
            span => Ok(span),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+[a-z]+$", "examples": ["500ms", "30s", "10m", "2h", "7d"] })
    }
}

impl Scalar for Rate {
    const EXPECTED: &'static str = "a rate such as 3/hour, 2/min or 100/60s";

    fn parse(text: &str) -> Result<Rate, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), Rate::EXPECTED));
        let Some((count, per)) = text.split_once('/') else {
            return Err(wrong().write("write how many in what time, as in 3/hour"));
        };
        let (count, after) = split_number(count);
        if count.is_empty() || !after.is_empty() {
            return Err(wrong().write("begin with how many, as in 3/hour"));
        }
        let count = match count.parse::<u32>().map(NonZeroU32::new) {
            Ok(Some(count)) => count,
            Ok(None) => {
                return Err(Wrong::new("a rate of 0 would refuse everything")
                    .write("to shut a client out write it into access.deny"));
            }
            Err(_) => return Err(Wrong::new(format!("`{}` counts too far", shortened(text)))),
        };
        let (number, unit) = split_number(per);
        if unit.is_empty() {
            return Err(wrong().write("say in what time, as in 3/hour or 3/5m"));
        }
        let unit_ms = unit_ms(unit)?;
        let number = if number.is_empty() { "1" } else { number };
        match multiple(number, unit_ms, text)? {
            Span::ZERO => Err(Wrong::new(format!("the time in `{}` is nothing", shortened(text)))),
            per => Ok(Rate { count, per }),
        }
    }

    fn own_schema() -> Json {
        json!({
            "type": "string",
            "pattern": "^[0-9]+/[0-9]*[a-z]+$",
            "examples": ["2/min", "3/hour", "10/day", "1000/month", "3/5m", "100/60s"],
        })
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn multiple(number: &str, unit_ms: u64, text: &str) -> Result<Span, Wrong> {
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    ms.map(Span::from_millis).ok_or_else(|| Wrong::new(format!("`{}` is too long a time", shortened(text))))
}

fn unit_ms(unit: &str) -> Result<u64, Wrong> {
    let singular = match unit.strip_suffix('s') {
        Some(singular) if singular.len() > 2 => singular,
        Some(_) | None => unit,
    };
    let found = UNITS.iter().find(|(_, words)| words.contains(&singular));
    found.map(|(ms, _)| *ms).ok_or_else(|| {
        let words = UNITS.iter().flat_map(|(_, words)| words.iter().copied()).filter(|word| word.len() > 2);
        let wrong = Wrong::new(format!("unknown unit of time `{}`", shortened(unit)));
        match nearest(unit, words) {
            Some(near) => wrong.write(format!("did you mean `{near}`?")),
            None => wrong.write("write ms, s, min, hour, day, week or month"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_in_every_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("10min", 600_000),
            ("2h", 7_200_000),
            ("7d", 7 * DAY_MS),
            ("2w", 14 * DAY_MS),
            ("1month", 30 * DAY_MS),
            ("2hours", 7_200_000),
            ("366d", 366 * DAY_MS),
        ] {
            assert_eq!(Span::parse(text), Ok(Span::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn reads_rates_in_every_spelling() {
        let check = |text: &str, count: u32, s: u64| {
            let rate = Rate::parse(text).unwrap();
            assert_eq!((rate.count.get(), rate.per), (count, Span::from_secs(s)), "{text}");
        };
        check("3/hour", 3, 3600);
        check("2/min", 2, 60);
        check("10/day", 10, 86_400);
        check("1000/month", 1000, 30 * 86_400);
        check("3/5m", 3, 300);
        check("100/60s", 100, 60);
        check("50/s", 50, 1);
        check("5/2hours", 5, 7200);
        check("5/weeks", 5, 7 * 86_400);
        check("4294967295/second", u32::MAX, 1);
    }

    #[test]
    fn says_what_is_wrong_with_a_time() {
        let what = |wrong: Wrong| format!("{}; {}", wrong.what, wrong.fix.unwrap_or_default());
        let span = |text| what(Span::parse(text).unwrap_err());
        let rate = |text| what(Rate::parse(text).unwrap_err());
        assert_eq!(span("30"), "the duration `30` has no unit; write 30s for seconds, 30m for minutes");
        assert_eq!(span("0s"), "a duration must be longer than nothing; write 1ms or more");
        assert_eq!(span("99999999999999999999h"), "`99999999999999999999h` is too long a time; ");
        assert_eq!(span("400d"), "`400d` is longer than a year; ");
        assert_eq!(span("soon"), "`soon` is not a duration such as 30s, 10m or 2h; ");
        assert_eq!(span("1.5h"), "unknown unit of time `.5h`; write ms, s, min, hour, day, week or month");
        assert_eq!(
            rate("5/fortnight"),
            "unknown unit of time `fortnight`; write ms, s, min, hour, day, week or month"
        );
        assert_eq!(rate("5/huor"), "unknown unit of time `huor`; did you mean `hour`?");
        assert_eq!(
            rate("0/hour"),
            "a rate of 0 would refuse everything; to shut a client out write it into access.deny"
        );
        assert!(rate("hour").starts_with("`hour` is not a rate"));
        assert!(rate("3").contains("write how many in what time"));
        assert!(rate("3/").contains("say in what time"));
        assert!(rate("3/60").contains("say in what time"));
        assert!(rate("-3/hour").contains("begin with how many"));
        assert!(rate("4294967296/hour").contains("counts too far"));
        assert!(rate("3/0s").contains("the time in `3/0s` is nothing"));
        assert!(rate("3/ hour").contains("unknown unit"));
    }
}
