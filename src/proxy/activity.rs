//! What a connection is doing, and the end of one that takes longer than it may.
//!
//! Pingora would arm a timer for every request that a connection waits for, and starts it anew with every byte that
//! drips in. Here one task a connection looks now and then what happened since it looked last: a request that comes
//! in one piece costs a few writes to memory and no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::patience::{ANSWER_PATIENCE, BODY_LOOK, BODY_PATIENCE, Patience};
use crate::decision::listener::ClientLimits;
use crate::decision::time::Span;

/// How many looks go into the time that a connection may be idle: it is kept for up to a quarter longer.
const IDLE_LOOKS: u32 = 4;
/// What happens on one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Of all kinds; wraps around.
    changes: AtomicU32,
    requests: AtomicU32,
    awaits: AtomicU8,
    /// Somebody waits for more of it right now.
    is_short: AtomicBool,
    /// Bytes of bodies that came.
    received: AtomicU64,
    /// An answer cannot be written right now: the client does not take it.
    is_stuffed: AtomicBool,
    /// Bytes of answers that were written.
    sent: AtomicU64,
    is_overdue: AtomicBool,
    /// Who would tell the client that it was too slow.
    teller: Mutex<Option<Waker>>,
    /// Tells the watching task of what it must not be late for.
    changed: Notify,
}

/// What a connection waits for from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first request of a new connection.
    First,
    /// The next request.
    Next,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
}

/// What the watching task sees in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    changes: u32,
    /// Without the body of a request that is under way: nothing.
    awaited: Option<Awaited>,
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No whole head came in time.
    Head,
    /// No request came in time.
    Idle,
    /// A body came too slowly.
    Body,
    /// An answer was taken too slowly.
    Answer,
}

impl Overdue {
    /// All of them, for who counts them.
    pub(super) const ALL: [Overdue; 4] = [Overdue::Head, Overdue::Idle, Overdue::Body, Overdue::Answer];

    /// A label for metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Overdue::Head => "head",
            Overdue::Idle => "request",
            Overdue::Body => "body",
            Overdue::Answer => "taking_the_answer",
        }
    }
}

/// A request under way on a connection: it is no idle one while this is kept.
#[derive(Debug)]
pub(super) struct Underway(Arc<Activity>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.awaits(Awaited::Next);
        self.0.requests.fetch_sub(1, Ordering::Release);
    }
}

impl Activity {
    /// The head of a request is there.
    pub(super) fn begin(self: &Arc<Activity>) -> Underway {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Underway(Arc::clone(self))
    }

    pub(super) fn has_request(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }

    /// A head is there in part.
    pub(super) fn await_head(&self) {
        match self.awaited() {
            // Its time runs already.
            Awaited::First | Awaited::Head => {}
            Awaited::Next | Awaited::Body => {
                self.awaits(Awaited::Head);
                self.changed.notify_one();
            }
        }
    }

    /// A head is whole.
    pub(super) fn head_came(&self) {
        self.awaits(Awaited::Next);
    }

    /// A body is waited for that is not there to its end.
    pub(super) fn await_body(&self) {
        if self.awaited() != Awaited::Body {
            self.awaits(Awaited::Body);
            self.changed.notify_one();
        }
    }

    /// So much of a body came.
    pub(super) fn receive(&self, bytes: usize) {
        self.is_short.store(false, Ordering::Relaxed);
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The body is there to its end.
    pub(super) fn body_came(&self) {
        if self.awaited() == Awaited::Body {
            self.awaits(Awaited::Next);
        }
    }

    /// Somebody waits for more of a head or a body: they are woken where it is overdue. Whether it is so already.
    pub(super) fn fall_short(&self, waker: &Waker) -> bool {
        self.is_short.store(true, Ordering::Relaxed);
        let mut teller = self.teller.lock();
        if !teller.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *teller = Some(waker.clone());
        }
        self.is_overdue.load(Ordering::Acquire)
    }

