//! Sections of the file, declared once: from one declaration come the Rust type, the reader that
//! notes every mistake, and the JSON Schema with its descriptions and defaults.

use serde_json::{Map, Value as Json, json};

use super::place::{At, FileId, shortened};
use super::problem::Wrong;
use super::reader::{Optional, Reader, Value, kind_name};
use super::tree::{Entry, Node, NodeKind, Style, parse};

/// Declares a section: a map with a fixed set of keys.
///
/// A field whose value was refused is `None` (or [`Optional::Faulty`]): the other fields are there
/// all the same, so that rules over several of them find their mistakes in the same run.
///
/// [`Optional::Faulty`]: super::reader::Optional::Faulty
///
/// ```text
/// section! {
///     /// For people.
///     Upstream "an upstream" {
///         /// For people, and for editors.
///         required "servers" servers: Vec<Server>;
///         default("2s") "connect_timeout" connect_timeout: Span;
///         optional "match" matching: Match;
///     }
/// }
/// ```
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $name:ident $what:literal {
            $(
                $(#[doc = $field_doc:literal])*
                $need:ident $(($default:literal))? $key:literal $field:ident : $type:ty;
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $(
                $(#[doc = $field_doc])*
                pub(crate) $field: $crate::config::section::section!(@type $need $type),
            )*
        }

        impl $crate::config::reader::Value for $name {
            fn read(
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                let fields = $crate::config::section::Fields::open(node, $what, &[$($key),*], reader)?;
                $(
                    let $field = $crate::config::section::section!(
                        @read $need $(($default))? fields, reader, $key, $type
                    );
                )*
                Some($name { $($field),* })
            }

            fn schema(definitions: &mut $crate::config::reader::Definitions) -> serde_json::Value {
                definitions.refer(stringify!($name), |definitions| {
                    #[allow(unused_mut)]
                    let mut object = $crate::config::section::ObjectSchema::new(&[$($doc),*]);
                    $(
                        let schema = <$type as $crate::config::reader::Value>::schema(definitions);
                        object.property($key, schema, &[$($field_doc),*]);
                        $crate::config::section::section!(@schema $need $(($default))? object, $key);
                    )*
                    object.finish()
                })
            }
        }
    };

    (@type optional $type:ty) => { $crate::config::reader::Optional<$type> };
    (@type required $type:ty) => { Option<$type> };
    (@type default $type:ty) => { Option<$type> };

    (@read required $fields:ident, $reader:ident, $key:literal, $type:ty) => {
        $fields.required::<$type>($key, $reader)
    };
    (@read optional $fields:ident, $reader:ident, $key:literal, $type:ty) => {
        $fields.optional::<$type>($key, $reader)
    };
    (@read default($default:literal) $fields:ident, $reader:ident, $key:literal, $type:ty) => {
        $fields.or_default::<$type>($key, $default, $reader)
    };

    (@schema required $object:ident, $key:literal) => { $object.require($key) };
    (@schema optional $object:ident, $key:literal) => {};
    (@schema default($default:literal) $object:ident, $key:literal) => { $object.default($key, $default) };
}
pub(crate) use section;

/// Declares the words of an enum: `words! { Mode "a mode" { Enforce => "enforce", … } }`.
macro_rules! words {
    ($name:ty, $what:literal, { $($variant:path => $word:literal),* $(,)? }) => {
        impl $crate::config::reader::Scalar for $name {
            const EXPECTED: &'static str = $what;

            fn parse(text: &str) -> Result<Self, $crate::config::problem::Wrong> {
                match text {
                    $($word => Ok($variant),)*
                    _ => Err($crate::config::section::unknown_word($what, text, &[$($word),*])),
                }
            }

            fn own_schema() -> serde_json::Value {
                serde_json::json!({ "type": "string", "enum": [$($word),*] })
            }
        }

        impl $crate::config::section::Word for $name {
            fn word(&self) -> &'static str {
                match self {
                    $($variant => $word,)*
                }
            }
        }
    };
}
pub(crate) use words;

