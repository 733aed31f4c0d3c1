//! Coefficients of a scan: sequential blocks, and the four kinds of progressive ones.
//!
//! ```text
//! several components: units of horizontal × vertical blocks of each, over the picture filled up to whole units
//! one component:      its own blocks row by row, without filling
//! ```
//! Where a sequential scan holds every component, blocks are transformed at once and no coefficients are kept.

use super::huffman::{Bits, Table};
use super::{Component, Damage, Decoder, MAX_UNIT_BLOCKS, ZIGZAG, idct};

/// A component's part in a scan.
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// Band and bit of a progressive scan: coefficients `first ..= last`, bits from `low` up; `high` is the bit before, 0 at first.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    last: usize,
    high: u8,
    low: u8,
}

impl Decoder<'_> {
    /// Reads a scan whose header is `header` and whose data begin at `at`; where they end.
    pub(super) fn scan(&mut self, header: &[u8], at: usize) -> Result<usize, Damage> {
        let problem = |problem| Damage::Segment { marker: 0xda, problem };
        let (&count, rest) = header.split_first().ok_or(problem("the segment is cut"))?;
        let count = usize::from(count);
        if rest.len() < 2 * count + 3 || count == 0 {
            return Err(problem("the segment is cut"));
        }
        let mut parts = Vec::with_capacity(count);
        for spec in rest.chunks_exact(2).take(count) {
            let component = self.components.iter().position(|component| component.id == spec[0]);
            let component = component.ok_or(problem("a component that the frame does not have"))?;
            if parts.iter().any(|part: &Part| part.component == component) {
                return Err(problem("a component twice"));
            }
            parts.push(Part { component, dc: usize::from(spec[1] >> 4), ac: usize::from(spec[1] & 15) });
        }
        let [first, last, bits] = rest[2 * count..2 * count + 3] else { unreachable!("three bytes") };
        let mut band = Band { first: usize::from(first), last: usize::from(last), high: bits >> 4, low: bits & 15 };
        if self.is_progressive {
            let is_dc = band.first == 0;
            if band.last > 63 || band.first > band.last || (is_dc && band.last != 0) || (!is_dc && count != 1) || band.low > 13 {
                return Err(problem("impossible progression"));
            }
        } else {
            band = Band { first: 0, last: 63, high: 0, low: 0 };
        }
        for part in &parts {
            let component = &mut self.components[part.component];
            if component.steps.is_none() {
                let steps = self.steps.get(component.quantisation).copied().flatten();
                component.steps = Some(steps.ok_or(problem("no quantisation table"))?);
            }
        }
        let waits = self.is_progressive || count < self.components.len();
        for part in &parts {
            let component = &mut self.components[part.component];
            if waits && component.coefficients.is_empty() {
                component.coefficients = vec![0; 64 * component.padded_wide * component.padded_high];
            } else if !waits {
                component.plane = vec![0; component.stride() * 8 * component.padded_high];
            }
        }
        let mut reader = Reader { bits: Bits::new(self.bytes, at), band, predictions: [0; 4], end_of_band: 0 };
        self.blocks(&parts, &mut reader, waits)?;
        if reader.bits.is_overrun() {
            return Err(Damage::Short);
        }
        Ok(reader.bits.position())
    }

    fn blocks(&mut self, parts: &[Part], reader: &mut Reader<'_>, waits: bool) -> Result<(), Damage> {
        let tables = |part: &Part| (self.dc.get(part.dc).and_then(Option::as_ref), self.ac.get(part.ac).and_then(Option::as_ref));
        let tables: Vec<(Option<&Table>, Option<&Table>)> = parts.iter().map(tables).collect();
        let (wide, high, is_alone) = if let [part] = parts {
            let component = &self.components[part.component];
            (component.blocks_wide, component.blocks_high, true)
        } else {
            let of = |part: &Part| &self.components[part.component];
            if parts.iter().map(|part| of(part).horizontal * of(part).vertical).sum::<usize>() > MAX_UNIT_BLOCKS {
                return Err(Damage::Segment { marker: 0xda, problem: "too many blocks in a unit" });
            }
            let first = of(&parts[0]);
            (first.padded_wide / first.horizontal, first.padded_high / first.vertical, false)
        };
        let components = &mut self.components;
        let (mut until_restart, mut restarts) = (self.restart_interval, 0u8);
        for unit_row in 0..high {
            // Files that end early stop at the row, not after all rows were made of nothing.
            if reader.bits.is_overrun() {
                return Err(Damage::Short);
            }
            for unit_column in 0..wide {
                if self.restart_interval > 0 {
                    if until_restart == 0 {
                        reader.restart(restarts)?;
                        restarts = (restarts + 1) % 8;
                        until_restart = self.restart_interval;
                    }
                    until_restart -= 1;
                }
                for (part, &tables) in parts.iter().zip(&tables) {
                    let component = &mut components[part.component];
                    let (across, down) = if is_alone { (1, 1) } else { (component.horizontal, component.vertical) };
                    for inner in 0..across * down {
                        let row = unit_row * down + inner / across;
                        let column = unit_column * across + inner % across;
                        reader.block(component, part.component, tables, row, column, waits)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What decoding carries from block to block.
struct Reader<'a> {
    bits: Bits<'a>,
    band: Band,
    /// Last DC value of each component.
    predictions: [i32; 4],
    /// Blocks that are known to hold nothing more in this band.
    end_of_band: u32,
}

impl Reader<'_> {
    fn restart(&mut self, number: u8) -> Result<(), Damage> {
        self.bits.restart(number)?;
        self.predictions = [0; 4];
        self.end_of_band = 0;
        Ok(())
    }

    fn block(
        &mut self,
        component: &mut Component,
        index: usize,
        (dc, ac): (Option<&Table>, Option<&Table>),
        row: usize,
        column: usize,
        waits: bool,
    ) -> Result<(), Damage> {
        let missing = Damage::Segment { marker: 0xda, problem: "no Huffman table" };
        if !waits {
            let (Some(dc), Some(ac)) = (dc, ac) else { return Err(missing) };
            let steps = component.steps.as_ref().expect("set at the scan's start");
            let mut block = [0i32; 64];
            self.sequential(index, dc, ac, |at, value| block[at] = i32::from(value).wrapping_mul(steps[at]))?;
            let stride = component.stride();
            idct::inverse(&block, &mut component.plane[8 * row * stride + 8 * column..], stride);
            return Ok(());
        }
        let start = 64 * (row * component.padded_wide + column);
        let block: &mut [i16; 64] = (&mut component.coefficients[start..start + 64]).try_into().expect("64 values");
        match (self.band.first, self.band.last, self.band.high) {
            (0, 63, _) => {
                let (Some(dc), Some(ac)) = (dc, ac) else { return Err(missing) };
                self.sequential(index, dc, ac, |at, value| block[at] = value)
            }
            (0, _, 0) => {
                let difference = self.difference(dc.ok_or(missing)?)?;
                self.predictions[index] = self.predictions[index].wrapping_add(difference);
                block[0] = (self.predictions[index] << self.band.low) as i16;
                Ok(())
            }
            (0, ..) => {
                if self.bits.bit() {
                    block[0] |= 1 << self.band.low;
                }
                Ok(())
            }
            (_, _, 0) => self.first_pass(block, ac.ok_or(missing)?),
            _ => self.refining_pass(block, ac.ok_or(missing)?),
        }
    }

    fn difference(&mut self, dc: &Table) -> Result<i32, Damage> {
        let size = dc.decode(&mut self.bits)?;
        if size > 15 { Err(Damage::Code) } else { Ok(self.bits.signed(u32::from(size))) }
    }

    /// A whole block; `set` is given row-major positions.
    #[inline]
    fn sequential(&mut self, index: usize, dc: &Table, ac: &Table, mut set: impl FnMut(usize, i16)) -> Result<(), Damage> {
        let difference = self.difference(dc)?;
        self.predictions[index] = self.predictions[index].wrapping_add(difference);
        set(0, self.predictions[index] as i16);
        let mut position = 1;
        while position < 64 {
            let symbol = ac.decode(&mut self.bits)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run != 15 {
                    break;
                }
                position += 16;
                continue;
            }
            position += run;
            if position > 63 {
                return Err(Damage::Code);
            }
            set(ZIGZAG[position] as usize, self.bits.signed(size) as i16);
            position += 1;
        }
        Ok(())
    }

    /// First bits of a band.
    fn first_pass(&mut self, block: &mut [i16; 64], ac: &Table) -> Result<(), Damage> {
        if self.end_of_band > 0 {
            self.end_of_band -= 1;
            return Ok(());
        }
        let mut position = self.band.first;
        while position <= self.band.last {
            let symbol = ac.decode(&mut self.bits)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run != 15 {
                    self.end_of_band = (1 << run) - 1 + self.bits.take(run);
                    break;
                }
                position += 16;
                continue;
            }
            position += run as usize;
            if position > self.band.last {
                return Err(Damage::Code);
            }
            block[ZIGZAG[position] as usize] = (self.bits.signed(size) << self.band.low) as i16;
            position += 1;
        }
        Ok(())
    }

    /// One further bit of a band: new coefficients of size one between corrections of the known ones.
    fn refining_pass(&mut self, block: &mut [i16; 64], ac: &Table) -> Result<(), Damage> {
        let bit = 1i16 << self.band.low;
        let mut position = self.band.first;
        if self.end_of_band == 0 {
            while position <= self.band.last {
                let symbol = ac.decode(&mut self.bits)?;
                let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
                let mut new = 0;
                if size != 0 {
                    new = if self.bits.bit() { bit } else { -bit };
                } else if run != 15 {
                    self.end_of_band = (1 << run) + self.bits.take(run);
                    break;
                }
                while position <= self.band.last {
                    let value = &mut block[ZIGZAG[position] as usize];
                    if *value != 0 {
                        correct(&mut self.bits, value, bit);
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    position += 1;
                }
                if new != 0 {
                    if position > self.band.last {
                        return Err(Damage::Code);
                    }
                    block[ZIGZAG[position] as usize] = new;
                }
                position += 1;
            }
        }
        if self.end_of_band > 0 {
            for at in position..=self.band.last {
                let value = &mut block[ZIGZAG[at] as usize];
                if *value != 0 {
                    correct(&mut self.bits, value, bit);
                }
            }
            self.end_of_band -= 1;
        }
        Ok(())
    }
}

/// Adds a correction bit to a known coefficient, away from zero.
fn correct(bits: &mut Bits<'_>, value: &mut i16, bit: i16) {
    if bits.bit() && *value & bit == 0 {
        *value = value.wrapping_add(if *value >= 0 { bit } else { -bit });
    }
}
