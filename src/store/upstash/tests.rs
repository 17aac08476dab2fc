pub(super) mod api;
pub(super) mod redis_server;

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};
use smallvec::smallvec;

use self::api::{Api, Commands, PATIENCE};
use self::redis_server::RedisServer;
use super::super::remote::call::{Entry, Script, Terms};
use super::*;
use crate::decision::time::Timestamp;

fn upstash(url: &str, token: &str) -> Upstash {
    Upstash::new(UpstashUrl::parse(url).unwrap(), token.into(), "gate:", 2 * PATIENCE)
}

/// Scripts live as long as the program.
fn script_of(source: &str) -> &'static Script {
    Box::leak(Box::new(Script { source: source.to_owned(), sha1: source.to_owned() }))
}

fn call(script: &'static Script, key: &str, limit: &[u8]) -> Call {
    let terms = Terms { limit: limit.to_vec(), kept_ms: 1 };
    Call { script, head: String::new(), entries: smallvec![Entry { key: key.to_owned(), terms }] }
}

/// What Upstash alone understands, in a script that comes as a source or by its name.
struct Understood(HashMap<String, String>);

impl Understood {
    fn word(&mut self, word: &str) -> String {
        let sha1 = |text: &str| script::hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref());
        match word.strip_prefix("#!lua flags=allow-key-locking") {
            Some(source) => {
                self.0.insert(sha1(word), sha1(source));
                source.to_owned()
            }
            None => self.0.get(word).cloned().unwrap_or_else(|| word.to_owned()),
        }
    }
}

/// Hands commands to a real server and words its answers as Upstash does.
fn relay(server: &RedisServer) -> impl Fn(&Commands) -> (StatusCode, String) + Send + Sync + 'static {
    fn reply(value: redis::Value) -> Value {
        match value {
            redis::Value::Nil => Value::Null,
            redis::Value::Int(int) => int.into(),
            redis::Value::BulkString(bytes) => BASE64.encode(bytes).into(),
            redis::Value::Okay => "OK".into(),
            redis::Value::Array(values) => values.into_iter().map(reply).collect(),
            other => panic!("a script of ours does not answer {other:?}"),
        }
    }
    let state = Mutex::new((server.connect(), Understood(HashMap::new())));
    move |commands| {
        let run = |words: &Vec<String>| {
            let (connection, understood) = &mut *state.lock();
            let mut command = redis::Cmd::new();
            for word in words {
                command.arg(understood.word(word));
            }
            match command.query::<redis::Value>(connection) {
                Ok(value) => json!({ "result": reply(value) }),
                Err(error) => {
                    let (code, text) = (error.code().unwrap_or("ERR"), error.detail().unwrap_or_default());
                    json!({ "error": format!("{code} {text}") })
                }
            }
        };
        (StatusCode::OK, commands.iter().map(run).collect::<Value>().to_string())
    }
}

/// Keeps what it is given behind what it has, and answers with all of it.
const APPEND: &str = "
    local stored = (redis.call('GET', KEYS[1]) or '') .. struct.pack('<I4', #ARGV[3]) .. ARGV[3]
    redis.call('SET', KEYS[1], stored)
    return { #stored, (struct.unpack('<I4', stored)), 1, stored }
";

#[tokio::test]
async fn binary_states_survive_the_way_to_a_server_and_back() {
    let server = RedisServer::start();
    let api = Api::start(relay(&server)).await;
    let store = upstash(&api.base(), "secret");
    let append = script_of(APPEND);
    let all: Vec<u8> = (0..=255).collect();
    let stored = [&256_u32.to_le_bytes(), all.as_slice()].concat();
    let answer = store.run(&call(append, "a\u{e4}\"", &all)).await.unwrap();
    let now = Timestamp::from_micros(260_000_256);
    assert_eq!(answer, Answer { now, said: 1, states: smallvec![Some(stored)] });
    let (headers, _) = api.asked().remove(0);
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("authorization"), "Bearer secret");
    assert_eq!(
        (header("upstash-encoding"), header("content-type")),
        ("base64".into(), "application/json".into())
    );
    assert_eq!(store.probe().await, Ok(()));
    let there: String = redis::cmd("GET").arg("gate:1:probe").query(&mut server.connect()).unwrap();
    assert_eq!(there, "1");
}

#[tokio::test]
async fn errors_of_commands_are_told_apart() {
    let server = RedisServer::start();
    let api = Api::start(relay(&server)).await;
    let store = upstash(&api.base(), "secret");
    let append = script_of(APPEND);
    let _: i64 = redis::cmd("LPUSH").arg("list").arg(1).query(&mut server.connect()).unwrap();
    assert_eq!(store.run(&call(append, "list", b"")).await, Err(StoreError::WrongType));
    let broken = script_of("return this is no Lua");
    assert!(matches!(store.run(&call(broken, "k", b"")).await, Err(StoreError::Refused(_))));
    let one = script_of("return 1");
    assert!(matches!(store.run(&call(one, "k", b"")).await, Err(StoreError::Garbage(_))), "no array");
    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query(&mut server.connect()).unwrap();
    assert_eq!(store.run(&call(append, "k", b"")).await, Err(StoreError::OutOfMemory));
    assert_eq!(store.probe().await, Err(StoreError::OutOfMemory));
}

/// The first words of all commands so far, a request in each line.
fn verbs(api: &Api) -> Vec<String> {
    let of = |commands: Commands| commands.iter().map(|words| words[0].clone()).collect::<Vec<_>>().join(" ");
    api.asked().into_iter().map(|(_, commands)| of(commands)).collect()
}

#[tokio::test]
async fn a_server_that_forgot_a_script_is_told_it_in_the_same_run() {
    let server = RedisServer::start();
    let api = Api::start(relay(&server)).await;
    let store = Arc::new(upstash(&api.base(), "secret"));
    let count = script_of("return { 0, 0, redis.call('INCR', KEYS[1]), false }");
    assert_eq!(store.run(&call(count, "k", b"")).await.unwrap().said, 1);
    assert_eq!(store.run(&call(count, "k", b"")).await.unwrap().said, 2);
    assert_eq!(verbs(&api), ["EVALSHA", "EVAL", "EVALSHA"]);

    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut server.connect()).unwrap();
    let (one, two, three) = (call(count, "k", b""), call(count, "k", b""), call(count, "k", b""));
    let (one, two, three) = tokio::join!(store.run(&one), store.run(&two), store.run(&three));
    let mut counts = [one, two, three].map(|answer| answer.unwrap().said);
    counts.sort_unstable();
    assert_eq!(counts, [3, 4, 5], "each ran once");
    // The first goes alone; the others follow in one request, or beside its second try.
    let sources =
        verbs(&api).iter().skip(3).filter(|verbs| verbs.contains("EVAL ") || verbs.ends_with("EVAL")).count();
    assert!(sources <= 2, "{:?}", verbs(&api));
}

