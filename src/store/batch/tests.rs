use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::*;

/// How long anything is waited for before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(60);

const LOADS_MAX: usize = 8;
const WEIGHT_MAX: usize = 100;
const EXCHANGES_MAX: usize = 4;

/// Answers loads with themselves, once it is told to.
#[derive(Debug)]
struct Echo {
    /// How many loads came with each exchange.
    sizes: watch::Sender<Vec<usize>>,
    is_shut: watch::Sender<bool>,
    /// So many exchanges fail from now on.
    failing: AtomicUsize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parcel {
    name: String,
    weight: usize,
    kind: u8,
}

impl Road for Echo {
    type Load = Parcel;
    type Answer = Parcel;

    const LOADS_MAX: usize = LOADS_MAX;
    const WEIGHT_MAX: usize = WEIGHT_MAX;
    const EXCHANGES_MAX: usize = EXCHANGES_MAX;

    fn weight(load: &Parcel) -> usize {
        load.weight
    }

    fn go_together(one: &Parcel, other: &Parcel) -> bool {
        one.kind == other.kind
    }

    async fn exchange(&self, loads: &[Parcel]) -> Result<Vec<Parcel>, StoreError> {
        self.sizes.send_modify(|sizes| sizes.push(loads.len()));
        let fails =
            self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        self.is_shut.subscribe().wait_for(|is_shut| !is_shut).await.unwrap();
        if fails { Err(StoreError::ReadOnly) } else { Ok(loads.to_vec()) }
    }
}

impl Batcher<Echo> {
    fn echoing(hold: Duration) -> Arc<Batcher<Echo>> {
        let road = Echo {
            sizes: watch::Sender::new(Vec::new()),
            is_shut: watch::Sender::new(false),
            failing: AtomicUsize::new(0),
        };
        Arc::new(Batcher::new(road, hold))
    }

    /// Answers nobody from now on, or everybody again.
    fn shut(&self, is_shut: bool) {
        self.0.road.is_shut.send_replace(is_shut);
    }

    fn sizes(&self) -> Vec<usize> {
        self.0.road.sizes.borrow().clone()
    }

    async fn wait_for(&self, exchanges: usize) {
        let mut sizes = self.0.road.sizes.subscribe();
        let enough = timeout(PATIENCE, sizes.wait_for(|sizes| sizes.len() >= exchanges)).await;
        enough.expect("the exchanges begin").unwrap();
    }

    fn start(self: &Arc<Self>, name: &str) -> JoinHandle<Result<Parcel, StoreError>> {
        let (batcher, parcel) = (Arc::clone(self), parcel(name));
        tokio::spawn(async move { batcher.run(parcel).await })
    }

