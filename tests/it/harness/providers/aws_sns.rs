//! Amazon SNS as its documents have it: checks signature and parameters, and answers like it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ring::{digest, hmac};
use tollgate::decision::query::pairs;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{AwsCredentials, AwsSnsSpec};

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const KEY_ID: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const MESSAGE_ID: &str = "567910cd-659e-55d4-8ccb-5aaf14679dc0";

/// One account that sends to phones.
pub(crate) struct FakeSns {
    backend: Backend,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    opted_out: BTreeSet<String>,
    /// What is answered instead of what was found.
    publish: Option<Reply>,
    check: Option<Reply>,
}

impl FakeSns {
    pub(crate) async fn start() -> FakeSns {
        let script = Arc::new(Mutex::new(Script::default()));
        let read = Arc::clone(&script);
        let backend = Backend::start(move |received| answer(received, &read.lock().unwrap())).await;
        FakeSns { backend, script }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// What the file would say of this account.
    pub(crate) fn spec(&self) -> AwsSnsSpec {
        AwsSnsSpec {
            base_url: HttpUrl::parse(&format!("http://{}", self.addr())).unwrap(),
            region: REGION.into(),
            credentials: AwsCredentials {
                access_key_id: KEY_ID.into(),
                secret_access_key: SECRET.into(),
                session_token: None,
            },
            sender_id: None,
            origination_number: None,
        }
    }

    pub(crate) fn opt_out(&self, number: &str) {
        self.script.lock().unwrap().opted_out.insert(number.to_owned());
    }

    pub(crate) fn answer_publish(&self, reply: Reply) {
        self.script.lock().unwrap().publish = Some(reply);
    }

    /// Answers so who asks whether a number opted out.
    pub(crate) fn answer_check(&self, reply: Reply) {
        self.script.lock().unwrap().check = Some(reply);
    }

    /// The messages alone.
    pub(crate) fn published(&self) -> Vec<Received> {
        let mut all = self.backend.received();
        all.retain(|received| received.body.starts_with(b"Action=Publish&"));
        all
    }

    /// All requests.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.backend.received()
    }
}

/// An error as SNS words it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    xml(
        status,
        &format!(
            "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">\n  <Error>\n    <Type>Sender</Type>\n    \
             <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  \
             <RequestId>b25e1fe5-0000-5000-8000-000000000000</RequestId>\n</ErrorResponse>\n"
        ),
    )
}

fn xml(status: u16, body: &str) -> Reply {
    Reply::new(status).header("content-type", "text/xml").body(body)
}

fn answer(received: &Received, script: &Script) -> Reply {
    if let Some(fault) = signature_fault(received, REGION, "sns", SECRET) {
        return error(403, "SignatureDoesNotMatch", fault);
    }
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    if received.method != "POST"
        || received.target != "/"
        || received.headers.get("content-type") != Some(form)
    {
        return error(404, "InvalidAction", "no form");
    }
    let text = std::str::from_utf8(&received.body).unwrap();
    let fields: Vec<(String, String)> =
        pairs(text).map(|pair| pair.map(|(n, v)| (n.into_owned(), v.into_owned())).unwrap()).collect();
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    if field("Version") != Some("2010-03-31") {
        return error(400, "InvalidAction", "no such version");
    }
    match field("Action") {
        Some("Publish") => script.publish.clone().unwrap_or_else(|| publish(&fields)),
        Some("CheckIfPhoneNumberIsOptedOut") => script.check.clone().unwrap_or_else(|| {
            let number = field("phoneNumber").unwrap_or_default();
            let is_opted_out = script.opted_out.contains(number);
            let namespace = "http://sns.amazonaws.com/doc/2010-03-31/";
            xml(
                200,
                &format!(
                    "<CheckIfPhoneNumberIsOptedOutResponse xmlns=\"{namespace}\">\n  \
                     <CheckIfPhoneNumberIsOptedOutResult>\n    <isOptedOut>{is_opted_out}</isOptedOut>\n  \
                     </CheckIfPhoneNumberIsOptedOutResult>\n</CheckIfPhoneNumberIsOptedOutResponse>\n"
                ),
            )
        }),
        Some(_) | None => error(400, "InvalidAction", "no such action"),
    }
}

fn publish(fields: &[(String, String)]) -> Reply {
    let invalid = |what: &str| error(400, "InvalidParameter", &format!("Invalid parameter: {what}"));
    for (name, value) in fields {
        let is_fine = match name.as_str() {
            "Action" | "Version" => true,
            "PhoneNumber" => value.strip_prefix('+').is_some_and(|digits| {
                (8..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
            }),
            "Message" => (1..=1600).contains(&value.chars().count()),
            name => {
                name.strip_prefix("MessageAttributes.entry.").is_some_and(|rest| match rest.split_once('.') {
                    Some((_, "Name")) => {
                        ["AWS.SNS.SMS.SMSType", "AWS.SNS.SMS.SenderID", "AWS.MM.SMS.OriginationNumber"]
                            .contains(&value.as_str())
                    }
                    Some((_, "Value.DataType")) => value == "String",
                    Some((_, "Value.StringValue")) => !value.is_empty(),
                    Some(_) | None => false,
                })
            }
        };
        if !is_fine {
            return invalid(name);
        }
    }
    for wanted in ["PhoneNumber", "Message"] {
        if fields.iter().filter(|(name, _)| name == wanted).count() != 1 {
            return invalid(wanted);
        }
    }
    xml(
        200,
        &format!(
            "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">\n  <PublishResult>\n    \
             <MessageId>{MESSAGE_ID}</MessageId>\n  </PublishResult>\n</PublishResponse>\n"
        ),
    )
}

/// What is wrong with the signature of a request to AWS, worked out from the bytes that came. Paths without escapes.
pub(crate) fn signature_fault(
    received: &Received,
    region: &str,
    service: &str,
    secret: &str,
) -> Option<&'static str> {
    let [authorization] = received.headers.get_all("authorization")[..] else {
        return Some("no authorization");
    };
    let [time] = received.headers.get_all("x-amz-date")[..] else { return Some("no time") };
    let Some(parts) = authorization.strip_prefix("AWS4-HMAC-SHA256 ") else { return Some("another scheme") };
    let part = |name: &str| parts.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let scope = format!("{}/{region}/{service}/aws4_request", &time[..8]);
    if part("Credential") != Some(&format!("{KEY_ID}/{scope}")) {
        return Some("another scope");
    }
    let signed = part("SignedHeaders").unwrap_or_default();
    if !["host", "x-amz-date"].iter().all(|name| signed.split(';').any(|signed| signed == *name)) {
        return Some("too few headers are signed");
    }
    let (path, query) = received.target.split_once('?').unwrap_or((&received.target, ""));
    let mut canonical = format!("{}\n{path}\n{query}\n", received.method);
    for name in signed.split(';') {
        writeln!(canonical, "{name}:{}", received.headers.get_all(name).join(",")).unwrap();
    }
    write!(canonical, "\n{signed}\n{}", hex(digest::digest(&digest::SHA256, &received.body).as_ref()))
        .unwrap();
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
    let mac = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let day = mac(format!("AWS4{secret}").as_bytes(), &time[..8]);
    let key = mac(&mac(&mac(&day, region), service), "aws4_request");
    (part("Signature") != Some(&hex(&mac(&key, &to_sign)))).then_some("the signature is another")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
