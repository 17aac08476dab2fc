//! What a gateway should say, worked out the slow way: everything that ever happened, in lists.

use std::collections::{BTreeMap, HashMap};

use super::Said;
use crate::decision::tally::Outcome;

const LEASE_MS: u64 = 120_000;

/// A limit as the model knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) route: &'static str,
    pub(super) key: Key,
    pub(super) counts: Counts,
    pub(super) block: Option<Ladder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Ip,
    /// A name in the body.
    Name,
    Pair,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Counts {
    Requests {
        max: usize,
        span_ms: u64,
    },
    Failures {
        max: usize,
        span_ms: u64,
    },
    /// Each wait twice as long as the one before.
    Backoff {
        base_ms: u64,
        max_ms: u64,
        forget_ms: u64,
    },
}

/// Each block twice as long as the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ladder {
    pub(super) first_ms: u64,
    pub(super) longest_ms: u64,
    pub(super) forget_ms: u64,
}

/// What adds up against an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    pub(super) otp: u32,
    pub(super) failure: u32,
    pub(super) limited: u32,
    pub(super) threshold: u32,
    pub(super) span_ms: u64,
    pub(super) block_ms: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) name: &'static str,
    pub(super) ip: &'static str,
}

/// What one key has done.
#[derive(Clone, Debug, Default)]
struct State {
    /// When each counted, oldest first.
    times: Vec<u64>,
    leases: Vec<u64>,
    in_a_row: u32,
    waits_until: u64,
    block: Block,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    until: u64,
    level: u32,
    forget_at: u64,
}

/// An attempt under way: what it holds of which limits.
#[derive(Clone, Debug)]
pub(super) struct Held {
    who: Who,
    leases: Vec<(usize, String, u64)>,
}

impl Held {
    /// When a failure that is told at `now` counts: at the latest when it is not waited for any longer.
    pub(super) fn counts_at(&self, now: u64) -> u64 {
        self.leases.iter().map(|(_, _, end)| *end).fold(now, u64::min)
    }
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) admitted: u64,
    pub(super) refused: u64,
    pub(super) failures: u64,
    pub(super) waits: u64,
    pub(super) blocked: u64,
    pub(super) unblocked: u64,
}

pub(super) struct Model {
    limits: Vec<Limit>,
    suspicion: Suspicion,
    states: HashMap<(usize, String), State>,
    suspected: HashMap<&'static str, Suspected>,
    /// Until when addresses are blocked on all routes.
    bans: HashMap<String, u64>,
    pub(super) happened: Happened,
}

#[derive(Default)]
struct Suspected {
    weighed: Vec<(u64, u32)>,
    /// A ban that began by adding up stands until then.
    until: u64,
}

/// What a limit says to one more request, and whether that began a block.
struct Judged {
    said: Said,
    retry_at: u64,
    began: bool,
}

impl Key {
    fn of(self, who: Who) -> String {
        match self {
            Key::Ip => who.ip.to_owned(),
            Key::Name => who.name.to_owned(),
            Key::Pair => format!("{}+{}", who.name, who.ip),
        }
    }
}

impl Model {
    pub(super) fn new(limits: &[Limit], suspicion: Suspicion) -> Model {
        Model {
            limits: limits.to_vec(),
            suspicion,
            states: HashMap::new(),
            suspected: HashMap::new(),
            bans: HashMap::new(),
            happened: Happened::default(),
        }
    }

    /// What is said to a request, and what it holds if its answer tells something.
    pub(super) fn admit(&mut self, route: &str, who: Who, now: u64) -> (Said, Option<Held>) {
        match self.judge(route, who, now) {
            Some(judged) => {
                self.happened.refused += 1;
                let is_suspect = match judged.said {
                    Said::Full(_) | Said::Waits(_) => true,
                    Said::Blocked(_) => judged.began,
                    Said::Admitted | Said::Pending(_) | Said::Banned(_) | Said::Denied => false,
                };
                let banned = is_suspect.then(|| self.weigh(who, self.suspicion.limited, now)).flatten();
                (judged.said.not_before(banned.unwrap_or_default()), None)
            }
            None => {
                self.happened.admitted += 1;
                let held = self.charge(route, who, now);
                if route == "otp" {
                    self.weigh(who, self.suspicion.otp, now);
                    return (Said::Admitted, None);
                }
                (Said::Admitted, Some(held))
            }
        }
    }

