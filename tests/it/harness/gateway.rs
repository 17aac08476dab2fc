//! The gateway under test: the real one, in this process, on ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tollgate::app::{App, Drain, Outside, Source, StartError};
use tollgate::clock::{Clock, ManualClock};
use tollgate::config::Environment;
use tollgate::decision::time::{Span, Timestamp};

use super::backend::Backend;
use super::client::{Client, get};
use super::{ASK_EVERY, PATIENCE};

/// A running gateway in front of a scripted backend.
pub(crate) struct Gateway {
    app: App,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    config: PathBuf,
    preamble: String,
    /// Gone with the gateway; none where the test brought a file of its own.
    _folder: Option<TempDir>,
}

/// Where the hand-turned clock starts: a whole second, so that tests can count in them.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Listeners on free ports and `upstreams.app` with the backend: what every test's file begins with.
pub(crate) fn preamble(backend: SocketAddr) -> String {
    format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0, max_connections_per_ip: 5000 }}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
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
    pub(crate) async fn launch(
        preamble: &str,
        rules: &str,
        outside: impl Into<Outside>,
    ) -> Result<Gateway, StartError> {
        Gateway::launch_with(preamble, rules, Environment::empty(), outside).await
    }

    pub(crate) async fn launch_with(
        preamble: &str,
        rules: &str,
        environment: Environment,
        outside: impl Into<Outside>,
    ) -> Result<Gateway, StartError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("gateway.yaml");
        std::fs::write(&config, format!("{preamble}{rules}")).expect("a file");
        let gateway = Gateway::from_file(&config, environment, outside).await?;
        Ok(Gateway { preamble: preamble.to_owned(), _folder: Some(folder), ..gateway })
    }

    /// With a file that is there already.
    pub(crate) async fn from_file(
        config: &Path,
        environment: Environment,
        outside: impl Into<Outside>,
    ) -> Result<Gateway, StartError> {
        let source = Source::new(config, environment);
        let loaded = source.load()?;
        let app = App::start(source, loaded, outside).await?;
        Ok(Gateway {
            address: app.addresses()[0],
            admin: app.admin_address(),
            app,
            config: config.to_owned(),
            preamble: String::new(),
            _folder: None,
        })
    }

    /// The addresses of all listeners, in the order of the file.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.app.addresses()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// The folder that holds the configuration, and lists beside it.
    pub(crate) fn folder(&self) -> &Path {
        self.config.parent().expect("a file has a folder")
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Puts new rules in the place of the old ones; they take effect when they do.
    pub(crate) fn edit(&self, rules: &str) {
        replace(&self.config, &self.whole(rules));
    }

    /// The whole file with these rules.
    pub(crate) fn whole(&self, rules: &str) -> String {
        format!("{}{rules}", self.preamble)
    }

    /// Asks for a reload, as SIGHUP does.
    pub(crate) async fn ask_for_reload(&self) {
        self.app.reload_handle().send(()).await.expect("the reloader is there");
    }

    /// The page of metrics.
    pub(crate) async fn metrics(&self) -> String {
        get(self.admin, "/metrics").await.text().to_owned()
    }

    /// The value of a metric line that starts with `series`; zero while there is none.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        value_of(series, &self.metrics().await)
    }

    /// Waits until a series has this value.
    pub(crate) async fn reaches(&self, series: &str, value: f64) {
        let reached = async {
            while self.metric(series).await != value {
                sleep(ASK_EVERY).await;
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            panic!("waited {PATIENCE:?} for {series} to be {value}, it is {}", self.metric(series).await);
        }
    }

    /// Waits until so many reloads of this result (`ok`, `failed`) were made, the start included.
    pub(crate) async fn reloaded(&self, result: &str, count: u32) {
        reloaded(self.admin, result, count).await;
    }

    /// Stops it in an orderly way; whether every request in flight finished.
    pub(crate) async fn stop(self) -> bool {
        stop(self.app).await
    }

    /// Stops it, and starts another one on the same file and folder, on ports of its own.
    pub(crate) async fn restarted(self, clock: Clock) -> Gateway {
        let Gateway { app, config, preamble, _folder, address: _, admin: _ } = self;
        stop(app).await;
        let gateway =
            Gateway::from_file(&config, Environment::empty(), clock).await.expect("it starts again");
        Gateway { preamble, _folder, ..gateway }
    }
}

async fn stop(app: App) -> bool {
    let drain = Drain { delay: Duration::ZERO, within: Duration::from_secs(5) };
    app.stop(drain, std::future::pending()).await
}

/// Puts a new file in the place of the old one in a single step, as careful editors do: however slow the day, no
/// reader finds it empty or half written.
pub(crate) fn replace(file: &Path, text: &str) {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text).expect("the folder is there");
    std::fs::rename(&beside, file).expect("the file is replaced");
}

/// [`Gateway::reloaded`] of a gateway known by its admin address alone.
pub(crate) async fn reloaded(admin: SocketAddr, result: &str, count: u32) {
    let series = format!("tollgate_config_reloads_total{{result=\"{result}\"}}");
    let mut client = Client::connect(admin).await;
    let reached = async {
        while value_of(&series, client.request("GET", "/metrics").send().await.text()) < f64::from(count) {
            sleep(ASK_EVERY).await;
        }
    };
    if timeout(PATIENCE, reached).await.is_err() {
        panic!("waited {PATIENCE:?} for {count} reloads that are {result}");
    }
}

/// The value of the series of this name and these labels; zero if it is not on the page.
pub(crate) fn value_of(series: &str, page: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Seconds on the hand-turned clock.
pub(crate) fn seconds(s: u64) -> Span {
    Span::from_secs(s)
}
