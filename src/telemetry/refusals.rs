//! One line a refusal, and few of them under attack.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::lines::{LineBudget, cut};
use super::metrics::Verdict;
use crate::decision::time::Timestamp;
use crate::decision::trace::TraceId;

/// How much of a path is shown, bytes.
const PATH_MAX: usize = 256;
const METHOD_MAX: usize = 32;
/// So many digits in a row of nothing else make a phone number, and so many of them are shown.
const PHONE_DIGITS_MIN: usize = 7;
const PHONE_DIGITS_SHOWN: usize = 4;

/// Writes refusals to the log, at most so many a second.
pub struct RefusalLog {
    budget: LineBudget,
}

/// What a refusal says of itself. No field holds the value of a key.
#[derive(Clone, Copy, Debug)]
pub struct RefusalLine<'a> {
    pub route: &'a str,
    pub verdict: Verdict,
    pub status: u16,
    /// The policy of the limit that refused.
    pub policy: Option<&'a str>,
    /// What that limit counts by, or that rule looks at: `ip`, `body.email`.
    pub key: Option<&'a str>,
    pub window: Option<&'a str>,
    /// The rule that rejected, by its place in the route: `reject[0]`.
    pub rule: Option<&'a str>,
    pub retry_after_s: Option<u64>,
    pub client: IpAddr,
    pub method: &'a str,
    /// As the client sent it: shown without its query, cut, and without e-mails and phone numbers.
    pub path: &'a str,
    pub request_id: Option<&'a str>,
    pub trace: Option<TraceId>,
}

impl RefusalLog {
    pub fn new(lines_per_second: NonZeroU32) -> RefusalLog {
        RefusalLog { budget: LineBudget::new(lines_per_second) }
    }

    /// Writes the line, or counts it as suppressed.
    pub fn refused(&self, line: &RefusalLine<'_>, now: Timestamp) {
        self.report_suppressed(now);
        if !self.budget.admit(now) {
            return;
        }
        let trace = line.trace.map(|trace| trace.text());
        tracing::info!(
            route = line.route,
            verdict = line.verdict.label(),
            status = line.status,
            policy = line.policy,
            key = line.key,
            window = line.window,
            rule = line.rule,
            retry_after_s = line.retry_after_s,
            client = %line.client,
            method = cut(line.method, METHOD_MAX),
            path = shown(line.path).as_str(),
            request_id = line.request_id,
            trace_id = trace.as_ref().and_then(|trace| std::str::from_utf8(trace).ok()),
            "refused"
        );
    }

    /// Tells how many lines were suppressed, at most once a second. [`RefusalLog::refused`] does so
    /// by itself; to be called now and then, so that the last ones are told when an attack ends.
    pub fn report_suppressed(&self, now: Timestamp) {
        if let Some(count) = self.budget.take_suppressed(now) {
            tracing::warn!(count = count.get(), "suppressed {count} refusal lines");
        }
    }
}

/// A path may carry what must not be kept: tokens in its query, e-mails and phone numbers.
pub(super) fn shown(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let kept = cut(path, PATH_MAX);
    let mut shown = String::with_capacity(kept.len() + 4);
    for (index, segment) in kept.split('/').enumerate() {
        if index > 0 {
            shown.push('/');
        }
        push_masked(&mut shown, segment);
    }
    if kept.len() < path.len() {
        shown.push('…');
    }
    shown
}

