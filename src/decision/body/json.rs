//! JSON objects, by the letter of RFC 8259.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{BodyFault, Fields, JsonFault};
use crate::decision::fold::fold_compatible;
use crate::decision::key::FieldPath;

/// How deep objects and arrays may nest.
pub(super) const DEPTH_MAX: usize = 32;

/// The largest integer that all parsers read alike (RFC 8259 §6).
const INTEGER_MAX: u64 = (1 << 53) - 1;

pub(super) fn read(body: &[u8], wanted: &[&FieldPath]) -> Result<Fields, BodyFault> {
    let text = str::from_utf8(body).map_err(|_| BodyFault::NotUtf8)?;
    let targets =
        wanted.iter().map(|&field| Target { field, names: field.names().map(fold_compatible).collect() });
    let targets: SmallVec<[Target<'_>; 4]> = targets.collect();
    let mut reader =
        Reader { scanner: Scanner { text, at: 0 }, targets: &targets, fields: Fields::default() };
    reader.scanner.skip_spaces();
    if reader.scanner.peek() != Some(b'{') {
        return Err(reader.scanner.fault(JsonFault::NotAnObject).into());
    }
    let all: Indexes = (0..targets.len()).collect();
    reader.object(&all, 0)?;
    reader.scanner.skip_spaces();
    match reader.scanner.peek() {
        None => Ok(reader.fields),
        Some(_) => Err(reader.scanner.fault(JsonFault::Syntax).into()),
    }
}

/// A wanted field, its names folded: Go, .NET and Jackson find members whatever their letter case.
struct Target<'w> {
    field: &'w FieldPath,
    names: SmallVec<[Cow<'w, str>; 2]>,
}

type Indexes = SmallVec<[usize; 16]>;

/// Walks the objects on the way to the targets.
struct Reader<'a, 't, 'w> {
    scanner: Scanner<'a>,
    targets: &'t [Target<'w>],
    fields: Fields,
}

impl Reader<'_, '_, '_> {
    /// Reads the object here. The first `level` names of the `pending` targets have led to it.
    fn object(&mut self, pending: &[usize], level: usize) -> Result<(), BodyFault> {
        let mut seen = Indexes::new();
        self.scanner.expect(b'{')?;
        self.scanner.skip_spaces();
        if self.scanner.take(b'}') {
            return Ok(());
        }
        loop {
            self.scanner.skip_spaces();
            let name = self.scanner.string()?;
            if name.contains('\0') {
                return Err(self.scanner.fault(JsonFault::NulInName).into());
            }
            self.scanner.skip_spaces();
            self.scanner.expect(b':')?;
            self.scanner.skip_spaces();
            let hits = self.hits(&name, pending, level)?;
            if let Some(&again) = hits.iter().find(|hit| seen.contains(hit)) {
                return Err(BodyFault::Repeated(self.name_of(again)));
            }
            seen.extend_from_slice(&hits);
            if hits.is_empty() {
                self.scanner.skip_value(level + 1)?;
            } else {
                self.value(&hits, level)?;
            }
            self.scanner.skip_spaces();
            if self.scanner.take(b'}') {
                return Ok(());
            }
            self.scanner.expect(b',')?;
        }
    }

    /// Which pending targets the member leads to. `user.email` as one name is no way to `email`
    /// in `user` for some backends, and is one for others.
    fn hits(&self, name: &str, pending: &[usize], level: usize) -> Result<Indexes, BodyFault> {
        let folded = fold_compatible(name);
        let dotted = folded.split('.').count();
        let mut hits = Indexes::new();
        for &index in pending {
            let Some(names) = self.targets.get(index).and_then(|target| target.names.get(level..)) else {
                continue;
            };
            if names.first() == Some(&folded) {
                hits.push(index);
            } else if dotted > 1 && dotted <= names.len() && folded.split('.').zip(names).all(|(a, b)| a == b)
            {
                return Err(BodyFault::NotNested(self.name_of(index)));
            }
        }
        Ok(hits)
    }

    fn value(&mut self, hits: &[usize], level: usize) -> Result<(), BodyFault> {
        let is_leaf =
            |&&index: &&usize| self.targets.get(index).is_some_and(|target| target.names.len() == level + 1);
        let leaf = hits.iter().find(is_leaf).copied();
        let parent = hits.iter().find(|index| !is_leaf(index)).copied();
        match (self.scanner.peek(), leaf, parent) {
            (Some(b'n'), _, _) => Ok(self.scanner.literal("null")?),
            (Some(b'{'), None, _) => self.object(hits, level + 1),
            (_, _, Some(parent)) => Err(BodyFault::NotNested(self.name_of(parent))),
            (Some(b'"'), _, None) => {
                let text = self.scanner.string()?;
                self.set(hits, &text);
                Ok(())
            }
            (Some(b'-' | b'0'..=b'9'), leaf, None) => {
                let number = self.scanner.number()?;
                let digits = number.strip_prefix('-').unwrap_or(number);
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) || number == "-0" {
                    return Err(self.not_one_value(leaf));
                }
                if !digits.parse::<u64>().is_ok_and(|integer| integer <= INTEGER_MAX) {
                    return Err(self.scanner.fault(JsonFault::IntegerRange).into());
                }
                self.set(hits, number);
                Ok(())
            }
            (Some(b'{' | b'[' | b't' | b'f'), leaf, None) => Err(self.not_one_value(leaf)),
            (Some(_) | None, _, None) => Err(self.scanner.fault(JsonFault::Syntax).into()),
        }
    }

    fn set(&mut self, hits: &[usize], value: &str) {
        for target in hits.iter().filter_map(|&index| self.targets.get(index)) {
            self.fields.push(target.field, value);
        }
    }

    fn name_of(&self, index: usize) -> Box<str> {
        self.targets.get(index).map(|target| target.field.as_str()).unwrap_or_default().into()
    }

    fn not_one_value(&self, leaf: Option<usize>) -> BodyFault {
        BodyFault::NotOneValue(leaf.map(|index| self.name_of(index)).unwrap_or_default())
    }
}

