//! What a request of a route of codes asks for, read before anything is charged.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, Method};
use secrecy::SecretString;

use super::answer::Answer;
use super::card::{Nonce, Slot};
use super::claims::Claim;
use super::code;
use super::keys::{self, Link, Subject};
use super::letters::FIXED_TOKEN;
use super::phone::{Phone, PhoneFault};
use super::{DeskFault, Otp};
use crate::decision::body::Fields;
use crate::decision::key::{FieldPath, Form, KeyHash};
use crate::decision::otp::{Operation, OtpFault};
use crate::decision::time::{Span, Timestamp};
use crate::decision::value::normalise;
use crate::sms::mail::Address;
use crate::sms::{Channel, ReceiptFault, ReceiptRequest, Report};

/// A request as far as its head and its fields tell.
pub struct Wish<'a> {
    pub operation: Operation,
    /// The name of the route.
    pub route: &'a str,
    pub method: &'a Method,
    /// As the client sent it.
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub client: IpAddr,
    pub fields: &'a Fields,
    /// Of receipts alone: what providers sign.
    pub body: &'a bytes::Bytes,
    /// The `{parameters}` of the path.
    pub param: &'a (dyn Fn(&str) -> Option<String> + Sync),
    pub now: Timestamp,
}

/// What is to be done once the limits let it through. Debug tells no more than what it is.
pub enum Task {
    Send(Box<SendOrder>),
    Verify(Box<VerifyOrder>),
    Status {
        slot: Slot,
        nonce: Nonce,
    },
    Receipt(Box<ReceiptOrder>),
    Jwks,
    /// The answer to an earlier request with the same `Idempotency-Key`.
    Again(Answer),
}

pub struct SendOrder {
    pub(super) subject: Subject,
    pub(super) slot: Slot,
    /// ISO 3166-1 alpha-2, upper case.
    pub(super) country: Option<Box<str>>,
    pub(super) locale: Option<Box<str>>,
    pub(super) client: IpAddr,
    pub(super) claim: Option<KeyHash>,
}

pub struct VerifyOrder {
    pub(super) slot: Slot,
    pub(super) nonce: Option<Nonce>,
    pub(super) given: SecretString,
    /// Whose code it is, if that is known.
    pub(super) destination: Option<Box<str>>,
    pub(super) client: IpAddr,
}

/// What a provider reports, and believably.
pub struct ReceiptOrder {
    pub(super) provider: Box<str>,
    /// Each with the attempt that it is about.
    pub(super) reports: Vec<(Link, Report)>,
}

/// A repeated request is told the same for a day.
pub(super) const ANSWERS_KEPT: Span = Span::from_secs(86_400);
/// A request that nobody answered holds its key no longer.
const PENDING_MAX: Span = Span::from_secs(60);
const PURPOSE_DEFAULT: &str = "default";

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Send(_) => "Send",
            Task::Verify(_) => "Verify",
            Task::Status { .. } => "Status",
            Task::Receipt(_) => "Receipt",
            Task::Jwks => "Jwks",
            Task::Again(_) => "Again",
        })
    }
}

impl Task {
    /// Where the code goes or went, in the one spelling that limits by destination count by: `a+1@` and `a+2@` are one mailbox.
    pub fn destination(&self) -> Option<Box<str>> {
        match self {
            Task::Send(order) => Some(counted_as(&order.subject.destination)),
            Task::Verify(order) => order.destination.as_deref().map(counted_as),
            Task::Status { .. } | Task::Receipt(_) | Task::Jwks | Task::Again(_) => None,
        }
    }

    /// Whether it was done before and is only told again, so that no limit counts it.
    pub fn is_told_again(&self) -> bool {
        match self {
            Task::Again(_) => true,
            Task::Send(_) | Task::Verify(_) | Task::Status { .. } | Task::Receipt(_) | Task::Jwks => false,
        }
    }
}

impl Otp {
    /// Reads what is asked for, and looks up whom it concerns. Charges and changes nothing, but that the
    /// `Idempotency-Key` is taken: an order that is not performed must be given to [`Otp::abandon`].
    pub async fn ask(&self, wish: &Wish<'_>) -> Result<Task, OtpFault> {
        match wish.operation {
            Operation::Send => self.ask_to_send(wish).await,
            Operation::Verify => self.ask_to_verify(wish).await,
            Operation::Status => {
                let named = (wish.param)("id").and_then(|id| keys::read_id(&id));
                let (slot, nonce) = named.ok_or(OtpFault::NotFound)?;
                Ok(Task::Status { slot, nonce })
            }
            Operation::Receipts => self.ask_by_receipt(wish),
            Operation::Jwks => Ok(Task::Jwks),
        }
    }

