//! Every decision leaves its event, or is counted as one that could not be kept.

use super::*;

const RULES: &str = "
access: { deny: [192.0.2.66, 10.0.0.0/8] }
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app,
      reject: [{ field: body.username, value_in: [root] }],
      limits: [{ key: [body.username, ip], count: failures, backoff: { base: 500ms, max: 2s } },
               { key: ip, windows: { w: 20/1m }, block: 30s }] }
  - { name: rest, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/20s } }] }
";

#[derive(Clone, Copy, Debug)]
enum Step {
    Look(u8),
    Guess(u8, Outcome),
    /// A name that the route takes from nobody.
    Reject(u8),
    Denied,
    Wait(u64),
    /// What is done once a second: counts that are complete go to the journal.
    Report,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![3 => Just(Outcome::Failure), 1 => Just(Outcome::Success)];
    prop_oneof![
        8 => (1..4_u8).prop_map(Step::Look),
        8 => (1..4_u8, outcome).prop_map(|(from, outcome)| Step::Guess(from, outcome)),
        2 => (1..4_u8).prop_map(Step::Reject),
        2 => Just(Step::Denied),
        4 => (0..12_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Report),
    ]
}

/// The events of one answer: its refusal, the block that it began.
fn note(told: &mut BTreeMap<EventKind, u64>, kind: EventKind) {
    *told.entry(kind).or_default() += 1;
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_decision_leaves_its_event(steps in prop::collection::vec(step(), 1..150)) {
        play(async {
            let stage = Stage::set(RULES);
            let mut expected: BTreeMap<EventKind, u64> = BTreeMap::new();
            for step in steps {
                let before = stage.metrics_with("tollgate_blocks_started_total", "reason");
                let said = match step {
                    Step::Look(from) => stage.ask(Ask::get("/").from(from)).await,
                    Step::Guess(from, outcome) => {
                        let said = stage.attempt(Ask::sign_in("ada").from(from), outcome).await;
                        if said == Said::Admitted && outcome == Outcome::Failure {
                            note(&mut expected, EventKind::Failure);
                            note(&mut expected, EventKind::Backoff);
                        }
                        said
                    }
                    Step::Reject(from) => {
                        match stage.admit(Ask::sign_in("root").from(from)).await.outcome {
                            Err(Refusal::Rejected { .. }) => note(&mut expected, EventKind::Rejected),
                            Err(Refusal::Limited(_)) => note(&mut expected, EventKind::Limited),
                            other => panic!("root signs in: {other:?}"),
                        }
                        Said::Admitted
                    }
                    Step::Denied => stage.ask(Ask::get("/").from(66)).await,
                    Step::Wait(ms) => {
                        stage.advance(ms);
                        Said::Admitted
                    }
                    Step::Report => {
                        stage.gateway.report_suppressed();
                        Said::Admitted
                    }
                };
                match said {
                    Said::Denied => note(&mut expected, EventKind::Denied),
                    Said::Admitted => {}
                    Said::Full(_) | Said::Blocked(_) | Said::Waits(_) | Said::Pending(_) | Said::Banned(_) => {
                        note(&mut expected, EventKind::Limited);
                    }
                }
                if stage.metrics_with("tollgate_blocks_started_total", "reason") > before {
                    note(&mut expected, EventKind::Blocked);
                }
            }
            prop_assert_eq!(stage.close().await, expected);
            prop_assert_eq!(stage.metrics_with("tollgate_journal_dropped_total", "events"), 0);
            Ok(())
        })?;
    }
}

/// The address of this number among those that are denied.
fn denied(number: u32) -> Ask {
    Ask { peer: IpAddr::from((0x0a00_0000 + number).to_be_bytes()), ..Ask::get("/") }
}

#[test]
fn what_finds_the_queue_full_is_counted() {
    const EVENTS: u32 = 40_000;
    play(async {
        let stage = Stage::set(RULES);
        // The disk is held up, so the queue fills.
        let other = rusqlite::Connection::open(stage.journal_file()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        for number in 0..EVENTS {
            assert_eq!(stage.ask(denied(number)).await, Said::Denied);
        }
        drop(other);
        let kept = stage.close().await.get(&EventKind::Denied).copied().unwrap_or_default();
        let dropped = stage.metrics_with("tollgate_journal_dropped_total", "events");
        assert_eq!(kept + dropped, u64::from(EVENTS), "{kept} kept, {dropped} dropped");
        assert!(dropped > 0, "the queue is bounded");
    });
}

#[test]
fn without_a_disk_everything_is_decided_and_counted() {
    play(async {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), "no folder").unwrap();
        let stage = Stage::with_journal_at("data", RULES, folder);
        for said in [Said::Admitted, Said::Admitted, Said::Full(20_000), Said::Full(20_000)] {
            assert_eq!(stage.ask(Ask::get("/")).await, said);
        }
        assert_eq!(stage.ask(denied(1)).await, Said::Denied);
        stage.gateway.close().await;
        assert_eq!(stage.metric("tollgate_journal_up"), 0);
        // The first refusal of the address, the second one, the one that was denied.
        assert_eq!(stage.metrics_with("tollgate_journal_dropped_total", "events"), 3);
    });
}
