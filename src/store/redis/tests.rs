//! One node, against real servers and against one that misbehaves.

mod cluster;
mod process;

use std::time::{Duration, Instant};

use smallvec::smallvec;

use self::process::{Fake, Process, Then, WELCOME, free_port, url};
use super::super::remote::StoreError;
use super::super::remote::call::{Answer, Call, Entry, Script, Terms};
use super::RedisNode;
use crate::decision::time::Timestamp;

const TIMEOUT: Duration = Duration::from_secs(5);

fn node(process: &Process) -> RedisNode {
    RedisNode::new(process.url(), "tg:", TIMEOUT)
}

/// Scripts live as long as the program.
fn script(source: &str) -> &'static Script {
    Box::leak(Box::new(Script::new(source)))
}

/// Counts in the key of each call and answers when, the count, and what the key is judged by.
fn counting() -> &'static Script {
    script(
        "local reply = { 7, 8 }
        for i = 1, #KEYS do
            reply[2 * i + 1], reply[2 * i + 2] = redis.call('INCR', KEYS[i]), ARGV[2 * ARGV[1]:byte(2 * i) + 1]
        end
        return reply",
    )
}

fn call(script: &'static Script, key: &str, limit: &[u8]) -> Call {
    let terms = Terms { limit: limit.to_vec(), kept_ms: 1 };
    Call { script, head: String::new(), entries: smallvec![Entry { key: key.to_owned(), terms }] }
}

fn counted(count: i64, limit: &[u8]) -> Answer {
    Answer { now: Timestamp::from_micros(7_000_008), said: count, states: smallvec![Some(limit.to_vec())] }
}

