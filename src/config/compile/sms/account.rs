//! What one account needs: every lack is told with the key, and with the variable that was to fill it.

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::file::sms::Common;
use crate::config::interpolate::{Piece, pieces};
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::value::otp::{CallUrl, Setting, is_e164, is_sender, mailbox};
use crate::config::value::text::Secret;
use crate::http_client::HttpUrl;
use crate::sms::spec::{AwsCredentials, Mailbox};

/// An account while it is checked.
pub(super) struct Account<'p> {
    /// For messages.
    name: String,
    at: &'p At,
    base_url: &'p Optional<Located<CallUrl>>,
}

/// A value that can be there and be nothing.
pub(super) trait Credential {
    fn is_empty(&self) -> bool;
}

impl Credential for Setting {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Credential for Secret {
    fn is_empty(&self) -> bool {
        self.0.expose_secret().is_empty()
    }
}

/// A key that has a default: if nothing is there, there was a mistake.
pub(super) fn defaulted<T>(value: &Option<T>) -> Optional<&T> {
    match value {
        Some(value) => Optional::Given(value),
        None => Optional::Faulty,
    }
}

/// Nothing if it is not there or empty; `None` after a mistake.
pub(super) fn if_filled<T: Credential>(value: Optional<&Located<T>>) -> Option<Option<&Located<T>>> {
    match value {
        Optional::Faulty => None,
        Optional::Absent => Some(None),
        Optional::Given(value) => Some(Some(value).filter(|value| !value.value.is_empty())),
    }
}

impl<'p> Account<'p> {
    pub(super) fn new(at: &'p At, common: &Common<'p>) -> Account<'p> {
        let name = common.name.map_or_else(|| common.kind.to_owned(), Located::told);
        Account { name, at, base_url: common.base_url }
    }

    /// A value that the account cannot do without.
    pub(super) fn needed<'v, T: Credential>(
        &self,
        key: &str,
        value: Optional<&'v Located<T>>,
        findings: &mut Findings,
    ) -> Option<&'v Located<T>> {
        let filled = if_filled(value)?;
        if filled.is_none() {
            let name = &self.name;
            match value {
                Optional::Given(empty) => {
                    let wrong = Wrong::new(format!("`{key}` of provider `{name}` is empty"));
                    findings.problem(&empty.at, wrong.write(remedy(empty)));
                }
                Optional::Absent | Optional::Faulty => {
                    let wrong = Wrong::new(format!("`{key}` of provider `{name}` is missing"));
                    findings
                        .problem(self.at, wrong.write(format!("add `{key}: …`, or write `enabled: false`")));
                }
            }
        }
        filled
    }

    pub(super) fn text(
        &self,
        key: &str,
        value: Optional<&Located<Setting>>,
        findings: &mut Findings,
    ) -> Option<Box<str>> {
        self.needed(key, value, findings).map(|text| text.value.0.clone())
    }

    pub(super) fn secret(
        &self,
        key: &str,
        value: Optional<&Located<Secret>>,
        findings: &mut Findings,
    ) -> Option<SecretString> {
        plain(self.needed(key, value, findings)?, findings)
    }

    /// Part of a host's name.
    pub(super) fn region(
        &self,
        value: Optional<&Located<Setting>>,
        findings: &mut Findings,
    ) -> Option<Box<str>> {
        let region = self.needed("region", value, findings)?;
        let of_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let text = &region.value.0;
        if text.len() <= 32 && text.bytes().all(of_host) {
            return Some(text.clone());
        }
        let wrong = Wrong::new(format!("`{}` is no region", region.told()));
        findings.problem(&region.at, wrong.write("write one such as us or eu-west-1"));
        None
    }

    /// The provider's own, unless the file says otherwise.
    pub(super) fn base_url(&self, own: &str, findings: &mut Findings) -> Option<HttpUrl> {
        match self.base_url {
            Optional::Faulty => None,
            Optional::Given(url) => Some(url.value.0.clone()),
            Optional::Absent => match HttpUrl::parse(own) {
                Ok(url) => Some(url),
                Err(fault) => {
                    findings.problem(self.at, Wrong::new(fault.to_string()).write("set `base_url`"));
                    None
                }
            },
        }
    }

    /// For those who are not called by a base URL.
    pub(super) fn refuse_base_url(&self, instead: &str, findings: &mut Findings) {
        if let Optional::Given(url) = self.base_url {
            let wrong = Wrong::new("`base_url` means nothing to this provider");
            findings.problem(&url.at, wrong.write(instead));
        }
    }

    pub(super) fn from(
        &self,
        value: Optional<&Located<Setting>>,
        findings: &mut Findings,
    ) -> Option<Box<str>> {
        sender(self.needed("from", value, findings)?, findings)
    }

    pub(super) fn mailbox(
        &self,
        value: Optional<&Located<Setting>>,
        findings: &mut Findings,
    ) -> Option<Mailbox> {
        let from = self.needed("from", value, findings)?;
        let found = mailbox(&from.value.0);
        if found.is_none() {
            let wrong = Wrong::new(format!("`{}` is no address that e-mail can come from", from.told()));
            findings.problem(&from.at, wrong.write("write one such as Example <no-reply@example.com>"));
        }
        found
    }

    pub(super) fn aws(
        &self,
        access_key_id: &Option<Located<Setting>>,
        secret_access_key: &Option<Located<Secret>>,
        session_token: &Option<Located<Secret>>,
        findings: &mut Findings,
    ) -> Option<AwsCredentials> {
        let access_key_id = self.text("access_key_id", defaulted(access_key_id), findings);
        let secret_access_key = self.secret("secret_access_key", defaulted(secret_access_key), findings);
        let session_token = if_secret(defaulted(session_token), findings);
        Some(AwsCredentials {
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            session_token: session_token?,
        })
    }
}

