//! What codes are, who is sent them, and what proves that one was right.

use secrecy::{ExposeSecret as _, SecretString};

use super::super::sms::{self, Accounts};
use super::{proof, texts};
use crate::config::file::File;
use crate::config::file::otp::{self as written, Otp};
use crate::config::file::store::StoreKind;
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::value::otp::Country;
use crate::decision::otp::Operation;
use crate::decision::time::Span;
use crate::http_client::HttpUrl;
use crate::otp::spec::{CodeRules, Countries, Exposure, OtpSpec, receipt_url_len};
use crate::sms::spec::Kind;

/// Which routes have to do with codes: the first of each kind.
struct Uses<'f> {
    any: Option<&'f At>,
    send: Option<&'f At>,
    verify: Option<&'f At>,
    /// With its path.
    receipts: Option<(&'f At, &'f str)>,
    jwks: Option<&'f At>,
}

/// What all routes of codes share, if there is one; `None` after a mistake.
pub(crate) fn spec(file: &File, findings: &mut Findings) -> Option<Option<OtpSpec>> {
    let uses = uses(file, findings);
    let accounts = sms::accounts(file, findings);
    let otp = file.otp.as_ref()?;
    let secret = secret(file, otp, &uses, findings);
    let code = code(otp, &uses, findings);
    let countries = otp.countries.as_ref().and_then(|countries| self::countries(countries, findings));
    let proof = otp.token.as_ref().and_then(|token| proof::proof(token, uses.verify, findings));
    if let (Some(jwks), Some(proof)) = (uses.jwks, &proof) {
        proof::warn_of_nothing_to_publish(jwks, proof, findings);
    }
    let public_url = public_url(otp, &uses, accounts.as_ref(), findings);
    let templates = code.and_then(|code| texts::templates(otp, code, findings));
    let exposure = exposure(otp, accounts.as_ref(), findings);
    if let Some(send) = uses.send {
        refuse_nobody(send, accounts.as_ref(), findings);
        warn_of_no_limit(send, otp, findings);
    }
    let Accounts { providers, mailers } = accounts?;
    let spec = OtpSpec {
        secret: secret?,
        code: code?,
        default_region: otp.default_region?.0,
        countries: countries?,
        fraud: otp.fraud.as_ref()?.mode?,
        proof: proof?,
        public_url: public_url?,
        receipts_path: uses.receipts.map(|(_, path)| path.into()),
        templates: templates?,
        exposure: exposure?,
        providers,
        mailers,
    };
    Some(uses.any.map(|_| spec))
}

fn uses<'f>(file: &'f File, findings: &mut Findings) -> Uses<'f> {
    let mut uses = Uses { any: None, send: None, verify: None, receipts: None, jwks: None };
    let routes = file.routes.as_ref().map(|routes| routes.0.as_slice()).unwrap_or_default();
    for route in routes {
        let Optional::Given(Located { value: operation, at, .. }) = &route.value.otp else { continue };
        uses.any.get_or_insert(at);
        let path = route.value.matching.as_ref().and_then(|matching| matching.path.as_ref());
        let second = match operation {
            Operation::Send => {
                uses.send.get_or_insert(at);
                None
            }
            Operation::Verify => {
                uses.verify.get_or_insert(at);
                None
            }
            Operation::Status => None,
            Operation::Receipts => {
                let first = uses.receipts;
                uses.receipts = first.or(path.map(|path| (at, &*path.value.text)));
                first.map(|(first, _)| first)
            }
            Operation::Jwks => {
                let first = uses.jwks;
                uses.jwks = first.or(Some(at));
                first
            }
        };
        if let Some(first) = second {
            let wrong = Wrong::new(format!("there is one route with `otp: {}` at most", operation.word()));
            findings
                .problem(at, wrong.write(format!("it is on line {} already: remove one", first.place.line)));
        }
    }
    uses
}

