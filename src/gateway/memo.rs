//! What the maker of a block wants to have back with it: the counter it came from, what an operator noted.

use crate::decision::key::KeyHash;
use crate::journal::BlockRecord;

const COUNTED: &str = "counted:";
const NOTE: &str = "note:";

/// The text that stands in a record; none if there is nothing to remember.
///
/// ```text
/// counted:<32 hexadecimal digits>\n
/// note:<all the rest>
/// ```
pub(super) fn memo(counted: Option<KeyHash>, note: Option<&str>) -> Option<Box<str>> {
    let mut text = String::new();
    if let Some(key) = counted {
        text.push_str(&format!("{COUNTED}{:032x}\n", key.as_u128()));
    }
    if let Some(note) = note {
        text.push_str(NOTE);
        text.push_str(note);
    }
    (!text.is_empty()).then(|| text.into())
}

/// The counter of what added up to a block: lifting the block forgets it as well.
pub(super) fn counter_of(record: &BlockRecord) -> Option<KeyHash> {
    let (digits, _) = record.spec.as_deref()?.strip_prefix(COUNTED)?.split_once('\n')?;
    u128::from_str_radix(digits, 16).ok().map(KeyHash::from_u128)
}

/// What the operator who made a block wrote beside it.
pub fn note_of(record: &BlockRecord) -> Option<&str> {
    let text = record.spec.as_deref()?;
    let rest = if text.starts_with(COUNTED) { text.split_once('\n')?.1 } else { text };
    rest.strip_prefix(NOTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::block::Block;
    use crate::decision::time::Timestamp;
    use crate::journal::{BlockId, Identifier, Reason};

    fn record(spec: Option<Box<str>>) -> BlockRecord {
        let at = Timestamp::from_millis(1);
        BlockRecord {
            id: BlockId::new(at, [0; 10]),
            key: KeyHash::from_u128(1),
            key_kind: "ip".into(),
            identifier: Identifier::new(&[("ip", "192.0.2.1")]),
            reason: Reason::Operator,
            route: None,
            policy: None,
            attempts: 0,
            created_at: at,
            block: Block { until: at, level: 0, forget_at: at },
            by: None,
            spec,
        }
    }

    #[test]
    fn what_is_remembered_is_read_back() {
        let key = KeyHash::from_u128(0xabc);
        for counted in [None, Some(key)] {
            for note in [None, Some(""), Some("counted:1\nnote: see ticket 7")] {
                let record = record(memo(counted, note));
                assert_eq!((counter_of(&record), note_of(&record)), (counted, note));
            }
        }
        assert_eq!(memo(None, None), None);
    }

    #[test]
    fn what_is_not_ours_tells_nothing() {
        for text in ["", "counted:", "counted:xyz\n", "counted:1", "x"] {
            let record = record(Some(text.into()));
            assert_eq!((counter_of(&record), note_of(&record)), (None, None), "{text}");
        }
    }
}
