//! Random providers against the rules, worked out the slow way.

use proptest::prelude::*;

use super::*;

/// What a provider says, in order; the last for ever.
type Script = Vec<Said>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Takes,
    Refuses(Fault),
    /// Transient, before a byte was written.
    Unreached,
}

impl Said {
    fn outcome(self) -> Outcome {
        match self {
            Said::Takes => taken(""),
            Said::Refuses(fault) => refuses(fault),
            Said::Unreached => Outcome::Refused(Refused::new(Fault::Transient, "connect")),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Said::Takes => ACCEPTED,
            Said::Refuses(fault) => fault.word(),
            Said::Unreached => Fault::Transient.word(),
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        2 => Just(Said::Takes),
        6 => prop::sample::select(Fault::ALL.to_vec()).prop_map(Said::Refuses),
        1 => Just(Said::Unreached),
    ]
}

/// Who is asked for one code by a process that knows nothing of these providers, and how it ends.
fn expected(scripts: &[[Said; 2]]) -> (Delivered, Vec<(usize, Said)>) {
    let mut asked: Vec<(usize, Said)> = Vec::new();
    for (place, script) in scripts.iter().enumerate() {
        if asked.len() == 5 {
            break;
        }
        let first = script[0];
        asked.push((place, first));
        let is_last = place + 1 == scripts.len();
        if first == Said::Unreached && is_last && asked.len() < 5 {
            asked.push((place, script[1]));
        }
        let (_, said) = asked[asked.len() - 1];
        let bad_requests = asked.iter().filter(|(_, said)| *said == Said::Refuses(Fault::Request)).count();
        match said {
            Said::Takes => return (Delivered::Accepted, asked),
            Said::Refuses(fault @ (Fault::Recipient | Fault::OptedOut | Fault::Fraud)) => {
                return (Delivered::Stopped(fault), asked);
            }
            Said::Refuses(Fault::Request) if bad_requests == 2 => {
                return (Delivered::Stopped(Fault::Request), asked);
            }
            Said::Refuses(_) | Said::Unreached => {}
        }
    }
    let is_unsure = asked.iter().any(|(_, said)| *said == Said::Refuses(Fault::Ambiguous));
    (if is_unsure { Delivered::Unsure } else { Delivered::NotSent }, asked)
}

fn name(place: usize) -> String {
    format!("p{place}")
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// Sends, failovers and spend, as they follow from who said what.
fn check_counters(world: &World, providers: usize, deliveries: &[Vec<(usize, Said)>]) {
    let count = |is: &dyn Fn(usize, Said) -> bool| {
        let all = deliveries.iter().flatten();
        all.filter(|(place, said)| is(*place, *said)).count() as u32
    };
    for provider in 0..providers {
        for word in [ACCEPTED].into_iter().chain(Fault::ALL.map(Fault::word)) {
            let times = count(&|place, said| place == provider && said.word() == word);
            world.check_sends(&name(provider), word, times);
        }
        for from in (0..providers).filter(|from| *from != provider) {
            let hops = deliveries.iter().flat_map(|asked| asked.windows(2));
            let times = hops.filter(|hop| hop[0].0 == from && hop[1].0 == provider).count();
            world.check_failovers(&name(from), &name(provider), times as u32);
        }
        let is_paid = |said| matches!(said, Said::Takes | Said::Refuses(Fault::Ambiguous));
        let paid = count(&|place, said| place == provider && is_paid(said));
        let state = world.states.named(&name(provider));
        assert_eq!(state.spent(world.now()), u64::from(paid) * 10, "{provider}");
    }
}

fn paid(place: usize, says: impl IntoIterator<Item = Said>) -> Stub {
    let mut stub = stub(&name(place), says.into_iter().map(Said::outcome));
    let by_country = Default::default();
    stub.spec.cost =
        Some(Cost { default_micros: 10, by_country, currency: "USD".into(), daily_max_micros: None });
    stub
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn one_code_goes_the_way_of_the_table(
        scripts in prop::collection::vec([said(), said()], 0..8),
    ) {
        run(async {
            let world = World::new();
            let stubs = scripts.iter().enumerate().map(|(place, script)| paid(place, *script)).collect();
            let (delivered, asked) = world.deliver(&world.dispatcher(stubs)).await;
            let (ends, expected) = expected(&scripts);
            let names: Vec<String> = expected.iter().map(|(place, _)| name(*place)).collect();
            assert_eq!((delivered, asked), (ends, names));
            check_counters(&world, scripts.len(), &[expected]);
        });
    }

    #[test]
    fn many_codes_keep_the_rules(
        scripts in prop::collection::vec(prop::collection::vec(said(), 1..40), 1..4),
        waits in prop::collection::vec(prop_oneof![Just(0), 0..20_000_u64, Just(31_000), Just(301_000)], 1..60),
    ) {
        run(async {
            let world = World::new();
            let stubs = scripts.iter().enumerate().map(|(place, script)| paid(place, script.iter().copied()));
            let dispatcher = world.dispatcher(stubs.collect());
            let mut said: Vec<Vec<(Timestamp, Said)>> = vec![Vec::new(); scripts.len()];
            let mut deliveries = Vec::new();
            for wait_ms in waits {
                world.hand.advance(Span::from_millis(wait_ms));
                let (delivered, asked) = world.deliver(&dispatcher).await;
                let mut delivery = Vec::new();
                for name in asked {
                    let place: usize = name[1..].parse().unwrap();
                    may_be_asked(&said[place], world.now(), !delivery.is_empty());
                    let script: &Script = &scripts[place];
                    let says = script.get(said[place].len()).copied().unwrap_or(Said::Takes);
                    said[place].push((world.now(), says));
                    delivery.push((place, says));
                }
                assert!(delivery.len() <= 5);
                let takes = delivery.iter().filter(|(_, said)| *said == Said::Takes).count();
                assert_eq!(takes, usize::from(delivered == Delivered::Accepted), "never two that take it");
                deliveries.push(delivery);
            }
            check_counters(&world, scripts.len(), &deliveries);
        });
    }
}

/// A provider is not asked while what it said of late forbids it.
fn may_be_asked(said: &[(Timestamp, Said)], now: Timestamp, is_later: bool) {
    let Some((at, last)) = said.last().copied() else { return };
    let ago = at.until(now);
    match last {
        Said::Refuses(Fault::Provider) => assert!(ago >= Span::from_secs(300), "{ago} after it refused us"),
        Said::Refuses(Fault::Throttled) => assert!(ago >= Span::from_secs(1), "{ago} after it had too much"),
        Said::Refuses(Fault::Route) => assert!(ago >= Span::from_secs(600), "{ago} after it had no route"),
        Said::Unreached if is_later => {}
        Said::Takes | Said::Refuses(_) | Said::Unreached => {}
    }
    let is_trouble =
        |said: &Said| matches!(said, Said::Refuses(Fault::Transient | Fault::Ambiguous) | Said::Unreached);
    let in_a_row = said.iter().rev().take_while(|(_, said)| is_trouble(said)).count();
    if in_a_row >= 5 {
        assert!(ago >= Span::from_secs(30), "{ago} after {in_a_row} failures");
    }
}
