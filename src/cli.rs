//! The commands: one file each.

mod blocks;
mod check;
mod demo;
mod events;
mod explain;
mod remote;
mod run;
mod schema;
mod table;

use std::io;
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
        /// Take over from the gateway that runs on the same store.data_dir, without a refused connection.
        #[arg(long)]
        upgrade: bool,
    },
    /// Tell every mistake of a configuration, or what each route allows.
    Check {
        #[arg(value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
    },
    /// Tell what would become of a request, and why: its route, its keys, each limit.
    Explain(explain::Options),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Run the gateway in front of a small auth backend that it brings along.
    Demo(demo::Options),
    /// Show who is blocked by a running gateway; block somebody, or let somebody go.
    Blocks(blocks::Options),
    /// Show what happened in a running gateway.
    Events(events::Options),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let environment = Environment::process();
    match Arguments::parse().command {
        Command::Run { config, upgrade: false } => run::start(&config, environment),
        Command::Run { config, upgrade: true } => run::upgrade(&config, environment),
        Command::Check { config } => {
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            check::check(&config, &environment, &mut out, &mut err).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Command::Explain(options) => explain::run(&options, &environment),
        Command::Schema => {
            let written = schema::schema(&mut io::stdout().lock());
            written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Command::Demo(options) => demo::run(options, environment),
        Command::Blocks(options) => blocks::run(&options, &environment),
        Command::Events(options) => events::run(&options, &environment),
    }
}
