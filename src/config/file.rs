//! The file as it is written: one declaration a section, from which come reader, defaults and schema.

pub(crate) mod admin;
pub(crate) mod guard;
pub(crate) mod limit;
pub(crate) mod otp;
pub(crate) mod route;
pub(crate) mod server;
pub(crate) mod sms;
pub(crate) mod store;
pub(crate) mod upstream;

use serde_json::Value as Json;

use super::place::Located;
use super::reader::{Definitions, Value as _};
use super::section::section;
use super::value::text::{Name, Whole};
use admin::Admin;
use guard::Suspicion;
use limit::Limit;
use otp::Otp;
use route::{Responses, Route};
use server::{Access, ClientIp, Events, Listener, Server, User};
use sms::{Email, Sms};
use store::Store;
use upstream::Upstream;

use super::reader::{Named, NonEmpty};

section! {
    /// The configuration of Tollgate.
    File "the configuration" {
        /// The version of this format: 1.
        required "version" version: Whole<1, 1>;
        /// Where clients connect to.
        required "listen" listen: NonEmpty<Listener>;
        /// The page for operators and its API, metrics and health: never on the public listener.
        default("{}") "admin" admin: Admin;
        /// How the client behind other proxies is told.
        default("{}") "client_ip" client_ip: ClientIp;
        /// Who `key: user` is; without a verified identity it counts by address.
        optional "user" user: Located<User>;
        /// Where the counters live.
        default("{}") "store" store: Store;
        /// The servers to proxy to, by name.
        required "upstreams" upstreams: Named<Name, Upstream>;
        /// Who is never limited, and who is always refused.
        default("{}") "access" access: Access;
        /// Named lists of limits, for routes to share.
        default("{}") "policies" policies: Named<Name, Vec<Located<Limit>>>;
        /// What is proxied where under which limits. The most specific match wins, whatever the order.
        required "routes" routes: NonEmpty<Located<Route>>;
        /// What adds up against a client over all routes, until it is blocked.
        default("[]") "suspicion" suspicion: Vec<Located<Suspicion>>;
        /// What clients are told.
        default("{}") "responses" responses: Responses;
        /// One-time codes: what the routes with `otp` share.
        default("{}") "otp" otp: Otp;
        /// Who sends text messages, calls and WhatsApp messages.
        default("{}") "sms" sms: Sms;
        /// Who sends e-mail: the second channel of one-time codes.
        default("{}") "email" email: Email;
        /// What is written to standard output, and how long it is kept.
        default("{}") "events" events: Events;
        /// The process itself.
        default("{}") "server" server: Server;
    }
}

/// The JSON Schema of the whole file (draft 2020-12).
pub(crate) fn schema() -> Json {
    let mut definitions = Definitions::default();
    let root = File::schema(&mut definitions);
    let mut schema = serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gateway.yaml of Tollgate",
    });
    let variable = serde_json::json!({
        "type": "string",
        "description": "A value with ${NAME}, ${NAME:-default} or ${file:/path} in it.",
        "pattern": "\\$\\{",
    });
    definitions.refer("Variable", |_| variable);
    if let (Json::Object(schema), Json::Object(root)) = (&mut schema, root) {
        schema.extend(root);
        schema.insert("$defs".to_owned(), definitions.into_json());
    }
    schema
}

#[cfg(test)]
mod tests;
