//! What a configuration may take from outside: environment variables, or stand-ins for them.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// The variables that `${NAME}` reads.
#[derive(Clone, Default)]
pub struct Environment {
    set: BTreeMap<String, SecretString>,
    beneath: Beneath,
}

#[derive(Clone, Copy, Default)]
enum Beneath {
    #[default]
    Nothing,
    Process,
}

/// Why a variable cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Unset,
    NotUnicode,
}

impl Environment {
    /// No variable at all.
    pub fn empty() -> Environment {
        Environment::default()
    }

    /// The variables of this process, read anew whenever a configuration is.
    pub fn process() -> Environment {
        Environment { set: BTreeMap::new(), beneath: Beneath::Process }
    }

    /// The same with one more variable, which wins over one of the process.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Environment {
        self.set.insert(name.to_owned(), SecretString::from(value.into()));
        self
    }

    pub(crate) fn read(&self, name: &str) -> Result<SecretString, Unreadable> {
        if let Some(value) = self.set.get(name) {
            return Ok(SecretString::from(value.expose_secret().to_owned()));
        }
        match self.beneath {
            Beneath::Nothing => Err(Unreadable::Unset),
            Beneath::Process => std::env::var(name).map(SecretString::from).map_err(|error| match error {
                std::env::VarError::NotPresent => Unreadable::Unset,
                std::env::VarError::NotUnicode(_) => Unreadable::NotUnicode,
            }),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.set.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_by_hand_wins_and_is_never_shown() {
        let environment = Environment::process().with("PATH", "hunter2");
        assert_eq!(environment.read("PATH").unwrap().expose_secret(), "hunter2");
        assert_eq!(format!("{environment:?}"), r#"{"PATH"}"#);
    }

    #[test]
    fn the_empty_environment_does_not_read_the_process() {
        assert_eq!(Environment::empty().read("PATH").unwrap_err(), Unreadable::Unset);
        assert!(Environment::process().read("PATH").is_ok());
    }
}
