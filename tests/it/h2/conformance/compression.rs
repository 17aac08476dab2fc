//! Fields that cannot be decoded, which leaves the two sides without a common state: RFC 7541.

use super::{COMPRESSION, GoAway, PROTOCOL, Row, Status, row};
use crate::harness::h2::frames::{END_HEADERS, END_STREAM, HEADERS, frame, get};

/// The library ends the connection, as it must, and gives another reason; nobody but it knows which it was.
const WHY: &str = "the h2 crate says PROTOCOL_ERROR for all that it cannot decode";

pub(super) fn rows() -> Vec<Row> {
    vec![
        sound("7541 6.1: fields of the static table", &[0x82, 0x86, 0x84, 0x01, 1, b'h']),
        sound("7541 6.2.1: a field that is kept, and used", &kept()),
        sound("7541 4.2: a smaller table at the begin", &[&[0x20][..], &get("/")].concat()),
        sound("7541 5.2: a value in Huffman's code", &[&get("/")[..], &value(&[0x1f])].concat()),
        broken("7541 6.1: index 0", b"", &[0x80]),
        broken("7541 2.3.3: an index past the tables", b"", &[0xc6]),
        broken("7541 2.3.3: a name past the tables", b"", &[0x7f, 0x10, 1, b'a']),
        broken("7541 5.1: an integer without end", b"", &[0xff; 12]),
        broken("7541 5.1: an integer that is too large", b"", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        broken("7541 5.2: a text that is cut off", b"", &[0x00, 1, b'a', 9, b'b']),
        broken("7541 6.2: a field without a value", b"", &[0x00, 1, b'a']),
        broken("7541 5.2: the end of all texts amid one", b"", &value(&[0xff, 0xff, 0xff, 0xff])),
        broken("7541 5.2: padding of eight bits", b"", &value(&[0x1f, 0xff])),
        broken("7541 5.2: padding of zeros", b"", &value(&[0x18])),
        broken("7541 6.3: a table that is larger than allowed", &[0x3f, 0xe2, 0x1f], b""),
        broken("7541 4.2: a size behind fields", b"", &[0x20]),
    ]
}

fn sound(rule: &'static str, block: &[u8]) -> Row {
    row(rule, frame(HEADERS, END_HEADERS | END_STREAM, 1, block), &[Status(200)])
}

/// A sound request between two pieces of which one cannot be decoded.
fn broken(rule: &'static str, before: &[u8], behind: &[u8]) -> Row {
    let block = [before, &get("/unseen"), behind].concat();
    let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    row(rule, bytes, &[GoAway(COMPRESSION)]).departs(GoAway(PROTOCOL), WHY)
}

/// `x-kept: a` goes into the dynamic table, and is then named by its place there.
fn kept() -> Vec<u8> {
    [&get("/")[..], &[0x40, 6], b"x-kept", &[1, b'a', 0xbe]].concat()
}

/// A field with this value in Huffman's code, in which `a` has the five bits 00011 and padding is of ones.
fn value(code: &[u8]) -> Vec<u8> {
    let length = 0x80 | u8::try_from(code.len()).expect("a short value");
    [&[0x00, 1, b'a', length][..], code].concat()
}
