//! application/x-www-form-urlencoded.

use super::{BodyFault, Collector, Fields, check_charset_field};
use crate::decision::key::FieldPath;
use crate::decision::query::pairs;

pub(super) fn read(body: &[u8], wanted: &[&FieldPath]) -> Result<Fields, BodyFault> {
    let text = str::from_utf8(body).map_err(|_| BodyFault::NotUtf8)?;
    // Backends that parse JSON whatever the Content-Type would find fields here that no form has.
    let is_blank = |letter: char| letter.is_whitespace() || letter == '\u{feff}';
    if text.trim_start_matches(is_blank).starts_with('{') {
        return Err(BodyFault::JsonAsForm);
    }
    let mut collector = Collector::new(wanted);
    for pair in pairs(text) {
        let (name, value) = pair.map_err(BodyFault::Form)?;
        check_charset_field(&name, &value)?;
        let hits = collector.hits(&name)?;
        collector.set(&hits, &value)?;
    }
    Ok(collector.fields)
}
