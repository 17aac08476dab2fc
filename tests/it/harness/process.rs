//! A program in a process of its own: what it says, how it is signalled, how it ends.

use std::io::{Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;

/// A running program; killed and reaped when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// Whether this program is there to be started. Where it is not, and build/install-deps.sh could not bring it, this says
/// so where nobody can miss it, and the test skips itself.
pub(crate) fn is_there(program: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // wrk says its version, and fails.
    let is_there = asked.status().is_ok_and(|status| matches!(status.code(), Some(0 | 1)));
    if !is_there {
        // Not by a macro of the test harness, which shows what a test prints only if it fails.
        let _told = writeln!(std::io::stderr(), "SKIPPED, for want of {program}: a test that runs it");
    }
    is_there
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
    /// Starts a successor.
    Renew,
    /// Freezes the process until [`Signal::Continue`]: its sockets stay open, and nothing answers.
    Stop,
    Continue,
}

impl Process {
    /// Starts it without input, its output kept.
    pub(crate) fn start(command: &mut Command) -> Process {
        Process::start_with(command, Stdio::null())
    }

    /// The same with an input.
    pub(super) fn start_with(command: &mut Command, input: Stdio) -> Process {
        let program = command.get_program().to_owned();
        let spawned = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("{} does not start ({error}): see build/install-deps.sh", program.display()),
        };
        let stdout = Output::of(child.stdout.take().expect("a pipe"));
        let stderr = Output::of(child.stderr.take().expect("a pipe"));
        Process { child, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::HangUp => "HUP",
            Signal::Renew => "USR2",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        // Every shell knows how to signal; not every machine has a program for it.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.expect("a shell").success(), "the process is there to get {signal:?}");
    }

    /// Ends it as `kill -9` does, and returns once it is gone.
    pub(super) fn kill(&mut self) {
        // Both fail for a process that was reaped already, which is as well.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
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

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
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

    /// Nothing more will come: the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.0.borrow().ended
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
