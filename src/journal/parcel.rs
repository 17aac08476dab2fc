//! Blocks, lifts and events as gateways send them to each other through a store that must not read them.
//!
//! ```text
//! session, 16 bytes | nonce, 12 | AES-256-GCM of a JSON object | tag, 16
//! ```
//!
//! Every gateway seals under a key of its own, derived from the common secret and a random session, with a counter
//! for a nonce: none comes twice, however many gateways seal for years. The JSON may gain members: who does not know
//! them lets them be.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::block::{BlockId, BlockRecord, Reason};
use super::event::{Event, EventKind};
use super::identifier::Identifier;
use super::outbox::Lift;
use super::text;
use crate::decision::block::Block;
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;

/// Seals for other gateways, and opens what they sealed.
pub struct Parcels {
    secret: hmac::Key,
    session: [u8; SESSION],
    key: LessSafeKey,
    sealed: AtomicU64,
}

const SESSION: usize = 16;
/// Names out of a configuration, and such.
const NAME_MAX: usize = 256;
/// What the maker of a block keeps with it.
const SPEC_MAX: usize = 4096;

/// What a parcel holds: none can be put in the place of another.
#[derive(Clone, Copy)]
enum Content {
    Block,
    Lift,
    Event,
}

#[derive(Serialize, Deserialize)]
struct WireBlock {
    id: String,
    key: String,
    kind: String,
    parts: Vec<String>,
    masked: String,
    reason: String,
    route: Option<String>,
    policy: Option<String>,
    attempts: u32,
    created_us: u64,
    until_us: u64,
    level: u16,
    forget_us: u64,
    by: Option<String>,
    spec: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WireLift {
    id: String,
    key: String,
    at_us: u64,
    until_us: u64,
    by: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WireEvent {
    at_us: u64,
    kind: String,
    count: u32,
    route: Option<String>,
    policy: Option<String>,
    key: Option<String>,
    window: Option<String>,
    parts: Option<Vec<String>>,
    masked: Option<String>,
    client: Option<String>,
    user_agent: Option<String>,
    trace_id: Option<String>,
    detail: Option<String>,
    node: String,
}

impl Parcels {
    /// `secret` is the same in all gateways that share a store. None if the machine gives no randomness.
    pub fn new(secret: &[u8; 32]) -> Option<Parcels> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut session = [0; SESSION];
        SystemRandom::new().fill(&mut session).ok()?;
        let key = session_key(&secret, &session)?;
        Some(Parcels { secret, session, key, sealed: AtomicU64::new(0) })
    }

    /// None if sealing fails, which it does not.
    pub fn seal_block(&self, record: &BlockRecord) -> Option<Vec<u8>> {
        let BlockRecord { id, key, key_kind, identifier, reason, route, policy, .. } = record;
        let BlockRecord { attempts, created_at, block, by, spec, .. } = record;
        let wire = WireBlock {
            id: id.to_string(),
            key: hex_of(*key),
            kind: key_kind.to_string(),
            parts: identifier.parts().map(str::to_owned).collect(),
            masked: identifier.masked().to_owned(),
            reason: reason.word().to_owned(),
            route: owned(route.as_deref()),
            policy: owned(policy.as_deref()),
            attempts: *attempts,
            created_us: created_at.as_micros(),
            until_us: block.until.as_micros(),
            level: block.level,
            forget_us: block.forget_at.as_micros(),
            by: owned(by.as_deref()),
            spec: owned(spec.as_deref()),
        };
        self.seal(Content::Block, &wire)
    }

    /// None of what no gateway with our secret sealed as a block.
    pub fn open_block(&self, parcel: &[u8]) -> Option<BlockRecord> {
        let wire: WireBlock = self.open(Content::Block, parcel)?;
        Some(BlockRecord {
            id: BlockId::parse(&wire.id)?,
            key: key_of(&wire.key)?,
            key_kind: name(wire.kind).into(),
            identifier: Identifier::of_parts(wire.parts.iter().map(String::as_str), &wire.masked),
            reason: Reason::parse(&wire.reason)?,
            route: wire.route.map(|route| name(route).into()),
            policy: wire.policy.map(|policy| name(policy).into()),
            attempts: wire.attempts,
            created_at: Timestamp::from_micros(wire.created_us),
            block: Block {
                until: Timestamp::from_micros(wire.until_us),
                level: wire.level,
                forget_at: Timestamp::from_micros(wire.forget_us),
            },
            by: wire.by.map(name),
            spec: wire.spec.map(|spec| text::bounded(spec.into(), SPEC_MAX)),
        })
    }

    /// As [`Parcels::seal_block`].
    pub fn seal_lift(&self, lift: &Lift) -> Option<Vec<u8>> {
        let wire = WireLift {
            id: lift.id.to_string(),
            key: hex_of(lift.key),
            at_us: lift.at.as_micros(),
            until_us: lift.until.as_micros(),
            by: owned(lift.by.as_deref()),
        };
        self.seal(Content::Lift, &wire)
    }

    /// As [`Parcels::open_block`].
    pub fn open_lift(&self, parcel: &[u8]) -> Option<Lift> {
        let wire: WireLift = self.open(Content::Lift, parcel)?;
        Some(Lift {
            key: key_of(&wire.key)?,
            id: BlockId::parse(&wire.id)?,
            at: Timestamp::from_micros(wire.at_us),
            until: Timestamp::from_micros(wire.until_us),
            by: wire.by.map(name),
        })
    }

    /// As [`Parcels::seal_block`]. `node` is what others are to call this gateway.
    pub fn seal_event(&self, event: &Event, node: &str) -> Option<Vec<u8>> {
        let Event { identifier, client, user_agent, trace_id, detail, .. } = event;
        let wire = WireEvent {
            at_us: event.at.as_micros(),
            kind: event.kind.word().to_owned(),
            count: event.count,
            route: owned(event.route.as_deref()),
            policy: owned(event.policy.as_deref()),
            key: owned(event.key.as_deref()),
            window: owned(event.window.as_deref()),
            parts: identifier.as_ref().map(|it| it.parts().map(str::to_owned).collect()),
            masked: identifier.as_ref().map(|it| it.masked().to_owned()),
            client: client.map(|address| address.to_string()),
            user_agent: owned(user_agent.as_deref()),
            trace_id: owned(trace_id.as_deref()),
            detail: owned(detail.as_deref()),
            node: node.to_owned(),
        };
        self.seal(Content::Event, &wire)
    }

    /// As [`Parcels::open_block`]; the event has the name of the gateway that it happened in.
    pub fn open_event(&self, parcel: &[u8]) -> Option<Event> {
        let wire: WireEvent = self.open(Content::Event, parcel)?;
        let masked = wire.masked.unwrap_or_default();
        let shared = |text: Option<String>| text.map(|text| name(text).into());
        Some(Event {
            at: Timestamp::from_micros(wire.at_us),
            kind: EventKind::parse(&wire.kind)?,
            count: wire.count,
            route: shared(wire.route),
            policy: shared(wire.policy),
            key: shared(wire.key),
            window: shared(wire.window),
            identifier: wire
                .parts
                .map(|parts| Identifier::of_parts(parts.iter().map(String::as_str), &masked)),
            client: wire.client.and_then(|address| address.parse().ok()),
            user_agent: wire.user_agent.map(Into::into),
            trace_id: wire.trace_id.map(Into::into),
            detail: wire.detail.map(Into::into),
            node: Some(name(wire.node).into()),
        })
    }

    fn seal(&self, content: Content, wire: &impl Serialize) -> Option<Vec<u8>> {
        let mut text = serde_json::to_vec(wire).ok()?;
        let mut nonce = [0; NONCE_LEN];
        let number = self.sealed.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        nonce.iter_mut().rev().zip(number.iter().rev()).for_each(|(to, from)| *to = *from);
        let aad = Aad::from(content.label());
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
        let mut parcel = Vec::with_capacity(SESSION + NONCE_LEN + text.len());
        parcel.extend_from_slice(&self.session);
        parcel.extend_from_slice(&nonce);
        parcel.extend_from_slice(&text);
        Some(parcel)
    }

    fn open<T: DeserializeOwned>(&self, content: Content, parcel: &[u8]) -> Option<T> {
        let (session, rest) = parcel.split_first_chunk::<SESSION>()?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = session_key(&self.secret, session)?;
        let plain = key.open_in_place(nonce, Aad::from(content.label()), &mut text).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

impl Content {
    const fn label(self) -> &'static str {
        match self {
            Content::Block => "block",
            Content::Lift => "lift",
            Content::Event => "event",
        }
    }
}

/// The key of one gateway's session. One of 32 bytes is always good.
fn session_key(secret: &hmac::Key, session: &[u8; SESSION]) -> Option<LessSafeKey> {
    let tag = hmac::sign(secret, session);
    UnboundKey::new(&AES_256_GCM, tag.as_ref()).ok().map(LessSafeKey::new)
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn name(text: String) -> Box<str> {
    text::bounded(text.into(), NAME_MAX)
}

fn hex_of(key: KeyHash) -> String {
    format!("{:032x}", key.as_u128())
}

fn key_of(hex: &str) -> Option<KeyHash> {
    u128::from_str_radix(hex, 16).ok().map(KeyHash::from_u128)
}

impl std::fmt::Debug for Parcels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcels").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> BlockRecord {
        BlockRecord {
            id: BlockId::new(Timestamp::from_millis(1_800_000_000_000), [3; 10]),
            key: KeyHash::from_u128(0x1f << 120 | 7),
            key_kind: "body.email+ip".into(),
            identifier: Identifier::new(&[("body.email", "ada@example.com"), ("ip", "192.0.2.1")]),
            reason: Reason::Suspicion,
            route: Some("login".into()),
            policy: None,
            attempts: 7,
            created_at: Timestamp::from_micros(1_800_000_000_000_001),
            block: Block {
                until: Timestamp::from_micros(1_800_000_100_000_002),
                level: 2,
                forget_at: Timestamp::from_micros(1_800_000_200_000_003),
            },
            by: Some("root".into()),
            spec: Some("counted:1f".into()),
        }
    }

    fn event() -> Event {
        Event {
            count: 3,
            route: Some("login".into()),
            identifier: Some(Identifier::new(&[("phone", "+12025550123")])),
            client: Some([192, 0, 2, 1].into()),
            user_agent: Some("curl/8".into()),
            detail: Some("a sentence".into()),
            ..Event::new(EventKind::Failure, Timestamp::from_micros(1_800_000_000_000_001))
        }
    }

    #[test]
    fn what_one_gateway_seals_another_opens() {
        let [one, other] = [Parcels::new(&[7; 32]).unwrap(), Parcels::new(&[7; 32]).unwrap()];
        assert_eq!(other.open_block(&one.seal_block(&block()).unwrap()), Some(block()));
        let lift = Lift {
            key: block().key,
            id: block().id,
            at: Timestamp::from_micros(5),
            until: Timestamp::from_micros(6),
            by: Some("root".into()),
        };
        assert_eq!(other.open_lift(&one.seal_lift(&lift).unwrap()), Some(lift));
        let told = other.open_event(&one.seal_event(&event(), "web-1").unwrap()).unwrap();
        assert_eq!(told, Event { node: Some("web-1".into()), ..event() });
        let identifier = told.identifier.unwrap();
        assert_eq!((identifier.expose(), identifier.masked()), ("+12025550123", "***0123"));
    }

    #[test]
    fn nothing_can_be_read_forged_or_exchanged() {
        let parcels = Parcels::new(&[7; 32]).unwrap();
        let parcel = parcels.seal_block(&block()).unwrap();
        for word in [&b"ada"[..], b"example", b"login", b"192.0", b"root", b"suspicion"] {
            assert!(!parcel.windows(word.len()).any(|window| window == word), "{word:?}");
        }
        assert_ne!(parcels.seal_block(&block()).unwrap(), parcel, "no nonce comes twice");
        assert!(Parcels::new(&[8; 32]).unwrap().open_block(&parcel).is_none());
        assert!(parcels.open_event(&parcel).is_none() && parcels.open_lift(&parcel).is_none());
        for at in 0..parcel.len() {
            let mut forged = parcel.clone();
            forged[at] ^= 1;
            assert!(parcels.open_block(&forged).is_none(), "byte {at}");
            assert!(parcels.open_block(&parcel[..at]).is_none(), "{at} bytes");
        }
    }

    #[test]
    fn what_a_gateway_of_another_version_tells_is_read_as_far_as_it_is_known() {
        #[derive(Serialize)]
        struct Later {
            id: String,
            key: &'static str,
            at_us: u64,
            until_us: u64,
            #[serde(rename = "because")]
            why: &'static str,
        }
        let parcels = Parcels::new(&[7; 32]).unwrap();
        let later = Later { id: block().id.to_string(), key: "1f", at_us: 1, until_us: 2, why: "x" };
        let lift = parcels.open_lift(&parcels.seal(Content::Lift, &later).unwrap()).unwrap();
        assert_eq!((lift.key, lift.by), (KeyHash::from_u128(0x1f), None));
    }
}
