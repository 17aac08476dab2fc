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
    // IDNA reads the ideographic full stop as a dot (RFC 3490 §3.1).
    let is_stop = |letter: char| matches!(letter, '.' | '\u{3002}');
    let Some((local, domain)) = text.split_once('@') else { return text };
    let bare_domain =
        domain.trim_start().trim_end_matches(|letter: char| is_stop(letter) || letter.is_whitespace());
    let untagged = local.split('+').next().unwrap_or_default().trim();
    if domain.contains('@') || bare_domain.is_empty() || untagged.is_empty() {
        return text;
    }
    let is_dot_free = !untagged.contains(|letter: char| is_stop(letter) || letter.is_whitespace());
    let is_settled = !is_gmail(domain) || (domain == "gmail.com" && is_dot_free);
    if bare_domain == domain && untagged == local && !domain.contains('\u{3002}') && is_settled {
        return text;
    }
    let domain = bare_domain.replace('\u{3002}', ".");
    if !is_gmail(&domain) {
        return Cow::Owned(format!("{untagged}@{domain}"));
    }
    let undotted = untagged.replace(|letter: char| is_stop(letter) || letter.is_whitespace(), "");
    if undotted.is_empty() { text } else { Cow::Owned(undotted + "@gmail.com") }
}

/// Where dots in the local part mean nothing.
fn is_gmail(domain: &str) -> bool {
    matches!(domain, "gmail.com" | "googlemail.com")
}

/// E.164 (`+` and digits) if the text is nothing but a phone number. Digits that no numbering
/// plan knows stand for themselves, so that punctuation never makes another value of them.
fn phone(text: &str) -> Option<String> {
    const LEN_MAX: usize = 32;
    let is_known = |byte: u8| byte.is_ascii_digit() || b"+-.()/ ".contains(&byte);
    if text.len() > LEN_MAX || !text.bytes().all(is_known) {
        return None;
    }
    let mut number: String =
        text.chars().filter(|letter| letter.is_ascii_digit() || *letter == '+').collect();
    if let Some(international) = number.strip_prefix("00") {
        number = format!("+{international}");
    }
    if number.trim_start_matches('+').is_empty() || number.rfind('+').is_some_and(|at| at > 0) {
        return None;
    }
    if is_north_american(&number) {
        return Some(number);
    }
    // The parser reads some impossible numbers differently at the second time.
    let settled = e164(&number).filter(|parsed| e164(parsed).as_ref() == Some(parsed));
    Some(settled.unwrap_or(number))
}

/// `+1` and ten digits: E.164 as it stands, and too common to be parsed.
fn is_north_american(number: &str) -> bool {
    number
        .strip_prefix("+1")
        .is_some_and(|national| national.len() == 10 && !national.starts_with(['0', '1']))
}

fn e164(number: &str) -> Option<String> {
    // With a region the parser would strip that region's trunk prefix from foreign numbers too.
    let region = if number.starts_with('+') { None } else { Some(DEFAULT_REGION) };
    let parsed = phonenumber::parse(region, number).ok()?;
    Some(parsed.format().mode(Mode::E164).to_string())
}

#[cfg(test)]
mod tests;
