//! What adds up over all routes, each event by its weight, and the ban that follows.

use super::*;

/// What somebody does next.
#[derive(Clone, Copy, Debug)]
enum Does {
    AskForCode,
    Fail,
    Succeed,
    /// Goes where one request an hour is let through.
    Squeeze,
    Look,
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    otp: u32,
    failure: u32,
    limited: u32,
    threshold: u32,
    span_ms: u64,
    block_ms: u64,
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let weight = || 0..5_u32;
    (weight(), weight(), weight(), 5..40_u32, 10_000..3_600_000_u64, 1_000..7_200_000_u64).prop_map(
        |(otp, failure, limited, threshold, span_ms, block_ms)| {
            // A rule in which nothing weighs anything is a mistake.
            Numbers { otp, failure: failure.max(1), limited, threshold, span_ms, block_ms }
        },
    )
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => Just(Does::AskForCode),
        4 => Just(Does::Fail),
        1 => Just(Does::Succeed),
        4 => Just(Does::Squeeze),
        1 => Just(Does::Look),
    ]
}

fn rules(numbers: Numbers) -> String {
    let Numbers { otp, failure, limited, threshold, span_ms, block_ms } = numbers;
    format!(
        "routes:
  - {{ name: login, match: {{ method: POST, path: /login }}, upstream: app,
      limits: [{{ key: [body.username, ip], count: failures, windows: {{ tries: 100000/h }} }}] }}
  - {{ name: otp, match: {{ path: /otp }}, upstream: app, suspect: otp_request }}
  - {{ name: tight, match: {{ path: /tight }}, upstream: app, limits: [{{ key: ip, windows: {{ one: 1/h }} }}] }}
  - {{ name: rest, match: {{ path: /* }}, upstream: app }}
suspicion:
  - {{ key: ip, weights: {{ otp_request: {otp}, failure: {failure}, limited: {limited} }},
      threshold: {threshold}/{span_ms}ms, block: {block_ms}ms, exempt: [192.0.2.9] }}
"
    )
}

/// All that is known of one address.
#[derive(Default)]
struct Known {
    weighed: Vec<(u64, u32)>,
    banned_until: u64,
    squeezed_through: Option<u64>,
    bans: u64,
}

impl Known {
    /// What is held against it in the window at `now`.
    fn sum(&self, numbers: Numbers, now: u64) -> u32 {
        self.weighed.iter().filter(|(at, _)| now < at + numbers.span_ms).map(|(_, weight)| weight).sum()
    }

    fn weigh(&mut self, weight: u32, numbers: Numbers, now: u64) {
        if weight == 0 || now < self.banned_until {
            return;
        }
        if self.sum(numbers, now) + weight <= numbers.threshold {
            self.weighed.push((now, weight));
            return;
        }
        let leaves = self.weighed.iter().map(|(at, _)| at + numbers.span_ms);
        let room = leaves.filter(|&at| self.sum(numbers, at) + weight <= numbers.threshold).min().unwrap();
        // A ban that ended before there is room would begin again with the next event.
        self.banned_until = room.max(now + numbers.block_ms);
        self.bans += 1;
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn weights_add_up_over_all_routes_and_ban_past_the_threshold(
        numbers in numbers(),
        steps in prop::collection::vec((1..4_u8, does(), 0..30_000_u64), 1..120),
    ) {
        play(async {
            let stage = Stage::set(&rules(numbers));
            let mut all: [Known; 4] = Default::default();
            for (from, does, gap_ms) in steps {
                stage.advance(gap_ms);
                let now = stage.now_ms();
                let known = &mut all[usize::from(from)];
                let ask = match does {
                    Does::AskForCode => Ask::get("/otp"),
                    Does::Fail | Does::Succeed => Ask::sign_in("ada"),
                    Does::Squeeze => Ask::get("/tight"),
                    Does::Look => Ask::get("/elsewhere"),
                };
                let outcome = if let Does::Fail = does { Outcome::Failure } else { Outcome::Success };
                let said = stage.attempt(ask.from(from), outcome).await;
                if now < known.banned_until {
                    prop_assert_eq!(said, Said::Banned(known.banned_until));
                    continue;
                }
                match does {
                    Does::Squeeze => match known.squeezed_through.filter(|at| now < at + 3_600_000) {
                        Some(at) => {
                            known.weigh(numbers.limited, numbers, now);
                            // Who is told to come back is not banned when it does.
                            prop_assert_eq!(said, Said::Full(known.banned_until.max(at + 3_600_000)));
                            continue;
                        }
                        None => known.squeezed_through = Some(now),
                    },
                    Does::AskForCode => known.weigh(numbers.otp, numbers, now),
                    Does::Fail => known.weigh(numbers.failure, numbers, now),
                    Does::Succeed | Does::Look => {}
                }
                prop_assert_eq!(said, Said::Admitted);
            }
            let bans: u64 = all.iter().map(|known| known.bans).sum();
            let now = stage.now_ms();
            let banned = all.iter().filter(|known| now < known.banned_until).count() as u64;
            prop_assert_eq!(stage.metric(r#"tollgate_suspicions_total{key="ip",mode="enforce"}"#), bans);
            prop_assert_eq!(stage.metric(r#"tollgate_blocks_started_total{reason="suspicion"}"#), bans);
            prop_assert_eq!(stage.metric(r#"tollgate_blocks{reason="suspicion"}"#), banned);
            let told = stage.close().await;
            prop_assert_eq!(told.get(&EventKind::Blocked).copied().unwrap_or_default(), bans);
            Ok(())
        })?;
    }

    /// An address that is exempt does the same, and nothing ever adds up.
    #[test]
    fn who_is_exempt_is_never_banned(
        numbers in numbers(),
        steps in prop::collection::vec(does(), 1..80),
    ) {
        play(async {
            let stage = Stage::set(&rules(numbers));
            for does in steps {
                let ask = match does {
                    Does::AskForCode => Ask::get("/otp"),
                    Does::Fail | Does::Succeed | Does::Look => Ask::sign_in("ada"),
                    Does::Squeeze => Ask::get("/tight"),
                };
                let said = stage.attempt(ask.from(9), Outcome::Failure).await;
                prop_assert!(!matches!(said, Said::Banned(_)), "{said:?}");
            }
            prop_assert_eq!(stage.blocked().len(), 0);
            Ok(())
        })?;
    }
}