    /// The answer to an attempt.
    pub(super) fn settle(&mut self, held: Held, outcome: Outcome, now: u64) {
        let mut waits = 0;
        for (index, key, lease_end) in held.leases {
            let limit = self.limits[index];
            let state = self.states.entry((index, key)).or_default();
            state.lapse(limit, now);
            let place = state.leases.iter().position(|&end| end == lease_end);
            place.map(|place| state.leases.remove(place));
            match outcome {
                Outcome::Failure if place.is_some() || now < lease_end => state.fail(limit, now),
                Outcome::Success if limit.key != Key::Ip => (state.in_a_row, state.waits_until) = (0, 0),
                Outcome::Failure | Outcome::Success | Outcome::Neither => {}
            }
            if outcome != Outcome::Failure {
                continue;
            }
            waits += u64::from(now < state.waits_until);
            let opens = state.opens_at(limit, now);
            if let (Some(ladder), Some(opens)) = (limit.block, opens)
                && state.block.until <= now
            {
                state.begin(ladder, opens, now);
                self.happened.blocked += 1;
            }
        }
        self.happened.waits += waits;
        if outcome == Outcome::Failure {
            self.happened.failures += 1;
            self.weigh(held.who, self.suspicion.failure, now);
        }
    }

    /// An operator blocks an address on all routes; what added up against it is replaced by that.
    pub(super) fn block(&mut self, ip: &'static str, until: u64) {
        self.bans.insert(ip.to_owned(), until);
        self.suspected.remove(ip);
        self.happened.blocked += 1;
    }

    /// An operator lifts what [`Model::blocked`] tells.
    pub(super) fn unblock(&mut self, route: &str, whom: &str) {
        self.happened.unblocked += 1;
        if route == "everywhere" {
            self.bans.remove(whom);
            self.suspected.retain(|ip, _| *ip != whom);
            return;
        }
        let limits = &self.limits;
        self.states.retain(|(index, key), _| {
            let limit = limits[*index];
            limit.route != route || limit.block.is_none() || key != whom
        });
    }

    /// Until when who is blocked: on a route or everywhere, and whom.
    pub(super) fn blocked(&self, now: u64) -> BTreeMap<(String, String), u64> {
        let bans = self.bans.iter().map(|(ip, &until)| (("everywhere".to_owned(), ip.clone()), until));
        let limited = self.states.iter().map(|((index, key), state)| {
            ((self.limits[*index].route.to_owned(), key.clone()), state.block.until)
        });
        bans.chain(limited).filter(|&(_, until)| now < until).collect()
    }

    /// How many blocks the store knows of: of limits, and of what added up.
    pub(super) fn in_store(&self, now: u64) -> usize {
        let limits = self.states.values().filter(|state| now < state.block.until).count();
        limits + self.suspected.values().filter(|suspected| now < suspected.until).count()
    }

    /// Why a request is refused, if it is. First who is blocked, then what the head tells, then the same with what
    /// the body tells.
    fn judge(&mut self, route: &str, who: Who, now: u64) -> Option<Judged> {
        let of_route: Vec<usize> =
            (0..self.limits.len()).filter(|&i| self.limits[i].route == route).collect();
        let (head, body): (Vec<usize>, Vec<usize>) =
            of_route.into_iter().partition(|&i| self.limits[i].key == Key::Ip);
        let ban = self.bans.get(who.ip).copied().filter(|&until| now < until);
        let ban = ban.map(|until| Judged { said: Said::Banned(until), retry_at: until, began: false });
        latest(ban.into_iter().chain(self.standing(&head, who, now)))
            .or_else(|| self.all(&head, who, now))
            .or_else(|| latest(self.standing(&body, who, now)))
            .or_else(|| self.all(&[head, body].concat(), who, now))
    }

    fn standing(&self, limits: &[usize], who: Who, now: u64) -> Vec<Judged> {
        let standing = limits.iter().filter_map(|&index| {
            let until = self.states.get(&(index, self.limits[index].key.of(who)))?.block.until;
            (now < until).then_some(Judged { said: Said::Blocked(until), retry_at: until, began: false })
        });
        standing.collect()
    }

    fn all(&mut self, limits: &[usize], who: Who, now: u64) -> Option<Judged> {
        let mut refusals = Vec::new();
        for &index in limits {
            let limit = self.limits[index];
            let state = self.states.entry((index, limit.key.of(who))).or_default();
            let judged = state.judge(limit, now);
            self.happened.blocked += u64::from(judged.as_ref().is_some_and(|judged| judged.began));
            refusals.extend(judged);
        }
        latest(refusals)
    }

    fn charge(&mut self, route: &str, who: Who, now: u64) -> Held {
        let mut leases = Vec::new();
        for (index, limit) in self.limits.iter().enumerate().filter(|(_, limit)| limit.route == route) {
            let key = limit.key.of(who);
            let state = self.states.entry((index, key.clone())).or_default();
            match limit.counts {
                Counts::Requests { .. } => state.times.push(now),
                Counts::Failures { .. } | Counts::Backoff { .. } => {
                    state.leases.push(now + LEASE_MS);
                    leases.push((index, key, now + LEASE_MS));
                }
            }
        }
        Held { who, leases }
    }

