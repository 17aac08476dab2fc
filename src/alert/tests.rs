use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::decision::key::KeyHash;
use crate::decision::time::Span;
use crate::journal::{Event, Identifier, JournalSpec};
use crate::telemetry::Metrics;

const PATIENCE: Duration = Duration::from_secs(20);
const PACE: Pace = Pace { waits: [Duration::from_millis(1); 4], look_every: Duration::from_millis(1) };

/// A webhook that is watched, and the one who is told.
struct Desk {
    listener: TcpListener,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    watching: JoinHandle<()>,
    stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// With a journal in a folder of its own, or one that can never be opened.
    async fn new(journal_in: impl Fn(&Path) -> std::path::PathBuf) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let (clock, metrics) = (Clock::system(), Metrics::new().unwrap());
        let spec = JournalSpec {
            folder: Some(journal_in(folder.path())),
            retention: Span::from_secs(86_400),
            seal_key: [7; 32],
            hash_check: KeyHash::from_u128(7),
        };
        let journal = Journal::open(spec, metrics.journal(), clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = HttpUrl::parse(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
        let webhook = Webhook { url, secret: SecretString::from("a secret of the test") };
        let (stop, stopped) = watch::channel(false);
        let watching = tokio::spawn(webhook.watch_at_pace(
            journal.clone(),
            metrics.webhook(),
            clock.clone(),
            stopped,
            PACE,
        ));
        while journal.feed().listeners() == 0 {
            tokio::task::yield_now().await;
        }
        Desk { listener, journal, metrics, clock, watching, stop, _folder: folder }
    }

    fn note(&self, kind: EventKind) {
        self.journal.note(Event {
            identifier: Some(Identifier::new(&[("body.email", "ada@example.com")])),
            detail: Some("a detail".into()),
            ..Event::new(kind, self.clock.now())
        });
    }

    /// Takes one request and answers it; head and body.
    async fn take(&self, status: &str) -> (String, serde_json::Value) {
        let taking = async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let request = read(&mut stream).await;
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            (head.to_owned(), serde_json::from_str(body).unwrap())
        };
        timeout(PATIENCE, taking).await.expect("nobody is told")
    }

    async fn counted(&self, result: &str, count: u64) {
        let series = format!("tollgate_webhook_deliveries_total{{result=\"{result}\"}} {count}\n");
        let told = async {
            while !self.metrics.render().contains(&series) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{series} in\n{}", self.metrics.render()));
    }
}

/// A whole request.
async fn read(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.unwrap();
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        let length = text.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
        });
        if let (Some(length), Some((_, body))) = (length, text.split_once("\r\n\r\n"))
            && body.len() >= length
        {
            return text;
        }
        assert!(read > 0, "half a request: {text}");
    }
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in {head}"))
}

#[tokio::test]
async fn what_alarms_is_told_signed_and_masked() {
    let desk = Desk::new(|folder| folder.join("data")).await;
    desk.note(EventKind::Limited);
    desk.note(EventKind::Blocked);
    let (head, body) = desk.take("204 No Content").await;
    assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
    assert_eq!((&body["kind"], &body["severity"]), (&"blocked".into(), &"warning".into()));
    assert_eq!((&body["identifier"], &body["detail"]), (&"a***@example.com".into(), &"a detail".into()));
    let signature = header(&head, "x-tollgate-signature");
    assert!(signature.starts_with("t=") && signature.contains(",v1="), "{signature}");
    desk.counted("delivered", 1).await;
}

#[tokio::test]
async fn fraud_and_what_befalls_providers_is_told_and_no_single_code() {
    let desk = Desk::new(|folder| folder.join("data")).await;
    for (kind, word, severity) in [
        (EventKind::Fraud, "fraud", "warning"),
        (EventKind::ProviderDown, "provider_down", "critical"),
        (EventKind::ProviderUp, "provider_up", "info"),
    ] {
        // Were one of these told, it would come first.
        for quiet in [EventKind::CodeSent, EventKind::CodeUndelivered, EventKind::CodeVerified] {
            desk.note(quiet);
        }
        desk.note(kind);
        let (_, body) = desk.take("200 OK").await;
        assert_eq!((&body["kind"], &body["severity"]), (&word.into(), &severity.into()));
        assert_eq!(body["identifier"], "a***@example.com");
    }
}

#[tokio::test]
async fn a_failure_is_tried_again_as_the_same_delivery() {
    let desk = Desk::new(|folder| folder.join("data")).await;
    desk.note(EventKind::StoreDown);
    let mut ids = Vec::new();
    for status in ["500 Oh", "503 Away", "429 Slower", "408 Late", "200 OK"] {
        let (head, body) = desk.take(status).await;
        assert_eq!(body["kind"], "store_down");
        ids.push(header(&head, "x-tollgate-delivery").to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    desk.counted("delivered", 1).await;
    desk.note(EventKind::Blocked);
    for _ in 0..5 {
        desk.take("500 Oh").await;
    }
    desk.counted("failed", 1).await;
    desk.note(EventKind::Suspicion);
    desk.take("410 Gone").await;
    desk.counted("failed", 2).await;
    desk.note(EventKind::Suspicion);
    let (head, _) = desk.take("200 OK").await;
    assert_ne!(header(&head, "x-tollgate-delivery"), ids[0]);
}

#[tokio::test]
async fn while_nobody_takes_them_so_many_wait_and_the_rest_is_counted() {
    let desk = Desk::new(|folder| folder.join("data")).await;
    let (mut held, _) = desk.hold().await;
    for batch in 0..12 {
        for _ in 0..100 {
            desk.note(EventKind::Blocked);
        }
        // The feed keeps a thousand: let them be gathered.
        desk.gathered(100 * (batch + 1)).await;
    }
    desk.counted("dropped", 200).await;
    held.shutdown().await.unwrap();
}

impl Desk {
    /// Takes a request and leaves it unanswered.
    async fn hold(&self) -> (TcpStream, String) {
        self.note(EventKind::Blocked);
        let (mut stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        let request = read(&mut stream).await;
        (stream, request)
    }

    /// Waits until the feed has nothing more for the one who gathers.
    async fn gathered(&self, _so_far: usize) {
        let done = async {
            while self.journal.feed().backlog() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, done).await.expect("nobody gathers");
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_told() {
    let desk = Desk::new(|folder| {
        // A file where the folder should be.
        let path = folder.join("data");
        std::fs::write(&path, "").unwrap();
        path
    })
    .await;
    let (_, body) = desk.take("200 OK").await;
    assert_eq!((&body["kind"], &body["severity"]), (&"journal_down".into(), &"critical".into()));
}

#[tokio::test]
async fn it_ends_when_the_gateway_does() {
    let desk = Desk::new(|folder| folder.join("data")).await;
    let _held = desk.hold().await;
    desk.stop.send(true).unwrap();
    timeout(PATIENCE, desk.watching).await.expect("it goes on").unwrap();
}
