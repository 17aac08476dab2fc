//! Our scripts as they go over HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::remote::call::Script;

/// Reads the arguments, and brings the library that may be absent.
const PRELUDE: &str = include_str!("prelude.lua");

/// A script with the prelude before it, as the beginning of a command in JSON: an array that is not
/// closed yet.
#[derive(Debug)]
pub(super) struct Ported {
    /// Names the script by its SHA-1.
    pub(super) named: String,
    /// Carries the source. The server knows the name from then on.
    pub(super) whole: String,
}

impl Ported {
    fn new(script: &Script) -> Ported {
        let Script { source, sha1 } = Script::new(&format!("{PRELUDE}{}", script.source));
        let quoted = serde_json::Value::from(source);
        Ported { named: format!(r#"["EVALSHA","{sha1}""#), whole: format!(r#"["EVAL",{quoted}"#) }
    }
}

/// The scripts met so far: as many as there are in the code.
#[derive(Debug, Default)]
pub(super) struct Scripts(Mutex<HashMap<String, Arc<Ported>>>);

impl Scripts {
    pub(super) fn port(&self, script: &Script) -> Arc<Ported> {
        let mut known = self.0.lock();
        if let Some(ported) = known.get(&script.sha1) {
            return Arc::clone(ported);
        }
        let ported = Arc::new(Ported::new(script));
        known.insert(script.sha1.clone(), Arc::clone(&ported));
        ported
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests;