    /// Runs parcels `0`, `1`, … beside each other, and returns when all of them stand in the line.
    async fn line_up(self: &Arc<Self>, count: usize) -> JoinSet<(usize, Result<Parcel, StoreError>)> {
        let before = self.0.line.lock().waiting.len();
        let mut runs = JoinSet::new();
        for number in 0..count {
            let batcher = Arc::clone(self);
            runs.spawn(async move { (number, batcher.run(parcel(&number.to_string())).await) });
        }
        let stand = async {
            while self.0.line.lock().waiting.len() < before + count {
                yield_now().await;
            }
        };
        timeout(PATIENCE, stand).await.expect("they come to stand in the line");
        runs
    }
}

fn parcel(name: &str) -> Parcel {
    Parcel { name: name.to_owned(), weight: 1, kind: 0 }
}

type Arrival = oneshot::Receiver<Result<Parcel, StoreError>>;

fn join(line: &mut Line<Echo>, load: Parcel) -> Result<Arrival, StoreError> {
    let (caller, arrives) = oneshot::channel();
    line.join(Waiting { load, caller }).map(|()| arrives)
}

#[tokio::test]
async fn what_comes_during_an_exchange_goes_with_the_next() {
    let batcher = Batcher::echoing(FOR_EVER);
    batcher.shut(true);
    let first = batcher.start("first");
    batcher.wait_for(1).await;
    let runs = batcher.line_up(13).await;
    batcher.shut(false);
    assert_eq!(first.await.unwrap(), Ok(parcel("first")));
    for (number, answer) in runs.join_all().await {
        assert_eq!(answer, Ok(parcel(&number.to_string())), "everybody hears the own answer");
    }
    assert_eq!(batcher.sizes(), [1, LOADS_MAX, 13 - LOADS_MAX]);
    assert_eq!(batcher.run(parcel("x")).await, Ok(parcel("x")), "and the line is open again");
    assert_eq!(batcher.0.line.lock().exchanges, 0);
}

#[tokio::test]
async fn who_is_ready_in_the_same_moment_goes_together() {
    let batcher = Batcher::echoing(FOR_EVER);
    let (one, other) = tokio::join!(batcher.run(parcel("one")), batcher.run(parcel("other")));
    assert_eq!((one, other), (Ok(parcel("one")), Ok(parcel("other"))));
    assert_eq!(batcher.sizes(), [2]);
}

#[tokio::test]
async fn who_gave_up_before_departure_is_left_behind() {
    let batcher = Batcher::echoing(FOR_EVER);
    batcher.shut(true);
    let first = batcher.start("first");
    batcher.wait_for(1).await;
    batcher.line_up(3).await.shutdown().await;
    let runs = batcher.line_up(2).await;
    batcher.shut(false);
    assert!(first.await.unwrap().is_ok());
    assert!(runs.join_all().await.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(batcher.sizes(), [1, 2]);
}

#[tokio::test]
async fn who_leaves_an_exchange_takes_nobody_along() {
    let batcher = Batcher::echoing(FOR_EVER);
    batcher.shut(true);
    let first = batcher.start("first");
    batcher.wait_for(1).await;
    let (leaves, stays) = (batcher.start("leaves"), batcher.line_up(2).await);
    batcher.shut(false);
    assert!(first.await.unwrap().is_ok());
    batcher.shut(true);
    batcher.wait_for(2).await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    batcher.shut(false);
    assert!(stays.join_all().await.iter().all(|(number, answer)| *answer == Ok(parcel(&number.to_string()))));
}

#[tokio::test]
async fn when_all_gave_up_nothing_is_sent() {
    let batcher = Batcher::echoing(FOR_EVER);
    batcher.shut(true);
    let first = batcher.start("first");
    batcher.wait_for(1).await;
    batcher.line_up(3).await.shutdown().await;
    batcher.shut(false);
    assert!(first.await.unwrap().is_ok());
    assert_eq!(batcher.run(parcel("x")).await, Ok(parcel("x")));
    assert_eq!(batcher.sizes(), [1, 1]);
    assert_eq!(batcher.0.line.lock().exchanges, 0);
}

#[tokio::test]
async fn a_failed_exchange_fails_those_in_it_and_nobody_else() {
    let batcher = Batcher::echoing(FOR_EVER);
    batcher.0.road.failing.store(1, Ordering::SeqCst);
    batcher.shut(true);
    let first = batcher.start("first");
    batcher.wait_for(1).await;
    let runs = batcher.line_up(5).await;
    batcher.shut(false);
    assert_eq!(first.await.unwrap(), Err(StoreError::ReadOnly));
    assert!(runs.join_all().await.iter().all(|(_, answer)| answer.is_ok()));
}

#[tokio::test]
async fn a_slow_exchange_holds_nobody_for_ever() {
    let batcher = Batcher::echoing(Duration::from_millis(20));
    batcher.shut(true);
    let mut slow = Vec::new();
    for number in 1..=EXCHANGES_MAX {
        slow.push(batcher.start("slow"));
        batcher.wait_for(number).await;
    }
    let late = batcher.line_up(2).await;
    assert_eq!(batcher.sizes(), [1; EXCHANGES_MAX], "there are no more exchanges than allowed");
    batcher.shut(false);
    for answer in slow {
        assert_eq!(answer.await.unwrap(), Ok(parcel("slow")), "the late answers count");
    }
    assert!(late.join_all().await.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(batcher.sizes().last(), Some(&2));
}

#[tokio::test]
async fn an_exchange_that_is_cut_short_leaves_its_place() {
    let batcher = Batcher::echoing(FOR_EVER);
    batcher.shut(true);
    let elsewhere =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let cut = elsewhere.spawn({
        let batcher = Arc::clone(&batcher);
        async move { batcher.run(parcel("cut")).await }
    });
    batcher.wait_for(1).await;
    elsewhere.shutdown_background();
    let ended = cut.await;
    assert!(!matches!(ended, Ok(Ok(_))), "{ended:?}");
    let freed = async {
        while batcher.0.line.lock().exchanges > 0 {
            yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.expect("its place is free");
    batcher.shut(false);
    assert_eq!(batcher.run(parcel("next")).await, Ok(parcel("next")));
}

#[test]
fn the_line_is_bounded_and_lets_go_of_who_gave_up() {
    let mut line = Line::default();
    let mut arrivals: VecDeque<_> = (0..WAITING_MAX).map(|_| join(&mut line, parcel("x")).unwrap()).collect();
    let full = StoreError::Refused("too many calls are waiting".into());
    assert_eq!(join(&mut line, parcel("x")).unwrap_err(), full);
    drop(arrivals.pop_front());
    arrivals.push_back(join(&mut line, parcel("x")).unwrap());
    assert_eq!(line.waiting.len(), WAITING_MAX);
}

#[test]
fn a_batch_is_bounded_and_of_one_kind() {
    let check = |parcels: &[(usize, u8)], expected: usize| {
        let mut line = Line::default();
        let arrivals: Vec<_> = parcels
            .iter()
            .map(|&(weight, kind)| join(&mut line, Parcel { weight, kind, ..parcel("x") }).unwrap())
            .collect();
        let (loads, callers) = line.next_batch();
        assert_eq!((loads.len(), callers.len()), (expected, expected));
        assert_eq!(line.waiting.len(), arrivals.len() - expected, "nobody is lost");
    };
    check(&[], 0);
    check(&[(1, 0); LOADS_MAX], LOADS_MAX);
    check(&[(1, 0); LOADS_MAX + 1], LOADS_MAX);
    check(&[(WEIGHT_MAX / 2, 0); 3], 2);
    check(&[(WEIGHT_MAX * 2, 0), (1, 0)], 1);
    check(&[(1, 0), (WEIGHT_MAX * 2, 0)], 1);
    check(&[(1, 0), (1, 0), (1, 1), (1, 0)], 2);
}
