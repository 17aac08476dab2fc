//! Which answers of a backend are a failed attempt.

use http::StatusCode;

use super::tally::Outcome;

/// What a route takes for a failure: the status, and values in the answer's JSON if any are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRule {
    pub statuses: Statuses,
    /// All of them must be there.
    pub members: Box<[Member]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statuses {
    Any,
    Only(Box<[StatusCode]>),
}

/// A value that a JSON document has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where: a JSON Pointer (RFC 6901).
    pub pointer: Box<str>,
    pub value: Scalar,
}

/// A JSON value without parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    Null,
    Bool(bool),
    /// As JSON writes it.
    Number(Box<str>),
    Text(Box<str>),
}

/// What the head of an answer says of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByHead {
    Told(Outcome),
    /// A failure if the body holds the members, and otherwise this.
    InTheBody {
        otherwise: Outcome,
    },
}

/// What the body of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySays {
    Holds,
    HoldsNot,
    /// It was too long to be looked at, or compressed.
    Unreadable,
}

impl FailureRule {
    /// 401 and 403: what backends say to a wrong password unless somebody knows better.
    pub fn usual() -> FailureRule {
        let statuses = Statuses::Only(Box::new([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]));
        FailureRule { statuses, members: Box::default() }
    }

    /// The outcome, as far as the status tells it. A success is what is neither a failure nor an error:
    /// a 404 or 500 says nothing about a password.
    pub fn by_head(&self, status: StatusCode) -> ByHead {
        let fits = match &self.statuses {
            Statuses::Any => true,
            Statuses::Only(statuses) => statuses.contains(&status),
        };
        let otherwise =
            if status.is_success() || status.is_redirection() { Outcome::Success } else { Outcome::Neither };
        match (fits, self.members.is_empty()) {
            (false, _) => ByHead::Told(otherwise),
            (true, true) => ByHead::Told(Outcome::Failure),
            (true, false) => ByHead::InTheBody { otherwise },
        }
    }

    /// The outcome of an answer whose status fits. One that cannot be read is a failure: whoever can
    /// make it unreadable must not guess for free.
    pub fn by_body(says: BodySays, otherwise: Outcome) -> Outcome {
        match says {
            BodySays::Holds | BodySays::Unreadable => Outcome::Failure,
            BodySays::HoldsNot => otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(statuses: Statuses, members: usize) -> FailureRule {
        let member = || Member { pointer: "/error".into(), value: Scalar::Bool(true) };
        FailureRule { statuses, members: (0..members).map(|_| member()).collect() }
    }

    #[test]
    fn a_status_tells_failure_success_or_neither() {
        let rule = FailureRule::usual();
        let check = |status: u16, expected: Outcome| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(rule.by_head(status), ByHead::Told(expected), "{status}");
        };
        check(401, Outcome::Failure);
        check(403, Outcome::Failure);
        check(200, Outcome::Success);
        check(204, Outcome::Success);
        check(302, Outcome::Success);
        check(400, Outcome::Neither);
        check(404, Outcome::Neither);
        check(429, Outcome::Neither);
        check(500, Outcome::Neither);
        check(503, Outcome::Neither);
    }

    #[test]
    fn a_body_decides_only_where_the_status_fits() {
        let rule = rule(Statuses::Only(Box::new([StatusCode::OK])), 1);
        let otherwise = Outcome::Success;
        assert_eq!(rule.by_head(StatusCode::OK), ByHead::InTheBody { otherwise });
        assert_eq!(rule.by_head(StatusCode::UNAUTHORIZED), ByHead::Told(Outcome::Neither));
        assert_eq!(FailureRule::by_body(BodySays::Holds, otherwise), Outcome::Failure);
        assert_eq!(FailureRule::by_body(BodySays::HoldsNot, otherwise), Outcome::Success);
        assert_eq!(FailureRule::by_body(BodySays::Unreadable, otherwise), Outcome::Failure);
    }

    #[test]
    fn any_status_fits_where_none_is_named() {
        let rule = rule(Statuses::Any, 1);
        let told = rule.by_head(StatusCode::BAD_REQUEST);
        assert_eq!(told, ByHead::InTheBody { otherwise: Outcome::Neither });
    }
}
