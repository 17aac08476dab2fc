use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::tests::api::{Api, PATIENCE};
use super::*;

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(60);

fn command(word: &str) -> Command {
    Command::Plain(json!([word]).to_string().into())
}

fn waiting(bytes: usize) -> (Waiting, oneshot::Receiver<Result<Reply, StoreError>>) {
    let (answer, arrives) = oneshot::channel();
    (Waiting { command: Command::Plain("x".repeat(bytes).into()), answer }, arrives)
}

fn batcher(api: &Api, hold: Duration) -> Arc<Batcher> {
    let endpoint = Endpoint { url: HttpUrl::parse(&api.url()).unwrap(), headers: HeaderMap::new() };
    Arc::new(Batcher::new(endpoint, hold, FOR_EVER))
}

/// Runs commands `0`, `1`, … beside each other, and returns when all of them stand in the line.
async fn run_all(batcher: &Arc<Batcher>, count: usize) -> JoinSet<(usize, Result<Reply, StoreError>)> {
    let before = batcher.0.line.lock().waiting.len();
    let mut runs = JoinSet::new();
    for number in 0..count {
        let batcher = Arc::clone(batcher);
        runs.spawn(async move { (number, batcher.run(command(&number.to_string())).await) });
    }
    let stand = async {
        while batcher.0.line.lock().waiting.len() < before + count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, stand).await.expect("they come to stand in the line");
    runs
}

fn echo(word: &str) -> Result<Reply, StoreError> {
    Ok(Reply { result: json!([word]), error: None })
}

#[tokio::test]
async fn what_comes_during_an_exchange_goes_with_the_next() {
    let api = Api::start(Api::echo).await;
    let batcher = batcher(&api, FOR_EVER);
    api.hold();
    let first = tokio::spawn({
        let batcher = Arc::clone(&batcher);
        async move { batcher.run(command("first")).await }
    });
    api.wait_for(1).await;
    let runs = run_all(&batcher, 200).await;
    api.let_go();
    assert_eq!(first.await.unwrap(), echo("first"));
    for (number, answer) in runs.join_all().await {
        assert_eq!(answer, echo(&number.to_string()), "everybody hears the own answer");
    }
    assert_eq!(api.batch_sizes(), [1, BATCH_MAX, 200 - BATCH_MAX]);
    assert_eq!(batcher.run(command("x")).await, echo("x"), "and the line is open again");
    assert_eq!(batcher.0.line.lock().exchanges, 0);
}

