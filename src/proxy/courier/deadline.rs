//! How long a server may let us wait.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::clock::Stopwatch;

/// The time that is left for what is waited for.
///
/// Setting a timer costs a lock and a place in a wheel, for every request, and nearly none is ever used. So one timer is
/// kept from request to request on a connection. It is looked at when it goes off: what is waited for then may have begun
/// later, and gets the rest of its time.
#[derive(Default)]
pub(in crate::proxy) struct Deadline {
    armed: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Deadline {
    /// Ready once this takes longer than it may: what began with `watch`.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, watch: Stopwatch, time: Duration) -> Poll<()> {
        loop {
            let timer = match &mut self.armed {
                // One that goes off no later than this has to.
                Some((span, timer)) if *span <= time => timer,
                Some(_) | None => {
                    &mut self.armed.insert((time, Box::pin(sleep(time.saturating_sub(watch.elapsed()))))).1
                }
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
            if watch.elapsed() >= time {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::clock::Clock;

    const LONG: Duration = Duration::from_millis(120);
    const SHORT: Duration = Duration::from_millis(40);

    async fn over(deadline: &mut Deadline, watch: Stopwatch, time: Duration) {
        poll_fn(|cx| deadline.poll_over(cx, watch, time)).await;
    }

    async fn pending(deadline: &mut Deadline, watch: Stopwatch, time: Duration) -> bool {
        poll_fn(|cx| Poll::Ready(deadline.poll_over(cx, watch, time).is_pending())).await
    }

    #[tokio::test]
    async fn nothing_is_over_before_its_time_whatever_was_waited_for_before() {
        let clock = Clock::system();
        let mut deadline = Deadline::default();
        let first = clock.stopwatch();
        assert!(pending(&mut deadline, first, LONG).await);
        over(&mut deadline, first, LONG).await;
        // The timer that another left behind goes off amid the time of this one.
        let before = clock.stopwatch();
        assert!(pending(&mut deadline, before, SHORT).await);
        tokio::time::sleep(SHORT / 2).await;
        let second = clock.stopwatch();
        over(&mut deadline, second, LONG).await;
        assert!(second.elapsed() >= LONG);
    }

    #[tokio::test]
    async fn a_shorter_time_is_kept_behind_a_longer_one() {
        let clock = Clock::system();
        let mut deadline = Deadline::default();
        assert!(pending(&mut deadline, clock.stopwatch(), Duration::from_secs(3600)).await);
        let watch = clock.stopwatch();
        over(&mut deadline, watch, SHORT).await;
        assert!(watch.elapsed() >= SHORT);
    }
}
