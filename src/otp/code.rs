//! Making codes, and comparing them.

use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// What a code is derived from besides the key.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) purpose: &'a str,
    /// The public name of the verification.
    pub(super) id: &'a str,
    /// Where the code was first sent: it belongs to nobody else.
    pub(super) destination: &'a str,
    pub(super) seed: &'a [u8; 32],
}

/// The code of `length` digits, 4 to 10, each of them as likely as any other.
///
/// `HMAC-SHA256(key, "otp-v1", "", purpose, id, destination, seed, counter)`, each field behind its length in four bytes, gives words;
/// the first below the largest multiple of 10^length is the code. Who has not the key learns nothing from the seed.
pub(super) fn code(key: &hmac::Key, origin: &Origin<'_>, length: u8) -> SecretString {
    let Origin { purpose, id, destination, seed } = *origin;
    let fields = ["otp-v1", "", purpose, id, destination].map(str::as_bytes);
    digits(key, &[&fields[..], &[seed]].concat(), length).into()
}

/// Whether `given` is the code; how long it takes does not depend on where they differ.
pub(super) fn is_same(code: &SecretString, given: &SecretString) -> bool {
    code.expose_secret().as_bytes().ct_eq(given.expose_secret().as_bytes()).into()
}

/// What somebody typed as a code of `length` digits; none if it cannot be one.
pub(super) fn typed(text: &str, length: u8) -> Option<SecretString> {
    const TYPED_MAX: usize = 64;
    if text.len() > TYPED_MAX {
        return None;
    }
    let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let is_sound = digits.len() == usize::from(length) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_sound.then(|| digits.into())
}

fn digits(key: &hmac::Key, fields: &[&[u8]], length: u8) -> String {
    let codes = 10_u128.pow(u32::from(length));
    let mut counter = 0_u32;
    loop {
        let mut context = hmac::Context::with_key(key);
        for field in fields.iter().copied().chain([&counter.to_be_bytes()[..]]) {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            context.update(&length.to_be_bytes());
            context.update(field);
        }
        let tag = context.sign();
        let sound = words(tag.as_ref(), length).find(|(word, words)| *word < words - words % codes);
        if let Some((word, _)) = sound {
            return format!("{:0width$}", word % codes, width = usize::from(length));
        }
        // One in a hundred million at worst: eight words in a row that are all too large.
        counter = counter.wrapping_add(1);
    }
}

/// The words of a tag, and how many different ones there are. Four bytes hold no ten digits.
fn words(tag: &[u8], length: u8) -> impl Iterator<Item = (u128, u128)> {
    let bytes = if length < 10 { 4 } else { 8 };
    let read = |word: &[u8]| word.iter().fold(0, |number, &byte| number << 8 | u128::from(byte));
    tag.chunks_exact(bytes).map(move |word| (read(word), 1 << (8 * bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> hmac::Key {
        let bytes: Vec<u8> = (0..32).collect();
        hmac::Key::new(hmac::HMAC_SHA256, &bytes)
    }

    fn of(id: &str, length: u8) -> String {
        let seed = [0; 32];
        let origin = Origin { purpose: "login", id, destination: "+14155550123", seed: &seed };
        code(&key(), &origin, length).expose_secret().to_owned()
    }

    #[test]
    fn the_derivation_is_the_published_one() {
        let seed = [0; 32];
        let fields: [&[u8]; 6] = [b"otp-v1", b"acme", b"login", b"otp_01", b"+14155550123", &seed];
        assert_eq!(digits(&key(), &fields, 6), "985072");
    }

    #[test]
    fn a_code_depends_on_all_that_it_is_bound_to() {
        let (seed, other) = ([1; 32], [2; 32]);
        let base = Origin { purpose: "login", id: "a", destination: "+14155550123", seed: &seed };
        let told = |origin: &Origin<'_>| code(&key(), origin, 10).expose_secret().to_owned();
        assert_eq!(told(&base), told(&base));
        for changed in [
            Origin { purpose: "reset", ..base },
            Origin { id: "b", ..base },
            Origin { destination: "+14155550124", ..base },
            Origin { seed: &other, ..base },
        ] {
            assert_ne!(told(&changed), told(&base));
        }
        let shifted = Origin { purpose: "logina", id: "", ..base };
        assert_ne!(told(&shifted), told(&base), "fields cannot be shifted into one another");
    }

    #[test]
    fn every_length_has_its_digits() {
        for length in 4..=10 {
            let code = of("x", length);
            assert_eq!(code.len(), usize::from(length));
            assert!(code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
        }
    }

    /// A million codes: every digit at every place, and the codes themselves in a hundred classes.
    #[test]
    fn codes_are_evenly_spread() {
        const CODES: u32 = 1_000_000;
        let mut places = [[0_u32; 10]; 6];
        let mut classes = [0_u32; 100];
        let (key, mut seed) = (key(), [0; 32]);
        for number in 0..CODES {
            seed[..4].copy_from_slice(&number.to_be_bytes());
            let origin = Origin { purpose: "login", id: "x", destination: "+14155550123", seed: &seed };
            let code = code(&key, &origin, 6);
            let code = code.expose_secret();
            for (place, digit) in places.iter_mut().zip(code.bytes()) {
                place[usize::from(digit - b'0')] += 1;
            }
            classes[code[..2].parse::<usize>().unwrap()] += 1;
        }
        let chi_square = |counts: &[u32]| {
            let expected = f64::from(CODES) / counts.len() as f64;
            counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum::<f64>()
        };
        // The seeds are fixed, so this holds on every day. 99.9 % of fair codes stay below 27.9 with nine
        // degrees of freedom, and below 148.2 with ninety-nine.
        for place in &places {
            assert!(chi_square(place) < 27.9, "{place:?}");
        }
        assert!(chi_square(&classes) < 148.2, "{classes:?}");
    }

    #[test]
    fn what_people_type_is_read_and_nothing_else() {
        let read = |text: &str| typed(text, 6).map(|code| code.expose_secret().to_owned());
        assert_eq!(read("123456").as_deref(), Some("123456"));
        assert_eq!(read(" 123 456\n").as_deref(), Some("123456"));
        assert_eq!(read("123-456").as_deref(), Some("123456"));
        for text in ["", "12345", "1234567", "12345a", "１２３４５６", &" ".repeat(80), "+12345"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_same_code_is_the_same() {
        assert!(is_same(&"123456".into(), &"123456".into()));
        for other in ["123457", "12345", "1234567", ""] {
            assert!(!is_same(&"123456".into(), &other.into()), "{other}");
        }
    }
}
