//! Where in which file a value stands, and by which keys it is reached.

use std::fmt;
use std::sync::Arc;

/// One of the files that a configuration is made of: the YAML itself, or a list it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(pub(super) u16);

impl FileId {
    /// For texts of our own that stand in no file.
    pub(crate) const NONE: FileId = FileId(u16::MAX);
}

/// A stretch of one line of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    /// Counted from 1.
    pub(crate) line: u32,
    /// In characters, counted from 1.
    pub(crate) column: u32,
    /// How many characters are meant, at least 1.
    pub(crate) width: u32,
}

/// The keys that lead to a value: `routes[0].match.path`.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyPath(Option<Arc<Link>>);

#[derive(Debug)]
struct Link {
    parent: KeyPath,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Key(Box<str>),
    Index(usize),
}

impl KeyPath {
    pub(crate) fn key(&self, name: &str) -> KeyPath {
        self.step(Step::Key(shortened(name).into()))
    }

    pub(crate) fn index(&self, index: usize) -> KeyPath {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> KeyPath {
        KeyPath(Some(Arc::new(Link { parent: self.clone(), step })))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut links = Vec::new();
        let mut path = self;
        while let Some(link) = &path.0 {
            links.push(&link.step);
            path = &link.parent;
        }
        for (depth, step) in links.into_iter().rev().enumerate() {
            match step {
                Step::Key(name) if name.bytes().any(|byte| !is_plain(byte)) => write!(f, "[{name:?}]")?,
                Step::Key(name) if depth > 0 => write!(f, ".{name}")?,
                Step::Key(name) => f.write_str(name)?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A value's place and the keys that lead to it.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) place: Place,
    pub(crate) path: KeyPath,
}

/// A value, and where it was written: rules that span several values report by it.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: At,
    /// The text as written, where it took something from outside.
    pub(crate) written: Option<Box<str>>,
}

impl<T: fmt::Display> Located<T> {
    /// The value for a message; one from outside may be a secret and is told as it was written.
    pub(crate) fn told(&self) -> String {
        match &self.written {
            Some(written) => shortened(written),
            None => shortened(&self.value.to_string()),
        }
    }
}

/// A text for a message: bounded, and without anything a terminal would act upon.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut shown: String =
        text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_it_would_be_written() {
        let path = KeyPath::default().key("routes").index(3).key("match").key("path");
        assert_eq!(path.to_string(), "routes[3].match.path");
        assert_eq!(KeyPath::default().key("a b").key("c").to_string(), r#"["a b"].c"#);
        assert_eq!(KeyPath::default().to_string(), "");
    }

    #[test]
    fn a_shown_text_is_bounded_and_harmless() {
        assert_eq!(shortened("\u{1b}[31m"), "\u{fffd}[31m");
        assert_eq!(shortened(&"x".repeat(65)), format!("{}…", "x".repeat(64)));
    }
}