    /// Gives back what an order took that limits refused.
    pub async fn abandon(&self, asked: Task) {
        if let Task::Send(order) = asked
            && let Some(claim) = order.claim
        {
            // Where that fails the key is free again after a while.
            let _ = self.lasting.desk.release(claim).await;
        }
    }

    async fn ask_to_send(&self, wish: &Wish<'_>) -> Result<Task, OtpFault> {
        let channel = match wish.field("channel") {
            None => Channel::Sms,
            Some(word) => {
                Channel::named(word).ok_or_else(|| request("`channel` is sms, voice, whatsapp or email."))?
            }
        };
        let purpose = wish.purpose()?;
        let locale = wish.locale()?;
        let (destination, country) = self.destination(wish, channel)?;
        if !self.dispatcher.has(channel) {
            return Err(OtpFault::Channel);
        }
        if !self.dispatcher.can_take(channel, country.as_deref(), wish.now) {
            return Err(OtpFault::NoProvider);
        }
        let slot = self.keys.slot(&purpose, &destination);
        let claim = match self.claim(wish, &[&destination, &purpose, channel.word()]).await? {
            Claimed::Not => None,
            Claimed::Ours(key) => Some(key),
            Claimed::Told(answer) => return Ok(Task::Again(answer)),
        };
        let subject = Subject { purpose, destination, channel };
        let client = wish.client;
        Ok(Task::Send(Box::new(SendOrder { subject, slot, country, locale, client, claim })))
    }

    async fn ask_to_verify(&self, wish: &Wish<'_>) -> Result<Task, OtpFault> {
        let length = self.rules.length;
        let given = wish.field("code").and_then(|text| code::typed(text, length));
        let given =
            given.ok_or_else(|| request(&format!("`code` is the {length} digits that were sent.")))?;
        let Some(id) = wish.field("id") else {
            let purpose = wish.purpose()?;
            let channel = if wish.field("email").is_some() { Channel::Email } else { Channel::Sms };
            let (destination, _) = self.destination(wish, channel)?;
            let slot = self.keys.slot(&purpose, &destination);
            let destination = Some(destination);
            let order = VerifyOrder { slot, nonce: None, given, destination, client: wish.client };
            return Ok(Task::Verify(Box::new(order)));
        };
        if wish.field("phone").or(wish.field("email")).is_some() {
            return Err(request("Name the verification by `id`, or by `phone` or `email`, not by both."));
        }
        // One that cannot be ours is looked up all the same: nobody learns by the time which ids there are.
        let (slot, nonce) =
            keys::read_id(id).unwrap_or((Slot::new(KeyHash::from_u128(0)), Nonce::new([0; 8])));
        let card = self.lasting.desk.look(slot, nonce, wish.now).await?;
        let subject = card.and_then(|card| self.keys.unseal(&card.sealed, slot));
        let destination = subject.map(|subject| subject.destination);
        let order = VerifyOrder { slot, nonce: Some(nonce), given, destination, client: wish.client };
        Ok(Task::Verify(Box::new(order)))
    }

    fn ask_by_receipt(&self, wish: &Wish<'_>) -> Result<Task, OtpFault> {
        let provider = (wish.param)("provider").ok_or(OtpFault::NotFound)?;
        let token = (wish.param)("token").ok_or(OtpFault::NotFound)?;
        let link = match &*token {
            FIXED_TOKEN => None,
            token => Some(self.keys.read_link(token).ok_or(OtpFault::NotFound)?),
        };
        let url = self.public_url.as_ref().ok_or(OtpFault::NotFound)?;
        let mark = if wish.query.is_empty() { "" } else { "?" };
        let url = format!("{}{}{mark}{}", url.to_string().trim_end_matches('/'), wish.path, wish.query);
        let request = ReceiptRequest {
            method: wish.method,
            url: &url,
            query: wish.query,
            headers: wish.headers,
            body: wish.body,
            now: wish.now,
        };
        match self.dispatcher.receipts(&provider, &request) {
            Ok(reports) => {
                let reports = reports.into_iter().filter_map(|report| {
                    let link = link.or_else(|| self.lasting.letters.link(&provider, &report.message_id))?;
                    Some((link, report))
                });
                let reports = reports.collect();
                Ok(Task::Receipt(Box::new(ReceiptOrder { provider: provider.into(), reports })))
            }
            Err(ReceiptFault::None) => Err(OtpFault::NotFound),
            Err(fault @ (ReceiptFault::Unsigned | ReceiptFault::Forged | ReceiptFault::Stale)) => {
                tracing::debug!(%fault, "a receipt was not believed");
                Err(OtpFault::Forged)
            }
            Err(ReceiptFault::Malformed(what)) => Err(self::request(&format!("This is no receipt: {what}."))),
        }
    }

