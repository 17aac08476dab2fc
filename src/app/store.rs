//! The store of the configuration, and the secret that keys are hashed under before it sees them.

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::ExposeSecret as _;

use super::StartError;
use crate::admin::StoreState;
use crate::clock::Clock;
use crate::decision::key::{KeyHash, KeyHasher, LimitId};
use crate::decision::policy::Rules;
use crate::gateway::MirrorSpec;
use crate::store::spec::{StoreKind, StoreSpec};
use crate::store::{ScriptTime, Store};
use crate::telemetry::StoreMetrics;

/// Connects to nothing yet.
pub(super) fn open(spec: &StoreSpec, metrics: StoreMetrics, clock: Clock) -> Result<Store, StartError> {
    Ok(Store::open(spec, own_secret()?, metrics, clock, ScriptTime::Server))
}

/// What makes the names of keys. Gateways that share a store must find each other's keys.
pub(super) fn hasher(spec: &StoreSpec) -> Result<KeyHasher, StartError> {
    match &spec.kind {
        StoreKind::Memory => own_secret(),
        StoreKind::Shared(shared) => {
            let secret = shared.hashing_secret();
            let text = secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
            Ok(KeyHasher::new(derived(text)))
        }
    }
}

/// What gateways that share the store seal for each other with, and a name for this one. None where nobody
/// shares it.
pub(super) fn mirror(spec: &StoreSpec) -> Result<Option<MirrorSpec>, StartError> {
    let StoreKind::Shared(shared) = &spec.kind else { return Ok(None) };
    let secret = shared.hashing_secret();
    let text = secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"tollgate: what gateways tell each other, 1\0");
    context.update(text.as_bytes());
    let mut secret = [0; 32];
    secret.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Ok(Some(MirrorSpec { secret, name: node_name()? }))
}

/// The machine's name, as far as it has one, and letters that tell apart the gateways on it.
fn node_name() -> Result<Box<str>, StartError> {
    const NAME_MAX: usize = 40;
    let mut random = [0; 3];
    SystemRandom::new().fill(&mut random).map_err(|_| StartError::NoRandomness)?;
    let [a, b, c] = random;
    // Where no file tells, the letters must do.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_sound = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let host: String = host.trim().chars().filter(is_sound).take(NAME_MAX).collect();
    let host = if host.is_empty() { "gateway" } else { &host };
    Ok(format!("{host}-{a:02x}{b:02x}{c:02x}").into())
}

/// A fixed text under the secret of the keys: another one tells that keys on disk are of no use any more.
pub(super) fn hash_check(hasher: &KeyHasher) -> KeyHash {
    hasher.key(LimitId::derive(&["which secret keys are hashed under"])).finish()
}

/// A secret of this process: nobody outside can tell which keys share a shard or a bucket.
fn own_secret() -> Result<KeyHasher, StartError> {
    let mut secret = [0; 16];
    SystemRandom::new().fill(&mut secret).map_err(|_| StartError::NoRandomness)?;
    Ok(KeyHasher::new(secret))
}

/// The same in every gateway that knows the same secret. The prefix has no part in it: it keeps
/// apart by name what should be counted apart.
fn derived(secret: &str) -> [u8; 16] {
    // What else may be derived from the same secret one day comes out unlike this.
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"tollgate: names of keys in a shared store, 1\0");
    context.update(secret.as_bytes());
    let digest = context.finish();
    let mut half = [0; 16];
    half.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    half
}

/// What a load balancer is told: a store that is away takes this node out only where that was
/// asked for and requests are refused for it. It would take out all the others as well.
pub(super) fn state(up: bool, rules: &Rules, ready_needs_store: bool) -> StoreState {
    match (up, ready_needs_store && rules.need_the_store()) {
        (true, _) => StoreState::Up,
        (false, false) => StoreState::Down,
        (false, true) => StoreState::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config, Environment};

    fn config(rest: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        let text = format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ a: {{ servers: [127.0.0.1:8000] }} }}\n{rest}\n"
        );
        std::fs::write(&path, text).unwrap();
        config::load(&path, &Environment::empty()).unwrap_or_else(|refused| panic!("{refused}")).config
    }

    fn routes(limit: &str) -> String {
        format!(
            "routes: [{{ name: r, match: {{ path: /* }}, upstream: a, limits: [{{ key: ip, windows: {{ w: 1/s }}{limit} }}] }}]"
        )
    }

    fn key(store: &str) -> KeyHash {
        let config = config(&format!("{}\nstore: {store}", routes("")));
        hasher(&config.store).unwrap().key(LimitId::derive(&["x"])).finish()
    }

    #[test]
    fn gateways_that_share_a_store_and_a_secret_make_the_same_keys() {
        let by_password = key("{ kind: redis, url: 'redis://:hunter2@a:6379' }");
        assert_eq!(by_password, key("{ kind: redis, url: 'redis://:hunter2@b', prefix: 'x:' }"));
        assert_ne!(by_password, key("{ kind: redis, url: 'redis://:hunter3@a:6379' }"));
        assert_ne!(by_password, key("{ kind: redis, url: 'redis://a' }"));
        let by_secret = key("{ kind: redis, url: 'redis://:hunter2@a', secret: 0123456789abcdef }");
        assert_eq!(by_secret, key("{ kind: redis, url: 'redis://:hunter3@a', secret: 0123456789abcdef }"));
        assert_ne!(by_secret, by_password);
    }

    #[test]
    fn the_derivation_is_the_same_in_every_version() {
        // Another one makes gateways of two versions count apart during a rolling update.
        let secret = u128::from_be_bytes(derived("a secret of the test"));
        assert_eq!(secret, 0xdc30_a1fc_7052_222a_c935_242c_d712_d47d);
    }

    #[test]
    fn two_gateways_in_memory_have_nothing_in_common() {
        assert_ne!(key("{}"), key("{}"));
    }

    #[test]
    fn the_store_is_missed_only_where_it_is_asked_for_and_a_limit_is_closed() {
        let check = |limit: &str, up: bool, ready_needs_store: bool, expected: StoreState| {
            let rules = config(&routes(limit)).rules;
            assert_eq!(state(up, &rules, ready_needs_store), expected, "{limit} {up} {ready_needs_store}");
        };
        let closed = ", on_store_error: closed";
        check(closed, false, true, StoreState::Missed);
        check(closed, false, false, StoreState::Down);
        check(closed, true, true, StoreState::Up);
        check("", false, true, StoreState::Down);
        check(", on_store_error: open", false, true, StoreState::Down);
        check(", on_store_error: closed, mode: shadow", false, true, StoreState::Down);
    }
}
