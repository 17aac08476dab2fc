//! What may come on a stream in each of its states, and which streams there may be: RFC 9113 §5.1.

use super::{Alive, GoAway, HELD, Outcome, PROTOCOL, REFUSED, Reset, Row, STREAM_CLOSED, Start, Status, row};
use crate::harness::h2::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, PRIORITY, asked, begun, frame, reset, window_update,
};

/// A stream error, or one of the connection in its place (§5.4.2).
const CLOSED: &[Outcome] = &[Reset(STREAM_CLOSED), GoAway(STREAM_CLOSED)];
/// Fields without a beginning are wrong by two rules (§5.1, §6.10).
const NO_BEGINNING: &[Outcome] = &[GoAway(PROTOCOL), GoAway(STREAM_CLOSED)];

pub(super) fn rows() -> Vec<Row> {
    [idle(), half_closed(), taken_back(), answered(), ids(), concurrency()].into_iter().flatten().collect()
}

fn data(stream: u32) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, b"data")
}

fn priority(stream: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 16])
}

fn continuation() -> Vec<u8> {
    frame(CONTINUATION, END_HEADERS, 1, b"")
}

fn idle() -> Vec<Row> {
    let wrong = |rule, bytes| row(rule, bytes, &[GoAway(PROTOCOL)]);
    vec![
        wrong("5.1: DATA on an idle stream", data(1)),
        wrong("5.1: RST_STREAM on an idle stream", reset(1, 8)),
        wrong("5.1: WINDOW_UPDATE on an idle stream", window_update(1, 100)),
        wrong("5.1: CONTINUATION on an idle stream", continuation()),
        row("5.1: PRIORITY on an idle stream", priority(1), &[Alive]),
        wrong("5.1: DATA on a stream of ours", data(2)),
        wrong("5.1: WINDOW_UPDATE on a stream of ours", window_update(2, 100)),
        wrong("5.1: RST_STREAM on a stream of ours", reset(2, 8)),
    ]
}

/// A request that is whole, and whose answer is not there.
fn half_closed() -> Vec<Row> {
    let with = |rule, then: Vec<u8>, allowed| row(rule, [asked(1, HELD), then].concat(), allowed);
    vec![
        with("5.1: DATA behind a request", data(1), CLOSED),
        with("5.1: HEADERS behind a request", asked(1, "/unseen"), CLOSED),
        with("5.1: CONTINUATION behind a request", continuation(), NO_BEGINNING),
        with("5.1: WINDOW_UPDATE behind a request", window_update(1, 100), &[Alive]),
        with("5.1: PRIORITY behind a request", priority(1), &[Alive]),
        with("5.1: RST_STREAM behind a request", reset(1, 8), &[Alive]),
    ]
}

fn taken_back() -> Vec<Row> {
    let with =
        |rule, then: Vec<u8>, allowed| row(rule, [begun(1, HELD), reset(1, 8), then].concat(), allowed);
    vec![
        with("5.1: DATA behind RST_STREAM", data(1), CLOSED),
        with("5.1: HEADERS behind RST_STREAM", asked(1, "/unseen"), CLOSED).departs(
            GoAway(PROTOCOL),
            "the h2 crate has forgotten the stream by then and takes it for one whose id is too low",
        ),
        with("5.1: CONTINUATION behind RST_STREAM", continuation(), NO_BEGINNING),
        with("5.1: WINDOW_UPDATE behind RST_STREAM", window_update(1, 100), &[Alive]),
        with("5.1: PRIORITY behind RST_STREAM", priority(1), &[Alive]),
        with("5.1: a second RST_STREAM", reset(1, 8), &[Alive]),
    ]
}

fn answered() -> Vec<Row> {
    // By 5.1.1, HEADERS are a request on a stream with an id that is too low.
    const AGAIN: &[Outcome] = &[GoAway(STREAM_CLOSED), Reset(STREAM_CLOSED), GoAway(PROTOCOL)];
    let with = |rule, then, allowed| row(rule, then, allowed).after(asked(1, "/"));
    vec![
        with("5.1: DATA on a closed stream", data(1), CLOSED),
        with("5.1: HEADERS on a closed stream", asked(1, "/unseen"), AGAIN),
        with("5.1: CONTINUATION on a closed stream", continuation(), NO_BEGINNING),
        with("5.1: WINDOW_UPDATE on a closed stream", window_update(1, 100), &[Alive]),
        with("5.1: PRIORITY on a closed stream", priority(1), &[Alive]),
        with("5.1: RST_STREAM on a closed stream", reset(1, 8), &[Alive]),
    ]
}

fn ids() -> Vec<Row> {
    let lower = [asked(5, HELD), asked(3, "/unseen")].concat();
    vec![
        row("5.1.1: a request on an even stream", asked(2, "/unseen"), &[GoAway(PROTOCOL)]),
        row("5.1.1: a request on a lower stream", lower, &[GoAway(PROTOCOL)]),
        row("5.1.1: a request on a stream far ahead", asked(0x7fff_ffff, "/"), &[Status(200)]),
    ]
}

fn concurrency() -> Vec<Row> {
    let three: Vec<u8> = [1, 3, 5].into_iter().flat_map(|stream| asked(stream, HELD)).collect();
    let four = [three.clone(), asked(7, "/unseen")].concat();
    let freed = [three.clone(), reset(3, 8), asked(7, "/")].concat();
    vec![
        row("5.1.2: as many requests as there may be", three, &[Alive]).from(Start::Tight),
        row("5.1.2: one more", four, &[Reset(REFUSED), Reset(PROTOCOL)]).from(Start::Tight),
        row("5.1.2: one more when one was taken back", freed, &[Status(200)]).from(Start::Tight),
    ]
}