/// Asks until the answer is good: what an event of another process leads to takes its time.
async fn soon<T, E: std::fmt::Debug>(mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(good) => return good,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_script_runs_with_bytes_in_and_out() {
    let server = Process::start(&[]);
    let (node, script) = (node(&server), counting());
    for (count, arg) in [(1, b"\0\xff\r\n" as &[u8]), (2, b""), (3, b"{}")] {
        assert_eq!(node.run(call(script, "k", arg)).await, Ok(counted(count, arg)));
    }
    assert_eq!(node.probe().await, Ok(()));
    assert_eq!(server.command("GET tg:1:probe"), redis::Value::BulkString(b"1".to_vec()));
    assert_eq!(node.advice().await, None);
}

#[tokio::test]
async fn a_forgotten_script_is_sent_again_in_the_same_call() {
    let server = Process::start(&[]);
    let (node, script) = (node(&server), counting());
    for count in 1..4 {
        assert_eq!(node.run(call(script, "k", b"a")).await, Ok(counted(count, b"a")));
        server.command("SCRIPT FLUSH");
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_told_by_its_meaning() {
    let server = Process::start(&[]);
    let (node, script) = (node(&server), counting());
    server.command("LPUSH list x");
    let writing = script_that_sets();
    assert_eq!(
        node.run(call(self::script("return redis.call('GET', KEYS[1])"), "list", b"")).await,
        Err(StoreError::WrongType)
    );
    server.command("CONFIG SET maxmemory 1");
    assert_eq!(node.run(call(writing, "k", b"v")).await, Err(StoreError::OutOfMemory));
    assert_eq!(node.probe().await, Err(StoreError::OutOfMemory));
    server.command("CONFIG SET maxmemory-policy volatile-lru");
    assert!(node.advice().await.is_some_and(|advice| advice.contains("noeviction")));
    server.command("CONFIG SET maxmemory 0");
    server.command("REPLICAOF 127.0.0.1 1");
    assert_eq!(node.run(call(writing, "k", b"v")).await, Err(StoreError::ReadOnly));
    assert_eq!(node.probe().await, Err(StoreError::ReadOnly));
    server.command("REPLICAOF NO ONE");
    assert_eq!(node.run(call(script, "k", b"a")).await, Ok(counted(1, b"a")));
    let said = node.run(call(self::script("return redis.error_reply('ODD\tthing')"), "k", b"")).await;
    assert!(matches!(said, Err(StoreError::Refused(text)) if text.contains("ODD") && !text.contains('\t')));
}

fn script_that_sets() -> &'static Script {
    script("redis.call('SET', KEYS[1], ARGV[1]) return {}")
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_and_shows_nothing() {
    let server = Process::start(&["--requirepass", "hunter2"]);
    let script = counting();
    let tell = async |login: &str| {
        let node = RedisNode::new(url(&format!("redis://{login}127.0.0.1:{}", server.port)), "tg:", TIMEOUT);
        node.run(call(script, "k", b"a")).await
    };
    assert_eq!(tell(":hunter2@").await, Ok(counted(1, b"a")));
    assert_eq!(tell("default:hunter2@").await, Ok(counted(2, b"a")));
    for login in ["", ":hunter3@", "gate:hunter2@"] {
        let said = tell(login).await.unwrap_err();
        assert!(matches!(said, StoreError::Auth(_)), "{login} {said:?}");
        assert!(!said.to_string().contains("hunter"), "{said}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_told_and_the_connection_left() {
    type Case<'c> = (&'c [&'c str], Then, fn(&StoreError) -> bool);
    let cases: [Case<'_>; 8] = [
        (&["HTTP/1.1 400 Bad Request\r\n\r\n"], Then::Wait, |e| matches!(e, StoreError::Garbage(_))),
        (&[WELCOME, "HTTP/1.1 400 Bad Request\r\n\r\n"], Then::Wait, |e| matches!(e, StoreError::Garbage(_))),
        (&[WELCOME, ":1\r\n"], Then::Wait, |e| matches!(e, StoreError::Garbage(_))),
        (&[WELCOME, "*1\r\n*1\r\n:1\r\n"], Then::Wait, |e| matches!(e, StoreError::Garbage(_))),
        (&[WELCOME, "$99999999999999999999\r\n"], Then::Wait, |e| matches!(e, StoreError::Garbage(_))),
        (&[WELCOME, "*1\r\n$10\r\nabc"], Then::Close, |e| matches!(e, StoreError::Disconnected(_))),
        (&[WELCOME, "\0\0\0\0"], Then::Close, |e| matches!(e, StoreError::Garbage(_))),
        (&["-ERR bad `HELLO` `3` `AUTH` `default` `hunter2`\r\n+OK\r\n+OK\r\n"], Then::Wait, |e| {
            matches!(e, StoreError::Refused(_))
        }),
    ];
    let script = counting();
    for (says, then, is_wanted) in cases {
        let fake = Fake::start(says, then);
        let node = RedisNode::new(fake.url(), "tg:", TIMEOUT);
        for times in 1..3 {
            let error = node.run(call(script, "k", b"a")).await.unwrap_err();
            assert!(is_wanted(&error), "{says:?}: {error:?}");
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
            assert_eq!(fake.connections(), times, "{says:?}: each call has a new connection");
        }
    }
}

#[tokio::test]
async fn tls_to_a_server_without_it_fails_as_a_connection() {
    let fake = Fake::start(&["-ERR Protocol error\r\n"], Then::Wait);
    let node = RedisNode::new(url(&format!("rediss://:hunter2@127.0.0.1:{}", fake.port)), "tg:", TIMEOUT);
    let error = node.run(call(counting(), "k", b"a")).await.unwrap_err();
    let place = format!("127.0.0.1:{}", fake.port);
    assert!(matches!(&error, StoreError::Disconnected(text) if text.contains(&place)), "{error:?}");
}

#[tokio::test]
async fn a_server_without_resp3_is_spoken_to_in_resp2() {
    let unknown =
        "-ERR unknown command `HELLO`, with args beginning with: `3` `AUTH` `default` `hunter2`\r\n";
    // The same words come in answer to AUTH, and mean that neither is known.
    let fake = Fake::start(&[&format!("{unknown}+OK\r\n+OK\r\n")], Then::Wait);
    let error = RedisNode::new(fake.url(), "tg:", TIMEOUT).probe().await.unwrap_err();
    assert!(matches!(error, StoreError::Auth(_)), "{error:?}");
    assert_eq!(fake.connections(), 4, "two attempts for each of two connections");

    // Without a password nothing is asked but what may be refused.
    let plain = url(&format!(
        "redis://127.0.0.1:{}",
        Fake::start(&[&format!("{unknown}-ERR\r\n-ERR\r\n"), "+OK\r\n"], Then::Wait).port
    ));
    assert_eq!(RedisNode::new(plain, "tg:", TIMEOUT).probe().await, Ok(()));
}

#[tokio::test]
async fn who_never_answers_is_given_up_within_a_second() {
    let script = counting();
    for says in [&[] as &[&str], &[WELCOME]] {
        let fake = Fake::start(says, Then::Wait);
        let node = RedisNode::new(fake.url(), "tg:", TIMEOUT);
        let began = Instant::now();
        assert_eq!(node.probe().await, Err(StoreError::Timeout), "{says:?}");
        assert!(began.elapsed() < Duration::from_millis(1500), "{says:?} {:?}", began.elapsed());
        // A call then waits for a new connection, not for the old.
        let waited =
            tokio::time::timeout(Duration::from_millis(400), node.run(call(script, "k", b"a"))).await;
        assert!(matches!(waited, Err(_) | Ok(Err(StoreError::Timeout))), "{waited:?}");
        assert_eq!(fake.connections(), if says.is_empty() { 2 } else { 3 }, "{says:?}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let server = Process::start(&[]);
    let (node, script) = (node(&server), counting());
    assert_eq!(node.probe().await, Ok(()));
    assert_eq!(node.run(call(script, "k", b"a")).await, Ok(counted(1, b"a")));
    let port = server.kill();
    let error = node.run(call(script, "k", b"a")).await.unwrap_err();
    assert!(matches!(error, StoreError::Disconnected(_)), "{error:?}");
    let error = node.probe().await.unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    let _server = Process::start_on(port, &[]);
    assert_eq!(node.probe().await, Ok(()));
    assert_eq!(node.run(call(script, "k", b"a")).await, Ok(counted(1, b"a")));
}

#[tokio::test]
async fn a_connection_closed_while_nobody_asks_costs_no_call() {
    let server = Process::start(&[]);
    let (node, script) = (node(&server), counting());
    for count in 1..4 {
        let answer = soon(async || node.run(call(script, "k", b"a")).await).await;
        assert_eq!(answer, counted(count, b"a"));
        server.command("CLIENT KILL TYPE normal SKIPME yes");
        // That the connection was closed is heard once this task rests.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_stopped_server_holds_nobody_after_it_goes_on() {
    let server = Process::start(&[]);
    let node = node(&server);
    assert_eq!(node.probe().await, Ok(()));
    server.signal("STOP");
    assert_eq!(node.probe().await, Err(StoreError::Timeout));
    server.signal("CONT");
    soon(async || node.probe().await).await;
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_goes_to_nobody() {
    let server = Process::start(&[]);
    let (node, script) = (node(&server), counting());
    assert_eq!(node.run(call(script, "k", b"first")).await, Ok(counted(1, b"first")));
    server.command("CLIENT PAUSE 300 ALL");
    let left = tokio::time::timeout(Duration::from_millis(30), node.run(call(script, "k", b"left"))).await;
    assert!(left.is_err(), "{left:?}");
    assert_eq!(node.run(call(script, "k", b"own")).await, Ok(counted(3, b"own")));
}

#[tokio::test]
async fn many_who_want_a_connection_wait_for_one_attempt() {
    let server = Process::start(&[]);
    let node = std::sync::Arc::new(node(&server));
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let node = std::sync::Arc::clone(&node);
            tokio::spawn(async move { node.run(call(counting(), "k", b"a")).await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    let redis::Value::BulkString(stats) = server.command("INFO stats") else { panic!("INFO is text") };
    let stats = String::from_utf8(stats).unwrap();
    // One of ours, and the one that asks.
    assert!(stats.contains("total_connections_received:2\r\n"), "{stats}");
}

#[tokio::test]
async fn calls_that_go_together_run_once_each_also_when_the_script_is_forgotten() {
    const CALLS: usize = 300;
    let server = Process::start(&[]);
    let (node, script) = (std::sync::Arc::new(node(&server)), counting());
    for round in 1..=3 {
        let calls: Vec<_> = (0..CALLS)
            .map(|number| {
                let (node, key) = (std::sync::Arc::clone(&node), format!("k{}", number % 100));
                tokio::spawn(async move { node.run(call(script, &key, key.as_bytes())).await })
            })
            .collect();
        let mut sum = 0;
        for (number, call) in calls.into_iter().enumerate() {
            let answer = call.await.unwrap().unwrap();
            let own = format!("k{}", number % 100).into_bytes();
            assert_eq!(answer.states[0], Some(own), "each call has the answer for its own key");
            sum += answer.said;
        }
        // Each of a hundred keys was counted up three times.
        let counts = 3 * (round - 1) + 1..=3 * round;
        assert_eq!(sum, 100 * counts.sum::<i64>(), "round {round}");
        server.command("SCRIPT FLUSH");
    }
    let redis::Value::BulkString(stats) = server.command("INFO commandstats") else { panic!("it is text") };
    let stats = String::from_utf8(stats).unwrap();
    let evals = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_eval")?.split(['=', ',']).nth(1));
    let evals: usize = evals.map(|count| count.parse::<usize>().unwrap()).sum();
    assert!(evals < 3 * CALLS / 10, "{evals} evaluations of {} calls", 3 * CALLS);
}

#[tokio::test]
async fn the_master_is_the_one_that_says_so() {
    let master = Process::start(&[]);
    let replica = Process::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let names = |port: u16| {
        let port = port.to_string();
        format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
    };
    let dead = url(&format!("redis://127.0.0.1:{}", free_port()));
    let mute = Fake::start(&[], Then::Wait);
    let stale = Fake::start(&[WELCOME, &names(replica.port)], Then::Wait);
    let right = Fake::start(&[WELCOME, &names(master.port)], Then::Wait);
    let ignorant = Fake::start(&[WELCOME, "*-1\r\n"], Then::Wait);
    let found = |sentinels| RedisNode::by_sentinel("main", sentinels, None, "tg:", TIMEOUT);

    let node = found(vec![dead.clone(), mute.url(), stale.url(), ignorant.url(), right.url()]);
    assert_eq!(node.run(call(counting(), "k", b"a")).await, Ok(counted(1, b"a")));
    assert_eq!(node.probe().await, Ok(()), "the one that knew is asked first");

    assert_eq!(found(vec![stale.url()]).probe().await, Err(StoreError::ReadOnly));
    let error = found(vec![ignorant.url()]).probe().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Refused(text) if text.contains("knows no master main")),
        "{error:?}"
    );
    assert!(matches!(found(vec![dead]).probe().await, Err(StoreError::Disconnected(_))));
    assert!(matches!(found(vec![]).probe().await, Err(StoreError::Disconnected(_))));
}
