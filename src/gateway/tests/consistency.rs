//! Requests, answers, the clock, operators and clean-ups in any order: what is decided, the book, the store, the
//! metrics and the journal tell one story.

use std::collections::BTreeMap;

use super::model::{Counts, Key, Ladder, Limit, Model, Suspicion, Who};
use super::*;
use crate::decision::key::{Form, KeyPart, KeySpec, Missing};

const RULES: &str = "
routes:
  - name: login
    match: { method: POST, path: /login }
    upstream: app
    limits:
      - { key: ip, windows: { burst: 8/10s } }
      - { key: [body.username, ip], count: failures, backoff: { base: 1s, factor: 2, max: 8s, forget: 20s } }
      - { key: body.username, count: failures, windows: { tries: 4/30s } }
      - { key: ip, count: failures, windows: { attempts: 3/20s }, block: { for: 15s, factor: 2, max: 60s, forget: 40s } }
  - name: otp
    match: { method: POST, path: /otp }
    upstream: app
    suspect: otp_request
    limits: [{ key: body.username, windows: { w: 3/30s }, block: { for: 5s, factor: 2, max: 40s, forget: 10s } }]
suspicion:
  - { key: ip, weights: { otp_request: 1, failure: 2, limited: 1 }, threshold: 14/1m, block: 45s }
";

const FAILURES_MAX: [(Key, usize, u64); 2] = [(Key::Name, 4, 30_000), (Key::Ip, 3, 20_000)];
const NAMES: [&str; 3] = ["ada", "grace", "edsger"];
const ADDRESSES: [&str; 3] = ["192.0.2.0", "192.0.2.1", "192.0.2.2"];

fn model() -> Model {
    let ladder = |first_ms, longest_ms, forget_ms| Some(Ladder { first_ms, longest_ms, forget_ms });
    let limit = |route, key, counts, block| Limit { route, key, counts, block };
    let limits = [
        limit("login", Key::Ip, Counts::Requests { max: 8, span_ms: 10_000 }, None),
        limit("login", Key::Pair, Counts::Backoff { base_ms: 1000, max_ms: 8000, forget_ms: 20_000 }, None),
        limit("login", Key::Name, Counts::Failures { max: 4, span_ms: 30_000 }, None),
        limit("login", Key::Ip, Counts::Failures { max: 3, span_ms: 20_000 }, ladder(15_000, 60_000, 40_000)),
        limit("otp", Key::Name, Counts::Requests { max: 3, span_ms: 30_000 }, ladder(5_000, 40_000, 10_000)),
    ];
    let suspicion =
        Suspicion { otp: 1, failure: 2, limited: 1, threshold: 14, span_ms: 60_000, block_ms: 45_000 };
    Model::new(&limits, suspicion)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask {
        route: &'static str,
        name: usize,
        ip: usize,
    },
    /// The answer to one of the attempts under way.
    Answer(usize, Outcome),
    Wait(u64),
    Block(usize, u64),
    Unblock(usize),
    Sweep,
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let route = prop_oneof![4 => Just("login"), 1 => Just("otp")];
    let outcome =
        prop_oneof![5 => Just(Outcome::Failure), 1 => Just(Outcome::Success), 1 => Just(Outcome::Neither)];
    let wait = prop_oneof![
        4 => 0..2_000_u64,
        4 => 500..10_000_u64,
        1 => 10_000..70_000_u64,
        // Past the time that an answer is waited for.
        1 => 100_000..140_000_u64,
    ];
    prop_oneof![
        12 => (route, 0..3_usize, 0..3_usize).prop_map(|(route, name, ip)| Step::Ask { route, name, ip }),
        9 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Answer(which, outcome)),
        6 => wait.prop_map(Step::Wait),
        1 => (0..3_usize, 1_000..90_000_u64).prop_map(|(ip, ms)| Step::Block(ip, ms)),
        1 => any::<usize>().prop_map(Step::Unblock),
        1 => Just(Step::Sweep),
        1 => Just(Step::Tidy),
    ]
}

