//! Where the counters live, and what limits do while that is away.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::file::File;
use crate::config::file::store::{self as written, Sentinel, Store, StoreUrl, StoreUrls};
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::{NonEmpty, Optional, Reader};
use crate::config::section::Word as _;
use crate::decision::limit::OnStoreError;
use crate::decision::time::Span;
use crate::store::redis::{RedisUrl, RedisUrlFault};
use crate::store::spec::{Place, RedisPlace, SharedSpec, StoreKind, StoreSpec};
use crate::store::upstash::UpstashUrl;

/// What limits do that say nothing of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// A store in memory is never away.
    Never,
    Handled(OnStoreError),
}

impl Outage {
    pub(super) fn of(file: &File) -> Outage {
        let store = file.store.as_ref();
        match store.and_then(|store| store.kind.as_ref()).map(|kind| kind.value) {
            Some(written::StoreKind::Memory) => Outage::Never,
            Some(written::StoreKind::Redis | written::StoreKind::Upstash) | None => {
                let written = store.and_then(|store| store.on_error.as_ref());
                Outage::Handled(written.map_or(OnStoreError::Local, |on_error| on_error.value))
            }
        }
    }
}

/// Keys are hashed under this many bytes at least: fewer can be guessed along with what is hashed.
const SECRET_BYTES_MIN: usize = 16;

pub(super) fn store(file: &File, reader: &mut Reader<'_>) -> Option<StoreSpec> {
    let store = file.store.as_ref()?;
    let data_dir = store.data_dir.as_ref().map(|path| reader.beside(&path.0));
    let kind = kind(store, &mut reader.findings);
    Some(StoreSpec { max_keys: store.max_keys?.0 as usize, data_dir: data_dir?, kind: kind? })
}

fn kind(store: &Store, findings: &mut Findings) -> Option<StoreKind> {
    let kind = store.kind.as_ref()?;
    let secret = secret(store, findings);
    let place = match kind.value {
        written::StoreKind::Memory => None,
        written::StoreKind::Redis => Some(redis(store, &kind.at, findings).map(Place::Redis)),
        written::StoreKind::Upstash => Some(upstash(store, &kind.at, findings)),
    };
    let Some(place) = place else {
        refuse_shared_keys(store, findings);
        return Some(StoreKind::Memory);
    };
    let timeout = timeout(store, kind.value, findings);
    let prefix = match &store.prefix {
        Optional::Absent => Some("tg:".into()),
        Optional::Given(prefix) => Some(prefix.value.0.clone()),
        Optional::Faulty => None,
    };
    store.on_error.as_ref()?;
    let shared = SharedSpec { place: place?, prefix: prefix?, timeout: timeout?, secret: secret? };
    warn_of_guesses(store, &shared, findings);
    Some(StoreKind::Shared(shared))
}

/// What says nothing of a store in memory was meant for another.
fn refuse_shared_keys(store: &Store, findings: &mut Findings) {
    let Store { kind: _, max_keys: _, data_dir: _, url, sentinel, prefix, timeout, token, secret, on_error } =
        store;
    let given = [
        ("url", place_of(url), "redis"),
        ("sentinel", place_of(sentinel), "redis"),
        ("prefix", place_of(prefix), "redis"),
        ("timeout", place_of(timeout), "redis"),
        ("token", place_of(token), "upstash"),
        ("secret", place_of(secret), "redis"),
    ];
    for (key, at, kind) in given {
        if let Some(at) = at {
            let wrong = Wrong::new(format!("`{key}` means nothing to a store in memory"));
            findings.problem(at, wrong.write(format!("remove it, or write `kind: {kind}`")));
        }
    }
    if let Some(on_error) = on_error
        && on_error.value != OnStoreError::Local
    {
        let word = on_error.value.word();
        let wrong = Wrong::new(format!("`on_error: {word}` never applies: a store in memory is never away"));
        findings.problem(&on_error.at, wrong.write("remove it, or write `kind: redis`"));
    }
}

fn place_of<T>(value: &Optional<Located<T>>) -> Option<&At> {
    value.given().map(|value| &value.at)
}

fn redis(store: &Store, kind: &At, findings: &mut Findings) -> Option<RedisPlace> {
    if let Optional::Given(token) = &store.token {
        let wrong = Wrong::new("`token` means nothing to Redis");
        findings.problem(&token.at, wrong.write("remove it: a password stands in the URL"));
    }
    match (&store.url, &store.sentinel) {
        (Optional::Absent, Optional::Absent) => {
            let wrong = Wrong::new("nothing says where Redis is");
            findings.problem(kind, wrong.write("add `url: redis://127.0.0.1:6379/0`, or `sentinel`"));
            None
        }
        (Optional::Given(urls), Optional::Absent) => match &urls.value {
            StoreUrls::One(url) => redis_url(url, Ok, findings).map(RedisPlace::Single),
            StoreUrls::Cluster(urls) => {
                redis_urls(urls, RedisUrl::for_cluster, findings).map(RedisPlace::Cluster)
            }
        },
        (Optional::Absent, Optional::Given(named)) => sentinel(&named.value, None, findings),
        (Optional::Given(urls), Optional::Given(named)) => match &urls.value {
            StoreUrls::One(url) => {
                let node = redis_url(url, Ok, findings);
                let sentinel = sentinel(&named.value, node.clone(), findings);
                node.and(sentinel)
            }
            StoreUrls::Cluster(_) => {
                let wrong = Wrong::new("a cluster has no sentinels, and `url` is a list of its nodes");
                let wrong =
                    wrong.write("remove one of the two, or write one URL: the password of the master");
                findings.problem(&named.at, wrong);
                None
            }
        },
        (Optional::Faulty, _) | (_, Optional::Faulty) => None,
    }
}

