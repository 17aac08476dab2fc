//! Items as lines for people, or for programs.

use std::io::{self, Write};

use serde_json::Value;

/// A column: its heading, and what it shows of an item.
pub(super) type Column = (&'static str, fn(&Value) -> String);

/// No cell is wider.
const WIDTH_MAX: usize = 60;

/// One JSON object a line.
pub(super) fn lines(items: &[Value], out: &mut impl Write) -> io::Result<()> {
    items.iter().try_for_each(|item| writeln!(out, "{item}"))
}

pub(super) fn table(columns: &[Column], items: &[Value], out: &mut impl Write) -> io::Result<()> {
    let heading = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let row = |item: &Value| columns.iter().map(|(_, show)| plain(&show(item), WIDTH_MAX)).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(items.iter().map(row)).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A member of an item, as text; a dash if it has none.
pub(super) fn text(item: &Value, name: &str) -> String {
    match item.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What others wrote must neither steer the terminal nor turn its line round.
pub(super) fn plain(text: &str, chars_max: usize) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown: String =
        text.chars().take(chars_max).map(|c| if steers(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_steers_the_terminal() {
        let columns: [Column; 2] = [("WHO", |item| text(item, "who")), ("N", |item| text(item, "n"))];
        let items = [json!({"who": "ada\u{1b}[2J\u{202e}", "n": 1}), json!({"who": null, "n": 20})];
        let mut out = Vec::new();
        table(&columns, &items, &mut out).unwrap();
        let expected = "WHO       N\nada\u{fffd}[2J\u{fffd}  1\n-         20\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(plain(&"é".repeat(61), WIDTH_MAX).chars().count(), 60);
    }
}
