//! What a route rejects, as it is written: a field, lists of domains or values, a pattern.

use std::fmt;

use http::StatusCode;
use serde_json::{Value as Json, json};

use super::list::{Element, text_lists, text_lists_schema};
use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, Notation, Reader, Scalar, Value};
use crate::config::tree::Node;
use crate::decision::key::{FieldPath, Form, KeyPart};
use crate::decision::reject::{Domain, Pattern, TextLists};
use crate::decision::value::normalise;

/// A field of the body, as keys name it.
#[derive(Clone, Debug)]
pub(crate) struct BodyField(pub(crate) FieldPath);

impl fmt::Display for BodyField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "body.{}", self.0.as_str())
    }
}

impl Scalar for BodyField {
    const EXPECTED: &'static str = "a field of the body such as body.email";

    fn parse(text: &str) -> Result<BodyField, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), BodyField::EXPECTED));
        match KeyPart::parse(text) {
            Ok(KeyPart::Body(field)) => Ok(BodyField(field)),
            Ok(
                KeyPart::Ip
                | KeyPart::Network
                | KeyPart::User
                | KeyPart::Global
                | KeyPart::ClientCert
                | KeyPart::Header(_)
                | KeyPart::Cookie(_)
                | KeyPart::Query(_)
                | KeyPart::Path(_)
                | KeyPart::Phone,
            ) => Err(wrong().write("rules look at the body alone: write body.NAME")),
            Err(told) if text.starts_with("body") => Err(told),
            Err(_) => Err(wrong().write(format!("write body.{}", shortened(text)))),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^body\\..+$", "examples": ["body.email", "body.user.email"] })
    }
}

/// The status of a rejected request: the mistake is the client's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RejectStatus(pub(crate) StatusCode);

impl Scalar for RejectStatus {
    const EXPECTED: &'static str = "a status that blames the request, from 400 to 499";
    const NOTATION: Notation = Notation::Bare;

    fn parse(text: &str) -> Result<RejectStatus, Wrong> {
        let code = text.parse::<u16>().ok().filter(|code| (400..500).contains(code));
        code.and_then(|code| StatusCode::from_u16(code).ok()).map(RejectStatus).ok_or_else(|| {
            Wrong::new(format!("`{}` is not {}", shortened(text), RejectStatus::EXPECTED))
                .write("write 422, or 400 or 403")
        })
    }

    fn own_schema() -> Json {
        json!({ "type": "integer", "minimum": 400, "maximum": 499 })
    }
}

/// A domain that stands for itself and all below it.
#[derive(Clone, Debug)]
pub(crate) struct ListedDomain(Domain);

impl AsRef<str> for ListedDomain {
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}

impl Element for ListedDomain {
    const FILE: &'static str = "file:lists/domains.txt";
}

impl Scalar for ListedDomain {
    const EXPECTED: &'static str = "a domain such as example.com";

    fn parse(text: &str) -> Result<ListedDomain, Wrong> {
        if let Some(domain) = Domain::parse(text) {
            return Ok(ListedDomain(domain));
        }
        let wrong = Wrong::new(format!("`{}` is not {}", shortened(text), ListedDomain::EXPECTED));
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let bare = below.or_else(|| text.rsplit_once('@').map(|(_, domain)| domain));
        match bare.filter(|bare| Domain::parse(bare).is_some()) {
            Some(bare) if below.is_some() => {
                Err(wrong.write(format!("write {}: all below it is meant as well", shortened(bare))))
            }
            Some(bare) => Err(wrong.write(format!("write {}", shortened(bare)))),
            None => Err(wrong),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1, "examples": ["example.com", "file:lists/domains.txt"] })
    }
}

/// A value as it is compared: [`Form::Text`].
#[derive(Clone, Debug)]
pub(crate) struct ListedValue(Box<str>);

impl AsRef<str> for ListedValue {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Element for ListedValue {
    const FILE: &'static str = "file:lists/values.txt";
}

impl Scalar for ListedValue {
    const EXPECTED: &'static str = "a value such as admin";

    fn parse(text: &str) -> Result<ListedValue, Wrong> {
        match normalise(Form::Text, text) {
            Ok(Some(value)) => Ok(ListedValue(value.into())),
            Ok(None) => Err(Wrong::new("the value is empty").write("an empty value is as if it was missing")),
            Err(fault) => Err(Wrong::new(format!("`{}` matches no value: {fault}", shortened(text)))),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1, "examples": ["admin", "file:lists/values.txt"] })
    }
}

/// Domains, one or many, inline or from files.
#[derive(Clone, Debug)]
pub(crate) struct Domains(pub(crate) TextLists);

impl Value for Domains {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Domains> {
        text_lists::<ListedDomain>(node, reader).map(Domains)
    }

    fn schema(definitions: &mut Definitions) -> Json {
        text_lists_schema::<ListedDomain>(definitions)
    }
}

/// Values, one or many, inline or from files.
#[derive(Clone, Debug)]
pub(crate) struct Values(pub(crate) TextLists);

impl Value for Values {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Values> {
        text_lists::<ListedValue>(node, reader).map(Values)
    }

    fn schema(definitions: &mut Definitions) -> Json {
        text_lists_schema::<ListedValue>(definitions)
    }
}

impl Scalar for Pattern {
    const EXPECTED: &'static str = "a regular expression such as ^test";

    fn parse(text: &str) -> Result<Pattern, Wrong> {
        if text.is_empty() {
            return Err(Wrong::new("the pattern is empty").write("it would match every value"));
        }
        let wrong = |fault| Wrong::new(format!("`{}` is not a pattern: {fault}", shortened(text)));
        Pattern::parse(text).map_err(wrong)
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": Pattern::LEN_MAX, "examples": ["^test"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T: Scalar>(text: &str) -> String {
        let wrong = T::parse(text).err().unwrap();
        wrong.fix.unwrap_or(wrong.what)
    }

    #[test]
    fn says_what_to_write_instead() {
        assert_eq!(told::<ListedDomain>("*.example.com"), "write example.com: all below it is meant as well");
        assert_eq!(told::<ListedDomain>(".example.com"), "write example.com: all below it is meant as well");
        assert_eq!(told::<ListedDomain>("@example.com"), "write example.com");
        assert_eq!(told::<ListedDomain>("ann@example.com"), "write example.com");
        assert_eq!(told::<ListedDomain>("a b"), "`a b` is not a domain such as example.com");
        assert_eq!(told::<BodyField>("email"), "write body.email");
        assert_eq!(told::<BodyField>("ip"), "rules look at the body alone: write body.NAME");
        assert_eq!(told::<BodyField>("body"), "say which, as in `body.email`");
        assert_eq!(told::<RejectStatus>("500"), "write 422, or 400 or 403");
        assert_eq!(told::<Pattern>("(a"), "`(a` is not a pattern: unclosed group");
    }

    #[test]
    fn a_listed_value_is_kept_as_it_is_compared() {
        assert_eq!(ListedValue::parse(" ＡＤＭＩＮ ").unwrap().as_ref(), "admin");
        assert_eq!(ListedDomain::parse("Bücher.Example.").unwrap().as_ref(), "xn--bcher-kva.example");
    }
}
