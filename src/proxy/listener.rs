//! Accepts connections, and ends them in an orderly way.

mod entrance;
mod opening;
mod proxy_protocol;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use pingora::apps::{HttpPersistentSettings, HttpServerApp};
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

pub use self::entrance::{Entrance, Entrances};

use self::opening::{Opened, OpeningFault, open};
use super::Edge;
use super::activity::{Activity, Overdue};
use super::caps::{Door, Seat};
use super::courier::Deadline;
use super::doorstep::{Attended, Doorstep};
use super::farewell::Farewell;
use super::gate::Gate;
use super::h2::{self, Host};
use super::link::{Link, Protocol};
use super::wire::{Connection, Guard, Wire};
use crate::decision::time::{Span, Timestamp};

/// How long to wait when the process is out of file descriptors.
const OUT_OF_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(50);
/// How long accepting must have worked before it counts as working.
const DROUGHT_OVER_AFTER: Span = Span::from_secs(2);
/// How long a client that was too slow has for being told so.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What Pingora is told of how long a connection is kept, which is for its activity to say.
const KEPT_S: u64 = 60;

/// What else is counted among requests that were refused before they were read.
pub(super) fn fault_names() -> impl Iterator<Item = &'static str> {
    OpeningFault::LABELS.into_iter().chain(h2::Fault::ALL.map(h2::Fault::label))
}

/// The public listeners of a running gateway.
pub struct Listeners {
    proxy: Arc<HttpProxy<Edge>>,
    stop: watch::Sender<bool>,
    farewell: Farewell,
    /// Ends what has not got as far as HTTP.
    cut: watch::Sender<bool>,
    /// Every connection holds a sender: the channel closes with the last of them.
    all_closed: mpsc::Receiver<()>,
}

/// What every connection task needs.
#[derive(Clone)]
struct Shared {
    proxy: Arc<HttpProxy<Edge>>,
    door: Arc<Door>,
    stop: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
    is_open: mpsc::Sender<()>,
    doorstep: Doorstep,
}

impl Listeners {
    /// Starts accepting on all of them, in the current runtime; `entrances` are in the same order.
    pub fn start(
        edge: Edge,
        conf: &Arc<ServerConf>,
        listeners: Vec<TcpListener>,
        entrances: &Arc<Entrances>,
    ) -> Listeners {
        let doors: Vec<Arc<Door>> = listeners.iter().map(|_| edge.door()).collect();
        let (doorstep, farewell) = (edge.doorstep(), edge.farewell());
        let proxy = Arc::new(edge.into_proxy(conf));
        let (stop, stopped) = watch::channel(false);
        let (cut, is_cut) = watch::channel(false);
        let (is_open, all_closed) = mpsc::channel(1);
        for (index, (listener, door)) in listeners.into_iter().zip(doors).enumerate() {
            let (stop, cut, is_open) = (stopped.clone(), is_cut.clone(), is_open.clone());
            let (proxy, doorstep) = (Arc::clone(&proxy), doorstep.clone());
            let shared = Shared { proxy, door, stop, cut, is_open, doorstep };
            tokio::spawn(accept_all(listener, Arc::clone(entrances), index, shared));
        }
        Listeners { proxy, stop, farewell, cut, all_closed }
    }

    /// Stops accepting; from here on each answer is the last on its connection. Those without a request are closed
    /// once `linger` is over: who has just been accepted, or answered, may be about to ask.
    pub async fn close(&mut self, linger: Duration) {
        self.farewell.begin();
        // Without receivers nothing is left to stop.
        let _ = self.stop.send(true);
        // Late or not, the others are closed now.
        let _ = tokio::time::timeout(linger, self.all_closed.recv()).await;
        let _ = self.cut.send(true);
        self.proxy.http_cleanup().await;
    }

    /// Lets requests in flight finish for at most `drain`; whether all of them did.
    pub async fn finish(&mut self, drain: Duration) -> bool {
        tokio::time::timeout(drain, self.all_closed.recv()).await.is_ok()
    }
}

