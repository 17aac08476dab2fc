//! How a provider's messages fare: whether they arrive, and whether their codes come back.

use std::collections::BTreeMap;

use crate::decision::rolling::Rolling;
use crate::decision::time::{Span, Timestamp};

const PIECE: Span = Span::from_secs(300);
const HOUR: Span = Span::from_secs(3600);
/// An hour, the piece that is not over, and the youngest two.
const PIECES: usize = 12 + 1 + YOUNG as usize;
/// A code that was sent in the youngest pieces, five minutes or a little more, may yet come back.
const YOUNG: u64 = 2;

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That a provider took.
    pub sent: u32,
    /// That arrived, as it reports.
    pub delivered: u32,
    /// That did not arrive, and not by the recipient's fault.
    pub failed: u32,
    /// Whose code was given back right.
    pub verified: u32,
}

/// Why a provider is asked after the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The codes that it carries come back much less often than those of the others.
    Conversion,
    /// It reports that most of its messages do not arrive.
    Receipts,
}

impl Doubt {
    pub fn word(self) -> &'static str {
        match self {
            Doubt::Conversion => "conversion",
            Doubt::Receipts => "receipts",
        }
    }
}

/// A country by its two letters. None: all countries together.
pub(super) type Scope = Option<[u8; 2]>;

/// The country of these letters; all together if it is none.
pub(super) fn scope(country: Option<&str>) -> Scope {
    let letters: [u8; 2] = country?.as_bytes().try_into().ok()?;
    letters.iter().all(u8::is_ascii_uppercase).then_some(letters)
}

/// One provider's messages.
#[derive(Debug)]
pub(super) struct Health {
    /// By country, and all. As many as there are pairs of letters at most.
    scopes: BTreeMap<Scope, Recently>,
    day: Rolling<Counts, 25>,
}

#[derive(Debug)]
struct Recently {
    pieces: Rolling<Counts, PIECES>,
    doubt: Option<Doubt>,
}

impl Health {
    pub(super) fn new() -> Health {
        Health { scopes: BTreeMap::new(), day: Rolling::new(HOUR) }
    }

    /// Notes what happened to a message just now.
    pub(super) fn note(&mut self, country: Scope, now: Timestamp, note: impl Fn(&mut Counts)) {
        let scopes = [None, country];
        let distinct = if country.is_none() { &scopes[..1] } else { &scopes[..] };
        for scope in distinct {
            let new = || Recently { pieces: Rolling::new(PIECE), doubt: None };
            if let Some(counts) = self.scopes.entry(*scope).or_insert_with(new).pieces.at(now) {
                note(counts);
            }
        }
        if let Some(counts) = self.day.at(now) {
            note(counts);
        }
    }

    /// What can be judged: messages of an hour that is over for five minutes, and all that was heard of them since.
    pub(super) fn judged(&self, scope: Scope, now: Timestamp) -> Counts {
        let Some(recently) = self.scopes.get(&scope) else { return Counts::default() };
        recently.pieces.recent(now).fold(Counts::default(), |sum, (age, counts)| {
            let sent = if age < YOUNG { 0 } else { counts.sent };
            sum.plus(Counts { sent, ..counts })
        })
    }

    pub(super) fn last_hour(&self, now: Timestamp) -> Counts {
        let Some(recently) = self.scopes.get(&None) else { return Counts::default() };
        let pieces =
            recently.pieces.recent(now).filter(|(age, _)| *age <= HOUR.as_millis() / PIECE.as_millis());
        pieces.fold(Counts::default(), |sum, (_, counts)| sum.plus(counts))
    }

    pub(super) fn last_day(&self, now: Timestamp) -> Counts {
        self.day.recent(now).fold(Counts::default(), |sum, (_, counts)| sum.plus(counts))
    }

    pub(super) fn doubt(&self, scope: Scope) -> Option<Doubt> {
        self.scopes.get(&scope).and_then(|recently| recently.doubt)
    }

    /// Judges anew. The doubt now, if it is another one than before.
    pub(super) fn judge(&mut self, scope: Scope, others: Counts, now: Timestamp) -> Option<Option<Doubt>> {
        let own = self.judged(scope, now);
        let recently = self.scopes.get_mut(&scope)?;
        let doubt = judge(own, others, recently.doubt);
        let before = std::mem::replace(&mut recently.doubt, doubt);
        (before != doubt).then_some(doubt)
    }
}

/// Fewer tell nothing.
const ENOUGH: u32 = 30;

