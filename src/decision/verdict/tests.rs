use std::num::NonZeroU32;

use smallvec::smallvec;

use super::*;
use crate::decision::answer::LimitedAnswer;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{OnStoreError, Window, Windows};
use crate::decision::path::RiskyBytes;
use crate::decision::policy::{OverrideHeaders, RouteSpec, Target, UpstreamIndex};
use crate::decision::route::{HostPattern, LetterCase, Methods, PathPattern, RoutePattern, TrailingSlash};
use crate::decision::tally::WindowTally;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn limit(windows: &[(u32, u64)]) -> Limit {
    let list = windows.iter().enumerate().map(|(index, &(max, span_s))| Window {
        label: format!("w{index}").into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_secs(span_s),
    });
    Limit {
        id: LimitId::derive(&["l"]),
        policy: "p".into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule: Rule::Windows(Windows::new(list.collect(), NonZeroU32::MIN).unwrap()),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::Quota,
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

fn route(limits: Vec<Limit>) -> Route {
    Route::new(RouteSpec {
        name: "r".into(),
        pattern: RoutePattern {
            host: HostPattern::Any,
            methods: Methods::Any,
            path: PathPattern::parse("/").unwrap(),
            letter_case: LetterCase::Ignored,
            trailing_slash: TrailingSlash::Ignored,
        },
        target: Target::Upstream(UpstreamIndex(0)),
        limits,
        rejects: Vec::new(),
        allowed_risky: RiskyBytes::NONE,
        override_headers: OverrideHeaders::Stripped,
        limited: LimitedAnswer::default(),
        failure: None,
        suspect: None,
    })
}

fn at(s: u64) -> Timestamp {
    NOW.plus(Span::from_secs(s))
}

fn tally(judgement: Judgement, windows: &[(u32, u64)]) -> Tally {
    let windows = windows
        .iter()
        .map(|&(used, frees_s)| WindowTally { used, frees_at: (used > 0).then(|| at(frees_s)) });
    Tally { judgement, windows: windows.collect(), held: None }
}

fn tallies(list: &[Tally]) -> Tallies {
    Tallies { list: list.iter().cloned().collect(), shared: 0 }
}

fn quota(limit: u8, window: u8, max: u32, remaining: u32, resets_at: Timestamp) -> Option<Quota> {
    Some(Quota { of: WindowIndex { limit, window }, limit: max, remaining, resets_at })
}

fn limited(conclusion: Conclusion) -> Limited {
    match conclusion.outcome.unwrap_err() {
        Refused::Limited(limited) => limited,
        Refused::Undecided { .. } => panic!("a limit was not asked"),
    }
}

#[test]
fn an_admitted_request_shows_its_tightest_window_after_the_charge() {
    let route = route(vec![limit(&[(2, 60), (3, 3600)]), limit(&[(100, 60)])]);
    let seen =
        tallies(&[tally(Judgement::Admits, &[(0, 0), (2, 900)]), tally(Judgement::Admits, &[(5, 30)])]);
    let permit = conclude(&route, &[0, 1], &seen, NOW).outcome.unwrap();
    assert_eq!(permit.quota().copied(), quota(0, 1, 3, 0, at(900)));
    assert_eq!(permit.grounds(), Grounds::Charged);
}

#[test]
fn the_first_charge_of_a_window_returns_after_its_span() {
    let route = route(vec![limit(&[(2, 60)])]);
    let permit =
        conclude(&route, &[0], &tallies(&[tally(Judgement::Admits, &[(0, 0)])]), NOW).outcome.unwrap();
    assert_eq!(permit.quota().copied(), quota(0, 0, 2, 1, at(60)));
}

#[test]
fn a_refusal_waits_for_the_slowest_of_all_that_refuse() {
    let route = route(vec![limit(&[(2, 60), (3, 3600)]), limit(&[(1, 86_400)])]);
    let by_window = Judgement::Exceeded { window: 0, retry_at: at(10) };
    let until = at(500);
    let seen = tallies(&[
        tally(by_window, &[(2, 10), (2, 900)]),
        tally(Judgement::Blocked { until, began: None }, &[]),
    ]);
    let limited = limited(conclude(&route, &[0, 1], &seen, NOW));
    assert_eq!((limited.cause, limited.retry_at), (Cause::Block { limit: 1 }, until));
    assert_eq!(limited.quota, quota(0, 0, 2, 0, at(10)));
    assert_eq!(limited.all.len(), 2);
}

#[test]
fn a_refused_request_shows_quotas_uncharged() {
    let route = route(vec![limit(&[(9, 60)]), limit(&[(5, 60)])]);
    let hidden = Limit { shown: Shown::RetryAfter, ..route.limits()[1].clone() };
    let route = self::route(vec![route.limits()[0].clone(), hidden]);
    let exceeded = Judgement::Exceeded { window: 0, retry_at: at(20) };
    let seen = tallies(&[tally(Judgement::Admits, &[(4, 30)]), tally(exceeded, &[(5, 20)])]);
    let limited = limited(conclude(&route, &[0, 1], &seen, NOW));
    assert_eq!(limited.quota, quota(0, 0, 9, 5, at(30)), "the hidden limit is not shown");
}

#[test]
fn a_limit_that_could_not_be_asked_refuses_unless_another_is_known_to() {
    let route = route(vec![limit(&[(2, 60)]), limit(&[(5, 60)])]);
    let undecided = || Tally { judgement: Judgement::Undecided { retry_at: at(2) }, ..Tally::unasked() };
    let seen = tallies(&[tally(Judgement::Admits, &[(0, 0)]), undecided()]);
    let refused = conclude(&route, &[0, 1], &seen, NOW).outcome.unwrap_err();
    assert_eq!(refused, Refused::Undecided { limit: 1, retry_at: at(2) });

    let exceeded = Judgement::Exceeded { window: 0, retry_at: at(20) };
    let seen = tallies(&[tally(exceeded, &[(2, 20)]), undecided()]);
    assert_eq!(limited(conclude(&route, &[0, 1], &seen, NOW)).retry_at, at(20));

    let shadow = Limit { mode: Mode::Shadow, ..limit(&[(1, 60)]) };
    let seen = tallies(&[undecided()]);
    assert!(conclude(&self::route(vec![shadow]), &[0], &seen, NOW).outcome.is_ok());
}

#[test]
fn a_shadow_limit_is_reported_and_does_not_refuse() {
    let shadow = Limit { mode: Mode::Shadow, ..limit(&[(1, 60)]) };
    let route = route(vec![shadow]);
    let exceeded = Judgement::Exceeded { window: 0, retry_at: at(20) };
    let conclusion = conclude(&route, &[0], &tallies(&[tally(exceeded, &[(1, 20)])]), NOW);
    assert_eq!(conclusion.outcome.unwrap().quota(), None);
    let shadowed: SmallVec<[Cause; 1]> = smallvec![Cause::Window(WindowIndex { limit: 0, window: 0 })];
    assert_eq!(conclusion.shadowed, shadowed);
}

#[test]
fn without_charges_there_is_nothing_to_show() {
    let permit = conclude(&route(vec![]), &[], &Tallies::default(), NOW).outcome.unwrap();
    assert_eq!(permit.quota(), None);
}
