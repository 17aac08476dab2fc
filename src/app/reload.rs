//! Puts an edited configuration in force, whole or not at all.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::service_manager::{News, ServiceManager};
use super::{Source, room, snapshot};
use crate::admin::RouteText;
use crate::config::watch::{Watch, WatchedFile};
use crate::config::{Config, Frozen, Loaded, Refused};
use crate::gateway::Gateway;
use crate::journal::{Event, EventKind};
use crate::otp::Lasting;
use crate::proxy::Snapshot;

/// What a reload needs.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) service_manager: ServiceManager,
    /// What was in force at the start and cannot change without a restart.
    pub(super) frozen: Frozen,
    pub(super) live: Arc<ArcSwap<Snapshot>>,
    /// What the routes of `live` match, for people.
    pub(super) routes: Arc<ArcSwap<Box<[RouteText]>>>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) codes: Arc<Lasting>,
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
        match snapshot(config, metrics, &self.codes).await {
            Ok(snapshot) => {
                self.live.store(Arc::new(snapshot));
                self.routes.store(Arc::new(routes));
                metrics.retain(&names.routes(), &names.upstreams());
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
}

impl Names {
    fn of(config: &Config) -> Names {
        Names {
            routes: config.rules.routes().iter().map(|route| route.name().into()).collect(),
            upstreams: config.upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
        }
    }

    fn routes(&self) -> Vec<&str> {
        // Requests without a route are counted under a name of their own.
        self.routes.iter().map(|name| &**name).chain(["-"]).collect()
    }

    fn upstreams(&self) -> Vec<&str> {
        self.upstreams.iter().map(|name| &**name).collect()
    }
}
