//! Keys and values of every layer for a batch of sequences, each row with its own length.
//!
//! An evaluator runs a shared prefix once (one row), repeats that row for n continuations and runs only those. New
//! tokens are right-padded to a common width; what padding wrote lies behind a row's length and is overwritten by the
//! row's next tokens. LAuReL adds nothing here: PA's history is earlier *layers* at the same positions.
//!
//! ```text
//! layer i: keys, values  [B, K, capacity, d] in f32      lengths: [B]
//! ```

use candle_core::{DType, Result, Tensor, bail};
use kernels::KvSlab;

use super::attention::Cached;
use super::config::DecoderConfig;
use super::masked::{self, Scores, Sequence};

/// Cached keys and values.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<(KvSlab, KvSlab)>,
    lengths: Vec<usize>,
    max_position_embeddings: usize,
}

/// The cache during a forward pass.
pub(crate) struct CachePass<'a> {
    layers: &'a mut [(KvSlab, KvSlab)],
    rows: Vec<usize>,
    past: &'a [usize],
}

impl KvCache {
    /// An empty cache for `batch` sequences with room for `capacity` positions each; it grows when that is too little.
    pub fn new(config: &DecoderConfig, batch: usize, capacity: usize) -> Self {
        let capacity = capacity.min(config.max_position_embeddings);
        let slab = |capacity| KvSlab::new(batch, config.num_key_value_heads, capacity, config.head_dim());
        // A layer that reads another's keys and values holds none.
        let room = |layer| if config.key_value_layer(layer) == layer { capacity } else { 0 };
        Self {
            layers: (0..config.num_layers()).map(|layer| (slab(room(layer)), slab(room(layer)))).collect(),
            lengths: vec![0; batch],
            max_position_embeddings: config.max_position_embeddings,
        }
    }

    /// Cached positions of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Sequences in the batch.
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }

    /// Bytes held by keys and values.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|(keys, values)| keys.bytes() + values.bytes()).sum()
    }

    /// Each row `n` times in place, `[a, b] -> [a, a, b, b]`.
    pub fn repeat_rows(&mut self, n: usize) {
        for (keys, values) in &mut self.layers {
            keys.repeat_rows(n);
            values.repeat_rows(n);
        }
        self.lengths = self.lengths.iter().flat_map(|&length| std::iter::repeat_n(length, n)).collect();
    }

    /// Keeps the given rows in the given order; a row may come more than once.
    ///
    /// # Errors
    /// When a row does not exist; the cache is then unchanged.
    pub fn select_rows(&mut self, rows: &[usize]) -> Result<()> {
        if let Some(row) = rows.iter().find(|&&row| row >= self.batch()) {
            bail!("cannot select row {row} of a cache of {} rows", self.batch());
        }
        for (keys, values) in &mut self.layers {
            keys.select_rows(rows)?;
            values.select_rows(rows)?;
        }
        self.lengths = rows.iter().map(|&row| self.lengths[row]).collect();
        Ok(())
    }

    /// Forgets the positions of each row from `lengths[row]` on; the memory is kept for what follows.
    ///
    /// # Errors
    /// When the number of rows differs or a row is shorter than asked.
    pub fn truncate(&mut self, lengths: &[usize]) -> Result<()> {
        if lengths.len() != self.batch() {
            bail!("cannot truncate a cache of {} rows: found {} lengths", self.batch(), lengths.len());
        }
        if let Some(row) = (0..lengths.len()).find(|&row| lengths[row] > self.lengths[row]) {
            bail!("cannot truncate row {row} to {} positions: it holds {}", lengths[row], self.lengths[row]);
        }
        self.lengths.copy_from_slice(lengths);
        Ok(())
    }

    /// Checks one forward pass of `new_tok` columns, of which `lens[b]` are valid in row b.
    pub(crate) fn check(&self, batch: usize, new_tok: usize, lens: &[usize]) -> Result<()> {
        if batch != self.batch() || lens.len() != batch {
            bail!("cached forward: expected {} rows, found {batch} rows of ids and {} lengths", self.batch(), lens.len());
        }
        for (row, (&past, &len)) in self.lengths.iter().zip(lens).enumerate() {
            if len > new_tok {
                bail!("cached forward: row {row}: expected at most {new_tok} new tokens, found a length of {len}");
            }
            if past + len > self.max_position_embeddings {
                bail!(
                    "cached forward: row {row}: expected at most {} positions (max_position_embeddings), found {past} cached and {len} new",
                    self.max_position_embeddings
                );
            }
        }
        Ok(())
    }

    /// A forward pass of every row behind `past` positions.
    pub(crate) fn pass<'a>(&'a mut self, past: &'a [usize]) -> CachePass<'a> {
        CachePass { rows: (0..past.len()).collect(), layers: &mut self.layers, past }
    }

    pub(crate) fn advance(&mut self, lens: &[usize]) {
        for (length, new) in self.lengths.iter_mut().zip(lens) {
            *length += new;
        }
    }
}

impl Cached for CachePass<'_> {
    fn attend(&mut self, layer: usize, q: &Tensor, new: Option<(&Tensor, &Tensor)>, scores: Scores) -> Result<Tensor> {
        let (keys, values) = &mut self.layers[layer];
        if let Some((k, v)) = new {
            keys.append(&self.rows, k, self.past)?;
            values.append(&self.rows, v, self.past)?;
        }
        let (batch, new_tok, heads, d) = q.dims4()?;
        let longest = self.past.iter().max().map_or(0, |past| past + new_tok);
        if scores.is_plain(longest) {
            if let Some((k, v)) = new
                && q.dtype() == DType::BF16
                && new_tok > 1
                && self.past.iter().all(|&past| past == 0)
            {
                return kernels::causal_attention(q, k, v, scores.scale); // a prompt: nothing but new positions, in bf16 products
            }
            return kernels::cast(&kernels::attention_cached(q, keys, values, self.past, scores.scale)?, q.dtype());
        }
        let sequences: Vec<Sequence<'_>> = self
            .past
            .iter()
            .enumerate()
            .map(|(row, &past)| {
                let held = (past + new_tok) * d;
                let piece =
                    (0..keys.kv_heads()).map(|head| (keys.head(row, head)[..held].into(), values.head(row, head)[..held].into()));
                Sequence { pieces: vec![piece.collect()], past, new_tok }
            })
            .collect();
        let packed = q.reshape((batch * new_tok, heads, d))?;
        masked::attend_pieces(&packed, &sequences, scores)?.reshape((batch, new_tok, heads, d))
    }
}
