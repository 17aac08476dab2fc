//! `tollgate demo`: the shipped configuration in front of a backend that comes along.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::run::{complain, prepare, until_stopped};
use crate::app::{App, ServiceManager, Source};
use crate::clock::Clock;
use crate::config::Environment;
use crate::demo;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration to show.
    #[arg(long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Where the gateway listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where metrics and health are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    admin: SocketAddr,
    /// Where the backend that comes along listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    backend: SocketAddr,
    /// Run that backend alone, without a gateway.
    #[arg(long)]
    backend_only: bool,
}

pub(super) fn run(options: Options, environment: Environment) -> ExitCode {
    let (Some(secret), Some(proof_secret)) = (new_secret(), new_secret()) else {
        eprintln!("the system gives no random numbers");
        return ExitCode::FAILURE;
    };
    // First of all, so that the gateway's configuration can name the port it was given.
    let (backend, address) = match listen(options.backend) {
        Ok(listening) => listening,
        Err(error) => return backend_taken(&options, &error),
    };
    if options.backend_only {
        return backend_alone(&options, backend, secret, proof_secret);
    }
    // Only what the shipped file leaves open is filled in; the file itself is run as it stands.
    let environment = environment
        .with("TOLLGATE_LISTEN", options.listen.to_string())
        .with("TOLLGATE_ADMIN", options.admin.to_string())
        .with("TOLLGATE_UPSTREAM", address.to_string())
        .with("JWT_SECRET", secret.clone())
        .with("OTP_TOKEN_SECRET", proof_secret.clone());
    let source = Source::new(&options.config, environment);
    let (loaded, runtime) = match prepare(&source) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    runtime.block_on(async {
        let backend = match TcpListener::from_std(backend) {
            Ok(backend) => backend,
            Err(error) => return backend_taken(&options, &error),
        };
        let app = match App::start(source, loaded, Clock::system()).await {
            Ok(app) => app,
            Err(error) => return complain(&error, "use --listen ADDRESS or --admin ADDRESS"),
        };
        let secrets = demo::Secrets { tokens: secret.into(), proofs: proof_secret.into() };
        tokio::spawn(demo::backend(backend, secrets, std::future::pending()));
        let gateway = app.addresses().first().copied().unwrap_or(options.listen);
        let addresses = demo::Addresses { gateway, admin: app.admin_address(), backend: address };
        println!("{}", demo::banner(&addresses));
        until_stopped(app, ServiceManager::default(), None).await
    })
}

/// Listens for the demo's backend; where it does, is told as well.
fn listen(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn backend_alone(
    options: &Options,
    backend: std::net::TcpListener,
    secret: String,
    proof_secret: String,
) -> ExitCode {
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let backend = match TcpListener::from_std(backend) {
            Ok(backend) => backend,
            Err(error) => return backend_taken(options, &error),
        };
        if let Ok(address) = backend.local_addr() {
            println!("The demo's backend is up: http://{address}");
        }
        // An environment variable lets a gateway in another container check its tokens.
        let or = |name: &str, own: String| {
            std::env::var(name).ok().filter(|secret| !secret.is_empty()).unwrap_or(own).into()
        };
        let secrets =
            demo::Secrets { tokens: or("JWT_SECRET", secret), proofs: or("OTP_TOKEN_SECRET", proof_secret) };
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            eprintln!("cannot listen for signals");
            return ExitCode::FAILURE;
        };
        let stopped = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        match demo::backend(backend, secrets, stopped).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the backend stopped: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

fn backend_taken(options: &Options, error: &io::Error) -> ExitCode {
    let address = options.backend;
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            eprintln!(
                "{address} (the demo's backend) is in use by another program; to pick another, use --backend ADDRESS"
            );
        }
        _ => eprintln!(
            "cannot listen on {address} (the demo's backend): {error}; to pick another, use --backend ADDRESS"
        ),
    }
    ExitCode::FAILURE
}

/// A secret for this run alone, hexadecimal.
fn new_secret() -> Option<String> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).ok()?;
    Some(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}