/// An enum that is written as one word.
pub(crate) trait Word {
    fn word(&self) -> &'static str;
}

/// The entries of one section while it is read.
pub(crate) struct Fields<'n> {
    node: &'n Node,
    what: &'static str,
    entries: &'n [Entry],
    /// Known keys that unknown ones were probably meant to be.
    misspelled: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The entries of a map; unknown keys are noted.
    pub(crate) fn open(
        node: &'n Node,
        what: &'static str,
        known: &[&'static str],
        reader: &mut Reader<'_>,
    ) -> Option<Fields<'n>> {
        let NodeKind::Map(entries) = &node.kind else {
            let found = kind_name(node);
            let wrong = Wrong::new(format!("expected a map of keys, found {found}"));
            let wrong = match found {
                "nothing" => wrong.write("give it keys, or remove it"),
                _ => wrong,
            };
            reader.problem(node, wrong);
            return None;
        };
        let mut misspelled = Vec::new();
        for entry in entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let near = nearest(&entry.key, known.iter().copied());
            let taken = |near: &&str| entries.iter().any(|entry| &*entry.key == *near);
            misspelled.extend(near.filter(|near| !taken(near)));
            let at = At { place: entry.key_place, path: reader.at(node).path.key(&entry.key) };
            let wrong = Wrong::new(format!("unknown key `{}` in {what}", shortened(&entry.key)));
            let fix = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it knows {}", known.join(", ")),
            };
            reader.findings.problem(&at, wrong.write(fix));
        }
        Some(Fields { node, what, entries, misspelled })
    }

    pub(crate) fn required<T: Value>(&self, key: &str, reader: &mut Reader<'_>) -> Option<T> {
        match self.optional(key, reader) {
            Optional::Given(value) => return Some(value),
            Optional::Faulty => return None,
            Optional::Absent => {}
        }
        let what = format!("`{key}` is missing in {}", self.what);
        reader.problem(self.node, Wrong::new(what).write(format!("add `{key}: …`")));
        None
    }

    pub(crate) fn optional<T: Value>(&self, key: &str, reader: &mut Reader<'_>) -> Optional<T> {
        let Some(entry) = self.entries.iter().find(|entry| &*entry.key == key) else {
            // Told already: what is not there under its name is there under another.
            return if self.misspelled.contains(&key) { Optional::Faulty } else { Optional::Absent };
        };
        match reader.entry(key, |reader| T::read(&entry.value, reader)) {
            Some(value) => Optional::Given(value),
            None => Optional::Faulty,
        }
    }

    /// The default is written as in the file and read by the same reader.
    pub(crate) fn or_default<T: Value>(
        &self,
        key: &str,
        default: &str,
        reader: &mut Reader<'_>,
    ) -> Option<T> {
        match self.optional(key, reader) {
            Optional::Given(value) => return Some(value),
            Optional::Faulty => return None,
            Optional::Absent => {}
        }
        let mut root = parse(self.node.place.file, default).root?;
        stand_in(&mut root, self.node);
        reader.entry(key, |reader| T::read(&root, reader))
    }
}

/// A default has no place of its own: it takes that of the section which lacks the key.
fn stand_in(node: &mut Node, section: &Node) {
    node.place = section.place;
    node.last_line = section.place.line;
    match &mut node.kind {
        NodeKind::Scalar { .. } => {}
        NodeKind::Seq(items) => items.iter_mut().for_each(|item| stand_in(item, section)),
        NodeKind::Map(entries) => {
            for entry in entries {
                entry.key_place = section.place;
                stand_in(&mut entry.value, section);
            }
        }
    }
}

