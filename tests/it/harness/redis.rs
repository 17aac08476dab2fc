//! Real Redis servers, alone, in a cluster or watched by sentinels: on ports of their own of 127.0.0.1, with nothing
//! kept on disk, gone when dropped.

mod cluster;
mod port;
mod resp;
mod sentinel;

mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use self::port::Port;
use super::eventually;
use super::process::{Process, Signal};

pub(crate) use self::cluster::RedisCluster;
pub(crate) use self::resp::{Connection, Reply};
pub(crate) use self::sentinel::Watched;

/// How long servers may take to start, to find each other, or to agree on something.
const AGREEMENT: Duration = Duration::from_secs(40);

/// A server in a process of its own.
pub(crate) struct RedisServer {
    port: Port,
    arguments: Vec<String>,
    process: Process,
    folder: TempDir,
    password: Option<String>,
    is_running: bool,
}

impl RedisServer {
    pub(crate) async fn start() -> RedisServer {
        RedisServer::with(&[]).await
    }

    /// With more arguments, as `--maxmemory 1mb` has two.
    pub(crate) async fn with(arguments: &[&str]) -> RedisServer {
        let server = RedisServer::spawn(arguments);
        server.answers().await;
        server
    }

    fn spawn(more: &[&str]) -> RedisServer {
        let mut arguments: Vec<String> = ["--save", "", "--appendonly", "no"].map(str::to_owned).into();
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        RedisServer::spawn_on(Port::free(), tempfile::tempdir().expect("a temporary folder"), arguments)
    }

