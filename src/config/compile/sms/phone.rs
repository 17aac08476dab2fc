//! Providers of text messages, calls and WhatsApp messages.

use std::collections::BTreeMap;

use super::account::{Account, defaulted, if_filled, if_number, if_secret, number, sender};
use crate::config::file::sms::{self as written, SmsProvider};
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::value::otp::Setting;
use crate::sms::Channel;
use crate::sms::spec::{
    AwsSnsSpec, Kind, MessageBirdSpec, PlivoSpec, SinchSpec, TwilioSender, TwilioSpec, TwilioWhatsapp,
    VonageSpec,
};

pub(super) fn kind(provider: &SmsProvider, account: &Account<'_>, findings: &mut Findings) -> Option<Kind> {
    match provider {
        SmsProvider::Twilio(twilio) => self::twilio(twilio, account, findings).map(Kind::Twilio),
        SmsProvider::Vonage(vonage) => self::vonage(vonage, account, findings).map(Kind::Vonage),
        SmsProvider::AwsSns(sns) => aws_sns(sns, account, findings).map(Kind::AwsSns),
        SmsProvider::MessageBird(bird) => messagebird(bird, account, findings).map(Kind::MessageBird),
        SmsProvider::Plivo(plivo) => self::plivo(plivo, account, findings).map(Kind::Plivo),
        SmsProvider::Sinch(sinch) => self::sinch(sinch, account, findings).map(Kind::Sinch),
        SmsProvider::Http(http) => {
            let channel = match &http.channel {
                Optional::Absent => Some(Channel::Sms),
                Optional::Faulty => None,
                Optional::Given(channel) if channel.value == Channel::Email => {
                    let wrong = Wrong::new("who sends e-mail is no provider of `sms`");
                    findings.problem(&channel.at, wrong.write("move it to `email: { providers: […] }`"));
                    None
                }
                Optional::Given(channel) => Some(channel.value),
            };
            super::http::spec(http, channel, account, findings).map(|spec| Kind::Http(Box::new(spec)))
        }
        SmsProvider::Console(_) => {
            account.refuse_base_url("remove it: the console is the log of this gateway", findings);
            Some(Kind::Console)
        }
    }
}

fn twilio(twilio: &written::Twilio, account: &Account<'_>, findings: &mut Findings) -> Option<TwilioSpec> {
    let base_url = account.base_url("https://api.twilio.com", findings);
    let account_sid = account.text("account_sid", twilio.account_sid.as_ref(), findings);
    let auth_token = account.secret("auth_token", twilio.auth_token.as_ref(), findings);
    let api_key = match if_filled(twilio.api_key.as_ref()) {
        None => None,
        Some(None) => Some(None),
        Some(Some(key)) => account
            .secret("api_secret", twilio.api_secret.as_ref(), findings)
            .map(|secret| Some((key.value.0.clone(), secret))),
    };
    let sender = twilio_sender(twilio, account, findings);
    let voice_from = if_number(twilio.voice_from.as_ref(), findings);
    let whatsapp = match &twilio.whatsapp {
        Optional::Absent => Some(None),
        Optional::Faulty => None,
        Optional::Given(whatsapp) => self::whatsapp(&whatsapp.value, findings).map(Some),
    };
    Some(TwilioSpec {
        base_url: base_url?,
        account_sid: account_sid?,
        auth_token: auth_token?,
        api_key: api_key?,
        sender: sender?,
        voice_from: voice_from?,
        whatsapp: whatsapp?,
    })
}

fn twilio_sender(
    twilio: &written::Twilio,
    account: &Account<'_>,
    findings: &mut Findings,
) -> Option<TwilioSender> {
    let from = if_filled(twilio.from.as_ref())?;
    let service = if_filled(twilio.messaging_service_sid.as_ref())?;
    match (from, service) {
        (Some(_), Some(service)) => {
            let wrong = Wrong::new("messages come from a number or from a messaging service, not from both");
            findings.problem(&service.at, wrong.write("remove `from` or `messaging_service_sid`"));
            None
        }
        (None, Some(service)) => Some(TwilioSender::MessagingService(service.value.0.clone())),
        (_, None) => account.from(twilio.from.as_ref(), findings).map(TwilioSender::From),
    }
}

fn whatsapp(whatsapp: &written::Whatsapp, findings: &mut Findings) -> Option<TwilioWhatsapp> {
    let from = whatsapp.from.as_ref().and_then(|from| number(from, findings));
    let written = whatsapp.content_sids.as_ref()?;
    let sids: Option<BTreeMap<Box<str>, Box<str>>> = written
        .value
        .entries
        .iter()
        .map(|(locale, sid)| Some((locale.value.0.clone(), sid.as_ref()?.value.0.clone())))
        .collect();
    let content_sids = sids.filter(|_| written.value.complete)?;
    if !content_sids.contains_key("default") {
        let wrong = Wrong::new("no template serves those whose language has none");
        findings.problem(&written.at, wrong.write("add `default: HX…`"));
        return None;
    }
    Some(TwilioWhatsapp { from: from?, content_sids })
}