/// An empty one counts as none: then one is made and kept, unless other gateways would have to know it.
fn secret(file: &File, otp: &Otp, uses: &Uses<'_>, findings: &mut Findings) -> Option<Option<SecretString>> {
    const BYTES_MIN: usize = 16;
    let given = match &otp.secret {
        Optional::Faulty => return None,
        Optional::Absent => None,
        Optional::Given(secret) if secret.value.0.expose_secret().is_empty() => None,
        Optional::Given(secret) => Some(secret),
    };
    if let Some(secret) = given {
        if secret.value.0.expose_secret().len() < BYTES_MIN {
            let wrong = Wrong::new(format!("the secret is shorter than {BYTES_MIN} bytes"));
            findings.problem(&secret.at, wrong.write("make one with `openssl rand -hex 32`"));
            return None;
        }
        return Some(Some(secret.value.0.clone()));
    }
    let shared = match file.store.as_ref()?.kind.as_ref()?.value {
        StoreKind::Memory => false,
        StoreKind::Redis | StoreKind::Upstash => true,
    };
    match uses.any {
        Some(route) if shared => {
            let at = otp.secret.given().map_or(route, |secret| &secret.at);
            let wrong =
                Wrong::new("gateways that share a store make codes under one secret, and there is none");
            let fix = "set otp.secret to the same on all of them: make one with `openssl rand -hex 32`";
            findings.problem(at, wrong.write(fix));
            None
        }
        Some(_) | None => Some(None),
    }
}

fn code(otp: &Otp, uses: &Uses<'_>, findings: &mut Findings) -> Option<CodeRules> {
    const TTL_MIN: Span = Span::from_secs(30);
    const TTL_ADVISED: Span = Span::from_secs(600);
    const TTL_MAX: Span = Span::from_secs(3600);
    const LENGTH_ADVISED: u32 = 6;
    let written::Code { length, ttl, attempts } = otp.code.as_ref()?;
    let (length, ttl) = (length.as_ref(), ttl.as_ref());
    if let Some(length) = length.filter(|length| length.value.0 < LENGTH_ADVISED && uses.any.is_some()) {
        let wrong = Wrong::new(format!("a code of {} digits is soon guessed", length.value.0));
        findings.warning(&length.at, wrong.write("NIST SP 800-63B wants six at least"));
    }
    let ttl = ttl?;
    if !(TTL_MIN..=TTL_MAX).contains(&ttl.value) {
        let wrong = Wrong::new(format!("a code cannot be good for {}", ttl.value));
        findings.problem(&ttl.at, wrong.write(format!("write {TTL_MIN} to {TTL_MAX}")));
        return None;
    }
    if ttl.value > TTL_ADVISED && uses.any.is_some() {
        let wrong = Wrong::new(format!("a code that is good for {} is long in danger", ttl.value));
        findings.warning(&ttl.at, wrong.write("NIST SP 800-63B allows 10m at most"));
    }
    Some(CodeRules {
        length: u8::try_from(length?.value.0).ok()?,
        ttl: ttl.value,
        attempts: u8::try_from((*attempts)?.0).ok()?,
        cooldown: otp.cooldown.as_ref()?.value.0,
    })
}

fn countries(countries: &written::Countries, findings: &mut Findings) -> Option<Countries> {
    let (allow, deny) = (countries.allow.as_ref()?, countries.deny.as_ref()?);
    super::super::refuse_twice("the country", allow.iter(), findings);
    super::super::refuse_twice("the country", deny.iter(), findings);
    let allows = |country: &&Located<Country>| allow.iter().any(|allowed| allowed.value == country.value);
    if let Some(both) = deny.iter().find(allows) {
        let wrong = Wrong::new(format!("{} is allowed and denied", both.told()));
        findings.problem(&both.at, wrong.write("remove it from one of the two"));
        return None;
    }
    let regions = |list: &[Located<Country>]| list.iter().map(|country| country.value.0).collect();
    Some(Countries { allow: regions(allow), deny: regions(deny) })
}

