//! A gateway without its listeners: what blocks, lets go, and keeps a journal.

use std::sync::Arc;
use std::time::Duration;

use smallvec::smallvec;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollgate::clock::Clock;
use tollgate::config::{self, Environment};
use tollgate::decision::key::{Form, KeyHash, KeyHasher, KeyPart, KeySpec, Missing};
use tollgate::decision::time::Span;
use tollgate::gateway::{BlockOrder, Gateway, MirrorSpec, Policies};
use tollgate::journal::{BlockId, BlockRecord, EventFilter, Journal, JournalSpec};
use tollgate::store::ScriptTime;
use tollgate::store::spec::Place;
use tollgate::telemetry::Metrics;

use crate::conformance::shared;
use crate::harness::gateway::value_of;

/// A gateway that shares its store. Its folder outlives it.
pub(super) struct Node {
    pub(super) gateway: Arc<Gateway>,
    policies: Policies,
    pub(super) clock: Clock,
    folder: Arc<TempDir>,
    stop: oneshot::Sender<()>,
    mirroring: JoinHandle<()>,
}

const CONFIG: &str = "version: 1
listen: [{ address: 127.0.0.1:0 }]
upstreams: { app: { servers: [127.0.0.1:9] } }
routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1/s } }] }]
";

/// What all gateways of a site have in common.
pub(super) const SECRET: [u8; 32] = [5; 32];

impl Node {
    pub(super) fn start(place: Place, name: &str) -> Node {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        Node::start_in(folder, place, name, Clock::system(), SECRET)
    }

    pub(super) fn start_in(
        folder: Arc<TempDir>,
        place: Place,
        name: &str,
        clock: Clock,
        secret: [u8; 32],
    ) -> Node {
        let metrics = Metrics::new().expect("metrics");
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, CONFIG).expect("a file");
        let config = config::load(&file, &Environment::empty()).expect("a sound file").config;
        let policies = Policies::new(config.rules, config.user, &metrics);
        let spec = JournalSpec {
            folder: Some(folder.path().join("data")),
            retention: Span::from_secs(86_400),
            seal_key: [3; 32],
            hash_check: KeyHash::from_u128(1),
        };
        let journal = Journal::open(spec, metrics.journal(), clock.clone());
        let store = shared(place, ScriptTime::Server);
        let hasher = KeyHasher::new([9; 16]);
        let gateway = Arc::new(Gateway::new(store, clock.clone(), hasher, metrics, journal));
        let (stop, stopped) = oneshot::channel();
        let mirrored = Arc::clone(&gateway);
        let spec = MirrorSpec { secret, name: name.into() };
        let mirroring = tokio::spawn(async move {
            let stopped = async move {
                // Dropped is stopped as well.
                let _ = stopped.await;
            };
            tokio::select! {
                () = mirrored.mirror(spec, stopped) => {}
                () = mirrored.watch_store() => {}
            }
        });
        Node { gateway, policies, clock, folder, stop, mirroring }
    }

    /// Stops it in an orderly way; where it kept its journal.
    pub(super) async fn stop(self) -> Arc<TempDir> {
        // It may have ended with its runtime.
        let _ = self.stop.send(());
        self.mirroring.await.expect("it ends");
        self.gateway.close().await;
        self.folder
    }

    pub(super) async fn block(&self, user: &str, span_s: u64) -> Arc<BlockRecord> {
        let key = KeySpec { parts: smallvec![KeyPart::User], form: Form::Text, missing: Missing::Skip };
        let order = BlockOrder {
            key,
            values: vec![user.to_owned()],
            span: Span::from_secs(span_s),
            by: "the operator Ada".into(),
            note: None,
        };
        self.gateway.block(&self.policies, order).await.expect("a sound order").0
    }

    pub(super) async fn unblock(&self, id: BlockId) {
        self.gateway.unblock(id, "the operator Ada").await.expect("it is blocked");
    }

    /// The block of this key that is in force here.
    pub(super) fn holds(&self, key: KeyHash) -> Option<Arc<BlockRecord>> {
        self.gateway.journal().book().get(key, self.clock.now())
    }

    /// The kind and the gateway of all events on disk, sorted.
    pub(super) fn events(&self) -> Vec<(String, String)> {
        let rows = self.gateway.journal().events(&EventFilter { limit: 1000, ..EventFilter::default() });
        let rows = rows.expect("the journal can be read").into_iter();
        let told = |node: Option<&str>| node.unwrap_or("own").to_owned();
        let mut events: Vec<_> =
            rows.map(|row| (row.event.kind.word().to_owned(), told(row.event.node.as_deref()))).collect();
        events.sort();
        events
    }

    pub(super) fn metric(&self, series: &str) -> f64 {
        value_of(series, &self.gateway.metrics().render())
    }
}

/// How long a gateway may take to learn what another one knows, on a slow day.
pub(super) const HEARD_WITHIN: Duration = Duration::from_secs(10);
