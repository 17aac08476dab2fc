use std::collections::BTreeSet;

use super::*;
use crate::decision::limit::Mode;

fn check(metrics: &Metrics, line: &str) {
    let text = metrics.render();
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

fn login(metrics: &Metrics) -> RouteMetrics {
    let limits = [
        LimitLabels { policy: "login", key: "ip", windows: &["burst", "hourly"] },
        LimitLabels { policy: "login", key: "body.email", windows: &["daily"] },
    ];
    metrics.route("login", &limits)
}

#[test]
fn verdicts_are_counted_by_route() {
    let metrics = Metrics::new().unwrap();
    let route = login(&metrics);
    route.count(Verdict::Admitted);
    route.count(Verdict::Admitted);
    route.count(Verdict::Denied);
    check(&metrics, r#"tollgate_requests_total{route="login",verdict="admitted"} 2"#);
    check(&metrics, r#"tollgate_requests_total{route="login",verdict="denied"} 1"#);
    check(&metrics, r#"tollgate_requests_total{route="login",verdict="body_refused"} 0"#);
}

#[test]
fn verdicts_stand_at_their_own_place_under_their_own_label() {
    for (index, verdict) in Verdict::ALL.into_iter().enumerate() {
        assert_eq!(verdict as usize, index, "{verdict:?}");
    }
    let labels: BTreeSet<_> = Verdict::ALL.into_iter().map(Verdict::label).collect();
    assert_eq!(labels.len(), Verdict::ALL.len());
    for (index, failure) in UpstreamFailure::ALL.into_iter().enumerate() {
        assert_eq!(failure as usize, index, "{failure:?}");
    }
}

#[test]
fn refusals_are_counted_by_limit_window_and_mode() {
    let metrics = Metrics::new().unwrap();
    let route = login(&metrics);
    route.refused(0, 1, Mode::Enforce);
    route.refused(1, 0, Mode::Shadow);
    route.kept_out(1, KeptOut::Block, Mode::Enforce);
    let line = |key, window, mode, count| {
        format!(
            r#"tollgate_refusals_total{{key="{key}",mode="{mode}",policy="login",route="login",window="{window}"}} {count}"#
        )
    };
    check(&metrics, &line("ip", "hourly", "enforce", 1));
    check(&metrics, &line("ip", "burst", "enforce", 0));
    check(&metrics, &line("body.email", "daily", "shadow", 1));
    check(&metrics, &line("body.email", "block", "enforce", 1));
}

#[test]
fn indexes_out_of_range_count_nothing() {
    let metrics = Metrics::new().unwrap();
    let route = login(&metrics);
    let before = refusals(&metrics);
    route.refused(0, 2, Mode::Enforce);
    route.refused(2, 0, Mode::Enforce);
    route.refused(usize::MAX, usize::MAX, Mode::Shadow);
    route.kept_out(2, KeptOut::Block, Mode::Enforce);
    assert_eq!(refusals(&metrics), before);
}

fn refusals(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render();
    text.lines().filter(|line| line.starts_with("tollgate_refusals")).map(str::to_owned).collect()
}

#[test]
fn labels_that_join_to_the_same_text_stay_apart() {
    let metrics = Metrics::new().unwrap();
    let count = |policy, key, times: u32| {
        let route = metrics.route("r", &[LimitLabels { policy, key, windows: &["w"] }]);
        (0..times).for_each(|_| route.refused(0, 0, Mode::Enforce));
    };
    count("ab", "c", 1);
    count("a", "bc", 2);
    for (policy, key, times) in [("ab", "c", 1), ("a", "bc", 2)] {
        check(
            &metrics,
            &format!(
                r#"tollgate_refusals_total{{key="{key}",mode="enforce",policy="{policy}",route="r",window="w"}} {times}"#
            ),
        );
    }
}

#[test]
fn a_route_that_stays_keeps_its_counts_and_one_that_goes_leaves_no_series() {
    let metrics = Metrics::new().unwrap();
    login(&metrics).count(Verdict::Limited);
    metrics.route("old", &[]).count(Verdict::Limited);
    metrics.upstream("auth").failed(UpstreamFailure::Connect);
    metrics.upstream("gone").answered(200, Duration::from_millis(3));

    login(&metrics);
    metrics.retain(&["login"], &["auth"]);

    check(&metrics, r#"tollgate_requests_total{route="login",verdict="limited"} 1"#);
    check(&metrics, r#"tollgate_upstream_failures_total{kind="connect",upstream="auth"} 1"#);
    let text = metrics.render();
    assert!(!text.contains(r#"route="old""#), "{text}");
    assert!(!text.contains(r#"upstream="gone""#), "{text}");
}

#[test]
fn answers_are_counted_by_class_and_time() {
    let metrics = Metrics::new().unwrap();
    let upstream = metrics.upstream("auth");
    for status in [200, 204, 401, 503, 0, 99, 600, u16::MAX] {
        upstream.answered(status, Duration::from_millis(3));
    }
    for (class, count) in [("1xx", 0), ("2xx", 2), ("3xx", 0), ("4xx", 1), ("5xx", 1), ("other", 4)] {
        check(
            &metrics,
            &format!(r#"tollgate_upstream_responses_total{{class="{class}",upstream="auth"}} {count}"#),
        );
    }
    check(&metrics, r#"tollgate_upstream_seconds_bucket{upstream="auth",le="0.0025"} 0"#);
    check(&metrics, r#"tollgate_upstream_seconds_bucket{upstream="auth",le="0.005"} 8"#);
}

#[test]
fn decisions_fall_into_buckets_of_less_than_a_microsecond() {
    let metrics = Metrics::new().unwrap();
    metrics.decided(Duration::from_nanos(200));
    metrics.decided(Duration::from_nanos(300));
    check(&metrics, r#"tollgate_decision_seconds_bucket{le="0.00000025"} 1"#);
    check(&metrics, r#"tollgate_decision_seconds_bucket{le="0.0000005"} 2"#);
    check(&metrics, r#"tollgate_decision_seconds_bucket{le="0.025"} 2"#);
    check(&metrics, "tollgate_decision_seconds_count 2");
}

#[test]
fn reloads_are_counted_and_dated_by_result() {
    let metrics = Metrics::new().unwrap();
    check(&metrics, r#"tollgate_config_reloads_total{result="failed"} 0"#);
    metrics.reload_succeeded(Timestamp::from_millis(1_500));
    metrics.reload_failed(Timestamp::from_millis(2_000));
    metrics.reload_failed(Timestamp::from_millis(3_000));
    check(&metrics, r#"tollgate_config_reloads_total{result="ok"} 1"#);
    check(&metrics, r#"tollgate_config_reloads_total{result="failed"} 2"#);
    check(&metrics, r#"tollgate_config_last_reload_timestamp_seconds{result="ok"} 1.5"#);
    check(&metrics, r#"tollgate_config_last_reload_timestamp_seconds{result="failed"} 3"#);
}

#[test]
fn the_store_shows_how_full_it_is() {
    let metrics = Metrics::new().unwrap();
    metrics.set_store(StoreGauges { keys: 3, keys_max: 1_000_000, overflow_keys: 1, blocks: 2 });
    metrics.overflowed();
    check(&metrics, "tollgate_store_keys 3");
    check(&metrics, "tollgate_store_keys_max 1000000");
    check(&metrics, "tollgate_store_overflow_keys 1");
    check(&metrics, "tollgate_store_blocks 2");
    check(&metrics, "tollgate_store_overflows_total 1");
}

#[test]
fn the_journal_counts_by_its_own_words() {
    let metrics = Metrics::new().unwrap();
    let journal = metrics.journal();
    journal.set_up(true);
    journal.dropped(Dropped::Events, 3);
    journal.dropped(Dropped::Blocks, 2);
    journal.wrote(3);
    journal.wrote(JournalMetrics::KINDS.len());
    journal.block_started(1);
    journal.set_blocks([4, 0, 0, 1]);
    journal.committed(Duration::from_millis(3));
    check(&metrics, "tollgate_journal_up 1");
    check(&metrics, r#"tollgate_journal_dropped_total{what="events"} 3"#);
    check(&metrics, r#"tollgate_journal_dropped_total{what="blocks"} 2"#);
    check(&metrics, r#"tollgate_journal_events_total{kind="failure"} 1"#);
    check(&metrics, r#"tollgate_journal_events_total{kind="limited"} 0"#);
    check(&metrics, r#"tollgate_blocks_started_total{reason="failures"} 1"#);
    check(&metrics, r#"tollgate_blocks{reason="limit"} 4"#);
    check(&metrics, r#"tollgate_blocks{reason="operator"} 1"#);
    check(&metrics, r#"tollgate_journal_commit_seconds_bucket{le="0.005"} 1"#);
}

#[test]
fn every_metric_has_help_a_type_and_no_name_twice() {
    let metrics = Metrics::new().unwrap();
    login(&metrics);
    metrics.upstream("auth");
    let text = metrics.render();
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let distinct: BTreeSet<_> = types.iter().collect();
    assert_eq!(types.len(), distinct.len());
    for line in types {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
    }
    check(&metrics, &format!(r#"tollgate_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_name_from_the_configuration_cannot_break_the_format() {
    let metrics = Metrics::new().unwrap();
    metrics.route("a\"b\\c\nd", &[]).count(Verdict::Admitted);
    check(&metrics, r#"tollgate_requests_total{route="a\"b\\c\nd",verdict="admitted"} 1"#);
}

#[test]
fn codes_are_counted_by_what_became_of_them() {
    let metrics = Metrics::new().unwrap();
    let sms = metrics.sms();
    sms.otp_asked("sms", "accepted");
    sms.otp_verification("verified");
    sms.fraud_finding("number_run", "monitor");
    check(&metrics, r#"tollgate_otp_sends_total{channel="sms",outcome="accepted"} 1"#);
    check(&metrics, r#"tollgate_otp_verifications_total{result="verified"} 1"#);
    check(&metrics, r#"tollgate_otp_fraud_findings_total{kind="number_run",mode="monitor"} 1"#);
}

#[test]
fn a_provider_counts_under_its_own_labels_alone() {
    let metrics = Metrics::new().unwrap();
    let labels = ProviderLabels {
        name: "a",
        channels: &["sms"],
        outcomes: &["accepted"],
        states: &["delivered"],
        currency: Some("USD"),
        others: &["b"],
    };
    let provider = metrics.sms().provider(&labels);
    provider.sent("sms", "made up");
    provider.sent("made up", "accepted");
    provider.reported("made up");
    provider.took_over_from("made up");
    assert!(!metrics.render().contains("made up"));
    provider.spent(1_500_000);
    check(&metrics, r#"tollgate_sms_cost_total{currency="USD",provider="a"} 1.5"#);
    metrics.sms().retain(&["a"]);
    assert!(!metrics.render().contains(r#"from="b""#), "the other one has gone");
}
