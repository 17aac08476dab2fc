//! `tollgate explain`: what would become of a request, and why.

mod request;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::runtime::Builder;

use super::check::heading;
use super::table::plain;
use crate::app::{Counted, Explained, Imagined, Rehearsal, UserSeen};
use crate::config::{self, Environment};
use crate::decision::policy::{Route, Standing, Target};
use crate::decision::refusal::Refusal;
use crate::decision::route::{Mismatch, Outranked, RouteIndex};
use crate::decision::verdict::Grounds;
use crate::decision::words;

/// Other routes are told up to so many.
const RIVALS_MAX: usize = 12;
/// So many bytes of a value are shown.
const VALUE_MAX: usize = 320;
/// For documentation (RFC 5737): nobody's.
const SOMEBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[derive(Debug, Args)]
pub(super) struct Options {
    #[arg(value_name = "METHOD")]
    method: String,
    /// The path, with a query or without: /api/auth/login
    #[arg(value_name = "PATH")]
    target: String,
    /// Who connects.
    #[arg(long, value_name = "ADDRESS", default_value_t = SOMEBODY)]
    ip: IpAddr,
    #[arg(long)]
    host: Option<String>,
    /// May be there several times.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// May be there several times.
    #[arg(long, value_name = "NAME=VALUE")]
    cookie: Vec<String>,
    #[arg(long)]
    body: Option<String>,
    /// Of the body; JSON or a form if it looks like one.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    #[arg(long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Show identifiers in full.
    #[arg(long)]
    show: bool,
}

