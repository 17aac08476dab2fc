use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: ClientLimits = ClientLimits {
    connections: 1,
    connections_per_ip: 1,
    header_timeout: Span::from_secs(10),
    idle_timeout: Span::from_secs(60),
    body_rate: 100,
    header_fields: 100,
    header_bytes: 32_768,
    uri_bytes: 8192,
};
const HTTP2: Http2Limits = Http2Limits {
    concurrent_streams: 100,
    stream_window: 65_535,
    connection_window: 65_535,
    send_buffer: 65_536,
    unseen_resets: 20,
    error_resets: 64,
    resets: 5,
    control_frames: 100,
};
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection on which the client has sent its preface.
fn begun() -> Watch {
    let mut watch = Watch::new(&LIMITS, &HTTP2);
    sound(&mut watch, b"PRI * HTTP/2.0\r\n\r");
    sound(&mut watch, b"\nSM\r\n\r\n");
    watch
}

/// A connection on which the client has sent its SETTINGS.
fn greeted() -> Watch {
    let mut watch = begun();
    sound(&mut watch, &frame(SETTINGS, 0, 0, b""));
    watch
}

fn sound(watch: &mut Watch, bytes: &[u8]) {
    assert_eq!(watch.receive(bytes), bytes.len());
    assert_eq!(watch.fault(), None);
}

/// What the connection ends over, and after how many seconds in which this comes.
fn end(watch: &mut Watch, mut each: impl FnMut(&mut Watch)) -> Option<(u64, Overdue)> {
    (1..=200).find_map(|second| {
        each(watch);
        watch.look(SECOND).end.map(|overdue| (second, overdue))
    })
}

#[test]
fn a_client_that_says_nothing_has_the_time_of_a_head() {
    assert_eq!(end(&mut Watch::new(&LIMITS, &HTTP2), |_| {}), Some((10, Overdue::Head)));
    let mut watch = begun();
    sound(&mut watch, &frame(SETTINGS, 0, 0, &[0; 6])[..12]);
    assert_eq!(end(&mut watch, |_| {}), Some((10, Overdue::Head)));
    assert_eq!(end(&mut greeted(), |_| {}), None);
}

#[test]
fn fields_that_come_in_drips_have_the_same() {
    let within = |watch: &mut Watch, drip: &[u8]| {
        let (second, overdue) = end(watch, |watch| sound(watch, drip)).unwrap();
        assert!((10..=11).contains(&second), "{second}");
        assert_eq!(overdue, Overdue::Head);
    };
    let mut watch = greeted();
    sound(&mut watch, &frame(HEADERS, 0, 1, b""));
    within(&mut watch, b"");
    let mut watch = greeted();
    sound(&mut watch, &frame(HEADERS, 0, 1, b""));
    within(&mut watch, &frame(CONTINUATION, 0, 1, b"a"));
    let mut watch = greeted();
    sound(&mut watch, &frame(HEADERS, END_HEADERS, 1, &[0; 100])[..9]);
    within(&mut watch, b"a");
    let mut watch = greeted();
    sound(&mut watch, b"\0\0");
    within(&mut watch, b"");
    let mut watch = greeted();
    sound(&mut watch, &frame(DATA, 0, 1, &[0; 100])[..9]);
    within(&mut watch, b"a");
}

#[test]
fn frames_that_are_whole_have_time() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let mut half = Vec::new();
    let mut watch = greeted();
    assert_eq!(
        end(&mut watch, |watch| {
            half.extend_from_slice(&ping);
            let (now, later) = half.split_at(half.len() / 2);
            sound(watch, now);
            half = later.to_vec();
        }),
        None
    );
}

#[test]
fn a_slow_request_is_taken_back_between_frames_and_ends_all_amid_one() {
    let open = |payload: &[u8]| {
        let mut watch = greeted();
        sound(&mut watch, &frame(HEADERS, END_HEADERS, 1, b"\x83"));
        sound(&mut watch, payload);
        watch
    };
    let mut watch = open(&frame(DATA, 0, 1, b"a"));
    let looked: Vec<Looked> =
        (0..60).map(|_| watch.look(SECOND)).filter(|looked| *looked != Looked::default()).collect();
    assert_eq!(looked, [Looked { given_up: vec![Overdue::Body], end: None }]);
    let mut bytes = [0; 100];
    let mut room = ReadBuf::new(&mut bytes[..13]);
    assert!(!watch.inject(&mut room), "there is no room");
    let mut room = ReadBuf::new(&mut bytes);
    assert!(watch.inject(&mut room) && !watch.inject(&mut ReadBuf::new(&mut [0; 100])));
    assert_eq!(room.filled(), self_dependency(1));

    let mut watch = open(&frame(DATA, 0, 1, &[0; 100])[..50]);
    assert_eq!(end(&mut watch, |_| {}), Some((30, Overdue::Body)));
}

