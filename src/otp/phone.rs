//! Phone numbers that a code may go to.

use std::fmt;

use phonenumber::country::Id as Region;
use phonenumber::metadata::DATABASE;
use phonenumber::{Mode, PhoneNumber, Type};

use super::spec::Countries;

/// A number in E.164 that can get a message. Debug and Display show its last digits alone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Phone {
    e164: Box<str>,
    region: Option<Region>,
}

/// Why a number gets no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PhoneFault {
    /// It is none.
    Invalid,
    /// Codes are not sent to its country.
    Country,
    /// Premium, shared-cost, toll-free, short: nobody's handset.
    Kind,
}

impl Phone {
    /// Reads a number with `+` and country code, or one of `region`.
    pub(super) fn parse(text: &str, region: Region, countries: &Countries) -> Result<Phone, PhoneFault> {
        let number = read(text, region).ok_or(PhoneFault::Invalid)?;
        let e164 = number.format().mode(Mode::E164).to_string();
        // The parser lets some numbers pass that no plan has, and reads others differently the second time.
        let again = phonenumber::parse(None, &e164).ok().filter(|again| is_e164(&e164) && again.is_valid());
        let again = again.filter(|again| again.format().mode(Mode::E164).to_string() == e164);
        let again = again.ok_or(PhoneFault::Invalid)?;
        match again.number_type(&DATABASE) {
            Type::Unknown => return Err(PhoneFault::Invalid),
            Type::FixedLine
            | Type::Mobile
            | Type::FixedLineOrMobile
            | Type::PersonalNumber
            | Type::Voip
            | Type::StandardRate => {}
            Type::TollFree
            | Type::PremiumRate
            | Type::SharedCost
            | Type::Pager
            | Type::Uan
            | Type::Emergency
            | Type::Voicemail
            | Type::ShortCode
            | Type::Carrier
            | Type::NoInternational => return Err(PhoneFault::Kind),
        }
        let region = again.country().id();
        if !countries.take(region) {
            return Err(PhoneFault::Country);
        }
        Ok(Phone { e164: e164.into(), region })
    }

    pub(super) fn e164(&self) -> &str {
        &self.e164
    }

    /// ISO 3166-1 alpha-2, upper case; none for numbers of no country, such as satellites.
    pub(super) fn country(&self) -> Option<&str> {
        self.region.as_ref().map(AsRef::as_ref)
    }
}

impl Countries {
    /// Whether codes go there. A number of no country is taken only where every country is.
    fn take(&self, region: Option<Region>) -> bool {
        match region {
            Some(region) => {
                !self.deny.contains(&region) && (self.allow.is_empty() || self.allow.contains(&region))
            }
            None => self.allow.is_empty(),
        }
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phone({})", masked(&self.e164))
    }
}

/// `+1******0123`: the country code and the last four digits. Of an e-mail address its first letter and its domain.
pub(super) fn masked(destination: &str) -> String {
    const SHOWN: usize = 4;
    if let Some((local, domain)) = destination.rsplit_once('@') {
        let first: String = local.chars().take(1).collect();
        return format!("{first}***@{domain}");
    }
    let code = phonenumber::parse(None, destination).map_or(0, |number| number.code().value());
    let code = format!("+{code}");
    let (code, rest) = match destination.strip_prefix(&code) {
        Some(rest) => (code.as_str(), rest),
        None => ("", destination),
    };
    let hidden = rest.chars().count().saturating_sub(SHOWN);
    let shown: String = rest.chars().skip(hidden).collect();
    format!("{code}{}{shown}", "*".repeat(hidden))
}

/// Everything but its last four digits: neighbours have the same.
pub(super) fn prefix(e164: &str) -> &str {
    let end = e164.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    e164.get(..end).unwrap_or_default()
}

