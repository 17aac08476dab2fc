//! Reading values out of the tree: every mistake is noted, and reading goes on.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;
use serde_json::{Map, Value as Json, json};

use super::environment::{Environment, Unreadable};
use super::interpolate::{Piece, pieces};
use super::place::{At, FileId, KeyPath, Located, shortened};
use super::problem::{Findings, Wrong};
use super::tree::{Entry, Node, NodeKind, Style};
use super::value::list::SharedLists;
use super::watch::WatchedFile;

/// Something the file can hold: how it is read, and how editors are told of it.
pub(crate) trait Value: Sized {
    /// `None` after a mistake was noted.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// JSON Schema, draft 2020-12.
    fn schema(definitions: &mut Definitions) -> Json;
}

/// A value written as one word or text.
pub(crate) trait Scalar: Sized {
    /// In words, with an example: "a duration such as 30s".
    const EXPECTED: &'static str;
    const NOTATION: Notation = Notation::Text;
    /// Whether the text may be shown in messages.
    const PRIVACY: Privacy = Privacy::Public;

    /// [`Scalar::EXPECTED`], or more precisely where a type has parameters.
    fn expected() -> String {
        Self::EXPECTED.to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong>;

    /// The JSON Schema of the scalar alone, without references.
    fn own_schema() -> Json;
}

/// How YAML writes a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Text,
    /// A number or a truth value, without quotes.
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privacy {
    Public,
    Secret,
}

/// What is carried along while a file is read.
pub(crate) struct Reader<'e> {
    pub(crate) findings: Findings,
    path: KeyPath,
    environment: &'e Environment,
    /// The folder of the configuration: relative paths start here.
    base: PathBuf,
    /// Every file that was read or looked for.
    files: Vec<WatchedFile>,
    /// The lists of texts among them.
    pub(crate) lists: SharedLists,
}

/// A text after interpolation.
struct Text {
    value: String,
    /// What it was made from, if anything: `${NAME}`.
    origin: Option<String>,
    style: Style,
}

impl<'e> Reader<'e> {
    pub(crate) fn new(environment: &'e Environment, base: &Path) -> Reader<'e> {
        Reader {
            findings: Findings::default(),
            path: KeyPath::default(),
            environment,
            base: base.to_owned(),
            files: Vec::new(),
            lists: SharedLists::default(),
        }
    }

    pub(crate) fn into_parts(self) -> (Findings, Vec<WatchedFile>) {
        (self.findings, self.files)
    }

    pub(crate) fn at(&self, node: &Node) -> At {
        At { place: node.place, path: self.path.clone() }
    }

    pub(crate) fn problem(&mut self, node: &Node, wrong: Wrong) {
        let at = self.at(node);
        self.findings.problem(&at, wrong);
    }

    /// Where something that the configuration names is: relative paths start at its folder.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        // The components leave out a `.` in the middle.
        self.base.join(path).components().collect()
    }

    /// Reads a file the configuration names, as UTF-8; `bytes_max` bounds it.
    pub(crate) fn file(&mut self, path: &str, bytes_max: u64) -> Result<String, Wrong> {
        let full = self.base.join(path);
        if !self.files.iter().any(|file| file.path() == full) {
            self.files.push(WatchedFile::about_to_be_read(&full));
        }
        let shown = shortened(path);
        let bytes = read_bounded(&full, bytes_max)
            .map_err(|error| Wrong::new(format!("cannot read the file `{shown}`: {error}")))?;
        String::from_utf8(bytes).map_err(|_| Wrong::new(format!("the file `{shown}` is not UTF-8 text")))
    }

    /// Makes a list file known to the findings.
    pub(crate) fn source(&mut self, name: &str, text: &str) -> FileId {
        self.findings.source(name, text)
    }

    /// One level down, by index.
    fn item<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.step(self.path.index(index), read)
    }

    /// One level down, by key.
    pub(crate) fn entry<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.step(self.path.key(key), read)
    }

    fn step<T>(&mut self, path: KeyPath, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.path, path);
        let value = read(self);
        self.path = outer;
        value
    }

    /// The text of a scalar with its `${…}` replaced.
    fn text(&mut self, node: &Node, expected: &str) -> Option<Text> {
        let NodeKind::Scalar { text, style } = &node.kind else {
            self.problem(node, Wrong::new(format!("expected {expected}, found {}", kind_name(node))));
            return None;
        };
        if !text.contains("${") {
            return Some(Text { value: text.to_string(), origin: None, style: *style });
        }
        match self.interpolated(text) {
            Ok((value, origin)) => Some(Text { value, origin, style: *style }),
            Err(wrong) => {
                self.problem(node, wrong);
                None
            }
        }
    }

    fn interpolated(&mut self, text: &str) -> Result<(String, Option<String>), Wrong> {
        let mut value = String::new();
        let mut origins: Vec<String> = Vec::new();
        for piece in pieces(text)? {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::Variable { name, default } => {
                    origins.push(format!("${{{name}}}"));
                    value.push_str(&self.variable(name, default)?);
                }
                Piece::File(path) => {
                    origins.push(format!("${{file:{}}}", shortened(path)));
                    let held = self.file(path, SECRET_FILE_BYTES_MAX)?;
                    value.push_str(held.trim_end_matches(['\r', '\n']));
                }
            }
        }
        Ok((value, (!origins.is_empty()).then(|| origins.join(" and "))))
    }

    /// As in a shell, `:-` also stands in for an empty value.
    fn variable(&self, name: &str, default: Option<&str>) -> Result<String, Wrong> {
        match (self.environment.read(name), default) {
            (Ok(value), Some(default)) if value.expose_secret().is_empty() => Ok(default.to_owned()),
            (Ok(value), _) => Ok(value.expose_secret().to_owned()),
            (Err(Unreadable::Unset), Some(default)) => Ok(default.to_owned()),
            (Err(Unreadable::Unset), None) => {
                let wrong = Wrong::new(format!("the environment variable {name} is not set"));
                Err(wrong.write(format!("set it, or give a default: ${{{name}:-value}}")))
            }
            (Err(Unreadable::NotUnicode), _) => {
                Err(Wrong::new(format!("the environment variable {name} is not UTF-8 text")))
            }
        }
    }
}

