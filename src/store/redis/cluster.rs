//! A cluster: which server a call goes to, and how the answer to that is kept.
//!
//! The library has a cluster connection of its own. We do without it, for it sends a command
//! again that was written when the connection broke (`RetryMethod::Reconnect`), and it asks for
//! the slots under a lock that all calls need, so that one server that hangs holds up the calls
//! to all others. Ours sends a call again only where the answer says that nothing ran: `MOVED`,
//! `ASK` and `NOSCRIPT`.

mod map;
mod redirect;
mod topology;

use std::collections::{HashMap, HashSet};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::remote::call::{Answer, Bundle, Call, Piece};
use super::super::remote::{Lane, StoreError};
use super::advice::{self, Role};
use super::link::Finder;
use super::script::Standing;
use super::server::Server;
use super::slot::{SLOTS, slot_of};
use super::url::RedisUrl;
use super::wire::{Patience, Trouble};

use self::map::Map;
use self::redirect::Redirect;
use self::topology::{Address, Topology};

/// Parts of the key space that fail by themselves: with fewer, a server that is away takes down
/// more than it serves; with more, each sees too few calls to judge by.
const LANES: u8 = 16;

/// How often one call follows a redirection.
const REDIRECTS_MAX: usize = 5;

/// How many nodes are asked for the slots at once.
const ASKED_MAX: usize = 5;

/// How long the first answer waits for another that may be newer.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(100);

/// The slots are asked for no more often than this, whatever goes wrong.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Nodes whose connections are kept; more than a cluster has.
const NODES_MAX: usize = 2048;

/// A cluster, known by some of its nodes.
#[derive(Debug)]
pub(in crate::store) struct RedisCluster {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    seeds: Vec<RedisUrl>,
    prefix: Box<str>,
    patience: Patience,
    map: ArcSwapOption<Map>,
    /// Every node that we have or had to do with since the map was last made.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    refresh: Mutex<Option<Refresh>>,
    /// Whom to ask first for the slots: somebody else each time.
    turn: AtomicUsize,
}

/// One server of a cluster.
#[derive(Debug)]
struct Node {
    address: Address,
    server: Server,
}

/// The asking for the slots that is under way, or was just done.
type Refresh = watch::Receiver<Option<Result<(), StoreError>>>;

impl RedisCluster {
    /// Connects when it is first used. `prefix` begins the names of the keys that probes write;
    /// `timeout` is how long callers wait for an answer. The first URL tells how to log in to
    /// nodes that the cluster names.
    pub(in crate::store) fn new(seeds: Vec<RedisUrl>, prefix: &str, timeout: Duration) -> RedisCluster {
        let core = Core {
            seeds,
            prefix: prefix.into(),
            patience: Patience::beyond(timeout),
            map: ArcSwapOption::empty(),
            nodes: Mutex::default(),
            refresh: Mutex::new(None),
            turn: AtomicUsize::new(0),
        };
        RedisCluster { core: Arc::new(core) }
    }

    pub(in crate::store) fn lanes(&self) -> u8 {
        LANES
    }

    pub(in crate::store) fn lane(&self, key: &str) -> Lane {
        Lane(lane_of(slot_of(key)))
    }

    pub(in crate::store) fn share_a_slot(&self, one: &str, other: &str) -> bool {
        slot_of(one) == slot_of(other)
    }

    /// Calls go each by itself: it is rare that two of them have keys of one slot.
    pub(in crate::store) async fn run(&self, call: &Call) -> Result<Answer, StoreError> {
        let mut way = self.way_to(call.first_key()).await?;
        loop {
            match way.node.server.run(slice::from_ref(call), way.standing).await {
                Ok(answers) => return answers.into_iter().next().unwrap_or_else(unanswered),
                Err(trouble) => way.go_on(trouble)?,
            }
        }
    }

    pub(in crate::store) async fn run_bundle(&self, bundle: &Bundle<'_>) -> Result<Vec<Piece>, StoreError> {
        let mut way = self.way_to(bundle.keys.first().copied().unwrap_or_default()).await?;
        loop {
            match way.node.server.run_bundle(bundle, way.standing).await {
                Ok(pieces) => return Ok(pieces),
                Err(trouble) => way.go_on(trouble)?,
            }
        }
    }

