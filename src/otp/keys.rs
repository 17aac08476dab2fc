//! What codes, stored records, links for receipts and their names are made under: one secret, a key for each purpose.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce as Iv, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretSlice};
use subtle::ConstantTimeEq as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::card::{Nonce, Slot};
use super::code::{self, Origin};
use crate::decision::key::KeyHash;
use crate::sms::Channel;

/// The keys of all gateways that know the same secret.
pub(super) struct Keys {
    code: hmac::Key,
    slot: hmac::Key,
    link: hmac::Key,
    claim: hmac::Key,
    seal: Option<LessSafeKey>,
    proof: SecretSlice<u8>,
    random: SystemRandom,
}

/// There is no randomness, or no cipher: nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsealable;

/// Whom a code is for, and what for. Stored sealed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) purpose: Box<str>,
    /// E.164, or an e-mail address.
    pub(super) destination: Box<str>,
    /// How it was sent last.
    pub(super) channel: Channel,
}

/// Which attempt to send which code a receipt is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) slot: Slot,
    pub(super) nonce: Nonce,
    pub(super) attempt: u8,
}

const SLOT_LEN: usize = 16;
const NONCE_BYTES: usize = 8;
/// 128 bits that nobody guesses.
const LINK_TAG_LEN: usize = 16;
/// Of a link as it is told, characters.
pub(super) const LINK_TOKEN_LEN: usize = (4 * (SLOT_LEN + NONCE_BYTES + 1 + LINK_TAG_LEN)).div_ceil(3);

impl Keys {
    pub(super) fn new(secret: &[u8]) -> Keys {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = |purpose: &str| hmac::sign(&root, format!("tollgate otp: {purpose}, 1").as_bytes());
        let key = |purpose: &str| hmac::Key::new(hmac::HMAC_SHA256, derived(purpose).as_ref());
        let seal = UnboundKey::new(&AES_256_GCM, derived("seal").as_ref()).ok();
        Keys {
            code: key("codes"),
            slot: key("slots"),
            link: key("links"),
            claim: key("idempotency"),
            seal: seal.map(LessSafeKey::new),
            proof: derived("proofs").as_ref().to_vec().into(),
            random: SystemRandom::new(),
        }
    }

    /// What proofs are signed with where the file names nothing.
    pub(super) fn proof(&self) -> &[u8] {
        self.proof.expose_secret()
    }

    /// Where the code for a purpose and a destination is kept.
    pub(super) fn slot(&self, purpose: &str, destination: &str) -> Slot {
        Slot::new(short(&self.slot, &[purpose, destination]))
    }

    /// Where the answer to an `Idempotency-Key` is kept, and a print of the request that it belongs to.
    pub(super) fn claim(&self, route: &str, key: &str, request: &[&str]) -> (KeyHash, [u8; 16]) {
        let print = short(&self.claim, &[&["print"], request].concat());
        (short(&self.claim, &["key", route, key]), print.as_u128().to_be_bytes())
    }

