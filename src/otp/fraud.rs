//! Signs that codes are asked for by somebody who earns by their being sent, or who does not own the numbers.
//!
//! Owners give their codes back, so what counts is what does not come back. The figures of countries and addresses are those
//! that Authgear's public specification of its fraud protection gives; the others are ours.
//!
//! All is kept in memory alone, and bounded: 8192 addresses and as many prefixes at most, of which the 4096 used last
//! stay whatever comes; 64 numbers a prefix; one entry a country. That is some 20 MB at worst.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::decision::recent::Recent;
use crate::decision::rolling::Rolling;
use crate::decision::time::{Span, Timestamp};

const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);
const FIVE_MINUTES: Span = Span::from_secs(300);

/// Addresses, and prefixes, that are sure to be remembered.
const HALF: usize = 4096;
const NUMBERS_MAX: usize = 64;
/// More tell nothing new.
const COUNTRIES_MAX: usize = 8;

/// More numbers within an hour that differ in their last three digits, or in their last four, are a run.
const RUN_OF_THOUSAND: usize = 5;
const RUN_OF_TEN_THOUSAND: usize = 10;
/// More countries from one address within a day are too many.
const CLIENT_COUNTRIES: usize = 3;
/// Of fewer codes for a prefix within a day nothing is concluded.
const PREFIX_SENDS_MIN: u64 = 10;
/// As Vonage's velocity rule has it.
const PREFIX_PERCENT_MIN: u64 = 35;

/// Who asks for a code, and for which number.
#[derive(Clone, Copy)]
pub struct Signs<'a> {
    pub client: IpAddr,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<&'a str>,
    /// E.164, with its `+`.
    pub number: &'a str,
    /// The number without its last four digits.
    pub prefix: &'a str,
}

impl fmt::Debug for Signs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signs({:?})", self.country)
    }
}

/// What is suspicious about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// A few words for an event. Neither the number nor its prefix: with the last digits that are shown elsewhere that would
    /// be all of it.
    pub detail: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Neighbouring numbers one after the other.
    NumberRun,
    /// Numbers of many countries from one address.
    ClientCountries,
    /// Codes for numbers of this prefix do not come back.
    PrefixConversion,
    CountryHour,
    CountryDay,
    ClientHour,
    ClientDay,
}

impl FindingKind {
    pub const ALL: [FindingKind; 7] = [
        FindingKind::NumberRun,
        FindingKind::ClientCountries,
        FindingKind::PrefixConversion,
        FindingKind::CountryHour,
        FindingKind::CountryDay,
        FindingKind::ClientHour,
        FindingKind::ClientDay,
    ];

    /// As metrics and events name it.
    pub fn word(self) -> &'static str {
        match self {
            FindingKind::NumberRun => "number_run",
            FindingKind::ClientCountries => "client_countries",
            FindingKind::PrefixConversion => "prefix_conversion",
            FindingKind::CountryHour => "country_hour",
            FindingKind::CountryDay => "country_day",
            FindingKind::ClientHour => "client_hour",
            FindingKind::ClientDay => "client_day",
        }
    }
}

/// What was asked for of late, and what came back. Lives as long as the process.
pub struct Fraud(Mutex<Tables>);

struct Tables {
    clients: Recent<IpAddr, Client>,
    prefixes: Recent<Box<str>, Prefix>,
    countries: BTreeMap<[u8; 2], Country>,
}

struct Client {
    codes: Codes,
    /// With codes that did not come back: how many, and when the last one was sent.
    countries: SmallVec<[([u8; 2], u16, Timestamp); 4]>,
}

struct Prefix {
    day: Rolling<Pair, 25>,
    /// Their last four digits, and when a code was last sent that did not come back.
    numbers: Vec<(u16, Timestamp)>,
}

struct Country {
    codes: Codes,
    /// Codes that came back, by day: today and the fourteen days before.
    verified: Rolling<u64, 15>,
}

/// Codes of the last hour and of the last 24 hours. The oldest five minutes, or hour, count whole.
struct Codes {
    hour: Rolling<Pair, 13>,
    day: Rolling<Pair, 25>,
}

#[derive(Clone, Copy, Default)]
struct Pair {
    sent: u32,
    verified: u32,
}

impl Fraud {
    pub fn new() -> Fraud {
        Fraud(Mutex::new(Tables {
            clients: Recent::new(HALF),
            prefixes: Recent::new(HALF),
            countries: BTreeMap::new(),
        }))
    }

