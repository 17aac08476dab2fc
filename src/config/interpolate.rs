//! `${NAME}`, `${NAME:-default}` and `${file:/path}` in a value.
//!
//! Replaced after the YAML was parsed: whatever a variable holds, it stays one value and cannot
//! add keys. `$${` writes a literal `${`.

use super::problem::Wrong;

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    Variable { name: &'t str, default: Option<&'t str> },
    File(&'t str),
}

/// Splits a value into its pieces.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Wrong> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            pieces.push(Piece::Text(&rest[..start - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[start + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..start]));
        let inner = &rest[start + 2..];
        let Some(end) = inner.find('}') else {
            return Err(
                Wrong::new("`${` is not closed").write("end it with `}`, or write `$${` for a literal `${`")
            );
        };
        pieces.push(reference(&inner[..end])?);
        rest = &inner[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

fn reference(inner: &str) -> Result<Piece<'_>, Wrong> {
    if inner.contains("${") {
        return Err(
            Wrong::new("a `${…}` cannot hold another").write("give a plain default: `${NAME:-default}`")
        );
    }
    if let Some(path) = inner.strip_prefix("file:") {
        if path.is_empty() {
            return Err(Wrong::new("`${file:}` names no file").write("write `${file:/run/secrets/name}`"));
        }
        return Ok(Piece::File(path));
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if !sound {
        return Err(Wrong::new("`${…}` does not name a variable")
            .write("write `${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` is a literal `${`"));
    }
    Ok(Piece::Variable { name, default })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_values_into_texts_and_references() {
        let variable = |name, default| Piece::Variable { name, default };
        let check =
            |text: &str, expected: &[Piece<'_>]| assert_eq!(pieces(text).unwrap(), expected, "{text}");
        check("plain $5 {x}", &[Piece::Text("plain $5 {x}")]);
        check("${A}", &[variable("A", None)]);
        check("${A:-}", &[variable("A", Some(""))]);
        check("${A_1:-x:-y}", &[variable("A_1", Some("x:-y"))]);
        check("a${B}c${D}", &[Piece::Text("a"), variable("B", None), Piece::Text("c"), variable("D", None)]);
        check("${file:/run/x}", &[Piece::File("/run/x")]);
        check("$${A}", &[Piece::Text("${"), Piece::Text("A}")]);
        check("x$${A}${B}", &[Piece::Text("x"), Piece::Text("${"), Piece::Text("A}"), variable("B", None)]);
        check("", &[]);
    }

    #[test]
    fn refuses_what_names_nothing() {
        for text in ["${", "${A", "${}", "${1A}", "${A B}", "${A-x}", "${file:}", "${A:-${B}}"] {
            assert!(pieces(text).is_err(), "{text}");
        }
    }
}