    fn spawn_on(port: Port, folder: TempDir, arguments: Vec<String>) -> RedisServer {
        let process = run(&port, folder.path(), &arguments);
        let password = arguments.iter().skip_while(|argument| *argument != "--requirepass").nth(1).cloned();
        RedisServer { port, arguments, process, folder, password, is_running: true }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number).into()
    }

    /// What a configuration names it by, the password included.
    pub(crate) fn url(&self) -> String {
        let password = self.password.as_ref().map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{password}{}", self.address())
    }

    /// Ends it without a chance to say goodbye.
    pub(crate) fn kill_9(&mut self) {
        self.process.kill();
        self.is_running = false;
    }

    /// Starts it anew on the port that it had. Nothing was kept but what a cluster's node knows of its cluster.
    pub(crate) async fn restart_empty(&mut self) {
        self.kill_9();
        self.process = run(&self.port, self.folder.path(), &self.arguments);
        self.is_running = true;
        self.answers().await;
    }

    /// Freezes it: connections stay open, are even taken, and nothing answers.
    pub(crate) fn pause(&self) {
        self.process.signal(Signal::Stop);
    }

    pub(crate) fn resume(&self) {
        self.process.signal(Signal::Continue);
    }

    /// Gives a command; panics where no answer comes. An error of the server is an answer.
    pub(crate) async fn command(&self, words: &[&str]) -> Reply {
        match self.try_command(words).await {
            Ok(reply) => reply,
            Err(error) => panic!("{words:?} at {}: {error}; it said:\n{}", self.address(), self.said()),
        }
    }

    /// Gives a command that must succeed.
    pub(crate) async fn must(&self, words: &[&str]) -> Reply {
        let reply = self.command(words).await;
        assert!(!reply.is_error(), "{words:?} at {}: {reply:?}", self.address());
        reply
    }

    async fn try_command(&self, words: &[&str]) -> io::Result<Reply> {
        let mut connection = Connection::open(self.address()).await?;
        if let Some(password) = &self.password {
            connection.command(&["AUTH", password]).await?;
        }
        connection.command(words).await
    }

    /// Forgets all scripts, as a server does that another operator tidies up.
    pub(crate) async fn script_flush(&self) {
        self.must(&["SCRIPT", "FLUSH"]).await;
    }

    /// How many scripts it was asked to run.
    pub(crate) async fn calls(&self) -> u64 {
        let info = self.must(&["INFO", "commandstats"]).await.text();
        let calls = ["cmdstat_eval", "cmdstat_evalsha"].map(|name| {
            let stat = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
            stat.map_or(0, |stat| {
                let digits = stat.split(',').next().unwrap_or_default();
                digits.parse().expect("a number of calls")
            })
        });
        calls.iter().sum()
    }

    /// How many calls decided requests: without those by which gateways tell each other things.
    pub(crate) async fn decisions(&self) -> u64 {
        let info = self.must(&["INFO", "commandstats"]).await.text();
        let given = |command: &str| {
            let stat = info.lines().find_map(|line| {
                line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(":calls=")
            });
            stat.map_or(0, |stat| {
                let digits = stat.split(',').next().unwrap_or_default();
                digits.parse::<u64>().expect("a number of calls")
            })
        };
        // Every script asks for the time, and each of the others for one of these.
        let others = ["hlen", "xrevrange", "hscan", "hgetall", "hmget", "hexists"].map(given);
        given("time").saturating_sub(others.iter().sum())
    }

    /// How many keys it holds.
    pub(crate) async fn dbsize(&self) -> i64 {
        self.must(&["DBSIZE"]).await.int()
    }

    /// The keys of counters: without those that gateways write to see whether they can, or to tell each other things.
    pub(crate) async fn counters(&self) -> Vec<String> {
        let mut keys = self.keys().await;
        keys.retain(|key| !key.contains("probe") && !is_of_others(key));
        keys
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let keys = self.must(&["KEYS", "*"]).await.array();
        keys.into_iter().map(Reply::text).collect()
    }

    /// What gateways have told each other: each mark and each entry with all that is in it, as text.
    pub(crate) async fn mirrored(&self) -> Vec<String> {
        let mut told = Vec::new();
        for key in self.keys().await.into_iter().filter(|key| key.contains(MIRROR)) {
            let words = match self.must(&["TYPE", &key]).await.text().as_str() {
                "hash" => vec!["HGETALL", &key],
                _ => vec!["XRANGE", &key, "-", "+"],
            };
            told.extend(self.must(&words).await.array().into_iter().map(|reply| spelled(&reply)));
        }
        told
    }

    /// All keys of counters and probes with their values, in the order of the keys; panics at one that is no string.
    pub(crate) async fn values(&self) -> Vec<(String, Vec<u8>)> {
        let mut values = Vec::new();
        for key in self.keys().await.into_iter().filter(|key| !is_of_others(key)) {
            match self.must(&["GET", &key]).await {
                Reply::Bytes(value) => values.push((key, value)),
                // It expired between the two commands.
                Reply::Nil => {}
                other => panic!("{key} holds {other:?}"),
            }
        }
        values.sort_unstable();
        values
    }

    /// Listens in on all commands from now on.
    pub(crate) async fn monitor(&self) -> Monitor {
        let opened = async {
            let mut connection = Connection::open(self.address()).await?;
            connection.command(&["MONITOR"]).await?;
            io::Result::Ok(connection)
        };
        Monitor(opened.await.expect("a server that can be listened in on"))
    }

    /// The value of a field of INFO.
    async fn info(&self, section: &str, field: &str) -> Option<String> {
        let info = self.try_command(&["INFO", section]).await.ok()?;
        let Reply::Bytes(info) = info else { return None };
        let info = String::from_utf8_lossy(&info).into_owned();
        info.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned()))
    }

    /// Waits until it takes commands.
    async fn answers(&self) {
        let what = format!("an answer of {}: {:?}", self.address(), self.arguments);
        eventually(&what, AGREEMENT, async || {
            if self.process.stdout.has_ended() {
                panic!("the server ended before it answered:\n{}", self.said());
            }
            let reply = self.try_command(&["PING"]).await.ok()?;
            matches!(&reply, Reply::Simple(pong) if pong == "PONG").then_some(())
        })
        .await;
    }

    fn said(&self) -> String {
        format!("{}{}", self.process.stdout.text(), self.process.stderr.text())
    }
}

/// In the names of what gateways tell each other.
const MIRROR: &str = "{mirror}";

/// Whether a key is of no counter: what gateways tell each other, codes, and claims of requests.
fn is_of_others(key: &str) -> bool {
    [MIRROR, ":code:", ":claim:"].iter().any(|part| key.contains(part))
}

fn spelled(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) | Reply::Error(text) => text.clone(),
        Reply::Int(number) => number.to_string(),
        Reply::Nil => String::new(),
        Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Array(replies) => replies.iter().map(spelled).collect::<Vec<_>>().join(" "),
    }
}

/// Hears every command that a server gets.
pub(crate) struct Monitor(Connection);

impl Monitor {
    /// All commands since the last call, one a line.
    pub(crate) async fn until_now(&mut self, server: &RedisServer) -> Vec<String> {
        const MARK: &str = "the end of what was asked for";
        server.must(&["ECHO", MARK]).await;
        let mut heard = Vec::new();
        loop {
            let line = self.0.reply().await.expect("what the server hears").text();
            if line.contains(MARK) {
                return heard;
            }
            heard.push(line);
        }
    }
}

fn run(port: &Port, folder: &Path, arguments: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    // A configuration file has to come first.
    command.args(arguments).args(["--port", &port.number.to_string(), "--bind", "127.0.0.1"]);
    Process::start(command.args(["--daemonize", "no"]).arg("--dir").arg(folder).current_dir(folder))
}
