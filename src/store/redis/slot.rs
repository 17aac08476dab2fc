//! Which slot of a cluster a key lies in (Redis Cluster Specification, "Key distribution model").

/// How many slots a cluster divides its keys among.
pub(super) const SLOTS: u16 = 16384;

/// CRC-16/XMODEM: polynomial 0x1021, most significant bit first, from zero.
pub(super) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        let [high, low] = sum.to_be_bytes();
        let entry = TABLE.get(usize::from(high ^ byte)).copied().unwrap_or_default();
        u16::from_be_bytes([low, 0]) ^ entry
    })
}

/// The slot of a key. If it has a tag, `{…}` with something inside, that alone counts.
pub(super) fn slot_of(key: &str) -> u16 {
    crc16(tag_of(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// What is between the first `{` and the next `}`.
fn tag_of(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut entry = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            entry = if entry & 0x8000 == 0 { entry << 1 } else { entry << 1 ^ 0x1021 };
            bit += 1;
        }
        table[index] = entry;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_one_of_the_specification() {
        for (text, sum) in [("123456789", 0x31c3), ("", 0), ("A", 0x58e5), ("\u{ff}", crc16(&[0xc3, 0xbf]))] {
            assert_eq!(crc16(text.as_bytes()), sum, "{text}");
        }
    }

    #[test]
    fn slots_are_those_that_a_server_tells() {
        // CLUSTER KEYSLOT of Redis 7.0.
        for (key, slot) in [("foo", 12182), ("bar", 5061), ("hello", 866), ("somekey", 11058), ("", 0)] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }

    #[test]
    fn a_tag_stands_for_the_key() {
        let same = [
            ("{user1000}.following", "user1000"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("a{b}c", "b"),
        ];
        same.iter().for_each(|(key, tag)| assert_eq!(slot_of(key), crc16(tag.as_bytes()) % SLOTS, "{key}"));
        for whole in ["foo{}{bar}", "{}", "foo{bar", "foo}bar{", "}{"] {
            assert_eq!(slot_of(whole), crc16(whole.as_bytes()) % SLOTS, "{whole}");
        }
    }
}
