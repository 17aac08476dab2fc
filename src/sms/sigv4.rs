//! Signatures of requests to AWS: Signature Version 4, for requests with a whole body and few headers.

use std::fmt::Write as _;

use ::http::Method;
use ::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use ring::{digest, hmac};
use secrecy::ExposeSecret as _;

use super::spec::AwsCredentials;
use crate::decision::rfc3339;
use crate::decision::time::Timestamp;
use crate::http_client::HttpUrl;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A request before it is signed. All of its headers will be covered.
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a Method,
    pub(super) url: &'a HttpUrl,
    pub(super) headers: HeaderMap,
    pub(super) body: &'a [u8],
}

/// The headers to send: those of the request, `host`, the time, and the signature. `None` if the credentials have
/// characters that a header cannot carry.
pub(super) fn sign(
    request: Unsigned<'_>,
    credentials: &AwsCredentials,
    region: &str,
    service: &str,
    now: Timestamp,
) -> Option<HeaderMap> {
    let Unsigned { method, url, mut headers, body } = request;
    let time = compact(now);
    let day = time.get(..8)?;
    headers.insert(HOST, HeaderValue::try_from(url.authority()).ok()?);
    headers.insert(DATE, HeaderValue::try_from(&time).ok()?);
    if let Some(token) = &credentials.session_token {
        headers.insert(SESSION, secret(token.expose_secret())?);
    }
    let signed = names(&headers);
    let canonical = canonical(method, url, &headers, &signed, body)?;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let key = key(credentials, day, region, service);
    let signature = hex(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        credentials.access_key_id
    );
    headers.insert(AUTHORIZATION, secret(&authorization)?);
    Some(headers)
}

