//! Tells the gateways that share the store of blocks and events, and learns of theirs.
//!
//! ```text
//! Journal::block ─► outbox ─► tell ─► the store: blocks in force, and what was told of late
//!                                       │ hear, 20 times a second; all that is in force at the start, and
//!                                       ▼ whenever it may have been missed
//!                    book, journal.db ◄─ apply
//! ```
//!
//! **The book is the truth**, the store a place to meet. When the store comes back empty, every gateway tells again
//! what its book holds, and the store keeps what stands: see `store/script/tell.lua`. Blocks, lifts and events are
//! sealed for it, and told in its time: the clocks of gateways may differ.

mod parcel;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SecureRandom as _;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::parcel::{Post, Received, moved};
use super::Gateway;
use super::events::Flush;
use super::memo::counter_of;
use crate::clock::Stopwatch;
use crate::decision::key::KeyHash;
use crate::decision::time::Timestamp;
use crate::journal::{Adoption, Lift, Outbox, Parcels, Telling};
use crate::store::exchange::{
    Cursor, Epoch, Exchange, ExchangeFault, Heard, Mark, Notice, Reading, Scan, Subject, TOLD_MAX, Told,
};
use crate::telemetry::{MirrorDropped, MirrorMetrics, Mirrored};

/// What gateways that share a store must have in common, and what tells them apart.
pub struct MirrorSpec {
    /// What they tell each other is sealed under a key from this.
    pub secret: [u8; 32],
    /// What the others call this gateway.
    pub name: Box<str>,
}

/// How often events are told.
const EVENTS_EVERY: Duration = Duration::from_millis(250);
/// How often all is compared at most, after something may have been missed, and after the store lost it.
const AGREE_EVERY: Duration = Duration::from_secs(3);
const AGREE_SOON: Duration = Duration::from_millis(500);
/// How often the store is rid of blocks that are over.
const CLEAN_EVERY: Duration = Duration::from_secs(60);
/// Calls of one kind in one round: what is left waits for the next.
const CALLS_MAX: usize = 64;
/// How long it takes until the log is told that nothing is exchanged.
const TROUBLE_TOLD_AFTER: Duration = Duration::from_secs(3);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

struct Mirror<'g> {
    gateway: &'g Gateway,
    exchange: Exchange<'g>,
    metrics: MirrorMetrics,
    post: Post,
    /// By which the store leaves out what this gateway told itself.
    own: String,
    /// Up to where the others were heard, by the process before this one as well.
    cursor: Option<Cursor>,
    /// Whether the store was heard, and its time is known.
    is_acquainted: bool,
    /// Of the store with which this gateway agrees.
    epoch: Option<Epoch>,
    doubt: Doubt,
    /// When all was last compared, or that was tried.
    compared: Option<Stopwatch>,
    events_told: Stopwatch,
    cleaning: Cleaning,
    trouble: Trouble,
}

/// Whether book and store may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    None,
    /// Something may have been missed.
    Some,
    /// The store lost what it held, or was never looked at.
    Sure,
}

enum Cleaning {
    Since(Stopwatch),
    At(Option<Scan>),
}

/// What the log is told, once.
#[derive(Default)]
struct Trouble {
    since: Option<Stopwatch>,
    is_told: bool,
    unreadable_is_told: bool,
}

/// What the store was seen to hold: the id of each key's mark, and its end by our clock.
type Seen = HashMap<KeyHash, ([u8; 16], Timestamp)>;

impl Gateway {
    /// Exchanges blocks and events with the gateways that share the store, until `stopped`. Ends at once where the
    /// store is this gateway's alone.
    pub async fn mirror(&self, spec: MirrorSpec, stopped: impl Future<Output = ()>) {
        let Some(exchange) = self.store.exchange() else { return };
        let Some(parcels) = Parcels::new(&spec.secret) else {
            tracing::error!("the system gives no random numbers: blocks are not told to other gateways");
            return;
        };
        self.journal.outbox().listen();
        let now = self.clock.stopwatch();
        let mirror = Mirror {
            gateway: self,
            exchange,
            metrics: self.metrics.mirror(),
            post: Post { parcels, name: spec.name, ahead_us: 0 },
            own: self.random_name(),
            cursor: self.journal.take_place().and_then(|place| Cursor::parse(&place)),
            is_acquainted: false,
            epoch: None,
            doubt: Doubt::Sure,
            compared: None,
            events_told: now,
            cleaning: Cleaning::Since(now),
            trouble: Trouble::default(),
        };
        mirror.run(stopped).await;
    }

