//! The real binary, started as an operator starts it, in a process of its own.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;
use super::backend::Backend;
use super::gateway::{preamble, replace};

/// A process of `tollgate`; killed and reaped when dropped.
pub(crate) struct Binary {
    child: Child,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// What a process has written so far.
pub(crate) struct Output(watch::Receiver<Written>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ended: bool,
}

/// How a process ended, and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Terminate,
    Interrupt,
    HangUp,
}

impl Binary {
    /// Starts it in `folder` with these arguments and no environment but `variables`.
    pub(crate) fn spawn(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Binary {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built with the tests");
        let stdout = Output::of(child.stdout.take().expect("a pipe"));
        let stderr = Output::of(child.stderr.take().expect("a pipe"));
        Binary { child, stdout, stderr }
    }

    /// Runs it to its end.
    pub(crate) async fn run(folder: &Path, arguments: &[&str]) -> Ended {
        Binary::spawn(folder, arguments, &[]).ended().await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::HangUp => "HUP",
        };
        // Every shell knows how to signal; not every machine has a program for it.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.expect("a shell").success(), "the process is there to get {signal:?}");
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        // A process that has ended has closed what it wrote to.
        self.stdout.wait_for("the end", |written| written.ended).await;
        self.stderr.wait_for("the end", |written| written.ended).await;
        let status: ExitStatus = self.child.wait().expect("a child is waited for once");
        Ended { code: status.code(), stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // Both fail for a process that was reaped already, which is as well.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Output {
        let (told, written) = watch::channel(Written::default());
        std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                told.send_modify(|written| written.bytes.extend_from_slice(&chunk[..length]));
            }
            told.send_modify(|written| written.ended = true);
        });
        Output(written)
    }

    /// All of it so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow().bytes).into_owned()
    }

    /// Waits for a whole line that holds `part`; panics with what was said instead.
    pub(crate) async fn line_with(&mut self, part: &str) -> String {
        self.line_where(part, |line| line.contains(part)).await
    }

    /// Waits for a whole line that `is_it`.
    pub(crate) async fn line_where(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let find = |written: &Written| {
            let text = String::from_utf8_lossy(&written.bytes).into_owned();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().find(|line| is_it(line)).map(str::to_owned)
        };
        self.wait_for(what, |written| written.ended || find(written).is_some()).await;
        let found = find(&self.0.borrow());
        found.unwrap_or_else(|| panic!("it ended without {what:?}:\n{}", self.text()))
    }

    /// Waits until all that was written satisfies `is_enough`.
    pub(crate) async fn until(&mut self, what: &str, is_enough: impl Fn(&str) -> bool) -> String {
        self.wait_for(what, |written| is_enough(&String::from_utf8_lossy(&written.bytes))).await;
        self.text()
    }

    async fn wait_for(&mut self, what: &str, is_there: impl Fn(&Written) -> bool) {
        let in_time = timeout(PATIENCE, self.0.wait_for(is_there)).await.is_ok();
        if !in_time {
            panic!("waited {PATIENCE:?} for {what:?} in vain, got:\n{}", self.text());
        }
    }
}

/// `tollgate run` in front of a scripted backend, on ports of its own.
pub(crate) struct Running {
    pub(crate) binary: Binary,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    preamble: String,
    folder: TempDir,
}

impl Running {
    /// `rules` is the file without version, listeners and upstreams.
    pub(crate) async fn start(backend: &Backend, rules: &str) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let preamble = preamble(backend.addr());
        std::fs::write(folder.path().join("gateway.yaml"), format!("{preamble}{rules}")).expect("a file");
        let mut binary = Binary::spawn(folder.path(), &["run"], &[]);
        let line = binary.stdout.line_with("the gateway is ready").await;
        let mut addresses = line.match_indices("127.0.0.1:").map(|(at, _)| {
            let rest = &line[at..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(rest.len());
            rest[..end].parse().expect("an address")
        });
        let [address, admin] = [addresses.next(), addresses.next()].map(|found| found.expect("an address"));
        Running { binary, address, admin, preamble, folder }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// Puts new rules in the place of the old ones.
    pub(crate) fn edit(&self, rules: &str) {
        replace(&self.config(), &format!("{}{rules}", self.preamble));
    }
}
