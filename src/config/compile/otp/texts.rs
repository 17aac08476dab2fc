//! What messages say: the operator's texts, or one of ours.

use std::collections::BTreeMap;

use crate::config::file::otp::Otp;
use crate::config::place::Located;
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Named, Optional};
use crate::config::value::otp::{Locale, MessageText};
use crate::otp::spec::CodeRules;
use crate::sms::template::{TemplateRules, Templates, Wrong as Unfit};

/// `None` after a mistake.
pub(super) fn templates(otp: &Otp, code: CodeRules, findings: &mut Findings) -> Option<Templates> {
    let brand = match &otp.brand {
        Optional::Faulty => return None,
        Optional::Absent => None,
        Optional::Given(brand) => Some(&*brand.value.0),
    };
    let rules = TemplateRules {
        brand: brand.unwrap_or_default().into(),
        webotp_domain: otp.webotp_domain.as_ref()?.value.0.clone(),
        code_length: code.length,
        ttl: code.ttl,
        segments_max: u8::try_from(otp.segments_max.as_ref()?.value.0).ok()?,
    };
    match &otp.templates {
        Optional::Faulty => None,
        Optional::Absent => own(otp, brand, &rules, findings),
        Optional::Given(written) => {
            if brand.is_none() {
                refuse_brand(&written.value, findings)?;
            }
            given(written, &rules, findings)
        }
    }
}

fn given(
    written: &Located<Named<Locale, Located<MessageText>>>,
    rules: &TemplateRules,
    findings: &mut Findings,
) -> Option<Templates> {
    let texts = || written.value.entries.iter().filter_map(|(locale, text)| Some((locale, text.as_ref()?)));
    let sources: BTreeMap<Box<str>, Box<str>> =
        texts().map(|(locale, text)| (locale.value.0.clone(), text.value.0.clone())).collect();
    let is_whole = written.value.complete && sources.len() == written.value.entries.len();
    if sources.is_empty() {
        if is_whole {
            let wrong = Wrong::new("there is no text");
            findings.problem(&written.at, wrong.write("add `en: …`, or remove `templates`"));
        }
        return None;
    }
    let faults = match Templates::compile(&sources, rules) {
        Ok(templates) => return is_whole.then_some(templates),
        Err(faults) => faults,
    };
    for fault in faults {
        let text = texts().find(|(locale, _)| locale.value.0 == fault.locale);
        findings.problem(text.map_or(&written.at, |(_, text)| &text.at), told(&fault.wrong));
    }
    None
}

/// A text of ours can only be too long, for the brand or the domain in it.
fn own(otp: &Otp, brand: Option<&str>, rules: &TemplateRules, findings: &mut Findings) -> Option<Templates> {
    let text = match brand {
        Some(_) => {
            "{{ code }} is your {{ brand }} code. It expires in {{ minutes }} minutes. Do not share it."
        }
        None => "{{ code }} is your code. It expires in {{ minutes }} minutes. Do not share it.",
    };
    let sources = BTreeMap::from([("en".into(), text.into())]);
    let at = otp.brand.given().map(|brand| &brand.at).or(otp.webotp_domain.as_ref().map(|web| &web.at))?;
    match Templates::compile(&sources, rules) {
        Ok(templates) => Some(templates),
        Err(faults) => {
            faults.iter().for_each(|fault| findings.problem(at, told(&fault.wrong)));
            None
        }
    }
}

fn told(unfit: &Unfit) -> Wrong {
    let wrong = Wrong::new(unfit.to_string());
    match matches!(unfit, Unfit::Long { .. }) {
        true => wrong.write("shorten it, or allow more in otp.segments_max"),
        false => wrong,
    }
}

fn refuse_brand(texts: &Named<Locale, Located<MessageText>>, findings: &mut Findings) -> Option<()> {
    let mut texts = texts.entries.iter().filter_map(|(_, text)| text.as_ref());
    let Some(text) = texts.find(|text| text.value.0.contains("brand")) else { return Some(()) };
    let wrong = Wrong::new("the text names `brand`, and there is none");
    findings.problem(&text.at, wrong.write("set otp.brand, or leave it out of the text"));
    None
}
