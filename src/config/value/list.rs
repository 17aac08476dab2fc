//! Lists that stand in the file, or one entry a line in files beside it.

use std::any::TypeId;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::config::place::{At, FileId, KeyPath, Place};
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, OneOrMany, Reader, Scalar, Value};
use crate::config::tree::Node;
use crate::decision::reject::{ListFull, TextList, TextLists};

/// What a list is made of.
pub(crate) trait Element: Scalar {
    /// How a file of them is named, as an example.
    const FILE: &'static str;
}

/// One entry of a list, or the path of a file with more of them.
pub(crate) enum Listed<E> {
    One(E),
    File(Box<str>),
}

impl<E: Element> Scalar for Listed<E> {
    const EXPECTED: &'static str = E::EXPECTED;

    fn parse(text: &str) -> Result<Listed<E>, Wrong> {
        match text.strip_prefix("file:") {
            Some("") => Err(Wrong::new("`file:` names no file").write(format!("write {}", E::FILE))),
            Some(path) => Ok(Listed::File(path.into())),
            None => E::parse(text).map(Listed::One),
        }
    }

    fn own_schema() -> Json {
        E::own_schema()
    }
}

const LIST_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A list of something else altogether need not be told line by line.
const LIST_FLAWS_MAX: usize = 100;

/// Hands over the entries of a list file, one a line; `#` begins a comment. Mistakes are located in the list
/// itself, what `take` refuses where the list is named.
pub(crate) fn each_line<E: Element>(
    path: &str,
    node: &Node,
    reader: &mut Reader<'_>,
    mut take: impl FnMut(E) -> Result<(), Wrong>,
) -> Option<()> {
    let text = match reader.file(path, LIST_BYTES_MAX) {
        Ok(text) => text,
        Err(wrong) => {
            reader.problem(node, wrong);
            return None;
        }
    };
    let mut flaws = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default();
        let trimmed = entry.trim();
        if trimmed.is_empty() {
            continue;
        }
        match E::parse(trimmed).map(&mut take) {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => {
                reader.problem(node, wrong);
                return None;
            }
            Err(wrong) => {
                let indent = entry.chars().count() - entry.trim_start().chars().count();
                flaws.push((index, indent, trimmed.chars().count(), wrong));
            }
        }
        if flaws.len() > LIST_FLAWS_MAX {
            break;
        }
    }
    if flaws.is_empty() {
        return Some(());
    }
    let file = reader.source(path, &text);
    for (line, indent, width, wrong) in flaws {
        reader.findings.problem(&at(file, line, indent, width), wrong);
    }
    None
}

fn at(file: FileId, line: usize, column: usize, width: usize) -> At {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let place =
        Place { file, line: number(line + 1), column: number(column + 1), width: number(width).max(1) };
    At { place, path: KeyPath::default() }
}

/// The text lists that were read from files: rules that name the same one share it.
#[derive(Default)]
pub(crate) struct SharedLists(Vec<SharedList>);

struct SharedList {
    of: TypeId,
    path: Box<str>,
    /// `None` after its mistakes were noted.
    list: Option<Arc<TextList>>,
}

/// One entry or a list of them, any of which may be a file with more.
pub(super) fn text_lists<E: Element + AsRef<str> + 'static>(
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<TextLists> {
    let OneOrMany(sources) = OneOrMany::<Source<E>>::read(node, reader)?;
    let mut written = TextList::default();
    let mut lists = Vec::new();
    for source in sources {
        match source {
            Source::One(entry) => {
                if let Err(full) = written.insert(entry.as_ref()) {
                    reader.problem(node, too_long(full));
                    return None;
                }
            }
            Source::File(list) => lists.push(list),
        }
    }
    written.shrink();
    lists.push(Arc::new(written));
    Some(lists.into_iter().collect())
}

pub(super) fn text_lists_schema<E: Element + AsRef<str> + 'static>(definitions: &mut Definitions) -> Json {
    OneOrMany::<Source<E>>::schema(definitions)
}

enum Source<E> {
    One(E),
    File(Arc<TextList>),
}

impl<E: Element + AsRef<str> + 'static> Value for Source<E> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Source<E>> {
        match Listed::<E>::read(node, reader)? {
            Listed::One(entry) => Some(Source::One(entry)),
            Listed::File(path) => text_file::<E>(path, node, reader).map(Source::File),
        }
    }

    fn schema(definitions: &mut Definitions) -> Json {
        E::schema(definitions)
    }
}

fn text_file<E: Element + AsRef<str> + 'static>(
    path: Box<str>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Arc<TextList>> {
    let of = TypeId::of::<E>();
    if let Some(known) = reader.lists.0.iter().find(|known| known.of == of && known.path == path) {
        return known.list.clone();
    }
    let mut list = TextList::default();
    let read = each_line(&path, node, reader, |entry: E| list.insert(entry.as_ref()).map_err(too_long));
    list.shrink();
    let list = read.map(|()| Arc::new(list));
    reader.lists.0.push(SharedList { of, path, list: list.clone() });
    list
}

fn too_long(full: ListFull) -> Wrong {
    Wrong::new(full.to_string()).write("split it over two rules")
}
