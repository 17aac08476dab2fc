//! The composition root: the only place that names every adapter and puts them together.

mod activation;
mod bind;
mod bound;
mod chores;
mod codes;
mod data_dir;
mod entrance;
mod first_commit;
mod handover;
mod rehearsal;
mod reload;
mod room;
mod service_manager;
mod store;
mod traces;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::try_join_all;
use pingora::server::configuration::ServerConf;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::bind::thread_count;
use self::bound::Bound;
use self::chores::spawn_chores;
use self::data_dir::{DataDir, random};
use self::handover::{Offer, Predecessor};
use self::reload::Reloader;
use self::room::Parts;
use crate::admin::{Admin, Phase, Readiness};
use crate::clock::Clock;
use crate::config::{self, Config, Environment, Loaded, Refused};
use crate::decision::time::{Span, Timestamp};
use crate::gateway::{Gateway, Policies};
use crate::journal::{Journal, JournalSpec};
use crate::otp::{Lasting, OtpError};
use crate::proxy::{
    Before, Caretaker, Edge, Entrances, Farewell, Listeners, ResolveError, Resolver, Snapshot,
    SystemResolver, Upstream,
};
use crate::store::snapshot::Snapshots;
use crate::telemetry::{AccessLog, Metrics};

pub use self::activation::Activation;
pub use self::bind::BindError;
pub use self::data_dir::DataDirError;
pub use self::handover::{HandoverError, Successor};
pub use self::rehearsal::{Imagined, Rehearsal};
pub use self::service_manager::{News, ServiceManager};
pub use crate::gateway::{Counted, Explained, UserSeen};

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

/// What a gateway takes from the machine, and a test from its hand.
pub struct Outside {
    pub clock: Clock,
    /// Who knows the addresses of backends.
    pub resolver: Arc<dyn Resolver>,
    /// Sockets that are open before the gateway is there.
    pub activation: Activation,
}

impl From<Clock> for Outside {
    fn from(clock: Clock) -> Outside {
        Outside { clock, resolver: Arc::new(SystemResolver), activation: Activation::default() }
    }
}

/// A running gateway.
pub struct App {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    readiness: Readiness,
    farewell: Farewell,
    listeners: Listeners,
    /// To a process that takes over, if there is a folder to find this one by.
    offer: Option<Offer>,
    reload: mpsc::Sender<()>,
    drain: Drain,
    holdings: Holdings,
}

/// How a gateway takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long it is not ready, but serves: until a balancer has noticed.
    pub delay: Duration,
    /// How long requests in flight may finish after that.
    pub within: Duration,
}

