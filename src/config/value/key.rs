//! What a limit counts by, as it is written: `ip`, `header.x-api-key`, `body.user.email`.

use http::HeaderName;
use serde_json::{Value as Json, json};

use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::Scalar;
use crate::config::section::{nearest, words};
use crate::decision::key::{FieldPath, Form, KeyPart, Missing};
use crate::decision::limit::Mode;

words! { Form, "a way to read a value", {
    Form::Text => "text",
    Form::Exact => "exact",
    Form::Email => "email",
    Form::Phone => "phone",
} }

words! { Missing, "a way to go on without the value", {
    Missing::Ip => "ip",
    Missing::Skip => "skip",
    Missing::Reject => "reject",
} }

words! { Mode, "a mode", {
    Mode::Enforce => "enforce",
    Mode::Shadow => "shadow",
} }

const ALONE: [&str; 5] = ["ip", "network", "user", "global", "client_cert"];
const PREFIXES: [(&str, &str); 5] = [
    ("header", "header.x-api-key"),
    ("cookie", "cookie.session"),
    ("query", "query.token"),
    ("path", "path.id"),
    ("body", "body.email"),
];

impl Scalar for KeyPart {
    const EXPECTED: &'static str = "a key such as ip, network, user, global, client_cert, header.NAME, cookie.NAME, query.NAME, path.NAME or body.FIELD";

    fn parse(text: &str) -> Result<KeyPart, Wrong> {
        match text {
            "ip" => return Ok(KeyPart::Ip),
            "network" => return Ok(KeyPart::Network),
            "user" => return Ok(KeyPart::User),
            "global" => return Ok(KeyPart::Global),
            "phone" => return Ok(KeyPart::Phone),
            "client_cert" => return Ok(KeyPart::ClientCert),
            _ => {}
        }
        let Some((kind, name)) = text.split_once('.') else { return Err(unknown(text, text)) };
        if name.len() > NAME_BYTES_MAX {
            return Err(Wrong::new(format!("the name after `{}.` is too long", shortened(kind))));
        }
        match kind {
            "header" => header(name),
            "cookie" => cookie(name),
            "query" => plain(name, "query").map(KeyPart::Query),
            "path" => plain(name, "path").map(KeyPart::Path),
            "body" => body(name),
            _ => Err(unknown(text, kind)),
        }
    }

    fn own_schema() -> Json {
        json!({
            "type": "string",
            "pattern": "^(ip|network|user|global|phone|client_cert|(header|cookie|query|path|body)\\..+)$",
            "examples": ["ip", "network", "user", "global", "phone", "client_cert", "header.x-api-key", "cookie.session", "query.token", "path.id", "body.email"],
        })
    }
}

const NAME_BYTES_MAX: usize = 128;

fn header(name: &str) -> Result<KeyPart, Wrong> {
    let wrong = || Wrong::new(format!("`{}` is not a name of a header", shortened(name)));
    HeaderName::from_bytes(name.as_bytes())
        .map(KeyPart::Header)
        .map_err(|_| wrong().write("write header.x-api-key"))
}

/// RFC 6265 §4.1.1: a cookie's name is a token, as a header's is; its case counts.
fn cookie(name: &str) -> Result<KeyPart, Wrong> {
    let wrong = || Wrong::new(format!("`{}` is not a name of a cookie", shortened(name)));
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(KeyPart::Cookie(name.into())),
        Err(_) => Err(wrong().write("write cookie.session")),
    }
}

fn plain(name: &str, kind: &str) -> Result<Box<str>, Wrong> {
    if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(
            Wrong::new(format!("`{kind}.` is not followed by a name")).write(format!("write {kind}.name"))
        );
    }
    Ok(name.into())
}

fn body(name: &str) -> Result<KeyPart, Wrong> {
    FieldPath::parse(name).map(KeyPart::Body).ok_or_else(|| {
        Wrong::new(format!("`{}` is not a field of a body", shortened(name)))
            .write("write body.email, or body.user.email for nested JSON, at most eight deep")
    })
}

fn unknown(text: &str, kind: &str) -> Wrong {
    let wrong = Wrong::new(format!("`{}` is not something to count by", shortened(text)));
    let prefix =
        |kind: &str| PREFIXES.iter().find(|(prefix, _)| *prefix == kind).map(|(_, example)| *example);
    if let Some(example) = prefix(text) {
        return wrong.write(format!("say which, as in `{example}`"));
    }
    let names = ALONE.into_iter().chain(PREFIXES.iter().map(|(prefix, _)| *prefix));
    match nearest(kind, names) {
        Some(near) => wrong.write(format!("did you mean `{}`?", prefix(near).unwrap_or(near))),
        None => wrong
            .write("write ip, user, global, header.NAME, cookie.NAME, query.NAME, path.NAME or body.FIELD"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_of_key_as_it_prints_it() {
        for text in [
            "ip",
            "user",
            "global",
            "phone",
            "header.x-api-key",
            "cookie.SID",
            "query.q",
            "path.id",
            "body.email",
            "body.user.email",
        ] {
            assert_eq!(KeyPart::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn says_what_was_probably_meant() {
        let fix = |text| KeyPart::parse(text).unwrap_err().fix.unwrap_or_default();
        assert_eq!(fix("body"), "say which, as in `body.email`");
        assert_eq!(fix("usr"), "did you mean `user`?");
        assert_eq!(fix("headr.x-api-key"), "did you mean `header.x-api-key`?");
        assert_eq!(
            fix("country"),
            "write ip, user, global, header.NAME, cookie.NAME, query.NAME, path.NAME or body.FIELD"
        );
        for text in ["", "header.", "header.a b", "cookie.a=b", "query.", "body.", "body.a..b", "ip.x"] {
            assert!(KeyPart::parse(text).is_err(), "{text}");
        }
        assert!(KeyPart::parse(&format!("query.{}", "x".repeat(129))).is_err());
    }
}
