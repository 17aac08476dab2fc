//! The store of the configuration, and the secret that keys are hashed under before it sees them.

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::ExposeSecret as _;

use super::StartError;
use crate::admin::StoreState;
use crate::clock::Clock;
use crate::decision::key::KeyHasher;
use crate::decision::policy::Rules;
use crate::store::spec::{StoreKind, StoreSpec};
use crate::store::{ScriptTime, Store};
use crate::telemetry::StoreMetrics;

/// Connects to nothing yet.
pub(super) fn open(spec: &StoreSpec, metrics: StoreMetrics, clock: Clock) -> Result<Store, StartError> {
    Ok(Store::open(spec.clone(), own_secret()?, metrics, clock, ScriptTime::Server))
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