/// What one process at a time has: the folder, and whoever writes there.
struct Holdings {
    stop: watch::Sender<bool>,
    /// Ends with the last words to other gateways.
    mirror: Option<JoinHandle<()>>,
    /// Ends with the last snapshot of the counters.
    keeper: Option<JoinHandle<()>>,
    /// Backends are looked after while this is here.
    _caretaker: Arc<Caretaker>,
    gateway: Arc<Gateway>,
    codes: Arc<Lasting>,
    access: Arc<AccessLog>,
    /// Ends with the last spans.
    exporter: Option<JoinHandle<()>>,
    /// Nobody else has the folder while this is here.
    data: DataDir,
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
    #[error(transparent)]
    Handover(#[from] HandoverError),
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
    pub async fn start(
        source: Source,
        loaded: Loaded,
        outside: impl Into<Outside>,
    ) -> Result<App, StartError> {
        App::launch(source, loaded, outside.into(), None).await
    }

    /// Takes over from the gateway that runs on the same folder, without a refused connection; starts as ever where
    /// none does. Up to the point where nothing but the folder is missing, that one goes on if this one fails.
    pub async fn succeed(
        source: Source,
        loaded: Loaded,
        outside: impl Into<Outside>,
    ) -> Result<App, StartError> {
        let predecessor = Predecessor::find(&loaded.config.store.data_dir).await?;
        App::launch(source, loaded, outside.into(), predecessor).await
    }

    async fn launch(
        source: Source,
        loaded: Loaded,
        outside: Outside,
        mut predecessor: Option<Predecessor>,
    ) -> Result<App, StartError> {
        let Outside { clock, resolver, activation } = outside;
        let Loaded { config, warnings, files } = loaded;
        warnings.iter().for_each(|warning| tracing::warn!("{}", warning.brief()));
        let inherited = predecessor.as_mut().map(Predecessor::sockets).unwrap_or_default();
        let bound = Bound::of(&config, inherited, activation)?;
        let sockets = bound.copies()?;
        let Bound { listeners, addresses, admin_listener, admin_address } = bound;
        let metrics = Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?;
        let caretaker = Arc::new(Caretaker::new(clock.clone(), resolver));
        if let Some(predecessor) = predecessor {
            // What could fail later on fails now, while it could still go on.
            upstreams(&config, &metrics, &caretaker, None, clock.now()).await?;
            predecessor.take_over().await?;
        }
        let Kept { gateway, data, snapshots, codes } = kept(&config, &metrics, clock)?;
        let mirror = store::mirror(&config.store)?;
        let (admin, webhook, threads) = (config.admin.clone(), config.webhook.clone(), workers(&config));
        let (drain, spans, frozen) = (Drain::of(&config), config.spans.clone(), config::Frozen::of(&config));
        let store_kind = room::store_kind(&config.store);
        let routes = Arc::new(ArcSwap::from_pointee(room::route_texts(&config)));
        metrics.certificates(&entrance::ends(&config.listen));
        let entrances = Arc::new(Entrances::new(config.listen.iter().map(entrance::of)));
        let live = first(config, &metrics, &codes, &caretaker, gateway.clock()).await?;

        let access = Arc::new(AccessLog::new(metrics.access()));
        let edge = Edge::new(Arc::clone(&gateway), Arc::clone(&live), Arc::clone(&access), &random()?);
        let farewell = edge.farewell();
        let readiness = Readiness::new();
        let (stop, stopped) = watch::channel(false);
        let (edge, exporter) = traces::export(spans.as_ref(), edge, &metrics, &stopped);
        let service_manager = ServiceManager::of(&source.environment);
        let reloader = Reloader {
            source,
            service_manager,
            frozen,
            live: Arc::clone(&live),
            routes: Arc::clone(&routes),
            entrances: Arc::clone(&entrances),
            gateway: Arc::clone(&gateway),
            codes: Arc::clone(&codes),
            caretaker: Arc::clone(&caretaker),
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
        spawn_chores(&gateway, webhook, &stopped);
        let mirror = mirror.map(|spec| store::exchange(Arc::clone(&gateway), spec, stopped.clone()));
        let keeper = snapshots.map(|snapshots| store::keep(Arc::clone(&gateway), snapshots, stopped));
        first_commit::wait(gateway.journal()).await;
        let listeners = Listeners::start(edge, &server_conf(threads), listeners, &entrances);
        let offer = data.folder.as_deref().map(|folder| handover::offer(folder, sockets));
        let holdings =
            Holdings { stop, mirror, keeper, exporter, gateway, codes, access, data, _caretaker: caretaker };
        readiness.set(Phase::Ready);
        Ok(App { addresses, admin_address, readiness, farewell, listeners, offer, reload, drain, holdings })
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

    /// As the configuration has it.
    pub fn drain(&self) -> Drain {
        self.drain
    }

    /// Waits for a process that is to take over, to be given to [`App::hand_over`].
    pub async fn successor(&mut self) -> Successor {
        match &mut self.offer {
            Some(offer) => offer.accepted().await,
            None => std::future::pending().await,
        }
    }

    /// Is not ready for `drain.delay`, then stops accepting and lets requests in flight, and those that were about to be
    /// sent, finish for at most `drain.within`, or until `hurry` is there; whether all did. What was counted is on disk
    /// then, and another gateway may have the folder. Whoever has come to a socket of the service manager by then
    /// waits there for the next process.
    pub async fn stop(mut self, drain: Drain, hurry: impl Future<Output = ()>) -> bool {
        self.readiness.set(Phase::Draining);
        self.farewell.begin();
        tracing::info!("stopping: requests in flight may finish");
        if let Some(offer) = self.offer {
            offer.withdraw().await;
        }
        let drained = tokio::select! {
            drained = async {
                tokio::time::sleep(drain.delay).await;
                self.listeners.close(handover::LINGER).await;
                self.listeners.finish(drain.within).await
            } => drained,
            () = hurry => false,
        };
        if !drained {
            // Perhaps while it still accepted.
            self.listeners.close(Duration::ZERO).await;
        }
        self.holdings.give_up(drain.within).await;
        drained
    }

    /// Lets `successor` have listeners, folder and counters; requests in flight finish here for at most
    /// `drain.within`, or until `hurry` is there. Whether all did.
    pub async fn hand_over(
        mut self,
        successor: Successor,
        drain: Drain,
        hurry: impl Future<Output = ()>,
    ) -> bool {
        self.readiness.set(Phase::Draining);
        self.farewell.begin();
        tracing::info!("another process takes over: requests in flight may finish");
        self.listeners.close(handover::LINGER).await;
        self.farewell.decide_no_more();
        self.holdings.give_up(handover::CODES_PATIENCE).await;
        successor.hand_over().await;
        tokio::select! {
            drained = self.listeners.finish(drain.within) => drained,
            () = hurry => false,
        }
    }
}

impl Drain {
    fn of(config: &Config) -> Drain {
        let duration = |span: Span| Duration::from_millis(span.as_millis());
        Drain { delay: duration(config.drain.delay), within: duration(config.drain.within) }
    }
}

impl Holdings {
    /// Writes down what is not yet, and lets go of the folder. Codes that are being sent are waited for that long.
    async fn give_up(self, for_codes: Duration) {
        if !self.codes.deliveries.finish(for_codes).await {
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
        if let Some(exporter) = self.exporter
            && let Err(error) = exporter.await
        {
            tracing::error!(%error, "the export of spans ended before its time");
        }
        self.gateway.close().await;
        self.access.flush().await;
        drop(self.data);
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

fn server_conf(threads: usize) -> Arc<ServerConf> {
    Arc::new(ServerConf {
        threads,
        max_retries: RETRIES_MAX,
        upstream_keepalive_pool_size: IDLE_CONNECTIONS,
        ..ServerConf::default()
    })
}

/// The configuration that the gateway starts with.
async fn first(
    config: Config,
    metrics: &Metrics,
    codes: &Arc<Lasting>,
    caretaker: &Caretaker,
    clock: &Clock,
) -> Result<Arc<ArcSwap<Snapshot>>, SnapshotError> {
    let first = snapshot(config, metrics, codes, caretaker, None, clock.now()).await?;
    caretaker.take_over(&first.upstreams);
    metrics.reload_succeeded(clock.now());
    Ok(Arc::new(ArcSwap::from_pointee(first)))
}

/// The rules of one configuration with everything that they name; `before` is what it takes the place of.
async fn snapshot(
    config: Config,
    metrics: &Metrics,
    codes: &Arc<Lasting>,
    caretaker: &Caretaker,
    before: Option<&Snapshot>,
    now: Timestamp,
) -> Result<Snapshot, SnapshotError> {
    let upstreams = upstreams(&config, metrics, caretaker, before, now).await?;
    let (trace, access_lines) = (config.trace, room::access_lines(config.access_log));
    let mut policies = Policies::new(config.rules, config.user, metrics);
    if let Some(spec) = config.otp {
        policies = policies.with_codes(codes::otp(spec, codes)?);
    }
    Ok(Snapshot::new(policies, upstreams, trace, access_lines))
}

async fn upstreams(
    config: &Config,
    metrics: &Metrics,
    caretaker: &Caretaker,
    before: Option<&Snapshot>,
    now: Timestamp,
) -> Result<Box<[Arc<Upstream>]>, SnapshotError> {
    let upstreams = config.upstreams.iter().map(|spec| {
        let before = match before {
            None => Before::Nothing,
            Some(before) => Before::Running(before.upstream(&spec.name)),
        };
        Upstream::resolve(spec, metrics, caretaker.resolver(), before, now)
    });
    Ok(try_join_all(upstreams).await?.into_iter().map(Arc::new).collect())
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
