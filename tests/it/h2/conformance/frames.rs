//! Each frame and what may be wrong with it: RFC 9113 §6.

use super::{
    Alive, FLOW_CONTROL, FRAME_SIZE, GoAway, HELD, Outcome, PROTOCOL, Reset, Row, Start, Status, row,
};
use crate::harness::h2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, INITIAL_WINDOW_SIZE, PADDED, PING,
    PRIORITY, PUSH_PROMISE, RESET, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, asked, begun, frame, get,
    settings, window_update,
};

const WRONG: &[Outcome] = &[GoAway(PROTOCOL)];
const SIZE: &[Outcome] = &[GoAway(FRAME_SIZE)];
/// A frame that is too short for what it must hold is wrong by two rules (§4.2, §6.1).
const TOO_SHORT: &[Outcome] = &[GoAway(FRAME_SIZE), GoAway(PROTOCOL)];
const WHOLE: u8 = END_HEADERS | END_STREAM;

pub(super) fn rows() -> Vec<Row> {
    [bodies(), heads(), priority_and_reset(), setting(), pings_and_partings(), windows(), continuations()]
        .into_iter()
        .flatten()
        .collect()
}

/// A frame on a request that has begun.
fn on(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    [begun(1, HELD), frame(kind, flags, 1, payload)].concat()
}

fn bodies() -> Vec<Row> {
    let padded = |payload: &[u8]| frame(DATA, END_STREAM | PADDED, 1, payload);
    let sound = |payload: &[u8]| [begun(1, "/"), padded(payload)].concat();
    let wrong = |payload: &[u8]| on(DATA, END_STREAM | PADDED, payload);
    vec![
        row("6.1: DATA on stream 0", frame(DATA, END_STREAM, 0, b"x"), WRONG),
        row("6.1: padding", sound(b"\x03abc\0\0\0"), &[Status(200)]),
        row("6.1: padding and nothing else", sound(b"\x03\0\0\0"), &[Status(200)]),
        row("6.1: padding as long as the frame", wrong(b"\x04abc"), WRONG),
        row("6.1: padding that is longer", wrong(b"\xffabc"), WRONG),
        row("6.1: padding without a length", wrong(b""), TOO_SHORT),
    ]
}

fn heads() -> Vec<Row> {
    let head = |flags: u8, before: &[u8], path: &str, padding: &[u8]| {
        frame(HEADERS, WHOLE | flags, 1, &[before, &get(path), padding].concat())
    };
    let both = head(PADDED | WITH_PRIORITY, &[2, 0, 0, 0, 0, 16], "/", &[0, 0]);
    vec![
        row("6.2: HEADERS on stream 0", frame(HEADERS, WHOLE, 0, &get("/unseen")), WRONG),
        row("6.2: padding", head(PADDED, &[2], "/", &[0, 0]), &[Status(200)]),
        row("6.2: padding and a priority", both, &[Status(200)]),
        row("6.2: padding that is longer than the frame", head(PADDED, &[200], "/unseen", b""), WRONG),
        row("6.2: padding without a length", frame(HEADERS, WHOLE | PADDED, 1, b""), TOO_SHORT),
        row("6.2: a priority that is cut off", frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[0; 3]), TOO_SHORT),
    ]
}

