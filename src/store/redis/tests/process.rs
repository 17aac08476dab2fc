//! Servers of our own: real ones, and one that says what it is told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use secrecy::SecretString;
use tempfile::TempDir;

use super::super::RedisUrl;

/// A `redis-server` on a port of its own, ended when dropped.
pub(super) struct Process {
    child: Child,
    pub(super) port: u16,
    _folder: TempDir,
}

impl Process {
    pub(super) fn start(options: &[&str]) -> Process {
        // Between finding a free port and listening on it somebody else may take it.
        let started = (0..5).find_map(|_| Process::try_start(free_port(), options));
        started.expect("redis-server starts; is it installed?")
    }

    pub(super) fn start_on(port: u16, options: &[&str]) -> Process {
        Process::try_start(port, options).expect("redis-server starts again on its port")
    }

    fn try_start(port: u16, options: &[&str]) -> Option<Process> {
        let folder = TempDir::new().unwrap();
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept"));
        if !ready {
            child.wait().unwrap();
            return None;
        }
        // Whose output nobody reads is stopped by it.
        std::thread::spawn(move || lines.count());
        Some(Process { child, port, _folder: folder })
    }

    pub(super) fn url(&self) -> RedisUrl {
        url(&format!("redis://127.0.0.1:{}", self.port))
    }

    /// Runs a command, written with spaces between its words.
    pub(super) fn command(&self, words: &str) -> redis::Value {
        self.try_command(words).unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    pub(super) fn try_command(&self, words: &str) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        let mut command = redis::Cmd::new();
        words.split(' ').for_each(|word| {
            command.arg(word);
        });
        command.query(&mut client.get_connection()?)
    }

    /// `kill -9`; the port stays ours to start on again.
    pub(super) fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }

    /// `STOP` and `CONT`.
    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn url(text: &str) -> RedisUrl {
    RedisUrl::parse(&SecretString::from(text)).unwrap()
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a server says that takes any login.
pub(super) const WELCOME: &str = "%0\r\n+OK\r\n+OK\r\n";

/// A listener that answers the nth thing it is sent with the nth of its lines, in every
/// connection anew. After the last it closes, or waits for ever.
pub(super) struct Fake {
    pub(super) port: u16,
    connections: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
pub(super) enum Then {
    Close,
    Wait,
}

impl Fake {
    pub(super) fn start(says: &[&str], then: Then) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let says: Vec<String> = says.iter().map(|&line| line.to_owned()).collect();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            let mut waiting = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let says = says.clone();
                waiting.push(std::thread::spawn(move || {
                    let mut heard = [0; 4096];
                    for line in says {
                        if stream.read(&mut heard).unwrap_or(0) == 0
                            || stream.write_all(line.as_bytes()).is_err()
                        {
                            return;
                        }
                    }
                    if matches!(then, Then::Wait) {
                        while stream.read(&mut heard).unwrap_or(0) > 0 {}
                    }
                }));
            }
        });
        Fake { port, connections }
    }

    pub(super) fn url(&self) -> RedisUrl {
        url(&format!("redis://:hunter2@127.0.0.1:{}", self.port))
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
