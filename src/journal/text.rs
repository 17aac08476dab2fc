//! Text from outside, brought within bounds.

/// At most so many bytes of `text`, whole characters, without control characters.
pub(super) fn bounded(text: Box<str>, bytes_max: usize) -> Box<str> {
    if text.len() <= bytes_max && !text.contains(char::is_control) {
        return text;
    }
    clean(&text, bytes_max)
}

/// As [`bounded`], of a text that is not ours.
pub(super) fn clean(text: &str, bytes_max: usize) -> Box<str> {
    let mut kept = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > bytes_max {
            break;
        }
        kept.push(c);
    }
    kept.into()
}
