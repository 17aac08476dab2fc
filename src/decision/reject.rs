//! Values that a route takes from nobody: judged by the body alone, before anything is charged.

mod domain;
mod lists;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use regex::{Regex, RegexBuilder};
use thiserror::Error;

use super::body::Fields;
use super::key::{FieldPath, Form, KeyPart};
use super::plan::PlanFault;
use super::refusal::Refusal;
use super::value::normalise;

pub use self::domain::Domain;
pub use self::lists::{ListFull, TextList, TextLists};

/// Refuses requests by one field of their body. It does not apply to a request without the field.
#[derive(Clone, Debug)]
pub struct RejectRule {
    pub field: FieldPath,
    pub condition: Condition,
    pub status: StatusCode,
    /// One sentence for the client.
    pub detail: Arc<str>,
}

/// What a value is refused for.
#[derive(Clone, Debug)]
pub enum Condition {
    /// The domain of an e-mail address is one of these [`Domain`]s or below one.
    DomainIn(TextLists),
    /// The value, normalised as [`Form::Text`], is one of these, which are so too.
    ValueIn(TextLists),
    /// The pattern is found in the value, as it was sent or as [`Form::Text`].
    Matches(Pattern),
}

/// A regular expression that takes time linear in the value, whatever both are. Letter case does not count.
#[derive(Clone)]
pub struct Pattern(Regex);

/// Why a pattern cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternFault {
    #[error("it is longer than {} bytes", Pattern::LEN_MAX)]
    TooLong,
    #[error("it takes more than {} KiB: make repetitions smaller", Pattern::SIZE_MAX / 1024)]
    TooLarge,
    #[error("{0}")]
    Syntax(Box<str>),
}

/// Whether the first rule that applies refuses the request.
///
/// # Errors
/// [`Refusal::Rejected`], or [`Refusal::Malformed`] for a value that cannot be normalised.
pub fn judge(rules: &[RejectRule], fields: &Fields) -> Result<(), Refusal> {
    for (index, rule) in rules.iter().enumerate() {
        let Some(value) = fields.get(&rule.field) else { continue };
        let named = |fault| {
            let name = KeyPart::Body(rule.field.clone()).to_string().into();
            PlanFault::Value { name, fault }
        };
        let Some(text) = normalise(Form::Text, value).map_err(named)? else { continue };
        if rule.condition.is_met(value, &text) {
            let (status, detail) = (rule.status, Arc::clone(&rule.detail));
            return Err(Refusal::Rejected { status, detail, rule: index });
        }
    }
    Ok(())
}

impl Condition {
    /// `value` as it was sent, and as text.
    fn is_met(&self, value: &str, text: &str) -> bool {
        match self {
            Condition::DomainIn(domains) => domain::is_listed(domains, value, text),
            Condition::ValueIn(values) => values.contains(text),
            Condition::Matches(pattern) => pattern.is_in(text) || (value != text && pattern.is_in(value)),
        }
    }
}

impl Pattern {
    /// The longest pattern, bytes.
    pub const LEN_MAX: usize = 1024;
    /// What a compiled pattern may take, bytes: with the bound of a value it is what one search may cost.
    const SIZE_MAX: usize = 256 * 1024;
    const NEST_MAX: u32 = 32;

    pub fn parse(text: &str) -> Result<Pattern, PatternFault> {
        if text.len() > Pattern::LEN_MAX {
            return Err(PatternFault::TooLong);
        }
        let mut builder = RegexBuilder::new(text);
        builder.case_insensitive(true).size_limit(Pattern::SIZE_MAX).nest_limit(Pattern::NEST_MAX);
        builder.build().map(Pattern).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternFault::TooLarge,
            // The text of a syntax error is drawn over several lines; the last one says what it is.
            other => {
                let told = other.to_string();
                let last = told.lines().last().unwrap_or_default();
                PatternFault::Syntax(last.strip_prefix("error: ").unwrap_or(last).into())
            }
        })
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests;