/// The gateway and what is known of it.
struct Scene {
    stage: Stage,
    model: Model,
    under_way: Vec<(Who, Attempt, model::Held)>,
    /// When each key failed since an operator last let somebody go.
    failed: BTreeMap<(&'static str, String), Vec<u64>>,
}

impl Scene {
    fn set() -> Scene {
        Scene { stage: Stage::set(RULES), model: model(), under_way: Vec::new(), failed: BTreeMap::new() }
    }

    async fn ask(&mut self, route: &'static str, who: Who) -> Result<Said, TestCaseError> {
        let path = if route == "login" { "/login" } else { "/otp" };
        let ask = Ask::post(path, &serde_json::json!({ "username": who.name }));
        let ask = Ask { peer: who.ip.parse().unwrap(), ..ask };
        let now = self.stage.now_ms();
        let admission = self.stage.admit(ask).await;
        let (expected, held) = self.model.admit(route, who, now);
        let said = said(&admission.outcome);
        prop_assert_eq!(said, expected, "{:?} on {} at {}", who, route, now);
        if let (Some(attempt), Some(held)) = (admission.attempt, held) {
            self.under_way.push((who, *attempt, held));
        }
        Ok(said)
    }

    async fn answer(&mut self, which: usize, outcome: Outcome) {
        let (who, attempt, held) = self.under_way.swap_remove(which);
        let now = self.stage.now_ms();
        self.stage.gateway.observe(&self.stage.policies, attempt, outcome).await;
        if outcome == Outcome::Failure {
            let at = held.counts_at(now);
            self.failed.entry(("name", who.name.to_owned())).or_default().push(at);
            self.failed.entry(("ip", who.ip.to_owned())).or_default().push(at);
        }
        self.model.settle(held, outcome, now);
    }

    async fn unblock(&mut self, which: usize) {
        let now = self.stage.gateway.clock().now();
        let mut records = self.stage.gateway.journal().book().snapshot(now);
        records.sort_by_key(|record| (record.route.clone(), record.identifier.expose().to_owned()));
        if records.is_empty() {
            return;
        }
        let record = &records[which % records.len()];
        let lifted = self.stage.gateway.unblock(record.id, "root").await;
        assert_eq!(lifted.as_ref().map(|lifted| lifted.id), Some(record.id));
        let route = record.route.as_deref().unwrap_or("everywhere");
        self.model.unblock(route, record.identifier.expose());
        self.failed.clear();
        // Attempts of the same millisecond, before and after, would be one.
        self.stage.advance(1);
    }

