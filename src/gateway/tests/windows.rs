//! So many in any span of so long, for whatever spelling of whom; and anew once the span is over.

use super::*;

const MAILBOX: &str = "
routes:
  - { name: otp, match: { method: POST, path: /otp }, upstream: app,
      limits: [{ key: body.email, as: email, windows: { tries: 3/5m } }] }
";
const SPAN_MS: u64 = 300_000;

/// One mailbox each, spelled in ways that backends take for the same.
const SPELLINGS: [[&str; 6]; 3] = [
    [
        "ada@example.com",
        "ADA@Example.COM",
        " ada@example.com ",
        "ada+otp@example.com",
        "ａｄａ@example.com",
        "ada@example.com.",
    ],
    [
        "j.doe@gmail.com",
        "jdoe@gmail.com",
        "J.D.O.E@googlemail.com",
        "jdoe+1@gmail.com",
        "jd\u{200b}oe@gmail.com",
        "jdoe@gmail。com",
    ],
    [
        "a.da@example.com",
        "A.DA@example.com",
        "a.da+x+y@example.com",
        "a.da@EXAMPLE.com",
        "\u{feff}a.da@example.com",
        "a.da＠example.com",
    ],
];

/// How a value gets into a body.
#[derive(Clone, Copy, Debug)]
enum Wording {
    Json,
    /// Every character as `\uXXXX`.
    Escaped,
    Form,
}

impl Wording {
    fn ask(self, email: &str) -> Ask {
        let json = |text: String| Ask::new(Method::POST, "/otp").body("application/json", text);
        match self {
            Wording::Json => Ask::post("/otp", &serde_json::json!({ "n": 1, "email": email })),
            Wording::Escaped => {
                let escaped: String = email.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                json(format!("{{\"email\":\"{escaped}\"}}"))
            }
            Wording::Form => {
                let escaped: String = email.bytes().map(|byte| format!("%{byte:02X}")).collect();
                Ask::new(Method::POST, "/otp")
                    .body("application/x-www-form-urlencoded", format!("email={escaped}"))
            }
        }
    }
}

fn wording() -> impl Strategy<Value = Wording> {
    prop_oneof![Just(Wording::Json), Just(Wording::Escaped), Just(Wording::Form)]
}

/// Mostly short, now and then about as long as the window, to the millisecond.
fn gap() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0),
        6 => 1_u64..60_000,
        2 => 60_000_u64..SPAN_MS,
        1 => SPAN_MS - 1..=SPAN_MS + 1,
    ]
}

/// When the next of `max` in any `span_ms` may come: now, or once the oldest of the newest `max` is out.
fn opens_at(admitted: &[u64], max: usize, span_ms: u64, now: u64) -> u64 {
    let nth_newest = admitted.len().checked_sub(max).map(|place| admitted[place] + span_ms);
    nth_newest.unwrap_or(now).max(now)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn three_in_five_minutes_for_one_mailbox_however_it_is_spelled(
        asks in prop::collection::vec((0..3_usize, 0..6_usize, wording(), 1..200_u8, gap()), 1..60),
    ) {
        play(async {
            let stage = Stage::set(MAILBOX);
            let mut admitted: [Vec<u64>; 3] = Default::default();
            for (mailbox, spelling, wording, from, gap_ms) in asks {
                stage.advance(gap_ms);
                let now = stage.now_ms();
                let said = stage.ask(wording.ask(SPELLINGS[mailbox][spelling]).from(from)).await;
                let opens = opens_at(&admitted[mailbox], 3, SPAN_MS, now);
                if opens == now {
                    prop_assert_eq!(said, Said::Admitted);
                    admitted[mailbox].push(now);
                } else {
                    prop_assert_eq!(said, Said::Full(opens));
                }
            }
            for times in admitted {
                for window in times.windows(4) {
                    prop_assert!(window[3] - window[0] >= SPAN_MS, "four within five minutes: {window:?}");
                }
            }
            Ok(())
        })?;
    }

    /// Whatever came before: refused until the very millisecond that was told, and after a silence as long as the
    /// longest window everything is there anew.
    #[test]
    fn a_window_opens_to_the_millisecond_and_is_whole_after_a_silence(
        short in (1..6_u32, 1_000..20_000_u64),
        long in (1..12_u32, 20_000..120_000_u64),
        gaps in prop::collection::vec(0..15_000_u64, 0..40),
    ) {
        play(async {
            let (short_max, short_ms) = short;
            let (long_max, long_ms) = long;
            let stage = Stage::set(&format!(
                "routes: [{{ name: r, match: {{ path: /* }}, upstream: app, limits: \
                 [{{ key: ip, windows: {{ short: {short_max}/{short_ms}ms, long: {long_max}/{long_ms}ms }} }}] }}]"
            ));
            for gap_ms in gaps {
                stage.advance(gap_ms);
                if let Said::Full(retry_ms) = stage.ask(Ask::get("/")).await {
                    stage.advance(retry_ms - stage.now_ms() - 1);
                    prop_assert_eq!(stage.ask(Ask::get("/")).await, Said::Full(retry_ms));
                    stage.advance(1);
                    prop_assert_eq!(stage.ask(Ask::get("/")).await, Said::Admitted);
                }
            }
            stage.advance(long_ms);
            let whole = short_max.min(long_max);
            for left in (0..whole).rev() {
                let admission = stage.admit(Ask::get("/")).await;
                let quota = admission.outcome.as_ref().ok().and_then(Permit::quota).unwrap();
                prop_assert_eq!(quota.remaining, left);
            }
            let now = stage.now_ms();
            let lasts_ms = if short_max < long_max { short_ms } else { long_ms };
            prop_assert_eq!(stage.ask(Ask::get("/")).await, Said::Full(now + lasts_ms));
            Ok(())
        })?;
    }

    /// The same for failures: what counted against a key is gone after the window, to the millisecond.
    #[test]
    fn failures_are_out_of_the_window_when_it_is_over(
        max in 1..6_usize,
        span_ms in 1_000..60_000_u64,
        tries in prop::collection::vec((0..20_000_u64, prop_oneof![
            3 => Just(Outcome::Failure), 1 => Just(Outcome::Success), 1 => Just(Outcome::Neither)
        ]), 1..60),
    ) {
        play(async {
            let stage = Stage::set(&format!(
                "routes: [{{ name: login, match: {{ path: /login }}, upstream: app, limits: \
                 [{{ key: body.username, count: failures, windows: {{ tries: {max}/{span_ms}ms }} }}] }}]"
            ));
            let mut failed: Vec<u64> = Vec::new();
            for (gap_ms, outcome) in tries {
                stage.advance(gap_ms);
                let now = stage.now_ms();
                let said = stage.attempt(Ask::sign_in("ada"), outcome).await;
                let opens = opens_at(&failed, max, span_ms, now);
                if opens > now {
                    prop_assert_eq!(said, Said::Full(opens));
                    continue;
                }
                prop_assert_eq!(said, Said::Admitted);
                if outcome == Outcome::Failure {
                    failed.push(now);
                }
            }
            stage.advance(span_ms);
            for _ in 0..max {
                prop_assert_eq!(stage.attempt(Ask::sign_in("ada"), Outcome::Failure).await, Said::Admitted);
            }
            let now = stage.now_ms();
            let said = stage.attempt(Ask::sign_in("ada"), Outcome::Failure).await;
            prop_assert_eq!(said, Said::Full(now + span_ms));
            Ok(())
        })?;
    }
}