const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Reads a whole file, or refuses it for its size.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("it is larger than {} KiB", bytes_max / 1024)));
    }
    Ok(bytes)
}

/// What a node is, for messages.
pub(crate) fn kind_name(node: &Node) -> &'static str {
    match &node.kind {
        NodeKind::Scalar { text, style: Style::Plain } if is_null(text) => "nothing",
        NodeKind::Scalar { .. } => "a single value",
        NodeKind::Seq(_) => "a list",
        NodeKind::Map(_) => "a map of keys",
    }
}

impl<T: Scalar> Value for T {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<T> {
        if T::PRIVACY == Privacy::Secret {
            conceal(node, reader);
        }
        let text = reader.text(node, &T::expected())?;
        let parsed = match check_notation::<T>(&text) {
            Ok(()) => T::parse(&text.value),
            Err(wrong) => Err(wrong),
        };
        match (parsed, &text.origin) {
            (Ok(value), _) => Some(value),
            (Err(wrong), None) => {
                reader.problem(node, wrong);
                None
            }
            // What came from outside may be a secret: its text is never told.
            (Err(_), Some(origin)) => {
                reader.problem(node, Wrong::new(format!("the value of {origin} is not {}", T::expected())));
                None
            }
        }
    }

    fn schema(_: &mut Definitions) -> Json {
        let own = T::own_schema();
        if T::NOTATION == Notation::Text && own.get("enum").is_none() && own.get("pattern").is_none() {
            return own;
        }
        json!({ "anyOf": [own, { "$ref": "#/$defs/Variable" }] })
    }
}

fn conceal(node: &Node, reader: &mut Reader<'_>) {
    let NodeKind::Scalar { text, .. } = &node.kind else { return };
    let names_only = text.starts_with("${") && (!text.contains(":-") || text.ends_with(":-}"));
    if names_only {
        return;
    }
    let mut place = node.place;
    if node.last_line > place.line {
        place.width = u32::MAX;
    }
    reader.findings.conceal(place);
    for line in place.line + 1..=node.last_line {
        reader.findings.conceal(super::place::Place { line, column: 1, width: u32::MAX, ..place });
    }
}

/// YAML gives `60` and `"60"` two meanings, and so do editors that check by the schema.
fn check_notation<T: Scalar>(text: &Text) -> Result<(), Wrong> {
    if text.origin.is_some() {
        return Ok(());
    }
    let expected = T::expected();
    match (text.style, T::NOTATION) {
        (Style::Plain, _) if is_null(&text.value) => {
            Err(Wrong::new(format!("expected {expected}, found nothing"))
                .write("give it a value, or remove the key"))
        }
        (Style::Plain, Notation::Text) if is_number(&text.value) || is_truth(&text.value) => {
            // The type's own words come first: `30` for a duration lacks its unit, not quotes.
            T::parse(&text.value)?;
            if T::PRIVACY == Privacy::Secret {
                return Err(Wrong::new(format!("expected {expected}, found a bare number"))
                    .write("write it in quotes"));
            }
            let shown = shortened(&text.value);
            Err(Wrong::new(format!("expected {expected}, found a bare `{shown}`"))
                .write(format!("write \"{shown}\" in quotes")))
        }
        (Style::Quoted, Notation::Bare) => {
            Err(Wrong::new(format!("expected {expected}, found a text in quotes")).write("remove the quotes"))
        }
        (Style::Plain, _) | (Style::Quoted, Notation::Text) => Ok(()),
    }
}

fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

