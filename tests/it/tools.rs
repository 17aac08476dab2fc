//! Clients that others wrote, and that operators will point at the gateway: wrk, h2load and curl, in clear and over TLS.
//! Where one of them is not there, its test says that it is skipped.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tollgate::clock::{Clock, ManualClock};
use tollgate::config::Environment;

use crate::harness::backend::Backend;
use crate::harness::gateway::{Gateway, START};
use crate::harness::h2::H2Backend;
use crate::harness::process::{Ended, Process, is_there};
use crate::harness::tls::Authority;

/// How many of [`ASKED`] requests a limit lets through.
const ADMITTED: usize = 50;
const ASKED: usize = 600;

/// A gateway that speaks in clear and by TLS, and limits each by a route of its own; time stands still.
struct Site {
    gateway: Gateway,
    folder: TempDir,
    _hand: ManualClock,
}

impl Site {
    /// `app` are the keys of the upstream.
    async fn start(app: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.issue(&["a.example"], "a").write(folder.path(), "a");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let config = folder.path().join("gateway.yaml");
        let route = |name: &str| {
            format!(
                "{{ name: {name}, match: {{ path: /{name}/* }}, upstream: app, limits: [{{ key: ip, windows: {{ w: {ADMITTED}/hour }} }}] }}"
            )
        };
        let text = format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}, {{ address: 127.0.0.1:0, tls: {{ cert: a.pem, key: a.key }} }}]\n\
             admin: {{ address: 127.0.0.1:0 }}\nupstreams: {{ app: {{ {app} }} }}\nroutes: [{}, {}]\n",
            route("clear"),
            route("tls")
        );
        std::fs::write(&config, text).unwrap();
        let (clock, hand) = Clock::manual(START);
        let gateway = Gateway::from_file(&config, Environment::empty(), clock).await.unwrap();
        Site { gateway, folder, _hand: hand }
    }

    /// In front of a backend that speaks HTTP/1.1.
    async fn before(backend: &Backend) -> Site {
        Site::start(&format!("servers: [\"{}\"]", backend.addr())).await
    }

    /// The names of both routes, with where they are.
    fn urls(&self) -> [(&'static str, String); 2] {
        let [clear, tls] = *self.gateway.addresses() else { panic!("two listeners") };
        [("clear", format!("http://{clear}/clear/")), ("tls", format!("https://{tls}/tls/"))]
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What the gateway counted of a route: who was let through, and who was limited.
    async fn counted(&self, route: &str) -> (f64, f64) {
        let of =
            |verdict: &str| format!("tollgate_requests_total{{route=\"{route}\",verdict=\"{verdict}\"}}");
        (self.gateway.metric(&of("admitted")).await, self.gateway.metric(&of("limited")).await)
    }
}

async fn run(command: &mut Command) -> Ended {
    let ended = Process::start(command).ended().await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    ended
}

/// The whole numbers of the line that begins so.
fn numbers(said: &str, start: &str) -> Vec<usize> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(start));
    let line = line.unwrap_or_else(|| panic!("no line {start:?}:\n{said}"));
    line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_is_served_over_http_2_and_exactly_as_often_as_the_limit_says() {
    if !is_there("h2load") {
        return;
    }
    let backend = Backend::ok().await;
    let site = Site::before(&backend).await;
    for (route, url) in site.urls() {
        let before = backend.count();
        let mut h2load = Command::new("h2load");
        h2load.args(["-n", &ASKED.to_string(), "-c", "10", "-m", "10", &url]);
        let said = run(&mut h2load).await.stdout;
        let protocol =
            if route == "tls" { "Application protocol: h2\n" } else { "Application protocol: h2c\n" };
        assert!(said.contains(protocol), "{said}");
        // It calls those failed that were refused: total, started, done, succeeded, failed, errored, timeout.
        let limited = ASKED - ADMITTED;
        let expected = [ASKED, ASKED, ASKED, ADMITTED, limited, 0, 0];
        assert_eq!(numbers(&said, "requests:"), expected, "{route}: {said}");
        assert_eq!(numbers(&said, "status codes:"), [ADMITTED, 0, limited, 0], "{route}: {said}");
        assert_eq!(site.counted(route).await, (ADMITTED as f64, limited as f64), "{route}");
        assert_eq!(backend.count() - before, ADMITTED, "{route}");
    }
}

/// Counts answers by their status, and stops when it has enough of them.
const TALLY: &str = r#"
local threads = {}
function setup(thread) table.insert(threads, thread) end
admitted, limited, others = 0, 0, 0
function response(status)
  if status == 200 then admitted = admitted + 1
  elseif status == 429 then limited = limited + 1
  else others = others + 1 end
  if admitted + limited + others == 600 then wrk.thread:stop() end
