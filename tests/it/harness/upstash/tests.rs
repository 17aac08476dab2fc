//! The stand-in must answer as Upstash documents it, or nothing shown with it means anything.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Manner, Upstash};
use crate::harness::client::{Answer, Client};
use crate::harness::redis::RedisServer;

struct Asking {
    redis: RedisServer,
    upstash: Upstash,
}

impl Asking {
    async fn start() -> Asking {
        let redis = RedisServer::start().await;
        let upstash = Upstash::start(redis.address(), "secret").await;
        Asking { redis, upstash }
    }

    async fn post(&self, path: &str, token: &str, encoding: &str, body: Value) -> Answer {
        let mut client = Client::connect(self.upstash.address()).await;
        let request = client.request("POST", path).header("authorization", format!("Bearer {token}"));
        request.header("upstash-encoding", encoding).json(&body.to_string()).send().await
    }

    async fn pipeline(&self, commands: Value) -> Value {
        self.post("/pipeline", "secret", "base64", commands).await.json()
    }
}

#[tokio::test]
async fn a_pipeline_answers_every_command_in_order() {
    let asking = Asking::start().await;
    let commands =
        json!([["SET", "k", "v", "PX", 5000], ["GET", "k"], ["GET", "no"], ["INCR", "k"], ["INCR", "n"]]);
    let answers = asking.pipeline(commands.clone()).await;
    let not_a_number = json!({ "error": "ERR value is not an integer or out of range" });
    let expected = |value: &str| json!([{ "result": "OK" }, { "result": value }, { "result": null }, not_a_number.clone(), { "result": 1 }]);
    assert_eq!(answers, expected("dg=="));
    asking.redis.must(&["DEL", "n"]).await;
    let plain = asking.post("/pipeline", "secret", "", commands).await;
    assert_eq!((plain.status, plain.json()), (200, expected("v")));
    assert_eq!(
        (asking.upstash.batches(), asking.upstash.calls(), asking.upstash.commands()),
        (vec![5, 5], 2, 10)
    );
}

#[tokio::test]
async fn a_single_command_has_a_path_of_its_own() {
    let asking = Asking::start().await;
    let one = asking.post("/", "secret", "base64", json!(["ECHO", "v"])).await;
    assert_eq!((one.status, one.json()), (200, json!({ "result": "dg==" })));
    let wrong = asking.post("/", "secret", "base64", json!(["NO"])).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["error"].as_str().unwrap().starts_with("ERR unknown command"));
}

#[tokio::test]
async fn who_does_not_know_the_token_or_the_interface_runs_nothing() {
    let asking = Asking::start().await;
    for token in ["", "wrong"] {
        assert_eq!(asking.post("/pipeline", token, "", json!([["SET", "k", "v"]])).await.status, 401);
    }
    for body in [json!("SET"), json!(["SET"]), json!([[null]]), json!({})] {
        assert_eq!(asking.post("/pipeline", "secret", "", body).await.status, 400);
    }
    assert_eq!(asking.post("/multi", "secret", "", json!([["SET", "k", "v"]])).await.status, 400);
    assert_eq!(asking.redis.dbsize().await, 0);
}

#[tokio::test]
async fn a_script_keeps_its_name_though_redis_never_sees_its_first_line() {
    let asking = Asking::start().await;
    let source = "#!lua flags=allow-key-locking\nreturn {ARGV[1], 7, false}";
    let name = asking.redis.must(&["EVAL", "return redis.sha1hex(ARGV[1])", "0", source]).await.text();
    let by_name = json!([["EVALSHA", name, "0", "v"]]);
    let unknown = asking.pipeline(by_name.clone()).await;
    assert!(unknown[0]["error"].as_str().unwrap().starts_with("NOSCRIPT"), "{unknown}");
    let result = json!([{ "result": ["dg==", 7, null] }]);
    assert_eq!(asking.pipeline(json!([["EVAL", source, "0", "v"]])).await, result);
    assert_eq!(asking.pipeline(by_name.clone()).await, result);
    asking.redis.script_flush().await;
    assert!(asking.pipeline(by_name).await[0]["error"].as_str().unwrap().starts_with("NOSCRIPT"));
}

#[tokio::test]
async fn it_misbehaves_as_it_is_told() {
    let mut asking = Asking::start().await;
    let set = || json!([["INCR", "k"]]);
    for status in [401, 429, 500] {
        asking.upstash.behave(Manner::Fail(status));
        assert_eq!(asking.post("/pipeline", "secret", "", set()).await.status, status);
    }
    asking.upstash.behave(Manner::Say("no JSON"));
    assert_eq!(asking.post("/pipeline", "secret", "", set()).await.text(), "no JSON");
    assert_eq!(asking.redis.dbsize().await, 0);

    asking.upstash.behave(Manner::Hang);
    {
        let hanging = asking.post("/pipeline", "secret", "", set());
        tokio::pin!(hanging);
        assert!(timeout(Duration::from_millis(50), &mut hanging).await.is_err());
        asking.upstash.behave(Manner::ServeLate(Duration::from_millis(1)));
        assert_eq!(hanging.await.json(), json!([{ "result": 1 }]));
    }

    asking.upstash.behave(Manner::Serve);
    asking.redis.kill_9();
    assert_eq!(asking.post("/pipeline", "secret", "", set()).await.status, 503);
}
