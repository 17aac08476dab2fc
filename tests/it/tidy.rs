//! The house style, held by tests: which module may import which, where time is read, what may panic, how long
//! files and functions are.

mod source;

use std::collections::BTreeSet;
use std::path::Path;

use self::source::{code_of, functions, paths, without_tests};

/// Which of our modules each module may name, besides itself. Imports run one way: downwards here.
const ARROWS: [(&str, &[&str]); 21] = [
    ("main", &["cli"]),
    ("cli", &["app", "config", "decision", "clock", "telemetry", "demo", "http_client"]),
    (
        "app",
        &[
            "admin",
            "alert",
            "proxy",
            "gateway",
            "otp",
            "sms",
            "http_client",
            "journal",
            "config",
            "demo",
            "store",
            "identity",
            "telemetry",
            "clock",
            "decision",
        ],
    ),
    ("admin", &["gateway", "otp", "sms", "journal", "store", "telemetry", "clock", "decision"]),
    ("alert", &["journal", "http_client", "telemetry", "clock", "decision"]),
    ("proxy", &["gateway", "otp", "telemetry", "tls", "clock", "decision"]),
    ("gateway", &["otp", "sms", "store", "journal", "identity", "telemetry", "clock", "decision"]),
    ("config", &["otp", "sms", "store", "http_client", "identity", "tls", "decision"]),
    ("demo", &["clock", "decision"]),
    ("otp", &["sms", "store", "journal", "http_client", "telemetry", "clock", "decision"]),
    ("sms", &["http_client", "telemetry", "clock", "decision"]),
    ("store", &["http_client", "telemetry", "clock", "decision"]),
    ("journal", &["telemetry", "clock", "decision"]),
    ("identity", &["decision"]),
    ("http_client", &[]),
    ("tls", &[]),
    ("telemetry", &["http_client", "clock", "decision"]),
    ("clock", &["decision"]),
    ("decision", &[]),
    // The crate's root declares the modules and holds nothing.
    ("lib", &[]),
    ("tollgate", &[]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// What decides must not depend on anything but its arguments.
const IMPURE: [&str; 14] = [
    "tokio",
    "pingora",
    "tracing",
    "log",
    "serde",
    "serde_json",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// A file under `src`.
struct File {
    /// Below `src`, with `/` between the parts.
    name: String,
    text: String,
    /// Without comments, the insides of literals and tests; empty for a file of tests.
    shipped: String,
}

impl File {
    fn new(name: &str, text: &str) -> File {
        let is_tests = name.trim_end_matches(".rs").split('/').any(|part| part == "tests");
        let shipped = if is_tests { String::new() } else { without_tests(&code_of(text)) };
        File { name: name.to_owned(), text: text.to_owned(), shipped }
    }

    /// `decision` for src/decision.rs and all that is under src/decision.
    fn module(&self) -> &str {
        self.name.trim_end_matches(".rs").split('/').next().unwrap_or_default()
    }

    /// How many `super` lead from this file to the crate's root.
    fn depth(&self) -> usize {
        self.name.split('/').count()
    }
}

/// All of `src`, which no test should find empty.
fn sources() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                files.push(File::new(&name, &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 50, "the sources are read");
    files
}

/// Runs a rule over all files; every breach is told, each with its place.
fn hold(rule: fn(&File) -> Vec<String>) {
    let breaches: BTreeSet<String> = sources().iter().flat_map(rule).collect();
    let told: Vec<String> = breaches.into_iter().collect();
    assert!(told.is_empty(), "{} breaches:\n{}", told.len(), told.join("\n"));
}

/// What a rule says of a file made up for it.
fn told(rule: fn(&File) -> Vec<String>, name: &str, text: &str) -> usize {
    rule(&File::new(name, text)).len()
}

fn against_the_arrows(file: &File) -> Vec<String> {
    let module = file.module();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{}: the module {module} has no line in the table of arrows", file.name)];
    };
    let outward = |path: &str| -> Option<String> {
        let parts: Vec<&str> = path.split("::").collect();
        let supers = parts.iter().take_while(|part| **part == "super").count();
        let named = match parts.first().copied() {
            Some("crate" | "tollgate") => parts.get(1).copied(),
            Some("super") if supers >= file.depth() => parts.get(supers).copied(),
            _ => None,
        };
        named.filter(|named| *named != module && !allowed.contains(named)).map(str::to_owned)
    };
    paths(&file.shipped)
        .into_iter()
        .filter_map(|(line, path)| Some((line, outward(&path)?)))
        .map(|(line, to)| format!("{}:{line}: {module} may not name {to}", file.name))
        .collect()
}

fn reads_time(file: &File) -> Vec<String> {
    if file.name == "clock.rs" {
        return Vec::new();
    }
    let reads = |path: &str| path.ends_with("Instant::now") || path.ends_with("SystemTime::now");
    let found = paths(&file.shipped).into_iter().filter(|(_, path)| reads(path));
    found.map(|(line, path)| format!("{}:{line}: {path}; only the clock reads time", file.name)).collect()
}

fn may_panic(file: &File) -> Vec<String> {
    // The text of a literal is blank: `.expect(b'{')` of a parser is another thing than `.expect("…")`.
    const PANICS: [&str; 7] =
        [".unwrap()", ".expect( ", ".expect(\n", "panic!(", "todo!(", "unreachable!(", "unimplemented!("];
    let in_line = |line: &str| PANICS.into_iter().find(|panic| line.contains(panic)).map(str::trim);
    // A constant is evaluated by the compiler: it panics before anybody runs it.
    let is_const = |line: &str| line.trim_start().trim_start_matches("pub ").starts_with("const ");
    let lines = file.shipped.split_inclusive('\n').enumerate().filter(|(_, line)| !is_const(line));
    lines.filter_map(|(at, line)| Some(format!("{}:{}: {}", file.name, at + 1, in_line(line)?))).collect()
}

fn is_long(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let whole = (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", file.name));
    // A table of cases in a test may be as long as its cases are many.
    let long = functions(&file.shipped).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    let functions = long.map(|f| format!("{}:{}: {} has {} lines", file.name, f.line, f.name, f.lines));
    whole.into_iter().chain(functions).collect()
}

fn prints(file: &File) -> Vec<String> {
    if matches!(file.module(), "cli" | "demo") {
        return Vec::new();
    }
    let printing =
        |line: &str| ["println!", "eprintln!", "print!(", "dbg!("].iter().any(|p| line.contains(p));
    let lines = file.shipped.lines().enumerate().filter(|(_, line)| printing(line));
    lines.map(|(at, _)| format!("{}:{}: only commands print", file.name, at + 1)).collect()
}

fn is_impure(file: &File) -> Vec<String> {
    if file.module() != "decision" {
        return Vec::new();
    }
    let impure = |path: &str| {
        IMPURE.into_iter().any(|banned| match path.strip_prefix(banned) {
            Some(rest) => rest.is_empty() || rest.starts_with("::") || banned.starts_with("std::net::"),
            None => false,
        })
    };
    let found = paths(&file.shipped).into_iter().filter(|(_, path)| impure(path));
    found.map(|(line, path)| format!("{}:{line}: {path} in what decides", file.name)).collect()
}

#[test]
fn imports_run_one_way() {
    hold(against_the_arrows);
}

#[test]
fn the_table_of_arrows_has_no_circle() {
    // Each line names only modules that come after it, once they are put in this order.
    let order = [
        "main", "cli", "app", "admin", "alert", "proxy", "gateway", "config", "demo", "otp", "sms", "store",
        "journal", "identity",
    ];
    let rest = ["telemetry", "http_client", "tls", "clock", "decision", "lib", "tollgate"];
    let place = |module: &str| order.iter().chain(&rest).position(|name| *name == module).unwrap();
    for (module, allowed) in ARROWS {
        allowed.iter().for_each(|to| assert!(place(module) < place(to), "{module} → {to} runs back"));
    }
}

#[test]
fn the_clock_alone_reads_time() {
    hold(reads_time);
}

#[test]
fn nothing_shipped_panics_on_purpose() {
    hold(may_panic);
}

#[test]
fn files_and_functions_fit_a_head() {
    hold(is_long);
}

#[test]
fn commands_alone_print() {
    hold(prints);
}

#[test]
fn what_decides_is_pure() {
    hold(is_impure);
}

#[test]
fn an_import_against_the_arrows_is_told() {
    let check = |name: &str, text: &str, count: usize| {
        assert_eq!(told(against_the_arrows, name, text), count, "{name}: {text}");
    };
    check("decision/path.rs", "use crate::store::Store;", 1);
    check("decision/path.rs", "fn f() -> crate::telemetry::Metrics { g() }", 1);
    check("decision/path.rs", "use super::super::store;", 1);
    check("decision/path.rs", "use super::client::Client;", 0);
    check("decision.rs", "use super::store::Store;", 1);
    check("store.rs", "use crate::{decision::time::Span, gateway::{self, Head}};", 2);
    check("store.rs", "use crate::decision::time::Span;\npub(in crate::store) fn f() {}", 0);
    check("gateway.rs", "// crate::proxy\nfn f() { g(\"crate::proxy::x\") }", 0);
    check("gateway.rs", "#[cfg(test)]\nmod tests { use crate::proxy::Edge; }", 0);
    check("main.rs", "fn main() { tollgate::app::run() }", 1);
    check("nowhere.rs", "", 1);
}

#[test]
fn a_read_of_time_is_told() {
    assert_eq!(told(reads_time, "store.rs", "let now = std::time::Instant::now();"), 1);
    assert_eq!(told(reads_time, "store.rs", "let now = tokio::time::Instant::now();"), 1);
    assert_eq!(told(reads_time, "store.rs", "let now = SystemTime\n  ::now();"), 1);
    assert_eq!(told(reads_time, "clock.rs", "let now = Instant::now();"), 0);
    assert_eq!(told(reads_time, "store/tests.rs", "let now = Instant::now();"), 0);
}

#[test]
fn what_panics_is_told() {
    for panics in ["x.unwrap();", "x\n.expect(\"y\");", "panic!(\"z\")", "todo!()", "unreachable!()"] {
        assert_eq!(told(may_panic, "store.rs", panics), 1, "{panics}");
        assert_eq!(
            told(may_panic, "store.rs", &format!("#[cfg(test)] fn f() {{ {panics} }}")),
            0,
            "{panics}"
        );
    }
    let calm = "x.unwrap_or(0); // .unwrap()\nconst A: NonZeroU32 = NonZeroU32::new(1).unwrap();";
    assert_eq!(told(may_panic, "store.rs", calm), 0);
    assert_eq!(told(may_panic, "store.rs", "self.expect(b'{')?;"), 0);
}

#[test]
fn what_is_too_long_is_told() {
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    assert_eq!(told(is_long, "store.rs", &body(FUNCTION_LINES_MAX)), 0);
    assert_eq!(told(is_long, "store.rs", &body(FUNCTION_LINES_MAX + 1)), 1);
    assert_eq!(told(is_long, "store.rs", &"\n".repeat(FILE_LINES_MAX)), 0);
    assert_eq!(told(is_long, "store.rs", &"\n".repeat(FILE_LINES_MAX + 1)), 1);
}

#[test]
fn what_prints_is_told() {
    assert_eq!(told(prints, "store.rs", "println!(\"x\");"), 1);
    assert_eq!(told(prints, "app.rs", "eprintln!(\"x\");"), 1);
    assert_eq!(told(prints, "cli/run.rs", "eprintln!(\"x\");"), 0);
}

#[test]
fn what_is_impure_is_told() {
    for impure in [
        "use tokio::sync::Mutex;",
        "use std::{collections::HashMap, fs::File};",
        "fn f() { std::env::var(x) }",
        "use std::net::TcpStream;",
        "use serde::Deserialize;",
        "use std::time::{Duration, Instant};",
    ] {
        assert_eq!(told(is_impure, "decision/path.rs", impure), 1, "{impure}");
        assert_eq!(told(is_impure, "store.rs", impure), 0, "{impure}");
    }
    assert_eq!(told(is_impure, "decision/path.rs", "use std::net::IpAddr;\nuse std::fmt::Write as _;"), 0);
}
