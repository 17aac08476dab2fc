//! A long random story of sends, failures of the provider, guesses and waits, held to a simple account of it.

use std::collections::HashMap;

use super::{Stage, code_of, id_of, wrong};
use crate::harness::backend::Reply;
use crate::harness::gateway::seconds;

const STEPS: u32 = 400;
const WINDOW_S: u64 = 300;
const MAX: usize = 3;
const TTL_S: u64 = 600;
const RESENT_LEFT_S: u64 = 30;
const PHONES: [&str; 3] = ["+14155550123", "+14155550124", "+14155550125"];

/// A code as the account knows it.
struct Known {
    id: String,
    code: String,
    until_s: u64,
    left: u8,
    is_used: bool,
}

/// What is known of one phone.
#[derive(Default)]
struct Account {
    sent_s: Vec<u64>,
    last: Option<Known>,
}

/// The numbers of a story that is the same on every day (Knuth's linear congruential generator, MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

impl Account {
    /// Whether one more is admitted now.
    fn admits(&self, now_s: u64) -> bool {
        self.sent_s.iter().filter(|&&at_s| at_s + WINDOW_S > now_s).count() < MAX
    }
}

#[tokio::test]
async fn nothing_is_sent_that_was_not_admitted_and_nothing_admitted_is_lost() {
    let stage = Stage::set("cooldown: 0s, limits: [{ key: phone, windows: { few: 3/5m } }]").await;
    let (mut dice, mut now_s, mut sent) = (Dice(7), 0, 0);
    let mut accounts: HashMap<&str, Account> = HashMap::new();
    let mut seen = [0; 6];
    for step in 0..STEPS {
        let phone = PHONES[dice.roll(3) as usize];
        let account = accounts.entry(phone).or_default();
        match dice.roll(8) {
            0..=2 => {
                // Now and then the provider has trouble: the answer is the same.
                let is_well = dice.roll(6) > 0;
                stage.provider.answer_by(move |_| match is_well {
                    true => Reply::json(200, r#"{"id":"m"}"#),
                    false => Reply::json(503, "{}"),
                });
                let answer = stage.send(phone).await;
                match (answer.status, account.admits(now_s)) {
                    (202, true) => sent += 1,
                    (429, false) => {
                        seen[0] += 1;
                        assert_eq!(stage.provider.count(), sent, "step {step}: a refusal sends nothing");
                        continue;
                    }
                    (status, admits) => panic!("step {step}: {status}, and the account admits: {admits}"),
                }
                account.sent_s.push(now_s);
                let (id, code) = (id_of(&answer), code_of(&stage.provider.wait_for(sent).await[sent - 1]));
                assert_eq!(
                    stage.provider.count(),
                    sent,
                    "step {step}: one message for each that was admitted"
                );
                let is_good = |known: &&mut Known| {
                    !known.is_used && known.left > 0 && known.until_s >= now_s + RESENT_LEFT_S
                };
                match account.last.as_mut().filter(is_good) {
                    Some(known) => {
                        seen[1] += 1;
                        assert_eq!((&id, &code), (&known.id, &known.code), "step {step}: the same again");
                    }
                    None => {
                        seen[2] += 1;
                        account.last =
                            Some(Known { id, code, until_s: now_s + TTL_S, left: 3, is_used: false });
                    }
                }
            }
            3..=5 => {
                let Some(known) = &mut account.last else { continue };
                let is_right = dice.roll(3) == 0;
                let guess = if is_right { known.code.clone() } else { wrong(&known.code) };
                let status = stage.verify(&known.id, &guess).await.status;
                let can_be_compared = !known.is_used && known.left > 0 && known.until_s > now_s;
                let expected = match (can_be_compared, is_right) {
                    (false, _) => 410,
                    (true, true) => 200,
                    (true, false) => 401,
                };
                assert_eq!(status, expected, "step {step}");
                if can_be_compared {
                    known.left -= 1;
                    known.is_used = is_right;
                }
                seen[if expected == 410 { 3 } else { 4 }] += 1;
            }
            _ => {
                let wait_s = 1 + dice.roll(120);
                stage.clock.advance(seconds(wait_s));
                now_s += wait_s;
                seen[5] += 1;
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 5), "all of it happened: {seen:?}");
}
