//! Accounts at those who send messages: which of them are enabled, and whether they have what they need.

mod account;
mod http;
mod mail;
mod phone;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use account::Account;

use crate::config::file::File;
use crate::config::file::limit::Label;
use crate::config::file::sms::{self as written, Common, EmailProvider, SmsProvider};
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{Named, Optional};
use crate::config::value::text::Name;
use crate::config::value::time::Rate;
use crate::decision::limit::Windows;
use crate::decision::time::Span;
use crate::http_client::HttpClient;
use crate::sms::sender;
use crate::sms::spec::{Cost, Kind, Pace, ProviderSpec};

/// Those that are enabled, in the order in which they are asked.
pub(super) struct Accounts {
    pub(super) providers: Vec<ProviderSpec>,
    pub(super) mailers: Vec<ProviderSpec>,
}

impl Accounts {
    /// Whether one of them may report what became of a message.
    pub(super) fn report(&self) -> bool {
        self.providers.iter().chain(&self.mailers).any(|provider| match &provider.kind {
            Kind::Console | Kind::AwsSns(_) | Kind::Smtp(_) => false,
            Kind::Http(http) => http.receipt.is_some(),
            Kind::Twilio(_)
            | Kind::Vonage(_)
            | Kind::MessageBird(_)
            | Kind::Plivo(_)
            | Kind::Sinch(_)
            | Kind::SendGrid(_)
            | Kind::Mailgun(_)
            | Kind::Postmark(_)
            | Kind::Ses(_)
            | Kind::Resend(_) => true,
        })
    }
}

