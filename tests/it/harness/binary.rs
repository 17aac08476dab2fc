//! The real binary, started as an operator starts it, in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

pub(crate) use super::process::Signal;

use super::backend::Backend;
use super::client::get;
use super::gateway::{preamble, replace, value_of};
use super::process::{Ended, Process};

/// The program `tollgate`, whatever its arguments.
pub(crate) enum Binary {}

impl Binary {
    /// Starts it in `folder` with these arguments and no environment but `variables`.
    pub(crate) fn spawn(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments).env_clear().envs(variables.iter().copied()).current_dir(folder);
        Process::start(&mut command)
    }

    /// Starts it as a service manager does that has sockets for it. `variables` and `descriptors` are a shell's, to which
    /// `given` is descriptor 0: `LISTEN_PID=$$ LISTEN_FDS=1` and `3<&0`, for one.
    pub(crate) fn spawn_given(
        folder: &Path,
        given: impl Into<Stdio>,
        variables: &str,
        descriptors: &str,
    ) -> Process {
        let line = format!("{variables} exec \"$0\" run {descriptors} 0</dev/null");
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_tollgate")]).env_clear().current_dir(folder);
        Process::start_with(&mut command, given.into())
    }

    /// Runs it to its end.
    pub(crate) async fn run(folder: &Path, arguments: &[&str]) -> Ended {
        Binary::spawn(folder, arguments, &[]).ended().await
    }
}

/// `tollgate run` in front of a scripted backend, on ports of its own.
pub(crate) struct Running {
    pub(crate) binary: Process,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    preamble: String,
    folder: TempDir,
}

impl Running {
    /// `rules` is the file without version, listeners and upstreams.
    pub(crate) async fn start(backend: &Backend, rules: &str) -> Running {
        Running::launch(&preamble(backend.addr()), rules, &[]).await
    }