pub(crate) fn unknown_word(what: &str, text: &str, known: &[&str]) -> Wrong {
    let wrong = Wrong::new(format!("`{}` is not {what}", shortened(text)));
    match nearest(text, known.iter().copied()) {
        Some(near) => wrong.write(format!("did you mean `{near}`?")),
        None => wrong.write(format!("write {}", any_of(known))),
    }
}

/// `a, b or c`
pub(crate) fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The name that was probably meant: at most a third of its letters apart.
pub(crate) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    const CHARS_MAX: usize = 64;
    if text.chars().nth(CHARS_MAX).is_some() {
        return None;
    }
    let text = text.to_lowercase().replace('-', "_");
    let apart = |name: &str| strsim::damerau_levenshtein(&text, &name.to_lowercase().replace('-', "_"));
    let (distance, name) = names.map(|name| (apart(name), name)).min_by_key(|(distance, _)| *distance)?;
    let longest = text.chars().count().max(name.chars().count());
    let near = distance <= (longest / 3).max(1) && distance < longest;
    // `policy` for `policies`: the beginning says it.
    let alike = strsim::jaro_winkler(&text, &name.to_lowercase()) >= 0.87;
    (near || alike).then_some(name)
}

/// A section's schema in the making.
pub(crate) struct ObjectSchema {
    description: String,
    properties: Map<String, Json>,
    required: Vec<Json>,
}

impl ObjectSchema {
    pub(crate) fn new(docs: &[&str]) -> ObjectSchema {
        ObjectSchema { description: prose(docs), properties: Map::new(), required: Vec::new() }
    }

    pub(crate) fn property(&mut self, key: &str, schema: Json, docs: &[&str]) {
        let mut schema = match schema {
            Json::Object(object) => object,
            other => Map::from_iter([("const".to_owned(), other)]),
        };
        schema.insert("description".to_owned(), prose(docs).into());
        self.properties.insert(key.to_owned(), schema.into());
    }

    pub(crate) fn require(&mut self, key: &str) {
        self.required.push(key.into());
    }

    pub(crate) fn default(&mut self, key: &str, default: &str) {
        let json = parse(FileId::NONE, default).root.map_or(Json::Null, |root| as_json(&root));
        if let Some(Json::Object(property)) = self.properties.get_mut(key) {
            property.insert("default".to_owned(), json);
        }
    }

    pub(crate) fn finish(self) -> Json {
        let mut object = json!({
            "type": "object",
            "description": self.description,
            "properties": self.properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            object["required"] = self.required.into();
        }
        object
    }
}

fn prose(docs: &[&str]) -> String {
    docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// A node as JSON, scalars by the YAML core schema as far as defaults use it.
fn as_json(node: &Node) -> Json {
    match &node.kind {
        NodeKind::Scalar { text, style: Style::Plain } => {
            serde_json::from_str::<Json>(text).unwrap_or_else(|_| Json::from(&**text))
        }
        NodeKind::Scalar { text, style: Style::Quoted } => Json::from(&**text),
        NodeKind::Seq(items) => items.iter().map(as_json).collect(),
        NodeKind::Map(entries) => {
            entries.iter().map(|entry| (entry.key.to_string(), as_json(&entry.value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["path", "host", "method", "connect_timeout", "cost"];
        for (text, expected) in [
            ("pth", Some("path")),
            ("Path", Some("path")),
            ("connect-timeout", Some("connect_timeout")),
            ("conect_timout", Some("connect_timeout")),
            ("count", None),
            ("paths", Some("path")),
            ("connecting_time", Some("connect_timeout")),
            ("otp", None),
            ("x", None),
        ] {
            assert_eq!(nearest(text, known.into_iter()), expected, "{text}");
        }
        assert_eq!(nearest(&"x".repeat(5000), known.into_iter()), None);
    }

    #[test]
    fn words_are_listed_as_one_speaks() {
        assert_eq!(any_of(&["a"]), "a");
        assert_eq!(any_of(&["a", "b", "c"]), "a, b or c");
    }
}
