//! A request of which nearly all is there.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// What a request may take to be looked at whole, bytes.
pub(super) const REQUEST_BYTES: usize = 4096;
/// How long the rest of such a request is waited for: longer than the way to most clients and back, for some systems send
/// the second piece only once the first is acknowledged. Then Pingora has it, and who is refused need not send it at all.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// A sound head with the beginning of a small body, whose rest is likely to come at once: many clients send the two one
/// by one.
#[derive(Default)]
pub(super) struct Gathered {
    bytes: Vec<u8>,
    /// Runs from the head on.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a rest of this length is worth a wait, behind these bytes and what is here. A client that waits itself, for
    /// being told to go on, is not.
    pub(super) fn waits_for(&self, left: u64, came: &[u8]) -> bool {
        let room = REQUEST_BYTES.saturating_sub(self.bytes.len() + came.len());
        left <= room as u64 && !(self.is_empty() && asks_first(came))
    }

    pub(super) fn add(&mut self, came: &[u8]) {
        self.bytes.extend_from_slice(came);
        self.patience.get_or_insert_with(|| Box::pin(sleep(GATHERED_FOR)));
    }

    /// All of it and these bytes: nothing is left here.
    pub(super) fn take(&mut self, came: &[u8]) -> Vec<u8> {
        self.patience = None;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(came);
        bytes
    }

    /// Ready once the rest has been waited for long enough.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.patience.as_mut().map_or(Poll::Pending, |patience| patience.as_mut().poll(cx))
    }
}

/// Whether there is an `Expect` among these lines.
fn asks_first(head: &[u8]) -> bool {
    const NAME: &[u8] = b"expect:";
    let mut lines = head.split(|byte| *byte == b'\n');
    lines.any(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_waited_for_unless_its_client_waits() {
        let nothing = Gathered::default();
        let head = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
        assert!(nothing.waits_for(9, head));
        assert!(nothing.waits_for((REQUEST_BYTES - head.len()) as u64, head));
        assert!(!nothing.waits_for((REQUEST_BYTES - head.len() + 1) as u64, head));
        assert!(!nothing.waits_for(9, b"POST / HTTP/1.1\r\nEXPECT: 100-continue\r\n\r\n"));
        let mut some = Gathered { bytes: head.to_vec(), patience: None };
        assert!(some.waits_for(3, b"Expect: is what a body may say"));
        assert_eq!(some.take(b"rest"), [&head[..], b"rest"].concat());
        assert!(some.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_begins_with_the_head_and_ends() {
        let over =
            |gathered: &mut Gathered| gathered.poll_over(&mut Context::from_waker(std::task::Waker::noop()));
        let mut gathered = Gathered::default();
        assert!(over(&mut gathered).is_pending());
        gathered.add(b"head");
        assert!(over(&mut gathered).is_pending());
        tokio::time::advance(GATHERED_FOR / 2).await;
        gathered.add(b"more");
        assert!(over(&mut gathered).is_pending());
        tokio::time::advance(GATHERED_FOR / 2 + Duration::from_millis(1)).await;
        assert!(over(&mut gathered).is_ready());
        assert_eq!(gathered.take(b""), b"headmore");
    }
}
