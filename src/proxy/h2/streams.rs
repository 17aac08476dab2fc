//! The open requests of a connection, and which of them wait for the client.
//!
//! The windows tell it (RFC 9113 §5.2). A client that may send more of a body and does not is waited for; so is one
//! that lets us send no more of an answer. A backend that is slow to take the body leaves its client without a window.

use std::collections::HashMap;
use std::time::Duration;

use crate::decision::listener::Http2Limits;
use crate::proxy::activity::Overdue;
use crate::proxy::patience::{ANSWER_PATIENCE, BODY_PATIENCE, Patience};

/// What both sides may send at first, bytes, until they say otherwise.
const WINDOW_AT_FIRST: i64 = 65_535;

/// How many may be open here beyond those that there may be: what the library has not refused yet, or ignores
/// altogether once the connection takes its leave.
const NOT_REFUSED_MAX: usize = 4096;

/// All that are open.
#[derive(Debug)]
pub(super) struct Streams {
    open: HashMap<u32, Stream>,
    open_max: usize,
    /// The last that was opened.
    last: u32,
    /// Bytes a second.
    rate: u32,
    /// What the client may send of all bodies together; it gets so much again once half of it is taken in.
    credit: i64,
    credit_most: i64,
    /// What each new stream begins with, of bodies and of answers.
    first_credit: i64,
    first_window: i64,
    /// What we may send of all answers together.
    window: i64,
}

#[derive(Debug)]
struct Stream {
    /// What the client may send, and what we may.
    credit: i64,
    window: i64,
    received: u64,
    sent: u64,
    body: Patience,
    answer: Patience,
    body_ended: bool,
    answer_begun: bool,
    answer_ended: bool,
}