    /// 16 letters that no other gateway has, if the machine gives any randomness.
    fn random_name(&self) -> String {
        let mut random = [0; 8];
        if self.random.fill(&mut random).is_err() {
            random = self.clock.now().as_micros().to_be_bytes();
        }
        format!("{:016x}", u64::from_be_bytes(random))
    }
}

impl Mirror<'_> {
    async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut rounds = interval(self.exchange.pace());
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = pin!(stopped);
        loop {
            let done = tokio::select! {
                () = &mut stopped => break,
                () = self.outbox().changed() => self.tell_news().await,
                _ = rounds.tick() => self.round().await,
            };
            self.conclude(done);
        }
        self.gateway.repeats.flush(&self.gateway.journal, Flush::All, self.gateway.clock.now());
        let last_words = async {
            self.tell_news().await?;
            self.tell_events().await
        };
        // Who goes need not be heard: blocks are told again when it comes back.
        let _ = timeout(LAST_WORDS, last_words).await;
        if let Some(cursor) = self.cursor {
            self.gateway.journal.leave_place(&cursor.to_string());
        }
    }

    async fn round(&mut self) -> Result<(), ExchangeFault> {
        let (_, lost) = self.outbox().take_events(0);
        self.metrics.dropped(MirrorDropped::Events, lost);
        self.hear().await?;
        if self.is_due_to_compare() {
            self.compare().await?;
        }
        self.tell_news().await?;
        if self.events_told.elapsed() >= EVENTS_EVERY {
            self.tell_events().await?;
            self.events_told = self.gateway.clock.stopwatch();
        }
        self.clean().await
    }

    /// Takes over what others told since the last time.
    async fn hear(&mut self) -> Result<(), ExchangeFault> {
        for _ in 0..CALLS_MAX {
            let news = self.exchange.hear(self.cursor, &self.own).await?;
            self.post.ahead_us = ahead_us(news.now, self.gateway.clock.now());
            self.is_acquainted = true;
            if news.epoch.is_none() || news.epoch != self.epoch {
                self.doubt(Doubt::Sure);
            }
            let Some(cursor) = self.cursor else {
                self.cursor = Some(news.newest);
                return Ok(());
            };
            if news.newest < cursor {
                // Another stream has begun.
                self.cursor = Some(Cursor::START);
                self.doubt(Doubt::Some);
                continue;
            }
            if news.has_gap {
                self.metrics.dropped(MirrorDropped::Gaps, 1);
                self.doubt(Doubt::Some);
            }
            self.unreadable(news.strange);
            for heard in &news.heard {
                self.apply(heard);
            }
            if let Some(newest) = news.heard.last() {
                let now = moved(self.gateway.clock.now(), self.post.ahead_us);
                self.metrics.set_lag(newest.told_at.until(now));
            }
            self.cursor = Some(news.upto);
            if news.upto == news.newest {
                return Ok(());
            }
        }
        Ok(())
    }

    fn apply(&mut self, heard: &Heard) {
        let gateway = self.gateway;
        let now = gateway.clock.now();
        match self.post.open(heard) {
            Some(Received::Block(record)) => match gateway.journal.adopt(record, now) {
                Adoption::Taken => self.metrics.applied(Mirrored::Blocks),
                Adoption::Known => {}
                Adoption::Lifted(lift) => self.outbox().tell(Telling::Lift(lift)),
            },
            Some(Received::Lift(lift)) => {
                self.let_go(&lift, now);
                self.metrics.applied(Mirrored::Unblocks);
            }
            Some(Received::Event(event)) => {
                gateway.journal.note(*event);
                self.metrics.applied(Mirrored::Events);
            }
            None => self.unreadable(1),
        }
    }

    /// What this node knows of the key goes first: a request in between must not begin the same block again.
    fn let_go(&self, lift: &Arc<Lift>, now: Timestamp) {
        let Gateway { store, journal, .. } = self.gateway;
        store.forget_in_node(lift.key);
        let record = journal.book().get(lift.key, now);
        if let Some(counted) = record.as_deref().and_then(counter_of) {
            store.forget_in_node(counted);
        }
        journal.let_go(lift, now);
    }

    /// Tells what began, changed or was lifted here. What cannot be told waits.
    async fn tell_news(&mut self) -> Result<(), ExchangeFault> {
        if !self.is_acquainted {
            return Ok(());
        }
        if self.outbox().was_behind() {
            self.doubt(Doubt::Some);
        }
        loop {
            let news = self.outbox().take_news(TOLD_MAX);
            if news.is_empty() {
                return Ok(());
            }
            let notices: Vec<Notice> = news.iter().filter_map(|one| self.post.notice(one)).collect();
            if let Err(fault) = self.tell(&notices).await {
                self.outbox().put_back(news);
                return Err(fault);
            }
        }
    }

    async fn tell_events(&mut self) -> Result<(), ExchangeFault> {
        for _ in 0..CALLS_MAX {
            if !self.is_acquainted {
                break;
            }
            let (events, lost) = self.outbox().take_events(TOLD_MAX);
            self.metrics.dropped(MirrorDropped::Events, lost);
            if events.is_empty() {
                break;
            }
            let notices: Vec<Notice> = events.iter().filter_map(|event| self.post.event(event)).collect();
            self.metrics.dropped(MirrorDropped::Events, (events.len() - notices.len()) as u64);
            if let Err(fault) = self.tell(&notices).await {
                // They may have arrived: told again, they would count twice.
                self.metrics.dropped(MirrorDropped::Events, notices.len() as u64);
                return Err(fault);
            }
        }
        Ok(())
    }

    async fn tell(&mut self, notices: &[Notice]) -> Result<Told, ExchangeFault> {
        let told = self.exchange.tell(&self.gateway.random_name(), &self.own, notices).await?;
        if self.epoch.as_ref() != Some(&told.epoch) {
            self.doubt(Doubt::Sure);
        }
        self.metrics.dropped(MirrorDropped::Blocks, told.crowded);
        for notice in notices {
            let what = match notice.subject {
                Subject::Block { .. } => Mirrored::Blocks,
                Subject::Lift(_) => Mirrored::Unblocks,
                Subject::Event => Mirrored::Events,
            };
            self.metrics.published(what, 1);
        }
        Ok(told)
    }

    fn is_due_to_compare(&self) -> bool {
        let pause = match self.doubt {
            Doubt::None => return false,
            Doubt::Some => AGREE_EVERY,
            Doubt::Sure => AGREE_SOON,
        };
        self.compared.is_none_or(|compared| compared.elapsed() >= pause)
    }

    /// Takes over all that is in force in the store, and tells it what it does not hold.
    async fn compare(&mut self) -> Result<(), ExchangeFault> {
        let is_first = self.compared.is_none();
        self.compared = Some(self.gateway.clock.stopwatch());
        let epoch = self.tell(&[]).await?.epoch;
        let mut seen = Seen::new();
        let mut at = None;
        loop {
            let page = self.exchange.page(at.as_ref(), Reading::Marks).await?;
            self.unreadable(page.strange);
            for heard in &page.heard {
                if let Some(Mark { key, id, until }) = mark_of(heard) {
                    seen.insert(key, (id, self.post.here(until)));
                }
                self.apply(heard);
            }
            match page.next {
                Some(next) => at = Some(next),
                None => break,
            }
        }
        let missing = self.missing(&seen);
        for some in missing.chunks(TOLD_MAX) {
            let notices: Vec<Notice> = some.iter().filter_map(|one| self.post.again(one)).collect();
            self.tell(&notices).await?;
        }
        if !missing.is_empty() && !is_first {
            tracing::info!(count = missing.len(), "blocks that the store had lost were told again");
        }
        // If it was lost again meanwhile, the next round hears of another one.
        self.epoch = Some(epoch);
        self.doubt = Doubt::None;
        Ok(())
    }

    /// What is in force or was lifted here, and not so there.
    fn missing(&self, seen: &Seen) -> Vec<Telling> {
        let now = self.gateway.clock.now();
        let knows = |key: KeyHash, id: [u8; 16], until: Timestamp| {
            // Between clocks the same time differs a little.
            seen.get(&key).is_some_and(|(seen_id, end)| {
                *seen_id == id && until.floor_millis() <= end.floor_millis().saturating_add(1000)
            })
        };
        let blocks = self.gateway.journal.book().snapshot(now).into_iter();
        let blocks = blocks.filter(|record| !knows(record.key, record.id.to_bytes(), record.block.until));
        let lifts = self.outbox().lifts(now).into_iter();
        let lifts = lifts.filter(|lift| !knows(lift.key, lift.id.to_bytes(), lift.until));
        lifts.map(Telling::Lift).chain(blocks.map(Telling::Block)).collect()
    }

    /// Rids the store of blocks that are over, a page a round.
    async fn clean(&mut self) -> Result<(), ExchangeFault> {
        let at = match &mut self.cleaning {
            Cleaning::Since(since) if since.elapsed() < CLEAN_EVERY => return Ok(()),
            Cleaning::Since(_) => None,
            Cleaning::At(at) => at.take(),
        };
        let page = self.exchange.page(at.as_ref(), Reading::Nothing).await?;
        self.cleaning = match page.next {
            Some(next) => Cleaning::At(Some(next)),
            None => Cleaning::Since(self.gateway.clock.stopwatch()),
        };
        Ok(())
    }

    fn doubt(&mut self, doubt: Doubt) {
        self.doubt = self.doubt.max(doubt);
    }

    fn outbox(&self) -> &Outbox {
        self.gateway.journal.outbox()
    }

    fn unreadable(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        self.metrics.dropped(MirrorDropped::Unreadable, count);
        if !std::mem::replace(&mut self.trouble.unreadable_is_told, true) {
            tracing::warn!(
                "what another gateway tells cannot be read: store.secret differs, or its version is a later one"
            );
        }
    }

    /// Draws the consequences of a round. The log hears of a store that is away from who watches it.
    fn conclude(&mut self, done: Result<(), ExchangeFault>) {
        let trouble = &mut self.trouble;
        match done {
            Ok(()) => {
                if std::mem::take(&mut trouble.is_told) {
                    tracing::info!("blocks and events are exchanged with the other gateways again");
                }
                trouble.since = None;
            }
            Err(fault) => {
                let since = *trouble.since.get_or_insert(self.gateway.clock.stopwatch());
                match &fault {
                    ExchangeFault::Away => {}
                    ExchangeFault::Failed(why) if since.elapsed() >= TROUBLE_TOLD_AFTER => {
                        if !std::mem::replace(&mut trouble.is_told, true) {
                            tracing::warn!(
                                why,
                                "blocks and events are not exchanged with the other gateways"
                            );
                        }
                    }
                    ExchangeFault::Failed(_) => {}
                }
                // Whoever answers next may be another server, without the last of what this one was told.
                self.doubt(Doubt::Some);
            }
        }
    }
}

fn mark_of(heard: &Heard) -> Option<Mark> {
    match heard.subject {
        Subject::Block { mark, end: _ } | Subject::Lift(mark) => Some(mark),
        Subject::Event => None,
    }
}

fn ahead_us(store: Timestamp, here: Timestamp) -> i64 {
    store.as_micros().wrapping_sub(here.as_micros()).cast_signed()
}
