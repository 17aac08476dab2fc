//! The configuration: one strict YAML file, read whole, all its mistakes told at once.
//!
//! ```text
//! text → tree (places) → file (one declaration a section) → compile (rules over several values) → Config
//! ```
//!
//! `${NAME}` is replaced after the YAML was parsed, and what it held is never told.

mod compile;
mod environment;
mod file;
mod interpolate;
mod place;
mod problem;
mod reader;
mod runtime;
mod section;
mod tree;
mod value;
pub mod watch;

use std::path::Path;

pub use environment::Environment;
pub use problem::{Problem, Problems};
pub use runtime::{
    AccessLog, AdminSpec, AdminToken, Config, Frozen, Identifiers, ListenerSpec, LogFormat, Role, RouteText,
    SpansSpec, WebhookSpec,
};

use file::File;
use problem::Wrong;
use reader::{Reader, Value as _};
use watch::WatchedFile;

/// A configuration that can be run by.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// What is probably not meant so.
    pub warnings: Vec<Problem>,
    /// Every file it was made from, as it was when it was read.
    pub files: Vec<WatchedFile>,
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
#[error("{problems}")]
pub struct Refused {
    pub problems: Problems,
    /// Every file that was read or looked for: a change of one may mend it.
    pub files: Vec<WatchedFile>,
}

/// No configuration is larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a configuration and all the files it names.
///
/// # Errors
/// Every mistake of the file and of its lists, in the order of the file.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Refused> {
    let watched = WatchedFile::about_to_be_read(path);
    let mut reader = Reader::new(environment, path.parent().unwrap_or(Path::new("")));
    let config = read(path, &mut reader);
    let (findings, mut files) = reader.into_parts();
    files.insert(0, watched);
    match (findings.finish(), config) {
        (Ok(warnings), Some(config)) => Ok(Loaded { config, warnings, files }),
        (Ok(_), None) => Err(Refused { problems: Problems::unexplained(path), files }),
        (Err(problems), _) => Err(Refused { problems, files }),
    }
}

fn read(path: &Path, reader: &mut Reader<'_>) -> Option<Config> {
    let name = path.display().to_string();
    let text = match text(path) {
        Ok(text) => text,
        Err(wrong) => {
            let file = reader.findings.source(&name, "");
            reader.findings.file_problem(file, wrong);
            return None;
        }
    };
    let source = reader.findings.source(&name, &text);
    let parsed = tree::parse(source, &text);
    for flaw in parsed.flaws {
        reader
            .findings
            .problem(&place::At { place: flaw.place, path: place::KeyPath::default() }, flaw.wrong);
    }
    let file = File::read(&parsed.root?, reader)?;
    compile::compile(&file, reader)
}

fn text(path: &Path) -> Result<String, Wrong> {
    let bytes = reader::read_bounded(path, FILE_BYTES_MAX)
        .map_err(|error| Wrong::new(format!("cannot read the configuration: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Wrong::new(format!("the configuration is not UTF-8 text: see line {line}")).write("save it as UTF-8")
    })
}

/// The JSON Schema of the file, for editors: draft 2020-12.
pub fn schema() -> serde_json::Value {
    file::schema()
}
