//! What happens, told to whoever listens while it happens.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::block::BlockRecord;
use super::event::Event;

/// Something that happened just now.
#[derive(Clone, Debug)]
pub enum News {
    Event(Arc<Event>),
    /// A block began, or was made longer.
    Blocked(Arc<BlockRecord>),
    /// An operator ended a block.
    Unblocked(Arc<BlockRecord>),
}

/// Tells news to all listeners. Nobody who tells waits for one that is slow: it misses some, and learns how many.
#[derive(Debug)]
pub struct Feed {
    sender: broadcast::Sender<News>,
}

/// So many news are kept for a slow listener.
const BACKLOG: usize = 1024;

impl Feed {
    pub(super) fn new() -> Feed {
        Feed { sender: broadcast::Sender::new(BACKLOG) }
    }

    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.sender.subscribe()
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// How many news the slowest listener has not taken yet.
    pub fn backlog(&self) -> usize {
        self.sender.len()
    }

    /// The news is made only if somebody listens.
    pub(super) fn tell(&self, news: impl FnOnce() -> News) {
        if self.sender.receiver_count() > 0 {
            // The last listener may have gone just now.
            let _ = self.sender.send(news());
        }
    }
}
