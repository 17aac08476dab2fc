//! Providers of e-mail.

use secrecy::SecretString;

use super::account::{Account, defaulted, if_secret};
use super::phone::aws_domain;
use crate::config::file::sms::{self as written, EmailProvider};
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::value::otp::Setting;
use crate::config::value::text::Secret;
use crate::sms::Channel;
use crate::sms::mail::SmtpUrl;
use crate::sms::spec::{Kind, MailApiSpec, MailgunSpec, SesSpec, SmtpSpec};

pub(super) fn kind(provider: &EmailProvider, account: &Account<'_>, findings: &mut Findings) -> Option<Kind> {
    match provider {
        EmailProvider::Smtp(smtp) => self::smtp(smtp, account, findings).map(Kind::Smtp),
        EmailProvider::SendGrid(given) => {
            let api = Api {
                base_url: "https://api.sendgrid.com",
                api_key: &given.api_key,
                from: &given.from,
                webhook_secret: &given.webhook_secret,
            };
            api.spec(account, findings).map(Kind::SendGrid)
        }
        EmailProvider::Mailgun(mailgun) => self::mailgun(mailgun, account, findings).map(Kind::Mailgun),
        EmailProvider::Postmark(given) => {
            let api = Api {
                base_url: "https://api.postmarkapp.com",
                api_key: &given.api_key,
                from: &given.from,
                webhook_secret: &given.webhook_secret,
            };
            api.spec(account, findings).map(Kind::Postmark)
        }
        EmailProvider::Ses(ses) => self::ses(ses, account, findings).map(Kind::Ses),
        EmailProvider::Resend(given) => {
            let api = Api {
                base_url: "https://api.resend.com",
                api_key: &given.api_key,
                from: &given.from,
                webhook_secret: &given.webhook_secret,
            };
            api.spec(account, findings).map(Kind::Resend)
        }
        EmailProvider::Http(http) => {
            let channel = match &http.channel {
                Optional::Faulty => None,
                Optional::Given(channel) if channel.value != Channel::Email => {
                    let wrong = Wrong::new("a provider of `email` sends e-mail alone");
                    findings.problem(&channel.at, wrong.write("remove `channel`, or move it to `sms`"));
                    None
                }
                Optional::Absent | Optional::Given(_) => Some(Channel::Email),
            };
            super::http::spec(http, channel, account, findings).map(|spec| Kind::Http(Box::new(spec)))
        }
    }
}

/// What SendGrid, Postmark and Resend have in common.
struct Api<'p> {
    base_url: &'static str,
    api_key: &'p Optional<Located<Secret>>,
    from: &'p Optional<Located<Setting>>,
    webhook_secret: &'p Optional<Located<Secret>>,
}

impl Api<'_> {
    fn spec(&self, account: &Account<'_>, findings: &mut Findings) -> Option<MailApiSpec> {
        let base_url = account.base_url(self.base_url, findings);
        let api_key = account.secret("api_key", self.api_key.as_ref(), findings);
        let from = account.mailbox(self.from.as_ref(), findings);
        let webhook_secret = if_secret(self.webhook_secret.as_ref(), findings);
        Some(MailApiSpec {
            base_url: base_url?,
            api_key: api_key?,
            from: from?,
            webhook_secret: webhook_secret?,
        })
    }
}

fn smtp(smtp: &written::Smtp, account: &Account<'_>, findings: &mut Findings) -> Option<SmtpSpec> {
    account.refuse_base_url("remove it: `url` says where the server is", findings);
    let url = account.needed("url", smtp.url.as_ref(), findings);
    let url = url.and_then(|url| smtp_url(url, findings));
    let from = account.mailbox(smtp.from.as_ref(), findings);
    Some(SmtpSpec { url: url?, from: from? })
}

fn smtp_url(url: &Located<Secret>, findings: &mut Findings) -> Option<SecretString> {
    if let Err(fault) = SmtpUrl::parse(&url.value.0) {
        let wrong = Wrong::new(format!("this is no URL of a mail server: {fault}"));
        findings.problem(&url.at, wrong.write("write smtps://user:password@mail.example.com"));
        return None;
    }
    Some(url.value.0.clone())
}

fn mailgun(
    mailgun: &written::Mailgun,
    account: &Account<'_>,
    findings: &mut Findings,
) -> Option<MailgunSpec> {
    let base_url = account.base_url("https://api.mailgun.net", findings);
    let domain = account.needed("domain", mailgun.domain.as_ref(), findings);
    let domain = domain.and_then(|domain| mail_domain(domain, findings));
    let api_key = account.secret("api_key", mailgun.api_key.as_ref(), findings);
    let from = account.mailbox(mailgun.from.as_ref(), findings);
    let webhook_secret = if_secret(mailgun.webhook_secret.as_ref(), findings);
    Some(MailgunSpec {
        base_url: base_url?,
        domain: domain?,
        api_key: api_key?,
        from: from?,
        webhook_secret: webhook_secret?,
    })
}

/// It becomes part of a path.
fn mail_domain(domain: &Located<Setting>, findings: &mut Findings) -> Option<Box<str>> {
    let text = &domain.value.0;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if text.len() <= 253 && text.bytes().all(plain) && !text.starts_with('.') && !text.contains("..") {
        return Some(text.clone());
    }
    let wrong = Wrong::new(format!("`{}` is no domain", domain.told()));
    findings.problem(&domain.at, wrong.write("write one such as mg.example.com"));
    None
}

fn ses(ses: &written::Ses, account: &Account<'_>, findings: &mut Findings) -> Option<SesSpec> {
    let credentials = account.aws(&ses.access_key_id, &ses.secret_access_key, &ses.session_token, findings);
    let from = account.mailbox(ses.from.as_ref(), findings);
    let region = account.region(defaulted(&ses.region), findings)?;
    let base_url = account.base_url(&format!("https://email.{region}.{}", aws_domain(&region)), findings);
    Some(SesSpec { base_url: base_url?, region, credentials: credentials?, from: from? })
}
