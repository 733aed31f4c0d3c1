//! Keys or values of one layer for a batch of sequences of different lengths.
//!
//! ```text
//! data: [B, K, capacity, d]   f32, positions 0..length of a row are valid, the lengths are the caller's
//! ```
//! A row's positions are contiguous per head, so that the scores of one head read memory in order.
use candle_core::{Result, Tensor, bail};

/// Cache of keys or of values, `[B, K, capacity, d]` in f32, that grows as positions are appended.
#[derive(Clone, Debug)]
pub struct KvSlab {
    data: Vec<f32>,
    rows: usize,
    kv_heads: usize,
    capacity: usize,
    head_dim: usize,
}

impl KvSlab {
    /// An empty cache of `rows` sequences with room for `capacity` positions each.
    pub fn new(rows: usize, kv_heads: usize, capacity: usize, head_dim: usize) -> Self {
        Self { data: vec![0.; rows * kv_heads * capacity * head_dim], rows, kv_heads, capacity, head_dim }
    }

    /// Number of sequences, B.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of key-value heads, K.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Positions per row that fit without growing.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Width of a head, d.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }

    /// Positions `0..capacity` of one head of one row, `[capacity, d]`.
    pub fn head(&self, row: usize, kv_head: usize) -> &[f32] {
        let width = self.capacity * self.head_dim;
        let start = (row * self.kv_heads + kv_head) * width;
        &self.data[start..start + width]
    }

    /// Writes `new: [B, T, K, d]` behind the valid positions: row `i` of `new` goes to cache row `rows[i]` from position `at[i]`.
    ///
    /// Grows the cache when a row does not fit. Positions from `at[i]` on are overwritten, which is how a rejected
    /// continuation is taken back.
    ///
    /// # Errors
    /// When a shape, a row or the number of positions does not fit.
    pub fn append(&mut self, rows: &[usize], new: &Tensor, at: &[usize]) -> Result<()> {
        let &[b, t, kv_heads, d] = new.dims() else {
            bail!("KvSlab::append: argument `new`: expected shape [B, T, K, d], found {:?}", new.dims())
        };
        if (kv_heads, d) != (self.kv_heads, self.head_dim) {
            bail!("KvSlab::append: argument `new`: expected K={} and d={}, found {:?}", self.kv_heads, self.head_dim, new.dims());
        }
        if rows.len() != b || at.len() != b {
            bail!("KvSlab::append: expected {b} rows and positions, found {} and {}", rows.len(), at.len());
        }
        if let Some(row) = rows.iter().find(|&&row| row >= self.rows) {
            bail!("KvSlab::append: row {row} of a cache of {} rows", self.rows);
        }
        let needed = at.iter().max().map_or(0, |last| last + t);
        if needed > self.capacity {
            self.grow(needed.max(self.capacity * 2));
        }
        let values = crate::access::to_f32(new)?;
        for (i, (&row, &start)) in rows.iter().zip(at).enumerate() {
            for head in 0..kv_heads {
                let base = ((row * self.kv_heads + head) * self.capacity + start) * d;
                for (step, target) in self.data[base..base + t * d].chunks_exact_mut(d).enumerate() {
                    let from = ((i * t + step) * kv_heads + head) * d;
                    target.copy_from_slice(&values[from..from + d]);
                }
            }
        }
        Ok(())
    }

    /// Makes room for `capacity` positions per row.
    fn grow(&mut self, capacity: usize) {
        let (old, new) = (self.capacity * self.head_dim, capacity * self.head_dim);
        let mut data = vec![0.; self.rows * self.kv_heads * new];
        if old > 0 {
            for (target, source) in data.chunks_exact_mut(new).zip(self.data.chunks_exact(old)) {
                target[..old].copy_from_slice(source);
            }
        }
        self.data = data;
        self.capacity = capacity;
    }

