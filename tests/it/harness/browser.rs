//! A real Chromium without a window, driven over WebDriver. Its profile and what it downloads are gone with it.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use fantoccini::elements::Element;
use fantoccini::{ClientBuilder, Locator};
use futures_util::FutureExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, is_there};
use super::{PATIENCE, eventually};

/// A browser with one page.
pub(crate) struct Browser {
    client: fantoccini::Client,
    downloads: PathBuf,
}

/// Runs a test in a browser of its own, and ends that however the test ends. Where the machine has none, and
/// build/install-deps.sh could bring none, it says so where nobody can miss it, and the test is skipped.
pub(crate) async fn in_browser(test: impl AsyncFnOnce(&Browser)) {
    if !is_there("chromedriver") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_driver, port) = start_driver().await;
    let browser = Browser::open(port, &folder).await;
    let outcome = AssertUnwindSafe(test(&browser)).catch_unwind().await;
    browser.client.close().await.expect("the browser ends");
    if let Err(failure) = outcome {
        resume_unwind(failure);
    }
}

/// What drives the browser, and its port. It takes a free one of IPv6, and gives up where that is taken in IPv4.
async fn start_driver() -> (Process, u16) {
    loop {
        let mut driver = Process::start(Command::new("chromedriver").arg("--port=0"));
        let is_last = |line: &str| line.contains("started successfully on port") || line.contains("Exiting");
        let line = driver.stdout.line_where("a port", is_last).await;
        let port = line.rsplit(' ').next().and_then(|word| word.trim_end_matches('.').parse().ok());
        if let Some(port) = port {
            return (driver, port);
        }
    }
}

impl Browser {
    async fn open(port: u16, folder: &TempDir) -> Browser {
        let downloads = folder.path().join("downloads");
        std::fs::create_dir(&downloads).expect("a folder");
        let options = json!({
            "args": [
                "--headless=new",
                "--window-size=1280,900",
                // Containers have neither what the sandbox is made of nor much shared memory; the pages are our own.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                format!("--user-data-dir={}", folder.path().join("profile").display()),
            ],
            "prefs": { "download.default_directory": downloads },
        });
        let capabilities = [
            ("goog:chromeOptions".to_owned(), options),
            ("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" })),
        ];
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.into_iter().collect())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium starts");
        Browser { client, downloads }
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page is there");
    }

    /// Waits for an element that is shown.
    pub(crate) async fn shown(&self, css: &str) -> Element {
        eventually(css, PATIENCE, async || {
            let element = self.client.find(Locator::Css(css)).await.ok()?;
            element.is_displayed().await.ok()?.then_some(element)
        })
        .await
    }

    /// Waits for an element that is shown, and clicks it.
    pub(crate) async fn click(&self, css: &str) {
        self.shown(css).await.click().await.expect("it can be clicked");
    }

    /// Waits for a field, and types into it what is not there yet.
    pub(crate) async fn write(&self, css: &str, text: &str) {
        let field = self.shown(css).await;
        field.clear().await.expect("it can be emptied");
        field.send_keys(text).await.expect("it can be written into");
    }

    /// Waits until an element that is shown says this, or holds it.
    pub(crate) async fn says(&self, css: &str, part: &str) {
        eventually(&format!("{part:?} in {css}"), PATIENCE, async || {
            let text = self.client.find(Locator::Css(css)).await.ok()?.text().await.ok()?;
            text.contains(part).then_some(())
        })
        .await;
    }

    /// How many such elements there are, shown or not.
    pub(crate) async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("the page is there").len()
    }

    /// The texts of all such elements.
    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)";
        let told = self.script(script, vec![json!(css)]).await;
        serde_json::from_value(told).expect("texts")
    }

    /// What a script of the test's own returns.
    pub(crate) async fn script(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.expect("the script runs")
    }

    /// Waits for a file of this ending to be downloaded whole, and reads it.
    pub(crate) async fn downloaded(&self, ending: &str) -> String {
        let file = eventually(&format!("a download of {ending}"), PATIENCE, async || {
            // While it is on its way it has another ending.
            let files = std::fs::read_dir(&self.downloads).expect("a folder").flatten();
            files.map(|file| file.path()).find(|path| has_ending(path, ending))
        })
        .await;
        std::fs::read_to_string(file).expect("a text")
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}
