//! Parameters of header values (RFC 9110 §5.6.6).

/// The `name=value` pairs of `; name=value; name="value"`; `None` for what is not one.
///
/// Spaces around `=`, backslashes in quotes and single quotes as quotes are refused: parsers
/// disagree on them.
pub(super) fn parameters(text: &str) -> impl Iterator<Item = Option<(&str, &str)>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        loop {
            let pending = rest?.trim_start_matches([' ', '\t']);
            if pending.is_empty() {
                return None;
            }
            if let Some(after) = pending.strip_prefix(';') {
                rest = Some(after);
                continue;
            }
            let read = parameter(pending);
            rest = read.map(|(_, _, after)| after);
            return Some(read.map(|(name, value, _)| (name, value)));
        }
    })
}

fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, after) = text.split_once('=')?;
    let (value, after) = match after.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains(is_odd))?,
        None => {
            let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
            let (value, after) = after.split_at(end);
            (is_token(value) && has_sound_quotes(name, value)).then_some((value, after))?
        }
    };
    let after = after.trim_start_matches([' ', '\t']);
    let is_whole = is_token(name) && !name.contains('\'') && (after.is_empty() || after.starts_with(';'));
    is_whole.then_some((name, value, after))
}

/// PHP takes `'` for a quote anywhere. Extended values (RFC 8187) need two of them: `utf-8''x`.
fn has_sound_quotes(name: &str, value: &str) -> bool {
    match value.matches('\'').count() {
        0 => true,
        2 => name.ends_with('*'),
        _ => false,
    }
}

fn is_odd(letter: char) -> bool {
    letter == '\\' || letter.is_control()
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_sound)
}
