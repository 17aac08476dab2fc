//! Puts an edited configuration in force, whole or not at all.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::service_manager::{News, ServiceManager};
use super::{Source, entrance, room, snapshot};
use crate::admin::RouteText;
use crate::config::watch::{Watch, WatchedFile};
use crate::config::{Config, Frozen, Loaded, Refused};
use crate::gateway::Gateway;
use crate::journal::{Event, EventKind};
use crate::otp::Lasting;
use crate::otp::spec::OtpSpec;
use crate::proxy::{Caretaker, Entrances, Snapshot};

/// What a reload needs.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) service_manager: ServiceManager,
    /// What was in force at the start and cannot change without a restart.
    pub(super) frozen: Frozen,
    pub(super) live: Arc<ArcSwap<Snapshot>>,
    /// What the routes of `live` match, for people.
    pub(super) routes: Arc<ArcSwap<Box<[RouteText]>>>,
    pub(super) entrances: Arc<Entrances>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) codes: Arc<Lasting>,
    pub(super) caretaker: Arc<Caretaker>,
}

impl Reloader {
    /// Reloads whenever a file changes, and whenever something is sent to what this returns.
    pub(super) fn spawn(self, files: Vec<WatchedFile>, stopped: watch::Receiver<bool>) -> mpsc::Sender<()> {
        let (ask, asked) = mpsc::channel(1);
        tokio::spawn(self.run(Watch::new(files), asked, stopped));
        ask
    }

    async fn run(self, mut watch: Watch, mut asked: mpsc::Receiver<()>, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = watch.changed() => {}
                Some(()) = asked.recv() => {}
            }
            self.service_manager.tell(News::Reloading);
            let source = self.source.clone();
            match tokio::task::spawn_blocking(move || read(&source)).await {
                // Half of a list may be a sound one: what was touched meanwhile is waited for again.
                Ok(Err(Touched(files))) => watch.follow(files),
                Ok(Ok(Ok(loaded))) => watch.follow(self.apply(loaded).await),
                Ok(Ok(Err(refused))) => {
                    let mistakes: Vec<String> = refused.problems.brief().collect();
                    self.refuse(&mistakes.join("; "));
                    watch.follow(refused.files);
                }
                Err(error) => self.refuse(&error.to_string()),
            }
            self.service_manager.tell(News::Ready);
        }
    }

    async fn apply(&self, loaded: Loaded) -> Vec<WatchedFile> {
        let Loaded { config, warnings, files } = loaded;
        if config.rules.routes().is_empty() {
            self.refuse("the edit removes every route");
            return files;
        }
        for warning in &warnings {
            tracing::warn!("{}", warning.brief());
        }
        let waiting = self.frozen.differences(&config);
        let metrics = self.gateway.metrics();
        let (names, routes) = (Names::of(&config), room::route_texts(&config));
        let entrances = config.listen.iter().map(entrance::of).collect();
        let ends = entrance::ends(&config.listen);
        let (before, now) = (self.live.load_full(), self.gateway.clock().now());
        match snapshot(config, metrics, &self.codes, &self.caretaker, Some(&before), now).await {
            Ok(snapshot) => {
                self.caretaker.take_over(&snapshot.upstreams);
                self.live.store(Arc::new(snapshot));
                self.entrances.replace(entrances);
                metrics.certificates(&ends);
                self.routes.store(Arc::new(routes));
                metrics.retain(&names.routes(), &names.upstreams());
                metrics.retain_servers(|upstream, server| names.has_server(upstream, server));
                metrics.sms().retain(&names.providers());
                let now = self.gateway.clock().now();
                metrics.reload_succeeded(now);
                self.gateway.journal().note(Event::new(EventKind::Reload, now));
                tracing::info!(routes = names.routes.len(), "the configuration was reloaded");
                for key in waiting {
                    tracing::warn!(key, "this change needs a restart; everything else is in force");
                }
            }
            Err(error) => self.refuse(&error.to_string()),
        }
        files
    }

    fn refuse(&self, reason: &str) {
        let now = self.gateway.clock().now();
        self.gateway.metrics().reload_failed(now);
        let detail = Some(reason.into());
        self.gateway.journal().note(Event { detail, ..Event::new(EventKind::ReloadFailed, now) });
        tracing::error!(reason, "the configuration was not reloaded; the last good one stays in force");
    }
}

/// Somebody wrote to one of these files while they were read.
struct Touched(Vec<WatchedFile>);

fn read(source: &Source) -> Result<Result<Loaded, Refused>, Touched> {
    let loaded = source.load();
    let files = match &loaded {
        Ok(loaded) => &loaded.files,
        Err(refused) => &refused.files,
    };
    if files.iter().all(WatchedFile::is_as_read) { Ok(loaded) } else { Err(Touched(files.clone())) }
}

/// The names that metrics know.
struct Names {
    routes: Vec<Box<str>>,
    upstreams: Vec<Box<str>>,
    /// With the names of their upstreams.
    servers: Vec<(Box<str>, String)>,
    providers: Vec<Box<str>>,
}

impl Names {
    fn of(config: &Config) -> Names {
        Names {
            routes: config.rules.routes().iter().map(|route| route.name().into()).collect(),
            upstreams: config.upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
            servers: config
                .upstreams
                .iter()
                .flat_map(|upstream| {
                    upstream.servers.iter().map(|server| (upstream.name.clone(), server.to_string()))
                })
                .collect(),
            providers: config.otp.iter().flat_map(OtpSpec::provider_names).map(Into::into).collect(),
        }
    }

    fn has_server(&self, upstream: &str, server: &str) -> bool {
        self.servers.iter().any(|(of, name)| (&**of, name.as_str()) == (upstream, server))
    }

    fn routes(&self) -> Vec<&str> {
        // Requests without a route are counted under a name of their own.
        self.routes.iter().map(|name| &**name).chain(["-"]).collect()
    }

    fn providers(&self) -> Vec<&str> {
        self.providers.iter().map(|name| &**name).collect()
    }

    fn upstreams(&self) -> Vec<&str> {
        self.upstreams.iter().map(|name| &**name).collect()
    }
}
