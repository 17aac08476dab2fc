//! The addresses of an upstream, and the order in which they are asked.

use std::sync::Arc;

use super::server::Server;
use crate::decision::time::Timestamp;
use crate::decision::upstream::Balance;
use crate::decision::upstream::balance::{Candidate, Turns, rendezvous};
use crate::decision::upstream::health::Standing;

/// All addresses, and who of them is asked now. It is never changed, but another one put in its place.
pub(super) struct Fleet {
    pub(super) servers: Box<[Arc<Server>]>,
    /// How they stood when this was made.
    standings: Box<[Standing]>,
    order: Order,
    /// When an ejection ends: from then on another fleet has to stand here.
    pub(super) until: Option<Timestamp>,
    /// Nobody is well, and all are asked nevertheless.
    pub(super) fails_open: bool,
}

enum Order {
    Turns(Turns),
    ByClient(Box<[Candidate]>),
}

impl Fleet {
    /// As the servers stand now.
    pub(super) fn arranged(servers: Box<[Arc<Server>]>, balance: Balance, now: Timestamp) -> Fleet {
        let standings: Box<[Standing]> = servers.iter().map(|server| server.standing(now)).collect();
        let nobody_is_well = !standings.contains(&Standing::Up);
        let is_asked = |index: usize| nobody_is_well || standings.get(index) == Some(&Standing::Up);
        let until = standings.iter().filter_map(|standing| match standing {
            Standing::Ejected { until } => Some(*until),
            Standing::Up | Standing::Down => None,
        });
        let order = match balance {
            Balance::RoundRobin => {
                let weights = servers.iter().enumerate().map(|(index, server)| match is_asked(index) {
                    true => server.weight(),
                    false => 0,
                });
                Order::Turns(Turns::smooth(&weights.collect::<Vec<u32>>()))
            }
            Balance::Consistent => {
                let asked = servers.iter().enumerate().filter(|(index, _)| is_asked(*index));
                Order::ByClient(asked.map(|(index, server)| server.candidate(index)).collect())
            }
        };
        let (until, fails_open) = (until.min(), nobody_is_well && !servers.is_empty());
        Fleet { servers, standings, order, until, fails_open }
    }

    /// Whether a server stands otherwise than when this was made.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        self.servers.iter().zip(&self.standings).any(|(server, standing)| server.standing(now) != *standing)
    }

    /// The server of this turn or client; one that was tried already only if all were.
    pub(super) fn pick(
        &self,
        turn: impl FnOnce() -> usize,
        client: impl FnOnce() -> u64,
        tried: &[Arc<Server>],
    ) -> Option<Arc<Server>> {
        let was_tried = |index: usize| {
            let server = self.servers.get(index);
            server.is_some_and(|server| tried.iter().any(|tried| tried.address == server.address))
        };
        let index = match &self.order {
            Order::Turns(turns) => {
                let turn = turn();
                turns.at(turn, was_tried).or_else(|| turns.at(turn, |_| false))
            }
            Order::ByClient(candidates) => {
                let client = client();
                let untried = candidates.iter().copied().filter(|candidate| !was_tried(candidate.index));
                rendezvous(client, untried).or_else(|| rendezvous(client, candidates.iter().copied()))
            }
        };
        self.servers.get(index?).cloned()
    }
}
