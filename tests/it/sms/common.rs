//! What the tests of all adapters share: one message, its sender, and receipts as they come in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::SecretString;
use tollgate::decision::time::{Span, Timestamp};
use tollgate::http_client::{HttpClient, HttpUrl};
use tollgate::sms::spec::{Kind, Pace, ProviderSpec};
use tollgate::sms::{
    Channel, Fault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused, Report, SmsSender, sender,
};

use crate::harness::PATIENCE;
use crate::harness::backend::Received;

/// 2026-01-02T03:04:05Z, when all of it happens.
pub(super) const NOW_S: u64 = 1_767_323_045;

/// Where a fake is.
pub(super) fn at(address: SocketAddr) -> HttpUrl {
    HttpUrl::parse(&format!("http://{address}")).unwrap()
}

pub(super) fn sender_of(kind: Kind) -> Box<dyn SmsSender> {
    let spec = ProviderSpec {
        name: "it".into(),
        priority: 1,
        timeout: Span::from_secs(6),
        limits: Pace { windows: Vec::new() },
        cost: None,
        kind,
    };
    sender(&spec, &Arc::new(HttpClient::new(PATIENCE))).unwrap()
}

/// The code is 123456, and good for another five minutes.
pub(super) struct Message {
    pub(super) channel: Channel,
    pub(super) to: &'static str,
    pub(super) text: SecretString,
    pub(super) code: SecretString,
    pub(super) locale: &'static str,
    pub(super) expires_in: Duration,
    pub(super) attempt: u8,
    pub(super) receipt_url: Option<&'static str>,
}

impl Message {
    pub(super) fn by(channel: Channel) -> Message {
        Message {
            channel,
            to: if channel == Channel::Email { "ann@example.com" } else { "+14155550123" },
            text: "123456 is your Acme code.\n\n@acme.example #123456".into(),
            code: "123456".into(),
            locale: "en",
            expires_in: Duration::from_millis(300_999),
            attempt: 2,
            receipt_url: Some("https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0"),
        }
    }

    pub(super) fn outbound(&self) -> Outbound<'_> {
        Outbound {
            channel: self.channel,
            to: self.to,
            text: &self.text,
            subject: "Your Acme code",
            code: &self.code,
            locale: self.locale,
            expires_in: self.expires_in,
            attempt: self.attempt,
            reference: "a1B2-c3_D4",
            receipt_url: self.receipt_url,
            now: Timestamp::from_millis(NOW_S * 1000),
        }
    }

    pub(super) async fn sent_by(&self, sender: &dyn SmsSender) -> Outcome {
        sender.send(&self.outbound(), PATIENCE).await
    }
}

/// A refusal without a time to come back.
pub(super) fn refused(fault: Fault, code: &str) -> Outcome {
    Outcome::Refused(Refused::new(fault, code))
}

/// The request line and all headers but `host`, as a provider sees them, and the body.
pub(super) fn golden(received: &Received) -> String {
    let head = String::from_utf8(received.raw_head.clone()).unwrap();
    let lines = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("host:"));
    let head: Vec<&str> = lines.collect();
    format!("{}\n{}", head.join("\n"), String::from_utf8(received.body.clone()).unwrap())
}

/// A receipt on its way in.
#[derive(Clone)]
pub(super) struct Receipt {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) now_s: u64,
}

impl Receipt {
    pub(super) fn get(url: &str) -> Receipt {
        Receipt {
            method: Method::GET,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            now_s: NOW_S,
        }
    }

    pub(super) fn post(url: &str, content_type: &str, body: &str) -> Receipt {
        let mut receipt = Receipt { method: Method::POST, ..Receipt::get(url) };
        receipt.headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        receipt.body = Bytes::copy_from_slice(body.as_bytes());
        receipt
    }

    /// One more line of this name.
    pub(super) fn header(mut self, name: &str, value: &str) -> Receipt {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(super) fn without(mut self, name: &str) -> Receipt {
        self.headers.remove(name);
        self
    }

    pub(super) fn read_by(&self, sender: &dyn SmsSender) -> Result<Vec<Report>, ReceiptFault> {
        sender.receipts(&ReceiptRequest {
            method: &self.method,
            url: &self.url,
            query: self.url.split_once('?').map_or("", |(_, query)| query),
            headers: &self.headers,
            body: &self.body,
            now: Timestamp::from_millis(self.now_s * 1000),
        })
    }
}

/// The same text with one bit turned, for each of its characters.
pub(super) fn flipped(text: &str) -> impl Iterator<Item = String> {
    (0..text.len()).map(|at| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1;
        String::from_utf8(bytes).unwrap()
    })
}