fn sentinel(sentinel: &Sentinel, node: Option<RedisUrl>, findings: &mut Findings) -> Option<RedisPlace> {
    let NonEmpty(urls) = sentinel.urls.as_ref()?;
    let sentinels = redis_urls(urls, RedisUrl::for_sentinel, findings)?;
    Some(RedisPlace::Sentinel { master: sentinel.master.as_ref()?.value.0.clone(), sentinels, node })
}

/// Each of them is looked at, so that every mistake is told.
fn redis_urls(
    list: &[Located<StoreUrl>],
    fit: fn(RedisUrl) -> Result<RedisUrl, RedisUrlFault>,
    findings: &mut Findings,
) -> Option<Vec<RedisUrl>> {
    let urls: Vec<Option<RedisUrl>> = list.iter().map(|written| redis_url(written, fit, findings)).collect();
    urls.into_iter().collect()
}

/// The fault tells what to write instead, and never what was written.
fn redis_url(
    written: &Located<StoreUrl>,
    fit: fn(RedisUrl) -> Result<RedisUrl, RedisUrlFault>,
    findings: &mut Findings,
) -> Option<RedisUrl> {
    let url = RedisUrl::parse(&written.value.0).and_then(fit);
    url.map_err(|fault| findings.problem(&written.at, Wrong::new(format!("the URL {fault}")))).ok()
}

fn upstash(store: &Store, kind: &At, findings: &mut Findings) -> Option<Place> {
    if let Optional::Given(sentinel) = &store.sentinel {
        findings.problem(&sentinel.at, Wrong::new("Upstash has no sentinels").write("remove it"));
    }
    let url = match &store.url {
        Optional::Given(urls) => upstash_url(urls, findings),
        Optional::Absent => {
            let wrong = Wrong::new("nothing says where the Upstash database is");
            findings.problem(kind, wrong.write("add `url: \"${UPSTASH_REDIS_REST_URL}\"`"));
            None
        }
        Optional::Faulty => None,
    };
    let token = match &store.token {
        Optional::Given(token) if token.value.0.expose_secret().is_empty() => {
            let wrong = Wrong::new("the token is empty");
            findings.problem(&token.at, wrong.write("copy it from the database's page, under REST API"));
            None
        }
        Optional::Given(token)
            if !token.value.0.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            let wrong = Wrong::new("the token has a space or another character that no token has");
            findings.problem(&token.at, wrong.write("copy it from the database's page, under REST API"));
            None
        }
        Optional::Given(token) => Some(token.value.0.clone()),
        Optional::Absent => {
            let wrong = Wrong::new("Upstash answers nobody without a token");
            findings.problem(kind, wrong.write("add `token: \"${UPSTASH_REDIS_REST_TOKEN}\"`"));
            None
        }
        Optional::Faulty => None,
    };
    Some(Place::Upstash { url: url?, token: token? })
}

fn upstash_url(urls: &Located<StoreUrls>, findings: &mut Findings) -> Option<UpstashUrl> {
    match &urls.value {
        StoreUrls::One(url) => match UpstashUrl::parse(url.value.0.expose_secret()) {
            Ok(url) => Some(url),
            Err(fault) => {
                findings.problem(&url.at, Wrong::new(fault.to_string()));
                None
            }
        },
        StoreUrls::Cluster(_) => {
            let wrong = Wrong::new("an Upstash database has one URL");
            findings.problem(&urls.at, wrong.write("write it without the list"));
            None
        }
    }
}

fn timeout(store: &Store, kind: written::StoreKind, findings: &mut Findings) -> Option<Duration> {
    const MAX: Span = Span::from_secs(5);
    match &store.timeout {
        Optional::Given(timeout) if timeout.value > MAX => {
            let wrong = Wrong::new(format!("a request would wait {} for the store", timeout.told()));
            findings.problem(&timeout.at, wrong.write(format!("write {MAX} or less")));
            None
        }
        Optional::Given(timeout) => Some(Duration::from_millis(timeout.value.as_millis())),
        Optional::Absent => Some(Duration::from_millis(match kind {
            written::StoreKind::Memory | written::StoreKind::Redis => 10,
            written::StoreKind::Upstash => 150,
        })),
        Optional::Faulty => None,
    }
}

/// One that came out empty is a mistake and not none: a gateway whose variable is not set would
/// count apart from all others.
fn secret(store: &Store, findings: &mut Findings) -> Option<Option<SecretString>> {
    let secret = match &store.secret {
        Optional::Absent => return Some(None),
        Optional::Faulty => return None,
        Optional::Given(secret) => secret,
    };
    if secret.value.0.expose_secret().len() < SECRET_BYTES_MIN {
        let wrong = Wrong::new(format!("the secret is shorter than {SECRET_BYTES_MIN} bytes"));
        findings.problem(&secret.at, wrong.write("make one with `openssl rand -hex 32`"));
        return None;
    }
    Some(Some(secret.value.0.clone()))
}

fn warn_of_guesses(store: &Store, shared: &SharedSpec, findings: &mut Findings) {
    let Some(at) = place_of(&store.url).or(place_of(&store.sentinel)) else { return };
    match shared.hashing_secret() {
        None => {
            let wrong = Wrong::new(
                "whoever can read the store can test guesses of phone numbers and e-mail addresses against the hashes",
            );
            findings.warning(at, wrong.write("set store.secret, or a password"));
        }
        Some(secret) if secret.expose_secret().len() < SECRET_BYTES_MIN => {
            let wrong = Wrong::new(format!(
                "keys are hashed under the store's own credentials, which can be guessed: they are shorter than {SECRET_BYTES_MIN} bytes"
            ));
            findings.warning(at, wrong.write("set store.secret"));
        }
        Some(_) => {}
    }
}
