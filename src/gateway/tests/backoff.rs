//! After each failure in a row a longer wait: base · factor^(n − 1), at most max; forgotten, or cleared by a success.

use super::*;

/// A backoff in numbers that stay whole however often they are multiplied.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    base_ms: u64,
    /// In halves: 2 is once, 3 one and a half times, 4 twice.
    factor_halves: u64,
    max_ms: u64,
    forget_ms: u64,
}

impl Numbers {
    fn wait_ms(self, failures: u32) -> u64 {
        let mut wait_ms = u128::from(self.base_ms);
        for _ in 1..failures {
            wait_ms = (wait_ms * u128::from(self.factor_halves) / 2).min(u128::from(self.max_ms));
        }
        u64::try_from(wait_ms).unwrap().min(self.max_ms)
    }
}

fn numbers() -> impl Strategy<Value = Numbers> {
    (1..8_u64, 2..7_u64, 0..10_u32, 1..120_000_u64).prop_map(|(base, factor_halves, doublings, forget_ms)| {
        let base_ms = base << 12;
        Numbers { base_ms, factor_halves, max_ms: base_ms << doublings, forget_ms }
    })
}

/// When the next attempt comes, seen from the end of the wait.
#[derive(Clone, Copy, Debug)]
enum Comes {
    TooEarly,
    OneEarly,
    AtTheEnd,
    /// One millisecond before all is forgotten.
    AlmostForgotten,
    WhenForgotten,
    Soon,
}

fn comes() -> impl Strategy<Value = Comes> {
    prop_oneof![
        1 => Just(Comes::TooEarly),
        2 => Just(Comes::OneEarly),
        8 => Just(Comes::AtTheEnd),
        1 => Just(Comes::AlmostForgotten),
        1 => Just(Comes::WhenForgotten),
        2 => Just(Comes::Soon),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![12 => Just(Outcome::Failure), 1 => Just(Outcome::Success), 1 => Just(Outcome::Neither)]
}

/// What is known of one key.
#[derive(Default)]
struct Row {
    failures: u32,
    waits_until: u64,
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn each_failure_in_a_row_makes_the_wait_longer_up_to_the_cap(
        numbers in numbers(),
        names_account in any::<bool>(),
        tries in prop::collection::vec((comes(), outcome()), 1..40),
    ) {
        play(async {
            let key = if names_account { "[body.username, ip]" } else { "ip" };
            let Numbers { base_ms, factor_halves, max_ms, forget_ms } = numbers;
            let factor = format!("{}.{}", factor_halves / 2, factor_halves % 2 * 5);
            let stage = Stage::set(&format!(
                "routes: [{{ name: login, match: {{ path: /login }}, upstream: app, limits: \
                 [{{ key: {key}, count: failures, backoff: \
                 {{ base: {base_ms}ms, factor: {factor}, max: {max_ms}ms, forget: {forget_ms}ms }} }}] }}]"
            ));
            let mut row = Row::default();
            let mut waits = 0;
            for (comes, outcome) in tries {
                let now = stage.now_ms();
                let left_ms = row.waits_until.saturating_sub(now);
                stage.advance(match comes {
                    Comes::TooEarly => left_ms / 2,
                    Comes::OneEarly => left_ms.saturating_sub(1),
                    Comes::AtTheEnd => left_ms,
                    Comes::AlmostForgotten => left_ms + forget_ms - 1,
                    Comes::WhenForgotten => left_ms + forget_ms,
                    Comes::Soon => left_ms + forget_ms / 2,
                });
                let now = stage.now_ms();
                let said = stage.attempt(Ask::sign_in("ada"), outcome).await;
                if now < row.waits_until {
                    prop_assert_eq!(said, Said::Waits(row.waits_until));
                    continue;
                }
                prop_assert_eq!(said, Said::Admitted);
                match outcome {
                    Outcome::Failure => {
                        let forgotten = now >= row.waits_until + forget_ms;
                        let failures = if forgotten { 1 } else { row.failures + 1 };
                        row = Row { failures, waits_until: now + numbers.wait_ms(failures) };
                        waits += 1;
                    }
                    // Who knows one password may be guessing others from the same address.
                    Outcome::Success if names_account => row = Row::default(),
                    Outcome::Success | Outcome::Neither => {}
                }
                // Somebody else from elsewhere is none of it.
                let other = Ask::sign_in("grace").from(9);
                prop_assert_eq!(stage.attempt(other, Outcome::Success).await, Said::Admitted);
            }
            prop_assert_eq!(stage.metric(r#"tollgate_backoffs_total{route="login"}"#), waits);
            let told = stage.close().await;
            prop_assert_eq!(told.get(&EventKind::Backoff).copied().unwrap_or_default(), waits);
            Ok(())
        })?;
    }

    /// However many come at once: one is under way, the others are told to come again.
    #[test]
    fn one_attempt_at_a_time(others in 1..20_u32, outcome in outcome(), took_ms in 0..60_000_u64) {
        play(async {
            let stage = Stage::set(
                "routes: [{ name: login, match: { path: /login }, upstream: app, limits: \
                 [{ key: [body.username, ip], count: failures, backoff: { base: 1s } }] }]",
            );
            let first = stage.admit(Ask::sign_in("ada")).await;
            for _ in 0..others {
                let now = stage.now_ms();
                prop_assert_eq!(stage.ask(Ask::sign_in("ada")).await, Said::Pending(now + 1000));
            }
            stage.advance(took_ms);
            stage.gateway.observe(&stage.policies, *first.attempt.unwrap(), outcome).await;
            let expected = match outcome {
                Outcome::Failure => Said::Waits(stage.now_ms() + 1000),
                Outcome::Success | Outcome::Neither => Said::Admitted,
            };
            prop_assert_eq!(stage.ask(Ask::sign_in("ada")).await, expected);
            Ok(())
        })?;
    }
}