    async fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Ask { route, name, ip } => {
                self.ask(route, Who { name: NAMES[name], ip: ADDRESSES[ip] }).await?;
            }
            Step::Answer(which, outcome) if !self.under_way.is_empty() => {
                self.answer(which % self.under_way.len(), outcome).await;
            }
            Step::Answer(..) => {}
            Step::Wait(ms) => self.stage.advance(ms),
            Step::Block(ip, ms) => {
                let key = KeySpec {
                    parts: [KeyPart::Ip].into_iter().collect(),
                    form: Form::Text,
                    missing: Missing::Skip,
                };
                let values = vec![ADDRESSES[ip].to_owned()];
                let order =
                    BlockOrder { key, values, span: Span::from_millis(ms), by: "root".into(), note: None };
                self.stage.gateway.block(&self.stage.policies, order).await.unwrap();
                self.model.block(ADDRESSES[ip], self.stage.now_ms() + ms);
            }
            Step::Unblock(which) => self.unblock(which).await,
            Step::Sweep => self.stage.gateway.sweep(),
            Step::Tidy => self.stage.gateway.tidy_journal(),
        }
        prop_assert_eq!(self.blocked(), self.model.blocked(self.stage.now_ms()), "after {:?}", step);
        Ok(())
    }

    /// The book: on which route, or everywhere, who is blocked until when.
    fn blocked(&self) -> BTreeMap<(String, String), u64> {
        let records = self.stage.gateway.journal().book().snapshot(self.stage.gateway.clock().now());
        let entry = |record: Arc<crate::journal::BlockRecord>| {
            let route = record.route.as_deref().unwrap_or("everywhere").to_owned();
            ((route, record.identifier.expose().to_owned()), ms(record.block.until))
        };
        records.into_iter().map(entry).collect()
    }

    /// With nothing under way and nothing else sent: waiting as long as one is told is enough. A limit that needs the
    /// body may only then have its turn, for who is refused without it is refused without it being read.
    async fn waits_are_honest(&mut self) -> Result<(), TestCaseError> {
        while !self.under_way.is_empty() {
            self.answer(0, Outcome::Neither).await;
        }
        for route in ["login", "otp"] {
            for who in NAMES.iter().flat_map(|name| ADDRESSES.map(|ip| Who { name, ip })) {
                let mut rounds = 0;
                loop {
                    let said = self.ask(route, who).await?;
                    let Some(retry_at) = said.retry_at() else { break };
                    rounds += 1;
                    prop_assert!(rounds <= 2, "{who:?} on {route} waited twice, and is told {said:?}");
                    self.stage.advance(retry_at - self.stage.now_ms());
                }
                while !self.under_way.is_empty() {
                    self.answer(0, Outcome::Neither).await;
                }
            }
        }
        Ok(())
    }

    fn never_more_failures_than_allowed(&self) -> Result<(), TestCaseError> {
        for (key, max, span_ms) in FAILURES_MAX {
            let kind = if key == Key::Ip { "ip" } else { "name" };
            for ((of, whom), times) in &self.failed {
                let mut times = times.clone();
                times.sort_unstable();
                for window in times.windows(max + 1).filter(|_| *of == kind) {
                    prop_assert!(window[max] - window[0] >= span_ms, "{whom}: {window:?}");
                }
            }
        }
        Ok(())
    }

    async fn all_tell_the_same(self) -> Result<(), TestCaseError> {
        let Scene { stage, model, .. } = self;
        let (now, happened) = (stage.now_ms(), model.happened);
        let in_force = model.blocked(now).len() as u64;
        prop_assert_eq!(stage.metric("tollgate_store_blocks"), model.in_store(now) as u64);
        prop_assert_eq!(stage.metrics_with("tollgate_blocks", "reason"), in_force);
        prop_assert_eq!(
            stage.metrics_with("tollgate_requests_total", "verdict=\"admitted\""),
            happened.admitted
        );
        let refused = ["limited", "blocked", "backed_off"]
            .map(|verdict| stage.metrics_with("tollgate_requests_total", &format!("verdict=\"{verdict}\"")));
        prop_assert_eq!(refused.iter().sum::<u64>(), happened.refused);
        prop_assert_eq!(stage.metrics_with("tollgate_attempts_total", "\"failure\""), happened.failures);
        prop_assert_eq!(stage.metrics_with("tollgate_backoffs_total", "login"), happened.waits);
        let told = stage.close().await;
        let count = |kind| told.get(&kind).copied().unwrap_or_default();
        let in_journal = [
            EventKind::Limited,
            EventKind::Failure,
            EventKind::Backoff,
            EventKind::Blocked,
            EventKind::Unblocked,
        ];
        let expected =
            [happened.refused, happened.failures, happened.waits, happened.blocked, happened.unblocked];
        prop_assert_eq!(in_journal.map(count), expected);
        let kept = stage.reopened();
        prop_assert_eq!(kept.book().len(stage.gateway.clock().now()) as u64, in_force);
        Ok(())
    }
}

impl Said {
    fn retry_at(self) -> Option<u64> {
        match self {
            Said::Full(at) | Said::Blocked(at) | Said::Waits(at) | Said::Pending(at) | Said::Banned(at) => {
                Some(at)
            }
            Said::Admitted | Said::Denied => None,
        }
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn all_that_is_told_is_one_story(steps in prop::collection::vec(step(), 1..100)) {
        play(async {
            let mut scene = Scene::set();
            for step in steps {
                scene.take(step).await?;
            }
            scene.never_more_failures_than_allowed()?;
            scene.waits_are_honest().await?;
            scene.all_tell_the_same().await
        })?;
    }
}