end
function done(summary)
  local thread, failed = threads[1], summary.errors
  print(string.format("tally: %d %d %d", thread:get("admitted"), thread:get("limited"), thread:get("others")))
  print(string.format("failed: %d %d %d %d", failed.connect, failed.read, failed.write, failed.timeout))
end
"#;

#[tokio::test(flavor = "multi_thread")]
async fn wrk_is_served_exactly_as_often_as_the_limit_says() {
    if !is_there("wrk") {
        return;
    }
    let backend = Backend::ok().await;
    let site = Site::before(&backend).await;
    let script = site.path().join("tally.lua");
    std::fs::write(&script, TALLY).unwrap();
    for (route, url) in site.urls() {
        let before = backend.count();
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "1", "--connections", "8", "--duration", "2s", "--script"])
            .arg(&script)
            .arg(&url);
        let said = run(&mut wrk).await.stdout;
        // Some answers more are there when it stops, and on a slow day its time is over before.
        let [admitted, limited, others] = numbers(&said, "tally:")[..] else { panic!("{said}") };
        assert_eq!((admitted, others), (ADMITTED, 0), "{route}: {said}");
        assert!(limited > 0, "{route}: {said}");
        assert_eq!(numbers(&said, "failed:"), [0, 0, 0, 0], "{route}: {said}");
        assert_eq!(site.counted(route).await.0, ADMITTED as f64, "{route}");
        assert_eq!(backend.count() - before, ADMITTED, "{route}");
    }
}

impl Site {
    /// What curl says of one request to the name in the certificate, with these arguments.
    async fn curl(&self, arguments: &[&str], route: &str) -> String {
        let [clear, tls] = *self.gateway.addresses() else { panic!("two listeners") };
        let (scheme, port) = if route == "tls" { ("https", tls.port()) } else { ("http", clear.port()) };
        let mut curl = Command::new("curl");
        curl.current_dir(self.path());
        curl.args(["--silent", "--show-error", "--cacert", "ca.pem", "--output", "answer"]);
        curl.args(["--dump-header", "head", "--write-out", "%{http_version} %{http_code}"]);
        curl.args(["--resolve", &format!("a.example:{port}:127.0.0.1")]).args(arguments);
        curl.arg(format!("{scheme}://a.example:{port}/{route}/pkg.Service/Method"));
        run(&mut curl).await.stdout
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_the_protocol_that_it_asks_for() {
    let backend = Backend::ok().await;
    let site = Site::before(&backend).await;
    for (arguments, route, expected) in [
        (&["--http2"][..], "tls", "2 200"),
        (&["--http1.1"], "tls", "1.1 200"),
        (&["--http2-prior-knowledge"], "clear", "2 200"),
        // An upgrade to HTTP/2 is passed over (RFC 9113 §3.1).
        (&["--http2"], "clear", "1.1 200"),
        (&["--http1.0"], "clear", "1.1 200"),
        (&["--http2", "--data", "a body"], "tls", "2 200"),
        (&["--http2", "--head"], "tls", "2 200"),
    ] {
        assert_eq!(site.curl(arguments, route).await, expected, "{arguments:?} {route}");
    }
    let hosts: Vec<bool> = backend
        .received()
        .iter()
        .map(|received| received.headers.get("host").is_some_and(|host| host.starts_with("a.example:")))
        .collect();
    assert_eq!(hosts, [true; 7]);
}

/// One message of gRPC in its frame: whether it is compressed, its length, itself.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat()
}

/// Its own library of HTTP/2, and frames of gRPC as they go over the wire.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_grpc_by_curl_has_its_answer_and_its_trailers() {
    let backend = H2Backend::start().await;
    let site = Site::start(&format!("protocol: http2, servers: [\"{}\"]", backend.address())).await;
    for (route, protocol) in [("clear", "--http2-prior-knowledge"), ("tls", "--http2")] {
        for length in [0, 5, 100_000] {
            let call = message(&"m".repeat(length));
            std::fs::write(site.path().join("call"), &call).unwrap();
            let fields = ["--header", "content-type: application/grpc", "--header", "te: trailers"];
            let arguments = [&[protocol, "--data-binary", "@call"], &fields[..]].concat();
            assert_eq!(site.curl(&arguments, route).await, "2 200", "{route} {length}");
            assert!(std::fs::read(site.path().join("answer")).unwrap() == call, "{route} {length}");
            let head = std::fs::read_to_string(site.path().join("head")).unwrap();
            let (head, trailers) = head.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains("content-type: application/grpc") && !head.contains("grpc-status"),
                "{head}"
            );
            assert_eq!(trailers.trim(), "grpc-status: 0");
        }
    }
    let heads = backend.received();
    assert_eq!(heads.len(), 6);
    for head in heads {
        assert_eq!((head.method.as_str(), head.headers["te"].as_bytes()), ("POST", &b"trailers"[..]));
        assert!(head.uri.path().ends_with("/pkg.Service/Method"), "{}", head.uri);
    }
}
