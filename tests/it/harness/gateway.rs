//! The gateway under test: the real one, in this process, on ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tollgate::app::{App, Source, StartError};
use tollgate::clock::{Clock, ManualClock};
use tollgate::config::Environment;
use tollgate::decision::time::{Span, Timestamp};

use super::backend::Backend;
use super::client::{Client, get};

/// A running gateway in front of a scripted backend.
pub(crate) struct Gateway {
    app: App,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    config: PathBuf,
    preamble: String,
    _dir: TempDir,
}

/// Where the hand-turned clock starts: a whole second, so that tests can count in them.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Listeners on free ports and `upstreams.app` with the backend: what every test's file begins with.
fn preamble(backend: SocketAddr) -> String {
    format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
         upstreams:\n  app:\n    servers: [\"{backend}\"]\n"
    )
}

impl Gateway {
    /// With the machine's clock. `rules` is the file without version, listeners and upstreams.
    pub(crate) async fn start(backend: &Backend, rules: &str) -> Gateway {
        Gateway::launch(&preamble(backend.addr()), rules, Clock::system()).await.expect("it starts")
    }

    /// With a clock that the test turns.
    pub(crate) async fn with_clock(backend: &Backend, rules: &str) -> (Gateway, ManualClock) {
        let (clock, hand) = Clock::manual(START);
        let gateway = Gateway::launch(&preamble(backend.addr()), rules, clock).await.expect("it starts");
        (gateway, hand)
    }

    /// With a file of the test's own; `preamble` is kept by [`Gateway::edit`].
    pub(crate) async fn launch(preamble: &str, rules: &str, clock: Clock) -> Result<Gateway, StartError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = dir.path().join("gateway.yaml");
        std::fs::write(&config, format!("{preamble}{rules}")).expect("a file");
        let source = Source::new(&config, Environment::empty());
        let loaded = source.load()?;
        let app = App::start(source, loaded, clock).await?;
        Ok(Gateway {
            address: app.addresses()[0],
            admin: app.admin_address(),
            app,
            config,
            preamble: preamble.to_owned(),
            _dir: dir,
        })
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// The folder that holds the configuration, and lists beside it.
    pub(crate) fn folder(&self) -> &Path {
        self.config.parent().expect("a file has a folder")
    }

    /// Writes new rules over the old ones, as an editor does; it takes effect when it does.
    pub(crate) fn edit(&self, rules: &str) {
        std::fs::write(&self.config, format!("{}{rules}", self.preamble)).expect("the file is there");
    }

    /// The value of a metric line that starts with `series`; zero while there is none.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let page = get(self.admin, "/metrics").await;
        let line = page
            .text()
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until so many reloads of this result (`ok`, `failed`) were made, the start included.
    pub(crate) async fn reloaded(&self, result: &str, count: u32) {
        let series = format!("tollgate_reloads_total{{result=\"{result}\"}}");
        let reached = async {
            while self.metric(&series).await < f64::from(count) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(super::PATIENCE, reached).await.expect("the reload is counted in time");
    }

    /// Stops it in an orderly way; whether every request in flight finished.
    pub(crate) async fn stop(self) -> bool {
        self.app.stop(Duration::from_secs(5)).await
    }
}

/// Seconds on the hand-turned clock.
pub(crate) fn seconds(s: u64) -> Span {
    Span::from_secs(s)
}
