//! A real server on a socket of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Gone when dropped.
pub(in crate::store::upstash) struct RedisServer {
    process: Child,
    folder: TempDir,
}

impl RedisServer {
    pub(in crate::store::upstash) fn start() -> RedisServer {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--dir"])
            .arg(folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let said = BufReader::new(process.stdout.take().unwrap());
        let is_ready =
            said.lines().map_while(Result::ok).any(|line| line.contains("ready to accept connections"));
        assert!(is_ready, "redis-server starts");
        RedisServer { process, folder }
    }

    pub(in crate::store::upstash) fn connect(&self) -> redis::Connection {
        let url = format!("redis+unix://{}", self.folder.path().join("redis.sock").display());
        redis::Client::open(url).unwrap().get_connection().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}
