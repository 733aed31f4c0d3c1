//! Entropy-coded bits: the reader, which removes stuffed bytes and stops at markers, and Huffman tables.
//!
//! ```text
//! codes of length l follow each other; the first of length l + 1 is (last of length l + 1) · 2          ISO 10918-1, annex C
//! in the data a byte FF is followed by 00; FF followed by anything else is a marker and ends the bits
//! ```

use super::Damage;

/// Codes up to this length are found by one look-up.
const LOOKUP_BITS: u32 = 9;

/// Bits of a scan, most significant first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// Bits beyond the end that were given out as zeros.
    missing: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, held: 0, count: 0, missing: 0 }
    }

    /// Makes at least 32 bits available; zeros after the end of the data.
    #[inline]
    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at) {
                Some(0xff) if self.bytes.get(self.at + 1) == Some(&0) => {
                    self.at += 2;
                    0xff
                }
                Some(&byte) if byte != 0xff => {
                    self.at += 1;
                    byte
                }
                _ => {
                    self.missing += 8;
                    0
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline]
    fn peek(&mut self, bits: u32) -> u32 {
        if self.count < bits {
            self.fill();
        }
        (self.held >> 32) as u32 >> (32 - bits)
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.held <<= bits;
        self.count -= bits;
    }

    /// The next `bits` bits (at most 16) as a number; 0 of them are 0.
    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> u32 {
        if bits == 0 {
            return 0;
        }
        let value = self.peek(bits);
        self.skip(bits);
        value
    }

    /// One bit.
    #[inline]
    pub(super) fn bit(&mut self) -> bool {
        self.take(1) == 1
    }

    /// A number of `bits` bits in JPEG's sign form: a first bit of 0 means negative.
    #[inline]
    pub(super) fn signed(&mut self, bits: u32) -> i32 {
        if bits == 0 {
            return 0;
        }
        let value = self.take(bits).cast_signed();
        if value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value }
    }

    /// Whether more bits were taken than there are.
    pub(super) fn is_overrun(&self) -> bool {
        self.missing > self.count
    }

    /// Drops what is left of the last byte, checks and passes restart marker `number` (0 to 7).
    pub(super) fn restart(&mut self, number: u8) -> Result<(), Damage> {
        if self.is_overrun() {
            return Err(Damage::Short);
        }
        (self.held, self.count, self.missing) = (0, 0, 0);
        let at = next_marker(self.bytes, self.at).ok_or(Damage::Short)?;
        let found = self.bytes[at + 1];
        if found != 0xd0 + number {
            return Err(Damage::Restart { expected: 0xd0 + number, found });
        }
        self.at = at + 2;
        Ok(())
    }

    /// Where the bytes after the entropy-coded data are searched for a marker.
    pub(super) fn position(&self) -> usize {
        self.at
    }
}

/// Position of the next marker (`FF` and a byte that is neither 00 nor FF).
pub(super) fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(2).position(|pair| pair[0] == 0xff && pair[1] != 0 && pair[1] != 0xff).map(|at| from + at)
}

/// A table of codes.
pub(super) struct Table {
    /// Symbol and length by the next [`LOOKUP_BITS`] bits; length 0 where the code is longer.
    lookup: Vec<(u8, u8)>,
    /// One more than the largest code of each length, left-aligned to 16 bits; index 0 is length 1.
    limit: [u32; 16],
    /// Index of a length's first symbol minus its first code, modulo 2³².
    offset: [u32; 16],
    symbols: Vec<u8>,
}

impl Table {
    /// From the number of codes of each length and their symbols.
    pub(super) fn new(counts: &[u8], symbols: &[u8]) -> Result<Self, Damage> {
        let mut lookup = vec![(0, 0); 1 << LOOKUP_BITS];
        let (mut limit, mut offset) = ([0; 16], [0; 16]);
        let (mut code, mut index) = (0u32, 0usize);
        for (at, &count) in counts.iter().enumerate() {
            let length = at as u32 + 1;
            offset[at] = (index as u32).wrapping_sub(code);
            for _ in 0..count {
                if code >= 1 << length {
                    return Err(Damage::Table);
                }
                if length <= LOOKUP_BITS {
                    let spread = LOOKUP_BITS - length;
                    lookup[(code << spread) as usize..((code + 1) << spread) as usize].fill((symbols[index], length as u8));
                }
                code += 1;
                index += 1;
            }
            limit[at] = code << (16 - length);
            code <<= 1;
        }
        Ok(Self { lookup, limit, offset, symbols: symbols.to_vec() })
    }

    /// The next symbol.
    #[inline]
    pub(super) fn decode(&self, bits: &mut Bits<'_>) -> Result<u8, Damage> {
        let next = bits.peek(16);
        let (symbol, length) = self.lookup[(next >> (16 - LOOKUP_BITS)) as usize];
        if length > 0 {
            bits.skip(u32::from(length));
            return Ok(symbol);
        }
        for length in LOOKUP_BITS + 1..=16 {
            let at = length as usize - 1;
            if next < self.limit[at] {
                bits.skip(length);
                let code = next >> (16 - length);
                return self.symbols.get(code.wrapping_add(self.offset[at]) as usize).copied().ok_or(Damage::Code);
            }
        }
        Err(Damage::Code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_standard_example_are_read() {
        // Annex K.3.1, luminance DC: lengths of categories 0 to 11 are 2, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9.
        let counts = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
        let symbols: Vec<u8> = (0..12).collect();
        let table = Table::new(&counts, &symbols).unwrap();
        // table K.3: 00 -> 0, 010 -> 1, 110 -> 5, 1110 -> 6, 1111 1111 0 -> 11; then ones to the end of the byte
        let mut reader = Bits::new(&[0b0001_0110, 0b1110_1111, 0b1111_0111], 0);
        let read: Vec<u8> = (0..5).map(|_| table.decode(&mut reader).unwrap()).collect();
        assert_eq!(read, [0, 1, 5, 6, 11]);
        assert!(!reader.is_overrun());
    }

    #[test]
    fn signs_stuffing_and_the_end() {
        let mut bits = Bits::new(&[0xff, 0x00, 0b0101_1000, 0xff, 0xd9], 0);
        assert_eq!(bits.take(8), 255);
        assert_eq!((bits.signed(2), bits.signed(2), bits.signed(1), bits.signed(0)), (-2, -2, 1, 0));
        assert_eq!(bits.take(3), 0);
        assert!(!bits.is_overrun());
        bits.take(1);
        assert!(bits.is_overrun());
        assert_eq!(bits.position(), 3);
        assert!(bits.restart(0).is_err());
    }

    #[test]
    fn tables_with_more_codes_than_fit_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_err());
    }
}
