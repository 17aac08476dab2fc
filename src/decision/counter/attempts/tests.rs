use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::decision::ipset::IpSet;
use crate::decision::key::{FieldPath, Form, KeyPart, KeySpec, LimitId, Missing};
use crate::decision::limit::{Mode, OnStoreError, Shown, Window};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn at(ms: u64) -> Timestamp {
    START.plus(Span::from_millis(ms))
}

fn limit(rule: Rule, parts: &[KeyPart]) -> Limit {
    Limit {
        id: LimitId::derive(&["test"]),
        policy: "login".into(),
        key: KeySpec { parts: parts.iter().cloned().collect(), form: Form::Text, missing: Missing::Ip },
        rule,
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::RetryAfter,
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

fn account() -> [KeyPart; 2] {
    [KeyPart::Body(FieldPath::parse("username").unwrap()), KeyPart::Ip]
}

fn windows(list: &[(u32, u64)]) -> Rule {
    let list = list.iter().enumerate().map(|(index, &(max, span_ms))| Window {
        label: format!("w{index}").into(),
        max: NonZeroU32::new(max).unwrap(),
        span: Span::from_millis(span_ms),
    });
    Rule::Failures(Windows::new(list.collect(), NonZeroU32::MIN).unwrap())
}

fn backoff() -> Rule {
    Rule::Backoff(Backoff {
        base: Span::from_secs(1),
        factor_percent: 200,
        max: Span::from_secs(7200),
        forget: Span::from_secs(900),
    })
}

/// One try, settled at once: whether it got through.
fn try_at(counter: &mut Counter, limit: &Limit, now: Timestamp, outcome: Outcome) -> bool {
    if counter.tally(&limit.rule, 1, now).judgement != Judgement::Admits {
        return false;
    }
    counter.charge(&limit.rule, 1, now);
    counter.settle(limit, now, outcome, now);
    true
}

#[test]
fn successes_and_errors_of_the_backend_are_not_counted() {
    let limit = limit(windows(&[(3, 300_000)]), &[KeyPart::Ip]);
    let mut counter = Counter::default();
    for ms in 0..100 {
        assert!(try_at(&mut counter, &limit, at(ms), Outcome::Success));
        assert!(try_at(&mut counter, &limit, at(ms), Outcome::Neither));
    }
    for ms in 100..103 {
        assert!(try_at(&mut counter, &limit, at(ms), Outcome::Failure));
    }
    assert!(!try_at(&mut counter, &limit, at(200), Outcome::Failure));
    let judgement = counter.tally(&limit.rule, 1, at(200)).judgement;
    assert_eq!(judgement, Judgement::Exceeded { window: 0, retry_at: at(300_100) });
    assert!(!try_at(&mut counter, &limit, at(300_099), Outcome::Failure));
    assert!(try_at(&mut counter, &limit, at(300_100), Outcome::Failure));
}

#[test]
fn as_many_at_once_as_in_a_row() {
    let limit = limit(windows(&[(5, 900_000)]), &[KeyPart::Ip]);
    let mut counter = Counter::default();
    let mut through = 0;
    for _ in 0..1000 {
        if counter.tally(&limit.rule, 1, at(0)).judgement == Judgement::Admits {
            counter.charge(&limit.rule, 1, at(0));
            through += 1;
        }
    }
    assert_eq!(through, 5);
    let pending = Judgement::Pending { retry_at: at(1000) };
    assert_eq!(counter.tally(&limit.rule, 1, at(0)).judgement, pending);
    counter.settle(&limit, at(0), Outcome::Success, at(10));
    assert_eq!(counter.tally(&limit.rule, 1, at(10)).judgement, Judgement::Admits);
    for _ in 0..4 {
        counter.settle(&limit, at(0), Outcome::Failure, at(20));
    }
    assert!(try_at(&mut counter, &limit, at(30), Outcome::Failure));
    assert!(matches!(counter.tally(&limit.rule, 1, at(40)).judgement, Judgement::Exceeded { .. }));
}

#[test]
fn one_that_nobody_settles_has_failed_when_its_lease_ends() {
    let limit = limit(windows(&[(1, 900_000)]), &[KeyPart::Ip]);
    let mut counter = Counter::default();
    counter.charge(&limit.rule, 1, at(0));
    let lease_ms = LEASE.as_millis();
    let judged = |counter: &Counter, ms| counter.tally(&limit.rule, 1, at(ms)).judgement;
    assert!(matches!(judged(&counter, lease_ms - 1), Judgement::Pending { .. }));
    let exceeded = Judgement::Exceeded { window: 0, retry_at: at(lease_ms + 900_000) };
    assert_eq!(judged(&counter, lease_ms), exceeded);
    // An answer that comes after all changes nothing.
    counter.settle(&limit, at(0), Outcome::Failure, at(lease_ms + 5));
    assert_eq!(judged(&counter, lease_ms + 5), exceeded);
    assert!(!counter.is_spent(at(lease_ms + 899_999)));
    assert!(counter.is_spent(at(lease_ms + 1_800_000)));
}

#[test]
fn waits_double_up_to_the_longest_and_are_forgotten() {
    let limit = limit(backoff(), &account());
    let mut counter = Counter::default();
    let mut now = at(0);
    for failures in 1_u32..=20 {
        assert!(try_at(&mut counter, &limit, now, Outcome::Failure), "{failures}");
        let wait_s = 2_u64.pow(failures - 1).min(7200);
        let retry_at = now.plus(Span::from_secs(wait_s));
        assert_eq!(counter.tally(&limit.rule, 1, now).judgement, Judgement::Waits { retry_at });
        let almost = Timestamp::from_micros(retry_at.as_micros() - 1);
        assert!(!try_at(&mut counter, &limit, almost, Outcome::Failure));
        now = retry_at;
    }
    let forgotten = now.plus(Span::from_secs(900));
    assert!(try_at(&mut counter, &limit, forgotten, Outcome::Failure));
    let retry_at = forgotten.plus(Span::from_secs(1));
    assert_eq!(counter.tally(&limit.rule, 1, forgotten).judgement, Judgement::Waits { retry_at });
}

#[test]
fn one_attempt_at_a_time_where_each_failure_has_its_wait() {
    let limit = limit(backoff(), &account());
    let mut counter = Counter::default();
    counter.charge(&limit.rule, 1, at(0));
    assert_eq!(counter.tally(&limit.rule, 1, at(0)).judgement, Judgement::Pending { retry_at: at(1000) });
    let after = counter.settle(&limit, at(0), Outcome::Failure, at(50));
    assert_eq!(after, Aftermath { judgement: Judgement::Waits { retry_at: at(1050) }, failures: 1 });
}

#[test]
fn a_success_clears_its_account_and_never_an_address() {
    for (parts, expected) in [(&account()[..], 1), (&[KeyPart::Ip][..], 3), (&[KeyPart::Network][..], 3)] {
        let limit = limit(backoff(), parts);
        let mut counter = Counter::default();
        assert!(try_at(&mut counter, &limit, at(0), Outcome::Failure));
        assert!(try_at(&mut counter, &limit, at(1_000), Outcome::Failure));
        assert!(try_at(&mut counter, &limit, at(10_000), Outcome::Success));
        counter.charge(&limit.rule, 1, at(11_000));
        let after = counter.settle(&limit, at(11_000), Outcome::Failure, at(11_000));
        assert_eq!(after.failures, expected, "{}", limit.key);
    }
}

/// What happens next to a key.
#[derive(Clone, Debug)]
enum Step {
    Try,
    /// Settles one of those under way.
    Settle(usize, Outcome),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![Just(Outcome::Failure), Just(Outcome::Success), Just(Outcome::Neither)];
    let step = prop_oneof![
        4 => Just(Step::Try),
        3 => (0_usize..8, outcome).prop_map(|(which, outcome)| Step::Settle(which, outcome)),
        2 => (0_u64..4_000).prop_map(Step::Pass),
        1 => (0_u64..200_000).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

/// The same by lists of everything that ever happened.
#[derive(Default)]
struct Oracle {
    failed_ms: Vec<u64>,
    /// When each was reserved.
    under_way_ms: Vec<u64>,
}

impl Oracle {
    fn lapse(&mut self, now_ms: u64) {
        let lease_ms = LEASE.as_millis();
        let ended = |since_ms: &u64| since_ms + lease_ms <= now_ms;
        self.failed_ms.extend(self.under_way_ms.iter().filter(|ms| ended(ms)).map(|ms| ms + lease_ms));
        self.under_way_ms.retain(|ms| !ended(ms));
        self.failed_ms.sort_unstable();
    }

    fn judge(&self, list: &[(u32, u64)], now_ms: u64) -> Judgement {
        let mut last = None;
        let mut full = false;
        for (index, &(max, span_ms)) in list.iter().enumerate() {
            let within: Vec<u64> =
                self.failed_ms.iter().copied().filter(|ms| now_ms - ms < span_ms).collect();
            if within.len() as u32 >= max {
                let opens_ms = within[within.len() - max as usize] + span_ms;
                if last.is_none_or(|(latest_ms, _)| opens_ms >= latest_ms) {
                    last = Some((opens_ms, index as u8));
                }
            }
            full |= (within.len() + self.under_way_ms.len()) as u32 >= max;
        }
        match last {
            Some((opens_ms, window)) => Judgement::Exceeded { window, retry_at: at(opens_ms) },
            None if full => Judgement::Pending { retry_at: at(now_ms + 1000) },
            None => Judgement::Admits,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn failures_are_counted_as_an_exact_log_counts_them(
        steps in steps(),
        first in 1_u32..6,
        second in 1_u32..12,
    ) {
        let list = [(first, 5_000), (first + second, 400_000)];
        let limit = limit(windows(&list), &[KeyPart::Ip]);
        let (mut counter, mut oracle) = (Counter::default(), Oracle::default());
        let mut now_ms = 0;
        for step in steps {
            oracle.lapse(now_ms);
            match step {
                Step::Pass(ms) => now_ms += ms,
                Step::Try => {
                    let judgement = counter.tally(&limit.rule, 1, at(now_ms)).judgement;
                    prop_assert_eq!(judgement, oracle.judge(&list, now_ms));
                    if judgement == Judgement::Admits {
                        counter.charge(&limit.rule, 1, at(now_ms));
                        oracle.under_way_ms.push(now_ms);
                    }
                }
                Step::Settle(which, outcome) => {
                    if oracle.under_way_ms.is_empty() {
                        continue;
                    }
                    let since_ms = oracle.under_way_ms.remove(which % oracle.under_way_ms.len());
                    if outcome == Outcome::Failure {
                        oracle.failed_ms.push(now_ms);
                    }
                    let after = counter.settle(&limit, at(since_ms), outcome, at(now_ms));
                    let expected = match oracle.judge(&list, now_ms) {
                        Judgement::Pending { .. } => Judgement::Admits,
                        other => other,
                    };
                    prop_assert_eq!(after.judgement, expected);
                }
            }
        }
        // However the tries were arranged, no window ever held more failures than it admits.
        for (max, span_ms) in list {
            for (index, since_ms) in oracle.failed_ms.iter().enumerate() {
                let within = oracle.failed_ms[index..].iter().take_while(|ms| *ms - since_ms < span_ms);
                prop_assert!(within.count() <= max as usize);
            }
        }
    }

    #[test]
    fn a_wait_is_the_base_doubled_for_each_failure_and_never_above_the_longest(
        base_ms in 1_u64..10_000,
        factor_percent in 100_u32..1_000,
        max_ms in 10_000_u64..10_000_000,
        failures in 1_u32..64,
    ) {
        let (base, max) = (Span::from_millis(base_ms), Span::from_millis(max_ms));
        let backoff = Backoff { base, factor_percent, max, forget: base };
        let exact = base_ms as f64 * (f64::from(factor_percent) / 100.0).powi(failures as i32 - 1);
        let wait = backoff.wait(failures).as_millis() as f64;
        // Each step rounds down by less than a millisecond, which later steps enlarge.
        prop_assert!(wait <= exact.min(max_ms as f64) + 1.0, "{wait} {exact}");
        prop_assert!(backoff.wait(failures) >= backoff.wait(failures - 1).min(max));
        if factor_percent == 200 {
            prop_assert_eq!(wait, exact.min(max_ms as f64));
        }
    }
}
