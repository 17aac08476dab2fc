//! The wanted fields of a request body, read so strictly that the backend can read no others.

mod form;
mod json;
mod multipart;
mod parameters;

use std::fmt;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use smallvec::SmallVec;
use thiserror::Error;

use self::parameters::parameters;
use super::field::{PairFault, Spelling, Wanted};
use super::key::FieldPath;

/// What a body is, as its headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// application/json or any +json (RFC 8259).
    Json,
    /// application/x-www-form-urlencoded.
    Form,
    /// multipart/form-data (RFC 7578).
    Multipart { boundary: Box<str> },
}

/// Why the fields of a body cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BodyFault {
    #[error("The request has a body but no Content-Type.")]
    NoContentType,
    #[error("The request has several Content-Type headers.")]
    SeveralContentTypes,
    #[error(
        "The Content-Type must be application/json, application/x-www-form-urlencoded or \
         multipart/form-data, with well-formed parameters."
    )]
    ContentType,
    #[error("The charset of the body must be utf-8.")]
    Charset,
    #[error("The body must not be compressed: Content-Encoding is not supported here.")]
    ContentEncoding,
    #[error("The body must not be compressed: no Transfer-Encoding but chunked is supported here.")]
    TransferCoding,
    #[error("The multipart boundary must be 1 to 70 letters, digits or any of '()+_,-./:=?.")]
    Boundary,
    #[error("The body is not valid UTF-8.")]
    NotUtf8,
    #[error("The body is not valid JSON at byte {at}: {fault}.")]
    Json { at: usize, fault: JsonFault },
    #[error("The form {0}.")]
    Form(PairFault),
    #[error("The body looks like JSON, which does not fit its Content-Type.")]
    JsonAsForm,
    #[error("The multipart body {0}.")]
    Multipart(MultipartFault),
    #[error("The field {0:?} is there several times, or in several spellings; send it once.")]
    Repeated(Box<str>),
    #[error("The field {0:?} must be one text or integer.")]
    NotOneValue(Box<str>),
    #[error("The field {0:?} must be nested in objects.")]
    NotNested(Box<str>),
}

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JsonFault {
    #[error("the top level must be an object")]
    NotAnObject,
    #[error("unexpected character or end")]
    Syntax,
    #[error("more than {} levels deep", json::DEPTH_MAX)]
    TooDeep,
    #[error("a string with an unknown escape, a control character or a lone surrogate")]
    String,
    #[error("a member name with a NUL character")]
    NulInName,
    #[error("an integer beyond 2^53 - 1, which parsers round differently; send it as a text")]
    IntegerRange,
}

/// What is wrong with a multipart body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MultipartFault {
    #[error("must start with the boundary")]
    Preamble,
    #[error("holds its boundary where no part begins or ends")]
    StrayBoundary,
    #[error("ends without its closing boundary")]
    Unfinished,
    #[error("goes on after its closing boundary")]
    Epilogue,
    #[error("has more than {} parts", multipart::PARTS_MAX)]
    TooManyParts,
    #[error("has a part without well-formed headers of at most {} bytes", multipart::HEADERS_LEN_MAX)]
    Headers,
    #[error("has a part without one well-formed `Content-Disposition: form-data; name=\"...\"`")]
    Disposition,
    #[error("has a part with a Content-Transfer-Encoding, which is not supported here")]
    TransferEncoding,
    #[error("sends a counted field as a file or in another type than text/plain in utf-8")]
    NotText,
    #[error("has a value that is not valid UTF-8 or contains a NUL character")]
    Value,
}

/// What answer a fault deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFaultKind {
    /// 400.
    Malformed,
    /// 415.
    Unsupported,
}

impl BodyFault {
    pub fn kind(&self) -> BodyFaultKind {
        match self {
            BodyFault::NoContentType
            | BodyFault::SeveralContentTypes
            | BodyFault::ContentType
            | BodyFault::Charset
            | BodyFault::ContentEncoding
            | BodyFault::TransferCoding
            | BodyFault::JsonAsForm
            | BodyFault::Boundary => BodyFaultKind::Unsupported,
            BodyFault::NotUtf8
            | BodyFault::Json { .. }
            | BodyFault::Form(_)
            | BodyFault::Multipart(_)
            | BodyFault::Repeated(_)
            | BodyFault::NotOneValue(_)
            | BodyFault::NotNested(_) => BodyFaultKind::Malformed,
        }
    }
}

impl Media {
    /// From Content-Type and the encodings, before the body is read. A request without a body needs no call.
    pub fn of(headers: &HeaderMap) -> Result<Media, BodyFault> {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        if !codings.all(|line| line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
            return Err(BodyFault::TransferCoding);
        }
        for line in headers.get_all(CONTENT_ENCODING) {
            let line = line.to_str().map_err(|_| BodyFault::ContentEncoding)?;
            let is_plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
            if !line.split(',').map(str::trim).all(is_plain) {
                return Err(BodyFault::ContentEncoding);
            }
        }
        let mut lines = headers.get_all(CONTENT_TYPE).iter();
        let line = lines.next().ok_or(BodyFault::NoContentType)?;
        if lines.next().is_some() {
            return Err(BodyFault::SeveralContentTypes);
        }
        Media::parse(line.to_str().map_err(|_| BodyFault::ContentType)?)
    }

