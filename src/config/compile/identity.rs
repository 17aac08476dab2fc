//! Who the client is, and who the user.

use http::header::FORWARDED;
use secrecy::ExposeSecret as _;

use crate::config::file::File;
use crate::config::file::server::{Jwt, User};
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Optional, Reader};
use crate::config::section::Word as _;
use crate::decision::client::{ClientRules, ForwardedHeader};
use crate::identity::{Algorithm, JwtKeys, JwtRules, JwtRulesError, UserRules, UserSource};

pub(super) fn client(file: &File) -> Option<ClientRules> {
    let client = file.client_ip.as_ref()?;
    let header = match client.header.clone()? {
        header if header == "x-forwarded-for" => ForwardedHeader::XForwardedFor,
        header if header == FORWARDED => ForwardedHeader::Forwarded,
        header => ForwardedHeader::Single(header),
    };
    Some(ClientRules {
        trusted: client.trusted_proxies.as_ref()?.clone(),
        header,
        ipv6_prefix: u8::try_from(client.ipv6_prefix?.0).ok()?,
    })
}

pub(super) fn user(file: &File, reader: &mut Reader<'_>) -> Option<UserRules> {
    let user = match &file.user {
        Optional::Absent => return Some(UserRules::none()),
        Optional::Faulty => return None,
        Optional::Given(user) => user,
    };
    one_way(user, &mut reader.findings)?;
    if let Optional::Given(jwt) = &user.value.jwt {
        return self::jwt(jwt, reader);
    }
    if let Optional::Given(header) = &user.value.header {
        let trusted = file.client_ip.as_ref().and_then(|client| client.trusted_proxies.as_ref());
        if trusted.is_some_and(|trusted| trusted.is_empty()) {
            let wrong = Wrong::new("nobody's header is believed: client_ip.trusted_proxies is empty");
            let wrong = wrong.write("name the proxies that set it; until then users count by address");
            reader.findings.warning(&header.at, wrong);
        }
        return Some(UserRules::new(UserSource::Header(header.value.clone())));
    }
    let cookie = user.value.cookie.given()?;
    Some(UserRules::new(UserSource::Cookie(cookie.value.0.clone())))
}

/// A user is known in one way alone.
fn one_way(user: &Located<User>, findings: &mut Findings) -> Option<()> {
    let User { jwt, header, cookie } = &user.value;
    let there = [!jwt.is_absent(), !header.is_absent(), !cookie.is_absent()];
    match there.iter().filter(|there| **there).count() {
        1 => Some(()),
        0 => {
            let wrong = Wrong::new("`user` says nothing");
            findings.problem(&user.at, wrong.write("give it one of jwt, header and cookie"));
            None
        }
        _ => {
            let wrong = Wrong::new("a user is known in one way alone");
            findings.problem(&user.at, wrong.write("keep one of jwt, header and cookie"));
            None
        }
    }
}

fn jwt(jwt: &Located<Jwt>, reader: &mut Reader<'_>) -> Option<UserRules> {
    let Jwt { header, algorithms, secret, jwks_file, claim } = &jwt.value;
    let keys = match (secret, jwks_file) {
        (Optional::Given(secret), Optional::Absent) => {
            if secret.value.0.expose_secret().is_empty() {
                let wrong =
                    Wrong::new("the secret is empty: no token is accepted, and users count by address");
                reader.findings.warning(&secret.at, wrong);
                return Some(UserRules::none());
            }
            JwtKeys::Secret(secret.value.0.clone())
        }
        (Optional::Absent, Optional::Given(path)) => match reader.file(&path.value.0, JWKS_BYTES_MAX) {
            Ok(text) => JwtKeys::Jwks(text.into_bytes()),
            Err(wrong) => {
                reader.findings.problem(&path.at, wrong);
                return None;
            }
        },
        (Optional::Absent, Optional::Absent) => {
            let wrong = Wrong::new("nothing to verify tokens with");
            reader.findings.problem(&jwt.at, wrong.write("add `secret` or `jwks_file`"));
            return None;
        }
        (_, Optional::Given(path)) => {
            let wrong = Wrong::new("tokens are verified with a secret or with a key file, not both");
            reader.findings.problem(&path.at, wrong.write("remove `secret` or `jwks_file`"));
            return None;
        }
        (Optional::Faulty, _) | (_, Optional::Faulty) => return None,
    };
    let list: Vec<Algorithm> = algorithms.as_ref()?.0.iter().map(|algorithm| algorithm.value).collect();
    let name = claim.as_ref()?;
    let rules = JwtRules::new(header.clone()?, list, keys, &name.value.0);
    match rules {
        Ok(rules) => {
            if let (true, Optional::Given(secret)) = (rules.weak_secret(), secret) {
                let wrong =
                    Wrong::new("the secret is shorter than 32 bytes: it can be guessed from any token");
                reader.findings.warning(&secret.at, wrong.write("make one with `openssl rand -hex 32`"));
            }
            Some(UserRules::new(UserSource::Jwt(rules)))
        }
        Err(error) => {
            let at = blamed(&error, jwt).unwrap_or(&jwt.at).clone();
            reader.findings.problem(&at, Wrong::new(error.to_string()));
            None
        }
    }
}

const JWKS_BYTES_MAX: u64 = 1024 * 1024;

/// Where the mistake was made that the rules complain of.
fn blamed<'j>(error: &JwtRulesError, jwt: &'j Located<Jwt>) -> Option<&'j At> {
    let by_algorithm = |wanted: &Algorithm| {
        let list = jwt.value.algorithms.as_ref()?;
        list.0.iter().find(|algorithm| algorithm.value.word() == wanted.word()).map(|algorithm| &algorithm.at)
    };
    match error {
        JwtRulesError::SecretMisfit { algorithm }
        | JwtRulesError::NoKey { algorithm }
        | JwtRulesError::SameKid { algorithm } => by_algorithm(algorithm),
        JwtRulesError::JwksTooLarge
        | JwtRulesError::JwksMalformed { .. }
        | JwtRulesError::JwkUnsound { .. } => jwt.value.jwks_file.given().map(|path| &path.at),
        JwtRulesError::UnfitClaim { .. } => jwt.value.claim.as_ref().map(|claim| &claim.at),
        JwtRulesError::EmptySecret => jwt.value.secret.given().map(|secret| &secret.at),
        JwtRulesError::NoAlgorithm => None,
    }
}