fn push_masked(shown: &mut String, segment: &str) {
    let lower = segment.to_ascii_lowercase();
    if lower.contains('@') || lower.contains("%40") {
        shown.push_str("***");
        return;
    }
    let digits = lower.replace("%2b", "").replace("%20", "");
    let is_phone =
        digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | '(' | ')' | ' '))
            && digits.chars().filter(char::is_ascii_digit).count() >= PHONE_DIGITS_MIN;
    if is_phone {
        shown.push_str("***");
        shown.push_str(digits.get(digits.len() - PHONE_DIGITS_SHOWN..).unwrap_or_default());
    } else {
        shown.push_str(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::Span;
    use crate::telemetry::log::LogFormat;
    use crate::telemetry::log::testing::captured;

    fn line(path: &str) -> RefusalLine<'_> {
        RefusalLine {
            route: "login",
            verdict: Verdict::Limited,
            status: 429,
            policy: Some("login"),
            key: Some("body.email"),
            window: Some("hourly"),
            rule: None,
            retry_after_s: Some(37),
            client: IpAddr::from([192, 0, 2, 7]),
            method: "POST",
            path,
            request_id: Some("7c9e-1"),
            trace: None,
        }
    }

    fn log(lines_per_second: u32) -> RefusalLog {
        RefusalLog::new(NonZeroU32::new(lines_per_second).unwrap())
    }

    #[test]
    fn a_refusal_is_one_json_line_with_all_that_is_known() {
        let text = captured(LogFormat::Json, || log(10).refused(&line("/login"), Timestamp::default()));
        let value: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
        for (name, expected) in [
            ("level", "INFO"),
            ("message", "refused"),
            ("route", "login"),
            ("verdict", "limited"),
            ("policy", "login"),
            ("key", "body.email"),
            ("window", "hourly"),
            ("client", "192.0.2.7"),
            ("method", "POST"),
            ("path", "/login"),
            ("request_id", "7c9e-1"),
        ] {
            assert_eq!(value[name], expected, "{name} in {text}");
        }
        assert_eq!(value["status"], 429);
        assert_eq!(value["retry_after_s"], 37);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let denied = RefusalLine {
            policy: None,
            key: None,
            window: None,
            retry_after_s: None,
            verdict: Verdict::Denied,
            ..line("/x")
        };
        let text = captured(LogFormat::Json, || log(10).refused(&denied, Timestamp::default()));
        assert!(text.contains(r#""verdict":"denied""#), "{text}");
        assert!(!text.contains("policy") && !text.contains("retry_after"), "{text}");
    }

    #[test]
    fn an_attack_costs_so_many_lines_a_second_and_one_that_tells_the_rest() {
        let text = captured(LogFormat::Text, || {
            let log = log(5);
            for ms in 0..3000 {
                log.refused(&line("/login"), Timestamp::from_millis(1_000_000 + ms));
            }
            log.report_suppressed(Timestamp::from_millis(1_000_000).plus(Span::from_secs(10)));
        });
        let suppressed: Vec<_> = text.lines().filter(|line| line.contains("suppressed")).collect();
        let written = text.lines().count() - suppressed.len();
        assert!((10..=15).contains(&written), "{text}");
        assert!((3..=4).contains(&suppressed.len()), "{text}");
        let told: usize = suppressed.iter().map(|line| count_in(line)).sum();
        assert_eq!(told + written, 3000, "{text}");
    }

    fn count_in(line: &str) -> usize {
        let (_, count) = line.rsplit_once("count=").unwrap();
        count.trim().parse().unwrap()
    }

    #[test]
    fn no_byte_of_an_attacker_starts_a_line_or_steers_a_terminal() {
        let evil = "/a\r\n2026 INFO fake\u{1b}[2J\u{9b}31m\u{202e}x\u{7f}\" verdict=\"admitted";
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = captured(format, || {
                let line = RefusalLine { method: "P\u{1b}]0;x\u{7}", ..line(evil) };
                log(10).refused(&line, Timestamp::default());
            });
            let body = text.strip_suffix('\n').unwrap();
            assert!(!body.contains(char::is_control), "{body:?}");
            assert!(!body.contains('\u{202e}'), "{body:?}");
            assert!(!body.contains(r#" verdict="admitted"#), "{body}");
        }
    }

    #[test]
    fn a_path_is_shown_without_secrets_and_not_at_length() {
        let check = |path: &str, expected: &str| assert_eq!(shown(path), expected, "{path}");
        check("/api/login", "/api/login");
        check("/reset?token=s3cret", "/reset");
        check("/reset#x", "/reset");
        check("/users/alice@example.com/otp", "/users/***/otp");
        check("/users/alice%40example.com", "/users/***");
        check("/otp/+15551234567", "/otp/***4567");
        check("/otp/%2B15551234567/x", "/otp/***4567/x");
        check("/otp/(555)%20123-4567", "/otp/***4567");
        check("/orders/123456", "/orders/123456");
        check("/v2/a1b2c3d4e5f6", "/v2/a1b2c3d4e5f6");
        check("", "");
        assert_eq!(shown(&format!("/{}", "é".repeat(300))), format!("/{}…", "é".repeat(127)));
    }
}
