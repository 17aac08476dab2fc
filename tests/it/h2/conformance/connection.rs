//! The preface, frames and their size, errors of the connection, extensions: RFC 9113 §3 to §5.

use super::{Alive, FRAME_SIZE, GoAway, HELD, PROTOCOL, Reset, Row, Start, Status, row};
use crate::harness::h2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, SETTINGS, WINDOW_UPDATE,
    WITH_PRIORITY, asked, begun, frame, get, reset, settings,
};

pub(super) fn rows() -> Vec<Row> {
    [preface(), format(), size(), fields(), extensions()].into_iter().flatten().collect()
}

fn preface() -> Vec<Row> {
    let first = |rule, bytes| row(rule, bytes, &[GoAway(PROTOCOL)]).from(Start::Preface);
    vec![
        row("3.4: SETTINGS behind the preface", settings(&[]), &[Alive]).from(Start::Preface),
        first("3.4: a PING behind the preface", frame(PING, 0, 0, &[0; 8])),
        first("3.4: a request behind the preface", asked(1, "/unseen")),
        first("3.4: an ACK behind the preface", frame(SETTINGS, ACK, 0, b"")),
        first("3.4: an unknown frame behind the preface", frame(0xee, 0, 0, b"")),
    ]
}

fn format() -> Vec<Row> {
    let bit = frame(HEADERS, END_HEADERS | END_STREAM, 0x8000_0001, &get("/"));
    let increment = frame(WINDOW_UPDATE, 0, 0, &0x8000_0001_u32.to_be_bytes());
    vec![
        row("4.1: a frame of an unknown type", frame(0xee, 0xff, 0, b"anything"), &[Alive]),
        row("4.1: one on a stream that is idle", frame(0xee, 0, 77, b"anything"), &[Alive]),
        row("4.1: flags that are not defined", frame(PING, 0xf6, 0, &[1; 8]), &[Alive]),
        row("4.1: the reserved bit of a PING", frame(PING, 0, 0x8000_0000, &[1; 8]), &[Alive]),
        row("4.1: the reserved bit of a request", bit, &[Status(200)]),
        row("6.9: the reserved bit of an increment", increment, &[Alive]),
    ]
}

fn size() -> Vec<Row> {
    let large = |kind, flags, stream| frame(kind, flags, stream, &vec![0; 16_385]);
    let largest = [begun(1, "/"), frame(DATA, END_STREAM, 1, &vec![b'x'; 16_384])].concat();
    let larger = [begun(1, HELD), large(DATA, END_STREAM, 1)].concat();
    let over = |rule, bytes| row(rule, bytes, &[GoAway(FRAME_SIZE)]);
    vec![
        row("4.2: DATA of the largest size", largest, &[Status(200)]),
        row("4.2: DATA that is larger", larger, &[GoAway(FRAME_SIZE), Reset(FRAME_SIZE)]),
        over("4.2: HEADERS that are larger", large(HEADERS, END_HEADERS | END_STREAM, 1)),
        over("4.2: SETTINGS that are larger", large(SETTINGS, 0, 0)),
        over("4.2: an unknown frame that is larger", large(0xee, 0, 0)),
    ]
}

/// Between the frames of one head nothing else may come (§4.3).
fn fields() -> Vec<Row> {
    let amid = |rule, between: Vec<u8>| {
        let open = frame(HEADERS, END_STREAM, 1, &get("/unseen"));
        let bytes = [open, between, frame(CONTINUATION, END_HEADERS, 1, b"")].concat();
        row(rule, bytes, &[GoAway(PROTOCOL)])
    };
    vec![
        amid("4.3: a PRIORITY among fields", frame(PRIORITY, 0, 1, &[0; 5])),
        amid("4.3: a request among fields", asked(3, "/unseen")),
        amid("4.3: DATA among fields", frame(DATA, 0, 1, b"x")),
        amid("4.3: a PING among fields", frame(PING, 0, 0, &[0; 8])),
        amid("4.3: SETTINGS among fields", settings(&[])),
        amid("5.5: an unknown frame among fields", frame(0xee, 0, 1, b"")),
    ]
}

fn extensions() -> Vec<Row> {
    const TIED: &[u8] = &[0, 0, 0, 1, 16];
    let flags = END_HEADERS | END_STREAM | WITH_PRIORITY;
    let tied = frame(HEADERS, flags, 1, &[TIED, &get("/unseen")].concat());
    let other = [frame(PRIORITY, 0, 3, TIED), asked(1, "/")].concat();
    let itself = [begun(1, HELD), frame(PRIORITY, 0, 1, TIED)].concat();
    vec![
        row("5.5: an unknown setting", settings(&[(0xffff, 7)]), &[Alive]),
        row("7: a reason that is not known", [begun(1, HELD), reset(1, 0xdead)].concat(), &[Alive]),
        row("5.3.1: a request that depends on itself", tied, &[Reset(PROTOCOL), GoAway(PROTOCOL)]),
        row("5.3.1: a PRIORITY that depends on itself", itself, &[Reset(PROTOCOL), GoAway(PROTOCOL)]),
        row("5.3.1: a PRIORITY that depends on another", other, &[Status(200)]),
        row("5.4.2: RST_STREAM is not answered by one", [begun(1, HELD), reset(1, 5)].concat(), &[Alive]),
    ]
}