    /// Each row `n` times in place, `[a, b] -> [a, a, b, b]`: one prompt shared by `n` continuations.
    pub fn repeat_rows(&mut self, n: usize) {
        let rows: Vec<usize> = (0..self.rows).flat_map(|row| std::iter::repeat_n(row, n)).collect();
        self.gather(&rows);
    }

    /// Keeps the given rows in the given order; a row may be taken more than once.
    ///
    /// # Errors
    /// When a row does not exist.
    pub fn select_rows(&mut self, rows: &[usize]) -> Result<()> {
        if let Some(row) = rows.iter().find(|&&row| row >= self.rows) {
            bail!("KvSlab::select_rows: row {row} of a cache of {} rows", self.rows);
        }
        self.gather(rows);
        Ok(())
    }

    fn gather(&mut self, rows: &[usize]) {
        let width = self.kv_heads * self.capacity * self.head_dim;
        let mut data = Vec::with_capacity(rows.len() * width);
        for &row in rows {
            data.extend_from_slice(&self.data[row * width..(row + 1) * width]);
        }
        self.data = data;
        self.rows = rows.len();
    }

    /// Gives memory beyond `length` positions per row back.
    pub fn truncate(&mut self, length: usize) {
        if length >= self.capacity {
            return;
        }
        let (old, new) = (self.capacity * self.head_dim, length * self.head_dim);
        let mut data = Vec::with_capacity(self.rows * self.kv_heads * new);
        if old > 0 {
            for head in self.data.chunks_exact(old) {
                data.extend_from_slice(&head[..new]);
            }
        }
        self.data = data;
        self.capacity = length;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// `[B, T, 1, 1]` holding the given numbers.
    fn column(values: &[f32], rows: usize) -> Tensor {
        Tensor::from_slice(values, (rows, values.len() / rows, 1, 1), &Device::Cpu).unwrap()
    }

    #[test]
    fn append_writes_behind_each_rows_own_length_and_grows() {
        let mut slab = KvSlab::new(2, 1, 1, 1);
        slab.append(&[0, 1], &column(&[1., 5.], 2), &[0, 0]).unwrap();
        slab.append(&[1], &column(&[6., 7.], 1), &[1]).unwrap();
        assert_eq!(slab.capacity(), 3);
        assert_eq!(slab.head(0, 0)[..1], [1.]);
        assert_eq!(slab.head(1, 0), [5., 6., 7.]);
    }

    #[test]
    fn heads_are_kept_apart() {
        let mut slab = KvSlab::new(1, 2, 2, 1);
        let new = Tensor::from_slice(&[1f32, 10., 2., 20.], (1, 2, 2, 1), &Device::Cpu).unwrap(); // [B, T, K, d]
        slab.append(&[0], &new, &[0]).unwrap();
        assert_eq!(slab.head(0, 0), [1., 2.]);
        assert_eq!(slab.head(0, 1), [10., 20.]);
    }

    #[test]
    fn rows_are_repeated_selected_and_cut() {
        let mut slab = KvSlab::new(2, 1, 2, 1);
        slab.append(&[0, 1], &column(&[1., 2., 3., 4.], 2), &[0, 0]).unwrap();
        slab.repeat_rows(2);
        assert_eq!((0..4).map(|row| slab.head(row, 0)[1]).collect::<Vec<_>>(), [2., 2., 4., 4.]);
        slab.select_rows(&[3, 0]).unwrap();
        assert_eq!((slab.head(0, 0), slab.head(1, 0)), (&[3., 4.][..], &[1., 2.][..]));
        slab.truncate(1);
        assert_eq!((slab.head(0, 0), slab.head(1, 0), slab.bytes()), (&[3.][..], &[1.][..], 8));
    }

    #[test]
    fn wrong_rows_and_shapes_are_refused() {
        let mut slab = KvSlab::new(1, 1, 1, 1);
        assert!(slab.append(&[1], &column(&[1.], 1), &[0]).is_err());
        assert!(slab.append(&[0], &column(&[1., 2.], 2), &[0]).is_err());
        assert!(slab.select_rows(&[1]).is_err());
    }
}