fn is_truth(plain: &str) -> bool {
    matches!(plain, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// Whether a plain scalar is a number (YAML 1.2 core schema).
fn is_number(plain: &str) -> bool {
    let digits = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let radix = plain.starts_with("0x") || plain.starts_with("0o");
    (numeric && plain.parse::<f64>().is_ok())
        || (radix && plain.len() > 2 && plain[2..].bytes().all(|byte| byte.is_ascii_hexdigit()))
        || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
}

impl<T: Value> Value for Located<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Located<T>> {
        let at = reader.at(node);
        let written = match &node.kind {
            NodeKind::Scalar { text, .. } if text.contains("${") => Some(text.clone()),
            NodeKind::Scalar { .. } | NodeKind::Seq(_) | NodeKind::Map(_) => None,
        };
        T::read(node, reader).map(|value| Located { value, at, written })
    }

    fn schema(definitions: &mut Definitions) -> Json {
        T::schema(definitions)
    }
}

/// The value of a key that need not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Optional<T> {
    Given(T),
    Absent,
    /// It is there, and a mistake was noted.
    Faulty,
}

impl<T> Optional<T> {
    pub(crate) fn given(&self) -> Option<&T> {
        match self {
            Optional::Given(value) => Some(value),
            Optional::Absent | Optional::Faulty => None,
        }
    }

    pub(crate) fn as_ref(&self) -> Optional<&T> {
        match self {
            Optional::Given(value) => Optional::Given(value),
            Optional::Absent => Optional::Absent,
            Optional::Faulty => Optional::Faulty,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Optional::Absent)
    }
}

/// A list without the items that were refused: their mistakes are noted.
impl<T: Value> Value for Vec<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Vec<T>> {
        let NodeKind::Seq(items) = &node.kind else {
            let wrong = Wrong::new(format!("expected a list, found {}", kind_name(node)));
            reader.problem(node, wrong.write("write [ … ], or one `- …` a line"));
            return None;
        };
        let read = |(index, item)| reader.item(index, |reader| T::read(item, reader));
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn schema(definitions: &mut Definitions) -> Json {
        json!({ "type": "array", "items": T::schema(definitions) })
    }
}

/// A list that must hold something.
#[derive(Clone, Debug)]
pub(crate) struct NonEmpty<T>(pub(crate) Vec<T>);

impl<T: Value> Value for NonEmpty<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<NonEmpty<T>> {
        match &node.kind {
            NodeKind::Seq(items) if items.is_empty() => {
                reader.problem(node, Wrong::new("the list is empty").write("it needs at least one item"));
                None
            }
            NodeKind::Seq(_) | NodeKind::Scalar { .. } | NodeKind::Map(_) => {
                Vec::read(node, reader).filter(|items| !items.is_empty()).map(NonEmpty)
            }
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        json!({ "type": "array", "items": T::schema(definitions), "minItems": 1 })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T: Value> Value for OneOrMany<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<OneOrMany<T>> {
        match &node.kind {
            NodeKind::Seq(_) => NonEmpty::read(node, reader).map(|NonEmpty(many)| OneOrMany(many)),
            NodeKind::Scalar { .. } | NodeKind::Map(_) => {
                T::read(node, reader).map(|one| OneOrMany(vec![one]))
            }
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        let one = T::schema(definitions);
        json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// A map whose keys are the operator's own names.
#[derive(Clone, Debug)]
pub(crate) struct Named<K, T> {
    /// A name is there even if its value was refused.
    pub(crate) entries: Vec<(Located<K>, Option<T>)>,
    /// Whether no name was refused.
    pub(crate) complete: bool,
}

impl<K: Scalar, T: Value> Value for Named<K, T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Named<K, T>> {
        let NodeKind::Map(entries) = &node.kind else {
            let wrong = Wrong::new(format!("expected a map of names, found {}", kind_name(node)));
            reader.problem(node, wrong.write("write { name: … }, or one `name: …` a line"));
            return None;
        };
        let read = |entry: &Entry| {
            let value = reader.entry(&entry.key, |reader| T::read(&entry.value, reader));
            read_name(entry, reader).map(|name| (name, value))
        };
        let read: Vec<_> = entries.iter().filter_map(read).collect();
        Some(Named { complete: read.len() == entries.len(), entries: read })
    }

    fn schema(definitions: &mut Definitions) -> Json {
        json!({
            "type": "object",
            "propertyNames": K::own_schema(),
            "additionalProperties": T::schema(definitions),
        })
    }
}

fn read_name<K: Scalar>(entry: &Entry, reader: &mut Reader<'_>) -> Option<Located<K>> {
    let at = At { place: entry.key_place, path: reader.path.key(&entry.key) };
    match K::parse(&entry.key) {
        Ok(value) => Some(Located { value, at, written: None }),
        Err(wrong) => {
            reader.findings.problem(&at, wrong);
            None
        }
    }
}

/// The shared parts of a schema, by name.
#[derive(Debug, Default)]
pub(crate) struct Definitions(Map<String, Json>);

impl Definitions {
    /// A reference to the definition `name`, which `make` writes the first time.
    pub(crate) fn refer(&mut self, name: &str, make: impl FnOnce(&mut Definitions) -> Json) -> Json {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Json::Null);
            let made = make(self);
            self.0.insert(name.to_owned(), made);
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    pub(crate) fn into_json(self) -> Json {
        Json::Object(self.0)
    }
}

#[cfg(test)]
mod tests;
