//! The commands: one file each.

pub mod check;
mod demo;
mod run;
pub mod schema;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Environment;

/// A rate-limiting reverse proxy that stands in front of logins.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in front of your app.
    Run {
        /// The configuration; edits are live within a second.
        #[arg(long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
    },
    /// Run the gateway in front of a small auth backend that it brings along.
    Demo(demo::Options),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let environment = Environment::process();
    match Arguments::parse().command {
        Command::Run { config } => run::run(&config, environment),
        Command::Demo(options) => demo::run(options, environment),
    }
}
