//! `tollgate blocks`: who is blocked; to block somebody, and to let somebody go.

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::remote::{self, Place, Remote, Trouble, given};
use super::table::{self, Column, text};
use crate::config::Environment;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Show who is blocked, the newest first.
    List(List),
    /// Block somebody on every route.
    Add(Add),
    /// Let somebody go, and forget what they were blocked for.
    Remove(Remove),
}

#[derive(Debug, Args)]
struct Filter {
    /// A part of the identifier.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// The kind of key: ip, body.email+ip.
    #[arg(long, value_name = "KEY")]
    kind: Option<String>,
    /// limit, failures, suspicion or operator.
    #[arg(long)]
    reason: Option<String>,
    #[arg(long)]
    route: Option<String>,
    #[arg(long)]
    policy: Option<String>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// created_at, expires_at, identifier or attempts; with - in front turned round.
    #[arg(long, default_value = "-created_at", allow_hyphen_values = true)]
    sort: String,
    /// So many at most.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, Args)]
struct Add {
    /// Whom: ip=192.0.2.1, or several parts of one key: body.username=ada ip=192.0.2.1.
    #[arg(required = true, value_name = "KEY=VALUE")]
    whom: Vec<String>,
    /// For how long: 30m, 12h, 7d.
    #[arg(long = "for", value_name = "DURATION")]
    span: String,
    /// How the value is read: text, exact, email or phone.
    #[arg(long = "as", value_name = "FORM")]
    form: Option<String>,
    /// What to remember.
    #[arg(long)]
    note: Option<String>,
}

#[derive(Debug, Args)]
struct Remove {
    /// The block's id, or the whole identifier.
    #[arg(value_name = "ID|IDENTIFIER", required_unless_present = "all", conflicts_with = "all")]
    whom: Option<String>,
    /// All that the filters match, or simply all.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

const COLUMNS: [Column; 7] = [
    ("IDENTIFIER", |block| text(block, "identifier")),
    ("KEY", |block| text(block, "key")),
    ("REASON", |block| text(block, "reason")),
    ("ROUTE", |block| text(block, "route")),
    ("POLICY", |block| text(block, "policy")),
    ("UNTIL", |block| text(block, "expires_at")),
    ("ID", |block| text(block, "id")),
];

pub(super) fn run(options: &Options, environment: &Environment) -> ExitCode {
    let json = options.place.json;
    remote::run(&options.place, environment, async |remote: Remote| match &options.act {
        Act::List(list) => {
            let mut filters = list.filter.given();
            filters.push(("sort", list.sort.clone()));
            let blocks = remote.items("/api/v1/blocked-identifiers", &filters, list.limit).await?;
            show(&blocks, json)
        }
        Act::Add(add) => {
            let block = remote.post("/api/v1/blocked-identifiers", &add.body()?).await?;
            show(&[block], json)
        }
        Act::Remove(remove) => {
            let mut told = remote.post("/api/v1/unblock-identifier", &remove.body()).await?;
            let count = told.get("unblocked").and_then(Value::as_u64).ok_or(Trouble::Strange)?;
            if let Some(Value::Array(items)) = told.get_mut("items").map(Value::take) {
                show(&items, json)?;
            }
            if !json {
                println!("{count} let go");
            }
            Ok(())
        }
    })
}

fn show(blocks: &[Value], json: bool) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match json {
        true => table::lines(blocks, &mut out)?,
        false if blocks.is_empty() => println!("nobody is blocked"),
        false => table::table(&COLUMNS, blocks, &mut out)?,
    }
    Ok(())
}

impl Filter {
    fn given(&self) -> Vec<(&'static str, String)> {
        given(&[
            ("search", &self.search),
            ("kind", &self.kind),
            ("reason", &self.reason),
            ("route", &self.route),
            ("policy", &self.policy),
        ])
    }
}

impl Add {
    fn body(&self) -> Result<Value, Trouble> {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for part in &self.whom {
            let wrong = || Trouble::Usage(format!("{part:?} is not KEY=VALUE, such as ip=192.0.2.1"));
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            keys.push(key);
            values.push(value);
        }
        let mut body = json!({"key": keys, "identifier": values, "for": self.span});
        if let Some(form) = &self.form {
            body["as"] = json!(form);
        }
        if let Some(note) = &self.note {
            body["note"] = json!(note);
        }
        Ok(body)
    }
}

impl Remove {
    fn body(&self) -> Value {
        match &self.whom {
            Some(whom) if is_id(whom) => json!({"id": whom}),
            Some(whom) => {
                let mut body = json!({"identifier": whom});
                if let Some(kind) = &self.filter.kind {
                    body["key"] = json!(kind);
                }
                body
            }
            None => {
                let filters = self.filter.given().into_iter();
                let mut body: Map<String, Value> =
                    filters.map(|(name, value)| (name.to_owned(), value.into())).collect();
                body.insert("all".to_owned(), true.into());
                Value::Object(body)
            }
        }
    }
}

/// Whether this looks like the id of a block.
fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}
