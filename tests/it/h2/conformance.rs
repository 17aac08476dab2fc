//! What RFC 9113 and RFC 7541 ask of a server, rule by rule: the bytes that put it to the question, and what it may do.

mod compression;
mod connection;
mod frames;
mod requests;
mod streams;

use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::frames::{GO_AWAY, HEADERS, PING, PREFACE, RESET, frame, settings};
use crate::harness::h2::in_time;
use crate::harness::h2::raw::{Frame, RawH2};

const RULES: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
/// Limits that are met with a few bytes.
const TIGHT: &str =
    "http2: { max_concurrent_streams: 3, initial_window_size: 1024, connection_window_size: 65535 }";
/// A request of this target is held by the backend until the end of the test.
const HELD: &str = "/held";
/// One of this target must not reach it at all.
const UNSEEN: &str = "/unseen";

/// The codes of RFC 9113 §7 that are asked for here.
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The connection ends, and this is said.
    GoAway(u32),
    /// The request ends so, and the connection goes on.
    Reset(u32),
    /// The request is answered with this status, and the connection goes on.
    Status(u16),
    /// Nothing, and the connection goes on.
    Alive,
}
use Outcome::{Alive, GoAway, Reset, Status};

/// One rule, put to the question on a connection of its own.
struct Row {
    /// The section of RFC 9113, or of RFC 7541 where it says so, and what is done.
    rule: &'static str,
    /// What is sent first, to be answered whole on stream 1.
    before: Vec<u8>,
    bytes: Vec<u8>,
    /// What the RFC allows.
    allowed: &'static [Outcome],
    /// What the library does in its place, and why that is borne.
    departure: Option<(Outcome, &'static str)>,
    start: Start,
}

/// What comes before the bytes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Settings are exchanged.
    Greeted,
    /// The same, at a listener with limits that are met with a few bytes.
    Tight,
    /// The preface alone.
    Preface,
}

fn row(rule: &'static str, bytes: Vec<u8>, allowed: &'static [Outcome]) -> Row {
    Row { rule, before: Vec::new(), bytes, allowed, departure: None, start: Start::Greeted }
}

impl Row {
    fn after(self, before: Vec<u8>) -> Row {
        Row { before, ..self }
    }

    fn from(self, start: Start) -> Row {
        Row { start, ..self }
    }

    fn departs(self, outcome: Outcome, why: &'static str) -> Row {
        Row { departure: Some((outcome, why)), ..self }
    }

    /// Whether the connection must end: then it is not asked whether it is there.
    fn must_end(&self) -> bool {
        self.expected().iter().all(|outcome| matches!(outcome, GoAway(_)))
    }

    fn expected(&self) -> Vec<Outcome> {
        match self.departure {
            Some((outcome, _)) => vec![outcome],
            None => self.allowed.to_vec(),
        }
    }
}

fn table() -> Vec<Row> {
    [connection::rows(), streams::rows(), frames::rows(), requests::rows(), compression::rows()]
        .into_iter()
        .flatten()
        .collect()
}

async fn outcome(gateway: &Gateway, row: &Row) -> Outcome {
    let mut client = match row.start {
        Start::Greeted | Start::Tight => RawH2::connect(gateway.address, &settings(&[])).await,
        Start::Preface => {
            let mut client = RawH2::bare(gateway.address).await;
            client.send(PREFACE).await;
            client
        }
    };
    if !row.before.is_empty() {
        client.send(&row.before).await;
        client.answer(1).await;
    }
    client.send(&row.bytes).await;
    if !row.must_end() {
        client.send(&frame(PING, 0, 0, b"are you?")).await;
    }
    let may_be_silent = row.expected().contains(&Alive);
    let (mut seen, mut is_there) = (None, false);
    loop {
        let Some(frame) = in_time(client.next()).await else {
            return seen.unwrap_or_else(|| panic!("{}: it was closed without a word", row.rule));
        };
        match told(&frame) {
            Some(GoAway(code)) => {
                let rest = client.rest().await;
                assert!(rest.iter().all(|frame| frame.kind == GO_AWAY), "{}: {rest:?}", row.rule);
                return GoAway(code);
            }
            // The first is what is asked for: what is reset behind an answer is the rest of its request.
            Some(outcome) => seen = seen.or(Some(outcome)),
            None => is_there |= frame.kind == PING,
        }
        match seen {
            Some(outcome) if is_there => return outcome,
            None if is_there && may_be_silent => return Alive,
            Some(_) | None => {}
        }
    }
}

fn told(frame: &Frame) -> Option<Outcome> {
    match frame.kind {
        GO_AWAY => frame.code().map(GoAway),
        RESET => frame.code().map(Reset),
        HEADERS => Some(Status(frame.status().unwrap_or_else(|| panic!("a status is read from {frame:?}")))),
        _ => None,
    }
}

#[tokio::test]
async fn each_rule_is_kept() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |request| match request.target.as_str() {
        HELD => Reply::new(200).after(&held),
        _ => Reply::new(200).body("an answer"),
    })
    .await;
    let gateway = Gateway::start(&backend, RULES).await;
    let tight = preamble(backend.addr()).replace("127.0.0.1:0 }]", &format!("127.0.0.1:0, {TIGHT} }}]"));
    let tight = Gateway::launch(&tight, RULES, Clock::system()).await.unwrap();
    let table = table();
    assert!(table.len() >= 90, "{}", table.len());
    let mut broken = Vec::new();
    for row in &table {
        let gateway = match row.start {
            Start::Greeted | Start::Preface => &gateway,
            Start::Tight => &tight,
        };
        let outcome = outcome(gateway, row).await;
        let expected = row.expected();
        if !expected.contains(&outcome) {
            broken.push(format!("{}: {outcome:?}, expected {expected:?}", row.rule));
        }
    }
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), table.len(), broken.join("\n"));
    // One of HTTP/1 is behind all of them.
    crate::harness::client::get(gateway.address, "/last").await;
    let unseen: Vec<String> =
        backend.received().into_iter().map(|request| request.target).filter(|t| t.contains(UNSEEN)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
    gate.open();
}

#[test]
fn departures_are_few_and_have_their_reason() {
    let table = table();
    let departures: Vec<&Row> = table.iter().filter(|row| row.departure.is_some()).collect();
    assert!(departures.len() <= 20, "{}", departures.len());
    for row in departures {
        let (outcome, why) = row.departure.unwrap();
        assert!(!row.allowed.contains(&outcome), "{}: that is no departure", row.rule);
        assert!(why.len() > 20, "{}: {why}", row.rule);
    }
}
