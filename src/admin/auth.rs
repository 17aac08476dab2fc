//! Who calls: by a token, by the session of the page, or from this machine where there are no tokens.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};

use super::reply::Fault;
use super::session::{SESSION_MAX, Sessions, session_of};
use crate::decision::client::Client;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyHash, KeyHasher, KeyPart, KeySpec, LimitId, Missing, PartTag};
use crate::decision::limit::{Limit, Mode, OnStoreError, Rule, Shown, Smooth};
use crate::decision::tally::Charge;
use crate::decision::time::Timestamp;
use crate::journal::Sight;
use crate::store::memory::MemoryStore;

/// Who may use the API, and what they see.
#[derive(Clone, Debug)]
pub struct Access {
    /// Without any, whoever gets here is an admin: then only this machine may be listened to.
    pub tokens: Vec<Token>,
    /// What viewers see of identifiers; admins see all of it.
    pub viewers_see: Sight,
}

/// Somebody who may use the API.
#[derive(Clone, Debug)]
pub struct Token {
    pub name: Box<str>,
    pub secret: SecretString,
    pub role: Role,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look.
    Viewer,
    /// And change.
    Admin,
}

impl Role {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        }
    }
}

/// Whoever sent a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) sight: Sight,
    /// What writes must bring along; of a session alone.
    pub(super) csrf: Option<Arc<str>>,
}

/// Knows the tokens, the sessions and who guesses.
pub(super) struct Doorman {
    /// Of this process: what is compared tells nothing of what it was made from.
    key: hmac::Key,
    tokens: Box<[Known]>,
    viewers_see: Sight,
    pub(super) sessions: Sessions,
    guesses: MemoryStore,
    guessing: Limit,
    hasher: KeyHasher,
}

struct Known {
    hash: [u8; 32],
    name: Arc<str>,
    role: Role,
}

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRandomness;

/// So many wrong tokens may come from one address at once, and one more every six seconds.
const GUESSES: NonZeroU32 = NonZeroU32::new(10).unwrap();
const GUESS_EVERY_NS: u64 = 6_000_000_000;
/// The addresses of which guesses are counted.
const GUESSERS_MAX: usize = 4096;

impl Doorman {
    pub(super) fn new(access: &Access) -> Result<Doorman, NoRandomness> {
        let random = SystemRandom::new();
        let mut secret = [0; 48];
        random.fill(&mut secret).map_err(|_| NoRandomness)?;
        let (of_hashes, of_keys) = secret.split_at(32);
        let mut half = [0; 16];
        half.copy_from_slice(of_keys);
        let key = hmac::Key::new(hmac::HMAC_SHA256, of_hashes);
        let known = |token: &Token| Known {
            hash: hash(&key, token.secret.expose_secret()),
            name: Arc::from(&*token.name),
            role: token.role,
        };
        Ok(Doorman {
            tokens: access.tokens.iter().map(known).collect(),
            viewers_see: access.viewers_see,
            sessions: Sessions::new(SESSION_MAX),
            guesses: MemoryStore::new(GUESSERS_MAX),
            guessing: guessing(),
            hasher: KeyHasher::new(half),
            key,
        })
    }

