//! An operator blocks by address, user, a field of the body or several together; whoever is let go starts anew.

use std::collections::HashMap;

use super::*;
use crate::decision::key::{FieldPath, Form, KeyPart, KeySpec, Missing};

const RULES: &str = "
client_ip: { trusted_proxies: [10.0.0.1] }
user: { header: x-user-id }
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app,
      limits: [{ key: [body.username, ip], count: failures, windows: { tries: 2/1h }, block: 30m }] }
  - { name: mail, match: { method: POST, path: /mail }, upstream: app,
      limits: [{ key: body.email, as: email, windows: { w: 100000/1h } }] }
  - { name: mine, match: { path: /mine }, upstream: app, limits: [{ key: user, windows: { w: 100000/1h } }] }
  - { name: rest, match: { path: /* }, upstream: app }
suspicion:
  - { key: ip, weights: { failure: 1, limited: 0, otp_request: 0 }, threshold: 5/hour, block: 24h }
";

const TRIES: usize = 2;
const HOUR_MS: u64 = 3_600_000;
const PAIR_BLOCK_MS: u64 = 1_800_000;
const BAN_MS: u64 = 86_400_000;
const SUSPECTED_MAX: usize = 5;
const PEOPLE: [&str; 2] = ["ada", "grace"];

/// Whom an order is about. People and addresses by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whom {
    Ip(u8),
    User(usize),
    Email(usize),
    Pair(usize, u8),
}

impl Whom {
    fn order(self, span_ms: u64) -> BlockOrder {
        let body = |name: &str| KeyPart::Body(FieldPath::parse(name).unwrap());
        let (parts, form, values) = match self {
            Whom::Ip(ip) => (vec![KeyPart::Ip], Form::Text, vec![client(ip).to_string()]),
            Whom::User(person) => (vec![KeyPart::User], Form::Text, vec![PEOPLE[person].to_owned()]),
            // As an operator may paste it.
            Whom::Email(person) => {
                let value = format!(" {}+x@Example.COM ", PEOPLE[person].to_uppercase());
                (vec![body("email")], Form::Email, vec![value])
            }
            Whom::Pair(person, ip) => {
                let values = vec![PEOPLE[person].to_uppercase(), client(ip).to_string()];
                (vec![body("username"), KeyPart::Ip], Form::Text, values)
            }
        };
        let key = KeySpec { parts: parts.into_iter().collect(), form, missing: Missing::Skip };
        BlockOrder { key, values, span: Span::from_millis(span_ms), by: "root".into(), note: None }
    }

    /// As the list of blocks shows it.
    fn shown(self) -> (String, String) {
        let (kind, whom) = match self {
            Whom::Ip(ip) => ("ip", client(ip).to_string()),
            Whom::User(person) => ("user", PEOPLE[person].to_owned()),
            Whom::Email(person) => ("body.email", format!("{}@example.com", PEOPLE[person])),
            Whom::Pair(person, ip) => ("body.username+ip", format!("{}+{}", PEOPLE[person], client(ip))),
        };
        (kind.to_owned(), whom)
    }
}

fn whom() -> impl Strategy<Value = Whom> {
    prop_oneof![
        3 => (1..4_u8).prop_map(Whom::Ip),
        1 => (0..2_usize).prop_map(Whom::User),
        1 => (0..2_usize).prop_map(Whom::Email),
        3 => (0..2_usize, 1..4_u8).prop_map(|(person, ip)| Whom::Pair(person, ip)),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Fail(usize, u8),
    Mail(usize, u8),
    Mine(usize, u8),
    Look(u8),
    Block(Whom, u64),
    Unblock(Whom),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || (0..2_usize, 1..4_u8);
    prop_oneof![
        10 => who().prop_map(|(person, ip)| Step::Fail(person, ip)),
        2 => who().prop_map(|(person, ip)| Step::Mail(person, ip)),
        2 => who().prop_map(|(person, ip)| Step::Mine(person, ip)),
        2 => (1..4_u8).prop_map(Step::Look),
        2 => (whom(), 1_000..7_200_000_u64).prop_map(|(whom, ms)| Step::Block(whom, ms)),
        5 => whom().prop_map(Step::Unblock),
        2 => (0..4_000_000_u64).prop_map(Step::Wait),
    ]
}

/// Through the proxy that says who the client and the user are.
fn by_proxy(ask: Ask, ip: u8, person: usize) -> Ask {
    let ask = Ask { peer: IpAddr::from([10, 0, 0, 1]), ..ask };
    ask.header("x-forwarded-for", &client(ip).to_string()).header("x-user-id", PEOPLE[person])
}

#[derive(Default)]
struct Known {
    /// Blocks on all routes, by operators and by suspicion.
    banned: HashMap<Whom, u64>,
    failed: HashMap<(usize, u8), Vec<u64>>,
    /// Blocks of the limit.
    shut: HashMap<(usize, u8), u64>,
    suspected: HashMap<u8, Vec<u64>>,
    blocked_events: u64,
    unblocked_events: u64,
}

impl Known {
    /// The latest end among the blocks on all routes that such a request meets.
    fn ban(&self, meets: &[Whom], now: u64) -> Option<u64> {
        meets.iter().filter_map(|whom| self.banned.get(whom)).copied().filter(|&until| now < until).max()
    }

    fn fail(&mut self, person: usize, ip: u8, now: u64) -> Said {
        // The address is looked at before the body is read.
        if let Some(until) = self.ban(&[Whom::Ip(ip)], now) {
            return Said::Banned(until);
        }
        let ban = self.ban(&[Whom::Pair(person, ip)], now);
        let shut = self.shut.get(&(person, ip)).copied().filter(|&until| now < until);
        match (ban, shut) {
            (Some(ban), shut) if shut.is_none_or(|shut| shut <= ban) => return Said::Banned(ban),
            (_, Some(shut)) => return Said::Blocked(shut),
            (_, None) => {}
        }
        let failed = self.failed.entry((person, ip)).or_default();
        failed.push(now);
        if failed.iter().filter(|&at| now < at + HOUR_MS).count() >= TRIES {
            let opens = failed[failed.len() - TRIES] + HOUR_MS;
            self.shut.insert((person, ip), opens.max(now + PAIR_BLOCK_MS));
            self.blocked_events += 1;
        }
        let suspected = self.suspected.entry(ip).or_default();
        if suspected.iter().filter(|&at| now < at + HOUR_MS).count() < SUSPECTED_MAX {
            suspected.push(now);
        } else {
            self.banned.insert(Whom::Ip(ip), now + BAN_MS);
            self.blocked_events += 1;
        }
        Said::Admitted
    }

    fn block(&mut self, whom: Whom, until: u64) {
        self.banned.insert(whom, until);
        // The operator's word replaces whatever added up.
        if let Whom::Ip(ip) = whom {
            self.suspected.remove(&ip);
        }
        self.blocked_events += 1;
    }

    /// How many blocks of this key there are, each lifted; the key starts anew.
    fn unblock(&mut self, whom: Whom, now: u64) -> u64 {
        let mut lifted = 0;
        if self.banned.remove(&whom).is_some_and(|until| now < until) {
            lifted += 1;
            if let Whom::Ip(ip) = whom {
                self.suspected.remove(&ip);
            }
        }
        if let Whom::Pair(person, ip) = whom
            && self.shut.remove(&(person, ip)).is_some_and(|until| now < until)
        {
            lifted += 1;
            self.failed.remove(&(person, ip));
        }
        self.unblocked_events += lifted;
        lifted
    }
}

/// Lifts every block that is shown under this name; how many.
async fn unblock_all(stage: &Stage, whom: Whom) -> u64 {
    let mut lifted = 0;
    for record in stage.gateway.journal().book().snapshot(stage.gateway.clock().now()) {
        let shown = (record.key_kind.to_string(), record.identifier.expose().to_owned());
        if shown == whom.shown() {
            let lifts = stage.gateway.unblock(record.id, "root").await.expect("it is in force");
            assert_eq!((lifts.id, stage.gateway.unblock(record.id, "root").await), (record.id, None));
            lifted += 1;
        }
    }
    lifted
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn an_operator_blocks_and_lets_go(steps in prop::collection::vec(step(), 1..80)) {
        play(async {
            let stage = Stage::set(RULES);
            let mut known = Known::default();
            for step in steps {
                let now = stage.now_ms();
                let meets = |whom: &[Whom], known: &Known| match known.ban(whom, now) {
                    Some(until) => Said::Banned(until),
                    None => Said::Admitted,
                };
                match step {
                    Step::Fail(person, ip) => {
                        let ask = by_proxy(Ask::sign_in(PEOPLE[person]), ip, person);
                        let said = stage.attempt(ask, Outcome::Failure).await;
                        prop_assert_eq!(said, known.fail(person, ip, now));
                    }
                    Step::Mail(person, ip) => {
                        let email = format!("{}@example.com", PEOPLE[person]);
                        let ask = Ask::post("/mail", &serde_json::json!({ "email": email }));
                        let said = stage.ask(by_proxy(ask, ip, person)).await;
                        // The address decides before the body is read.
                        let expected = match meets(&[Whom::Ip(ip)], &known) {
                            Said::Admitted => meets(&[Whom::Email(person)], &known),
                            banned => banned,
                        };
                        prop_assert_eq!(said, expected);
                    }
                    Step::Mine(person, ip) => {
                        let said = stage.ask(by_proxy(Ask::get("/mine"), ip, person)).await;
                        prop_assert_eq!(said, meets(&[Whom::Ip(ip), Whom::User(person)], &known));
                    }
                    Step::Look(ip) => {
                        let said = stage.ask(by_proxy(Ask::get("/elsewhere"), ip, 0)).await;
                        prop_assert_eq!(said, meets(&[Whom::Ip(ip)], &known));
                    }
                    Step::Block(whom, ms) => {
                        let (record, _) =
                            stage.gateway.block(&stage.policies, whom.order(ms)).await.unwrap();
                        prop_assert_eq!(super::ms(record.block.until), now + ms);
                        known.block(whom, now + ms);
                    }
                    Step::Unblock(whom) => {
                        let lifted = unblock_all(&stage, whom).await;
                        prop_assert_eq!(lifted, known.unblock(whom, now));
                    }
                    Step::Wait(ms) => stage.advance(ms),
                }
            }
            let told = stage.close().await;
            let count = |kind| told.get(&kind).copied().unwrap_or_default();
            prop_assert_eq!(count(EventKind::Blocked), known.blocked_events);
            prop_assert_eq!(count(EventKind::Unblocked), known.unblocked_events);
            Ok(())
        })?;
    }
}

#[test]
fn an_order_that_names_nobody_blocks_nobody() {
    play(async {
        let stage = Stage::set(RULES);
        let order = |values: &[&str], whom: Whom| {
            let values = values.iter().map(|&value| value.to_owned()).collect();
            BlockOrder { values, ..whom.order(1000) }
        };
        for (order, fault) in [
            (order(&[], Whom::Ip(1)), OrderFault::Values { parts: 1, values: 0 }),
            (order(&["a", "b"], Whom::User(0)), OrderFault::Values { parts: 1, values: 2 }),
            (order(&["here"], Whom::Ip(1)), OrderFault::Address { value: "here".into() }),
            (order(&[" "], Whom::Email(0)), OrderFault::Empty { key: "body.email".into() }),
        ] {
            assert_eq!(stage.gateway.block(&stage.policies, order).await.map(|_| ()), Err(fault));
        }
        assert_eq!(stage.blocked().len(), 0);
    });
}