    /// The code for a record.
    pub(super) fn code(
        &self,
        subject: &Subject,
        id: &str,
        seed: &[u8; 32],
        length: u8,
    ) -> secrecy::SecretString {
        let Subject { purpose, destination, .. } = subject;
        code::code(&self.code, &Origin { purpose, id, destination, seed }, length)
    }

    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], Unsealable> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| Unsealable)?;
        Ok(bytes)
    }

    /// Bytes that say nothing to whoever has not the secret, and are of no use in another record.
    pub(super) fn seal(&self, subject: &Subject, slot: Slot) -> Result<Vec<u8>, Unsealable> {
        let Subject { purpose, destination, channel } = subject;
        let key = self.seal.as_ref().ok_or(Unsealable)?;
        let iv = self.random::<NONCE_LEN>()?;
        let mut text = vec![channel_byte(*channel), u8::try_from(purpose.len()).map_err(|_| Unsealable)?];
        text.extend_from_slice(purpose.as_bytes());
        text.extend_from_slice(destination.as_bytes());
        let aad = Aad::from(slot.hash().as_u128().to_be_bytes());
        key.seal_in_place_append_tag(Iv::assume_unique_for_key(iv), aad, &mut text)
            .map_err(|_| Unsealable)?;
        Ok([&iv[..], &text].concat())
    }

    /// None if it was sealed under another secret, or for another record.
    pub(super) fn unseal(&self, sealed: &[u8], slot: Slot) -> Option<Subject> {
        let (iv, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let aad = Aad::from(slot.hash().as_u128().to_be_bytes());
        let opened =
            self.seal.as_ref()?.open_in_place(Iv::assume_unique_for_key(*iv), aad, &mut text).ok()?;
        let (&[channel, length], rest) = opened.split_first_chunk::<2>()?;
        let (purpose, destination) = rest.split_at_checked(usize::from(length))?;
        Some(Subject {
            purpose: std::str::from_utf8(purpose).ok()?.into(),
            destination: std::str::from_utf8(destination).ok()?.into(),
            channel: Channel::ALL.into_iter().find(|known| channel_byte(*known) == channel)?,
        })
    }

    /// The last part of the path that a provider reports to: [`LINK_TOKEN_LEN`] characters.
    pub(super) fn link_token(&self, link: &Link) -> String {
        let mut bytes = place(link.slot, link.nonce).to_vec();
        bytes.push(link.attempt);
        let tag = hmac::sign(&self.link, &bytes);
        bytes.extend(tag.as_ref().iter().take(LINK_TAG_LEN));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// None if it is not one that was given out.
    pub(super) fn read_link(&self, token: &str) -> Option<Link> {
        let bytes: [u8; SLOT_LEN + NONCE_BYTES + 1 + LINK_TAG_LEN] = decoded(token)?;
        let (named, tag) = bytes.split_at(SLOT_LEN + NONCE_BYTES + 1);
        let own = hmac::sign(&self.link, named);
        let is_ours: bool = own.as_ref().get(..LINK_TAG_LEN)?.ct_eq(tag).into();
        let (place, attempt) = named.split_at(SLOT_LEN + NONCE_BYTES);
        let (slot, nonce) = placed(place)?;
        is_ours.then_some(Link { slot, nonce, attempt: *attempt.first()? })
    }
}

/// The public name of a verification: which record, and which code in it.
pub(super) fn id(slot: Slot, nonce: Nonce) -> String {
    URL_SAFE_NO_PAD.encode(place(slot, nonce))
}

/// None if it cannot be one of ours.
pub(super) fn read_id(id: &str) -> Option<(Slot, Nonce)> {
    placed(&decoded::<{ SLOT_LEN + NONCE_BYTES }>(id)?)
}

/// Ours for one attempt: what providers and their consoles show.
pub(super) fn reference(nonce: Nonce, attempt: u8) -> String {
    format!("{}-{attempt}", URL_SAFE_NO_PAD.encode(nonce.bytes()))
}

fn short(key: &hmac::Key, fields: &[&str]) -> KeyHash {
    let mut context = hmac::Context::with_key(key);
    for field in fields {
        context.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(field.as_bytes());
    }
    let tag = context.sign();
    KeyHash::from_u128(tag.as_ref().iter().take(SLOT_LEN).fold(0, |bits, &byte| bits << 8 | u128::from(byte)))
}

fn place(slot: Slot, nonce: Nonce) -> [u8; SLOT_LEN + NONCE_BYTES] {
    let mut bytes = [0; SLOT_LEN + NONCE_BYTES];
    let parts = slot.hash().as_u128().to_be_bytes().into_iter().chain(nonce.bytes());
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    bytes
}

fn placed(bytes: &[u8]) -> Option<(Slot, Nonce)> {
    let (slot, nonce) = bytes.split_first_chunk::<SLOT_LEN>()?;
    Some((Slot::new(KeyHash::from_u128(u128::from_be_bytes(*slot))), Nonce::new(nonce.try_into().ok()?)))
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Nothing longer is looked at.
    if text.len() > 4 * N.div_ceil(3) {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// As it is stored: never another number for the same.
fn channel_byte(channel: Channel) -> u8 {
    match channel {
        Channel::Sms => 1,
        Channel::Voice => 2,
        Channel::Whatsapp => 3,
        Channel::Email => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce() -> Nonce {
        Nonce::new([7; 8])
    }

    fn subject() -> Subject {
        Subject { purpose: "login".into(), destination: "+14155550123".into(), channel: Channel::Voice }
    }

    #[test]
    fn a_subject_is_read_where_it_was_sealed_and_nowhere_else() {
        let keys = Keys::new(b"a secret");
        let (slot, other) = (keys.slot("login", "+14155550123"), keys.slot("reset", "+14155550123"));
        let sealed = keys.seal(&subject(), slot).unwrap();
        assert!(keys.unseal(&sealed, slot) == Some(subject()));
        assert!(keys.unseal(&sealed, other).is_none());
        assert!(Keys::new(b"another").unseal(&sealed, slot).is_none());
        assert!(!sealed.windows(5).any(|part| part == b"+1415"), "sealed");
        for at in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert!(keys.unseal(&broken, slot).is_none(), "bit of byte {at}");
            assert!(keys.unseal(&sealed[..at], slot).is_none(), "{at} bytes");
        }
    }

    #[test]
    fn a_name_leads_back_to_its_record() {
        let slot = Keys::new(b"a secret").slot("login", "+14155550123");
        let name = id(slot, nonce());
        assert_eq!(name.len(), 32);
        assert!(read_id(&name) == Some((slot, nonce())));
        for broken in ["", "x", &name[1..], &format!("{name}x"), &"!".repeat(32), &"A".repeat(10_000)] {
            assert!(read_id(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_link_is_believed_only_as_it_was_given_out() {
        let keys = Keys::new(b"a secret");
        let link = Link { slot: keys.slot("login", "+14155550123"), nonce: nonce(), attempt: 2 };
        let token = keys.link_token(&link);
        assert_eq!(token.len(), LINK_TOKEN_LEN);
        assert_eq!(keys.read_link(&token), Some(link));
        assert_eq!(Keys::new(b"another").read_link(&token), None);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            assert_eq!(keys.read_link(&URL_SAFE_NO_PAD.encode(broken)), None, "byte {at}");
        }
        assert_eq!(keys.read_link(""), None);
    }

    #[test]
    fn slots_and_claims_are_apart() {
        let keys = Keys::new(b"a secret");
        assert!(keys.slot("ab", "c") != keys.slot("a", "bc"));
        assert!(keys.slot("login", "x") == Keys::new(b"a secret").slot("login", "x"));
        assert!(keys.slot("login", "x") != Keys::new(b"another").slot("login", "x"));
        let (key, print) = keys.claim("send", "k", &["+1", "login"]);
        assert_eq!(keys.claim("send", "k", &["+1", "login"]), (key, print));
        assert_ne!(keys.claim("send", "k", &["+1", "reset"]).1, print);
        assert_ne!(keys.claim("other", "k", &["+1", "login"]).0, key);
    }
}
