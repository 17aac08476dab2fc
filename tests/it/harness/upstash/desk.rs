//! Takes requests over HTTP, and has their commands run by the Redis behind.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Manner;
use crate::harness::redis::{Connection, Reply};
use crate::harness::wire::{RequestHead, Wire};

/// The first line by which a script asks Upstash to lock no more than its keys.
const SHEBANG: &str = "#!lua flags=allow-key-locking";

pub(super) struct Desk {
    redis: SocketAddr,
    authorization: String,
    pub(super) manner: watch::Sender<Manner>,
    pub(super) batches: watch::Sender<Vec<usize>>,
    /// The names of scripts as clients know them, and as the Redis behind does.
    names: Mutex<HashMap<String, String>>,
}

/// How texts are put into an answer.
#[derive(Clone, Copy)]
enum Encoding {
    Plain,
    Base64,
}

type Answer = (u16, String);

impl Desk {
    pub(super) fn new(redis: SocketAddr, token: &str) -> Desk {
        Desk {
            redis,
            authorization: format!("Bearer {token}"),
            manner: watch::Sender::new(Manner::Serve),
            batches: watch::Sender::new(Vec::new()),
            names: Mutex::default(),
        }
    }

    /// Serves one connection until either side ends it.
    pub(super) async fn converse(&self, mut wire: Wire) -> io::Result<()> {
        let mut redis = None;
        while let Some(raw) = wire.head().await? {
            let head = RequestHead::parse(&raw)?;
            let body = wire.body(head.framing()?).await?.content;
            let commands = parse(&head, &body);
            self.batches.send_modify(|all| all.push(commands.as_ref().map_or(0, Vec::len)));
            let Some((status, body)) = self.answer(&head, commands, &mut redis).await else { return Ok(()) };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} Stand-in\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            wire.write((head + &body).as_bytes()).await?;
        }
        Ok(())
    }

    /// What one request is answered; nothing if the connection is closed instead.
    async fn answer(
        &self,
        head: &RequestHead,
        commands: Option<Vec<Vec<String>>>,
        redis: &mut Option<Connection>,
    ) -> Option<Answer> {
        let manner = {
            let mut manner = self.manner.subscribe();
            let settled = manner.wait_for(|manner| *manner != Manner::Hang).await;
            settled.expect("the desk has the other end").clone()
        };
        let delay = match manner {
            Manner::Serve => None,
            Manner::ServeLate(delay) => Some(delay),
            Manner::Fail(status) => return Some((status, error("the stand-in was told so"))),
            Manner::Say(body) => return Some((200, body.to_owned())),
            Manner::Hang | Manner::HangUp => return None,
        };
        if head.headers.get("authorization") != Some(self.authorization.as_str()) {
            return Some((401, error("Unauthorized")));
        }
        let (Some(commands), "POST") = (commands, head.method.as_str()) else {
            return Some((400, error("ERR not a request of this interface")));
        };
        let encoding = match head.headers.get("upstash-encoding") {
            Some("base64") => Encoding::Base64,
            _ => Encoding::Plain,
        };
        let mut answers = Vec::new();
        for command in commands {
            match self.run(command, redis).await {
                Ok(reply) => answers.push(worded(reply, encoding)),
                Err(fault) => {
                    *redis = None;
                    return Some((503, error(&format!("the database is away: {fault}"))));
                }
            }
        }
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        match head.target.as_str() {
            "/" => answers.pop().map(|only| {
                let status = if only.get("error").is_some() { 400 } else { 200 };
                (status, only.to_string())
            }),
            _ => Some((200, Value::from(answers).to_string())),
        }
    }

    async fn run(&self, mut words: Vec<String>, redis: &mut Option<Connection>) -> io::Result<Reply> {
        let connection = match redis {
            Some(connection) => connection,
            None => redis.insert(Connection::open(self.redis).await?),
        };
        let verb = words.first().map(|verb| verb.to_ascii_uppercase());
        if let (Some("EVAL"), Some(source)) = (verb.as_deref(), words.get_mut(1)) {
            let understood = source.strip_prefix(SHEBANG).unwrap_or(source).to_owned();
            self.names.lock().expect("the names").insert(sha1(source), sha1(&understood));
            *source = understood;
        }
        if let (Some("EVALSHA"), Some(name)) = (verb.as_deref(), words.get_mut(1))
            && let Some(theirs) = self.names.lock().expect("the names").get(name)
        {
            *name = theirs.clone();
        }
        connection.command(&words).await
    }
}

/// The commands of a request; nothing if it has none that can be understood.
fn parse(head: &RequestHead, body: &[u8]) -> Option<Vec<Vec<String>>> {
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let command = |value: &Value| value.as_array()?.iter().map(word).collect::<Option<Vec<String>>>();
    let body: Value = serde_json::from_slice(body).ok()?;
    match head.target.as_str() {
        "/pipeline" => body.as_array()?.iter().map(command).collect(),
        "/" => Some(vec![command(&body)?]),
        _ => None,
    }
}

fn worded(reply: Reply, encoding: Encoding) -> Value {
    match reply {
        Reply::Error(text) => json!({ "error": text }),
        Reply::Simple(_) | Reply::Int(_) | Reply::Nil | Reply::Bytes(_) | Reply::Array(_) => {
            json!({ "result": result(reply, encoding) })
        }
    }
}

fn result(reply: Reply, encoding: Encoding) -> Value {
    let text = |bytes: &[u8]| match encoding {
        Encoding::Plain => Value::from(String::from_utf8_lossy(bytes)),
        Encoding::Base64 => Value::from(BASE64.encode(bytes)),
    };
    match reply {
        Reply::Nil => Value::Null,
        Reply::Int(int) => int.into(),
        // The one text that is never encoded.
        Reply::Simple(status) if status == "OK" => status.into(),
        Reply::Simple(status) => text(status.as_bytes()),
        Reply::Bytes(bytes) => text(&bytes),
        Reply::Array(replies) => replies.into_iter().map(|reply| result(reply, encoding)).collect(),
        // Inside an array only, where no script of ours puts one.
        Reply::Error(error) => text(error.as_bytes()),
    }
}

fn error(text: &str) -> String {
    json!({ "error": text }).to_string()
}

fn sha1(source: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
