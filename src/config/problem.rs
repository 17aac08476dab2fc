//! What is wrong with a configuration, and how it is told: every mistake of a file in one go.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::place::{At, FileId, Place};

/// One mistake (or one warning).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    place: Option<Place>,
    file: Box<str>,
    path: Box<str>,
    what: Box<str>,
    fix: Option<Box<str>>,
    /// The offending line as it may be shown.
    line: Option<Box<str>>,
}

impl Problem {
    /// File, line and column as editors and terminals understand them.
    fn locus(&self) -> String {
        match self.place {
            Some(place) => format!("{}:{}:{}", self.file, place.line, place.column),
            None => self.file.to_string(),
        }
    }

    /// On one line and without the line of the file: for logs.
    pub fn brief(&self) -> String {
        let mut text = format!("{}: ", self.locus());
        if !self.path.is_empty() {
            text.push_str(&self.path);
            text.push_str(": ");
        }
        text.push_str(&self.what);
        if let Some(fix) = &self.fix {
            text.push_str("; ");
            text.push_str(fix);
        }
        text
    }
}

/// With the offending line, a caret under the place, and what to write instead.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.locus())?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        let (Some(place), Some(line)) = (self.place, &self.line) else {
            return match &self.fix {
                Some(fix) => write!(f, "\n  = {fix}"),
                None => Ok(()),
            };
        };
        let excerpt = Excerpt::of(line, place);
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        write!(f, "\n {number} | {}", excerpt.text)?;
        write!(f, "\n {margin} | {}{}", " ".repeat(excerpt.indent), "^".repeat(excerpt.width))?;
        match &self.fix {
            Some(fix) => write!(f, " {fix}"),
            None => Ok(()),
        }
    }
}

/// The part of a line around a place that fits a terminal.
struct Excerpt {
    text: String,
    indent: usize,
    width: usize,
}

impl Excerpt {
    const BEFORE: usize = 60;
    const CHARS_MAX: usize = 120;

    fn of(line: &str, place: Place) -> Excerpt {
        let column = (place.column as usize).saturating_sub(1);
        let skipped = if column > Excerpt::BEFORE + 20 { column - Excerpt::BEFORE } else { 0 };
        let mut text = String::new();
        if skipped > 0 {
            text.push('…');
        }
        let visible = line.chars().skip(skipped);
        text.extend(visible.map(|c| if c.is_control() { ' ' } else { c }).take(Excerpt::CHARS_MAX));
        let indent = column - skipped + usize::from(skipped > 0);
        let room = text.chars().count().saturating_sub(indent).max(1);
        Excerpt { text, indent, width: (place.width as usize).clamp(1, room) }
    }
}

/// Why a configuration was refused: all its mistakes, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// How many mistakes are told; of the rest there is only the count.
    pub const SHOWN_MAX: usize = 50;

    /// For a configuration that is wrong without anybody having said why.
    pub(super) fn unexplained(path: &Path) -> Problems {
        Problems(vec![Problem {
            place: None,
            file: path.display().to_string().into(),
            path: "".into(),
            what: "the configuration cannot be compiled, and the reason was not noted: this is a bug".into(),
            fix: None,
            line: None,
        }])
    }

    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    /// Each mistake on one line, for logs.
    pub fn brief(&self) -> impl Iterator<Item = String> {
        self.0.iter().take(Problems::SHOWN_MAX).map(Problem::brief)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.0.iter().take(Problems::SHOWN_MAX) {
            writeln!(f, "{problem}")?;
        }
        let count = self.0.len();
        if count > Problems::SHOWN_MAX {
            writeln!(f, "and {} more", count - Problems::SHOWN_MAX)?;
        }
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} mistake{plural}")
    }
}

impl std::error::Error for Problems {}

/// What is wrong and, where it is known, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) what: String,
    pub(crate) fix: Option<String>,
}

impl Wrong {
    pub(crate) fn new(what: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), fix: None }
    }

    pub(crate) fn write(self, fix: impl Into<String>) -> Wrong {
        Wrong { fix: Some(fix.into()), ..self }
    }
}

/// Gathers mistakes and warnings while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    sources: Vec<Source>,
    problems: Vec<Raw>,
    warnings: Vec<Raw>,
    /// Stretches of lines that hold a secret.
    concealed: BTreeSet<Place>,
}

#[derive(Debug)]
struct Source {
    name: Box<str>,
    lines: Vec<Box<str>>,
}

#[derive(Debug)]
struct Raw {
    file: FileId,
    place: Option<Place>,
    path: String,
    wrong: Wrong,
}

impl Findings {
    /// Registers a file, so that places can name it. `text` is kept for the excerpts.
    pub(crate) fn source(&mut self, name: &str, text: &str) -> FileId {
        if let Some(index) = self.sources.iter().position(|source| &*source.name == name) {
            return FileId(u16::try_from(index).unwrap_or(u16::MAX));
        }
        let id = FileId(u16::try_from(self.sources.len()).unwrap_or(u16::MAX));
        let lines = text.lines().map(Into::into).collect();
        self.sources.push(Source { name: name.into(), lines });
        id
    }

    pub(crate) fn problem(&mut self, at: &At, wrong: Wrong) {
        self.problems.push(Raw {
            file: at.place.file,
            place: Some(at.place),
            path: at.path.to_string(),
            wrong,
        });
    }

