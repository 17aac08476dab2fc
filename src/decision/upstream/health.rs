//! Whether a server is to be asked: by checks of its own, and by what became of the requests that it was given.

use super::{CheckSpec, EjectSpec};
use crate::decision::time::Timestamp;

/// What is known of one server. Until something is known it is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    is_down: bool,
    /// Checks in a row that say the other thing than `is_down`.
    against: u32,
    /// Requests in a row that it gave no answer to.
    strikes: u32,
    ejected_until: Option<Timestamp>,
}

/// Whether a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// Its checks failed.
    Down,
    /// It did not answer, and is left out for a while.
    Ejected {
        until: Timestamp,
    },
}

impl Health {
    /// A check was made.
    pub fn checked(&mut self, passed: bool, rules: &CheckSpec) {
        if passed != self.is_down {
            self.against = 0;
            return;
        }
        self.against = self.against.saturating_add(1);
        let needed = if passed { rules.healthy_after } else { rules.unhealthy_after };
        if self.against >= needed {
            self.is_down = !passed;
            self.against = 0;
        }
    }

    /// A request got no answer. Whether it was one too many, so that the server is to be ejected if others are there.
    #[must_use]
    pub fn struck(&mut self, rules: &EjectSpec, now: Timestamp) -> bool {
        if self.ejected_until.is_some_and(|until| now < until) {
            // It was sent before the ejection.
            return false;
        }
        self.strikes = self.strikes.saturating_add(1);
        self.strikes >= rules.after
    }

    /// A request was answered, whatever the answer says.
    pub fn answered(&mut self) {
        self.strikes = 0;
    }

    /// Whether [`answered`](Health::answered) would change anything.
    pub fn has_strikes(&self) -> bool {
        self.strikes > 0
    }

    /// Leaves it out for a while. Then it is on trial: without an answer in between, one strike ejects it again.
    pub fn eject(&mut self, rules: &EjectSpec, now: Timestamp) {
        self.ejected_until = Some(now.plus(rules.span));
        self.strikes = rules.after.saturating_sub(1);
    }

    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.ejected_until {
            _ if self.is_down => Standing::Down,
            Some(until) if now < until => Standing::Ejected { until },
            Some(_) | None => Standing::Up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::Span;

    const EJECT: EjectSpec = EjectSpec { after: 3, span: Span::from_secs(10) };

    fn checks(unhealthy_after: u32, healthy_after: u32) -> CheckSpec {
        let (every, timeout) = (Span::from_secs(5), Span::from_secs(1));
        CheckSpec { path: "/".into(), every, timeout, unhealthy_after, healthy_after }
    }

    fn at(s: u64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    #[test]
    fn checks_count_in_a_row() {
        let rules = checks(3, 2);
        let mut health = Health::default();
        let story = [
            (false, Standing::Up),
            (false, Standing::Up),
            (true, Standing::Up),
            (false, Standing::Up),
            (false, Standing::Up),
            (false, Standing::Down),
            (true, Standing::Down),
            (false, Standing::Down),
            (true, Standing::Down),
            (true, Standing::Up),
            (false, Standing::Up),
        ];
        for (step, (passed, standing)) in story.into_iter().enumerate() {
            health.checked(passed, &rules);
            assert_eq!(health.standing(at(0)), standing, "step {step}");
        }
    }

    #[test]
    fn one_check_is_enough_where_one_is_asked_for() {
        let mut health = Health::default();
        health.checked(false, &checks(1, 1));
        assert_eq!(health.standing(at(0)), Standing::Down);
        health.checked(true, &checks(1, 1));
        assert_eq!(health.standing(at(0)), Standing::Up);
    }

    #[test]
    fn strikes_count_in_a_row_and_an_answer_clears_them() {
        let mut health = Health::default();
        assert!(!health.has_strikes());
        assert!(!health.struck(&EJECT, at(0)) && !health.struck(&EJECT, at(0)));
        assert!(health.has_strikes());
        health.answered();
        assert!(!health.struck(&EJECT, at(0)) && !health.struck(&EJECT, at(0)));
        assert!(health.struck(&EJECT, at(0)), "the third in a row");
        assert_eq!(health.standing(at(0)), Standing::Up, "whether it is ejected is not its own decision");
    }

    #[test]
    fn an_ejection_ends_by_itself_and_is_followed_by_a_trial() {
        let mut health = Health::default();
        health.eject(&EJECT, at(0));
        assert_eq!(health.standing(at(9)), Standing::Ejected { until: at(10) });
        assert!(!health.struck(&EJECT, at(9)), "sent before it was ejected");
        assert_eq!(health.standing(at(10)), Standing::Up);
        assert!(health.struck(&EJECT, at(10)), "on trial");
        health.eject(&EJECT, at(10));
        assert_eq!(health.standing(at(19)), Standing::Ejected { until: at(20) });
        health.answered();
        assert!(!health.struck(&EJECT, at(20)), "the trial is passed");
    }

    #[test]
    fn down_is_down_also_while_ejected() {
        let mut health = Health::default();
        health.eject(&EJECT, at(0));
        health.checked(false, &checks(1, 1));
        assert_eq!(health.standing(at(5)), Standing::Down);
        health.checked(true, &checks(1, 1));
        assert_eq!(health.standing(at(5)), Standing::Ejected { until: at(10) });
    }
}