    /// Whether anybody has to say who they are.
    pub(super) fn asks(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Who sent a request with these headers.
    pub(super) fn recognise(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, Fault> {
        if !self.asks() {
            return Ok(Caller { name: "local".into(), role: Role::Admin, sight: Sight::Full, csrf: None });
        }
        if let Some(value) = headers.get(AUTHORIZATION) {
            let text = value.to_str().unwrap_or_default();
            let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let (_, token) = token.ok_or(Fault::Unknown("Send `Authorization: Bearer TOKEN`."))?;
            return self.by_token(token.trim(), peer, now);
        }
        let Some(id) = session_of(headers) else { return Err(Fault::Unknown("This needs a token.")) };
        let session = self.sessions.get(&hash(&self.key, id), now);
        let session = session.ok_or(Fault::Unknown("The session is over: sign in again."))?;
        Ok(self.caller(session.name, session.role, Some(session.csrf)))
    }

    /// Who has this token. Whoever guessed too often is not told whether this one is right.
    pub(super) fn by_token(&self, token: &str, peer: IpAddr, now: Timestamp) -> Result<Caller, Fault> {
        let given = hash(&self.key, token);
        // All of them are compared, each whole: how long it takes tells nothing.
        let mut found = None;
        for known in &self.tokens {
            if is_same(&known.hash, &given) {
                found = Some(known);
            }
        }
        let charge = [Charge { key: self.guesser(peer), limit: &self.guessing }];
        let tallies = match found {
            Some(_) => self.guesses.peek(&charge, now),
            None => self.guesses.take(&charge, now),
        };
        if let Some(retry_at) = tallies.list.first().and_then(|tally| tally.judgement.retry_at()) {
            return Err(Fault::TooMany {
                retry_after_s: now.until(retry_at).ceil_secs().max(1),
                detail: "Too many wrong tokens came from this address.",
            });
        }
        let known = found.ok_or(Fault::Unknown("Nobody has this token."))?;
        Ok(self.caller(Arc::clone(&known.name), known.role, None))
    }

    /// Begins a session of somebody; its id, which is told once.
    pub(super) fn admit(&self, caller: &Caller, now: Timestamp) -> Result<(String, Arc<str>), Fault> {
        let (id, csrf) = (secret_text()?, Arc::from(secret_text()?));
        self.sessions.begin(
            hash(&self.key, &id),
            Arc::clone(&caller.name),
            caller.role,
            Arc::clone(&csrf),
            now,
        );
        Ok((id, csrf))
    }

    pub(super) fn dismiss(&self, headers: &HeaderMap) {
        if let Some(id) = session_of(headers) {
            self.sessions.end(&hash(&self.key, id));
        }
    }

    /// Whether a write of a session brings along what only its page knows.
    pub(super) fn trusts(&self, caller: &Caller, given: Option<&str>) -> bool {
        let Some(wanted) = &caller.csrf else { return true };
        is_same(&hash(&self.key, wanted), &hash(&self.key, given.unwrap_or_default()))
    }

    fn caller(&self, name: Arc<str>, role: Role, csrf: Option<Arc<str>>) -> Caller {
        let sight = match role {
            Role::Admin => Sight::Full,
            Role::Viewer => self.viewers_see,
        };
        Caller { name, role, sight, csrf }
    }

    fn guesser(&self, peer: IpAddr) -> KeyHash {
        let mut writer = self.hasher.key(self.guessing.id);
        writer.push(PartTag::Ip, &Client::of_address(peer, IPV6_PREFIX).key_bytes());
        writer.finish()
    }
}

/// One IPv6 client is one network.
const IPV6_PREFIX: u8 = 64;

fn guessing() -> Limit {
    Limit {
        id: LimitId::derive(&["wrong tokens of the admin API"]),
        policy: "admin".into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Exact, missing: Missing::Ip },
        rule: Rule::Smooth(Smooth { burst: GUESSES, replenish_one_ns: GUESS_EVERY_NS }),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::RetryAfter,
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

/// Whether a browser sent this from a page of ours, or nobody's page sent it.
pub(super) fn is_of_our_page(target: &Uri, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let named = |origin: &str| {
        let (_, authority) = origin.split_once("://")?;
        Authority::try_from(authority).ok()
    };
    let Some(origin) = origin.to_str().ok().and_then(named) else { return false };
    let of_field = || headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    target.authority().cloned().or_else(of_field).is_some_and(|host| host == origin)
}

fn hash(key: &hmac::Key, text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut().zip(hmac::sign(key, text.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// 256 bits of randomness, hexadecimal.
fn secret_text() -> Result<String, Fault> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| Fault::Broken)?;
    Ok(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::Span;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn doorman() -> Doorman {
        let token = |name: &str, role| Token {
            name: name.into(),
            secret: SecretString::from(format!("token-of-{name}")),
            role,
        };
        let tokens = vec![token("ada", Role::Admin), token("vera", Role::Viewer)];
        Doorman::new(&Access { tokens, viewers_see: Sight::Masked }).unwrap()
    }

    fn bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn a_token_tells_who_calls_and_what_they_see() {
        let doorman = doorman();
        let ada = doorman.recognise(&bearer("token-of-ada"), PEER, NOW).unwrap();
        assert_eq!((&*ada.name, ada.role, ada.sight), ("ada", Role::Admin, Sight::Full));
        let vera = doorman.recognise(&bearer("token-of-vera"), PEER, NOW).unwrap();
        assert_eq!((&*vera.name, vera.role, vera.sight), ("vera", Role::Viewer, Sight::Masked));
        for wrong in ["", "token-of-eve", "token-of-ada ada", "token-of-ad"] {
            let refused = doorman.recognise(&bearer(wrong), PEER, NOW);
            assert!(matches!(refused, Err(Fault::Unknown(_))), "{wrong}");
        }
        assert!(matches!(doorman.recognise(&HeaderMap::new(), PEER, NOW), Err(Fault::Unknown(_))));
    }

    #[test]
    fn who_guesses_too_often_waits_also_with_the_right_token() {
        let doorman = doorman();
        for guess in 0..10 {
            let refused = doorman.by_token(&format!("guess {guess}"), PEER, NOW);
            assert!(matches!(refused, Err(Fault::Unknown(_))), "{guess}");
        }
        for token in ["one more", "token-of-ada"] {
            let refused = doorman.by_token(token, PEER, NOW);
            assert!(matches!(refused, Err(Fault::TooMany { retry_after_s: 6, .. })), "{refused:?}");
        }
        let elsewhere = "192.0.2.1".parse().unwrap();
        assert!(doorman.by_token("token-of-ada", elsewhere, NOW).is_ok());
        assert!(doorman.by_token("token-of-ada", PEER, NOW.plus(Span::from_secs(6))).is_ok());
    }

    #[test]
    fn a_session_stands_for_its_token_and_writes_need_its_page() {
        let doorman = doorman();
        let ada = doorman.by_token("token-of-ada", PEER, NOW).unwrap();
        let (id, csrf) = doorman.admit(&ada, NOW).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("cookie", format!("a=b; tollgate_session={id}").parse().unwrap());
        let known = doorman.recognise(&headers, PEER, NOW).unwrap();
        assert_eq!((&*known.name, known.role), ("ada", Role::Admin));
        assert!(doorman.trusts(&known, Some(&csrf)));
        assert!(!doorman.trusts(&known, Some("")) && !doorman.trusts(&known, None));
        assert!(doorman.trusts(&ada, None), "a token is not sent by a browser on its own");
        doorman.dismiss(&headers);
        assert!(doorman.recognise(&headers, PEER, NOW).is_err());
    }

    #[test]
    fn without_tokens_this_machine_is_the_admin() {
        let doorman = Doorman::new(&Access { tokens: Vec::new(), viewers_see: Sight::Masked }).unwrap();
        let local = doorman.recognise(&bearer(""), PEER, NOW).unwrap();
        assert_eq!((&*local.name, local.role, local.sight), ("local", Role::Admin, Sight::Full));
    }

    #[test]
    fn only_our_own_page_may_send_from_a_browser() {
        let check = |host: &str, origin: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert(ORIGIN, origin.parse().unwrap());
            assert_eq!(is_of_our_page(&Uri::from_static("/x"), &headers), expected, "{host} {origin}");
        };
        check("localhost:9180", "http://localhost:9180", true);
        check("gate.example", "https://gate.example", true);
        check("localhost:9180", "http://localhost:8080", false);
        check("localhost:9180", "http://evil.example", false);
        check("localhost:9180", "null", false);
        check("localhost:9180", "http://localhost:9180.evil.example", false);
        assert!(is_of_our_page(&Uri::from_static("/x"), &HeaderMap::new()));
    }
}