fn vonage(vonage: &written::Vonage, account: &Account<'_>, findings: &mut Findings) -> Option<VonageSpec> {
    let base_url = account.base_url("https://rest.nexmo.com", findings);
    let api_key = account.text("api_key", vonage.api_key.as_ref(), findings);
    let api_secret = account.secret("api_secret", vonage.api_secret.as_ref(), findings);
    let signature_secret = if_secret(vonage.signature_secret.as_ref(), findings);
    let from = account.from(vonage.from.as_ref(), findings);
    Some(VonageSpec {
        base_url: base_url?,
        api_key: api_key?,
        api_secret: api_secret?,
        signature_secret: signature_secret?,
        from: from?,
    })
}

fn aws_sns(sns: &written::AwsSns, account: &Account<'_>, findings: &mut Findings) -> Option<AwsSnsSpec> {
    let region = account.region(defaulted(&sns.region), findings);
    let credentials = account.aws(&sns.access_key_id, &sns.secret_access_key, &sns.session_token, findings);
    let sender_id = match if_filled(sns.sender_id.as_ref()) {
        None => None,
        Some(None) => Some(None),
        Some(Some(id)) => aws_sender_id(id, findings).map(Some),
    };
    let origination_number = if_number(sns.origination_number.as_ref(), findings);
    let region = region?;
    let base_url = account.base_url(&format!("https://sns.{region}.{}", aws_domain(&region)), findings);
    Some(AwsSnsSpec {
        base_url: base_url?,
        region,
        credentials: credentials?,
        sender_id: sender_id?,
        origination_number: origination_number?,
    })
}

/// China's regions are a world of their own.
pub(super) fn aws_domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// SNS takes hyphens, but no spaces.
fn aws_sender_id(id: &Located<Setting>, findings: &mut Findings) -> Option<Box<str>> {
    let text = &id.value.0;
    let sound = text.len() <= 11
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if sound {
        return Some(text.clone());
    }
    let wrong = Wrong::new(format!("`{}` is no sender ID", id.told()));
    findings.problem(
        &id.at,
        wrong.write("write at most eleven letters, digits and hyphens, one letter at least"),
    );
    None
}

fn messagebird(
    bird: &written::MessageBird,
    account: &Account<'_>,
    findings: &mut Findings,
) -> Option<MessageBirdSpec> {
    let base_url = account.base_url("https://rest.messagebird.com", findings);
    let api_key = account.secret("api_key", bird.api_key.as_ref(), findings);
    let signing_key = if_secret(bird.signing_key.as_ref(), findings);
    let from = account.from(bird.from.as_ref(), findings);
    Some(MessageBirdSpec { base_url: base_url?, api_key: api_key?, signing_key: signing_key?, from: from? })
}

fn plivo(plivo: &written::Plivo, account: &Account<'_>, findings: &mut Findings) -> Option<PlivoSpec> {
    let base_url = account.base_url("https://api.plivo.com", findings);
    let auth_id = account.text("auth_id", plivo.auth_id.as_ref(), findings);
    let auth_token = account.secret("auth_token", plivo.auth_token.as_ref(), findings);
    let from = account.from(plivo.from.as_ref(), findings);
    Some(PlivoSpec { base_url: base_url?, auth_id: auth_id?, auth_token: auth_token?, from: from? })
}

fn sinch(sinch: &written::Sinch, account: &Account<'_>, findings: &mut Findings) -> Option<SinchSpec> {
    let service_plan_id = account.text("service_plan_id", sinch.service_plan_id.as_ref(), findings);
    let api_token = account.secret("api_token", sinch.api_token.as_ref(), findings);
    let webhook_secret = if_secret(sinch.webhook_secret.as_ref(), findings);
    let from = match if_filled(sinch.from.as_ref()) {
        Some(Some(from)) => sender(from, findings),
        Some(None) | None => account.from(sinch.from.as_ref(), findings),
    };
    let region = account.region(defaulted(&sinch.region), findings)?;
    let base_url = account.base_url(&format!("https://{region}.sms.api.sinch.com"), findings);
    Some(SinchSpec {
        base_url: base_url?,
        service_plan_id: service_plan_id?,
        api_token: api_token?,
        webhook_secret: webhook_secret?,
        from: from?,
    })
}
