//! What clients are told.

use http::StatusCode;
use serde_json::{Value, json};

use crate::decision::otp::OtpFault;

/// An answer. It holds no destination that is not masked; a code only where the operator exposes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    /// A media type (RFC 9110 §8.3.1).
    pub content_type: &'static str,
    pub body: String,
}

const JSON: &str = "application/json";

impl Answer {
    pub(super) fn json(status: StatusCode, body: &Value) -> Answer {
        Answer { status, content_type: JSON, body: body.to_string() }
    }

    /// What a provider is told whose receipt was taken: some report again until they read this.
    pub(super) fn taken() -> Answer {
        Answer { status: StatusCode::OK, content_type: "text/plain", body: "OK".to_owned() }
    }

    /// As it is kept for the same `Idempotency-Key`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        [&self.status.as_u16().to_be_bytes()[..], self.body.as_bytes()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Answer> {
        let (status, body) = bytes.split_first_chunk::<2>()?;
        let status = StatusCode::from_u16(u16::from_be_bytes(*status)).ok()?;
        Some(Answer { status, content_type: JSON, body: std::str::from_utf8(body).ok()?.to_owned() })
    }
}

impl From<&OtpFault> for Answer {
    fn from(fault: &OtpFault) -> Answer {
        let mut body = json!({ "code": fault.code(), "detail": fault.detail() });
        if let OtpFault::WrongCode { attempts_left } = fault {
            body["attempts_left"] = Value::from(*attempts_left);
        }
        Answer::json(fault.status(), &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_answer_comes_back_as_it_was() {
        let answer = Answer::json(StatusCode::ACCEPTED, &json!({ "id": "x", "to": "+1******0123" }));
        assert!(Answer::from_bytes(&answer.to_bytes()) == Some(answer));
        assert!(Answer::from_bytes(&[]).is_none());
        assert!(Answer::from_bytes(&[0, 0, b'x']).is_none());
    }

    #[test]
    fn a_fault_tells_its_code_and_what_is_left() {
        let answer = Answer::from(&OtpFault::WrongCode { attempts_left: 2 });
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.body, r#"{"attempts_left":2,"code":"invalid_code","detail":"The code is wrong."}"#);
    }
}
