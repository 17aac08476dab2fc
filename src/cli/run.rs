//! `tollgate run`: the gateway until a signal says otherwise.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::{self, Activation, App, News, Outside, ServiceManager, Source, StartError, Successor};
use crate::clock::Clock;
use crate::config::{self, Environment, Loaded};
use crate::telemetry::log;

pub(super) fn start(path: &Path, environment: Environment) -> ExitCode {
    run(path, environment, App::start)
}

/// In the place of the gateway that runs, if one does.
pub(super) fn upgrade(path: &Path, environment: Environment) -> ExitCode {
    run(path, environment, App::succeed)
}

fn run<F, S>(path: &Path, environment: Environment, begin: F) -> ExitCode
where
    F: FnOnce(Source, Loaded, Outside) -> S,
    S: Future<Output = Result<App, StartError>>,
{
    // Before anything else is opened, which might get the number of a socket that is promised and not there.
    let activation = Activation::of_process(&environment);
    let source = Source::new(path, environment);
    let renewal = Renewal::of(path);
    let (loaded, runtime) = match prepare(&source) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    runtime.block_on(async {
        let service_manager = ServiceManager::of(&source.environment);
        let signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(code) => return code,
        };
        match begin(source, loaded, Outside { activation, ..Clock::system().into() }).await {
            Ok(app) => {
                let admin = app.admin_address();
                tracing::info!(listen = ?app.addresses(), %admin, "the gateway is ready");
                service_manager.tell(News::Ready);
                until_stopped(app, signals, service_manager, renewal).await
            }
            Err(error) => complain(&error, "edit the configuration"),
        }
    })
}

/// How the binary is started that is to take over.
pub(super) struct Renewal {
    program: PathBuf,
    config: PathBuf,
}

impl Renewal {
    /// None where the system does not say where the binary is.
    fn of(config: &Path) -> Option<Renewal> {
        // Now: once the file is replaced, the system tells that it is gone.
        Some(Renewal { program: std::env::current_exe().ok()?, config: config.to_owned() })
    }

    fn start(&self) {
        match self.spawn() {
            Ok(pid) => tracing::info!(pid, program = %self.program.display(), "a successor was started"),
            Err(error) => {
                let program = self.program.display();
                tracing::error!(%error, %program, "no successor could be started; this gateway goes on");
            }
        }
    }

    fn spawn(&self) -> io::Result<u32> {
        let mut command = Command::new(&self.program);
        // They speak of what this process was given.
        Activation::VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        let mut child = command.args(["run", "--upgrade", "--config"]).arg(&self.config).spawn()?;
        let pid = child.id();
        // One that fails is told while this one is still there; one that succeeds outlives it.
        std::thread::spawn(move || match child.wait() {
            Ok(status) => tracing::warn!(pid, %status, "the successor ended"),
            Err(error) => tracing::error!(pid, %error, "nobody knows what became of the successor"),
        });
        Ok(pid)
    }
}

/// Loads a configuration and sets up the log and the threads that it asks for.
pub(super) fn prepare(source: &Source) -> Result<(Loaded, Runtime), ExitCode> {
    let small_pages = small_pages();
    let loaded = source.load().map_err(|refused| {
        eprintln!("{refused}");
        ExitCode::FAILURE
    })?;
    let format = match loaded.config.log {
        config::LogFormat::Json => log::LogFormat::Json,
        config::LogFormat::Text => log::LogFormat::Text,
    };
    if let Err(error) = log::init(format, tracing::Level::INFO) {
        eprintln!("cannot write a log: {error}");
        return Err(ExitCode::FAILURE);
    }
    if let Err(error) = small_pages {
        tracing::warn!(%error, "the kernel may give this process huge pages: it takes more memory than it uses");
    }
    let threads = app::workers(&loaded.config);
    match Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => Ok((loaded, runtime)),
        Err(error) => {
            eprintln!("cannot start {threads} threads: {error}");
            Err(ExitCode::FAILURE)
        }
    }
}

/// Has the kernel give memory in pages of 4 KiB from here on. The allocator asks for huge ones, and some kernels give
/// them unasked: 2 MiB then stay for as long as anything in them is used, and what was given back of them is filled up
/// again behind our back.
#[cfg(target_os = "linux")]
fn small_pages() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

#[cfg(not(target_os = "linux"))]
fn small_pages() -> io::Result<()> {
    Ok(())
}

/// Says why the gateway did not start; `remedy` is how another port is picked.
pub(super) fn complain(error: &StartError, remedy: &str) -> ExitCode {
    match error {
        StartError::Bind(bind) => eprintln!("{bind}; to pick another, {remedy}"),
        StartError::Config(_)
        | StartError::Snapshot(_)
        | StartError::DataDir(_)
        | StartError::Handover(_)
        | StartError::Metrics(_)
        | StartError::NoRandomness => eprintln!("{error}"),
    }
    ExitCode::FAILURE
}

/// What the process is told from outside. Listened for before it says that it is ready: whoever reads that may send one
/// at once, and it would end by it.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    renew: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Signals, ExitCode> {
        let signals = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
            signal(SignalKind::user_defined2()),
        );
        let (Ok(terminate), Ok(interrupt), Ok(hangup), Ok(renew)) = signals else {
            eprintln!("cannot listen for signals");
            return Err(ExitCode::FAILURE);
        };
        Ok(Signals { terminate, interrupt, hangup, renew })
    }
}

/// Serves until SIGTERM or SIGINT, or until a successor takes over; a second signal does not wait. SIGHUP reloads, SIGUSR2
/// starts a successor.
pub(super) async fn until_stopped(
    mut app: App,
    signals: Signals,
    service_manager: ServiceManager,
    renewal: Option<Renewal>,
) -> ExitCode {
    let Signals { mut terminate, mut interrupt, hangup, renew } = signals;
    tokio::spawn(reload_on(hangup, app.reload_handle()));
    tokio::spawn(renew_on(renew, renewal));
    let end = tokio::select! {
        _ = terminate.recv() => End::Stop,
        _ = interrupt.recv() => End::Stop,
        successor = app.successor() => End::HandOver(successor),
    };
    let hurry = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("stopping at once");
    };
    let drain = app.drain();
    let drained = match end {
        End::Stop => {
            service_manager.tell(News::Stopping);
            app.stop(drain, hurry).await
        }
        // The service goes on: its manager hears from the successor.
        End::HandOver(successor) => app.hand_over(successor, drain, hurry).await,
    };
    if !drained {
        tracing::warn!("some requests did not finish in time");
    }
    ExitCode::SUCCESS
}

enum End {
    Stop,
    HandOver(Successor),
}

async fn renew_on(mut renew: Signal, renewal: Option<Renewal>) {
    while renew.recv().await.is_some() {
        match &renewal {
            Some(renewal) => renewal.start(),
            None => tracing::warn!("there is no successor to start"),
        }
    }
}

async fn reload_on(mut hangup: Signal, reload: mpsc::Sender<()>) {
    while hangup.recv().await.is_some() {
        // A full channel means that a reload is due already.
        let _ = reload.try_send(());
    }
}