    async fn way_to(&self, key: &str) -> Result<Way<'_>, StoreError> {
        let node = self.core.owner(slot_of(key)).await?;
        Ok(Way { core: &self.core, node, standing: Standing::Owner, redirects: 0 })
    }

    /// Whether all masters that serve a part of the lane can be written to. A failure has the
    /// slots asked for again, so that a replica is found soon after it was promoted.
    pub(in crate::store) async fn probe(&self, lane: Lane) -> Result<(), StoreError> {
        timeout(PROBE_TIMEOUT, self.core.probe(lane.0)).await.unwrap_or(Err(StoreError::Timeout))
    }

    pub(in crate::store) async fn advice(&self) -> Option<String> {
        let map = self.core.map().await.ok()?;
        for node in map.masters() {
            if let Some(advice) = advice::of(&node.server, Role::OfCluster).await {
                return Some(format!("{}: {advice}", node.address.shown()));
            }
        }
        None
    }
}

fn unanswered() -> Result<Answer, StoreError> {
    Err(StoreError::Garbage("an answer is missing".into()))
}

fn lane_of(slot: u16) -> u8 {
    // Below LANES, for slots are below SLOTS.
    u8::try_from(slot / (SLOTS / u16::from(LANES))).unwrap_or_default()
}

/// Where a call goes: to whoever has its key, and to those who are named instead.
struct Way<'c> {
    core: &'c Arc<Core>,
    node: Arc<Node>,
    standing: Standing,
    redirects: usize,
}

impl Way<'_> {
    /// Follows a redirection; anything else is an error.
    fn go_on(&mut self, trouble: Trouble) -> Result<(), StoreError> {
        (self.node, self.standing) = match Redirect::in_answer(&trouble, &self.node.address) {
            Some(Redirect::Moved(address)) => {
                self.core.refresh();
                (self.core.node(&address), Standing::Owner)
            }
            Some(Redirect::Ask(address)) => (self.core.node(&address), Standing::Importing),
            None => return Err(self.core.suspect(trouble)),
        };
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return Err(StoreError::Cluster("its servers send a call from one to the other".into()));
        }
        Ok(())
    }
}

impl Core {
    async fn owner(self: &Arc<Self>, slot: u16) -> Result<Arc<Node>, StoreError> {
        let map = self.map().await?;
        map.owner(slot).cloned().ok_or_else(|| {
            self.refresh();
            StoreError::Cluster("nobody serves the slot".into())
        })
    }

    /// The map, made first if there is none.
    async fn map(self: &Arc<Self>) -> Result<Arc<Map>, StoreError> {
        if let Some(map) = self.map.load_full() {
            return Ok(map);
        }
        let given_up = || StoreError::Disconnected("the asking for the cluster's slots was given up".into());
        let mut refresh = self.refresh();
        let done = refresh.wait_for(Option::is_some).await.map_err(|_| given_up())?;
        done.clone().unwrap_or_else(|| Err(given_up()))?;
        self.map.load_full().ok_or_else(given_up)
    }

    async fn probe(self: &Arc<Self>, lane: u8) -> Result<(), StoreError> {
        let map = self.map().await?;
        let mut probes = JoinSet::new();
        for (node, key) in map.probes(lane) {
            let (core, node, key) = (Arc::clone(self), Arc::clone(node), key.to_owned());
            probes.spawn(async move { core.probe_node(&node, &key).await });
        }
        let mut outcome = Ok(());
        while let Some(probed) = probes.join_next().await {
            outcome = outcome.and(probed.unwrap_or(Err(StoreError::Timeout)));
        }
        outcome
    }

    async fn probe_node(self: &Arc<Self>, node: &Arc<Node>, key: &str) -> Result<(), StoreError> {
        let mut node = Arc::clone(node);
        for _ in 0..=REDIRECTS_MAX {
            let Err(trouble) = node.server.probe(key).await else { return Ok(()) };
            match Redirect::in_answer(&trouble, &node.address) {
                Some(Redirect::Moved(address)) => {
                    self.refresh();
                    node = self.node(&address);
                }
                // The slot is on its way; calls go where it is.
                Some(Redirect::Ask(_)) => return Ok(()),
                None => return Err(self.suspect(trouble)),
            }
        }
        Err(StoreError::Cluster("its servers send a probe from one to the other".into()))
    }

    /// What an error means; if it may be that the map is old, a newer one is asked for.
    fn suspect(self: &Arc<Self>, trouble: Trouble) -> StoreError {
        let error = StoreError::from(trouble);
        let may_be_old = match &error {
            StoreError::Timeout
            | StoreError::Disconnected(_)
            | StoreError::ReadOnly
            | StoreError::Loading
            | StoreError::Cluster(_) => true,
            StoreError::Auth(_)
            | StoreError::OutOfMemory
            | StoreError::WrongType
            | StoreError::Garbage(_)
            | StoreError::Refused(_) => false,
        };
        if may_be_old {
            self.refresh();
        }
        error
    }

