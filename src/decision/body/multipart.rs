//! multipart/form-data (RFC 7578), in the one shape that all parsers read alike.

use super::parameters::{is_token, parameters};
use super::{BodyFault, Collector, Fields, MultipartFault, check_charset_field, is_utf8};
use crate::decision::escape::{Plus, decode_lenient};
use crate::decision::key::FieldPath;

pub(super) const PARTS_MAX: usize = 64;
pub(super) const HEADERS_LEN_MAX: usize = 4 * 1024;

pub(super) fn read(body: &[u8], boundary: &str, wanted: &[&FieldPath]) -> Result<Fields, BodyFault> {
    let mut collector = Collector::new(wanted);
    for (index, part) in Parts::open(body, boundary)?.enumerate() {
        if index == PARTS_MAX {
            return Err(MultipartFault::TooManyParts.into());
        }
        collect(&mut collector, &Part::parse(part?)?)?;
    }
    Ok(collector.fields)
}

impl From<MultipartFault> for BodyFault {
    fn from(fault: MultipartFault) -> BodyFault {
        BodyFault::Multipart(fault)
    }
}

fn collect(collector: &mut Collector<'_>, part: &Part<'_>) -> Result<(), BodyFault> {
    let hits = collector.hits(part.name)?;
    // Browsers encode quotes in names; who decodes them decodes more.
    let decoded = decode_lenient(part.name, Plus::Itself);
    if decoded != part.name && (!collector.hits(&decoded)?.is_empty() || decoded.contains('"')) {
        return Err(MultipartFault::Disposition.into());
    }
    let sets_charset = part.name.trim().eq_ignore_ascii_case("_charset_");
    if hits.is_empty() && !sets_charset {
        return Ok(());
    }
    if !part.is_plain_text {
        return Err(MultipartFault::NotText.into());
    }
    let value = str::from_utf8(part.content).ok().filter(|value| !value.contains('\0'));
    let value = value.ok_or(MultipartFault::Value)?;
    check_charset_field(part.name, value)?;
    collector.set(&hits, value)
}

/// The bodies of the parts, between boundaries: headers, empty line, content.
struct Parts<'a> {
    delimiter: String,
    /// Behind the last boundary; `None` behind the closing one.
    rest: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn open(body: &'a [u8], boundary: &str) -> Result<Parts<'a>, MultipartFault> {
        let delimiter = format!("--{boundary}");
        let rest = body.strip_prefix(delimiter.as_bytes()).ok_or(MultipartFault::Preamble)?;
        Ok(Parts { delimiter, rest: Some(rest) })
    }

    /// Every boundary in the body must begin or end a part, lest a parser that is less strict
    /// about line ends sees other parts.
    fn next_part(&mut self, rest: &'a [u8]) -> Result<Option<&'a [u8]>, MultipartFault> {
        if let Some(end) = rest.strip_prefix(b"--") {
            return if end.is_empty() || end == b"\r\n" { Ok(None) } else { Err(MultipartFault::Epilogue) };
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(MultipartFault::StrayBoundary)?;
        let delimiter = self.delimiter.as_bytes();
        let end = part.windows(delimiter.len()).position(|window| window == delimiter);
        let end = end.ok_or(MultipartFault::Unfinished)?;
        let (part, after) = part.split_at(end);
        self.rest = after.get(delimiter.len()..);
        part.strip_suffix(b"\r\n").map(Some).ok_or(MultipartFault::StrayBoundary)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<&'a [u8], MultipartFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        self.next_part(rest).transpose()
    }
}

struct Part<'a> {
    name: &'a str,
    /// Not a file, and of no other type or charset.
    is_plain_text: bool,
    content: &'a [u8],
}

impl<'a> Part<'a> {
    fn parse(part: &'a [u8]) -> Result<Part<'a>, MultipartFault> {
        let end = part.windows(4).take(HEADERS_LEN_MAX).position(|window| window == b"\r\n\r\n");
        let (head, content) = end
            .and_then(|end| Some((part.get(..end)?, part.get(end + 4..)?)))
            .ok_or(MultipartFault::Headers)?;
        let head = str::from_utf8(head).map_err(|_| MultipartFault::Headers)?;
        let mut disposition = None;
        let mut content_type = None;
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':').ok_or(MultipartFault::Headers)?;
            if !is_token(name) || value.contains(|letter: char| letter.is_control() && letter != '\t') {
                return Err(MultipartFault::Headers);
            }
            let value = value.trim_matches([' ', '\t']);
            let is_again = if name.eq_ignore_ascii_case("content-disposition") {
                disposition.replace(value).is_some()
            } else if name.eq_ignore_ascii_case("content-type") {
                content_type.replace(value).is_some()
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") && !is_identity(value) {
                return Err(MultipartFault::TransferEncoding);
            } else {
                false
            };
            if is_again {
                return Err(MultipartFault::Headers);
            }
        }
        let (name, is_file) = disposition.and_then(parse_disposition).ok_or(MultipartFault::Disposition)?;
        Ok(Part { name, is_plain_text: !is_file && content_type.is_none_or(is_plain_text), content })
    }
}

fn is_identity(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
}

fn is_plain_text(content_type: &str) -> bool {
    let (essence, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    essence.trim().eq_ignore_ascii_case("text/plain")
        && parameters(rest).all(|parameter| {
            parameter.is_some_and(|(name, value)| name.eq_ignore_ascii_case("charset") && is_utf8(value))
        })
}

/// The name, and whether the part is a file.
fn parse_disposition(value: &str) -> Option<(&str, bool)> {
    let (kind, rest) = value.split_once(';')?;
    let mut name = None;
    let mut is_file = false;
    let mut seen: smallvec::SmallVec<[&str; 4]> = smallvec::SmallVec::new();
    for parameter in parameters(rest) {
        let (key, value) = parameter?;
        if seen.iter().any(|known| known.eq_ignore_ascii_case(key)) {
            return None;
        }
        seen.push(key);
        if key.eq_ignore_ascii_case("name") {
            name = Some(value);
        }
        let lower = key.to_ascii_lowercase();
        // Extended and continued names (RFC 2231) are read by some and ignored by others.
        if lower.starts_with("name*") {
            return None;
        }
        is_file |= lower.starts_with("filename");
    }
    // So are encoded words (RFC 2047), and single quotes as quotes.
    let name = name.filter(|name| !name.contains("=?") && !name.starts_with('\''))?;
    kind.trim().eq_ignore_ascii_case("form-data").then_some((name, is_file))
}

#[cfg(test)]
mod tests;
