//! As much of JSON Schema as the API's description uses.

use serde_json::Value;

/// What does not fit, with where.
pub(super) fn breaches(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, at, &mut found);
    found
}

/// A part of the document that may stand elsewhere in it.
pub(super) fn resolve<'d>(document: &'d Value, part: &'d Value) -> &'d Value {
    match part.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let target = document.pointer(reference.trim_start_matches('#'));
            target.unwrap_or_else(|| panic!("{reference} is not there"))
        }
        None => part,
    }
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolve(document, schema);
    if let Some(types) = schema.get("type") {
        let types: Vec<&str> = match types {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            other => panic!("{other} is no type"),
        };
        if !types.iter().any(|of| is_of(of, value)) {
            found.push(format!("{at}: {value} is none of {types:?}"));
            return;
        }
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        found.push(format!("{at}: {value} is none of {words:?}"));
    }
    if let (Some(minimum), Some(number)) = (schema.get("minimum").and_then(Value::as_i64), value.as_i64())
        && number < minimum
    {
        found.push(format!("{at}: {number} is less than {minimum}"));
    }
    if schema.get("format").and_then(Value::as_str) == Some("date-time")
        && let Some(text) = value.as_str()
    {
        let is_time =
            tollgate::decision::rfc3339::read(text).is_some() && text.len() == 24 && text.ends_with('Z');
        if !is_time {
            found.push(format!("{at}: {text} is no time as the API writes it"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(items) = schema.get("items") {
            check(document, items, item, &format!("{at}[{index}]"), found);
        }
    }
    let (Some(object), Some(properties)) =
        (value.as_object(), schema.get("properties").and_then(Value::as_object))
    else {
        return;
    };
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            found.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in object {
        match properties.get(name) {
            Some(property) => check(document, property, value, &format!("{at}.{name}"), found),
            None => found.push(format!("{at}: nobody was told of {name}")),
        }
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("{other} is no type that the description uses"),
    }
}