    /// The node at an address, which need not be of the map.
    fn node(&self, address: &Address) -> Arc<Node> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Arc::clone(node);
        }
        let seed =
            self.seeds.iter().find(|seed| seed.host() == &*address.host && seed.port() == address.port);
        let url = match (seed, self.seeds.first()) {
            (Some(seed), _) => seed.clone(),
            (None, Some(first)) => first.at(&address.host, address.port),
            (None, None) => RedisUrl::plain(&address.host, address.port),
        };
        let server = Server::new(Finder::Known(url, self.patience));
        let node = Arc::new(Node { address: address.clone(), server });
        if nodes.len() < NODES_MAX {
            nodes.insert(address.clone(), Arc::clone(&node));
        }
        node
    }

    /// Has the slots asked for, by a task of its own: no call waits for it that has a map, and
    /// it goes on when those who wait have left. One at a time.
    fn refresh(self: &Arc<Self>) -> Refresh {
        let mut refresh = self.refresh.lock();
        // Closed if it is over, pause included.
        if let Some(under_way) = refresh.as_ref().filter(|under_way| under_way.has_changed().is_ok()) {
            return under_way.clone();
        }
        let (outcome, under_way) = watch::channel(None);
        let core = Arc::clone(self);
        tokio::spawn(async move {
            let asked = core.ask_for_slots().await;
            outcome.send_replace(Some(asked.map(|topology| core.adopt(topology))));
            sleep(REFRESH_PAUSE).await;
        });
        *refresh = Some(under_way.clone());
        under_way
    }

    /// The newest view among those that some nodes have. A node that was cut off has an old one.
    async fn ask_for_slots(self: &Arc<Self>) -> Result<Topology, StoreError> {
        let mut asked = JoinSet::new();
        for address in self.whom_to_ask() {
            let node = self.node(&address);
            asked.spawn(async move {
                let answers = node.server.ask_all(&topology::questions()).await?;
                Topology::read(&answers, &node.address).map_err(StoreError::from)
            });
        }
        let mut outcome = Err(StoreError::Disconnected("no node of the cluster is known".into()));
        loop {
            let answered = match &outcome {
                Ok(_) => timeout(OTHERS_TIMEOUT, asked.join_next()).await.unwrap_or(None),
                Err(_) => asked.join_next().await,
            };
            let Some(answered) = answered else { return outcome };
            outcome = match (outcome, answered.unwrap_or(Err(StoreError::Timeout))) {
                (Ok(one), Ok(other)) => Ok(if other.epoch > one.epoch { other } else { one }),
                (Ok(one), Err(_)) => Ok(one),
                (Err(_), Ok(other)) if other.is_empty() => {
                    Err(StoreError::Cluster("no slot has been given to a server".into()))
                }
                (Err(_), answered) => answered,
            };
        }
    }

    fn whom_to_ask(&self) -> Vec<Address> {
        let map = self.map.load();
        let known = map.iter().flat_map(|map| map.topology.masters.iter().chain(&map.topology.replicas));
        let seeds = self.seeds.iter().map(|seed| Address { host: seed.host().into(), port: seed.port() });
        let mut seen = HashSet::new();
        let all: Vec<Address> =
            known.cloned().chain(seeds).filter(|node| seen.insert(node.clone())).collect();
        let first = self.turn.fetch_add(ASKED_MAX, Ordering::Relaxed) % all.len().max(1);
        all.iter().cycle().skip(first).take(all.len().min(ASKED_MAX)).cloned().collect()
    }

    /// Puts a view in force. Of nodes that are not in it the connections end.
    fn adopt(&self, topology: Topology) {
        let is_same = |map: &Arc<Map>| map.topology == topology;
        if self.map.load().as_ref().is_some_and(is_same) {
            return;
        }
        let listed = |address: &Address| {
            topology.masters.contains(address)
                || topology.replicas.contains(address)
                || self.seeds.iter().any(|seed| seed.host() == &*address.host && seed.port() == address.port)
        };
        self.nodes.lock().retain(|address, _| listed(address));
        let map = Map::new(topology, &self.prefix, |address| self.node(address));
        self.map.store(Some(Arc::new(map)));
    }
}
