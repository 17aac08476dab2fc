//! Members of JSON answers, read leniently: providers change a number into a text and back, and an answer that
//! was not understood is a message that may be sent twice.

use serde_json::Value;

/// The text or number at a JSON Pointer; none if there is neither, or nothing in it.
pub(super) fn text(document: &Value, pointer: &str) -> Option<String> {
    match document.pointer(pointer)? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The whole number there, as a text or not.
pub(super) fn number(document: &Value, pointer: &str) -> Option<u32> {
    text(document, pointer)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_alike_and_all_else_is_nothing() {
        let document =
            serde_json::json!({ "a": "1", "b": [{ "c": 0.07 }], "d": "", "e": null, "f": {}, "g": 12 });
        assert_eq!(text(&document, "/a").as_deref(), Some("1"));
        assert_eq!(text(&document, "/b/0/c").as_deref(), Some("0.07"));
        for nothing in ["/d", "/e", "/f", "/b", "/b/1/c", "/x"] {
            assert_eq!(text(&document, nothing), None, "{nothing}");
        }
        assert_eq!((number(&document, "/a"), number(&document, "/g")), (Some(1), Some(12)));
        assert_eq!(number(&document, "/b/0/c"), None);
    }
}
