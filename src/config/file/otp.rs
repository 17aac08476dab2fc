//! One-time codes as they are written.

use super::limit::Limit;
use crate::config::place::Located;
use crate::config::reader::Named;
use crate::config::section::{section, words};
use crate::config::value::otp::{Country, Locale, MessageText, Pause, PublicUrl, WebDomain};
use crate::config::value::text::{Secret, Text, Whole};
use crate::decision::otp::Operation;
use crate::decision::time::Span;
use crate::otp::spec::FraudMode;

words! { Operation, "what a route of one-time codes can do", {
    Operation::Send => "send",
    Operation::Verify => "verify",
    Operation::Status => "status",
    Operation::Receipts => "receipts",
    Operation::Jwks => "jwks",
} }

section! {
    /// One-time codes: what the routes with `otp` share.
    Otp "otp" {
        /// What codes are made under: at least 16 bytes, the same on every gateway that shares a store. Empty: one is made and kept in store.data_dir.
        optional "secret" secret: Located<Secret>;
        /// The code itself.
        default("{}") "code" code: Code;
        /// The wait between two codes for one destination; each further code makes it twice as long, up to 15m. 0s: none.
        default("1m") "cooldown" cooldown: Located<Pause>;
        /// Limits by destination, whoever asks: `key: phone`. Those that count requests hold for all routes that send, those that count failures for all that verify.
        default("[{ key: phone, windows: { five_minutes: 3/5m, hourly: 5/hour, daily: 10/day }, block: 15m }, { key: phone, count: failures, windows: { verify: 10/hour } }]")
            "limits" limits: Vec<Located<Limit>>;
        /// How a number without + is read: an ISO 3166-1 country.
        default("US") "default_region" default_region: Country;
        /// Which countries codes are sent to.
        default("{}") "countries" countries: Countries;
        /// Signs of fraud: runs of numbers, many countries from one address, codes that nobody types in.
        default("{}") "fraud" fraud: Fraud;
        /// The proof that verify hands back: a signed token (JWT) for the backend.
        default("{}") "token" token: Token;
        /// Where the world reaches this gateway: providers report there, and their receipts are verified against it. Empty: they are not asked to.
        optional "public_url" public_url: Located<PublicUrl>;
        /// Who sends the code, in texts.
        optional "brand" brand: Located<Text>;
        /// What messages say, by language; {{ code }}, {{ brand }} and {{ minutes }} are filled in. Unset: one in English.
        optional "templates" templates: Located<Named<Locale, Located<MessageText>>>;
        /// The most segments that a text message may take at its worst: each is paid for.
        default("1") "segments_max" segments_max: Located<Whole<1, 10>>;
        /// A domain whose page browsers may fill the code into (WebOTP): adds the line `@domain #code`.
        default("''") "webotp_domain" webotp_domain: Located<WebDomain>;
        /// Whether the answer to send holds the code: to try things out, with the console provider alone.
        default("false") "expose_code" expose_code: Located<bool>;
    }
}

section! {
    /// The code itself.
    Code "otp.code" {
        /// Its digits.
        default("6") "length" length: Located<Whole<4, 10>>;
        /// How long it is good for, from 30s to 1h.
        default("10m") "ttl" ttl: Located<Span>;
        /// How many wrong ones are compared before it is dead.
        default("3") "attempts" attempts: Whole<1, 10>;
    }
}

section! {
    /// Which countries codes are sent to, by ISO 3166-1.
    Countries "otp.countries" {
        /// These alone. Empty: all.
        default("[]") "allow" allow: Vec<Located<Country>>;
        /// All but these.
        default("[]") "deny" deny: Vec<Located<Country>>;
    }
}

section! {
    /// What is done about signs of fraud.
    Fraud "otp.fraud" {
        /// off, monitor: told and counted, or enforce: refused.
        default("monitor") "mode" mode: FraudMode;
    }
}

words! { FraudMode, "a way to treat signs of fraud", {
    FraudMode::Off => "off",
    FraudMode::Monitor => "monitor",
    FraudMode::Enforce => "enforce",
} }

section! {
    /// The proof that verify hands back. One of secret and private_key.
    Token "otp.token" {
        /// Shared with the backend (HS256): at least 32 bytes.
        optional "secret" secret: Located<Secret>;
        /// An Ed25519 key, PKCS#8 in PEM (EdDSA); a route with `otp: jwks` serves its public half.
        optional "private_key" private_key: Located<Secret>;
        /// How long it is good for, at most 1h.
        default("5m") "ttl" ttl: Located<Span>;
        /// Its `iss`.
        optional "issuer" issuer: Text;
        /// Its `aud`.
        optional "audience" audience: Text;
    }
}