    /// So much of an answer was taken.
    pub(super) fn send(&self, bytes: usize) {
        self.is_stuffed.store(false, Ordering::Relaxed);
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The client takes no more of an answer right now.
    pub(super) fn stuff(&self) {
        self.is_stuffed.store(true, Ordering::Relaxed);
    }

    /// Has the client told that it was too slow. Whether somebody will: who waits for the rest of a request.
    pub(super) fn give_up(&self) -> bool {
        let teller = {
            let mut teller = self.teller.lock();
            self.is_overdue.store(true, Ordering::Release);
            teller.take()
        };
        let is_told = teller.is_some();
        teller.into_iter().for_each(Waker::wake);
        is_told
    }

    /// Returns once the connection has used up its time.
    pub(super) async fn overdue(&self, limits: &ClientLimits) -> Overdue {
        let mut seen = self.look();
        let mut waited = Duration::ZERO;
        let mut body = Patience::new(BODY_PATIENCE, limits.body_rate, self.received.load(Ordering::Relaxed));
        let mut answer = Patience::new(ANSWER_PATIENCE, limits.body_rate, self.sent.load(Ordering::Relaxed));
        loop {
            let pause = seen.pause(limits);
            tokio::select! {
                biased;
                () = self.changed.notified() => {
                    (seen, waited) = (self.look(), Duration::ZERO);
                    body = Patience::new(BODY_PATIENCE, limits.body_rate, self.received.load(Ordering::Relaxed));
                    continue;
                }
                () = tokio::time::sleep(pause) => {}
            }
            let stuffed = self.is_stuffed.load(Ordering::Relaxed);
            if answer.is_over(stuffed, pause, self.sent.load(Ordering::Relaxed)) {
                return Overdue::Answer;
            }
            let now = self.look();
            if now != seen {
                (seen, waited) = (now, Duration::ZERO);
                continue;
            }
            waited += pause;
            let is_short = self.is_short.load(Ordering::Relaxed);
            match seen.awaited {
                Some(Awaited::First | Awaited::Head) if waited >= length(limits.header_timeout) => {
                    return Overdue::Head;
                }
                Some(Awaited::Next) if waited >= length(limits.idle_timeout) => return Overdue::Idle,
                Some(Awaited::Body)
                    if body.is_over(is_short, pause, self.received.load(Ordering::Relaxed)) =>
                {
                    return Overdue::Body;
                }
                Some(Awaited::First | Awaited::Next | Awaited::Head | Awaited::Body) | None => {}
            }
        }
    }

    fn look(&self) -> Seen {
        let changes = self.changes.load(Ordering::Acquire);
        let awaited = self.awaited();
        let is_idle = !self.has_request() || awaited == Awaited::Body;
        Seen { changes, awaited: is_idle.then_some(awaited) }
    }

    fn awaits(&self, awaited: Awaited) {
        self.awaits.store(awaited as u8, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn awaited(&self) -> Awaited {
        const NEXT: u8 = Awaited::Next as u8;
        const HEAD: u8 = Awaited::Head as u8;
        const BODY: u8 = Awaited::Body as u8;
        match self.awaits.load(Ordering::Relaxed) {
            NEXT => Awaited::Next,
            HEAD => Awaited::Head,
            BODY => Awaited::Body,
            _ => Awaited::First,
        }
    }
}

impl Seen {
    /// How long the watching task may look away.
    fn pause(self, limits: &ClientLimits) -> Duration {
        match self.awaited {
            Some(Awaited::First | Awaited::Head) => length(limits.header_timeout),
            Some(Awaited::Body) => BODY_LOOK,
            Some(Awaited::Next) | None => length(limits.idle_timeout) / IDLE_LOOKS,
        }
    }
}

fn length(span: Span) -> Duration {
    Duration::from_millis(span.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn used() -> Arc<Activity> {
        let activity = Arc::new(Activity::default());
        activity.head_came();
        drop(activity.begin());
        activity
    }

    async fn within(activity: &Activity, span_s: u64) -> Option<Overdue> {
        tokio::time::timeout(Duration::from_secs(span_s), activity.overdue(&LIMITS)).await.ok()
    }

    async fn after(span_s: u64, act: impl FnOnce()) {
        tokio::time::sleep(Duration::from_secs(span_s)).await;
        act();
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_the_time_of_a_head_whatever_drips_in() {
        let activity = Activity::default();
        assert_eq!(within(&activity, 9).await, None);
        assert_eq!(within(&activity, 11).await, Some(Overdue::Head));
        let activity = Activity::default();
        let drip = async {
            loop {
                after(3, || activity.await_head()).await;
            }
        };
        tokio::select! {
            overdue = within(&activity, 11) => assert_eq!(overdue, Some(Overdue::Head)),
            () = drip => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_has_the_same_from_its_first_byte() {
        let activity = used();
        let first_byte = after(57, || activity.await_head());
        let (overdue, ()) = tokio::join!(within(&activity, 66), first_byte);
        assert_eq!(overdue, None);
        let drip = async {
            loop {
                after(3, || activity.await_head()).await;
            }
        };
        tokio::select! {
            overdue = within(&activity, 11) => assert_eq!(overdue, Some(Overdue::Head)),
            () = drip => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_after_its_time() {
        let activity = used();
        assert_eq!(within(&activity, 59).await, None);
        assert_eq!(within(&activity, 76).await, Some(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_keeps_it_however_long_it_takes() {
        let activity = used();
        let underway = activity.begin();
        assert_eq!(within(&activity, 100_000).await, None);
        drop(underway);
        assert_eq!(within(&activity, 91).await, Some(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_used_now_and_then_is_kept() {
        let activity = used();
        let uses = async {
            for _ in 0..20 {
                after(50, || drop(activity.begin())).await;
            }
        };
        tokio::select! {
            overdue = activity.overdue(&LIMITS) => panic!("{overdue:?} while it was used"),
            () = uses => {}
        }
    }

    /// Sends so many bytes of a body every so many seconds; when it was too slow, seconds.
    async fn body(bytes: usize, every_s: u64) -> Option<u64> {
        let activity = used();
        let _underway = activity.begin();
        activity.await_body();
        assert!(!activity.fall_short(Waker::noop()), "it is not late yet");
        let start = tokio::time::Instant::now();
        let drip = async {
            loop {
                after(every_s, || activity.receive(bytes)).await;
                activity.fall_short(Waker::noop());
            }
        };
        tokio::select! {
            overdue = within(&activity, 3600) => overdue.map(|overdue| {
                assert_eq!(overdue, Overdue::Body);
                start.elapsed().as_secs()
            }),
            () = drip => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_come_at_its_rate_on_average() {
        assert_eq!(body(0, 100).await, Some(30), "nothing at all");
        assert_eq!(body(1, 1).await, Some(31), "a drip");
        let half = body(50, 1).await.expect("half of the rate");
        assert!((55..=65).contains(&half), "{half}");
        assert_eq!(body(120, 1).await, None, "a little more than the rate");
        assert_eq!(body(3000, 25).await, None, "a phone in a tunnel, again and again");
        let burst = body(1_000_000, 40).await;
        assert_eq!(burst, Some(30), "a burst to come buys nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_is_slow_to_take_a_body_is_no_fault_of_its_client() {
        let activity = used();
        let _underway = activity.begin();
        activity.await_body();
        activity.receive(1);
        assert_eq!(within(&activity, 10_000).await, None, "nobody asks for more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_taken_at_the_same_rate() {
        let activity = used();
        let _underway = activity.begin();
        activity.stuff();
        assert_eq!(within(&activity, 59).await, None);
        let activity = used();
        let _underway = activity.begin();
        activity.stuff();
        assert_eq!(within(&activity, 76).await, Some(Overdue::Answer));
        let activity = used();
        let _underway = activity.begin();
        let takes = async {
            loop {
                after(10, || activity.send(1200)).await;
                activity.stuff();
            }
        };
        tokio::select! {
            overdue = within(&activity, 3600) => assert_eq!(overdue, None, "slow and steady"),
            () = takes => {}
        }
    }
}
