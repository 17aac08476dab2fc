//! One-time codes: what comes out of what was written.

use std::num::NonZeroU32;

use secrecy::ExposeSecret;

use super::{HEAD, loaded};
use crate::config::{Config, Environment, load};
use crate::decision::answer::TemplateValues;
use crate::decision::limit::{Limit, OnStoreError, Rule, Shown};
use crate::decision::otp::Operation;
use crate::decision::policy::{Route, Target};
use crate::decision::suspicion::Suspect;
use crate::decision::time::Span;
use crate::otp::spec::{Exposure, FraudMode, OtpSpec, ProofKey};
use crate::sms::Channel;
use crate::sms::spec::{HttpBody, Kind, ProviderSpec, TwilioSender};

const ROUTES: &str = "routes:
  - { name: send, match: { method: POST, path: /otp/send }, otp: send, limits: [{ key: ip, windows: { a: 5/min } }] }
  - { name: other, match: { method: POST, path: /otp/other }, otp: send }
  - { name: verify, match: { method: POST, path: /otp/verify }, otp: verify, limits: [{ key: ip, windows: { a: 9/h } }] }
  - { name: status, match: { method: GET, path: \"/otp/{id}\" }, otp: status }
  - { name: all, match: { path: /* }, upstream: app }
";
const CONSOLE: &str = "sms: { providers: [{ name: console, kind: console }] }\n";
const TOKEN: &str = "otp: { token: { secret: 0123456789abcdef0123456789abcdef } }\n";

fn config(rest: &str) -> Config {
    loaded(&format!("{HEAD}{ROUTES}{CONSOLE}{rest}")).config
}

fn spec(rest: &str) -> OtpSpec {
    config(rest).otp.expect("there are routes of codes")
}

fn route<'c>(config: &'c Config, name: &str) -> &'c Route {
    config.rules.routes().iter().find(|route| route.name() == name).unwrap()
}

fn policies(route: &Route) -> Vec<&str> {
    route.limits().iter().map(|limit| &*limit.policy).collect()
}

fn cooldown(route: &Route) -> Option<&Limit> {
    match route.target() {
        Target::Upstream(_) => panic!("{} is proxied", route.name()),
        Target::Otp(otp) => otp.cooldown.map(|index| &route.limits()[index]),
    }
}

#[test]
fn routes_of_codes_get_the_limits_by_destination() {
    let config = config("");
    let (send, other, verify) = (route(&config, "send"), route(&config, "other"), route(&config, "verify"));
    assert_eq!(policies(send), ["send", "otp", "otp-cooldown"]);
    assert_eq!(policies(other), ["otp", "otp-cooldown"]);
    assert_eq!(policies(verify), ["verify", "otp"]);
    assert!(route(&config, "status").limits().is_empty());
    assert_eq!(cooldown(send).unwrap().id, cooldown(other).unwrap().id);
    assert_eq!(send.limits()[1].id, other.limits()[0].id);
    assert_ne!(send.limits()[1].id, verify.limits()[1].id);
    for limit in [send, other, verify].iter().flat_map(|route| route.limits()) {
        let expected = match &*limit.policy {
            "otp" | "otp-cooldown" => (OnStoreError::Closed, Shown::RetryAfter, "phone"),
            _ => (OnStoreError::Local, Shown::Quota, "ip"),
        };
        assert_eq!((limit.on_store_error, limit.shown, &*limit.key.to_string()), expected);
    }
    let Rule::Windows(windows) = &send.limits()[1].rule else { panic!() };
    let told: Vec<_> = windows.list().iter().map(|window| (window.max.get(), window.span)).collect();
    let minutes = |count: u64| Span::from_secs(60 * count);
    assert_eq!(told, [(3, minutes(5)), (5, minutes(60)), (10, minutes(24 * 60))]);
    assert_eq!(send.limits()[1].block.unwrap().span, minutes(15));
    assert!(matches!(&verify.limits()[1].rule, Rule::Failures(_)));
}

#[test]
fn targets_and_suspicion_are_those_of_the_operation() {
    let with = |suspect: &str| {
        loaded(&format!(
            "{HEAD}{CONSOLE}routes: [{{ name: send, match: {{ method: POST, path: /s }}, otp: send{suspect} }}]"
        ))
        .config
    };
    assert_eq!(with("").rules.routes()[0].suspect(), Some(Suspect::OtpRequest));
    assert_eq!(with(", suspect: none").rules.routes()[0].suspect(), None);
    let config = config("");
    let operations: Vec<Option<Operation>> = config
        .rules
        .routes()
        .iter()
        .map(|route| match route.target() {
            Target::Upstream(_) => None,
            Target::Otp(otp) => Some(otp.operation),
        })
        .collect();
    let (send, verify) = (Some(Operation::Send), Some(Operation::Verify));
    assert_eq!(operations, [send, send, verify, Some(Operation::Status), None]);
    assert_eq!(route(&config, "verify").suspect(), None);
    assert_eq!(&*config.texts[0].upstream, "one-time codes: send");
    assert_eq!(&*config.texts[4].upstream, "app");
}

#[test]
fn the_wait_between_two_codes_grows_from_the_cooldown() {
    let backoff = |rest: &str| {
        let config = config(rest);
        cooldown(route(&config, "send")).map(|limit| match &limit.rule {
            Rule::Backoff(backoff) => *backoff,
            Rule::Windows(_) | Rule::Smooth(_) | Rule::Failures(_) => panic!("{limit:?}"),
        })
    };
    let usual = backoff("").unwrap();
    assert_eq!((usual.base, usual.max), (Span::from_secs(60), Span::from_secs(900)));
    assert_eq!((usual.factor_percent, usual.forget), (200, Span::from_secs(600)));
    assert_eq!(backoff("otp: { cooldown: 0s }"), None);
    let long = backoff("otp: { cooldown: 20m, code: { ttl: 5m } }").unwrap();
    assert_eq!((long.base, long.max), (Span::from_secs(1200), Span::from_secs(1200)));
    assert_eq!(long.forget, Span::from_secs(300));
}

#[test]
fn a_refusal_has_a_code_where_nobody_worded_it() {
    let body = |name: &str, rest: &str| {
        let values = TemplateValues { retry_after_s: 7, limit: 1, window: "w", route: name };
        route(&config(rest), name).limited().body.render(&values)
    };
    let coded =
        r#"{"code":"rate_limited","detail":"Request was throttled. Expected available in 7 seconds."}"#;
    let usual = r#"{"detail": "Request was throttled. Expected available in 7 seconds."}"#;
    assert_eq!(body("send", ""), coded);
    assert_eq!(body("status", "responses: { limited: { status: 503 } }"), coded);
    assert_eq!(body("all", ""), usual);
    assert_eq!(body("send", "responses: { limited: { body: wait } }"), "wait");
}

#[test]
fn everything_has_a_default_and_without_routes_there_is_nothing() {
    let spec = spec("");
    assert!(spec.secret.is_none() && spec.public_url.is_none() && spec.receipts_path.is_none());
    let code = spec.code;
    assert_eq!((code.length, code.ttl, code.attempts), (6, Span::from_secs(600), 3));
    assert_eq!(code.cooldown, Span::from_secs(60));
    assert_eq!(spec.default_region.as_ref(), "US");
    assert!(spec.countries.allow.is_empty() && spec.countries.deny.is_empty());
    assert_eq!((spec.fraud, spec.exposure), (FraudMode::Monitor, Exposure::Nobody));
    assert!(matches!(spec.proof.key, ProofKey::Shared(None)));
    assert_eq!(spec.proof.ttl, Span::from_secs(300));
    assert_eq!(spec.providers.len(), 1);
    assert!(spec.mailers.is_empty());
    let none =
        loaded(&format!("{HEAD}routes: [{{ name: all, match: {{ path: /* }}, upstream: app }}]\n{TOKEN}"));
    assert!(none.config.otp.is_none());
    assert_eq!(none.warnings, []);
}

#[test]
fn what_is_written_comes_out() {
    let spec = loaded(&format!(
        "{HEAD}{ROUTES}  - {{ name: receipts, match: {{ path: \"/r/{{provider}}/{{token}}\" }}, otp: receipts }}
{CONSOLE}otp:
  secret: a-secret-of-the-test
  code: {{ length: 8, ttl: 2m, attempts: 5 }}
  default_region: DE
  countries: {{ allow: [DE, AT], deny: [CH] }}
  fraud: {{ mode: enforce }}
  token: {{ secret: 0123456789abcdef0123456789abcdef, ttl: 1m, issuer: tollgate, audience: app }}
  public_url: https://auth.example.com/
  brand: Example
  expose_code: true
"
    ))
    .config
    .otp
    .unwrap();
    assert_eq!(spec.secret.as_ref().unwrap().expose_secret(), "a-secret-of-the-test");
    assert_eq!((spec.code.length, spec.code.attempts, spec.fraud), (8, 5, FraudMode::Enforce));
    assert_eq!(spec.public_url.as_ref().unwrap().to_string(), "https://auth.example.com/");
    assert_eq!(spec.receipts_path.as_deref(), Some("/r/{provider}/{token}"));
    assert_eq!(spec.exposure, Exposure::Sender);
    assert_eq!(
        (spec.proof.issuer.as_deref(), spec.proof.audience.as_deref()),
        (Some("tollgate"), Some("app"))
    );
    assert_eq!(
        spec.to_string(),
        "8 digits, good for 2m, 5 tries; to DE, AT alone; not to CH; signs of fraud are refused; \
         proofs by a shared secret (HS256); told to whoever asks for one"
    );
    let shown = format!("{spec:?}");
    assert!(!shown.contains("a-secret-of-the-test") && !shown.contains("0123456789abcdef"), "{shown}");
}

#[test]
fn an_ed25519_key_signs_proofs() {
    let folder = tempfile::tempdir().unwrap();
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
               -----END PRIVATE KEY-----\n";
    std::fs::write(folder.path().join("key.pem"), pem).unwrap();
    let path = folder.path().join("gateway.yaml");
    let token = "otp: { token: { private_key: \"${file:key.pem}\", secret: \"${NONE:-}\" } }\n";
    std::fs::write(&path, format!("{HEAD}{ROUTES}{CONSOLE}{token}")).unwrap();
    let loaded = load(&path, &Environment::empty()).unwrap_or_else(|refused| panic!("{refused}"));
    let proof = loaded.config.otp.unwrap().proof;
    assert!(matches!(proof.key, ProofKey::Ed25519(_)), "{proof:?}");
    assert_eq!(loaded.warnings, []);
}

/// The providers of `sms` and of `email`, each a list as it is written.
fn providers(sms: &str, email: &str) -> (Vec<ProviderSpec>, Vec<ProviderSpec>) {
    let text =
        format!("{HEAD}{ROUTES}{TOKEN}sms: {{ providers: [{sms}] }}\nemail: {{ providers: [{email}] }}\n");
    let spec = loaded(&text).config.otp.unwrap();
    (spec.providers, spec.mailers)
}

#[test]
fn providers_are_asked_by_priority_and_only_if_enabled() {
    let (sms, email) = providers(
        "{ name: c, kind: console, priority: 100, enabled: false },
         { name: b, kind: vonage, api_key: k, api_secret: s, from: Example, priority: 2 },
         { name: d, kind: plivo, auth_id: i, auth_token: t, from: \"72345\" },
         { name: e, kind: messagebird, api_key: k, from: \"+14155550123\" },
         { name: a, kind: vonage, api_key: k, api_secret: s, from: Example, priority: 1 }",
        "{ name: n, kind: sendgrid, enabled: false }, { name: m, kind: resend, api_key: k, from: a@b.example }",
    );
    let names = |list: &[ProviderSpec]| list.iter().map(|spec| spec.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&sms), ["a", "b", "d", "e"]);
    assert_eq!(names(&email), ["m"]);
    assert_eq!(sms[0].timeout, Span::from_secs(6));
    let windows = [(60, 60), (1000, 3600), (10_000, 86_400)]
        .map(|(count, per_s)| (NonZeroU32::new(count).unwrap(), Span::from_secs(per_s)));
    assert_eq!(sms[0].limits.windows, windows);
}

#[test]
fn each_provider_is_called_at_its_own_address_unless_the_file_says_another() {
    let aws = "access_key_id: AK, secret_access_key: s";
    let check = |of_email: bool, account: &str, expected: &str| {
        let other = ", base_url: 'http://127.0.0.1:9'";
        for (more, expected) in [("", expected), (other, "http://127.0.0.1:9/")] {
            let account = format!("{{ name: a, {account}{more} }}");
            let (sms, email) = if of_email { providers("", &account) } else { providers(&account, "") };
            let url = match &sms.iter().chain(&email).next().unwrap().kind {
                Kind::Twilio(spec) => &spec.base_url,
                Kind::Vonage(spec) => &spec.base_url,
                Kind::AwsSns(spec) => &spec.base_url,
                Kind::MessageBird(spec) => &spec.base_url,
                Kind::Plivo(spec) => &spec.base_url,
                Kind::Sinch(spec) => &spec.base_url,
                Kind::SendGrid(spec) | Kind::Postmark(spec) | Kind::Resend(spec) => &spec.base_url,
                Kind::Mailgun(spec) => &spec.base_url,
                Kind::Ses(spec) => &spec.base_url,
                Kind::Http(_) | Kind::Console | Kind::Smtp(_) => panic!("{account}"),
            };
            assert_eq!(url.to_string(), expected, "{account}");
        }
    };
    check(false, "kind: twilio, account_sid: AC, auth_token: t, from: A", "https://api.twilio.com/");
    check(false, "kind: vonage, api_key: k, api_secret: s, from: A", "https://rest.nexmo.com/");
    check(false, &format!("kind: aws_sns, {aws}"), "https://sns.us-east-1.amazonaws.com/");
    check(
        false,
        &format!("kind: aws_sns, region: cn-north-1, {aws}"),
        "https://sns.cn-north-1.amazonaws.com.cn/",
    );
    check(false, "kind: messagebird, api_key: k, from: A", "https://rest.messagebird.com/");
    check(false, "kind: plivo, auth_id: i, auth_token: t, from: A", "https://api.plivo.com/");
    check(false, "kind: sinch, service_plan_id: p, api_token: t, from: A", "https://us.sms.api.sinch.com/");
    check(true, "kind: sendgrid, api_key: k, from: a@b.example", "https://api.sendgrid.com/");
    check(
        true,
        "kind: mailgun, api_key: k, domain: b.example, from: a@b.example",
        "https://api.mailgun.net/",
    );
    check(true, "kind: postmark, api_key: k, from: a@b.example", "https://api.postmarkapp.com/");
    check(
        true,
        &format!("kind: ses, region: eu-west-1, {aws}, from: a@b.example"),
        "https://email.eu-west-1.amazonaws.com/",
    );
    check(true, "kind: resend, api_key: k, from: a@b.example", "https://api.resend.com/");
}

#[test]
fn accounts_come_out_as_they_were_written() {
    let (sms, email) = providers(
        "{ name: t, kind: twilio, account_sid: AC1, auth_token: t1, api_key: SK1, api_secret: s1, messaging_service_sid: MG1,
           voice_from: '+14155550123', whatsapp: { from: '+14155550124', content_sids: { default: HX1, es: HX2 } },
           cost: { default: 0.0075, currency: EUR, countries: { DE: 0.07 }, daily_max: 50 } },
         { name: s, kind: aws_sns, access_key_id: AK, secret_access_key: s2, session_token: '', sender_id: My-App, limits: {} },
         { name: h, kind: http, channel: voice, timeout: 2s,
           request: { url: 'https://h.example/send', headers: { authorization: Bearer x }, json: { to: '{{ to }}', n: 1, list: [true, null] } },
           success: { status: [200], json: { /status: ok }, id: /id, error: /code }, errors: { '402': provider, bad: recipient },
           receipt: { secret: whsec_c2VjcmV0, id: /id, status: /s, states: { OK: delivered } } }",
        "{ name: m, kind: smtp, url: 'smtps://u:p@mail.example', from: 'Example <a@b.example>' }",
    );
    let Kind::Twilio(twilio) = &sms[0].kind else { panic!() };
    assert_eq!(twilio.sender, TwilioSender::MessagingService("MG1".into()));
    assert_eq!(twilio.api_key.as_ref().unwrap().1.expose_secret(), "s1");
    assert_eq!(twilio.voice_from.as_deref(), Some("+14155550123"));
    assert_eq!(&*twilio.whatsapp.as_ref().unwrap().content_sids["es"], "HX2");
    let cost = sms[0].cost.as_ref().unwrap();
    assert_eq!(
        (cost.default_micros, cost.by_country["DE"], cost.daily_max_micros),
        (7500, 70_000, Some(50_000_000))
    );
    assert_eq!(
        sms[0].to_string(),
        "t (twilio): at most 60 in any 1m, 1000 in any 1h, 10000 in any 1d; 0.0075 EUR a segment, at most 50 EUR a day"
    );
    let Kind::AwsSns(sns) = &sms[1].kind else { panic!() };
    assert!(sns.credentials.session_token.is_none() && sns.sender_id.as_deref() == Some("My-App"));
    assert_eq!(sms[1].to_string(), "s (aws_sns): without a limit of its own");
    let Kind::Http(http) = &sms[2].kind else { panic!() };
    assert_eq!((http.channel, http.method.as_str()), (Channel::Voice, "POST"));
    let HttpBody::Json(json) = &http.body else { panic!() };
    assert_eq!(*json, serde_json::json!({ "to": "{{ to }}", "n": 1, "list": [true, null] }));
    assert_eq!(http.success.errors.len(), 2);
    assert_eq!(&*http.receipt.as_ref().unwrap().status, "/s");
    let Kind::Smtp(smtp) = &email[0].kind else { panic!() };
    assert_eq!(smtp.from.name.as_deref(), Some("Example"));
}

#[test]
fn aws_credentials_come_from_their_usual_variables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let text = format!("{HEAD}{ROUTES}{TOKEN}sms: {{ providers: [{{ name: s, kind: aws_sns }}] }}\n");
    std::fs::write(&path, text).unwrap();
    let environment = Environment::empty()
        .with("AWS_ACCESS_KEY_ID", "AKIA")
        .with("AWS_SECRET_ACCESS_KEY", "hunter2")
        .with("AWS_SESSION_TOKEN", "token")
        .with("AWS_REGION", "eu-central-1");
    let loaded = load(&path, &environment).unwrap_or_else(|refused| panic!("{refused}"));
    let spec = loaded.config.otp.unwrap();
    let Kind::AwsSns(sns) = &spec.providers[0].kind else { panic!() };
    assert_eq!((&*sns.region, &*sns.credentials.access_key_id), ("eu-central-1", "AKIA"));
    assert_eq!(sns.credentials.session_token.as_ref().unwrap().expose_secret(), "token");
    assert!(!format!("{spec:?}").contains("hunter2"));
}

#[test]
fn doubtful_codes_are_warned_of() {
    let check = |rest: &str, expected: &[&str]| {
        let loaded = loaded(&format!("{HEAD}{ROUTES}{rest}"));
        let told: Vec<String> = loaded.warnings.iter().map(|warning| warning.brief()).collect();
        assert_eq!(told.len(), expected.len(), "{rest}: {told:?}");
        for expected in expected {
            assert!(told.iter().any(|told| told.contains(expected)), "{rest}: {told:?}");
        }
    };
    let otp = |more: &str| {
        format!("{CONSOLE}otp: {{ token: {{ secret: 0123456789abcdef0123456789abcdef }}, {more} }}\n")
    };
    let route = |route: &str, rest: String| format!("  - {{ name: more, {route} }}\n{rest}");
    let twilio = "sms: { providers: [{ name: t, kind: twilio, account_sid: AC, auth_token: t, from: A }] }\n";
    check(&otp(""), &[]);
    check(CONSOLE, &["routes[2].otp: no backend can check the proofs"]);
    check(
        &format!("{CONSOLE}otp: {{ token: {{ secret: '' }} }}\n"),
        &["otp.token.secret: no backend can check the proofs"],
    );
    check(
        &format!("{CONSOLE}otp: {{ token: {{ secret: 0123456789abcdef }} }}\n"),
        &["shorter than 32 bytes"],
    );
    check(&otp("code: { length: 5 }"), &["otp.code.length: a code of 5 digits is soon guessed"]);
    check(&otp("code: { ttl: 20m }"), &["otp.code.ttl: a code that is good for 20m is long in danger"]);
    check(&otp("limits: []"), &["nothing limits how many codes one phone is sent"]);
    let receipts = "match: { path: '/r/{provider}/{token}' }, otp: receipts";
    check(&route(receipts, otp("")), &[]);
    check(
        &route(receipts, format!("{twilio}{TOKEN}")),
        &["routes[5].otp: no provider is asked for receipts: nothing says where"],
    );
    let public =
        "otp: { token: { secret: 0123456789abcdef0123456789abcdef }, public_url: 'https://a.example' }\n";
    check(
        &format!("{twilio}{public}"),
        &["otp.public_url: no provider is asked for receipts: no route takes them"],
    );
    check(&route(receipts, format!("{twilio}{public}")), &[]);
    // `/r/v/` and a token of 55 characters come behind it.
    for (length, told) in [
        (40, &[][..]),
        (
            42,
            &[
                "otp.public_url: `v` is not asked for receipts: the URL for them would have 102 characters, and vonage takes 100; shorten it, the path of the receipts route or the provider's name, by 2 in all",
            ],
        ),
    ] {
        let vonage = "sms: { providers: [{ name: v, kind: vonage, api_key: k, api_secret: s, from: A }] }\n";
        let host = "a".repeat(length - "https://.example".len());
        let public = public.replace("https://a.example", &format!("https://{host}.example"));
        check(&route(receipts, format!("{vonage}{public}")), told);
        check(&route(receipts, format!("{twilio}{public}")), &[]);
    }
    check(
        &route("match: { method: GET, path: /keys }, otp: jwks", otp("")),
        &["routes[5].otp: there is no public key to publish"],
    );
    let both = twilio.replace("}] }", "}, { name: c, kind: console }] }");
    check(&format!("{both}{TOKEN}"), &["sms.providers[1]: the console is no fall back"]);
    check(&format!("{}{TOKEN}", both.replace("kind: console", "kind: console, enabled: false")), &[]);
}