    /// What would be suspicious about one more code. Notes nothing: whoever sends it then says so by [`Fraud::sent`], at
    /// once, or others that ask meanwhile are judged without it.
    pub fn asked(&self, signs: &Signs<'_>, now: Timestamp) -> SmallVec<[Finding; 2]> {
        let mut findings = SmallVec::new();
        let mut tables = self.0.lock();
        if let Some(prefix) = tables.prefixes.get_mut(signs.prefix) {
            findings.extend(prefix.run(signs, now));
            findings.extend(prefix.conversion(now));
        }
        let letters = letters(signs.country);
        if let Some(client) = tables.clients.get_mut(&network(signs.client)) {
            findings.extend(letters.and_then(|country| client.too_many_countries(country, now)));
            findings.extend(client.too_many(now));
        }
        if let Some((letters, country)) = letters.and_then(|key| tables.countries.get_key_value(&key)) {
            findings.extend(country.too_many(&String::from_utf8_lossy(letters), now));
        }
        findings
    }

    /// A code is being sent: once for each code, however often it is sent again.
    pub fn sent(&self, signs: &Signs<'_>, now: Timestamp) {
        let mut tables = self.0.lock();
        let country = letters(signs.country);
        let client = tables.clients.entry(network(signs.client), Client::new);
        client.codes.note(now, |pair| pair.sent = pair.sent.saturating_add(1));
        if let Some(country) = country {
            client.sent_to(country, now);
        }
        if let Some(number) = last_four(signs) {
            tables.prefixes.entry(signs.prefix.into(), Prefix::new).sent(number, now);
        }
        if let Some(country) = country {
            let country = tables.countries.entry(country).or_insert_with(Country::new);
            country.codes.note(now, |pair| pair.sent = pair.sent.saturating_add(1));
        }
    }

    /// A code came back right. `signs`: those of who gave it back.
    pub fn verified(&self, signs: &Signs<'_>, now: Timestamp) {
        let verified = |pair: &mut Pair| pair.verified = pair.verified.saturating_add(1);
        let mut tables = self.0.lock();
        let country = letters(signs.country);
        if let Some(client) = tables.clients.get_mut(&network(signs.client)) {
            client.codes.note(now, verified);
            client.came_back_from(country);
        }
        if let (Some(prefix), Some(number)) = (tables.prefixes.get_mut(signs.prefix), last_four(signs)) {
            prefix.numbers.retain(|(known, _)| *known != number);
            prefix.day.at(now).into_iter().for_each(verified);
        }
        if let Some(country) = country {
            let country = tables.countries.entry(country).or_insert_with(Country::new);
            country.codes.note(now, verified);
            country.verified.at(now).into_iter().for_each(|count| *count += 1);
        }
    }
}

impl Default for Fraud {
    fn default() -> Fraud {
        Fraud::new()
    }
}

impl fmt::Debug for Fraud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fraud")
    }
}

impl Client {
    fn new() -> Client {
        Client { codes: Codes::new(), countries: SmallVec::new() }
    }

    fn sent_to(&mut self, country: [u8; 2], now: Timestamp) {
        self.countries.retain(|(_, _, at)| now < at.plus(DAY));
        if let Some((_, count, at)) = self.countries.iter_mut().find(|(known, _, _)| *known == country) {
            (*count, *at) = (count.saturating_add(1), now);
        } else if self.countries.len() < COUNTRIES_MAX {
            self.countries.push((country, 1, now));
        }
    }

    fn came_back_from(&mut self, country: Option<[u8; 2]>) {
        for (known, count, _) in &mut self.countries {
            *count -= u16::from(Some(*known) == country && *count > 0);
        }
        self.countries.retain(|(_, count, _)| *count > 0);
    }

    fn too_many_countries(&self, country: [u8; 2], now: Timestamp) -> Option<Finding> {
        let others = self.countries.iter().filter(|(known, _, at)| *known != country && now < at.plus(DAY));
        let count = others.count() + 1;
        let detail =
            || format!("codes for {count} countries from one address within a day did not come back");
        (count > CLIENT_COUNTRIES).then(|| finding(FindingKind::ClientCountries, detail()))
    }

    fn too_many(&self, now: Timestamp) -> SmallVec<[Finding; 2]> {
        let (hour, day) = (self.codes.last_hour(now), self.codes.last_day(now));
        let detail =
            |count: u64, time: &str| format!("{count} codes within {time} for one address did not come back");
        let day_max = (10 * THIRTIETHS).max(fifth(day.verified));
        let hour_max = (5 * THIRTIETHS).max(fifth(day.verified) / 6);
        let hour =
            more_than(hour_max, hour).map(|count| finding(FindingKind::ClientHour, detail(count, "an hour")));
        let day =
            more_than(day_max, day).map(|count| finding(FindingKind::ClientDay, detail(count, "a day")));
        hour.into_iter().chain(day).collect()
    }
}

impl Prefix {
    fn new() -> Prefix {
        Prefix { day: Rolling::new(HOUR), numbers: Vec::new() }
    }