/// `20260102T030405Z`
fn compact(at: Timestamp) -> String {
    let text = rfc3339::written(at);
    let seconds = text.split('.').next().unwrap_or_default();
    let mut compact: String = seconds.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    compact.push('Z');
    compact
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// In alphabetical order, with `;` between them.
fn names(headers: &HeaderMap) -> String {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names.join(";")
}

/// The request as both sides write it down to sign it; `None` if a header is no text.
fn canonical(
    method: &Method,
    url: &HttpUrl,
    headers: &HeaderMap,
    signed: &str,
    body: &[u8],
) -> Option<String> {
    let mut text = format!("{method}\n");
    push_path(&mut text, url.path());
    let mut query: Vec<&str> = url.query().split('&').collect();
    query.sort_unstable();
    text.push('\n');
    text.push_str(&query.join("&"));
    text.push('\n');
    for name in signed.split(';') {
        let values: Option<Vec<String>> =
            headers.get_all(name).iter().map(|value| Some(trimmed(value.to_str().ok()?))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}:{}", values?.join(","));
    }
    let _ = write!(text, "\n{signed}\n{}", sha256_hex(body));
    Some(text)
}

/// The path with its escapes escaped once more, as all services but S3 want it.
fn push_path(text: &mut String, path: &str) {
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
}

/// Without spaces around, and with one where there were several.
fn trimmed(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn key(credentials: &AwsCredentials, day: &str, region: &str, service: &str) -> hmac::Key {
    let root = format!("AWS4{}", credentials.secret_access_key.expose_secret());
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    [day, region, service, "aws4_request"]
        .into_iter()
        .fold(key(root.as_bytes()), |outer, part| key(hmac::sign(&outer, part.as_bytes()).as_ref()))
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use ::http::header::CONTENT_TYPE;

    use super::*;

    /// 2026-01-02T03:04:05Z
    const AT: Timestamp = Timestamp::from_millis(1_767_323_045_999);
    const PUBLISH: &str = "Action=Publish&Version=2010-03-31&PhoneNumber=%2B14155550123&Message=123456%20is%20your\
        %20Acme%20code.%0A%0A%40acme.example%20%23123456&MessageAttributes.entry.1.Name=AWS.SNS.SMS.SMSType\
        &MessageAttributes.entry.1.Value.DataType=String&MessageAttributes.entry.1.Value.StringValue=Transactional";
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");

    fn credentials(token: Option<&str>) -> AwsCredentials {
        AwsCredentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: token.map(Into::into),
        }
    }

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        headers.iter().map(pair).collect()
    }

    struct Case<'a> {
        method: Method,
        url: HttpUrl,
        headers: &'a [(&'static str, &'a str)],
        body: &'a str,
        token: Option<&'a str>,
        scope: (&'a str, &'a str),
    }

    impl Case<'_> {
        fn post(url: &str) -> Case<'_> {
            Case {
                method: Method::POST,
                url: HttpUrl::parse(url).unwrap(),
                headers: &[FORM],
                body: PUBLISH,
                token: None,
                scope: ("us-east-1", "sns"),
            }
        }

        fn check(&self, signed: &str, signature: &str) {
            let request = Unsigned {
                method: &self.method,
                url: &self.url,
                headers: map(self.headers),
                body: self.body.as_bytes(),
            };
            let (region, service) = self.scope;
            let headers = sign(request, &credentials(self.token), region, service, AT).unwrap();
            assert_eq!(headers[HOST], self.url.authority());
            assert_eq!(headers[DATE], "20260102T030405Z");
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/{region}/{service}/aws4_request, \
                 SignedHeaders={signed}, Signature={signature}"
            );
            assert_eq!(headers[AUTHORIZATION], expected);
            assert!(headers[AUTHORIZATION].is_sensitive());
        }
    }

    #[test]
    fn signatures_are_those_that_others_make() {
        let sns = "https://sns.us-east-1.amazonaws.com/";
        Case::post(sns).check(
            "content-type;host;x-amz-date",
            "b9958df49b775a85e264e3ddcc263104925675af495f61c78950aa0ba8cfeded",
        );
        Case { token: Some("SESSIONTOKEN"), ..Case::post(sns) }.check(
            "content-type;host;x-amz-date;x-amz-security-token",
            "feb9063813cada4f4f51924c514fd50604617ad19c7234754bf6c4b406b068ef",
        );
        Case {
            headers: &[
                ("content-type", "application/x-amz-json-1.0"),
                ("x-amz-target", "PinpointSMSVoiceV2.SendTextMessage"),
            ],
            body: r#"{"DestinationPhoneNumber":"+14155550123","MessageBody":"123456","MessageType":"TRANSACTIONAL","TimeToLive":300}"#,
            scope: ("us-east-1", "sms-voice"),
            ..Case::post("https://sms-voice.us-east-1.amazonaws.com/")
        }
        .check(
            "content-type;host;x-amz-date;x-amz-target",
            "d7f1a6a42a0be4d16c86309eaf5fe2cf790e203e673e4cb942ccc6aab0cd19bb",
        );
        Case {
            headers: &[("content-type", "application/json")],
            body: r#"{"a":1}"#,
            scope: ("eu-west-1", "ses"),
            ..Case::post("https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails")
        }
        .check(
            "content-type;host;x-amz-date",
            "919d3d8bd3f759c8aff858077e7216c54db84b02754fb34737d78fa43316341e",
        );
    }

    #[test]
    fn paths_queries_and_spaces_are_brought_to_their_form() {
        let query = [("b", "2".to_owned()), ("a", "x y".to_owned()), ("b", "1".to_owned())];
        let url = HttpUrl::parse("https://sns.us-east-1.amazonaws.com/a%20b/c").unwrap();
        Case {
            method: Method::GET,
            url: url.with_query(&query).unwrap(),
            headers: &[("x-thing", "  a   b  ")],
            body: "",
            ..Case::post("https://sns.us-east-1.amazonaws.com/")
        }
        .check("host;x-amz-date;x-thing", "e2b5c6c2ec951b5a48a4ec12960358cc3cd2c95e2967bedf0cdd115cb6d85865");
    }

    #[test]
    fn the_request_is_written_down_as_aws_does() {
        let url = HttpUrl::parse("https://sns.us-east-1.amazonaws.com/").unwrap();
        let headers =
            map(&[FORM, ("host", "sns.us-east-1.amazonaws.com"), ("x-amz-date", "20260102T030405Z")]);
        let text = canonical(&Method::POST, &url, &headers, &names(&headers), PUBLISH.as_bytes()).unwrap();
        assert_eq!(
            sha256_hex(text.as_bytes()),
            "2a200be9f392c7bbd81d1c0f7121243226f27839e903d323ed41ee2c56bac29f"
        );
    }

    #[test]
    fn every_part_is_covered() {
        let signature =
            |body: &str, content_type: &str, key: &AwsCredentials, region: &str, at: Timestamp| {
                let url = HttpUrl::parse("https://sns.us-east-1.amazonaws.com/").unwrap();
                let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
                let request = Unsigned { method: &Method::POST, url: &url, headers, body: body.as_bytes() };
                let headers = sign(request, key, region, "sns", at).unwrap();
                headers[AUTHORIZATION].to_str().unwrap().rsplit('=').next().unwrap().to_owned()
            };
        let key = credentials(None);
        let other = AwsCredentials { secret_access_key: "another".into(), ..credentials(None) };
        let later = AT.plus(crate::decision::time::Span::from_secs(1));
        let all = [
            signature("a", "b", &key, "c", AT),
            signature("A", "b", &key, "c", AT),
            signature("a", "B", &key, "c", AT),
            signature("a", "b", &other, "c", AT),
            signature("a", "b", &key, "C", AT),
            signature("a", "b", &key, "c", later),
        ];
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn credentials_that_would_break_a_header_sign_nothing() {
        let url = HttpUrl::parse("https://sns.us-east-1.amazonaws.com/").unwrap();
        for bad in [
            AwsCredentials { access_key_id: "a\r\nb".into(), ..credentials(None) },
            credentials(Some("a\nb")),
        ] {
            let request = Unsigned { method: &Method::POST, url: &url, headers: HeaderMap::new(), body: b"" };
            assert_eq!(sign(request, &bad, "r", "s", AT), None);
        }
    }
}
