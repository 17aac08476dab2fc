//! What recipients read, in their language.
//!
//! A template is rendered when it is loaded, for each number of minutes that a code may still be good for, with a
//! stand-in for the code. So nothing can fail while codes are sent: the stand-in is exchanged for the code, no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use super::segments;
use crate::decision::time::Span;

/// The most minutes that a text says: a day. Codes that are good for longer are told this.
const MINUTES_MAX: u64 = 24 * 60;
/// What one rendering may do, steps and kilobytes together: a hundred times what a long text needs.
const FUEL: u64 = 10_000;
/// Of Unicode's noncharacters, which no text has: stands for a digit of the code.
const STAND_IN: char = '\u{fdd0}';
const VARIABLES: [&str; 3] = ["code", "brand", "minutes"];
/// The locale that serves all who ask for none of the others.
const DEFAULT: &str = "en";

/// What all templates of a file have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateRules {
    pub brand: Box<str>,
    /// Adds the line `@domain #code`, by which browsers fill the code in on that site alone.
    pub webotp_domain: Option<Box<str>>,
    /// Digits.
    pub code_length: u8,
    pub ttl: Span,
    /// How many segments a text may take at its worst.
    pub segments_max: u8,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{locale}: {wrong}")]
pub struct TemplateFault {
    /// As it was written; empty if there is no template at all.
    pub locale: Box<str>,
    pub wrong: Wrong,
}

/// In words for who wrote the template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Wrong {
    #[error("there is no template")]
    None,
    #[error("this is no language tag; write one such as en or pt-BR")]
    Locale,
    #[error("the same language as {0}, spelled otherwise")]
    Twice(Box<str>),
    #[error("line {line}: {what}")]
    Syntax { line: usize, what: Box<str> },
    #[error("unknown variable {name:?}; there are {}", VARIABLES.join(", "))]
    Variable { name: Box<str> },
    #[error("the text does not hold {{{{ code }}}} in one piece, apart from other digits")]
    Code,
    #[error("the text holds the control character U+{0:04X}")]
    Control(u32),
    #[error("at its worst the text takes {segments} segments, more than {segments_max}{}", hint(*.beyond))]
    Long { segments: usize, segments_max: u8, beyond: Option<char> },
}

fn hint(beyond: Option<char>) -> String {
    match beyond {
        Some(letter) => format!("; {letter:?} (U+{:04X}) more than doubles them", u32::from(letter)),
        None => String::new(),
    }
}

/// A text that is about to be sent.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Whose template it is: a BCP 47 tag.
    pub locale: Arc<str>,
    pub text: SecretString,
    pub segments: u8,
}

/// The texts of all locales; there is at least one.
#[derive(Clone, Debug)]
pub struct Templates {
    default: Texts,
    /// By their tags in lower case, the default among them.
    by_tag: BTreeMap<Box<str>, Texts>,
    stand_in: Box<str>,
    subject: Box<str>,
}

/// One locale's texts.
#[derive(Clone, Debug)]
struct Texts {
    /// As RFC 5646 §2.1.1 spells it.
    locale: Arc<str>,
    first: Text,
    /// For 2, 3, … minutes.
    more: Arc<[Text]>,
}

#[derive(Clone, Debug)]
struct Text {
    /// With the stand-in where the code goes.
    text: Box<str>,
    segments: u8,
}

