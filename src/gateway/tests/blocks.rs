//! How long a key is blocked, how the next block is longer, and what asking again does to it.

use super::*;

/// A limit that blocks, in numbers that stay whole however often they are multiplied.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    counts_failures: bool,
    max: usize,
    span_ms: u64,
    first_ms: u64,
    /// In halves: 2 is once, 3 one and a half times, 4 twice.
    factor_halves: u64,
    longest_ms: u64,
    forget_ms: u64,
    prolong: bool,
}

impl Numbers {
    fn rules(self) -> String {
        let Numbers { max, span_ms, first_ms, longest_ms, forget_ms, prolong, .. } = self;
        let count = if self.counts_failures { "failures" } else { "requests" };
        let factor = format!("{}.{}", self.factor_halves / 2, self.factor_halves % 2 * 5);
        format!(
            "routes: [{{ name: login, match: {{ path: /login }}, upstream: app, limits: \
             [{{ key: ip, count: {count}, windows: {{ w: {max}/{span_ms}ms }}, block: \
             {{ for: {first_ms}ms, factor: {factor}, max: {longest_ms}ms, forget: {forget_ms}ms, prolong: {prolong} }} }}] }}]"
        )
    }

    fn lasts_ms(self, level: u32) -> u64 {
        let grow = |ms: u64, _| (ms * self.factor_halves / 2).min(self.longest_ms);
        (0..level).fold(self.first_ms, grow)
    }

    fn reason(self) -> &'static str {
        if self.counts_failures { "failures" } else { "limit" }
    }
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let ladder = (1..8_u64, 2..7_u64, 0..8_u32, 1..400_000_u64, any::<bool>());
    (any::<bool>(), 1..5_usize, 1_000..120_000_u64, ladder).prop_map(
        |(counts_failures, max, span_ms, (first, factor_halves, doublings, forget_ms, prolong))| {
            let first_ms = first << 12;
            let longest_ms = first_ms << doublings;
            Numbers { counts_failures, max, span_ms, first_ms, factor_halves, longest_ms, forget_ms, prolong }
        },
    )
}

/// When the next request comes.
#[derive(Clone, Copy, Debug)]
enum Comes {
    After(u64),
    /// One millisecond before the block ends, if there is one.
    OneEarly,
    AtTheEnd,
    AlmostForgotten,
    WhenForgotten,
}

fn comes() -> impl Strategy<Value = Comes> {
    prop_oneof![
        6 => (0..3_000_u64).prop_map(Comes::After),
        1 => (0..200_000_u64).prop_map(Comes::After),
        2 => Just(Comes::OneEarly),
        4 => Just(Comes::AtTheEnd),
        1 => Just(Comes::AlmostForgotten),
        1 => Just(Comes::WhenForgotten),
    ]
}

#[derive(Default)]
struct Known {
    counted: Vec<u64>,
    until: u64,
    level: u32,
    forget_at: u64,
    began: u64,
}

impl Known {
    fn begin(&mut self, numbers: Numbers, now: u64) {
        self.level = if now < self.forget_at { self.level + 1 } else { 0 };
        let opens = self.counted[self.counted.len() - numbers.max] + numbers.span_ms;
        self.until = opens.max(now + numbers.lasts_ms(self.level));
        self.forget_at = self.until + numbers.forget_ms;
        self.began += 1;
    }

    fn is_full(&self, numbers: Numbers, now: u64) -> bool {
        self.counted.iter().filter(|&at| now < at + numbers.span_ms).count() >= numbers.max
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn blocks_last_as_long_as_they_should_and_escalate(
        numbers in numbers(),
        steps in prop::collection::vec((comes(), prop::bool::weighted(0.9)), 1..60),
    ) {
        play(async {
            let stage = Stage::set(&numbers.rules());
            let mut known = Known::default();
            for (comes, fails) in steps {
                let now = stage.now_ms();
                let left_ms = known.until.saturating_sub(now);
                stage.advance(match comes {
                    Comes::After(ms) => ms,
                    Comes::OneEarly => left_ms.saturating_sub(1),
                    Comes::AtTheEnd => left_ms,
                    Comes::AlmostForgotten => known.forget_at.saturating_sub(now + 1),
                    Comes::WhenForgotten => known.forget_at.saturating_sub(now),
                });
                let now = stage.now_ms();
                let outcome = if fails { Outcome::Failure } else { Outcome::Success };
                let said = stage.attempt(Ask::sign_in("ada"), outcome).await;
                if now < known.until {
                    if numbers.prolong {
                        known.until = known.until.max(now + numbers.lasts_ms(known.level));
                        known.forget_at = known.until + numbers.forget_ms;
                    }
                    prop_assert_eq!(said, Said::Blocked(known.until));
                } else if !numbers.counts_failures && known.is_full(numbers, now) {
                    known.begin(numbers, now);
                    prop_assert_eq!(said, Said::Blocked(known.until));
                } else {
                    prop_assert_eq!(said, Said::Admitted);
                    if fails || !numbers.counts_failures {
                        known.counted.push(now);
                    }
                    if fails && numbers.counts_failures && known.is_full(numbers, now) {
                        known.begin(numbers, now);
                    }
                }
                // One that is prolonged all the time is written down once a second.
                let shown = stage.blocked().into_values().next().unwrap_or_default();
                let lags_ms = if numbers.prolong { 1000 } else { 0 };
                let may_be_over = known.until <= now + lags_ms;
                prop_assert!(
                    may_be_over && shown == 0 || shown <= known.until && known.until <= shown + lags_ms,
                    "blocked until {}, shown {shown} at {now}", known.until
                );
            }
            let started = format!("tollgate_blocks_started_total{{reason=\"{}\"}}", numbers.reason());
            prop_assert_eq!(stage.metric(&started), known.began);
            let told = stage.close().await;
            prop_assert_eq!(told.get(&EventKind::Blocked).copied().unwrap_or_default(), known.began);
            Ok(())
        })?;
    }
}