    pub(crate) fn warning(&mut self, at: &At, wrong: Wrong) {
        self.warnings.push(Raw {
            file: at.place.file,
            place: Some(at.place),
            path: at.path.to_string(),
            wrong,
        });
    }

    /// A mistake of a file as a whole.
    pub(crate) fn file_problem(&mut self, file: FileId, wrong: Wrong) {
        self.problems.push(Raw { file, place: None, path: String::new(), wrong });
    }

    /// From here on no excerpt shows what stands at this place.
    pub(crate) fn conceal(&mut self, place: Place) {
        self.concealed.insert(place);
    }

    pub(crate) fn count(&self) -> usize {
        self.problems.len()
    }

    /// The verdict: the warnings of a sound configuration, or all mistakes of another.
    pub(crate) fn finish(self) -> Result<Vec<Problem>, Problems> {
        if self.problems.is_empty() {
            return Ok(self.tell(&self.warnings));
        }
        Err(Problems(self.tell(&self.problems)))
    }

    fn tell(&self, raw: &[Raw]) -> Vec<Problem> {
        let mut sorted: Vec<&Raw> = raw.iter().collect();
        sorted.sort_by_key(|raw| (raw.file, raw.place.map(|place| (place.line, place.column))));
        let mut told: Vec<Problem> = sorted.into_iter().map(|raw| self.problem_of(raw)).collect();
        told.dedup();
        told
    }

    fn problem_of(&self, raw: &Raw) -> Problem {
        let source = self.sources.get(usize::from(raw.file.0));
        Problem {
            place: raw.place,
            file: source.map_or_else(|| "?".into(), |source| source.name.clone()),
            path: raw.path.clone().into(),
            what: raw.wrong.what.clone().into(),
            fix: raw.wrong.fix.clone().map(Into::into),
            line: raw.place.and_then(|place| self.shown_line(place)),
        }
    }

    fn shown_line(&self, place: Place) -> Option<Box<str>> {
        let source = self.sources.get(usize::from(place.file.0))?;
        let line = source.lines.get((place.line as usize).checked_sub(1)?)?;
        let mut chars: Vec<char> = line.chars().collect();
        let secrets = self.concealed.iter().filter(|it| it.file == place.file && it.line == place.line);
        for secret in secrets {
            let from = (secret.column as usize).saturating_sub(1).min(chars.len());
            let to = from.saturating_add(secret.width as usize).min(chars.len());
            chars[from..to].fill('*');
        }
        Some(chars.into_iter().collect::<String>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::place::KeyPath;

    fn at(file: FileId, line: u32, column: u32, width: u32) -> At {
        At { place: Place { file, line, column, width }, path: KeyPath::default().key("a") }
    }

    fn told(text: &str, line: u32, column: u32, width: u32) -> String {
        let mut findings = Findings::default();
        let file = findings.source("x.yaml", text);
        findings.problem(&at(file, line, column, width), Wrong::new("bad").write("write `b`"));
        findings.finish().unwrap_err().list()[0].to_string()
    }

    #[test]
    fn shows_the_line_with_a_caret_under_the_place() {
        assert_eq!(told("a: 1\nb: two\n", 2, 4, 3), "x.yaml:2:4: a: bad\n 2 | b: two\n   |    ^^^ write `b`");
    }

    #[test]
    fn crops_a_long_line_around_the_place() {
        let told = told(&format!("{}here{}", "x".repeat(500), "y".repeat(500)), 1, 501, 4);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[1].chars().count() < 130, "{}", lines[1]);
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().skip(caret).take(4).collect::<String>(), "here");
    }

    #[test]
    fn a_secret_on_the_same_line_is_not_shown() {
        let mut findings = Findings::default();
        let file = findings.source("x.yaml", "{ secret: hunter2, oops: 1 }");
        findings.conceal(Place { file, line: 1, column: 11, width: 7 });
        findings.problem(&at(file, 1, 20, 4), Wrong::new("unknown"));
        let text = findings.finish().unwrap_err().to_string();
        assert!(text.contains("{ secret: *******, oops: 1 }"), "{text}");
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn tells_all_in_the_order_of_the_file_and_counts_what_is_too_much() {
        let mut findings = Findings::default();
        let file = findings.source("x.yaml", &"a\n".repeat(60));
        for line in (1..=60).rev() {
            findings.problem(&at(file, line, 1, 1), Wrong::new(format!("mistake {line}")));
        }
        let problems = findings.finish().unwrap_err();
        assert_eq!(problems.list().len(), 60);
        let text = problems.to_string();
        assert!(text.starts_with("x.yaml:1:1: a: mistake 1\n"));
        assert!(text.ends_with("and 10 more\n60 mistakes"), "{text}");
    }

    #[test]
    fn fits_one_line_in_a_log() {
        let mut findings = Findings::default();
        let file = findings.source("x.yaml", "a: 1");
        findings.problem(&at(file, 1, 4, 1), Wrong::new("bad").write("write `2`"));
        let brief: Vec<String> = findings.finish().unwrap_err().brief().collect();
        assert_eq!(brief, ["x.yaml:1:4: a: bad; write `2`"]);
    }
}
