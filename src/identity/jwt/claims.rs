//! The claims of a token that decide anything: who, until when, from when.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, MapAccess, Visitor};

use super::{LEEWAY, UserId};
use crate::decision::time::Timestamp;

pub(super) struct Claims {
    pub(super) user: UserId,
    /// NumericDate (RFC 7519 §2): seconds since the epoch, with or without a fraction.
    exp: f64,
    nbf: Option<f64>,
}

impl Claims {
    /// Whether the token is in force: not expired, begun, each within the leeway.
    pub(super) fn hold_at(&self, now: Timestamp) -> bool {
        let now_s = now.as_micros() as f64 / 1e6;
        let leeway_s = LEEWAY.as_millis() as f64 / 1e3;
        now_s < self.exp + leeway_s && self.nbf.is_none_or(|nbf| nbf <= now_s + leeway_s)
    }
}

/// `None` unless the JSON is one object with an `exp` and the user in `claim`, each of these once:
/// of two the backend may read the other one.
pub(super) fn parse(json: &[u8], claim: &str) -> Option<Claims> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let claims = deserializer.deserialize_map(ClaimsVisitor { claim }).ok()?;
    deserializer.end().ok()?;
    Some(claims)
}

struct ClaimsVisitor<'a> {
    claim: &'a str,
}

impl<'de> Visitor<'de> for ClaimsVisitor<'_> {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims of a token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let (mut user, mut exp, mut nbf) = (None, None, None);
        while let Some(name) = map.next_key::<String>()? {
            if name == self.claim {
                set_once(&mut user, map.next_value::<Subject>()?.0)?;
            } else if name == "exp" {
                set_once(&mut exp, map.next_value::<f64>()?)?;
            } else if name == "nbf" {
                set_once(&mut nbf, map.next_value::<f64>()?)?;
            } else {
                map.next_value::<de::IgnoredAny>()?;
            }
        }
        Ok(Claims {
            user: user.ok_or_else(|| de::Error::missing_field("user"))?,
            exp: exp.ok_or_else(|| de::Error::missing_field("exp"))?,
            nbf,
        })
    }
}

fn set_once<T, E: de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field("claim")),
    }
}

/// A non-empty string, or an integer, which counts as its decimal digits.
struct Subject(UserId);

impl<'de> de::Deserialize<'de> for Subject {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Subject, D::Error> {
        deserializer.deserialize_any(SubjectVisitor)
    }
}

struct SubjectVisitor;

impl Visitor<'_> for SubjectVisitor {
    type Value = Subject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a non-empty string or an integer")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Subject, E> {
        if text.is_empty() {
            return Err(E::invalid_length(0, &self));
        }
        Ok(Subject(UserId::new(text.as_bytes())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Subject, E> {
        Ok(Subject(UserId::new(number.to_string().as_bytes())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Subject, E> {
        Ok(Subject(UserId::new(number.to_string().as_bytes())))
    }
}