#[tokio::test]
async fn calls_of_one_moment_share_a_request() {
    let server = RedisServer::start();
    let api = Api::start(relay(&server)).await;
    let store = upstash(&api.base(), "secret");
    let count = script_of("return { 0, 0, redis.call('INCR', KEYS[1]), false }");
    assert_eq!(store.run(&call(count, "a", b"")).await.unwrap().said, 1);
    let (one, other) = (call(count, "a", b""), call(count, "b", b""));
    let (one, other) = tokio::join!(store.run(&one), store.run(&other));
    assert_eq!((one.unwrap().said, other.unwrap().said), (2, 1));
    assert_eq!(api.batch_sizes(), [1, 1, 2]);
}

#[tokio::test]
async fn a_server_that_never_learns_is_not_asked_for_ever() {
    let forgetful = |commands: &Commands| {
        let replies: Value =
            commands.iter().map(|_| json!({ "error": "NOSCRIPT No matching script." })).collect();
        (StatusCode::OK, replies.to_string())
    };
    let api = Api::start(forgetful).await;
    let one = script_of("return {}");
    assert!(matches!(
        upstash(&api.base(), "secret").run(&call(one, "k", b"")).await,
        Err(StoreError::Garbage(_))
    ));
    assert_eq!(verbs(&api), ["EVALSHA", "EVAL", "EVAL"]);
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_told_without_showing_it() {
    let store = upstash("http://127.0.0.1:1", "se\ncret");
    let Err(error @ StoreError::Auth(_)) = store.probe().await else { panic!("it is refused") };
    assert!(!error.to_string().contains("cret"), "{error}");
    assert!(!format!("{:?}", upstash("http://127.0.0.1:1", "secret")).contains("secret"));
}

#[tokio::test]
async fn a_write_that_is_not_confirmed_fails_the_probe() {
    let api = Api::start(Api::echo).await;
    assert!(matches!(upstash(&api.base(), "secret").probe().await, Err(StoreError::Garbage(_))));
}

#[test]
fn the_address_for_redis_clients_is_told_from_that_of_the_rest_api() {
    let pipeline = |text: &str| UpstashUrl::parse(text).map(|url| url.pipeline);
    let expected = HttpUrl::parse("https://eu1.upstash.io/pipeline");
    assert_eq!(pipeline("https://eu1.upstash.io"), expected.clone().map_err(UpstashUrlFault::Http));
    assert_eq!(pipeline("https://eu1.upstash.io/"), expected.map_err(UpstashUrlFault::Http));
    assert_eq!(
        pipeline("https://proxy.example/redis"),
        HttpUrl::parse("https://proxy.example/redis/pipeline").map_err(UpstashUrlFault::Http)
    );
    for text in ["redis://default:x@eu1.upstash.io:6379", "rediss://default:x@eu1.upstash.io:6379"] {
        assert_eq!(pipeline(text), Err(UpstashUrlFault::NotRest));
    }
    assert_eq!(pipeline("http://eu1.upstash.io"), Err(UpstashUrlFault::Http(HttpUrlFault::Scheme)));
    assert_eq!(pipeline("\u{e4}"), Err(UpstashUrlFault::Http(HttpUrlFault::Malformed)));
}
