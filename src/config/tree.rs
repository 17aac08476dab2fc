//! YAML as a tree whose every node knows its place.
//!
//! Built from the event stream under `serde-saphyr`: unlike serde it keeps the text of a scalar as
//! written, and it does not stop at the first duplicate key.

use std::collections::HashMap;

use serde_yaml::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, options};

use super::place::{FileId, Place, shortened};
use super::problem::Wrong;

/// A value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    /// A text may go on for several lines.
    pub(crate) last_line: u32,
    pub(crate) kind: NodeKind,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Scalar { text: Box<str>, style: Style },
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map, with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

/// Whether a scalar may be anything (`60`), or is a text by the way it is written (`"60"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
}

/// A mistake that needs no reader to be seen.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) place: Place,
    pub(crate) wrong: Wrong,
}

/// The tree of a document and its flaws (duplicate keys), or the flaws that leave no tree.
pub(crate) struct Parsed {
    pub(crate) root: Option<Node>,
    pub(crate) flaws: Vec<Flaw>,
}

/// Collections may nest so deep.
const DEPTH_MAX: usize = 32;
/// So many values may a file have, those repeated by aliases included.
const NODES_MAX: usize = 200_000;

/// Parses one YAML document.
pub(crate) fn parse(file: FileId, text: &str) -> Parsed {
    let limits = options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(text, limits),
        file,
        text,
        anchors: HashMap::new(),
        nodes: 0,
        flaws: Vec::new(),
    };
    let root = match builder.document() {
        Ok(root) => Some(root),
        Err(flaw) => {
            builder.flaws.push(*flaw);
            None
        }
    };
    Parsed { root, flaws: builder.flaws }
}

struct Builder<'t> {
    events: Parser<'t, StrInput<'t>>,
    file: FileId,
    text: &'t str,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    flaws: Vec<Flaw>,
}

/// A node that aliases may repeat.
struct Anchored {
    node: Node,
    size: usize,
    height: usize,
}

type Step<T> = Result<T, Box<Flaw>>;

impl<'t> Builder<'t> {
    fn document(&mut self) -> Step<Node> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => {
                    return Err(self.flaw(span, Wrong::new("the file is empty")));
                }
                other => {
                    let root = self.node(other, span, 0)?;
                    self.expect_end()?;
                    return Ok(root);
                }
            }
        }
    }

    fn expect_end(&mut self) -> Step<()> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(()),
                _ => {
                    let wrong = Wrong::new("a second document begins here");
                    return Err(self.flaw(span, wrong.write("keep one document in a file")));
                }
            }
        }
    }

    fn next(&mut self) -> Step<(Event<'t>, Span)> {
        match self.events.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Err(self.flaw(Span::default(), Wrong::new("the file ends too early"))),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Step<Node> {
        let place = self.place(span);
        let before = self.nodes;
        self.count(1, place)?;
        self.refuse_tag(&event, span)?;
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    _ => Style::Quoted,
                };
                (NodeKind::Scalar { text: text.into(), style }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (NodeKind::Seq(self.sequence(depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (NodeKind::Map(self.mapping(depth)?), anchor),
            Event::Alias(anchor) => return self.alias(anchor, place, depth),
            _ => return Err(self.flaw(span, Wrong::new("a value is missing here"))),
        };
        let node = Node { place, last_line: line(&span.end), kind };
        if anchor > 0 {
            let anchored = Anchored { size: self.nodes - before, height: height(&node), node: node.clone() };
            self.count(anchored.size, place)?;
            self.anchors.insert(anchor, anchored);
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Step<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Step<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<Box<str>, u32> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            let key: Box<str> = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, _, 0, None) => text.into(),
                _ => return Err(self.flaw(span, Wrong::new("a key must be a plain word"))),
            };
            let key_place = self.place(span);
            if &*key == "<<" {
                let wrong = Wrong::new("merge keys are not supported");
                return Err(self.flaw(span, wrong.write("write the keys out, or share a policy by its name")));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if let Some(first) = seen.get(&key) {
                let what = format!("duplicate key `{}`", shortened(&key));
                let fix = format!("it is already on line {first}: keep one of the two");
                self.flaws.push(Flaw { place: key_place, wrong: Wrong::new(what).write(fix) });
                continue;
            }
            seen.insert(key.clone(), key_place.line);
            entries.push(Entry { key, key_place, value });
        }
    }

    fn alias(&mut self, anchor: usize, place: Place, depth: usize) -> Step<Node> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(Box::new(Flaw {
                place,
                wrong: Wrong::new("an alias cannot stand inside its own anchor"),
            }));
        };
        if depth + anchored.height > 2 * DEPTH_MAX {
            return Err(Box::new(Flaw { place, wrong: Wrong::new("aliases nest too deep") }));
        }
        let node = anchored.node.clone();
        let size = anchored.size;
        self.count(size, place)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, place: Place) -> Step<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let what = format!("the file has more than {NODES_MAX} values, counting those repeated by aliases");
        Err(Box::new(Flaw { place, wrong: Wrong::new(what) }))
    }

    fn refuse_tag(&self, event: &Event<'t>, span: Span) -> Step<()> {
        match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                let start = span.tag_start.unwrap_or(span.start);
                let wrong = Wrong::new("tags (`!…`) are not supported").write("remove the tag");
                Err(self.flaw(Span::new(start, start), wrong))
            }
            _ => Ok(()),
        }
    }

    fn syntax(&self, error: &ScanError) -> Box<Flaw> {
        let marker = *error.marker();
        let wrong = Wrong::new(format!("this is not YAML: {}", error.kind()));
        let line = self.text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
        let wrong = if line.contains("${") {
            wrong.write("inside { } and [ ] a ${NAME} must be quoted: \"${NAME}\"")
        } else if line.trim_start_matches(' ').starts_with('\t') {
            wrong.write("indent with spaces, not with tabs")
        } else {
            wrong
        };
        self.flaw(Span::new(marker, marker), wrong)
    }

    fn flaw(&self, span: Span, wrong: Wrong) -> Box<Flaw> {
        Box::new(Flaw { place: self.place(span), wrong })
    }

    fn place(&self, span: Span) -> Place {
        let width = if span.end.line() == span.start.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            1
        };
        Place { file: self.file, line: line(&span.start), column: column(&span.start), width: clamped(width) }
    }
}

fn line(marker: &Marker) -> u32 {
    clamped(marker.line())
}

/// The parser counts columns from zero.
fn column(marker: &Marker) -> u32 {
    clamped(marker.col().saturating_add(1))
}

fn clamped(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).max(1)
}

fn height(node: &Node) -> usize {
    match &node.kind {
        NodeKind::Scalar { .. } => 1,
        NodeKind::Seq(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        NodeKind::Map(entries) => 1 + entries.iter().map(|entry| height(&entry.value)).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