pub(super) fn run(options: &Options, environment: &Environment) -> ExitCode {
    let told = request::imagined(options).and_then(|request| explain(options, request, environment));
    match told {
        Ok(text) => {
            let written = io::stdout().lock().write_all(text.as_bytes());
            written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn explain(options: &Options, request: Imagined, environment: &Environment) -> Result<String, String> {
    let loaded = config::load(&options.config, environment).map_err(|refused| refused.to_string())?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a thread: {error}"))?;
    runtime.block_on(async {
        let rehearsal = Rehearsal::new(loaded.config).map_err(|error| error.to_string())?;
        let explained = rehearsal.explain(request.clone()).await;
        let values = if options.show { Values::Full } else { Values::Masked };
        Ok(Telling { rehearsal: &rehearsal, request: &request, explained: &explained, values }.text())
    })
}

/// How identifiers are shown.
#[derive(Clone, Copy)]
enum Values {
    Masked,
    Full,
}

/// What is told of one request.
struct Telling<'a> {
    rehearsal: &'a Rehearsal,
    request: &'a Imagined,
    explained: &'a Explained,
    values: Values,
}

impl Telling<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, told: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<8} {}", plain(told, VALUE_MAX * 4));
        };
        line("client", &self.client());
        if let Some(path) = &self.explained.path {
            line("path", path.as_str());
        }
        line("route", &self.route());
        for told in self.rivals() {
            line("", &told);
        }
        if self.explained.route.is_some() {
            line("user", &self.user());
        }
        for (place, told) in self.limits().into_iter().enumerate() {
            line(if place == 0 { "limits" } else { "" }, &told);
        }
        for (place, told) in self.rejects().into_iter().enumerate() {
            line(if place == 0 { "rejects" } else { "" }, &told);
        }
        line("answer", &self.answer());
        line(
            "",
            "as if nobody had been counted or blocked before; `tollgate blocks list` tells who is blocked",
        );
        text
    }

    fn client(&self) -> String {
        let client = self.explained.client;
        let mut told = client.address.to_string();
        if client.peer_is_trusted {
            told.push_str(&format!(", as the trusted proxy {} says", self.request.peer));
        } else if client.address != self.request.peer {
            told.push_str(&format!(", which {} is another spelling of", self.request.peer));
        }
        if client.shown() != client.address.to_string() {
            told.push_str(&format!(", counted as {}", client.shown()));
        }
        match self.explained.standing {
            Standing::Ordinary => {}
            Standing::Allowed => told.push_str("; on access.allow: never limited"),
            Standing::Denied => told.push_str("; on access.deny: always refused"),
        }
        told
    }

    fn taken(&self) -> Option<(RouteIndex, &Route)> {
        let index = self.explained.route?;
        Some((index, self.rehearsal.rules().route(index)))
    }

    fn heading(&self, index: RouteIndex) -> String {
        let texts = self.rehearsal.texts().get(index.0);
        texts.map_or_else(String::new, |text| heading(self.rehearsal.rules().route(index), text))
    }

    fn route(&self) -> String {
        let Some((index, _)) = self.taken() else {
            return match (&self.explained.path, self.explained.standing) {
                (_, Standing::Denied) | (None, _) => "none: refused before one was looked for".to_owned(),
                (Some(_), Standing::Allowed | Standing::Ordinary) => "none matches".to_owned(),
            };
        };
        let asked = self.explained.preflight.as_ref();
        let asked = asked.map(|method| format!(", which this CORS preflight asks about with {method}"));
        format!("{}{}", self.heading(index), asked.unwrap_or_default())
    }

    /// The routes that were not taken, those that came closest first.
    fn rivals(&self) -> Vec<String> {
        let Some(path) = &self.explained.path else { return Vec::new() };
        if self.explained.standing == Standing::Denied {
            return Vec::new();
        }
        let taken = self.taken().map(|(index, route)| (index, route.pattern()));
        let host = request::host(self.request);
        let method = self.explained.preflight.as_ref().unwrap_or(&self.request.method);
        let mut close: Vec<(Option<Mismatch>, String)> = Vec::new();
        let mut far = 0_usize;
        for (place, route) in self.rehearsal.rules().routes().iter().enumerate() {
            let index = RouteIndex(place);
            if taken.is_some_and(|(taken, _)| taken == index) {
                continue;
            }
            let mismatch = route.pattern().mismatch(host, method, path);
            let why = match (mismatch, taken) {
                (Some(Mismatch::Path), _) => {
                    far += 1;
                    continue;
                }
                (Some(Mismatch::Host), _) => "another host",
                (Some(Mismatch::TrailingSlash), _) => "the slash at the end is not the same",
                (Some(Mismatch::LetterCase), _) => "other letter case, which it looks at",
                (Some(Mismatch::Method), _) => "another method",
                (None, Some((_, taken))) => match route.pattern().outranked_by(taken) {
                    Outranked::Host => "it matches too, but its host is less specific",
                    Outranked::Path => "it matches too, but its path is less specific",
                    Outranked::Method => "it matches too, but its method is less specific",
                },
                (None, None) => "it matches",
            };
            close.push((mismatch, format!("not {}: {why}", self.heading(index))));
        }
        close.sort_by_key(|(mismatch, _)| *mismatch);
        let untold = close.len().saturating_sub(RIVALS_MAX) + far;
        let mut told: Vec<String> = close.into_iter().take(RIVALS_MAX).map(|(_, told)| told).collect();
        match untold {
            0 => {}
            1 => told.push("nor the other one".to_owned()),
            _ => told.push(format!("nor {untold} others")),
        }
        told
    }

    fn user(&self) -> String {
        match &self.explained.user {
            UserSeen::Nobody => "nobody that is proven".to_owned(),
            UserSeen::Known(None) => "known".to_owned(),
            UserSeen::Known(Some(user)) => match self.values {
                Values::Masked => user.masked().to_owned(),
                Values::Full => user.expose().to_owned(),
            },
        }
    }

    fn limits(&self) -> Vec<String> {
        let Some((_, route)) = self.taken() else { return Vec::new() };
        if route.limits().is_empty() {
            return vec!["none".to_owned()];
        }
        let worded = words::limits(route).zip(route.limits()).zip(&self.explained.limits);
        worded
            .flat_map(|((words, limit), counted)| {
                let told = match counted {
                    Counted::By(identifier) => {
                        let cost = match limit.cost.get() {
                            1 => String::new(),
                            cost => format!(" as {cost}"),
                        };
                        let value = identifier.as_ref().map(|by| match self.values {
                            Values::Masked => by.masked(),
                            Values::Full => by.expose(),
                        });
                        format!("counts it{cost} for {}", value.unwrap_or("a value that cannot be shown"))
                    }
                    Counted::Exempt => {
                        format!("does not count it: {} is exempt", self.explained.client.address)
                    }
                    Counted::Skipped => format!("does not count it: it has no {}", limit.key),
                    Counted::Passed => "does not count it: no limit does".to_owned(),
                    Counted::Unreached => "is not asked: the request is refused before".to_owned(),
                };
                [words, format!("  {told}")]
            })
            .collect()
    }

    fn rejects(&self) -> Vec<String> {
        let Some((_, route)) = self.taken() else { return Vec::new() };
        let rules = route.rejects().iter().enumerate();
        rules
            .map(|(place, rule)| {
                let told = match &self.explained.outcome {
                    Err(Refusal::Rejected { rule, .. }) if *rule == place => "it does",
                    Err(Refusal::Rejected { rule, .. }) if *rule > place => "it does not",
                    _ if self.explained.has_passed_rejects => "it does not",
                    Ok(_) | Err(_) => "is not asked",
                };
                format!("{}: {told}", words::rejection(rule))
            })
            .collect()
    }

    fn answer(&self) -> String {
        match (&self.explained.outcome, self.taken().map(|(_, route)| route)) {
            (Ok(grounds), Some(route)) => {
                let why = match grounds {
                    Grounds::Charged => "admitted",
                    Grounds::Exempt => "admitted, counted by nobody",
                };
                let texts = self.explained.route.and_then(|index| self.rehearsal.texts().get(index.0));
                let goal = texts.map_or("", |text| &text.upstream);
                match route.target() {
                    Target::Upstream(_) => format!("{why}: it goes on to {goal}"),
                    Target::Otp(_) => format!("{why}: the gateway answers it itself ({goal})"),
                }
            }
            (Ok(_), None) => "admitted".to_owned(),
            (Err(refusal), route) => {
                let code = match route.map(Route::target) {
                    Some(Target::Otp(_)) => format!(" (code {})", refusal.code()),
                    Some(Target::Upstream(_)) | None => String::new(),
                };
                format!("refused with {}{code}: {:?}", refusal.status().as_u16(), refusal.detail())
            }
        }
    }
}
