//! What providers were paid, over a restart: a daily maximum holds for a day, not for a process.

use super::Lasting;
use crate::decision::key::KeyHash;
use crate::decision::time::{Span, Timestamp};
use crate::journal::Amend;
use crate::sms::dispatch::SpendRow;

/// Where it stands among the records of the journal: codes are named by keyed hashes, none of which is this.
const KEY: KeyHash = KeyHash::from_u128(u128::MAX - 1);
/// A day, and the hour that it began in.
const KEPT: Span = Span::from_secs(25 * 3600);

impl Lasting {
    /// Takes over what an earlier process was known to have spent. To be called once, before anything is sent.
    pub fn recall_spending(&self) {
        let now = self.clock.now();
        if let Some(bytes) = self.journal.record(KEY, now) {
            let text = String::from_utf8_lossy(&bytes);
            let rows: Vec<SpendRow> = text.lines().filter_map(read).collect();
            self.providers.restore(&rows, now);
        }
    }

    /// Writes down what was spent, after each message that costs anything.
    pub(super) async fn note_spending(&self, now: Timestamp) {
        let rows = self.providers.spent(now);
        if rows.is_empty() {
            return;
        }
        let text: String = rows.iter().map(written).collect();
        let put = |_: Option<&[u8]>| {
            let amend = Amend::Put { until: now.plus(KEPT), bytes: text.clone().into_bytes() };
            ((), amend)
        };
        if let Err(unkept) = self.journal.amend(KEY, now, put).await {
            tracing::debug!(%unkept, "what was spent could not be written down");
        }
    }
}

/// `twilio 498707 USD 7500`
fn written(row: &SpendRow) -> String {
    let SpendRow { provider, hour, currency, micros } = row;
    format!("{provider} {hour} {currency} {micros}\n")
}

fn read(line: &str) -> Option<SpendRow> {
    let mut parts = line.split(' ');
    let row = SpendRow {
        provider: parts.next()?.into(),
        hour: parts.next()?.parse().ok()?,
        currency: parts.next()?.into(),
        micros: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let row =
            SpendRow { provider: "twilio-2".into(), hour: 498_707, currency: "USD".into(), micros: 7500 };
        assert_eq!(read(written(&row).trim_end()), Some(row));
        for broken in ["", "a", "a 1 USD", "a x USD 1", "a 1 USD -1", "a 1 USD 1 1"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
