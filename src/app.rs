//! The composition root: the only place that names every adapter and puts them together.

mod bind;
mod codes;
mod data_dir;
mod entrance;
mod reload;
mod room;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::server::configuration::ServerConf;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::bind::{bind, thread_count};
use self::data_dir::DataDir;
use self::reload::Reloader;
use self::room::Parts;
use crate::admin::{Admin, Phase, Readiness};
use crate::clock::Clock;
use crate::config::{self, Config, Environment, Loaded, Refused};
use crate::gateway::{Gateway, Policies};
use crate::journal::{Journal, JournalSpec};
use crate::otp::{Lasting, OtpError};
use crate::proxy::{Edge, Entrances, Listeners, ResolveError, Snapshot, Upstream};
use crate::store::snapshot::Snapshots;
use crate::telemetry::Metrics;

pub use self::bind::BindError;
pub use self::data_dir::DataDirError;

/// How often the log is told what it was spared.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How many reports go by between two sweeps of spent counters.
const REPORTS_A_SWEEP: u32 = 15;
/// And how many between two clean-ups of the journal: an hour.
const REPORTS_A_CLEANUP: u32 = 3600;
/// Idle connections kept to backends, a worker.
const IDLE_CONNECTIONS: usize = 512;
/// Retries are counted by upstream; Pingora's own bound only has to be out of the way.
const RETRIES_MAX: usize = 8;

/// Where a configuration comes from: read now, and again whenever it changes.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: PathBuf,
    pub environment: Environment,
}

/// A running gateway.
pub struct App {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    readiness: Readiness,
    listeners: Listeners,
    stop: watch::Sender<bool>,
    reload: mpsc::Sender<()>,
    /// Ends with the last words to other gateways.
    mirror: Option<JoinHandle<()>>,
    /// Ends with the last snapshot of the counters.
    keeper: Option<JoinHandle<()>>,
    /// Nobody else has the folder while this is here.
    _data: DataDir,
    gateway: Arc<Gateway>,
    codes: Arc<Lasting>,
}

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] Refused),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("cannot set up metrics: {0}")]
    Metrics(String),
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// Why a sound configuration cannot be put in force.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Codes(#[from] OtpError),
}

impl Source {
    pub fn new(path: &Path, environment: Environment) -> Source {
        Source { path: path.to_owned(), environment }
    }

    pub fn load(&self) -> Result<Loaded, Refused> {
        config::load(&self.path, &self.environment)
    }
}

/// How many threads a configuration asks for.
pub fn workers(config: &Config) -> usize {
    thread_count(config.workers)
}

impl App {
    /// Starts in the current runtime. `loaded` is what `source` gave.
    pub async fn start(source: Source, loaded: Loaded, clock: Clock) -> Result<App, StartError> {
        let Loaded { config, warnings, files } = loaded;
        for warning in &warnings {
            tracing::warn!("{}", warning.brief());
        }
        let Bound { listeners, addresses, admin_listener, admin_address } = Bound::of(&config)?;
        let metrics = Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?;
        let Kept { gateway, data, snapshots, codes } = kept(&config, &metrics, clock)?;
        let mirror = store::mirror(&config.store)?;
        let (admin, webhook, threads) = (config.admin.clone(), config.webhook.clone(), workers(&config));
        let frozen = config::Frozen::of(&config);
        let store_kind = room::store_kind(&config.store);
        let routes = Arc::new(ArcSwap::from_pointee(room::route_texts(&config)));
        metrics.certificates(&entrance::ends(&config.listen));
        let entrances = Arc::new(Entrances::new(config.listen.iter().map(entrance::of)));
        let live = Arc::new(ArcSwap::from_pointee(snapshot(config, &metrics, &codes).await?));
        metrics.reload_succeeded(gateway.clock().now());

        let edge = Edge::new(Arc::clone(&gateway), Arc::clone(&live));
        let readiness = Readiness::new();
        let (stop, stopped) = watch::channel(false);
        let reloader = Reloader {
            source,
            frozen,
            live: Arc::clone(&live),
            routes: Arc::clone(&routes),
            entrances: Arc::clone(&entrances),
            gateway: Arc::clone(&gateway),
            codes: Arc::clone(&codes),
        };
        let reload = reloader.spawn(files, stopped.clone());
        let admin = room::admin(Parts {
            spec: &admin,
            store_kind,
            gateway: &gateway,
            live: &live,
            routes: &routes,
            reload: &reload,
            readiness: &readiness,
        });
        tokio::spawn(serve(admin, admin_listener, stopped.clone()));
        tokio::spawn(tidy(Arc::clone(&gateway), stopped.clone()));
        if let Some(webhook) = webhook {
            tokio::spawn(room::alerts(webhook, &gateway, stopped.clone()));
        }
        tokio::spawn(watch_store(Arc::clone(&gateway), stopped.clone()));
        let mirror = mirror.map(|spec| store::exchange(Arc::clone(&gateway), spec, stopped.clone()));
        let keeper = snapshots.map(|snapshots| store::keep(Arc::clone(&gateway), snapshots, stopped));
        let conf = Arc::new(server_conf(threads));
        let listeners = Listeners::start(edge, &conf, listeners, &entrances);
        readiness.set(Phase::Ready);
        Ok(App {
            addresses,
            admin_address,
            readiness,
            listeners,
            stop,
            reload,
            mirror,
            keeper,
            gateway,
            codes,
            _data: data,
        })
    }

