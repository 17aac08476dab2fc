//! When a provider is left alone.

use crate::decision::time::{Span, Timestamp};

/// Open after trouble, or after the provider refused all that is ours. Then one message at a time tries it again.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// Failures since the last success.
    in_a_row: u32,
    /// The last [`Breaker::REMEMBERED`] messages, a bit each: 1 failed.
    last: u32,
    seen: u32,
    /// How often in a row it was opened because the provider refused us.
    refusals: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Timestamp,
        why: Why,
    },
    /// One message is on its way to find out. Should nobody tell what became of it, the next one goes after `until`.
    Probing {
        until: Timestamp,
        why: Why,
    },
}

/// Why it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Messages failed, or nobody knows what became of them.
    Trouble,
    /// Credentials, funds, account.
    Refused,
}

/// Leave to ask the provider once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Ordinary,
    /// Its outcome decides whether the breaker closes.
    Probe,
}

/// What somebody should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened { until: Timestamp },
    Closed,
}

impl Breaker {
    const IN_A_ROW: u32 = 5;
    const REMEMBERED: u32 = 20;
    const AFTER_TROUBLE: Span = Span::from_secs(30);
    /// Twice as long each time in a row.
    const AFTER_REFUSAL: Span = Span::from_secs(300);
    const AFTER_REFUSAL_MAX: Span = Span::from_secs(1800);
    /// Longer than any delivery takes.
    const PROBE_LOST: Span = Span::from_secs(15);

