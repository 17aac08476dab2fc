//! The store of the configuration, the secret that keys are hashed under before it sees them, and what it goes on from.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::StartError;
use super::data_dir::{DataDir, derived, random};
use crate::admin::StoreState;
use crate::clock::Clock;
use crate::decision::key::{KeyHash, KeyHasher, LimitId};
use crate::decision::policy::Rules;
use crate::gateway::{Gateway, MirrorSpec};
use crate::store::snapshot::Snapshots;
use crate::store::spec::{StoreKind, StoreSpec};
use crate::store::{ScriptTime, Store};
use crate::telemetry::{DataDirMetrics, StoreMetrics};

/// Connects to nothing yet.
pub(super) fn open(spec: &StoreSpec, metrics: StoreMetrics, clock: Clock) -> Result<Store, StartError> {
    Ok(Store::open(spec, KeyHasher::new(random()?), metrics, clock, ScriptTime::Server))
}

/// What makes the names of keys. Gateways that share a store must find each other's keys; one by itself must find its
/// own again after a restart, and nobody outside can tell which keys share a shard or a bucket.
pub(super) fn hasher(spec: &StoreSpec, data: &DataDir) -> KeyHasher {
    match &spec.kind {
        StoreKind::Memory => KeyHasher::new(data.hash_secret),
        StoreKind::Shared(shared) => {
            let secret = shared.hashing_secret();
            let text = secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
            KeyHasher::new(shared_secret(text))
        }
    }
}

/// What gateways that share the store seal for each other with, and a name for this one. None where nobody
/// shares it.
pub(super) fn mirror(spec: &StoreSpec) -> Result<Option<MirrorSpec>, StartError> {
    let StoreKind::Shared(shared) = &spec.kind else { return Ok(None) };
    let secret = shared.hashing_secret();
    let text = secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
    let secret = derived("what gateways tell each other, 1", text.as_bytes());
    Ok(Some(MirrorSpec { secret, name: node_name()? }))
}

/// Exchanges blocks and events with the gateways that share the store, until `stopped`.
pub(super) fn exchange(
    gateway: Arc<Gateway>,
    spec: MirrorSpec,
    mut stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let stopped = async move {
            // An error means that the app is gone, which is a reason to stop as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        gateway.mirror(spec, stopped).await;
    })
}

/// The machine's name, as far as it has one, and letters that tell apart the gateways on it.
fn node_name() -> Result<Box<str>, StartError> {
    const NAME_MAX: usize = 40;
    let [a, b, c]: [u8; 3] = random()?;
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

/// The same in every gateway that knows the same secret. The prefix has no part in it: it keeps
/// apart by name what should be counted apart.
fn shared_secret(secret: &str) -> [u8; 16] {
    derived("names of keys in a shared store, 1", secret.as_bytes())
}

/// Lets a store that counts in this process go on from where the last one was. None if nothing of it can be kept.
pub(super) fn resume(
    store: &mut Store,
    spec: &StoreSpec,
    data: &DataDir,
    metrics: DataDirMetrics,
    clock: Clock,
) -> Option<Snapshots> {
    let folder = data.folder.as_ref()?;
    match &spec.kind {
        StoreKind::Memory => {
            let snapshots = Snapshots::new(folder, &hasher(spec, data), metrics, clock);
            snapshots.load(store);
            Some(snapshots)
        }
        StoreKind::Shared(_) => None,
    }
}

/// Saves the counters every few seconds, and once more when it is stopped.
pub(super) fn keep(
    gateway: Arc<Gateway>,
    snapshots: Snapshots,
    mut stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let snapshots = Arc::new(snapshots);
    tokio::spawn(async move {
        loop {
            let is_last = tokio::select! {
                stopped = stopped.wait_for(|stopped| *stopped) => match stopped {
                    Ok(_) => true,
                    // The app was dropped without a stop: its folder may be another's by now.
                    Err(_) => return,
                },
                () = tokio::time::sleep(snapshots.pause()) => false,
            };
            let (gateway, snapshots) = (Arc::clone(&gateway), Arc::clone(&snapshots));
            let saved = tokio::task::spawn_blocking(move || gateway.save(&snapshots)).await;
            if let Err(error) = saved {
                tracing::error!(%error, "saving the counters failed");
            }
            if is_last {
                return;
            }
        }
    })
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
        hasher(&config.store, &DataDir::without_folder(&random().unwrap()))
            .key(LimitId::derive(&["x"]))
            .finish()
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
        let secret = u128::from_be_bytes(shared_secret("a secret of the test"));
        assert_eq!(secret, 0xdc30_a1fc_7052_222a_c935_242c_d712_d47d);
    }

    #[test]
    fn two_gateways_in_memory_that_keep_nothing_have_nothing_in_common() {
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