fn public_url(
    otp: &Otp,
    uses: &Uses<'_>,
    accounts: Option<&Accounts>,
    findings: &mut Findings,
) -> Option<Option<HttpUrl>> {
    let url = match &otp.public_url {
        Optional::Faulty => return None,
        Optional::Absent => None,
        Optional::Given(url) => url.value.0.clone(),
    };
    let reports = accounts.is_some_and(Accounts::report);
    match (&url, uses.receipts) {
        (None, Some((route, _))) if reports => {
            let at = otp.public_url.given().map_or(route, |url| &url.at);
            let wrong =
                Wrong::new("no provider is asked for receipts: nothing says where the world reaches us");
            findings.warning(at, wrong.write("set otp.public_url"));
        }
        (Some(_), None) if reports && uses.send.is_some() => {
            if let Optional::Given(written) = &otp.public_url {
                let wrong = Wrong::new("no provider is asked for receipts: no route takes them");
                let fix = "add a route with `match: { path: \"/otp/receipts/{provider}/{token}\" }` and `otp: receipts`";
                findings.warning(&written.at, wrong.write(fix));
            }
        }
        (Some(url), Some((_, path))) => {
            if let (Optional::Given(written), Some(accounts)) = (&otp.public_url, accounts) {
                warn_of_long_receipt_urls(&written.at, url, path, accounts, findings);
            }
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    Some(url)
}

/// Where a URL is too long for a provider, it is left out of the message, and nobody would see why no receipts come.
fn warn_of_long_receipt_urls(
    at: &At,
    url: &HttpUrl,
    path: &str,
    accounts: &Accounts,
    findings: &mut Findings,
) {
    for provider in accounts.providers.iter().chain(&accounts.mailers) {
        let (name, length) = (&provider.name, receipt_url_len(url, path, &provider.name));
        let Some(max) = provider.kind.receipt_url_max().filter(|max| length > *max) else { continue };
        let kind = provider.kind.word();
        let wrong = Wrong::new(format!(
            "`{name}` is not asked for receipts: the URL for them would have {length} characters, and {kind} takes {max}"
        ));
        let over = length - max;
        findings.warning(
            at,
            wrong.write(format!(
                "shorten it, the path of the receipts route or the provider's name, by {over} in all"
            )),
        );
    }
}

fn exposure(otp: &Otp, accounts: Option<&Accounts>, findings: &mut Findings) -> Option<Exposure> {
    let expose = otp.expose_code.as_ref()?;
    if !expose.value {
        return Some(Exposure::Nobody);
    }
    let Accounts { providers, mailers } = accounts?;
    let console_alone = mailers.is_empty()
        && providers.len() == 1
        && providers.iter().all(|provider| matches!(provider.kind, Kind::Console));
    if !console_alone {
        let wrong = Wrong::new("whoever asks for a code would be told it, whosever phone it goes to");
        let fix = "remove it: this is for trying things out, with a console provider alone";
        findings.problem(&expose.at, wrong.write(fix));
        return None;
    }
    Some(Exposure::Sender)
}

fn refuse_nobody(send: &At, accounts: Option<&Accounts>, findings: &mut Findings) {
    if accounts.is_some_and(|accounts| accounts.providers.is_empty() && accounts.mailers.is_empty())
        // What could not be read may have been the one.
        && findings.count() == 0
    {
        let wrong = Wrong::new("nobody sends the codes: no provider is enabled");
        let fix = "add `sms: { providers: [{ name: console, kind: console }] }` to try it";
        findings.problem(send, wrong.write(fix));
    }
}

fn warn_of_no_limit(send: &At, otp: &Otp, findings: &mut Findings) {
    if otp.limits.as_ref().is_some_and(Vec::is_empty) {
        let wrong = Wrong::new("nothing limits how many codes one phone is sent: `otp.limits` is empty");
        findings.warning(send, wrong.write("remove `otp.limits: []`"));
    }
}