/// Whether a provider should be asked after the others. Who is in doubt gets few messages: after an hour there are too few to
/// tell, and it is tried again in its turn. Doubt ends at a better figure than it begins at, so that it does not come and go.
fn judge(own: Counts, others: Counts, before: Option<Doubt>) -> Option<Doubt> {
    let share = |usual: u64, doubted: Doubt, while_doubted: u64| match before {
        Some(doubt) if doubt == doubted => while_doubted,
        Some(_) | None => usual,
    };
    let told = own.delivered.saturating_add(own.failed);
    let failed_percent = u64::from(own.failed) * 100;
    if told >= ENOUGH && failed_percent > u64::from(told) * share(50, Doubt::Receipts, 40) {
        return Some(Doubt::Receipts);
    }
    let comes_back = u64::from(own.verified) * u64::from(others.sent) * 100;
    let should = u64::from(others.verified) * u64::from(own.sent);
    let can_compare = own.sent >= ENOUGH && others.sent >= ENOUGH;
    (can_compare && comes_back < should.saturating_mul(share(35, Doubt::Conversion, 50)))
        .then_some(Doubt::Conversion)
}

impl Counts {
    pub(super) fn plus(self, more: Counts) -> Counts {
        Counts {
            sent: self.sent.saturating_add(more.sent),
            delivered: self.delivered.saturating_add(more.delivered),
            failed: self.failed.saturating_add(more.failed),
            verified: self.verified.saturating_add(more.verified),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + minutes * 60_000)
    }

    fn counts(sent: u32, verified: u32) -> Counts {
        Counts { sent, verified, ..Counts::default() }
    }

    #[test]
    fn codes_that_come_back_a_third_as_often_as_those_of_others_are_a_doubt() {
        let others = counts(100, 80);
        // 28 % of 100 is 35 % of 80 %.
        assert_eq!(judge(counts(100, 28), others, None), None);
        assert_eq!(judge(counts(100, 27), others, None), Some(Doubt::Conversion));
        assert_eq!(judge(counts(29, 0), others, None), None, "too few to tell");
        assert_eq!(judge(counts(30, 0), others, None), Some(Doubt::Conversion));
        assert_eq!(judge(counts(100, 0), counts(29, 29), None), None, "nobody to compare with");
        assert_eq!(judge(counts(100, 0), counts(100, 0), None), None, "the others fare no better");
    }

    #[test]
    fn doubt_ends_at_a_better_figure_than_it_begins_at() {
        let others = counts(100, 80);
        let doubt = Some(Doubt::Conversion);
        assert_eq!(judge(counts(100, 39), others, doubt), doubt);
        assert_eq!(judge(counts(100, 40), others, doubt), None);
        assert_eq!(judge(counts(29, 0), others, doubt), None, "after an hour it is tried again");
    }

    #[test]
    fn messages_that_do_not_arrive_are_a_doubt() {
        let told = |delivered, failed| Counts { delivered, failed, ..Counts::default() };
        let others = Counts::default();
        assert_eq!(judge(told(15, 15), others, None), None);
        assert_eq!(judge(told(14, 16), others, None), Some(Doubt::Receipts));
        assert_eq!(judge(told(0, 29), others, None), None);
        assert_eq!(judge(told(17, 13), others, Some(Doubt::Receipts)), Some(Doubt::Receipts));
        assert_eq!(judge(told(18, 12), others, Some(Doubt::Receipts)), None);
    }

    #[test]
    fn a_code_has_five_minutes_to_come_back() {
        let mut health = Health::new();
        let germany = scope(Some("DE"));
        for _ in 0..40 {
            health.note(germany, at(0), |counts| counts.sent += 1);
        }
        assert_eq!(health.judged(germany, at(5)).sent, 0);
        assert_eq!(health.judged(germany, at(10)).sent, 40);
        assert_eq!(health.judged(None, at(70)).sent, 40);
        assert_eq!(health.judged(None, at(75)).sent, 0);
        assert_eq!(health.judged(scope(Some("FR")), at(10)).sent, 0);
        assert_eq!(health.last_hour(at(0)).sent, 40);
        assert_eq!(health.last_hour(at(65)).sent, 0);
        assert_eq!(health.last_day(at(23 * 60)).sent, 40);

        assert_eq!(health.judge(germany, counts(100, 80), at(10)), Some(Some(Doubt::Conversion)));
        assert_eq!(health.judge(germany, counts(100, 80), at(11)), None, "told once");
        assert_eq!(health.doubt(germany), Some(Doubt::Conversion));
        assert_eq!(health.doubt(None), None);
        assert_eq!(health.judge(germany, counts(100, 80), at(76)), Some(None));
    }

    #[test]
    fn a_country_is_two_letters() {
        assert_eq!(scope(Some("DE")), Some(*b"DE"));
        assert_eq!(scope(Some("de")), None);
        assert_eq!(scope(Some("001")), None);
        assert_eq!(scope(None), None);
    }
}
