//! `tollgate run`: the gateway until a signal says otherwise.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::{self, App, Source, StartError};
use crate::clock::Clock;
use crate::config::{self, Environment, Loaded};
use crate::telemetry::log;

/// How long requests in flight may finish after a signal.
const DRAIN: Duration = Duration::from_secs(20);

pub(super) fn run(path: &Path, environment: Environment) -> ExitCode {
    let source = Source::new(path, environment);
    let (loaded, runtime) = match prepare(&source) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    runtime.block_on(async {
        match App::start(source, loaded, Clock::system()).await {
            Ok(app) => {
                let admin = app.admin_address();
                tracing::info!(listen = ?app.addresses(), %admin, "the gateway is ready");
                until_stopped(app).await
            }
            Err(error) => complain(&error, "edit the configuration"),
        }
    })
}

/// Loads a configuration and sets up the log and the threads that it asks for.
pub(super) fn prepare(source: &Source) -> Result<(Loaded, Runtime), ExitCode> {
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
    let threads = app::workers(&loaded.config);
    match Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => Ok((loaded, runtime)),
        Err(error) => {
            eprintln!("cannot start {threads} threads: {error}");
            Err(ExitCode::FAILURE)
        }
    }
}

/// Says why the gateway did not start; `remedy` is how another port is picked.
pub(super) fn complain(error: &StartError, remedy: &str) -> ExitCode {
    match error {
        StartError::Bind(bind) => eprintln!("{bind}; to pick another, {remedy}"),
        StartError::Config(_)
        | StartError::Snapshot(_)
        | StartError::DataDir(_)
        | StartError::Metrics(_)
        | StartError::NoRandomness => eprintln!("{error}"),
    }
    ExitCode::FAILURE
}

/// Serves until SIGTERM or SIGINT, reloading on SIGHUP; a second signal does not wait.
pub(super) async fn until_stopped(app: App) -> ExitCode {
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(hangup)) = signals else {
        eprintln!("cannot listen for signals");
        return ExitCode::FAILURE;
    };
    tokio::spawn(reload_on(hangup, app.reload_handle()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: requests in flight may finish");
    let hurry = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("stopping at once");
    };
    if !app.stop(DRAIN, hurry).await {
        tracing::warn!("some requests did not finish in time");
    }
    ExitCode::SUCCESS
}

async fn reload_on(mut hangup: Signal, reload: mpsc::Sender<()>) {
    while hangup.recv().await.is_some() {
        // A full channel means that a reload is due already.
        let _ = reload.try_send(());
    }
}