/// Digits and what people write between them. Letters and extensions are somebody's trick.
fn read(text: &str, region: Region) -> Option<PhoneNumber> {
    const TYPED_MAX: usize = 40;
    let text = text.trim();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_known = |byte: u8| byte.is_ascii_digit() || b"+-.()/ ".contains(&byte);
    if text.len() > TYPED_MAX || !(4..=17).contains(&digits) || !text.bytes().all(is_known) {
        return None;
    }
    if text.rfind('+').is_some_and(|at| at > 0) {
        return None;
    }
    // With a region the parser would strip that region's trunk prefix from foreign numbers too.
    let region = if text.starts_with('+') { None } else { Some(region) };
    phonenumber::parse(region, text).ok()
}

/// `^\+[1-9]\d{6,14}$`
fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<String, PhoneFault> {
        Phone::parse(text, Region::US, &Countries::default()).map(|phone| phone.e164().to_owned())
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for text in [
            "+14155550123",
            "4155550123",
            "(415) 555-0123",
            " +1 415.555.0123 ",
            "1-415-555-0123",
            "011 1 415 555 0123",
        ] {
            assert_eq!(parsed(text).as_deref(), Ok("+14155550123"), "{text}");
        }
        assert_eq!(parsed("+44 7400 123456").as_deref(), Ok("+447400123456"));
        assert_eq!(parsed("+49 151 23456789").as_deref(), Ok("+4915123456789"));
        let german = Phone::parse("0151 23456789", Region::DE, &Countries::default()).unwrap();
        assert_eq!((german.e164(), german.country()), ("+4915123456789", Some("DE")));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "+",
            "123",
            "911",
            "+1",
            "+1415555012",
            "+141555501234",
            "+1-800-FLOWERS",
            "4155550123 ext. 5",
            "4155550123;ext=5",
            "+14155550123+1",
            "+1 0155550123",
            "+99999999999",
            "tel:+14155550123",
            "+1 415 555 0123\u{0}",
            "１４１５５５５０１２３",
        ] {
            assert!(parsed(text).is_err(), "{text} is {:?}", parsed(text));
        }
        assert_eq!(parsed(&"1".repeat(60)), Err(PhoneFault::Invalid));
    }

    #[test]
    fn nobodys_handset_gets_no_code() {
        for text in ["+19005550123", "+18005550123", "+448712345678", "+4990012345678", "+498001234567"] {
            assert_eq!(parsed(text), Err(PhoneFault::Kind), "{text}");
        }
    }

    #[test]
    fn countries_are_allowed_and_denied() {
        let countries =
            |allow: &[Region], deny: &[Region]| Countries { allow: allow.into(), deny: deny.into() };
        let check = |countries: &Countries, text: &str| Phone::parse(text, Region::US, countries).err();
        let (american, british) = ("+14155550123", "+447400123456");
        assert_eq!(check(&countries(&[Region::US], &[]), american), None);
        assert_eq!(check(&countries(&[Region::US], &[]), british), Some(PhoneFault::Country));
        assert_eq!(check(&countries(&[], &[Region::GB]), british), Some(PhoneFault::Country));
        assert_eq!(check(&countries(&[Region::GB], &[Region::GB]), british), Some(PhoneFault::Country));
    }

    #[test]
    fn a_mask_shows_the_country_and_four_digits() {
        assert_eq!(masked("+14155550123"), "+1******0123");
        assert_eq!(masked("+447400123456"), "+44******3456");
        assert_eq!(masked("alice@example.com"), "a***@example.com");
        assert_eq!(masked("+12"), "+12");
        assert_eq!(prefix("+14155550123"), "+1415555");
        assert_eq!(prefix("+1"), "");
        let phone = Phone::parse("+14155550123", Region::US, &Countries::default()).unwrap();
        assert_eq!(format!("{phone:?}"), "Phone(+1******0123)");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_becomes_e164_for_good(text in "[ -~]{0,24}|\\+?[0-9 ()-]{4,20}") {
            if let Ok(e164) = parsed(&text) {
                prop_assert!(is_e164(&e164), "{}", e164);
                prop_assert_eq!(parsed(&e164), Ok(e164.clone()));
                prop_assert!(!masked(&e164).contains(&e164[e164.len() - 7..]));
            }
        }
    }
}