    fn sent(&mut self, number: u16, now: Timestamp) {
        self.day.at(now).into_iter().for_each(|pair| pair.sent = pair.sent.saturating_add(1));
        self.numbers.retain(|(known, at)| *known != number && now < at.plus(HOUR));
        if self.numbers.len() >= NUMBERS_MAX {
            self.numbers.remove(0);
        }
        self.numbers.push((number, now));
    }

    fn run(&self, signs: &Signs<'_>, now: Timestamp) -> Option<Finding> {
        let number = last_four(signs)?;
        let others = || self.numbers.iter().filter(|(known, at)| *known != number && now < at.plus(HOUR));
        let of_thousand = others().filter(|(known, _)| known / 1000 == number / 1000).count() + 1;
        let of_ten_thousand = others().count() + 1;
        let (count, block) = match () {
            () if of_thousand > RUN_OF_THOUSAND => (of_thousand, 1000),
            () if of_ten_thousand > RUN_OF_TEN_THOUSAND => (of_ten_thousand, 10_000),
            () => return None,
        };
        Some(finding(
            FindingKind::NumberRun,
            format!("{count} numbers of one block of {block} within an hour"),
        ))
    }

    fn conversion(&self, now: Timestamp) -> Option<Finding> {
        let Pair { sent, verified } = sum(&self.day, now);
        let (sent, verified) = (u64::from(sent), u64::from(verified));
        let detail = || format!("{verified} of {sent} codes for one prefix came back within a day");
        (sent >= PREFIX_SENDS_MIN && verified * 100 < sent * PREFIX_PERCENT_MIN)
            .then(|| finding(FindingKind::PrefixConversion, detail()))
    }
}

impl Country {
    fn new() -> Country {
        Country { codes: Codes::new(), verified: Rolling::new(DAY) }
    }

    fn too_many(&self, letters: &str, now: Timestamp) -> SmallVec<[Finding; 2]> {
        let (hour, day) = (self.codes.last_hour(now), self.codes.last_day(now));
        let best_day = self.verified.recent(now).map(|(_, count)| count).max().unwrap_or(0);
        let best_day = u32::try_from(best_day).unwrap_or(u32::MAX);
        let day_max = (20 * THIRTIETHS).max(fifth(best_day)).max(fifth(day.verified));
        let hour_max = (3 * THIRTIETHS).max(day_max / 6).max(fifth(hour.verified));
        let detail =
            |count: u64, time: &str| format!("{count} codes for {letters} within {time} did not come back");
        let hour = more_than(hour_max, hour)
            .map(|count| finding(FindingKind::CountryHour, detail(count, "an hour")));
        let day =
            more_than(day_max, day).map(|count| finding(FindingKind::CountryDay, detail(count, "a day")));
        hour.into_iter().chain(day).collect()
    }
}

impl Codes {
    fn new() -> Codes {
        Codes { hour: Rolling::new(FIVE_MINUTES), day: Rolling::new(HOUR) }
    }

    fn note(&mut self, now: Timestamp, note: impl Fn(&mut Pair)) {
        self.hour.at(now).into_iter().chain(self.day.at(now)).for_each(note);
    }

    fn last_hour(&self, now: Timestamp) -> Pair {
        sum(&self.hour, now)
    }

    fn last_day(&self, now: Timestamp) -> Pair {
        sum(&self.day, now)
    }
}

/// Thresholds are fifths and sixths of fifths: in thirtieths they are whole.
const THIRTIETHS: u64 = 30;

/// A fifth of these, in thirtieths.
fn fifth(count: u32) -> u64 {
    u64::from(count) * THIRTIETHS / 5
}

/// How many would not have come back with one more, if that is more than so many thirtieths.
fn more_than(max: u64, pair: Pair) -> Option<u64> {
    let count = u64::from(pair.sent.saturating_sub(pair.verified)) + 1;
    (count * THIRTIETHS > max).then_some(count)
}

fn sum<const N: usize>(pairs: &Rolling<Pair, N>, now: Timestamp) -> Pair {
    pairs.recent(now).fold(Pair::default(), |sum, (_, pair)| Pair {
        sent: sum.sent.saturating_add(pair.sent),
        verified: sum.verified.saturating_add(pair.verified),
    })
}

fn finding(kind: FindingKind, detail: String) -> Finding {
    Finding { kind, detail: detail.into() }
}

fn letters(country: Option<&str>) -> Option<[u8; 2]> {
    let letters: [u8; 2] = country?.as_bytes().try_into().ok()?;
    letters.iter().all(u8::is_ascii_uppercase).then_some(letters)
}

/// What one site commonly has.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

fn last_four(signs: &Signs<'_>) -> Option<u16> {
    let digits = signs.number.strip_prefix(signs.prefix).filter(|_| !signs.prefix.is_empty())?;
    (digits.len() == 4).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests;