    fn parse(content_type: &str) -> Result<Media, BodyFault> {
        let (essence, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
        let essence = essence.trim().to_ascii_lowercase();
        let mut boundary = None;
        let mut seen: SmallVec<[&str; 4]> = SmallVec::new();
        for parameter in parameters(rest) {
            let (name, value) = parameter.ok_or(BodyFault::ContentType)?;
            if seen.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(BodyFault::ContentType);
            }
            seen.push(name);
            if name.eq_ignore_ascii_case("charset") && !is_utf8(value) {
                return Err(BodyFault::Charset);
            }
            if name.eq_ignore_ascii_case("boundary") {
                boundary = Some(value);
            }
        }
        match (essence.as_str(), boundary) {
            ("application/x-www-form-urlencoded", None) => Ok(Media::Form),
            ("multipart/form-data", Some(boundary)) if is_boundary(boundary) => {
                Ok(Media::Multipart { boundary: boundary.into() })
            }
            ("multipart/form-data", Some(_) | None) => Err(BodyFault::Boundary),
            (json, None) if is_json(json) => Ok(Media::Json),
            (_, Some(_) | None) => Err(BodyFault::ContentType),
        }
    }
}

fn is_json(essence: &str) -> bool {
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let is_suffixed = subtype.strip_suffix("+json").is_some_and(parameters::is_token);
    essence == "application/json" || (parameters::is_token(kind) && is_suffixed)
}

fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// `boundary` of RFC 2046 §5.1.1, without spaces.
fn is_boundary(text: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    (1..=70).contains(&text.len()) && text.bytes().all(is_sound)
}

/// The wanted fields that a body holds.
///
/// Paths and values stand in one text, behind one another: a body costs one allocation.
#[derive(Clone, Default)]
pub struct Fields {
    text: String,
    entries: SmallVec<[Entry; 4]>,
}

#[derive(Clone, Copy)]
struct Entry {
    path_start: usize,
    value_start: usize,
    value_end: usize,
}

impl Fields {
    /// The value of a field that was asked for; `None` if the body lacks it or it is null.
    pub fn get(&self, field: &FieldPath) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| self.path(entry) == field.as_str())?;
        self.text.get(entry.value_start..entry.value_end)
    }

    fn path(&self, entry: &Entry) -> &str {
        self.text.get(entry.path_start..entry.value_start).unwrap_or_default()
    }

    fn push(&mut self, field: &FieldPath, value: &str) {
        let path_start = self.text.len();
        self.text.push_str(field.as_str());
        let value_start = self.text.len();
        self.text.push_str(value);
        self.entries.push(Entry { path_start, value_start, value_end: self.text.len() });
    }
}

/// Which fields there are; their values belong in no log.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.iter().map(|entry| self.path(entry))).finish()
    }
}

/// Reads all `wanted` fields of one whole body; an empty body has none.
///
/// A value is returned only if every backend that reads the field at all reads this one.
pub fn read_fields(media: &Media, body: &[u8], wanted: &[&FieldPath]) -> Result<Fields, BodyFault> {
    if body.is_empty() {
        return Ok(Fields::default());
    }
    match media {
        Media::Json => json::read(body, wanted),
        Media::Form => form::read(body, wanted),
        Media::Multipart { boundary } => multipart::read(body, boundary, wanted),
    }
}

/// Gathers the wanted ones of named, flat values: what forms and multipart bodies are.
struct Collector<'w> {
    wanted: SmallVec<[(&'w FieldPath, Wanted<'w>); 4]>,
    found: SmallVec<[bool; 16]>,
    fields: Fields,
}

/// Which of the wanted fields a name spells, by index.
type Hits = SmallVec<[usize; 4]>;

impl<'w> Collector<'w> {
    fn new(wanted: &[&'w FieldPath]) -> Collector<'w> {
        Collector {
            wanted: wanted.iter().map(|&field| (field, Wanted::new(field.names()))).collect(),
            found: SmallVec::from_elem(false, wanted.len()),
            fields: Fields::default(),
        }
    }

    fn hits(&self, name: &str) -> Result<Hits, BodyFault> {
        let mut hits = Hits::new();
        for (index, (field, wanted)) in self.wanted.iter().enumerate() {
            match wanted.spelled_by(name) {
                Spelling::Other => {}
                Spelling::Wanted => hits.push(index),
                Spelling::Conflict => return Err(BodyFault::NotOneValue(field.as_str().into())),
            }
        }
        Ok(hits)
    }

    fn set(&mut self, hits: &[usize], value: &str) -> Result<(), BodyFault> {
        for &index in hits {
            let (Some((field, _)), Some(found)) = (self.wanted.get(index), self.found.get_mut(index)) else {
                continue;
            };
            if std::mem::replace(found, true) {
                return Err(BodyFault::Repeated(field.as_str().into()));
            }
            self.fields.push(field, value);
        }
        Ok(())
    }
}

/// Browsers and RFC 7578 §4.6 let a field of this name say the charset of all others.
fn check_charset_field(name: &str, value: &str) -> Result<(), BodyFault> {
    if name.trim().eq_ignore_ascii_case("_charset_") && !is_utf8(value) {
        return Err(BodyFault::Charset);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