impl Templates {
    /// Checks and renders `sources`: templates by locale.
    pub fn compile(
        sources: &BTreeMap<Box<str>, Box<str>>,
        rules: &TemplateRules,
    ) -> Result<Templates, Vec<TemplateFault>> {
        let mut by_tag: BTreeMap<Box<str>, Texts> = BTreeMap::new();
        let mut faults = Vec::new();
        let workshop = Workshop::new(rules);
        for (written, source) in sources {
            let mut fault = |wrong| faults.push(TemplateFault { locale: written.clone(), wrong });
            let Some(tag) = canonical_tag(written) else {
                fault(Wrong::Locale);
                continue;
            };
            let key = tag.to_ascii_lowercase().into_boxed_str();
            match (by_tag.get(&key), workshop.texts(tag, source)) {
                (Some(first), _) => fault(Wrong::Twice(first.locale.as_ref().into())),
                (None, Ok(texts)) => drop(by_tag.insert(key, texts)),
                (None, Err(wrong)) => fault(wrong),
            }
        }
        let default = by_tag.get(DEFAULT).or_else(|| by_tag.values().next()).cloned();
        match default {
            Some(default) if faults.is_empty() => {
                let subject = match &*rules.brand {
                    "" => "Your code".into(),
                    brand => format!("{brand}: your code").into(),
                };
                Ok(Templates { default, by_tag, stand_in: workshop.stand_in.into(), subject })
            }
            Some(_) => Err(faults),
            None if sources.is_empty() => Err(vec![TemplateFault { locale: "".into(), wrong: Wrong::None }]),
            None => Err(faults),
        }
    }

    /// The text for a code that is good for `expires_in`, told in minutes, rounded up. For a `locale` without a template
    /// it is that of the nearest wider one (`pt-BR`, `pt`), else `en`, else the first of all.
    pub fn render(&self, locale: Option<&str>, code: &SecretString, expires_in: Duration) -> Rendered {
        let texts = locale.and_then(|locale| self.nearest(locale)).unwrap_or(&self.default);
        let minutes = expires_in.as_millis().div_ceil(60_000);
        let beyond_first = usize::try_from(minutes.saturating_sub(1)).unwrap_or(usize::MAX);
        let text = match beyond_first.min(texts.more.len()).checked_sub(1) {
            None => &texts.first,
            Some(index) => texts.more.get(index).unwrap_or(&texts.first),
        };
        Rendered {
            locale: Arc::clone(&texts.locale),
            text: text.text.replace(&*self.stand_in, code.expose_secret()).into(),
            segments: text.segments,
        }
    }

    /// What an e-mail is about. Without the code, which would show on a locked screen.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// RFC 4647 §3.4: the tag loses its subtags from the end until there is a template.
    fn nearest(&self, locale: &str) -> Option<&Texts> {
        if locale.len() > TAG_BYTES_MAX {
            return None;
        }
        // Some platforms write pt_BR.
        let lower = locale.to_ascii_lowercase().replace('_', "-");
        let mut range = lower.as_str();
        loop {
            if let Some(texts) = self.by_tag.get(range) {
                return Some(texts);
            }
            range = range.rsplit_once('-')?.0;
        }
    }
}

/// Longer ones have extensions that no template is written for.
const TAG_BYTES_MAX: usize = 35;

/// A well-formed language tag (RFC 5646 §2.1), its letters in the cases that §2.1.1 recommends.
fn canonical_tag(written: &str) -> Option<String> {
    let is_subtag =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut parts = written.split('-');
    let language = parts.next().filter(|part| {
        matches!(part.len(), 2 | 3 | 5..=8) && part.bytes().all(|byte| byte.is_ascii_alphabetic())
    })?;
    let mut tag = language.to_ascii_lowercase();
    let mut is_after_singleton = false;
    for part in parts {
        if !is_subtag(part) || (is_after_singleton && part.len() == 1) {
            return None;
        }
        is_after_singleton = part.len() == 1;
        let lower = part.to_ascii_lowercase();
        tag.push('-');
        match part.len() {
            2 => tag.push_str(&lower.to_ascii_uppercase()),
            4 if lower.starts_with(|first: char| first.is_ascii_alphabetic()) => {
                tag.push_str(&lower[..1].to_ascii_uppercase());
                tag.push_str(&lower[1..]);
            }
            _ => tag.push_str(&lower),
        }
    }
    (tag.len() <= TAG_BYTES_MAX && !is_after_singleton).then_some(tag)
}