    /// Until when the address is banned, if this is what was too much.
    fn weigh(&mut self, who: Who, weight: u32, now: u64) -> Option<u64> {
        let rule = self.suspicion;
        let suspected = self.suspected.entry(who.ip).or_default();
        if weight == 0 || now < suspected.until {
            return None;
        }
        let sum = |at: u64| -> u32 {
            suspected
                .weighed
                .iter()
                .filter(|(then, _)| at < then + rule.span_ms)
                .map(|(_, weight)| weight)
                .sum()
        };
        if sum(now) + weight <= rule.threshold {
            suspected.weighed.push((now, weight));
            return None;
        }
        let leaves = suspected.weighed.iter().map(|(then, _)| then + rule.span_ms);
        let room = leaves.filter(|&at| sum(at) + weight <= rule.threshold).min().unwrap();
        let until = room.max(now + rule.block_ms);
        suspected.until = until;
        // One that is blocked for longer already stays so.
        let ban = self.bans.entry(who.ip.to_owned()).or_default();
        *ban = until.max(*ban);
        self.happened.blocked += 1;
        Some(until)
    }
}

/// The refusal that lasts longest; of several alike the first.
fn latest(refusals: impl IntoIterator<Item = Judged>) -> Option<Judged> {
    refusals.into_iter().reduce(|first, other| if other.retry_at > first.retry_at { other } else { first })
}

impl State {
    /// Counts those as failed that nobody settled in time.
    fn lapse(&mut self, limit: Limit, now: u64) {
        let ended: Vec<u64> = self.leases.extract_if(.., |end| *end <= now).collect();
        ended.into_iter().for_each(|end| self.fail(limit, end));
    }

    fn fail(&mut self, limit: Limit, at: u64) {
        let Counts::Backoff { base_ms, max_ms, forget_ms } = limit.counts else {
            self.times.push(at);
            return;
        };
        if at >= self.waits_until + forget_ms {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        self.waits_until = at + max_ms.min(base_ms << (self.in_a_row - 1).min(20));
    }

    /// When there is room again, if there is none.
    fn opens_at(&self, limit: Limit, now: u64) -> Option<u64> {
        let (Counts::Requests { max, span_ms } | Counts::Failures { max, span_ms }) = limit.counts else {
            return None;
        };
        let nth_newest = self.times.len().checked_sub(max).map(|place| self.times[place] + span_ms);
        nth_newest.filter(|&opens| now < opens)
    }

    fn begin(&mut self, ladder: Ladder, opens: u64, now: u64) {
        let level = if now < self.block.forget_at { self.block.level + 1 } else { 0 };
        let lasts_ms = ladder.longest_ms.min(ladder.first_ms << level.min(20));
        let until = opens.max(now + lasts_ms);
        self.block = Block { until, level, forget_at: until + ladder.forget_ms };
    }

    fn judge(&mut self, limit: Limit, now: u64) -> Option<Judged> {
        let refusal = |said, retry_at| Some(Judged { said, retry_at, began: false });
        if now < self.block.until {
            return refusal(Said::Blocked(self.block.until), self.block.until);
        }
        self.lapse(limit, now);
        if let Some(opens) = self.opens_at(limit, now) {
            let Some(ladder) = limit.block else { return refusal(Said::Full(opens), opens) };
            self.begin(ladder, opens, now);
            let until = self.block.until;
            return Some(Judged { said: Said::Blocked(until), retry_at: until, began: true });
        }
        if now < self.waits_until {
            return refusal(Said::Waits(self.waits_until), self.waits_until);
        }
        let could_fill = match limit.counts {
            Counts::Requests { .. } => false,
            Counts::Failures { max, span_ms } => {
                let failed = self.times.iter().filter(|&at| now < at + span_ms).count();
                failed + self.leases.len() >= max
            }
            Counts::Backoff { .. } => !self.leases.is_empty(),
        };
        if could_fill { refusal(Said::Pending(now + 1000), now + 1000) } else { None }
    }
}

impl Said {
    /// The same refusal, with no earlier time to come again.
    fn not_before(self, at: u64) -> Said {
        match self {
            Said::Full(retry_at) => Said::Full(retry_at.max(at)),
            Said::Blocked(until) => Said::Blocked(until.max(at)),
            Said::Waits(retry_at) => Said::Waits(retry_at.max(at)),
            Said::Pending(retry_at) => Said::Pending(retry_at.max(at)),
            Said::Banned(until) => Said::Banned(until.max(at)),
            Said::Admitted | Said::Denied => self,
        }
    }
}
