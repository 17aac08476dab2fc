//! Bringing a key's value to one spelling, so that a backend that knows somebody by several
//! spellings does not give them several quotas.

use std::borrow::Cow;

use phonenumber::Mode;
use phonenumber::country::Id as Region;
use thiserror::Error;

use super::fold::{fold_case, fold_compatible};
use super::key::Form;

/// The longest value, bytes.
pub const LEN_MAX: usize = 1024;

/// How a phone number without `+` is read.
pub const DEFAULT_REGION: Region = Region::US;

/// Why a value cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ValueFault {
    #[error("The value is longer than {LEN_MAX} bytes.")]
    TooLong,
    #[error("The value contains a control character.")]
    Control,
}

/// The one spelling of `value`; `None` if nothing is left of it, which is as if it was missing.
/// Borrowed when it is so already.
pub fn normalise(form: Form, value: &str) -> Result<Option<Cow<'_, str>>, ValueFault> {
    if value.len() > LEN_MAX {
        return Err(ValueFault::TooLong);
    }
    let normal = match form {
        Form::Exact if value.contains('\0') => return Err(ValueFault::Control),
        Form::Exact => Cow::Borrowed(value),
        Form::Text => text(value)?,
        Form::Email => email(text(value)?),
        Form::Phone => {
            let text = text(value)?;
            phone(&text).map_or(text, Cow::Owned)
        }
    };
    Ok(if normal.is_empty() { None } else { Some(normal) })
}

fn text(value: &str) -> Result<Cow<'_, str>, ValueFault> {
    if value.chars().any(char::is_control) {
        return Err(ValueFault::Control);
    }
    if value.is_ascii() {
        return Ok(fold_case(value.trim()));
    }
    let visible: String = value.chars().filter(|&letter| !is_ignorable(letter)).collect();
    // Compatibility forms may bring new invisible letters (U+FFA0 is U+1160).
    let folded: String = fold_compatible(&visible).chars().filter(|&letter| !is_ignorable(letter)).collect();
    Ok(Cow::Owned(fold_compatible(&folded).trim().to_owned()))
}

/// Default_Ignorable_Code_Point of Unicode: letters that show nothing.
fn is_ignorable(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Drops what mail hosts ignore. Whatever has no two sides of one `@` stays text.
fn email(text: Cow<'_, str>) -> Cow<'_, str> {
    let Some((local, domain)) = text.split_once('@') else { return text };
    let is_stop = |letter| matches!(letter, '.' | '\u{3002}');
    let bare_domain = domain.trim_end_matches(is_stop);
    let untagged = local.split('+').next().unwrap_or_default();
    if domain.contains('@') || bare_domain.is_empty() || untagged.is_empty() {
        return text;
    }
    // IDNA reads the ideographic full stop as a dot (RFC 3490 §3.1).
    let domain = bare_domain.replace('\u{3002}', ".");
    if matches!(&*domain, "gmail.com" | "googlemail.com") {
        let undotted = untagged.replace('.', "");
        return if undotted.is_empty() { text } else { Cow::Owned(undotted + "@gmail.com") };
    }
    if untagged == local && domain.len() == text.len() - local.len() - 1 {
        return text;
    }
    Cow::Owned(format!("{untagged}@{domain}"))
}

/// E.164, if the text is nothing but a phone number.
fn phone(text: &str) -> Option<String> {
    const LEN_MAX: usize = 32;
    let is_known = |byte: u8| byte.is_ascii_digit() || b"+-.()/ ".contains(&byte);
    if text.len() > LEN_MAX || !text.bytes().all(is_known) {
        return None;
    }
    // The number alone is parsed, so that punctuation never decides how it is read.
    let mut number: String =
        text.chars().filter(|letter| letter.is_ascii_digit() || *letter == '+').collect();
    if let Some(international) = number.strip_prefix("00") {
        number = format!("+{international}");
    }
    // With a region the parser would strip that region's trunk prefix from foreign numbers too.
    let region = if number.starts_with('+') { None } else { Some(DEFAULT_REGION) };
    if number.rfind('+').is_some_and(|at| at > 0) {
        return None;
    }
    let parsed = phonenumber::parse(region, &number).ok()?;
    Some(parsed.format().mode(Mode::E164).to_string())
}

#[cfg(test)]
mod tests;