/// A fault and where it was met.
struct Misread {
    at: usize,
    fault: JsonFault,
}

impl From<Misread> for BodyFault {
    fn from(Misread { at, fault }: Misread) -> BodyFault {
        BodyFault::Json { at, fault }
    }
}

/// The grammar.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn fault(&self, fault: JsonFault) -> Misread {
        Misread { at: self.at, fault }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_here = self.peek() == Some(byte);
        self.at += usize::from(is_here);
        is_here
    }

    fn expect(&mut self, byte: u8) -> Result<(), Misread> {
        if self.take(byte) { Ok(()) } else { Err(self.fault(JsonFault::Syntax)) }
    }

    fn skip_while(&mut self, is_skipped: impl Fn(u8) -> bool) -> usize {
        let start = self.at;
        while self.peek().is_some_and(&is_skipped) {
            self.at += 1;
        }
        self.at - start
    }

    fn skip_spaces(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn literal(&mut self, word: &str) -> Result<(), Misread> {
        match self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            true => {
                self.at += word.len();
                Ok(())
            }
            false => Err(self.fault(JsonFault::Syntax)),
        }
    }

    /// Passes over any value inside `depth` levels of others.
    fn skip_value(&mut self, depth: usize) -> Result<(), Misread> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(open @ (b'{' | b'[')) => self.skip_nested(open, depth + 1),
            Some(_) | None => Err(self.fault(JsonFault::Syntax)),
        }
    }

    fn skip_nested(&mut self, open: u8, depth: usize) -> Result<(), Misread> {
        if depth > DEPTH_MAX {
            return Err(self.fault(JsonFault::TooDeep));
        }
        let close = if open == b'{' { b'}' } else { b']' };
        self.at += 1;
        self.skip_spaces();
        if self.take(close) {
            return Ok(());
        }
        loop {
            self.skip_spaces();
            if open == b'{' {
                self.string()?;
                self.skip_spaces();
                self.expect(b':')?;
                self.skip_spaces();
            }
            self.skip_value(depth)?;
            self.skip_spaces();
            if self.take(close) {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn number(&mut self) -> Result<&'a str, Misread> {
        let start = self.at;
        let is_digit = |byte: u8| byte.is_ascii_digit();
        self.take(b'-');
        let leads_with_zero = self.take(b'0');
        if !leads_with_zero && self.skip_while(is_digit) == 0 {
            return Err(self.fault(JsonFault::Syntax));
        }
        if self.take(b'.') && self.skip_while(is_digit) == 0 {
            return Err(self.fault(JsonFault::Syntax));
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            if self.skip_while(is_digit) == 0 {
                return Err(self.fault(JsonFault::Syntax));
            }
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Misread> {
        self.expect(b'"')?;
        let plain = self.plain();
        if self.take(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        while !self.take(b'"') {
            if !self.take(b'\\') {
                return Err(self.fault(JsonFault::String));
            }
            text.push(self.escaped()?);
            text.push_str(self.plain());
        }
        Ok(Cow::Owned(text))
    }

    /// What stands for itself up to a quote, a backslash or a control character.
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        self.skip_while(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn escaped(&mut self) -> Result<char, Misread> {
        let letter = match self.peek() {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            Some(_) | None => return Err(self.fault(JsonFault::String)),
        };
        self.at += 1;
        Ok(letter)
    }

    fn unicode(&mut self) -> Result<char, Misread> {
        let first = self.code_unit()?;
        if let Some(letter) = char::from_u32(first) {
            return Ok(letter);
        }
        self.literal("\\u").map_err(|_| self.fault(JsonFault::String))?;
        let second = self.code_unit()?;
        let units = [first, second].map(|unit| u16::try_from(unit).unwrap_or(0));
        match char::decode_utf16(units).next() {
            Some(Ok(letter)) => Ok(letter),
            Some(Err(_)) | None => Err(self.fault(JsonFault::String)),
        }
    }

    fn code_unit(&mut self) -> Result<u32, Misread> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let unit = digits
            .iter()
            .try_fold(0u32, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
            .filter(|_| digits.len() == 4)
            .ok_or_else(|| self.fault(JsonFault::String))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests;
