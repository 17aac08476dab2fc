//! The JSON of `POST /pipeline`: an array of commands there, an array of `{"result": …}` or
//! `{"error": "…"}` back, in the same order. <https://upstash.com/docs/redis/features/restapi>

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;

use super::super::remote::StoreError;
use super::super::remote::call::{Bundle, Piece};
use super::script::{Ported, hex};

/// One command of a pipeline.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// A whole command in JSON.
    Plain(Arc<str>),
    /// A run of a script. `operands` is what follows the script, up to the closing bracket.
    Script { script: Arc<Ported>, operands: Arc<str>, by: By },
}

/// How a run names its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Name,
    /// With its source, unless a command before it in the same pipeline brings that already.
    SourceOnce,
    Source,
}

impl Command {
    /// How many bytes it takes, a source that others may bring left out.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Command::Plain(json) => json.len(),
            Command::Script { script, operands, by: By::Name | By::SourceOnce } => {
                script.named.len() + operands.len()
            }
            Command::Script { script, operands, by: By::Source } => script.whole.len() + operands.len(),
        }
    }
}

/// What follows the script in a command: the number of keys, the keys, the arguments.
pub(super) fn operands(bundle: &Bundle<'_>) -> Arc<str> {
    let mut json = format!(r#","{}""#, bundle.keys.len());
    for key in &bundle.keys {
        json.push(',');
        json.push_str(&Value::from(*key).to_string());
    }
    for arg in &bundle.args {
        json.push_str(",\"");
        json.push_str(&hex(arg));
        json.push('"');
    }
    json.push(']');
    json.into()
}

/// The body of a call.
pub(super) fn body<'c>(commands: impl Iterator<Item = &'c Command>) -> String {
    let mut brought: HashSet<&str> = HashSet::new();
    let mut json = String::from("[");
    for (at, command) in commands.enumerate() {
        if at > 0 {
            json.push(',');
        }
        match command {
            Command::Plain(whole) => json.push_str(whole),
            Command::Script { script, operands, by } => {
                let by_source = match by {
                    By::Name => false,
                    // A pipeline is worked off in order.
                    By::SourceOnce => brought.insert(&script.named),
                    By::Source => true,
                };
                json.push_str(if by_source { &script.whole } else { &script.named });
                json.push_str(operands);
            }
        }
    }
    json.push(']');
    json
}

/// What one command was answered. An error has a text as Redis words it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Reply {
    #[serde(default)]
    pub(super) result: Value,
    #[serde(default)]
    pub(super) error: Option<Box<str>>,
}

/// The answers to a call of so many commands.
pub(super) fn replies(body: &[u8], commands: usize) -> Result<Vec<Reply>, StoreError> {
    let replies: Vec<Reply> = serde_json::from_slice(body)
        .map_err(|_| StoreError::Garbage("not what a pipeline answers".into()))?;
    if replies.len() == commands {
        return Ok(replies);
    }
    Err(StoreError::Garbage(format!("{} answers to {commands} commands", replies.len()).into()))
}

/// What a script returned.
pub(super) fn pieces(result: Value) -> Result<Vec<Piece>, StoreError> {
    match result {
        Value::Array(values) => values.into_iter().map(piece).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Err(StoreError::Garbage("a script answered no array".into()))
        }
    }
}

fn piece(value: Value) -> Result<Piece, StoreError> {
    let garbage = |what: &str| StoreError::Garbage(what.into());
    match value {
        Value::Null => Ok(Piece::Nil),
        Value::Number(number) => number.as_i64().map(Piece::Int).ok_or_else(|| garbage("not a whole number")),
        // The one text that the server leaves as it is.
        Value::String(text) if text == OK => Ok(Piece::Bytes(text.into_bytes())),
        Value::String(text) => {
            BASE64.decode(&text).map(Piece::Bytes).map_err(|_| garbage("a text is not base64"))
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(garbage("a script answered a nested value"))
        }
    }
}

pub(super) const OK: &str = "OK";

#[cfg(test)]
mod tests;