/// A secret that the account can do without.
pub(super) fn if_secret(
    value: Optional<&Located<Secret>>,
    findings: &mut Findings,
) -> Option<Option<SecretString>> {
    match if_filled(value)? {
        None => Some(None),
        Some(secret) => plain(secret, findings).map(Some),
    }
}

/// A number in E.164 that the account can do without.
pub(super) fn if_number(
    value: Optional<&Located<Setting>>,
    findings: &mut Findings,
) -> Option<Option<Box<str>>> {
    match if_filled(value)? {
        None => Some(None),
        Some(number) => self::number(number, findings).map(Some),
    }
}

pub(super) fn number(number: &Located<Setting>, findings: &mut Findings) -> Option<Box<str>> {
    if is_e164(&number.value.0) {
        return Some(number.value.0.clone());
    }
    let wrong = Wrong::new(format!("`{}` is no number in E.164", number.told()));
    findings.problem(&number.at, wrong.write("write one such as +14155550123"));
    None
}

pub(super) fn sender(from: &Located<Setting>, findings: &mut Findings) -> Option<Box<str>> {
    if is_sender(&from.value.0) {
        return Some(from.value.0.clone());
    }
    let wrong = Wrong::new(format!("`{}` is nothing that a message can come from", from.told()));
    let fix =
        "write a number such as +14155550123, a short code, or a name of at most eleven letters and digits";
    findings.problem(&from.at, wrong.write(fix));
    None
}

/// A line break in a credential is the end of a file that was pasted whole, and no header carries it.
fn plain(secret: &Located<Secret>, findings: &mut Findings) -> Option<SecretString> {
    if secret.value.0.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(secret.value.0.clone());
    }
    let wrong = Wrong::new("the value has a space or another character that no credential has");
    findings.problem(&secret.at, wrong.write("copy it again"));
    None
}

/// `set TWILIO_AUTH_TOKEN, or write …`, where it was to come from a variable.
fn remedy<T>(empty: &Located<T>) -> String {
    let written = empty.written.as_deref().unwrap_or_default();
    let names = pieces(written).into_iter().flatten().filter_map(|piece| match piece {
        Piece::Variable { name, .. } => Some(name),
        Piece::Text(_) | Piece::File(_) => None,
    });
    match names.collect::<Vec<&str>>().as_slice() {
        [] => "give it a value, or write `enabled: false`".to_owned(),
        names => format!("set {}, or write `enabled: false`", names.join(" and ")),
    }
}