/// `None` if an account that is enabled has a mistake. Of one that is not, only what it says is checked, and not what it lacks.
pub(super) fn accounts(file: &File, findings: &mut Findings) -> Option<Accounts> {
    const ENABLED_MAX: usize = 16;
    let sms = file.sms.as_ref().and_then(|sms| sms.providers.as_ref());
    let email = file.email.as_ref().and_then(|email| email.providers.as_ref());
    let of_sms = sms.into_iter().flatten().map(|provider| (&provider.at, provider.value.common()));
    let of_email = email.into_iter().flatten().map(|provider| (&provider.at, provider.value.common()));
    let all: Vec<(&At, Common<'_>)> = of_sms.chain(of_email).collect();
    let names: Vec<&Located<Name>> = all.iter().filter_map(|(_, common)| common.name).collect();
    super::refuse_twice("the provider", names.into_iter(), findings);
    let mut enabled = all.iter().filter(|(_, common)| common.enabled == Some(true));
    if let Some((at, _)) = enabled.nth(ENABLED_MAX) {
        let wrong = Wrong::new(format!("more than {ENABLED_MAX} providers are enabled"));
        findings.problem(at, wrong.write("disable those that are never asked"));
    }
    if let Some(providers) = sms {
        warn_of_idle_console(providers, findings);
    }
    let providers = sms.and_then(|list| specs(list, SmsProvider::common, phone::kind, findings));
    let mailers = email.and_then(|list| specs(list, EmailProvider::common, mail::kind, findings));
    Some(Accounts { providers: providers?, mailers: mailers? })
}

/// It would only be asked after all others failed, and print codes that others were meant to carry.
fn warn_of_idle_console(providers: &[Located<SmsProvider>], findings: &mut Findings) {
    let enabled = || providers.iter().filter(|provider| provider.value.common().enabled == Some(true));
    let is_console = |provider: &&Located<SmsProvider>| matches!(provider.value, SmsProvider::Console(_));
    if let Some(console) = enabled().find(is_console)
        && enabled().any(|provider| !is_console(&provider))
    {
        let wrong =
            Wrong::new("the console is no fall back: nobody asks it where another provider is enabled");
        findings.warning(&console.at, wrong.write("remove it, or write `enabled: false`"));
    }
}

fn specs<P>(
    list: &[Located<P>],
    common: fn(&P) -> Common<'_>,
    kind: fn(&P, &Account<'_>, &mut Findings) -> Option<Kind>,
    findings: &mut Findings,
) -> Option<Vec<ProviderSpec>> {
    // Nothing is called: adapters are only made to see whether they can be.
    let client = Arc::new(HttpClient::new(Duration::ZERO));
    let mut specs = Vec::new();
    for provider in list {
        let common = common(&provider.value);
        match common.enabled {
            Some(false) => {}
            Some(true) => {
                let account = Account::new(&provider.at, &common);
                let kind = kind(&provider.value, &account, findings);
                let spec = spec(&common, kind, findings);
                if let Some(Err(fault)) = spec.as_ref().map(|spec| sender(spec, &client)) {
                    findings.problem(&provider.at, Wrong::new(fault.to_string()));
                }
                specs.push(spec);
            }
            None => specs.push(None),
        }
    }
    let mut specs = specs.into_iter().collect::<Option<Vec<ProviderSpec>>>()?;
    specs.sort_by_key(|spec| spec.priority);
    Some(specs)
}

fn spec(common: &Common<'_>, kind: Option<Kind>, findings: &mut Findings) -> Option<ProviderSpec> {
    let timeout = common.timeout.and_then(|timeout| self::timeout(timeout, findings));
    let limits = common.limits.and_then(|limits| pace(limits, findings));
    let cost = match common.cost {
        Optional::Absent => Some(None),
        Optional::Faulty => None,
        Optional::Given(cost) => self::cost(cost).map(Some),
    };
    Some(ProviderSpec {
        name: common.name?.value.0.clone(),
        priority: common.priority?,
        timeout: timeout?,
        limits: limits?,
        cost: cost?,
        kind: kind?,
    })
}

fn timeout(timeout: &Located<Span>, findings: &mut Findings) -> Option<Span> {
    const MIN: Span = Span::from_millis(100);
    const MAX: Span = Span::from_secs(30);
    if (MIN..=MAX).contains(&timeout.value) {
        return Some(timeout.value);
    }
    let wrong = Wrong::new(format!("an attempt cannot take {}", timeout.value));
    findings.problem(&timeout.at, wrong.write(format!("write {MIN} to {MAX}")));
    None
}

fn pace(limits: &Located<Named<Label, Located<Rate>>>, findings: &mut Findings) -> Option<Pace> {
    let rates: Option<Vec<&Located<Rate>>> =
        limits.value.entries.iter().map(|(_, rate)| rate.as_ref()).collect();
    let rates = rates.filter(|_| limits.value.complete)?;
    if rates.len() > Windows::COUNT_MAX {
        let wrong = Wrong::new(format!("a provider has at most {} limits", Windows::COUNT_MAX));
        findings.problem(&limits.at, wrong.write("remove some"));
        return None;
    }
    if let Some(long) = rates.iter().find(|rate| rate.value.per > Windows::SPAN_MAX) {
        let wrong = Wrong::new(format!("the limit reaches back further than {}", Windows::SPAN_MAX));
        findings.problem(&long.at, wrong.write("write a month at most"));
        return None;
    }
    Some(Pace { windows: rates.into_iter().map(|rate| (rate.value.count, rate.value.per)).collect() })
}

fn cost(cost: &written::Cost) -> Option<Cost> {
    let countries = cost.countries.as_ref().filter(|countries| countries.complete)?;
    let by_country: Option<BTreeMap<Box<str>, u64>> = countries
        .entries
        .iter()
        .map(|(country, amount)| Some((country.value.0.as_ref().into(), (*amount)?.micros)))
        .collect();
    let daily_max_micros = match &cost.daily_max {
        Optional::Absent => None,
        Optional::Faulty => return None,
        Optional::Given(most) => Some(most.micros),
    };
    Some(Cost {
        default_micros: cost.default?.micros,
        by_country: by_country?,
        currency: cost.currency.as_ref()?.0.clone(),
        daily_max_micros,
    })
}
