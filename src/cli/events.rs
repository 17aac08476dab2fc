//! `tollgate events`: what happened, from the journal of a running gateway.

use std::io;
use std::process::ExitCode;

use clap::Args;

use super::remote::{self, Place, Remote, given};
use super::table::{self, Column, text};
use crate::config::Environment;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// From then on: 2027-01-15T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before then.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// limited, blocked, unblocked, failure, …; may be there several times.
    #[arg(long)]
    kind: Vec<String>,
    /// info, warning or critical.
    #[arg(long)]
    severity: Option<String>,
    #[arg(long)]
    route: Option<String>,
    #[arg(long)]
    policy: Option<String>,
    /// The whole identifier, or one of its values.
    #[arg(long)]
    identifier: Option<String>,
    /// The address that sent the request.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// So many at most, the newest.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

const COLUMNS: [Column; 8] = [
    ("AT", |event| text(event, "at")),
    ("KIND", |event| text(event, "kind")),
    ("N", |event| text(event, "count")),
    ("ROUTE", |event| text(event, "route")),
    ("POLICY", |event| text(event, "policy")),
    ("IDENTIFIER", |event| text(event, "identifier")),
    ("CLIENT", |event| text(event, "client")),
    ("DETAIL", |event| text(event, "detail")),
];

pub(super) fn run(options: &Options, environment: &Environment) -> ExitCode {
    let mut filters = given(&[
        ("since", &options.since),
        ("until", &options.until),
        ("severity", &options.severity),
        ("route", &options.route),
        ("policy", &options.policy),
        ("identifier", &options.identifier),
        ("client", &options.client),
    ]);
    filters.extend(options.kind.iter().map(|kind| ("kind", kind.clone())));
    remote::run(&options.place, environment, async |remote: Remote| {
        let events = remote.items("/api/v1/rate-limit-logs", &filters, options.limit).await?;
        let mut out = io::stdout().lock();
        match options.place.json {
            true => table::lines(&events, &mut out)?,
            false if events.is_empty() => println!("nothing happened"),
            false => table::table(&COLUMNS, &events, &mut out)?,
        }
        Ok(())
    })
}
