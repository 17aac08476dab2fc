//! The servers must do what the harness says that they do, or nothing shown with them means anything.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{RedisCluster, RedisServer, Reply, Watched};

#[tokio::test]
async fn a_server_answers_and_comes_back_empty_on_its_port() {
    let mut server = RedisServer::start().await;
    let address = server.address();
    assert_eq!(server.command(&["SET", "a", "1"]).await, Reply::Simple("OK".to_owned()));
    assert_eq!(server.command(&["GET", "a"]).await, Reply::Bytes(b"1".into()));
    assert_eq!(server.command(&["GET", "b"]).await, Reply::Nil);
    assert!(matches!(server.command(&["INCR"]).await, Reply::Error(_)));
    assert_eq!((server.dbsize().await, server.keys().await), (1, vec!["a".to_owned()]));
    server.kill_9();
    assert!(TcpStream::connect(address).await.is_err());
    server.restart_empty().await;
    assert_eq!((server.address(), server.dbsize().await), (address, 0));
    drop(server);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn scripts_are_counted_and_forgotten() {
    let server = RedisServer::with(&["--requirepass", "open sesame"]).await;
    assert_eq!(server.calls().await, 0);
    let nested = server.command(&["EVAL", "return {1, {'b', false}, redis.status_reply('ok')}", "0"]).await;
    let expected = [
        Reply::Int(1),
        Reply::Array(vec![Reply::Bytes(b"b".into()), Reply::Nil]),
        Reply::Simple("ok".to_owned()),
    ];
    assert_eq!(nested, Reply::Array(expected.into()));
    let sha = server.must(&["SCRIPT", "LOAD", "return 7"]).await.text();
    assert_eq!(server.must(&["EVALSHA", &sha, "0"]).await.int(), 7);
    assert_eq!(server.calls().await, 2);
    server.script_flush().await;
    let Reply::Error(error) = server.command(&["EVALSHA", &sha, "0"]).await else {
        panic!("it knows it still")
    };
    assert!(error.starts_with("NOSCRIPT"), "{error}");
}

#[tokio::test]
async fn a_paused_server_takes_connections_and_answers_later() {
    let server = RedisServer::start().await;
    server.pause();
    let answer = server.command(&["PING"]);
    tokio::pin!(answer);
    assert!(timeout(Duration::from_millis(100), &mut answer).await.is_err(), "it is frozen");
    assert!(TcpStream::connect(server.address()).await.is_ok());
    server.resume();
    assert_eq!(answer.await.text(), "PONG");
}

#[tokio::test]
async fn a_cluster_fails_over_and_moves_slots() {
    let mut cluster = RedisCluster::start().await;
    let slot = cluster.slot_of("{a}1").await;
    let first = cluster.master_of(slot).await;
    cluster.node(first).must(&["SET", "{a}1", "x"]).await;
    let other = cluster.master_of((slot + 8192) % 16_384).await;
    assert_ne!(first, other);
    cluster.move_slot(slot, other).await;
    assert_eq!(cluster.master_of(slot).await, other);
    assert_eq!(cluster.node(other).must(&["GET", "{a}1"]).await.text(), "x");
    let Reply::Error(moved) = cluster.node(first).command(&["GET", "{a}1"]).await else {
        panic!("not moved")
    };
    assert_eq!(moved, format!("MOVED {slot} {}", cluster.node(other).address()));

    cluster.node(other).must(&["SET", "{a}1", "y"]).await;
    assert_eq!(cluster.node(other).must(&["WAIT", "1", "5000"]).await.int(), 1);
    cluster.kill(other);
    cluster.wait_for_failover(other).await;
    let heir = cluster.master_of(slot).await;
    assert_ne!(heir, other);
    assert_eq!(cluster.node(heir).must(&["GET", "{a}1"]).await.text(), "y");
    assert_eq!(cluster.counters().await, ["{a}1"]);
}

#[tokio::test]
async fn sentinels_put_the_replica_in_the_masters_place() {
    let mut watched = Watched::start().await;
    let first = watched.master().await.unwrap();
    first.must(&["SET", "a", "x"]).await;
    assert_eq!(first.must(&["WAIT", "1", "5000"]).await.int(), 1);
    let first = first.address();
    watched.kill_master().await;
    watched.wait_for_failover().await;
    let second = watched.master().await.unwrap();
    assert_ne!(second.address(), first);
    assert_eq!(second.must(&["GET", "a"]).await.text(), "x");
    assert_eq!((watched.master_name(), watched.sentinel_urls().len()), ("mymaster", 3));
    assert!(watched.sentinel_urls()[0].starts_with(&format!("redis://{}:", Ipv4Addr::LOCALHOST)));
}