    /// With a beginning of the file of the test's own, which [`Running::edit`] keeps, and these variables.
    pub(crate) async fn launch(preamble: &str, rules: &str, variables: &[(&str, &str)]) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("gateway.yaml"), format!("{preamble}{rules}")).expect("a file");
        Running::in_folder(folder, preamble, variables).await
    }

    /// On a disk that takes no file larger than so many bytes, in steps of 512.
    pub(crate) async fn start_cramped(backend: &Backend, rules: &str, file_max: usize) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let preamble = preamble(backend.addr());
        std::fs::write(folder.path().join("gateway.yaml"), format!("{preamble}{rules}")).expect("a file");
        // Of a limit that is passed a process is told by an error, once it ignores the signal.
        let line = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" run", file_max / 512);
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_tollgate")]).env_clear().current_dir(folder.path());
        Running::ready(Process::start(&mut command), folder, &preamble).await
    }

    /// With no more file descriptors than these.
    pub(crate) async fn start_with_descriptors(backend: &Backend, rules: &str, count: usize) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let preamble = preamble(backend.addr());
        std::fs::write(folder.path().join("gateway.yaml"), format!("{preamble}{rules}")).expect("a file");
        let line = format!("ulimit -n {count}; exec \"$0\" run");
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_tollgate")]).env_clear().current_dir(folder.path());
        Running::ready(Process::start(&mut command), folder, &preamble).await
    }

    /// On a socket that somebody else keeps, as `[Socket]` units have it.
    pub(crate) async fn given(preamble: &str, rules: &str, socket: &TcpListener) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("gateway.yaml"), format!("{preamble}{rules}")).expect("a file");
        Stopped { folder, preamble: preamble.to_owned() }.start_given(socket).await
    }

    async fn in_folder(folder: TempDir, preamble: &str, variables: &[(&str, &str)]) -> Running {
        Running::ready(Binary::spawn(folder.path(), &["run"], variables), folder, preamble).await
    }

    /// Waits until it says where it listens.
    async fn ready(mut binary: Process, folder: TempDir, preamble: &str) -> Running {
        let line = binary.stdout.line_with("the gateway is ready").await;
        let mut addresses = line.match_indices("127.0.0.1:").map(|(at, _)| {
            let rest = &line[at..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(rest.len());
            rest[..end].parse().expect("an address")
        });
        let [address, admin] = [addresses.next(), addresses.next()].map(|found| found.expect("an address"));
        Running { binary, address, admin, preamble: preamble.to_owned(), folder }
    }

    /// With a wall clock that is off by so many seconds.
    pub(crate) async fn start_shifted(backend: &Backend, rules: &str, shift_s: i64) -> Running {
        let variables = shifted_clock(shift_s);
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        Running::launch(&preamble(backend.addr()), rules, &variables).await
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The page of metrics.
    pub(crate) async fn metrics(&self) -> String {
        get(self.admin, "/metrics").await.text().to_owned()
    }

    /// The value of a metric line that starts with `series`; zero while there is none.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        value_of(series, &self.metrics().await)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// Starts the program once more on the same file and folder, to take over. The new one, and the old one, which ends.
    pub(crate) async fn upgrade(self) -> (Running, Process) {
        self.upgrade_with(&[]).await
    }

    /// The same, the new one with these variables.
    pub(crate) async fn upgrade_with(self, variables: &[(&str, &str)]) -> (Running, Process) {
        let Running { binary, preamble, folder, address, admin } = self;
        let next = Binary::spawn(folder.path(), &["run", "--upgrade"], variables);
        let running = Running::ready(next, folder, &preamble).await;
        assert_eq!((running.address, running.admin), (address, admin), "it listens where the old one did");
        (running, binary)
    }

    /// Ends it as an operator does, once it has said that it is stopping.
    pub(crate) async fn terminated(mut self) -> Stopped {
        self.binary.signal(Signal::Terminate);
        self.binary.stdout.line_with("stopping").await;
        self.ended().await
    }

    /// A second signal to one that is stopping.
    pub(crate) async fn terminated_again(self) -> Stopped {
        self.binary.signal(Signal::Terminate);
        self.ended().await
    }

    /// Once it has ended by itself.
    pub(crate) async fn ended(self) -> Stopped {
        let ended = self.binary.ended().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
        Stopped { folder: self.folder, preamble: self.preamble }
    }

    /// Ends it as the lack of memory does.
    pub(crate) fn killed(mut self) -> Stopped {
        self.binary.kill();
        Stopped { folder: self.folder, preamble: self.preamble }
    }

    /// Puts new rules in the place of the old ones.
    pub(crate) fn edit(&self, rules: &str) {
        replace(&self.config(), &format!("{}{rules}", self.preamble));
    }
}

/// What a gateway has left behind.
pub(crate) struct Stopped {
    folder: TempDir,
    preamble: String,
}

impl Stopped {
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of what outlives the process.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Another gateway on the same file and folder, on ports of its own.
    pub(crate) async fn start(self) -> Running {
        Running::in_folder(self.folder, &self.preamble, &[]).await
    }

    /// Another one on a socket that somebody else keeps.
    pub(crate) async fn start_given(self, socket: &TcpListener) -> Running {
        let copy = OwnedFd::from(socket.try_clone().expect("a copy"));
        let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=public";
        let binary = Binary::spawn_given(self.folder(), copy, variables, "3<&0");
        Running::ready(binary, self.folder, &self.preamble).await
    }
}

/// The environment in which a program's wall clock is off by so many seconds.
///
/// `faketime` itself would stand between us and the process to signal; it tells which library it loads.
fn shifted_clock(shift_s: i64) -> Vec<(String, String)> {
    let told = Command::new("faketime").args(["-m", "-f", &format!("{shift_s:+}s"), "env"]).output();
    let told = match told {
        Ok(told) => String::from_utf8(told.stdout).expect("variables in UTF-8"),
        Err(error) => panic!("faketime does not start ({error}): see build/install-deps.sh"),
    };
    let wanted = |name: &str| name == "FAKETIME" || name == "LD_PRELOAD" || name.starts_with("DYLD_");
    let variables = told.lines().filter_map(|line| line.split_once('='));
    let variables = variables.filter(|(name, _)| wanted(name)).map(|(n, v)| (n.to_owned(), v.to_owned()));
    // A second is a second on every machine: timeouts are none of the shift's business.
    let mut variables: Vec<(String, String)> = variables.collect();
    variables.push(("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()));
    variables
}