    /// Until when nobody is let through, and why.
    pub(super) fn shut(&self, now: Timestamp) -> Option<(Timestamp, Why)> {
        match self.state {
            State::Closed => None,
            State::Open { until, why } | State::Probing { until, why } => {
                (now < until).then_some((until, why))
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// To be asked only while it is not [`shut`](Breaker::shut): the caller goes, then.
    pub(super) fn enter(&mut self, now: Timestamp) -> Pass {
        match self.state {
            State::Closed => Pass::Ordinary,
            State::Open { why, .. } | State::Probing { why, .. } => {
                self.state = State::Probing { until: now.plus(Breaker::PROBE_LOST), why };
                Pass::Probe
            }
        }
    }

    /// The provider took a message.
    pub(super) fn worked(&mut self, pass: Pass) -> Change {
        if self.is_closed() {
            self.in_a_row = 0;
            self.remember(0);
        }
        self.answered(pass)
    }

    /// The provider answered, whatever it made of the message: it is there.
    pub(super) fn answered(&mut self, pass: Pass) -> Change {
        match pass {
            Pass::Probe if !self.is_closed() => {
                *self = Breaker::default();
                Change::Closed
            }
            Pass::Probe | Pass::Ordinary => Change::None,
        }
    }

    /// Nothing was sent, or nobody knows.
    pub(super) fn failed(&mut self, pass: Pass, now: Timestamp) -> Change {
        match (self.state, pass) {
            (State::Closed, Pass::Ordinary | Pass::Probe) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.remember(1);
                let mostly =
                    self.seen >= Breaker::REMEMBERED && self.last.count_ones() * 2 > Breaker::REMEMBERED;
                if self.in_a_row < Breaker::IN_A_ROW && !mostly {
                    return Change::None;
                }
                let until = now.plus(Breaker::AFTER_TROUBLE);
                self.state = State::Open { until, why: Why::Trouble };
                Change::Opened { until }
            }
            (State::Open { why, .. } | State::Probing { why, .. }, Pass::Probe) => {
                self.state = State::Open { until: now.plus(Breaker::AFTER_TROUBLE), why };
                Change::None
            }
            // It was on its way when the breaker opened.
            (State::Open { .. } | State::Probing { .. }, Pass::Ordinary) => Change::None,
        }
    }

    /// The provider takes nothing from us.
    pub(super) fn refused(&mut self, pass: Pass, now: Timestamp) -> Change {
        let is_known = match (self.state, pass) {
            (
                State::Open { why: Why::Refused, .. } | State::Probing { why: Why::Refused, .. },
                Pass::Ordinary,
            ) => {
                return Change::None;
            }
            (State::Closed, Pass::Ordinary | Pass::Probe) => false,
            (State::Open { .. } | State::Probing { .. }, Pass::Ordinary | Pass::Probe) => true,
        };
        let wait = Breaker::AFTER_REFUSAL.as_millis() << self.refusals.min(8);
        let wait = Span::from_millis(wait).min(Breaker::AFTER_REFUSAL_MAX);
        self.refusals = self.refusals.saturating_add(1);
        let until = now.plus(wait);
        self.state = State::Open { until, why: Why::Refused };
        match is_known {
            false => Change::Opened { until },
            true => Change::None,
        }
    }

    /// The configuration is another one, perhaps with the right credentials: the next message finds out.
    pub(super) fn reconsider(&mut self, now: Timestamp) {
        match self.state {
            State::Open { why: Why::Refused, until } if now < until => {
                self.state = State::Open { until: now, why: Why::Refused };
                self.refusals = 0;
            }
            State::Closed | State::Open { .. } | State::Probing { .. } => {}
        }
    }

    fn remember(&mut self, failed: u32) {
        const MASK: u32 = (1 << Breaker::REMEMBERED) - 1;
        self.last = (self.last << 1 | failed) & MASK;
        self.seen = self.seen.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + s * 1000)
    }

    #[test]
    fn five_failures_in_a_row_open_it_for_half_a_minute() {
        let mut breaker = Breaker::default();
        for s in 0..4 {
            assert_eq!(breaker.failed(Pass::Ordinary, at(s)), Change::None);
        }
        breaker.worked(Pass::Ordinary);
        for s in 0..4 {
            assert_eq!(breaker.failed(Pass::Ordinary, at(s)), Change::None);
        }
        assert_eq!(breaker.failed(Pass::Ordinary, at(4)), Change::Opened { until: at(34) });
        assert_eq!(breaker.failed(Pass::Ordinary, at(5)), Change::None, "it was on its way");
        assert_eq!(breaker.worked(Pass::Ordinary), Change::None, "so was this one");
        assert_eq!(breaker.shut(at(33)), Some((at(34), Why::Trouble)));
        assert_eq!(breaker.shut(at(34)), None);
    }

    #[test]
    fn more_than_half_of_the_last_twenty_open_it() {
        let run = |failures: u32| {
            let mut breaker = Breaker::default();
            let mut change = Change::None;
            // Never two in a row, but at the end.
            for n in 0..20 {
                let is_failure = n % 2 == 1 || (n == 18 && failures == 11);
                let now = match is_failure {
                    true => breaker.failed(Pass::Ordinary, at(n)),
                    false => breaker.worked(Pass::Ordinary),
                };
                change = if now == Change::None { change } else { now };
            }
            change
        };
        assert_eq!(run(10), Change::None);
        assert_eq!(run(11), Change::Opened { until: at(49) });
    }

    #[test]
    fn one_message_at_a_time_tries_it_again() {
        let mut breaker = Breaker::default();
        for s in 0..5 {
            breaker.failed(Pass::Ordinary, at(s));
        }
        assert_eq!(breaker.enter(at(40)), Pass::Probe);
        assert!(breaker.shut(at(41)).is_some(), "the probe is on its way");
        assert_eq!(breaker.failed(Pass::Probe, at(42)), Change::None, "nobody is told again");
        assert_eq!(breaker.shut(at(71)), Some((at(72), Why::Trouble)));
        assert_eq!(breaker.enter(at(72)), Pass::Probe);
        assert_eq!(
            breaker.shut(at(87)),
            None,
            "a probe that nobody hears of again does not shut it for ever"
        );
        assert_eq!(breaker.worked(Pass::Probe), Change::Closed);
        assert_eq!(breaker.enter(at(88)), Pass::Ordinary);
    }

    #[test]
    fn a_refusal_opens_it_for_longer_each_time() {
        let mut breaker = Breaker::default();
        let mut now = at(0);
        for (place, minutes) in [5, 10, 20, 30, 30].into_iter().enumerate() {
            let pass = if place == 0 { Pass::Ordinary } else { breaker.enter(now) };
            let until = now.plus(Span::from_secs(minutes * 60));
            let told = if place == 0 { Change::Opened { until } } else { Change::None };
            assert_eq!(breaker.refused(pass, now), told);
            assert_eq!(
                breaker.refused(Pass::Ordinary, now),
                Change::None,
                "no longer for those on their way"
            );
            assert_eq!(breaker.shut(now), Some((until, Why::Refused)));
            now = until;
        }
        assert_eq!(breaker.enter(now), Pass::Probe);
        assert_eq!(breaker.answered(Pass::Probe), Change::Closed);
        assert_eq!(
            breaker.refused(Pass::Ordinary, now),
            Change::Opened { until: now.plus(Breaker::AFTER_REFUSAL) }
        );
    }

    #[test]
    fn another_configuration_is_tried_at_once() {
        let mut breaker = Breaker::default();
        breaker.refused(Pass::Ordinary, at(0));
        breaker.reconsider(at(1));
        assert_eq!(breaker.shut(at(1)), None);
        assert_eq!(breaker.enter(at(1)), Pass::Probe);
    }
}
