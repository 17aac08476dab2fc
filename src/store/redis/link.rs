//! The place of a connection: it is made when wanted, kept while it works, and made anew.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::remote::StoreError;
use super::sentinel::Sentinels;
use super::url::RedisUrl;
use super::wire::{Patience, Trouble, Wire};

/// How the server at the other end is found.
#[derive(Debug)]
pub(super) enum Finder {
    Known(RedisUrl, Patience),
    Sentinels(Sentinels),
}

impl Finder {
    async fn open(&self) -> Result<Wire, StoreError> {
        match self {
            Finder::Known(url, patience) => Wire::open(url, *patience).await,
            Finder::Sentinels(sentinels) => sentinels.open_master().await,
        }
    }
}

/// A place for one connection.
#[derive(Debug)]
pub(super) struct Link {
    finder: Arc<Finder>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Vacant,
    Opening(Opening),
    Open(Wire),
}

/// An attempt under way, for all who wait for it.
type Opening = watch::Receiver<Option<Result<Wire, StoreError>>>;

impl Link {
    pub(super) fn new(finder: Arc<Finder>) -> Link {
        Link { finder, state: Mutex::new(State::Vacant) }
    }

    /// The connection, made first if there is none. All who want it wait for one attempt, which
    /// goes on when they have left: a slow handshake is done some time.
    pub(super) async fn wire(self: &Arc<Self>) -> Result<Wire, StoreError> {
        let mut opening = match self.present() {
            Ok(wire) => return Ok(wire),
            Err(opening) => opening,
        };
        let given_up = || Err(StoreError::Disconnected("the attempt to connect was given up".into()));
        match opening.wait_for(Option::is_some).await {
            Ok(opened) => opened.clone().unwrap_or_else(given_up),
            Err(_) => given_up(),
        }
    }

    /// Does something over the connection and draws the consequences for it.
    pub(super) async fn with<T>(
        self: &Arc<Self>,
        work: impl AsyncFnOnce(&Wire) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let wire = self.wire().await.map_err(Trouble::Failed)?;
        let done = work(&wire).await;
        if let Err(trouble) = &done
            && ends_connection(&StoreError::from(trouble.clone()))
        {
            self.discard(&wire);
        }
        done
    }

    /// The same within a time. What does not answer by then is half open for all we know, and no
    /// reset ever comes: the connection is given up.
    pub(super) async fn with_in<T>(
        self: &Arc<Self>,
        time: Duration,
        work: impl AsyncFnOnce(&Wire) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        match timeout(time, self.with(work)).await {
            Ok(done) => done,
            Err(_) => {
                self.vacate();
                Err(Trouble::Failed(StoreError::Timeout))
            }
        }
    }

    fn present(self: &Arc<Self>) -> Result<Wire, Opening> {
        let mut state = self.state.lock();
        match &*state {
            State::Open(wire) if !wire.has_ended() => Ok(wire.clone()),
            // Closed with no outcome if its runtime was shut down.
            State::Opening(opening) if opening.has_changed().is_ok() => Err(opening.clone()),
            State::Open(_) | State::Opening(_) | State::Vacant => {
                let opening = self.start_opening();
                *state = State::Opening(opening.clone());
                Err(opening)
            }
        }
    }

    fn start_opening(self: &Arc<Self>) -> Opening {
        let (outcome, opening) = watch::channel(None);
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let opened = link.finder.open().await;
            *link.state.lock() = match &opened {
                Ok(wire) => State::Open(wire.clone()),
                Err(_) => State::Vacant,
            };
            outcome.send_replace(Some(opened));
        });
        opening
    }

    /// Makes room if this connection is still the one.
    fn discard(&self, broken: &Wire) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Open(wire) if wire.is(broken)) {
            *state = State::Vacant;
        }
    }

    /// Makes room. An attempt under way has its own limit of time.
    fn vacate(&self) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Open(_)) {
            *state = State::Vacant;
        }
    }
}

/// Whether a connection that brought this can be of no more use: it is gone, what it carries is
/// not understood, or it leads to a server or a login that another one would replace.
fn ends_connection(error: &StoreError) -> bool {
    match error {
        StoreError::Disconnected(_) | StoreError::Garbage(_) | StoreError::ReadOnly | StoreError::Auth(_) => {
            true
        }
        StoreError::Timeout
        | StoreError::Loading
        | StoreError::OutOfMemory
        | StoreError::Cluster(_)
        | StoreError::WrongType
        | StoreError::Refused(_) => false,
    }
}
