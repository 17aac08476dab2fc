//! What became of attempts, told to the shared store; what is forgotten, forgotten there.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use smallvec::SmallVec;

use super::{Group, SharedStore, ahead_us, shift};
use crate::decision::key::KeyHash;
use crate::decision::tally::{Aftermath, Charge, Held, Outcome, Settlement};
use crate::decision::time::Timestamp;
use crate::store::Forgotten;
use crate::store::remote::StoreError;
use crate::store::script::{self, After, Closed};

type Aftermaths = SmallVec<[Aftermath; 4]>;

impl SharedStore {
    /// See [`crate::store::Store::settle`].
    ///
    /// What the store cannot be told is kept in this node's table, so that it goes on from there; in the
    /// store the attempt has failed when its lease ends.
    pub(in crate::store) async fn settle_attempts(
        &self,
        settlements: &[Settlement<'_>],
        now: Timestamp,
    ) -> Aftermaths {
        let mut all: Aftermaths = settlements.iter().map(|_| Aftermath::unknown()).collect();
        let (in_store, in_node): (Vec<usize>, Vec<usize>) =
            (0..settlements.len()).partition(|&index| match settlements.get(index).map(|it| it.held) {
                Some(Held::Store(_)) => true,
                Some(Held::Node(_)) | None => false,
            });
        put(&mut all, &in_node, self.settle_here(&pick(settlements, &in_node), now));
        let theirs = pick(settlements, &in_store);
        let charges: SmallVec<[Charge<'_>; 4]> = theirs.iter().map(|settlement| settlement.charge).collect();
        let settle = async |group: Group| {
            let settled = self.settle_group(&pick(&theirs, &group.members), &group, now).await;
            (group.members, settled)
        };
        for (members, settled) in join_all(self.groups(&charges).into_iter().map(settle)).await {
            let places: SmallVec<[usize; 4]> =
                members.iter().filter_map(|&member| in_store.get(member).copied()).collect();
            put(&mut all, &places, settled);
        }
        // A wait that this node knew of may be over with a success.
        settlements
            .iter()
            .filter(|settlement| settlement.outcome == Outcome::Success)
            .for_each(|settlement| self.denied.forget(settlement.charge.key));
        all
    }

    /// See [`crate::store::Store::forget`].
    pub(in crate::store) async fn forget(&self, key: KeyHash) -> Forgotten {
        let name = self.name(key);
        let told = self.call(self.remote.lane(&name), script::forget(name)).await;
        self.local.forget(self.rekey.rekey(key));
        self.denied.forget(key);
        match told {
            Ok(_) => Forgotten::Everywhere,
            // Counted and told as any failure of the store is.
            Err(_) => Forgotten::Here,
        }
    }

    /// Settles what one call can.
    async fn settle_group(
        &self,
        settlements: &[Settlement<'_>],
        group: &Group,
        now: Timestamp,
    ) -> Aftermaths {
        match self.close(settlements, group, now).await {
            Ok(closed) => self.learn_closed(settlements, closed, now),
            Err(_) => {
                self.metrics.unsettled(settlements.len());
                self.settle_here(settlements, now)
            }
        }
    }

    /// One call, and within the deadline another one if the first is known to have done nothing: who gave the right
    /// password is not to be taken for one who guessed.
    async fn close(
        &self,
        settlements: &[Settlement<'_>],
        group: &Group,
        now: Timestamp,
    ) -> Result<Closed, StoreError> {
        let call = || script::settle(settlements, group.names.iter().cloned(), self.time_of(now));
        let was_open = self.breaker(group.lane).is_open();
        let watch = self.clock.stopwatch();
        let mut answer = self.call(group.lane, call()).await;
        if let Err(error) = &answer
            && error.nothing_ran()
            && !was_open
        {
            let left = self.timeout.saturating_sub(watch.elapsed());
            answer = self.call_within(left, group.lane, call()).await;
        }
        Closed::read(&answer?, settlements).inspect_err(|error| self.failed(group.lane, error))
    }

    /// Keeps what a call told, and brings its judgements to this node's time. See [`SharedStore::learn`].
    fn learn_closed(&self, settlements: &[Settlement<'_>], closed: Closed, now: Timestamp) -> Aftermaths {
        let asked_us = ahead_us(closed.now, now);
        self.ahead_us.store(ahead_us(closed.now, self.arrived(now)), Ordering::Release);
        let learn = |(settlement, After { aftermath, state }): (&Settlement<'_>, After)| {
            let key = settlement.charge.key;
            self.local.learn(self.rekey.rekey(key), state.counter, state.block, closed.now);
            shifted(aftermath, asked_us.saturating_neg())
        };
        settlements.iter().zip(closed.after).map(learn).collect()
    }

    /// Settles in this node's own table, which goes by the store's clock.
    fn settle_here(&self, settlements: &[Settlement<'_>], now: Timestamp) -> Aftermaths {
        let ahead_us = self.ahead_us.load(Ordering::Acquire);
        let own = settlements.iter().map(|settlement| {
            let Charge { key, limit } = settlement.charge;
            Settlement { charge: Charge { key: self.rekey.rekey(key), limit }, ..*settlement }
        });
        let own: SmallVec<[Settlement<'_>; 4]> = own.collect();
        let settled = self.local.settle(&own, shift(now, ahead_us));
        settled.into_iter().map(|aftermath| shifted(aftermath, ahead_us.saturating_neg())).collect()
    }
}

fn shifted(aftermath: Aftermath, by_us: i64) -> Aftermath {
    Aftermath { judgement: aftermath.judgement.with_times(|at| shift(at, by_us)), ..aftermath }
}

fn pick<'s>(settlements: &[Settlement<'s>], members: &[usize]) -> SmallVec<[Settlement<'s>; 4]> {
    members.iter().filter_map(|&index| settlements.get(index).copied()).collect()
}

fn put(all: &mut Aftermaths, members: &[usize], settled: Aftermaths) {
    for (&index, aftermath) in members.iter().zip(settled) {
        if let Some(place) = all.get_mut(index) {
            *place = aftermath;
        }
    }
}