    /// Where a code goes, and to which country.
    fn destination(
        &self,
        wish: &Wish<'_>,
        channel: Channel,
    ) -> Result<(Box<str>, Option<Box<str>>), OtpFault> {
        let (phone, email) = (wish.field("phone"), wish.field("email"));
        match channel {
            Channel::Email => {
                if phone.is_some() {
                    // The code proves who reads the mailbox, and nothing of a phone.
                    return Err(request("A code by e-mail is for `email` alone: leave out `phone`."));
                }
                let email = email.ok_or_else(|| request("`email` is missing."))?;
                let address = Address::parse(email).map_err(|_| OtpFault::Email)?;
                // Hosts that tell A@ from a@ are a story; people who type either are not.
                Ok((address.as_str().to_lowercase().into(), None))
            }
            Channel::Sms | Channel::Voice | Channel::Whatsapp => {
                if email.is_some() {
                    return Err(request("`email` is for the channel email alone."));
                }
                let phone = phone.ok_or_else(|| request("`phone` is missing."))?;
                let phone =
                    Phone::parse(phone, self.region, &self.countries).map_err(|fault| match fault {
                        PhoneFault::Invalid => OtpFault::Phone,
                        PhoneFault::Country => OtpFault::Country,
                        PhoneFault::Kind => OtpFault::NumberKind,
                    })?;
                Ok((phone.e164().into(), phone.country().map(Into::into)))
            }
        }
    }

    async fn claim(&self, wish: &Wish<'_>, request: &[&str]) -> Result<Claimed, OtpFault> {
        const KEY_MAX: usize = 255;
        let Some(key) = wish.headers.get("idempotency-key") else { return Ok(Claimed::Not) };
        let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_MAX);
        let key = key.ok_or_else(|| self::request("An Idempotency-Key has 1 to 255 visible characters."))?;
        let (key, print) = self.keys.claim(wish.route, key, request);
        match self.lasting.desk.claim(key, print, wish.now, PENDING_MAX).await? {
            Claim::Yours => Ok(Claimed::Ours(key)),
            Claim::Pending => Err(OtpFault::KeyPending),
            Claim::Mismatch => Err(OtpFault::KeyReused),
            // What another version kept cannot be told again, and must not be done twice.
            Claim::Answered(kept) => Answer::from_bytes(&kept).map(Claimed::Told).ok_or(OtpFault::KeyPending),
        }
    }
}

enum Claimed {
    Not,
    Ours(KeyHash),
    Told(Answer),
}

impl<'a> Wish<'a> {
    /// A field of the body that says something.
    fn field(&self, name: &str) -> Option<&'a str> {
        let value = self.fields.get(&FieldPath::parse(name)?)?.trim();
        (!value.is_empty()).then_some(value)
    }

    fn purpose(&self) -> Result<Box<str>, OtpFault> {
        const PURPOSE_MAX: usize = 64;
        let purpose = self.field("purpose").unwrap_or(PURPOSE_DEFAULT);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if purpose.len() > PURPOSE_MAX || !purpose.bytes().all(is_plain) {
            return Err(request("`purpose` is a word of at most 64 letters, digits, `-`, `_` and `.`."));
        }
        Ok(purpose.into())
    }

    fn locale(&self) -> Result<Option<Box<str>>, OtpFault> {
        const LOCALE_MAX: usize = 35;
        let Some(locale) = self.field("locale") else { return Ok(None) };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if locale.len() > LOCALE_MAX || !locale.bytes().all(is_plain) {
            return Err(request("`locale` is a language tag such as en or pt-BR."));
        }
        Ok(Some(locale.replace('_', "-").into()))
    }
}

fn counted_as(destination: &str) -> Box<str> {
    if !destination.contains('@') {
        return destination.into();
    }
    // An address that was accepted has nothing that could not be read.
    normalise(Form::Email, destination)
        .ok()
        .flatten()
        .map_or_else(|| destination.into(), |mailbox| mailbox.into())
}

fn request(detail: &str) -> OtpFault {
    OtpFault::Request { detail: detail.into() }
}

impl From<DeskFault> for OtpFault {
    fn from(fault: DeskFault) -> OtpFault {
        tracing::debug!(?fault, "a code could not be looked up");
        OtpFault::NoStore
    }
}