fn priority_and_reset() -> Vec<Row> {
    vec![
        row("6.3: PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), WRONG),
        row(
            "6.3: PRIORITY of another length",
            on(PRIORITY, 0, &[0; 4]),
            &[Reset(FRAME_SIZE), GoAway(FRAME_SIZE)],
        ),
        row("6.4: RST_STREAM on stream 0", frame(RESET, 0, 0, &[0; 4]), WRONG),
        row("6.4: RST_STREAM that is shorter", on(RESET, 0, &[0; 3]), SIZE),
        row("6.4: RST_STREAM that is longer", on(RESET, 0, &[0; 5]), SIZE),
    ]
}

fn setting() -> Vec<Row> {
    let set = |rule, id, value, allowed| row(rule, settings(&[(id, value)]), allowed);
    let twice = [settings(&[(4, 0x7fff_ffff), (4, 10)]), asked(1, "/")].concat();
    vec![
        row("6.5: an ACK with something in it", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE),
        row("6.5: SETTINGS on a stream", frame(SETTINGS, 0, 1, &[0; 6]), WRONG),
        row("6.5: half a setting", frame(SETTINGS, 0, 0, &[0; 3]), SIZE),
        row("6.5: a setting and a half", frame(SETTINGS, 0, 0, &[0; 9]), SIZE),
        set("6.5.2: ENABLE_PUSH of 0", 2, 0, &[Alive]),
        set("6.5.2: ENABLE_PUSH of 2", 2, 2, WRONG),
        set("6.5.2: the largest INITIAL_WINDOW_SIZE", 4, 0x7fff_ffff, &[Alive]),
        set("6.5.2: a larger INITIAL_WINDOW_SIZE", 4, 0x8000_0000, &[GoAway(FLOW_CONTROL)]),
        set("6.5.2: the smallest MAX_FRAME_SIZE", 5, 16_384, &[Alive]),
        set("6.5.2: a smaller MAX_FRAME_SIZE", 5, 16_383, WRONG),
        set("6.5.2: the largest MAX_FRAME_SIZE", 5, 16_777_215, &[Alive]),
        set("6.5.2: a larger MAX_FRAME_SIZE", 5, 16_777_216, WRONG),
        set("6.5.2: MAX_HEADER_LIST_SIZE is advice", 6, 0, &[Alive]),
        row("6.5.3: one setting twice, in order", twice, &[Status(200)]),
    ]
}

fn pings_and_partings() -> Vec<Row> {
    let promise = [&0_u32.to_be_bytes()[..], &get("/unseen")].concat();
    vec![
        row("6.6: a promise of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &promise), WRONG),
        row("8.4: a promise on a request", on(PUSH_PROMISE, END_HEADERS, &promise), WRONG),
        row("6.7: PING", frame(PING, 0, 0, &[7; 8]), &[Alive]),
        row("6.7: an ACK of no PING", frame(PING, ACK, 0, &[7; 8]), &[Alive]),
        row("6.7: PING on a stream", frame(PING, 0, 1, &[7; 8]), WRONG),
        row("6.7: PING that is shorter", frame(PING, 0, 0, &[7; 6]), SIZE),
        row("6.7: PING that is longer", frame(PING, 0, 0, &[7; 9]), SIZE),
        row("6.8: GOAWAY on a stream", frame(GO_AWAY, 0, 1, &[0; 8]), WRONG),
        row("6.8: GOAWAY that is shorter", frame(GO_AWAY, 0, 0, &[0; 7]), SIZE),
    ]
}

fn windows() -> Vec<Row> {
    const OVER: &[Outcome] = &[Reset(FLOW_CONTROL), GoAway(FLOW_CONTROL)];
    let update = |by: u32| on(WINDOW_UPDATE, 0, &by.to_be_bytes());
    let widened = [update(0x7fff_0000), settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)])].concat();
    let beyond = on(DATA, 0, &[0; 1025]);
    let as_far = [begun(1, "/"), frame(DATA, END_STREAM, 1, &[0; 1024])].concat();
    vec![
        row("6.9: no increment, of all", window_update(0, 0), WRONG),
        row("6.9: no increment, of a stream", update(0), &[Reset(PROTOCOL), GoAway(PROTOCOL)]),
        row("6.9: WINDOW_UPDATE that is shorter", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]), SIZE),
        row("6.9.1: a window too large, of all", window_update(0, 0x7fff_ffff), &[GoAway(FLOW_CONTROL)]),
        row("6.9.1: a window too large, of a stream", update(0x7fff_ffff), OVER),
        row("6.9.2: a setting that makes it so", widened, &[GoAway(FLOW_CONTROL)]),
        row("6.9.1: DATA beyond the window of a stream", beyond, OVER).from(Start::Tight),
        row("6.9.1: DATA as far as that", as_far, &[Status(200)]).from(Start::Tight),
    ]
}

fn continuations() -> Vec<Row> {
    let head = get("/");
    let pieces = |count: usize| -> Vec<u8> {
        let chunks: Vec<&[u8]> = head.chunks(head.len().div_ceil(count)).collect();
        let piece = |(number, chunk): (usize, &&[u8])| {
            let end = if number + 1 == chunks.len() { END_HEADERS } else { 0 };
            match number {
                0 => frame(HEADERS, END_STREAM | end, 1, chunk),
                _ => frame(CONTINUATION, end, 1, chunk),
            }
        };
        chunks.iter().enumerate().flat_map(piece).collect()
    };
    let end = |stream| frame(CONTINUATION, END_HEADERS, stream, b"");
    let open = |then: Vec<u8>| [frame(HEADERS, END_STREAM, 1, &get("/unseen")), then].concat();
    vec![
        row("6.10: two pieces", pieces(2), &[Status(200)]),
        row("6.10: four pieces", pieces(4), &[Status(200)]),
        row("6.10: one more behind the last", [asked(1, HELD), end(1)].concat(), WRONG),
        row("6.10: CONTINUATION on stream 0", open(end(0)), WRONG),
        row("6.10: CONTINUATION of another request", open(end(3)), WRONG),
        row("6.10: CONTINUATION behind DATA", [on(DATA, 0, b"x"), end(1)].concat(), WRONG),
    ]
}
