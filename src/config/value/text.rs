//! Words, names, numbers, truth values and secrets.

use std::fmt;

use secrecy::SecretString;
use serde_json::{Value as Json, json};

use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::{Notation, Privacy, Scalar};

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";
    const NOTATION: Notation = Notation::Bare;

    fn parse(text: &str) -> Result<bool, Wrong> {
        match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            _ => {
                let wrong = Wrong::new(format!("`{}` is not true or false", shortened(text)));
                Err(match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "1" => wrong.write("write true"),
                    "no" | "off" | "n" | "0" => wrong.write("write false"),
                    _ => wrong.write("write true or false"),
                })
            }
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "boolean" })
    }
}

/// A whole number between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u32, const MAX: u32>(pub(crate) u32);

impl<const MIN: u32, const MAX: u32> Scalar for Whole<MIN, MAX> {
    const EXPECTED: &'static str = "a whole number";
    const NOTATION: Notation = Notation::Bare;

    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let range = || match MIN == MAX {
            true => format!("write {MIN}"),
            false => format!("write a number from {MIN} to {MAX}"),
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            let negative =
                text.strip_prefix('-').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
            let what = if negative { "is out of range" } else { "is not a whole number" };
            return Err(Wrong::new(format!("`{}` {what}", shortened(text))).write(range()));
        }
        match text.parse::<u32>() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Whole(number)),
            Ok(_) | Err(_) => {
                Err(Wrong::new(format!("`{}` is out of range", shortened(text))).write(range()))
            }
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A number that need not be whole, from 1 to 100, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    pub(crate) percent: u32,
}

impl Scalar for Factor {
    const EXPECTED: &'static str = "a factor from 1 to 100, such as 2 or 1.5";
    const NOTATION: Notation = Notation::Bare;

    fn parse(text: &str) -> Result<Factor, Wrong> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let percent = (digits(whole) && digits(part) && part.len() <= 2)
            .then(|| {
                let whole: u32 = whole.parse().ok()?;
                let part: u32 = format!("{part:0<2}").parse().ok()?;
                whole.checked_mul(100)?.checked_add(part)
            })
            .flatten();
        match percent {
            Some(percent) if (100..=10_000).contains(&percent) => Ok(Factor { percent }),
            Some(_) | None => Err(Wrong::new(format!("`{}` is not {}", shortened(text), Factor::EXPECTED))),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "number", "minimum": 1, "maximum": 100 })
    }
}

/// A text of bounded length without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Box<str>);

impl Scalar for Text {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Result<Text, Wrong> {
        const BYTES_MAX: usize = 1024;
        if text.is_empty() {
            return Err(Wrong::new("the text is empty"));
        }
        if text.len() > BYTES_MAX {
            return Err(Wrong::new(format!("the text is longer than {BYTES_MAX} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(Wrong::new("the text has control characters in it"));
        }
        Ok(Text(text.into()))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": 1024 })
    }
}

/// A path of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) Box<str>);

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for FilePath {
    const EXPECTED: &'static str = "a path of a file";

    fn parse(text: &str) -> Result<FilePath, Wrong> {
        let Text(path) = Text::parse(text).map_err(|_| Wrong::new("this is not a path of a file"))?;
        Ok(FilePath(path))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A path of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FolderPath(pub(crate) Box<str>);

impl Scalar for FolderPath {
    const EXPECTED: &'static str = "a path of a folder";

    fn parse(text: &str) -> Result<FolderPath, Wrong> {
        let Text(path) = Text::parse(text)
            .map_err(|_| Wrong::new("this is not a path of a folder").write("write one such as ./data"))?;
        Ok(FolderPath(path))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": 1024 })
    }
}

/// A name the operator chooses: it shows in headers, metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) Box<str>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Name {
    const EXPECTED: &'static str = "a name of letters, digits, `-`, `_` and `.`";

    fn parse(text: &str) -> Result<Name, Wrong> {
        const BYTES_MAX: usize = 64;
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > BYTES_MAX || !text.bytes().all(sound) {
            let wrong = Wrong::new(format!("`{}` is not {}", shortened(text), Name::EXPECTED));
            return Err(wrong.write(format!("use at most {BYTES_MAX} of them")));
        }
        Ok(Name(text.into()))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" })
    }
}

/// Something that no log, message or metric ever shows.
#[derive(Clone, Debug)]
pub(crate) struct Secret(pub(crate) SecretString);

impl Scalar for Secret {
    const EXPECTED: &'static str = "a secret text";
    const PRIVACY: Privacy = Privacy::Secret;

    fn parse(text: &str) -> Result<Secret, Wrong> {
        const BYTES_MAX: usize = 64 * 1024;
        if text.len() > BYTES_MAX {
            return Err(Wrong::new("the secret is longer than 64 KiB"));
        }
        Ok(Secret(SecretString::from(text.to_owned())))
    }

    fn own_schema() -> Json {
        json!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_bounds() {
        type Small = Whole<1, 100>;
        assert_eq!(Small::parse("1"), Ok(Whole(1)));
        assert_eq!(Small::parse("100"), Ok(Whole(100)));
        for text in ["0", "101", "-1", "1.5", "abc", "", "99999999999999999999", "1_0", "+5"] {
            assert!(Small::parse(text).is_err(), "{text}");
        }
        assert_eq!(Small::parse("101").unwrap_err().fix.as_deref(), Some("write a number from 1 to 100"));
    }

    #[test]
    fn factors_are_read_to_the_hundredth() {
        for (text, percent) in [("1", 100), ("2", 200), ("1.5", 150), ("1.25", 125), ("100", 10_000)] {
            assert_eq!(Factor::parse(text), Ok(Factor { percent }), "{text}");
        }
        for text in ["0", "0.99", "100.01", "1.234", "x", "1.", ".5", "-2", "1e2", "99999999999"] {
            assert!(Factor::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn truth_has_two_words() {
        assert_eq!(bool::parse("true"), Ok(true));
        assert_eq!(bool::parse("yes").unwrap_err().fix.as_deref(), Some("write true"));
        assert_eq!(bool::parse("off").unwrap_err().fix.as_deref(), Some("write false"));
        assert!(bool::parse("").is_err());
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(Name::parse("request-otp_2.b").is_ok());
        for text in ["", "a b", "ü", "a/b", &"x".repeat(65)] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_never_shows_itself() {
        assert!(!format!("{:?}", Secret::parse("hunter2").unwrap()).contains("hunter2"));
    }
}