    /// The addresses listened on, in the order of the file.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Sends here ask for the configuration to be read again.
    pub fn reload_handle(&self) -> mpsc::Sender<()> {
        self.reload.clone()
    }

    /// Stops accepting and lets requests in flight finish for at most `drain`, or until `hurry` is there; whether all
    /// did. What was counted is on disk then, and another gateway may have the folder.
    pub async fn stop(self, drain: Duration, hurry: impl Future<Output = ()>) -> bool {
        self.readiness.set(Phase::Draining);
        let drained = tokio::select! {
            drained = self.listeners.stop(drain) => drained,
            () = hurry => false,
        };
        if !self.codes.deliveries.finish(drain).await {
            tracing::error!("some codes were still being sent: they may arrive or not");
        }
        // The other tasks are gone already if nobody receives.
        let _ = self.stop.send(true);
        if let Some(mirror) = self.mirror
            && let Err(error) = mirror.await
        {
            tracing::error!(%error, "the exchange with other gateways ended before its time");
        }
        if let Some(keeper) = self.keeper
            && let Err(error) = keeper.await
        {
            tracing::error!(%error, "the counters were not saved a last time");
        }
        self.gateway.close().await;
        drained
    }
}

/// The sockets, before anybody is served.
struct Bound {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    admin_listener: TcpListener,
    admin_address: SocketAddr,
}

impl Bound {
    fn of(config: &Config) -> Result<Bound, BindError> {
        let listeners = config.listen.iter().map(|listener| bind(listener.address, "listen"));
        let listeners = listeners.collect::<Result<Vec<TcpListener>, BindError>>()?;
        let admin_listener = bind(config.admin.address, "admin.address")?;
        let bound = |listener: &TcpListener| listener.local_addr().map_err(BindError::unknown);
        let addresses = listeners.iter().map(bound).collect::<Result<Vec<SocketAddr>, BindError>>()?;
        let admin_address = bound(&admin_listener)?;
        Ok(Bound { listeners, addresses, admin_listener, admin_address })
    }
}

/// The gateway with what an earlier process left behind.
struct Kept {
    gateway: Arc<Gateway>,
    data: DataDir,
    snapshots: Option<Snapshots>,
    codes: Arc<Lasting>,
}

fn kept(config: &Config, metrics: &Metrics, clock: Clock) -> Result<Kept, StartError> {
    let data = DataDir::open(&config.store.data_dir, &metrics.data_dir())?;
    let mut store = store::open(&config.store, metrics.store(), clock.clone())?;
    // Nobody is served yet who would wait for it.
    let snapshots = store::resume(&mut store, &config.store, &data, metrics.data_dir(), clock.clone());
    let hasher = store::hasher(&config.store, &data);
    let journal = JournalSpec {
        folder: data.folder.clone(),
        retention: config.retention,
        seal_key: data.seal_key,
        hash_check: store::hash_check(&hasher),
    };
    let journal = Journal::open(journal, metrics.journal(), clock.clone());
    let store = Arc::new(store);
    let codes = codes::lasting(&store, &journal, &data, metrics, &clock);
    let gateway = Arc::new(Gateway::new(store, clock, hasher, metrics.clone(), journal));
    Ok(Kept { gateway, data, snapshots, codes })
}

fn server_conf(threads: usize) -> ServerConf {
    ServerConf {
        threads,
        max_retries: RETRIES_MAX,
        upstream_keepalive_pool_size: IDLE_CONNECTIONS,
        ..ServerConf::default()
    }
}

/// The rules of one configuration with everything that they name.
async fn snapshot(
    config: Config,
    metrics: &Metrics,
    codes: &Arc<Lasting>,
) -> Result<Snapshot, SnapshotError> {
    let mut upstreams = Vec::with_capacity(config.upstreams.len());
    for spec in &config.upstreams {
        upstreams.push(Upstream::resolve(spec, metrics).await?);
    }
    let mut policies = Policies::new(config.rules, config.user, metrics);
    if let Some(spec) = config.otp {
        policies = policies.with_codes(codes::otp(spec, codes)?);
    }
    Ok(Snapshot { policies: Arc::new(policies), upstreams: upstreams.into_boxed_slice() })
}

async fn serve(admin: Admin, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let shutdown = async move {
        // An error means that the app is gone, which is a reason to stop as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = admin.serve(listener, shutdown).await {
        tracing::error!(%error, "the admin listener stopped");
    }
}

async fn watch_store(gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = gateway.watch_store() => {}
    }
}

async fn tidy(gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
    for round in (0..REPORTS_A_CLEANUP).cycle() {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(REPORT_EVERY) => gateway.report_suppressed(),
        }
        if round == 0 {
            gateway.tidy_journal();
        }
        if round % REPORTS_A_SWEEP > 0 {
            continue;
        }
        let gateway = Arc::clone(&gateway);
        // A full sweep of a large table takes long enough to be in the way of a worker.
        if let Err(error) = tokio::task::spawn_blocking(move || gateway.sweep()).await {
            tracing::error!(%error, "the sweep of spent counters failed");
        }
    }
}
