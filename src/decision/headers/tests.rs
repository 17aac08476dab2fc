use std::num::NonZeroU32;

use super::*;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{OnStoreError, Smooth, Window, Windows};
use crate::decision::time::Span;

fn limit(key: KeyPart, windows: &[(&str, u32, u64)]) -> Limit {
    let list = windows.iter().map(|&(label, max, span_s)| Window {
        label: label.into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_secs(span_s),
    });
    let key = KeySpec { parts: [key].into_iter().collect(), form: Form::Text, missing: Missing::Ip };
    Limit {
        id: LimitId::derive(&["l"]),
        policy: "p".into(),
        shown: if key.is_the_senders_own() { Shown::Quota } else { Shown::RetryAfter },
        key,
        rule: Rule::Windows(Windows::new(list.collect(), NonZeroU32::MIN).unwrap()),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

fn written(quota: &Quota, names: &QuotaNames, style: HeaderStyle, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    write(quota, names, style, now, |name, value| {
        lines.push(format!("{}: {}", name.name(), std::str::from_utf8(value).unwrap()))
    });
    lines
}

const BOTH: HeaderStyle = HeaderStyle { legacy: LegacyHeaders::ResetEpoch, ietf: IetfHeaders::On };

#[test]
fn both_families_in_their_units() {
    let limits = [limit(KeyPart::Ip, &[("burst", 2, 60), ("hourly", 3, 3600)])];
    let names = QuotaNames::of(&limits);
    let now = Timestamp::from_millis(1_000_000_500);
    let of = WindowIndex { limit: 0, window: 1 };
    let quota = Quota { of, limit: 3, remaining: 1, resets_at: now.plus(Span::from_millis(41_200)) };
    assert_eq!(
        written(&quota, &names, BOTH, now),
        [
            "x-ratelimit-limit: 3",
            "x-ratelimit-remaining: 1",
            "x-ratelimit-reset: 1000042",
            "ratelimit: \"hourly\";r=1;t=42",
            "ratelimit-policy: \"burst\";q=2;w=60, \"hourly\";q=3;w=3600",
        ]
    );
    let delta = HeaderStyle { legacy: LegacyHeaders::ResetDelta, ietf: IetfHeaders::Off };
    assert_eq!(
        written(&quota, &names, delta, now),
        ["x-ratelimit-limit: 3", "x-ratelimit-remaining: 1", "x-ratelimit-reset: 42"]
    );
    let off = HeaderStyle { legacy: LegacyHeaders::Off, ietf: IetfHeaders::Off };
    assert!(written(&quota, &names, off, now).is_empty());
}

#[test]
fn the_policy_lists_what_is_shown_and_names_it_apart() {
    let mut hidden = limit(
        KeyPart::Body(crate::decision::key::FieldPath::parse("email").unwrap()),
        &[("daily", 9, 86_400)],
    );
    let shadow = Limit { mode: Mode::Shadow, ..limit(KeyPart::Global, &[("all", 5, 1)]) };
    let smooth = Smooth { burst: NonZeroU32::new(100).unwrap(), replenish_one_ns: 20_000_000 };
    let smooth = Limit { rule: Rule::Smooth(smooth), ..limit(KeyPart::Ip, &[("x", 1, 1)]) };
    hidden.shown = Shown::RetryAfter;
    let limits = [
        limit(KeyPart::Ip, &[("daily", 9, 86_400)]),
        limit(KeyPart::User, &[("daily", 7, 86_400)]),
        hidden,
        shadow,
        smooth,
    ];
    let names = QuotaNames::of(&limits);
    let expected = "\"ip-daily\";q=9;w=86400, \"user-daily\";q=7;w=86400, \"smooth\";q=100;w=2";
    assert_eq!(names.policy.as_ref().unwrap(), expected);
    assert_eq!(names.name(WindowIndex { limit: 1, window: 0 }), "\"user-daily\"");
    assert!(QuotaNames::of(&limits[2..4]).policy.is_none());
}

#[test]
fn a_label_is_always_a_valid_string() {
    assert_eq!(&*quote("a\"b\\c\u{e9}\n"), "\"a_b_c__\"");
}
