//! What happened, as the journal keeps it.

use std::net::IpAddr;
use std::sync::Arc;

use super::identifier::Identifier;
use super::text;
use crate::decision::time::Timestamp;

/// What kind of thing happened. The numbers stand in files: new kinds go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// A request had enough.
    Limited = 0,
    /// A key was blocked.
    Blocked = 1,
    /// An operator ended a block.
    Unblocked = 2,
    /// An attempt failed at the backend.
    Failure = 3,
    /// A failure was followed by a wait.
    Backoff = 4,
    /// A value of the body was refused by a rule.
    Rejected = 5,
    /// The client is on the deny list.
    Denied = 6,
    /// What was seen of a key over all routes added up to too much.
    Suspicion = 7,
    Reload = 8,
    ReloadFailed = 9,
    StoreUp = 10,
    StoreDown = 11,
    /// An operator did something else.
    Admin = 12,
    /// A provider took a one-time code.
    CodeSent = 13,
    /// No provider took it.
    CodeUndelivered = 14,
    /// The right code was given.
    CodeVerified = 15,
    /// Codes are asked for in a way that looks like fraud.
    Fraud = 16,
    /// A provider of messages is not asked for a while.
    ProviderDown = 17,
    ProviderUp = 18,
}

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

/// One event, or several alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
    /// How many alike this stands for; at least one.
    pub count: u32,
    pub route: Option<Arc<str>>,
    pub policy: Option<Arc<str>>,
    /// The kind of key: `body.email+ip`.
    pub key: Option<Arc<str>>,
    pub window: Option<Arc<str>>,
    /// Sealed on disk.
    pub identifier: Option<Identifier>,
    pub client: Option<IpAddr>,
    /// Kept to 256 bytes, as it is: no place for secrets.
    pub user_agent: Option<Box<str>>,
    /// Kept to 128 bytes.
    pub trace_id: Option<Box<str>>,
    /// A sentence of our own, kept to 512 bytes. It stands on disk as it is: no identifiers.
    pub detail: Option<Box<str>>,
    /// The gateway that it happened in, if that is another one.
    pub node: Option<Arc<str>>,
}

impl EventKind {
    /// In the order of their numbers.
    pub const ALL: [EventKind; 19] = [
        EventKind::Limited,
        EventKind::Blocked,
        EventKind::Unblocked,
        EventKind::Failure,
        EventKind::Backoff,
        EventKind::Rejected,
        EventKind::Denied,
        EventKind::Suspicion,
        EventKind::Reload,
        EventKind::ReloadFailed,
        EventKind::StoreUp,
        EventKind::StoreDown,
        EventKind::Admin,
        EventKind::CodeSent,
        EventKind::CodeUndelivered,
        EventKind::CodeVerified,
        EventKind::Fraud,
        EventKind::ProviderDown,
        EventKind::ProviderUp,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            EventKind::Limited => "limited",
            EventKind::Blocked => "blocked",
            EventKind::Unblocked => "unblocked",
            EventKind::Failure => "failure",
            EventKind::Backoff => "backoff",
            EventKind::Rejected => "rejected",
            EventKind::Denied => "denied",
            EventKind::Suspicion => "suspicion",
            EventKind::Reload => "reload",
            EventKind::ReloadFailed => "reload_failed",
            EventKind::StoreUp => "store_up",
            EventKind::StoreDown => "store_down",
            EventKind::Admin => "admin",
            EventKind::CodeSent => "code_sent",
            EventKind::CodeUndelivered => "code_undelivered",
            EventKind::CodeVerified => "code_verified",
            EventKind::Fraud => "fraud",
            EventKind::ProviderDown => "provider_down",
            EventKind::ProviderUp => "provider_up",
        }
    }

    /// The kind of this word.
    pub fn parse(word: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    pub const fn severity(self) -> Severity {
        match self {
            EventKind::Limited
            | EventKind::Unblocked
            | EventKind::Failure
            | EventKind::Backoff
            | EventKind::Rejected
            | EventKind::Denied
            | EventKind::Reload
            | EventKind::StoreUp
            | EventKind::Admin
            | EventKind::CodeSent
            | EventKind::CodeVerified
            | EventKind::ProviderUp => Severity::Info,
            EventKind::Blocked
            | EventKind::Suspicion
            | EventKind::ReloadFailed
            | EventKind::CodeUndelivered
            | EventKind::Fraud => Severity::Warning,
            EventKind::StoreDown | EventKind::ProviderDown => Severity::Critical,
        }
    }

    pub(super) fn from_number(number: i64) -> Option<EventKind> {
        EventKind::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl Severity {
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Event {
    const USER_AGENT_MAX: usize = 256;
    const TRACE_ID_MAX: usize = 128;
    const DETAIL_MAX: usize = 512;

    /// An event of this kind of which nothing else is known yet.
    pub fn new(kind: EventKind, at: Timestamp) -> Event {
        Event {
            at,
            kind,
            count: 1,
            route: None,
            policy: None,
            key: None,
            window: None,
            identifier: None,
            client: None,
            user_agent: None,
            trace_id: None,
            detail: None,
            node: None,
        }
    }

    /// Within its bounds: what a client sent neither grows the queue nor carries control characters.
    pub(super) fn bounded(self) -> Event {
        Event {
            count: self.count.max(1),
            user_agent: self.user_agent.map(|text| text::bounded(text, Event::USER_AGENT_MAX)),
            trace_id: self.trace_id.map(|text| text::bounded(text, Event::TRACE_ID_MAX)),
            detail: self.detail.map(|text| text::bounded(text, Event::DETAIL_MAX)),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::JournalMetrics;

    #[test]
    fn kinds_stand_at_their_numbers_under_words_of_their_own() {
        for (number, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number, "{kind:?}");
            assert_eq!(EventKind::from_number(number as i64), Some(kind));
            assert_eq!(EventKind::parse(kind.word()), Some(kind));
            assert_eq!(JournalMetrics::KINDS[number], kind.word(), "the label of the metric");
        }
        assert_eq!(EventKind::from_number(19), None);
        assert_eq!(EventKind::from_number(-1), None);
        assert_eq!(EventKind::parse("Limited"), None);
    }

    #[test]
    fn what_a_client_sent_is_cut_and_cleaned() {
        let event = Event {
            count: 0,
            user_agent: Some("é".repeat(300).into()),
            trace_id: Some("a\r\nb\u{1b}[2J".into()),
            ..Event::new(EventKind::Limited, Timestamp::default())
        };
        let event = event.bounded();
        assert_eq!(event.user_agent.as_deref(), Some("é".repeat(128).as_str()));
        assert_eq!(event.trace_id.as_deref(), Some("ab[2J"));
        assert_eq!(event.count, 1);
    }
}
