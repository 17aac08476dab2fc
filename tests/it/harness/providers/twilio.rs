//! Twilio as its documents have it: checks what it is sent, and answers like it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use tollgate::decision::query::pairs;

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const TOKEN: &str = "token of the account";

/// One account with one number.
pub(crate) struct FakeTwilio {
    pub(crate) backend: Backend,
    told: Arc<Mutex<HashMap<String, String>>>,
}

impl FakeTwilio {
    pub(crate) async fn start() -> FakeTwilio {
        FakeTwilio::start_with(ACCOUNT, TOKEN).await
    }

    /// Of an account that sends with these credentials.
    pub(crate) async fn start_with(user: &str, password: &str) -> FakeTwilio {
        let told = Arc::new(Mutex::new(HashMap::new()));
        let (known, credentials) = (Arc::clone(&told), BASE64.encode(format!("{user}:{password}")));
        let backend = Backend::start(move |received| answer(received, &credentials, &known)).await;
        FakeTwilio { backend, told }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// What a look-up of this resource (`Messages/SM…`) answers from now on.
    pub(crate) fn knows(&self, resource: &str, body: &str) {
        self.told.lock().unwrap().insert(resource.to_owned(), body.to_owned());
    }

    /// Refuses all, as Twilio words it.
    pub(crate) fn refuses(&self, status: u16, code: u32) {
        self.backend.answer_by(move |_| error(status, code, "told to"));
    }
}

/// The signature of a callback: its URL, and each name with its value, in the order of the names.
pub(crate) fn signature(token: &str, url: &str, params: &[(&str, &str)]) -> String {
    let mut sorted = params.to_vec();
    sorted.sort_unstable();
    let text = sorted.iter().fold(url.to_owned(), |text, (name, value)| text + name + value);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    BASE64.encode(hmac::sign(&key, text.as_bytes()))
}

fn error(status: u16, code: u32, message: &str) -> Reply {
    let more = format!("https://www.twilio.com/docs/errors/{code}");
    let body = serde_json::json!({ "code": code, "message": message, "more_info": more, "status": status });
    Reply::json(status, &body.to_string())
}

fn answer(received: &Received, credentials: &str, known: &Mutex<HashMap<String, String>>) -> Reply {
    if received.headers.get_all("authorization") != [format!("Basic {credentials}")] {
        return error(401, 20003, "Authenticate");
    }
    let folder = format!("/2010-04-01/Accounts/{ACCOUNT}/");
    let Some(resource) = received.target.strip_prefix(&folder).and_then(|rest| rest.strip_suffix(".json"))
    else {
        return error(404, 20404, "The requested resource was not found");
    };
    match (received.method.as_str(), resource) {
        ("POST", "Messages") => made(received, message),
        ("POST", "Calls") => made(received, call),
        ("GET", resource) => match known.lock().unwrap().get(resource) {
            Some(body) => Reply::json(200, body),
            None => error(404, 20404, "The requested resource was not found"),
        },
        (_, _) => error(405, 20004, "Method not allowed"),
    }
}

fn made(received: &Received, make: fn(&HashMap<String, String>) -> Result<String, u32>) -> Reply {
    if received.headers.get_all("content-type") != ["application/x-www-form-urlencoded"] {
        return error(400, 21602, "no form");
    }
    let text = std::str::from_utf8(&received.body).expect("a form in UTF-8");
    let mut fields = HashMap::new();
    for pair in pairs(text) {
        let (name, value) = pair.expect("a form that decodes");
        assert!(fields.insert(name.to_string(), value.into_owned()).is_none(), "{name} is there twice");
    }
    match make(&fields) {
        Ok(body) => Reply::json(201, &body),
        Err(code) => error(400, code, "refused"),
    }
}

fn message(fields: &HashMap<String, String>) -> Result<String, u32> {
    const KNOWN: [&str; 11] = [
        "To",
        "From",
        "MessagingServiceSid",
        "Body",
        "ContentSid",
        "ContentVariables",
        "ValidityPeriod",
        "Attempt",
        "ContentRetention",
        "AddressRetention",
        "StatusCallback",
    ];
    check_known(fields, &KNOWN)?;
    let field = |name: &str| fields.get(name).map(String::as_str);
    let to = field("To").ok_or(21604_u32)?;
    let by_whatsapp = to.strip_prefix("whatsapp:");
    check_number(by_whatsapp.unwrap_or(to), 21211)?;
    match (field("From"), field("MessagingServiceSid")) {
        (Some(from), None) => match by_whatsapp {
            Some(_) => check_number(from.strip_prefix("whatsapp:").ok_or(21212_u32)?, 21212)?,
            None => check_number(from, 21212)?,
        },
        (None, Some(sid)) if sid.starts_with("MG") => {}
        (_, _) => return Err(21603),
    }
    match (field("Body"), field("ContentSid")) {
        (Some(body), None) if !body.is_empty() && by_whatsapp.is_none() => {
            if body.chars().count() > 1600 {
                return Err(21617);
            }
        }
        (None, Some(sid)) if sid.starts_with("HX") => {
            let variables: HashMap<String, String> =
                serde_json::from_str(field("ContentVariables").ok_or(21656_u32)?).map_err(|_| 21656_u32)?;
            assert!(variables["1"].bytes().all(|digit| digit.is_ascii_digit()));
        }
        (_, _) => return Err(if by_whatsapp.is_some() { 63016 } else { 21602 }),
    }
    check_range(field("ValidityPeriod"), 1..=36_000, 30071)?;
    check_range(field("Attempt"), 1..=255, 20001)?;
    if field("ContentRetention").is_some_and(|word| !matches!(word, "retain" | "discard")) {
        return Err(30029);
    }
    if field("AddressRetention").is_some_and(|word| !matches!(word, "retain" | "obfuscate")) {
        return Err(30030);
    }
    check_callback(field("StatusCallback"))?;
    Ok(MESSAGE.replace("TO", to))
}

fn call(fields: &HashMap<String, String>) -> Result<String, u32> {
    check_known(fields, &["To", "From", "Twiml", "Timeout", "StatusCallback"])?;
    let field = |name: &str| fields.get(name).map(String::as_str);
    check_number(field("To").ok_or(21201_u32)?, 21217)?;
    check_number(field("From").ok_or(21213_u32)?, 21212)?;
    let twiml = field("Twiml").ok_or(21205_u32)?;
    if twiml.chars().count() > 4000 || !twiml.starts_with("<Response>") || !twiml.ends_with("</Response>") {
        return Err(12100);
    }
    check_range(field("Timeout"), 1..=600, 20001)?;
    check_callback(field("StatusCallback"))?;
    Ok(CALL.to_owned())
}

/// The real one passes over what it does not know, and so a misspelt name would pass for years.
fn check_known(fields: &HashMap<String, String>, known: &[&str]) -> Result<(), u32> {
    if fields.keys().all(|name| known.contains(&name.as_str())) { Ok(()) } else { Err(20001) }
}

fn check_number(text: &str, code: u32) -> Result<(), u32> {
    let digits = text.strip_prefix('+').ok_or(code)?;
    let is_number = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(()) } else { Err(code) }
}

fn check_range(text: Option<&str>, range: std::ops::RangeInclusive<u32>, code: u32) -> Result<(), u32> {
    let Some(text) = text else { return Ok(()) };
    if text.parse().is_ok_and(|number| range.contains(&number)) { Ok(()) } else { Err(code) }
}

fn check_callback(url: Option<&str>) -> Result<(), u32> {
    let Some(url) = url else { return Ok(()) };
    let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).ok_or(21609_u32)?;
    if host.contains('_') || !host.contains('.') { Err(21609) } else { Ok(()) }
}

const MESSAGE: &str = r#"{"account_sid":"ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","api_version":"2010-04-01",
"body":"","date_created":"Fri, 02 Jan 2026 03:04:05 +0000","date_sent":null,"direction":"outbound-api",
"error_code":null,"error_message":null,"from":null,"messaging_service_sid":null,"num_media":"0","num_segments":"1",
"price":null,"price_unit":"USD","sid":"SM0123456789abcdef0123456789abcdef","status":"queued","to":"TO"}"#;

const CALL: &str = r#"{"account_sid":"ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","answered_by":null,"direction":"outbound-api",
"duration":null,"price":null,"price_unit":"USD","sid":"CA0123456789abcdef0123456789abcdef","status":"queued"}"#;
