//! Who operates the gateway, and who is told what happens.

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::file::File;
use crate::config::file::admin as written;
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::runtime::{AdminToken, WebhookSpec};
use crate::config::value::text::Secret;
use crate::http_client::HttpUrl;

/// Fewer bytes can be guessed.
const SECRET_BYTES_MIN: usize = 16;
const TOKENS_MAX: usize = 256;
const HOW_TO_MAKE_ONE: &str = "make one with `openssl rand -hex 32`";

/// The tokens that can be used; `None` after a mistake. One that came out empty counts as none.
pub(super) fn tokens(admin: &written::Admin, findings: &mut Findings) -> Option<Vec<AdminToken>> {
    let written = admin.tokens.as_ref()?;
    super::refuse_twice("the token", written.iter().filter_map(|token| token.value.name.as_ref()), findings);
    if let Some(first) = written.get(TOKENS_MAX) {
        let wrong = Wrong::new(format!("there are more than {TOKENS_MAX} tokens"));
        findings.problem(&first.at, wrong.write("remove those that nobody uses"));
    }
    let mut tokens: Vec<Option<AdminToken>> = Vec::new();
    for token in written {
        let Some(secret) = token.value.token.as_ref() else {
            tokens.push(None);
            continue;
        };
        if secret.value.0.expose_secret().is_empty() {
            // A variable that is not set: nobody can use it.
            continue;
        }
        let is_twin = |known: &AdminToken| known.secret.expose_secret() == secret.value.0.expose_secret();
        if tokens.iter().flatten().any(is_twin) {
            let wrong =
                Wrong::new("another name has the same token: the audit trail could not tell them apart");
            findings.problem(&secret.at, wrong.write(HOW_TO_MAKE_ONE));
        }
        tokens.push(self::token(&token.value, secret, findings));
    }
    tokens.into_iter().collect()
}

fn token(
    token: &written::AdminToken,
    secret: &Located<Secret>,
    findings: &mut Findings,
) -> Option<AdminToken> {
    let text = secret.value.0.expose_secret();
    let secret = if text.len() < SECRET_BYTES_MIN {
        let wrong = Wrong::new(format!("the token is shorter than {SECRET_BYTES_MIN} bytes"));
        findings.problem(&secret.at, wrong.write(HOW_TO_MAKE_ONE));
        None
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let wrong = Wrong::new("the token has characters that a header cannot carry");
        findings.problem(&secret.at, wrong.write(HOW_TO_MAKE_ONE));
        None
    } else {
        Some(secret.value.0.clone())
    };
    Some(AdminToken { name: token.name.as_ref()?.value.0.clone(), secret: secret?, role: token.role? })
}

/// Who is told what happens, if anybody; `None` after a mistake.
pub(super) fn webhook(file: &File, findings: &mut Findings) -> Option<Option<WebhookSpec>> {
    let webhook = match &file.events.as_ref()?.webhook {
        Optional::Absent => return Some(None),
        Optional::Faulty => return None,
        Optional::Given(webhook) => webhook,
    };
    let url = webhook.value.url.as_ref()?;
    if url.value.0.expose_secret().is_empty() {
        return Some(None);
    }
    let parsed = HttpUrl::parse(url.value.0.expose_secret());
    if let Err(fault) = parsed {
        // The fault says nothing of the URL, in which some services keep a secret.
        findings.problem(&url.at, Wrong::new(fault.to_string()));
    }
    let secret = secret(webhook, findings);
    Some(Some(WebhookSpec { url: parsed.ok()?, secret: secret? }))
}

fn secret(webhook: &Located<written::Webhook>, findings: &mut Findings) -> Option<SecretString> {
    let Some(secret) = webhook.value.secret() else {
        if webhook.value.secret.is_absent() {
            let wrong = Wrong::new("the webhook has no secret: whoever is told could not tell who tells");
            findings.problem(&webhook.at, wrong.write("add `secret: …` with 16 bytes or more"));
        }
        return None;
    };
    if secret.value.0.expose_secret().len() < SECRET_BYTES_MIN {
        let wrong = Wrong::new(format!("the secret is shorter than {SECRET_BYTES_MIN} bytes"));
        findings.problem(&secret.at, wrong.write(HOW_TO_MAKE_ONE));
        return None;
    }
    Some(secret.value.0.clone())
}
