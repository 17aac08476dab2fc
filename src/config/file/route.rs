//! Routes and answers as they are written.

use http::Method;

use super::guard::{Failure, RouteSuspect};
use super::limit::Limit;
use crate::config::place::Located;
use crate::config::reader::OneOrMany;
use crate::config::section::{section, words};
use crate::config::value::http::{MediaType, Origin, RefusalStatus};
use crate::config::value::pattern::{Host, Path};
use crate::config::value::reject::{BodyField, Domains, RejectStatus, Values};
use crate::config::value::text::{Name, Text};
use crate::decision::answer::Template;
use crate::decision::otp::Operation;
use crate::decision::path::RiskyByte;
use crate::decision::reject::Pattern;

section! {
    /// What is answered by whom under which limits.
    Route "a route" {
        /// Its name in metrics and logs.
        required "name" name: Located<Name>;
        /// Which requests it takes.
        required "match" matching: Match;
        /// Which upstream answers.
        optional "upstream" upstream: Located<Name>;
        /// In place of an upstream: the gateway answers itself, by one-time codes. send, verify, status, receipts or jwks.
        optional "otp" otp: Located<Operation>;
        /// Policies whose limits apply, all of them.
        default("[]") "policies" policies: Vec<Located<Name>>;
        /// Limits of this route alone.
        default("[]") "limits" limits: Vec<Located<Limit>>;
        /// Values of body fields that are taken from nobody; the first rule that applies answers.
        default("[]") "reject" reject: Vec<Located<Reject>>;
        /// Which answers of the backend are a failed attempt. Unset: 401 and 403, if a limit counts failures.
        optional "failure" failure: Located<Failure>;
        /// What each request counts as in `suspicion`: otp_request or none. Unset: otp_request where codes are sent.
        optional "suspect" suspect: Located<RouteSuspect>;
        /// How a refusal looks here, where it differs from responses.limited.
        optional "limited" limited: LimitedOverride;
        /// Whether /login and /login/ are two paths.
        default("false") "strict_slash" strict_slash: bool;
        /// Whether /login and /LOGIN are two paths.
        default("false") "case_sensitive" case_sensitive: bool;
        /// Encoded characters that the path may hold; otherwise they are refused with 400.
        default("[]") "allow_encoded" allow_encoded: Vec<Located<RiskyByte>>;
        /// Whether headers pass by which a client can change method or path at the backend.
        default("false") "allow_override_headers" allow_override_headers: Located<bool>;
    }
}

section! {
    /// Which requests a route takes.
    Match "match" {
        /// A host name, or *.example.com. Unset: every host.
        optional "host" host: Located<Host>;
        /// One method or a list. Unset: every method.
        optional "method" method: Located<OneOrMany<Located<Method>>>;
        /// /exact, /with/{parameter}, or /prefix/*.
        required "path" path: Located<Path>;
    }
}

section! {
    /// A value of the body that is taken from nobody. One of domain_in, value_in and matches.
    Reject "a reject rule" {
        /// The field: body.email, or body.user.email for nested JSON. Without it the rule does not apply.
        required "field" field: Located<BodyField>;
        /// Domains of e-mail addresses, each with all below it; "file:lists/domains.txt" reads one a line.
        optional "domain_in" domain_in: Domains;
        /// Values, compared without letter case; "file:lists/values.txt" reads one a line.
        optional "value_in" value_in: Values;
        /// A regular expression that is looked for in the value, without letter case.
        optional "matches" matches: Pattern;
        /// The status of the answer.
        default("422") "status" status: RejectStatus;
        /// The sentence of the answer: {"detail": …}.
        default("This value is not accepted.") "detail" detail: Text;
    }
}

words! { RiskyByte, "an encoded character that can be allowed", {
    RiskyByte::Slash => "slash",
    RiskyByte::Backslash => "backslash",
    RiskyByte::Nul => "nul",
    RiskyByte::Semicolon => "semicolon",
} }

section! {
    /// What clients are told.
    Responses "responses" {
        /// Which limit headers answers carry.
        default("{}") "headers" headers: Headers;
        /// How a refusal looks.
        default("{}") "limited" limited: Limited;
        /// Which browsers' pages may read a refusal.
        default("{}") "cors" cors: Cors;
    }
}

section! {
    /// Which limit headers answers carry.
    Headers "responses.headers" {
        /// X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset.
        default("true") "legacy" legacy: bool;
        /// RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers).
        default("true") "ietf" ietf: bool;
        /// What X-RateLimit-Reset holds: seconds since 1970, or from now.
        default("epoch") "reset" reset: ResetForm;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetForm {
    Epoch,
    Delta,
}

words! { ResetForm, "a form of X-RateLimit-Reset", {
    ResetForm::Epoch => "epoch",
    ResetForm::Delta => "delta",
} }

section! {
    /// How a refusal looks.
    Limited "responses.limited" {
        /// Its status.
        default("429") "status" status: RefusalStatus;
        /// Its media type.
        default("application/json") "content_type" content_type: MediaType;
        /// Its body; {{ retry_after }} is the time to wait in seconds.
        default("'{\"detail\": \"Request was throttled. Expected available in {{ retry_after }} seconds.\"}'")
            "body" body: Template;
    }
}

section! {
    /// How a refusal looks on one route: what is not said here comes from responses.limited.
    LimitedOverride "limited" {
        /// Its status.
        optional "status" status: RefusalStatus;
        /// Its media type.
        optional "content_type" content_type: MediaType;
        /// Its body; {{ retry_after }} is the time to wait in seconds.
        optional "body" body: Template;
    }
}

section! {
    /// Which browsers' pages may read a refusal and its headers.
    Cors "cors" {
        /// Origins such as https://app.example.com, or "*".
        default("[]") "origins" origins: Vec<Located<Origin>>;
    }
}
