//! Who operates the gateway, and who is told what happens.

use std::net::SocketAddr;

use crate::config::place::Located;
use crate::config::reader::Optional;
use crate::config::section::{section, words};
use crate::config::value::text::{Name, Secret};

section! {
    /// The page for operators and its API, metrics and health: never on the public listener.
    Admin "admin" {
        /// An address and a port; without tokens, a loopback address.
        default("127.0.0.1:9180") "address" address: Located<SocketAddr>;
        /// Who may use the page and its API. Without any, whoever is on this machine.
        default("[]") "tokens" tokens: Vec<Located<AdminToken>>;
        /// How viewers see who is blocked; admins see it in full.
        default("masked") "identifiers" identifiers: Identifiers;
        /// Whether /metrics, /healthz and /readyz need no token.
        default("true") "metrics_public" metrics_public: bool;
        /// Whether /readyz fails while the shared store is away and a limit refuses for that.
        default("false") "ready_needs_store" ready_needs_store: Located<bool>;
    }
}

section! {
    /// Somebody who may use the admin API.
    AdminToken "a token" {
        /// Who it is: it stands in the audit trail.
        required "name" name: Located<Name>;
        /// At least 16 visible characters. Empty: nobody can use it.
        required "token" token: Located<Secret>;
        /// viewer: may look. admin: may block and unblock as well.
        required "role" role: Role;
    }
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Viewer,
    Admin,
}

words! { Role, "a role", {
    Role::Viewer => "viewer",
    Role::Admin => "admin",
} }

/// How viewers see identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifiers {
    Masked,
    Full,
}

words! { Identifiers, "a way to show identifiers", {
    Identifiers::Masked => "masked",
    Identifiers::Full => "full",
} }

section! {
    /// Who is told of blocks, suspicion and outages, by signed requests.
    Webhook "the webhook" {
        /// https://host/path, or http:// on this machine. Empty: nobody is told.
        default("''") "url" url: Located<Secret>;
        /// What each request is signed with (HMAC-SHA256): at least 16 bytes.
        optional "secret" secret: Located<Secret>;
    }
}

impl Webhook {
    /// The secret as it was given; none if it is not there or wrong.
    pub(crate) fn secret(&self) -> Option<&Located<Secret>> {
        match &self.secret {
            Optional::Given(secret) => Some(secret),
            Optional::Absent | Optional::Faulty => None,
        }
    }
}