#[tokio::test]
async fn who_gave_up_before_departure_is_left_behind() {
    let api = Api::start(Api::echo).await;
    let batcher = batcher(&api, FOR_EVER);
    api.hold();
    let first = tokio::spawn({
        let batcher = Arc::clone(&batcher);
        async move { batcher.run(command("first")).await }
    });
    api.wait_for(1).await;
    run_all(&batcher, 3).await.shutdown().await;
    let runs = run_all(&batcher, 2).await;
    api.let_go();
    assert!(first.await.unwrap().is_ok());
    assert!(runs.join_all().await.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(api.batch_sizes(), [1, 2]);
}

#[tokio::test]
async fn a_failed_exchange_fails_those_in_it_and_nobody_else() {
    let api = Api::start(|_| (StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned())).await;
    let batcher = batcher(&api, FOR_EVER);
    api.hold();
    let first = tokio::spawn({
        let batcher = Arc::clone(&batcher);
        async move { batcher.run(command("first")).await }
    });
    api.wait_for(1).await;
    let runs = run_all(&batcher, 5).await;
    api.answer_from_the_next_on(Api::echo);
    api.let_go();
    assert!(matches!(first.await.unwrap(), Err(StoreError::Disconnected(_))));
    assert!(runs.join_all().await.iter().all(|(_, answer)| answer.is_ok()));
}

#[tokio::test]
async fn a_slow_exchange_holds_nobody_for_ever() {
    let api = Api::start(Api::echo).await;
    let batcher = batcher(&api, Duration::from_millis(20));
    api.hold();
    let mut slow = JoinSet::new();
    for number in 1..=EXCHANGES_MAX {
        let batcher = Arc::clone(&batcher);
        slow.spawn(async move { batcher.run(command("slow")).await });
        api.wait_for(number).await;
    }
    let late = run_all(&batcher, 2).await;
    assert_eq!(api.batch_sizes(), [1; EXCHANGES_MAX], "there are no more connections than allowed");
    api.let_go();
    assert!(slow.join_all().await.into_iter().all(|answer| answer == echo("slow")), "the late answers count");
    assert!(late.join_all().await.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(api.batch_sizes().last(), Some(&2));
}

#[tokio::test]
async fn an_exchange_that_is_cut_short_leaves_its_place() {
    let api = Api::start(Api::echo).await;
    let batcher = batcher(&api, FOR_EVER);
    api.hold();
    let elsewhere =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let cut = elsewhere.spawn({
        let batcher = Arc::clone(&batcher);
        async move { batcher.run(command("cut")).await }
    });
    api.wait_for(1).await;
    elsewhere.shutdown_background();
    assert!(cut.await.is_err() || api.batch_sizes() == [1]);
    let freed = async {
        while batcher.0.line.lock().exchanges > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.expect("its place is free");
    api.let_go();
    assert_eq!(batcher.run(command("next")).await, echo("next"));
}

#[test]
fn the_line_is_bounded_and_lets_go_of_who_gave_up() {
    let mut line = Line::default();
    let mut arrivals: VecDeque<_> = (0..WAITING_MAX)
        .map(|_| {
            let (waiting, arrives) = waiting(1);
            line.join(waiting).unwrap();
            arrives
        })
        .collect();
    let full = Err(StoreError::Refused("too many calls are waiting".into()));
    assert_eq!(line.join(waiting(1).0), full);
    drop(arrivals.pop_front());
    assert_eq!(line.join(waiting(1).0), Ok(()));
    assert_eq!(line.waiting.len(), WAITING_MAX);
}

#[test]
fn a_batch_is_bounded_in_number_and_bytes() {
    let check = |sizes: &[usize], expected: usize| {
        let mut line = Line::default();
        let mut arrivals = Vec::new();
        for bytes in sizes {
            let (waiting, arrives) = waiting(*bytes);
            line.join(waiting).unwrap();
            arrivals.push(arrives);
        }
        assert_eq!(line.next_batch().len(), expected);
        assert_eq!(line.waiting.len(), sizes.len() - expected, "nobody is lost");
    };
    check(&[], 0);
    check(&[1; BATCH_MAX], BATCH_MAX);
    check(&[1; BATCH_MAX + 1], BATCH_MAX);
    check(&[BATCH_BYTES_MAX / 2; 3], 2);
    check(&[BATCH_BYTES_MAX * 2, 1], 1);
    check(&[1, BATCH_BYTES_MAX * 2], 1);
}

#[test]
fn a_status_tells_why_nothing_was_run() {
    let check = |status: u16, body: &'static str, is_expected: fn(&StoreError) -> bool| {
        let status = StatusCode::from_u16(status).unwrap();
        let error = refused(&Response { status, headers: HeaderMap::new(), body: body.into() });
        assert!(is_expected(&error), "{status}: {error}");
    };
    check(401, "", |error| matches!(error, StoreError::Auth(_)));
    check(403, "{}", |error| matches!(error, StoreError::Auth(_)));
    check(429, "", |error| matches!(error, StoreError::Refused(_)));
    check(308, "", |error| matches!(error, StoreError::Refused(_)));
    check(404, "<html>", |error| matches!(error, StoreError::Refused(_)));
    check(400, r#"{"error":"OOM command not allowed"}"#, |error| matches!(error, StoreError::OutOfMemory));
    check(400, r#"{"error":"ERR max request size exceeded"}"#, |error| {
        matches!(error, StoreError::Refused(_))
    });
    check(500, "", |error| matches!(error, StoreError::Disconnected(_)));
    check(503, "{}", |error| matches!(error, StoreError::Disconnected(_)));
}

#[test]
fn a_failed_call_is_told_by_its_kind() {
    let text = || Box::from("x");
    assert_eq!(failed(HttpError::Timeout), StoreError::Timeout);
    for error in [HttpError::Connect(text()), HttpError::Tls(text()), HttpError::Broken(text())] {
        assert_eq!(failed(error.clone()), StoreError::Disconnected(error.to_string().into()));
    }
    assert!(matches!(failed(HttpError::TooLarge(1)), StoreError::Garbage(_)));
}
