//! Little-endian numbers of any width, one after another: how state that leaves the process is written.

/// What is left to read. Every read says whether there was enough of it.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The next `width` bytes as a number; those past the eighth have no room in it.
    pub fn number(&mut self, width: usize) -> Option<u64> {
        let (bytes, rest) = self.0.split_at_checked(width)?;
        self.0 = rest;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The next `count` bytes as they are.
    pub fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next 16 bytes, as [`put_bits`] wrote them.
    pub fn bits(&mut self) -> Option<u128> {
        let (low, high) = (self.number(8)?, self.number(8)?);
        Some(u128::from(high) << 64 | u128::from(low))
    }
}

/// Appends the low `width` bytes of a number, eight at most.
pub fn put(to: &mut Vec<u8>, number: u64, width: usize) {
    to.extend(number.to_le_bytes().iter().take(width));
}

pub fn put_bits(to: &mut Vec<u8>, bits: u128) {
    to.extend_from_slice(&bits.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let mut bytes = Vec::new();
        put(&mut bytes, 0x0102_0304_0506, 6);
        put_bits(&mut bytes, u128::MAX - 7);
        put(&mut bytes, 0xfedc, 1);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.number(6), Some(0x0102_0304_0506));
        assert_eq!(reader.bits(), Some(u128::MAX - 7));
        assert_eq!(reader.number(2), None, "one byte is left");
        assert_eq!(reader.bytes(2), None);
        assert_eq!(Reader::new(&bytes).bytes(2), Some(&[0x06, 0x05][..]));
        assert_eq!(reader.number(1), Some(0xdc));
        assert!(reader.is_empty());
    }
}