async fn accept_all(listener: TcpListener, entrances: Arc<Entrances>, index: usize, shared: Shared) {
    let mut stop = shared.stop.clone();
    let mut drought = Drought::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                drought.accepted(&shared.door);
                if let Some(entrance) = entrances.now(index) {
                    welcome(tcp, peer, entrance, &shared);
                }
            }
            Err(error) if is_about_one_connection(&error) => {
                tracing::debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                drought.failed(&error, &shared.door);
                tokio::time::sleep(OUT_OF_DESCRIPTORS_PAUSE).await;
            }
        }
    }
}

/// A time in which connections cannot be accepted, however often one slips in. It has one line at its beginning and
/// one at its end: the log needs no flood on top.
#[derive(Default)]
struct Drought {
    failures: u64,
    last_at: Option<Timestamp>,
}

impl Drought {
    fn failed(&mut self, error: &io::Error, door: &Door) {
        door.metrics().accept_failed();
        if self.failures == 0 {
            tracing::error!(%error, "cannot accept connections; trying again until it works");
        }
        self.failures += 1;
        self.last_at = Some(door.now());
    }

    fn accepted(&mut self, door: &Door) {
        let Some(last_at) = self.last_at else { return };
        if last_at.until(door.now()) >= DROUGHT_OVER_AFTER {
            tracing::info!(failures = self.failures, "connections are accepted again");
            *self = Drought::default();
        }
    }
}

fn welcome(tcp: TcpStream, peer: SocketAddr, entrance: Arc<Entrance>, shared: &Shared) {
    let (door, limits) = (&shared.door, &entrance.limits);
    // Who speaks for others is none of them.
    let admitted = if entrance.believes(peer) { door.enter(limits) } else { door.admit(peer.ip(), limits) };
    match admitted {
        Ok(seat) => {
            tokio::spawn(serve(tcp, peer, entrance, seat, shared.clone()));
        }
        // Who waits for a handshake could not read what is said in clear.
        Err(full) if entrance.tls.is_some() => door.shut_out(peer.ip(), full),
        Err(full) => door.turn_away(&tcp, peer.ip(), full),
    }
}

/// Serves one connection, until it ends or its client has been too slow.
async fn serve(
    tcp: TcpStream,
    peer: SocketAddr,
    entrance: Arc<Entrance>,
    mut seat: Seat,
    mut shared: Shared,
) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "a client left as it was accepted");
        return;
    }
    let opened = tokio::select! {
        biased;
        opened = open(tcp, peer, &entrance, |client| seat.count_for(client, &entrance.limits)) => opened,
        _ = shared.cut.wait_for(|cut| *cut) => return,
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(fault) => return refuse(peer, &fault, &shared.door),
    };
    converse(opened, entrance, shared).await;
}

fn refuse(peer: SocketAddr, fault: &OpeningFault, door: &Door) {
    if let Some(label) = fault.label() {
        door.metrics().malformed(label);
    }
    match fault {
        OpeningFault::TooMany(client, full) => door.shut_out(*client, *full),
        // Where a proxy does not say whom it speaks for, nobody is served: somebody has to see it.
        OpeningFault::Header(_) => door.tell_refused(peer.ip(), fault),
        OpeningFault::Tls(_) | OpeningFault::TooSlow | OpeningFault::Gone(_) => {
            tracing::debug!(%peer, %fault, "a connection ended before HTTP began");
        }
    }
}