impl Streams {
    /// None yet. `rate` is what a client must give of a body and take of an answer, bytes a second.
    pub(super) fn new(rate: u32, limits: &Http2Limits) -> Streams {
        let at_once = usize::try_from(limits.concurrent_streams).unwrap_or(usize::MAX);
        Streams {
            open: HashMap::new(),
            open_max: at_once.saturating_add(NOT_REFUSED_MAX),
            last: 0,
            rate,
            credit: WINDOW_AT_FIRST,
            credit_most: i64::from(limits.connection_window),
            first_credit: WINDOW_AT_FIRST,
            first_window: WINDOW_AT_FIRST,
            window: WINDOW_AT_FIRST,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn is_open(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    /// Whether an open request is there to its end.
    pub(super) fn has_whole_body(&self, id: u32) -> bool {
        self.open.get(&id).is_some_and(|stream| stream.body_ended)
    }

    /// The client sends fields: of a new request, or behind a body. Nothing if there is no room for a request more.
    pub(super) fn fields_come(&mut self, id: u32) -> Option<()> {
        if id <= self.last {
            return Some(());
        }
        if self.open.len() >= self.open_max {
            return None;
        }
        self.last = id;
        self.open.insert(
            id,
            Stream {
                credit: self.first_credit,
                window: self.first_window,
                received: 0,
                sent: 0,
                body: Patience::new(BODY_PATIENCE, self.rate, 0),
                answer: Patience::new(ANSWER_PATIENCE, self.rate, 0),
                body_ended: false,
                answer_begun: false,
                answer_ended: false,
            },
        );
        Some(())
    }

    /// So much of a body came.
    pub(super) fn receive(&mut self, id: u32, bytes: u32) {
        self.credit -= i64::from(bytes);
        if let Some(stream) = self.open.get_mut(&id) {
            stream.credit -= i64::from(bytes);
            stream.received += u64::from(bytes);
        }
    }

    /// The client has said all of a request.
    pub(super) fn body_ends(&mut self, id: u32) {
        self.update(id, |stream| stream.body_ended = true);
    }

    /// The first fields of an answer went out, or the last.
    pub(super) fn answer_begins(&mut self, id: u32) {
        self.update(id, |stream| stream.answer_begun = true);
    }

    /// So much of an answer went out.
    pub(super) fn send(&mut self, id: u32, bytes: u32) {
        self.window -= i64::from(bytes);
        self.update(id, |stream| {
            stream.window -= i64::from(bytes);
            stream.sent += u64::from(bytes);
        });
    }

    pub(super) fn answer_ends(&mut self, id: u32) {
        self.update(id, |stream| stream.answer_ended = true);
    }

    /// One side took the request back.
    pub(super) fn reset(&mut self, id: u32) {
        self.open.remove(&id);
    }

    /// The client lets us send more: on a stream, or on all of them.
    pub(super) fn widen_window(&mut self, id: u32, by: u32) {
        match id {
            0 => self.window = self.window.saturating_add(i64::from(by)),
            _ => self.update(id, |stream| stream.window = stream.window.saturating_add(i64::from(by))),
        }
    }

    /// We let the client send more.
    pub(super) fn widen_credit(&mut self, id: u32, by: u32) {
        match id {
            0 => self.credit = self.credit.saturating_add(i64::from(by)),
            _ => self.update(id, |stream| stream.credit = stream.credit.saturating_add(i64::from(by))),
        }
    }

    /// The client changes what we may send of each answer (RFC 9113 §6.9.2).
    pub(super) fn set_first_window(&mut self, window: u32) {
        let change = i64::from(window) - std::mem::replace(&mut self.first_window, i64::from(window));
        self.open.values_mut().for_each(|stream| stream.window += change);
    }

    /// We change what it may send of each body.
    pub(super) fn set_first_credit(&mut self, credit: u32) {
        let change = i64::from(credit) - std::mem::replace(&mut self.first_credit, i64::from(credit));
        self.open.values_mut().for_each(|stream| stream.credit += change);
    }

    /// After so long a look, those that were waited for too long: they are no longer among the open ones.
    pub(super) fn overdue(&mut self, pause: Duration) -> Vec<(u32, Overdue)> {
        // As long as half of it is left, all that came was taken in.
        let may_send = self.credit > self.credit_most / 2;
        let (enough, is_shut) = (self.first_credit / 2, self.window <= 0);
        let judge = |(id, stream): (&u32, &mut Stream)| {
            let owes_body = !stream.body_ended && !stream.answer_begun;
            let keeps_body = owes_body && may_send && stream.credit > enough;
            let keeps_answer = stream.answer_begun && !stream.answer_ended && (is_shut || stream.window <= 0);
            if stream.body.is_over(keeps_body, pause, stream.received) {
                Some((*id, Overdue::Body))
            } else if stream.answer.is_over(keeps_answer, pause, stream.sent) {
                Some((*id, Overdue::Answer))
            } else {
                None
            }
        };
        let overdue: Vec<(u32, Overdue)> = self.open.iter_mut().filter_map(judge).collect();
        for (id, _) in &overdue {
            self.open.remove(id);
        }
        overdue
    }

    fn update(&mut self, id: u32, change: impl FnOnce(&mut Stream)) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        change(stream);
        if stream.body_ended && stream.answer_ended {
            self.open.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const LIMITS: Http2Limits = Http2Limits {
        concurrent_streams: 4,
        stream_window: 1000,
        connection_window: 65_535,
        send_buffer: 65_536,
        unseen_resets: 20,
        error_resets: 64,
        resets: 5,
        control_frames: 100,
    };

    /// Streams 1 and 3 are open.
    fn two() -> Streams {
        let mut streams = Streams::new(100, &LIMITS);
        streams.set_first_credit(1000);
        streams.fields_come(1).unwrap();
        streams.fields_come(3).unwrap();
        streams
    }

    /// Who is overdue first, and after how many seconds of this.
    fn first(streams: &mut Streams, mut each: impl FnMut(&mut Streams)) -> Option<(u64, u32, Overdue)> {
        (1..=1000).find_map(|second| {
            each(streams);
            let (id, overdue) = streams.overdue(SECOND).into_iter().next()?;
            Some((second, id, overdue))
        })
    }

    #[test]
    fn a_body_that_may_come_and_does_not_is_overdue_alone() {
        let mut streams = two();
        streams.body_ends(3);
        assert_eq!(first(&mut streams, |_| {}), Some((30, 1, Overdue::Body)));
        assert!(!streams.is_open(1) && streams.is_open(3));
        assert_eq!(first(&mut streams, |_| {}), None);
    }

    #[test]
    fn a_drip_buys_little_and_the_rate_buys_all() {
        let drip = |bytes| {
            let mut streams = two();
            streams.body_ends(3);
            first(&mut streams, |streams| {
                streams.receive(1, bytes);
                streams.widen_credit(1, bytes);
                streams.widen_credit(0, bytes);
            })
        };
        assert_eq!(drip(1), Some((31, 1, Overdue::Body)));
        let half = drip(50).expect("half of the rate").0;
        assert!((55..=65).contains(&half), "{half}");
        assert_eq!(drip(100), None);
    }

    #[test]
    fn a_client_without_a_window_is_not_waited_for() {
        let mut streams = two();
        streams.body_ends(3);
        streams.receive(1, 500);
        assert_eq!(first(&mut streams, |_| {}), None, "the backend has half of a window to take");
        streams.widen_credit(1, 500);
        assert_eq!(first(&mut streams, |_| {}), Some((30, 1, Overdue::Body)));
        let mut streams = two();
        streams.receive(5, 40_000);
        assert_eq!(first(&mut streams, |_| {}), None, "others have used what all may send");
    }

    #[test]
    fn what_comes_behind_the_begin_of_an_answer_has_its_own_time() {
        let mut streams = two();
        streams.answer_begins(1);
        streams.answer_begins(3);
        assert_eq!(first(&mut streams, |_| {}), None);
    }

    #[test]
    fn an_answer_that_must_not_be_sent_is_overdue_alone() {
        let mut streams = two();
        for id in [1, 3] {
            streams.body_ends(id);
            streams.answer_begins(id);
        }
        streams.widen_window(0, 1_000_000);
        streams.send(1, 65_535);
        streams.send(3, 65_534);
        assert_eq!(first(&mut streams, |_| {}), Some((60, 1, Overdue::Answer)));
        assert_eq!(first(&mut streams, |_| {}), None);
        streams.set_first_window(65_534);
        assert_eq!(first(&mut streams, |_| {}), Some((60, 3, Overdue::Answer)));
        assert!(streams.is_empty());
    }

    #[test]
    fn a_window_that_opens_byte_by_byte_buys_little() {
        let take = |bytes| {
            let mut streams = two();
            streams.body_ends(3);
            streams.answer_begins(1);
            streams.widen_window(1, 1_000_000);
            streams.send(1, 65_535);
            first(&mut streams, |streams| {
                streams.widen_window(0, bytes);
                streams.send(1, bytes);
            })
        };
        assert_eq!(take(1), Some((61, 1, Overdue::Answer)));
        assert_eq!(take(120), None);
    }

    #[test]
    fn streams_close_when_both_sides_have_ended_or_one_took_it_back() {
        let mut streams = two();
        streams.answer_ends(1);
        assert!(streams.is_open(1));
        streams.body_ends(1);
        assert!(!streams.is_open(1));
        streams.reset(3);
        assert!(streams.is_empty());
        streams.fields_come(3).unwrap();
        assert!(streams.is_empty(), "none is opened twice");
    }

    #[test]
    fn without_a_rate_anything_goes() {
        let mut streams = Streams::new(0, &LIMITS);
        streams.fields_come(1).unwrap();
        assert_eq!(first(&mut streams, |_| {}), None);
    }

    #[test]
    fn there_is_room_for_those_that_may_be_and_for_what_is_not_refused_yet() {
        let mut streams = Streams::new(100, &LIMITS);
        let opened = (0..).take_while(|number| streams.fields_come(2 * number + 1).is_some()).count();
        assert_eq!(opened, 4100);
        streams.reset(1);
        assert_eq!(streams.fields_come(99_999), Some(()));
    }
}
