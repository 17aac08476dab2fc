//! How identifiers stand on disk: sealed to be read back, hashed to be found, masked to be shown.

use std::hash::Hasher as _;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use siphasher::sip::SipHasher13;

use super::identifier::Identifier;

/// What a sealed text is part of: none can be put in the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Event,
    Block,
    Spec,
    Check,
}

/// Seals and opens with the key of the gateway.
pub(super) struct Sealer {
    key: [u8; 32],
    search: (u64, u64),
    random: SystemRandom,
}

/// An identifier as columns of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SealedIdentifier {
    /// `None` without randomness: it is never written in the open.
    pub(super) sealed: Option<Vec<u8>>,
    pub(super) masked: Box<str>,
    /// Keyed hashes of the whole text, and of its first parts where there are several.
    pub(super) search: i64,
    pub(super) part_a: Option<i64>,
    pub(super) part_b: Option<i64>,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Purpose::Event => "event",
            Purpose::Block => "block",
            Purpose::Spec => "spec",
            Purpose::Check => "check",
        }
    }
}

impl Sealer {
    pub(super) fn new(seal_key: &[u8; 32]) -> Sealer {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, seal_key);
        let derived = |label: &str| -> [u8; 32] {
            let tag = hmac::sign(&secret, label.as_bytes());
            let mut key = [0; 32];
            key.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
            key
        };
        let search = derived("tollgate: journal, search, 1");
        let half =
            |at: usize| search.iter().skip(at).take(8).fold(0, |bits, &byte| (bits << 8) | u64::from(byte));
        Sealer {
            key: derived("tollgate: journal, seal, 1"),
            search: (half(0), half(8)),
            random: SystemRandom::new(),
        }
    }

    /// Nonce, ciphertext and tag. `None` if the machine gives no randomness.
    pub(super) fn seal(&self, purpose: Purpose, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut text = plain.to_vec();
        let aad = Aad::from(purpose.label());
        self.cipher()?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&text);
        Some(sealed)
    }

    /// `None` of what was not sealed with this key for this purpose.
    pub(super) fn open(&self, purpose: Purpose, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk()?;
        let mut text = text.to_vec();
        let aad = Aad::from(purpose.label());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.cipher()?.open_in_place(nonce, aad, &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    pub(super) fn seal_identifier(&self, purpose: Purpose, identifier: &Identifier) -> SealedIdentifier {
        let mut hashes =
            identifier.parts().filter(|_| identifier.is_composite()).map(|part| self.search(part));
        SealedIdentifier {
            sealed: self.seal(purpose, &identifier.to_bytes()),
            masked: identifier.masked().into(),
            search: self.search(identifier.expose()),
            part_a: hashes.next(),
            part_b: hashes.next(),
        }
    }

    pub(super) fn open_identifier(
        &self,
        purpose: Purpose,
        sealed: &[u8],
        masked: Box<str>,
    ) -> Option<Identifier> {
        Identifier::from_bytes(&self.open(purpose, sealed)?, masked)
    }

    /// What a text is found by. Equal texts have equal hashes; nobody without the key can try guesses.
    pub(super) fn search(&self, text: &str) -> i64 {
        let mut hasher = SipHasher13::new_with_keys(self.search.0, self.search.1);
        hasher.write(text.as_bytes());
        hasher.finish().cast_signed()
    }

    /// A key of 32 bytes is always good.
    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.key).ok().map(LessSafeKey::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What sealing adds, bytes.
    const OVERHEAD: usize = NONCE_LEN + ring::aead::MAX_TAG_LEN;

    #[test]
    fn what_is_sealed_opens_with_its_key_for_its_purpose_alone() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal(Purpose::Event, b"alice@example.com").unwrap();
        assert_eq!(sealed.len(), 17 + OVERHEAD);
        assert!(!sealed.windows(5).any(|window| window == b"alice"));
        assert_eq!(sealer.open(Purpose::Event, &sealed).as_deref(), Some(&b"alice@example.com"[..]));
        assert_eq!(sealer.open(Purpose::Block, &sealed), None);
        assert_eq!(Sealer::new(&[8; 32]).open(Purpose::Event, &sealed), None);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(sealer.open(Purpose::Event, &forged), None, "byte {at}");
        }
        assert_eq!(sealer.open(Purpose::Event, &[]), None);
    }

    #[test]
    fn equal_texts_are_sealed_unlike_and_found_alike() {
        let sealer = Sealer::new(&[7; 32]);
        assert_ne!(sealer.seal(Purpose::Event, b"x"), sealer.seal(Purpose::Event, b"x"));
        assert_eq!(sealer.search("x"), sealer.search("x"));
        assert_ne!(sealer.search("x"), sealer.search("y"));
        assert_ne!(sealer.search("x"), Sealer::new(&[8; 32]).search("x"));
    }

    #[test]
    fn a_composite_is_found_by_its_parts_too() {
        let sealer = Sealer::new(&[7; 32]);
        let both = Identifier::new(&[("body.email", "a@b.c"), ("ip", "::1")]);
        let row = sealer.seal_identifier(Purpose::Block, &both);
        assert_eq!(row.search, sealer.search("a@b.c+::1"));
        assert_eq!((row.part_a, row.part_b), (Some(sealer.search("a@b.c")), Some(sealer.search("::1"))));
        let opened = sealer.open_identifier(Purpose::Block, &row.sealed.unwrap(), row.masked);
        assert_eq!(opened, Some(both));
        let one = sealer.seal_identifier(Purpose::Block, &Identifier::new(&[("ip", "::1")]));
        assert_eq!((one.part_a, one.part_b), (None, None));
    }
}