/// Speaks HTTP on a connection, until it ends or its client has been too slow.
async fn converse(opened: Opened, entrance: Arc<Entrance>, shared: Shared) {
    let Shared { proxy, door, stop, cut, is_open, doorstep } = shared;
    let Opened { link, peer, client_cert } = opened;
    let limits = entrance.limits;
    let activity = Arc::new(Activity::default());
    let connection = Arc::new(Connection::new(entrance, client_cert));
    let host = Host { proxy, metrics: door.metrics().clone(), activity: Arc::clone(&activity), stop, cut };
    // A task of their own: else every step of a request would look at the timer too.
    let mut requests = tokio::spawn(async move {
        // Held until the last answer was written, so that a drain waits for it.
        let _is_open = is_open;
        speak(link, peer, connection, host, doorstep).await;
    });
    let overdue = tokio::select! {
        biased;
        ended = &mut requests => {
            if ended.is_err_and(|error| error.is_panic()) {
                door.metrics().panicked();
                tracing::error!("a mistake in the gateway ended a connection; the others go on");
            }
            return;
        }
        overdue = activity.overdue(&limits) => overdue,
    };
    door.metrics().overdue(overdue.name());
    let is_told = match overdue {
        Overdue::Head | Overdue::Body => activity.give_up(),
        Overdue::Idle | Overdue::Answer => false,
    };
    if !is_told || tokio::time::timeout(LAST_WORDS, &mut requests).await.is_err() {
        requests.abort();
    }
}

/// Speaks with a client what it speaks.
async fn speak(
    mut link: Link,
    peer: SocketAddr,
    connection: Arc<Connection>,
    mut host: Host<HttpProxy<Edge>>,
    doorstep: Doorstep,
) {
    let Some(protocol) = protocol_of(&mut link, &connection, &mut host.cut).await else { return };
    match protocol {
        Protocol::Http1 => {
            let gate =
                Gate::new(connection.entrance.limits, Arc::clone(&host.activity), host.metrics.clone());
            let wire = Wire::new(link, Guard::Http1(Box::new(gate)), peer, connection);
            serve_http1(Box::new(wire), host, &doorstep).await;
        }
        Protocol::Http2 => h2::serve(link, peer, connection, host).await,
    }
}

/// Serves the requests of a connection one after the other, as Pingora's own loop does, but for those that are seen to
/// on the doorstep.
async fn serve_http1(mut wire: Box<Wire>, host: Host<HttpProxy<Edge>>, doorstep: &Doorstep) {
    let Host { proxy, stop, mut cut, metrics: _, activity: _ } = host;
    let mut settings = None;
    let mut deadline = Deadline::default();
    let mut is_cut = pin!(cut.wait_for(|cut| *cut).fuse());
    loop {
        let came = tokio::select! {
            biased;
            came = poll_fn(|cx| wire.poll_request(cx)) => came,
            // Whose request has begun is served.
            _ = &mut is_cut => match wire.give_back() {
                true => Ok(None),
                false => return,
            },
        };
        let attended = match came {
            Ok(Some(came)) => doorstep.attend(&mut wire, came, &mut deadline).await,
            Ok(None) => Attended::Left,
            Err(error) => {
                tracing::debug!(%error, "a client left");
                return;
            }
        };
        match attended {
            Attended::Answered => continue,
            Attended::Over => return,
            Attended::Left => {}
        }
        let mut session = ServerSession::new_http1(wire);
        match settings.take() {
            Some(settings) => HttpPersistentSettings::apply_to_session(settings, &mut session),
            None => session.set_keepalive(if *stop.borrow() { None } else { Some(KEPT_S) }),
        }
        let Some(reused) = proxy.process_new_http(session, &stop).await else { return };
        let (stream, kept) = reused.consume();
        settings = kept;
        wire = match stream.into_any().downcast() {
            Ok(wire) => wire,
            // Nothing else was given to it.
            Err(_) => return,
        };
    }
}

/// What the client speaks; nothing if it left, or we leave, before that is known.
async fn protocol_of(
    link: &mut Link,
    connection: &Connection,
    cut: &mut watch::Receiver<bool>,
) -> Option<Protocol> {
    if !connection.entrance.speaks_http2() {
        return Some(Protocol::Http1);
    }
    let told = tokio::select! {
        biased;
        told = link.protocol() => told,
        _ = cut.wait_for(|cut| *cut) => return None,
    };
    match told {
        Ok(protocol) => Some(protocol),
        Err(error) => {
            tracing::debug!(%error, "a client left before it asked for anything");
            None
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
