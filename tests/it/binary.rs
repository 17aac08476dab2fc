//! The commands as an operator types them: what they print, how they end.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use tempfile::TempDir;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::binary::{Binary, Running, Signal};
use crate::harness::client::{Answer, Client, get};
use crate::harness::gateway::preamble;

const OPEN: &str = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder_with(config: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("gateway.yaml"), config).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn run_serves_and_a_termination_lets_the_request_in_flight_finish() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let gate = Gate::shut();
        let held = gate.clone();
        let backend = Backend::start(move |request| match request.target.as_str() {
            "/held" => Reply::json(200, r#"{"late":true}"#).after(&held),
            _ => Reply::json(200, "{}"),
        })
        .await;
        let mut running = Running::start(&backend, OPEN).await;
        let address = running.address;
        let mut idle = Client::connect(address).await;
        assert_eq!(idle.request("GET", "/").send().await.status, 200);
        let in_flight = tokio::spawn(async move { get(address, "/held").await });
        backend.wait_for(2).await;

        running.binary.signal(signal);
        running.binary.stdout.line_with("stopping").await;
        idle.closed().await;
        assert!(!in_flight.is_finished(), "{signal:?}");
        gate.open();
        let answer = in_flight.await.unwrap();
        assert_eq!(answer.json()["late"], true, "{signal:?}");
        assert!(answer.connection_closed, "the last answer on the connection says so");
        let ended = running.binary.ended().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{signal:?}: {}", ended.stdout);
        assert!(!ended.stdout.contains("did not finish"), "{}", ended.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_memory_is_taken_in_huge_pages() {
    let backend = Backend::start(|_| Reply::json(200, "{}")).await;
    let running = Running::start(&backend, OPEN).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.binary.id())).unwrap();
    // A kernel that was built without them has no such line.
    let is_off = status.lines().find(|line| line.starts_with("THP_enabled:")).map(|line| line.ends_with('0'));
    assert_ne!(is_off, Some(false), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let backend = Backend::start(|_| Reply::stall()).await;
    let mut running = Running::start(&backend, OPEN).await;
    let mut waiting = Client::connect(running.address).await;
    waiting.send_raw(b"GET /held HTTP/1.1\r\nhost: h\r\n\r\n").await;
    backend.wait_for(1).await;
    running.binary.signal(Signal::Terminate);
    running.binary.stdout.line_with("stopping").await;
    running.binary.signal(Signal::Terminate);
    let ended = running.binary.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("stopping at once"), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_its_key_and_the_way_out() {
    let backend = Backend::ok().await;
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let whole = format!("{}{OPEN}", preamble(backend.addr()));
    for (key, line) in [("listen", "listen: [{ address: "), ("admin.address", "admin: { address: ")] {
        let config = whole.replace(&format!("{line}127.0.0.1:0"), &format!("{line}{taken}"));
        let folder = folder_with(&config);
        let ended = Binary::run(folder.path(), &["run"]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in [taken.as_str(), key, "in use", "to pick another, edit the configuration"] {
            assert!(ended.stderr.contains(part), "{part} is missing in {:?}", ended.stderr);
        }
    }
    for option in ["--listen", "--admin", "--backend"] {
        let mut arguments = vec!["demo", option, &taken];
        let others = ["--listen", "--admin", "--backend"].into_iter().filter(|other| *other != option);
        arguments.extend(others.flat_map(|other| [other, "127.0.0.1:0"]));
        let ended = Binary::run(project(), &arguments).await;
        assert_eq!(ended.code, Some(1), "{option}: {ended:?}");
        for part in [taken.as_str(), "in use", &format!("{option} ADDRESS")] {
            assert!(ended.stderr.contains(part), "{option}: {part} is missing in {:?}", ended.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_does_not_start() {
    let backend = Backend::ok().await;
    let config = format!("{}{}", preamble(backend.addr()), OPEN.replace("upstream", "upstraem"));
    let folder = folder_with(&config);
    for arguments in [&["run"][..], &["run", "--config", "gateway.yaml"], &["demo"]] {
        let ended = Binary::run(folder.path(), arguments).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{arguments:?}: {ended:?}");
        let column = OPEN.find("upstream").unwrap() + 1;
        for part in [&format!("gateway.yaml:7:{column}: "), "upstraem", "upstream", "1 mistake"] {
            assert!(ended.stderr.contains(part), "{part} is missing in {}", ended.stderr);
        }
    }
    let ended = Binary::run(folder.path(), &["run", "--config", "nowhere.yaml"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("nowhere.yaml: cannot read the configuration"), "{}", ended.stderr);
}

/// A curl line of the banner, as curl would understand it.
#[derive(Debug)]
struct Curl {
    address: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
    data: Option<String>,
}

impl Curl {
    /// Reads what follows `curl` in a line, up to the pipe or the end of the command.
    fn parse(line: &str, token: &str) -> Curl {
        let (_, command) = line.split_once("curl ").expect("a curl line");
        let mut words = words(command, token).into_iter();
        let mut curl =
            Curl { address: ([0, 0, 0, 0], 0).into(), path: String::new(), headers: vec![], data: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                "-s" | "-si" => {}
                "-d" => curl.data = words.next(),
                "-H" => {
                    let header = words.next().expect("a header");
                    let (name, value) = header.split_once(": ").expect("a name and a value");
                    curl.headers.push((name.to_owned(), value.to_owned()));
                }
                url => {
                    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} in {line}"));
                    let (address, path) = rest.split_once('/').expect("a path");
                    (curl.address, curl.path) = (address.parse().expect("an address"), format!("/{path}"));
                }
            }
        }
        curl
    }

    async fn send(&self) -> Answer {
        let mut client = Client::connect(self.address).await;
        let method = if self.data.is_some() { "POST" } else { "GET" };
        let mut request = client.request(method, &self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match &self.data {
            Some(data) => request.body(data).send().await,
            None => request.send().await,
        }
    }
}

/// The words of a shell command up to a pipe, a semicolon or a closing parenthesis.
fn words(command: &str, token: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | ';' | ')') => break,
            (None, ' ') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words.into_iter().map(|word| word.replace("$TOKEN", token)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_does_what_its_banner_says() {
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--backend", "127.0.0.1:0"];
    let arguments: Vec<&str> = ["demo"].into_iter().chain(ports).collect();
    let data = TempDir::new().unwrap();
    let variables = [("TOLLGATE_DATA", data.path().to_str().unwrap())];
    let mut demo = Binary::spawn(project(), &arguments, &variables);
    demo.stdout.line_with("Ctrl-C stops it").await;
    let banner = demo.stdout.text();
    let lines: Vec<&str> = banner.lines().filter(|line| line.contains("curl ")).collect();
    let [otp, login, profile, send, verify, phone_login, guess] = lines.as_slice() else {
        panic!("seven curl lines:\n{banner}")
    };

    assert!(otp.contains("for i in 1 2 3"), "{otp}");
    let otp = Curl::parse(otp, "");
    for left in ["1", "0"] {
        let answer = otp.send().await;
        assert_eq!((answer.status, answer.headers.get("x-ratelimit-remaining")), (200, Some(left)));
        assert_eq!(answer.headers.get("x-ratelimit-limit"), Some("2"));
        assert!(
            answer.headers.get("ratelimit").is_some() && answer.headers.get("ratelimit-policy").is_some()
        );
    }
    let refused = otp.send().await;
    assert_eq!(refused.status, 429);
    let retry_after_s: u64 = refused.headers.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&retry_after_s), "{retry_after_s}");

    let logged_in = Curl::parse(login, "").send().await;
    assert_eq!(logged_in.status, 200);
    // `cut -d'"' -f4`: the fourth part between the quotes.
    let token = logged_in.text().split('"').nth(3).unwrap().to_owned();
    let own = Curl::parse(profile, &token).send().await;
    assert_eq!((own.status, own.headers.get("x-ratelimit-limit")), (200, Some("100")));
    assert_eq!(own.json()["username"], "demo");
    let id = Curl::parse(send, "").send().await.json()["id"].as_str().unwrap().to_owned();
    let line = demo.stdout.line_with("tollgate::console").await;
    let (_, text) = line.split_once(r#""text":""#).expect("the text of the message");
    let code: String = text.chars().take_while(char::is_ascii_digit).collect();
    let proven = Curl::parse(&verify.replace("$ID", &id).replace("$CODE", &code), "").send().await;
    assert_eq!(proven.status, 200, "{}", proven.text());
    let proof = proven.text().split('"').nth(3).unwrap().to_owned();
    let by_phone = phone_login.replace("$PROOF", &proof);
    let logged_in = Curl::parse(&by_phone, "").send().await;
    assert_eq!(logged_in.status, 200, "{}", logged_in.text());
    let token = logged_in.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(Curl::parse(profile, &token).send().await.json()["username"], "+14155550123");
    assert_eq!(Curl::parse(&by_phone, "").send().await.status, 401, "a proof is good once");
    assert!(guess.contains("for i in 1 2 3 4 5 6"), "{guess}");
    let mut guesses = Vec::new();
    for number in ["1", "2", "3", "4", "5", "6"] {
        guesses.push(Curl::parse(&guess.replace("$i", number), "").send().await.status);
    }
    assert_eq!(guesses, [401, 401, 401, 401, 401, 429]);

    demo.signal(Signal::Interrupt);
    let ended = demo.ended().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demos_backend_runs_alone_too() {
    let arguments = ["demo", "--backend-only", "--backend", "127.0.0.1:0"];
    let mut demo =
        Binary::spawn(project(), &arguments, &[("JWT_SECRET", "a secret that two containers share")]);
    let line = demo.stdout.line_with("http://127.0.0.1:").await;
    let address = line.split("http://").nth(1).unwrap().trim_end_matches(|c: char| !c.is_ascii_digit());
    assert_eq!(get(address.parse().unwrap(), "/").await.status, 200);
    demo.signal(Signal::Interrupt);
    assert_eq!(demo.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_a_sound_file_allows_and_every_mistake_of_another() {
    let secrets =
        ["JWT_SECRET", "OTP_TOKEN_SECRET"].map(|name| (name, "long enough, to be sure of it, for a secret"));
    let sound = Binary::spawn(project(), &["check", "gateway.yaml"], &secrets).ended().await;
    assert_eq!((sound.code, sound.stderr.as_str()), (Some(0), ""));
    for part in [
        "gateway.yaml is sound: 10 routes",
        "POST /api/auth/request-otp",
        "2 in any 1m, 3 in any 1h, 10 in any 1d",
    ] {
        assert!(sound.stdout.contains(part), "{part} is missing in\n{}", sound.stdout);
    }
    let backend = Backend::ok().await;
    let broken = OPEN.replace("upstream", "upstraem").replace("/*", "relative");
    let folder = folder_with(&format!("{}{broken}", preamble(backend.addr())));
    let refused = Binary::run(folder.path(), &["check", "gateway.yaml"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    for part in ["gateway.yaml:7:", "upstraem", "relative", "2 mistakes", "^^^"] {
        assert!(refused.stderr.contains(part), "{part} is missing in\n{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_prints_a_json_schema() {
    let ended = Binary::run(project(), &["schema"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let root = schema["$ref"].as_str().and_then(|root| schema.pointer(root.strip_prefix('#')?));
    assert!(root.unwrap_or(&schema)["properties"]["routes"].is_object());
    let first = fs::read_to_string(project().join("gateway.yaml")).unwrap();
    assert!(first.starts_with("# yaml-language-server: $schema="), "the shipped file names its schema");
}

#[tokio::test(flavor = "multi_thread")]
async fn help_names_every_command_and_an_unknown_one_is_told() {
    let help = Binary::run(project(), &["--help"]).await;
    assert_eq!(help.code, Some(0));
    for command in ["run", "check", "demo", "schema"] {
        let told = help.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{command} ")));
        assert!(told, "{command} is missing in\n{}", help.stdout);
        let own = Binary::run(project(), &[command, "--help"]).await;
        assert!(own.code == Some(0) && own.stdout.contains("Usage: tollgate"), "{command}: {own:?}");
    }
    let version = Binary::run(project(), &["--version"]).await;
    assert_eq!(version.stdout.trim(), format!("tollgate {}", env!("CARGO_PKG_VERSION")));
    let unknown = Binary::run(project(), &["chek"]).await;
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("check"), "the nearest is named: {}", unknown.stderr);
}