#[test]
fn nothing_is_put_among_fields() {
    let mut watch = greeted();
    sound(&mut watch, &frame(HEADERS, END_HEADERS, 1, b"\x83"));
    while watch.look(SECOND).given_up.is_empty() {}
    sound(&mut watch, &frame(HEADERS, 0, 3, b""));
    assert!(!watch.inject(&mut ReadBuf::new(&mut [0; 100])));
    sound(&mut watch, &frame(CONTINUATION, END_HEADERS, 3, b""));
    assert!(watch.inject(&mut ReadBuf::new(&mut [0; 100])));
}

#[test]
fn frames_that_lead_to_nothing_are_bounded() {
    for flood in [
        frame(PING, 0, 0, &[0; 8]),
        frame(PING, 1, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, b""),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(DATA, 0, 1, b""),
        frame(RST_STREAM, 0, 1, &[0; 4]),
        frame(GOAWAY, 0, 0, &[0; 8]),
        frame(0x77, 0, 0, b"anything"),
    ] {
        let mut watch = greeted();
        for _ in 1..100 {
            sound(&mut watch, &flood);
        }
        assert_eq!(watch.receive(&[flood.clone(), flood.clone()].concat()), 0, "{flood:?}");
        assert_eq!(watch.fault(), Some(Fault::ControlFrames));

        let mut watch = greeted();
        assert_eq!(end(&mut watch, |watch| (0..10).for_each(|_| sound(watch, &flood))), None);
    }
}

#[test]
fn traffic_explains_them() {
    let mut watch = greeted();
    let update = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0x40, 0]);
    for _ in 0..10_000 {
        watch.send(&frame(DATA, 0, 1, &[0; 100]));
        (0..4).for_each(|_| sound(&mut watch, &update));
    }
    // Of a client that takes large frames and reads them in small pieces.
    let mut watch = greeted();
    for _ in 0..1000 {
        watch.send(&frame(DATA, 0, 1, &[0; 65_536]));
        (0..32).for_each(|_| sound(&mut watch, &update));
    }
}

#[test]
fn requests_that_are_taken_back_are_counted_apart() {
    let take_back = |watch: &mut Watch, id: u32| {
        let asked = frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x82");
        watch.receive(&[asked, frame(RST_STREAM, 0, id, &[0; 4])].concat())
    };
    let mut watch = greeted();
    for number in 0..5 {
        take_back(&mut watch, 2 * number + 1);
    }
    assert_eq!(watch.fault(), None);
    assert_eq!(take_back(&mut watch, 11), 10, "the request is seen");
    assert_eq!(watch.fault(), Some(Fault::Resets));
    let mut watch = greeted();
    let mut next = 1;
    let each = |watch: &mut Watch| {
        take_back(watch, next);
        next += 2;
        for _ in 0..20 {
            watch.look(SECOND / 10);
        }
    };
    assert_eq!(end(&mut watch, each), None);
    assert_eq!(watch.fault(), None);
}

#[test]
fn rules_that_the_library_breaks_a_connection_for_under_another_name() {
    let fault = |bytes: &[u8]| {
        let mut watch = greeted();
        assert_eq!(watch.receive(&[&frame(PING, 0, 0, &[0; 8]), bytes].concat()), 17, "{bytes:?}");
        watch.fault().map(Fault::reason)
    };
    for (kind, flags, length) in [
        (SETTINGS, 1, 6),
        (SETTINGS, 0, 5),
        (PING, 0, 7),
        (PING, 0, 9),
        (RST_STREAM, 0, 3),
        (WINDOW_UPDATE, 0, 5),
        (PRIORITY, 0, 4),
        (GOAWAY, 0, 7),
    ] {
        assert_eq!(fault(&frame(kind, flags, 0, &vec![0; length])), Some(Reason::FRAME_SIZE_ERROR), "{kind}");
    }
    for more in [frame(DATA, 0, 1, b"a"), frame(HEADERS, END_HEADERS, 1, b"\x82")] {
        let mut watch = greeted();
        sound(&mut watch, &frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82"));
        assert_eq!(watch.receive(&more), 0);
        assert_eq!(watch.fault().map(Fault::reason), Some(Reason::STREAM_CLOSED));
    }
    let huge = frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]);
    assert_eq!(fault(&huge), Some(Reason::FLOW_CONTROL_ERROR));
    for first in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 1, 0, b""), frame(HEADERS, 5, 1, b"\x82")] {
        let mut watch = begun();
        assert_eq!(watch.receive(&first), 0);
        assert_eq!(watch.fault(), Some(Fault::Preface));
    }
}

#[test]
fn an_idle_connection_is_looked_at_seldom() {
    let mut watch = begun();
    assert_eq!(watch.pause(), SECOND);
    sound(&mut watch, &frame(SETTINGS, 0, 0, b""));
    watch.look(SECOND);
    assert_eq!(watch.pause(), 15 * SECOND);
    sound(&mut watch, &frame(HEADERS, END_HEADERS, 1, b"\x83"));
    assert_eq!(watch.pause(), SECOND);
}