/// What makes texts of templates.
struct Workshop<'r> {
    rules: &'r TemplateRules,
    environment: Environment<'static>,
    stand_in: String,
}

impl<'r> Workshop<'r> {
    fn new(rules: &'r TemplateRules) -> Workshop<'r> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Who reads it is a person, not a browser.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        let stand_in = STAND_IN.to_string().repeat(rules.code_length.into());
        Workshop { rules, environment, stand_in }
    }

    fn texts(&self, locale: String, source: &str) -> Result<Texts, Wrong> {
        let template = self.environment.template_from_str(source).map_err(|error| told(&error))?;
        // Strictness alone would find only those that this rendering happens to come by.
        let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| {
            !VARIABLES.contains(&name.as_str()) && !self.environment.globals().any(|(known, _)| known == name)
        });
        unknown.sort_unstable();
        if let Some(name) = unknown.into_iter().next() {
            return Err(Wrong::Variable { name: name.into() });
        }
        let render = |minutes: u64| {
            let values = [
                ("code", Value::from(self.stand_in.as_str())),
                ("brand", Value::from(&*self.rules.brand)),
                ("minutes", Value::from(minutes)),
            ];
            let body = template.render(Value::from_pairs(values)).map_err(|error| told(&error))?;
            self.text(&body)
        };
        let minutes_max = self.rules.ttl.as_millis().div_ceil(60_000).clamp(1, MINUTES_MAX);
        let more: Result<Vec<Text>, Wrong> = (2..=minutes_max).map(render).collect();
        Ok(Texts { locale: locale.into(), first: render(1)?, more: more?.into() })
    }

    /// A code that is cut up, or runs into other digits, is none that anybody could type in.
    fn holds_code(&self, text: &str) -> bool {
        let pieces: Vec<&str> = text.split(&self.stand_in).collect();
        let is_apart = |pair: &[&str]| {
            let [before, after] = pair else { return false };
            !before.ends_with(char::is_numeric) && !after.starts_with(char::is_numeric)
        };
        let is_between = |piece: &&str| !piece.is_empty() && !piece.contains(STAND_IN);
        match pieces.as_slice() {
            [] | [_] => false,
            [first, between @ .., last] => {
                between.iter().all(is_between)
                    && !first.contains(STAND_IN)
                    && !last.contains(STAND_IN)
                    && pieces.windows(2).all(is_apart)
            }
        }
    }

    /// What is sent, from what the template made.
    fn text(&self, body: &str) -> Result<Text, Wrong> {
        let mut text = body.trim().replace("\r\n", "\n");
        if !self.holds_code(&text) {
            return Err(Wrong::Code);
        }
        if let Some(domain) = &self.rules.webotp_domain {
            text.push_str(&format!("\n\n@{domain} #{}", self.stand_in));
        }
        if let Some(control) = text.chars().find(|letter| letter.is_control() && *letter != '\n') {
            return Err(Wrong::Control(control.into()));
        }
        // Digits are one unit each in every alphabet.
        let sent = text.replace(STAND_IN, "0");
        let segments = segments::count(&sent);
        match u8::try_from(segments) {
            Ok(segments) if segments <= self.rules.segments_max => Ok(Text { text: text.into(), segments }),
            Ok(_) | Err(_) => Err(Wrong::Long {
                segments,
                segments_max: self.rules.segments_max,
                beyond: segments::first_beyond_gsm7(&sent),
            }),
        }
    }
}

fn told(error: &minijinja::Error) -> Wrong {
    let line = error.line().unwrap_or(1);
    let kind = error.kind();
    let what = match (kind, error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too long".to_owned(),
        (_, Some(detail)) => format!("{kind}: {}", detail.replace(STAND_IN, "0")),
        (_, None) => kind.to_string(),
    };
    Wrong::Syntax { line, what: what.into() }
}

#[cfg(test)]
mod tests;
