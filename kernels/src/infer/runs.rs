//! Attention of runs of new tokens, each behind a chain of cached pieces that other runs may share. Forward only.
//!
//! ```text
//! few-shot block ─┬─ question 1 ─┬─ " A"        a piece per box, held once
//!                 │              └─ " B"        run " A": before = [block, question 1], own = " A"
//!                 └─ question 2                 position p of a run attends to all of `before` and to `own` up to itself
//! ```
//! The new tokens of all runs lie packed behind each other, so no position is padding. Runs that stand side by side with the same
//! chain are taken together: their queries meet the shared keys in one product, which for decoding reads them once for the whole batch.
use candle_core::{Result, Tensor, bail};

use crate::access::{F32Ref, output, tensor};
use crate::fused::softmax_rows;
use crate::gemm::{Operand, Product, skinny};
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, multiversion};

/// Rows of scores of one task.
const ROWS: usize = 64;
/// Rows up to which sums over the values beat a packed product.
const FEW: usize = 8;

/// Keys and values of a stretch of one sequence in one layer, `[K, capacity, d]` each in f32.
#[derive(Clone, Debug)]
pub struct KvPiece {
    keys: Vec<f32>,
    values: Vec<f32>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
}

impl KvPiece {
    /// An empty piece with room for `capacity` positions; it grows when that is too little.
    pub fn new(kv_heads: usize, capacity: usize, head_dim: usize) -> Self {
        let room = || vec![0.; kv_heads * capacity * head_dim];
        Self { keys: room(), values: room(), kv_heads, head_dim, capacity, len: 0 }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the keys and values, free room included.
    pub fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<f32>()
    }

    /// Key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Keys and values of one head, `[len, d]` each.
    pub fn head_parts(&self, head: usize) -> (&[f32], &[f32]) {
        (self.head(&self.keys, head, self.len), self.head(&self.values, head, self.len))
    }

    /// Appends positions given as `[T, K, d]`.
    fn append(&mut self, keys: &[f32], values: &[f32]) {
        let width = self.kv_heads * self.head_dim;
        let new = keys.len() / width;
        if self.len + new > self.capacity {
            self.grow((self.len + new).max(2 * self.capacity));
        }
        for (data, new) in [(&mut self.keys, keys), (&mut self.values, values)] {
            for (step, position) in new.chunks_exact(width).enumerate() {
                for (head, from) in position.chunks_exact(self.head_dim).enumerate() {
                    let at = (head * self.capacity + self.len + step) * self.head_dim;
                    data[at..at + self.head_dim].copy_from_slice(from);
                }
            }
        }
        self.len += new;
    }

    fn grow(&mut self, capacity: usize) {
        for data in [&mut self.keys, &mut self.values] {
            let mut grown = vec![0.; self.kv_heads * capacity * self.head_dim];
            let held = self.len * self.head_dim;
            for head in 0..self.kv_heads {
                let (to, from) = (head * capacity * self.head_dim, head * self.capacity * self.head_dim);
                grown[to..to + held].copy_from_slice(&data[from..from + held]);
            }
            *data = grown;
        }
        self.capacity = capacity;
    }

    /// The first `len` positions of one head, `[len, d]`.
    fn head<'a>(&self, data: &'a [f32], head: usize, len: usize) -> &'a [f32] {
        let start = head * self.capacity * self.head_dim;
        &data[start..start + len * self.head_dim]
    }
}

/// One run: where its new tokens stand.
#[derive(Clone, Debug)]
pub struct AttentionRun<'a> {
    /// Pieces before `own`, the oldest first.
    pub before: Vec<&'a KvPiece>,
    /// The piece that ends in the new tokens.
    pub own: &'a KvPiece,
    /// How many of its last positions are new.
    pub new_tok: usize,
}

/// Appends the new keys and values of packed runs to their pieces: `count` positions each.
///
/// - Shape: `keys` and `values` are `[N, K, d]`, N the sum of the counts.
///
/// # Errors
/// When the shapes do not fit.
pub fn append_runs(keys: &Tensor, values: &Tensor, pieces: &mut [(&mut KvPiece, usize)]) -> Result<()> {
    let (n, kv_heads, d) = keys.dims3()?;
    let total: usize = pieces.iter().map(|(_, count)| count).sum();
    if values.dims() != keys.dims() || total != n {
        bail!(
            "append_runs: expected keys and values of {total} positions, found shapes {:?} and {:?}",
            keys.dims(),
            values.dims()
        );
    }
    if let Some((piece, _)) = pieces.iter().find(|(piece, _)| (piece.kv_heads, piece.head_dim) != (kv_heads, d)) {
        bail!("append_runs: expected K={} and d={}, found {:?}", piece.kv_heads, piece.head_dim, keys.dims());
    }
    let (keys, values) = (as_f32(keys)?, as_f32(values)?);
    let (keys, values) = (F32Ref::new(&keys)?, F32Ref::new(&values)?);
    let mut at = 0;
    for (piece, count) in pieces {
        let end = at + *count * kv_heads * d;
        piece.append(&keys[at..end], &values[at..end]);
        at = end;
    }
    Ok(())
}

fn as_f32(t: &Tensor) -> Result<Tensor> {
    t.detach().to_dtype(candle_core::DType::F32)?.contiguous()
}

/// Attention of the new tokens of packed runs, whose keys and values [`append_runs`] has appended.
///
/// - Shape: `q` is `[N, H, d]` with H a multiple of the pieces' K; the output is `[N, H, d]` f32.
/// - Agrees with [`crate::causal_attention`] over each run's whole sequence to rounding. No backward.
///
/// # Errors
/// When the shapes do not fit.
pub fn attention_runs(q: &Tensor, runs: &[AttentionRun<'_>], scale: f64) -> Result<Tensor> {
    let (n, heads, d) = q.dims3()?;
    let total: usize = runs.iter().map(|run| run.new_tok).sum();
    let Some(first) = runs.first() else { return q.to_dtype(candle_core::DType::F32) };
    let kv_heads = first.own.kv_heads;
    let pieces = || runs.iter().flat_map(|run| run.before.iter().copied().chain([run.own]));
    let fits = total == n && kv_heads > 0 && heads % kv_heads == 0;
    if !fits || pieces().any(|piece| (piece.kv_heads, piece.head_dim) != (kv_heads, d)) {
        bail!(
            "attention_runs: argument `q`: expected [{total}, a multiple of {kv_heads}, {}], found {:?}",
            first.own.head_dim,
            q.dims()
        );
    }
    if let Some(run) = runs.iter().find(|run| run.new_tok > run.own.len) {
        bail!("attention_runs: expected {} new positions in a run's own piece, found {}", run.new_tok, run.own.len);
    }
    let group = heads / kv_heads;
    let (tasks, work) = tasks(runs, (ROWS / group).max(1));
    let q = as_f32(q)?;
    let q = F32Ref::new(&q)?;
    let mut o = output(q.len());
    let call = Call { q: &q, heads, group, d, scale: scale as f32, o: Disjoint::new(&mut o) };
    // A head's tasks stand together, so that its part of a shared piece is still in the cache for the next task.
    parallel::for_each(tasks.len() * kv_heads, work * heads * d / 4, |at| {
        call.task(&tasks[at % tasks.len()], at / tasks.len());
    });
    tensor(o, &[n, heads, d])
}

/// New tokens of one run that a task takes.
struct Part<'a> {
    run: &'a AttentionRun<'a>,
    /// Number of the first of them among the run's new tokens.
    first: usize,
    count: usize,
}

/// Packed positions from `start` on, of runs with one chain.
struct Task<'a> {
    start: usize,
    parts: Vec<Part<'a>>,
}

/// Cuts packed runs into tasks of at most `positions` tokens that share a chain; also the number of query-key pairs.
fn tasks<'a>(runs: &'a [AttentionRun<'a>], positions: usize) -> (Vec<Task<'a>>, usize) {
    let mut tasks: Vec<Task<'a>> = Vec::new();
    let (mut start, mut room, mut work) = (0, 0, 0);
    let mut chain: Option<&[&KvPiece]> = None;
    for run in runs {
        let same = chain.is_some_and(|chain| {
            chain.len() == run.before.len() && chain.iter().zip(&run.before).all(|(a, b)| std::ptr::eq(*a, *b))
        });
        if !same {
            room = 0;
            chain = Some(&run.before);
        }
        work += run.new_tok * (run.own.len + run.before.iter().map(|piece| piece.len).sum::<usize>());
        let mut first = 0;
        while first < run.new_tok {
            if room == 0 {
                tasks.push(Task { start, parts: Vec::new() });
                room = positions;
            }
            let count = room.min(run.new_tok - first);
            if let Some(task) = tasks.last_mut() {
                task.parts.push(Part { run, first, count });
            }
            (first, start, room) = (first + count, start + count, room - count);
        }
    }
    (tasks, work)
}

struct Call<'a> {
    /// `[N, H, d]`
    q: &'a [f32],
    heads: usize,
    /// Query heads per key-value head.
    group: usize,
    d: usize,
    scale: f32,
    /// `[N, H, d]`
    o: Disjoint<'a, f32>,
}

impl Call<'_> {
    fn task(&self, task: &Task<'_>, kv_head: usize) {
        let (d, group) = (self.d, self.group);
        let count: usize = task.parts.iter().map(|part| part.count).sum();
        let rows = count * group;
        let start = |position: usize| (position * self.heads + kv_head * group) * d;
        let positions = task.start..task.start + count;
        // the group's queries of a position are neighbours: [positions·group, d]
        let queries: Vec<f32> =
            positions.clone().flat_map(|p| &self.q[start(p)..start(p) + group * d]).map(|q| q * self.scale).collect();
        let before = task.parts.first().map_or(&[][..], |part| part.run.before.as_slice());
        let past: usize = before.iter().map(|piece| piece.len).sum();
        let width = past + task.parts.iter().map(Part::visible).max().unwrap_or(0);
        let mut scores = output(rows * width);
        let mut result = output(rows * d);
        let mut scratch = Vec::new();

        let mut column = 0;
        for piece in before {
            let keys = piece.head(&piece.keys, kv_head, piece.len);
            products(&queries, keys, d, &mut scores[column..], width, &mut scratch);
            column += piece.len;
        }
        let mut row = 0;
        for part in &task.parts {
            let own = part.run.own;
            let (own_rows, keys) = (part.count * group, own.head(&own.keys, kv_head, part.visible()));
            products(&queries[row * d..(row + own_rows) * d], keys, d, &mut scores[row * width + past..], width, &mut scratch);
            let seen = past + own.len - part.run.new_tok + part.first;
            scratch.resize(own_rows, 0.);
            softmax_rows(&mut scores[row * width..(row + own_rows) * width], width, seen, group, &mut scratch);
            row += own_rows;
        }

        let mut column = 0;
        for piece in before {
            let values = piece.head(&piece.values, kv_head, piece.len);
            weighted(&scores[column..], width, values, d, &mut result, column > 0);
            column += piece.len;
        }
        let mut row = 0;
        for part in &task.parts {
            let own = part.run.own;
            let (own_rows, values) = (part.count * group, own.head(&own.values, kv_head, part.visible()));
            let result = &mut result[row * d..(row + own_rows) * d];
            weighted(&scores[row * width + past..], width, values, d, result, past > 0);
            row += own_rows;
        }
        for (position, result) in positions.zip(result.chunks_exact(group * d)) {
            // SAFETY: this group's heads of this position belong to this task.
            unsafe { self.o.range(start(position), start(position) + group * d) }.copy_from_slice(result);
        }
    }
}

impl Part<'_> {
    /// Own positions that its last token sees.
    fn visible(&self) -> usize {
        self.run.own.len - self.run.new_tok + self.first + self.count
    }
}

/// `scores[r, ..] = queries[r] · keysᵀ`, rows of the result `width` apart.
fn products(queries: &[f32], keys: &[f32], d: usize, scores: &mut [f32], width: usize, scratch: &mut Vec<f32>) {
    let (rows, len) = (queries.len() / d, keys.len() / d);
    if len == 0 || rows == 0 {
        return;
    }
    if !skinny::is_faster(rows, keys.len()) {
        return Product::new(rows, len, d).one_thread().into(
            Operand::rows(queries, d),
            Operand::rows(keys, d).t(),
            scores,
            width,
        );
    }
    scratch.resize(rows * len, 0.);
    skinny::product_one_thread(queries, keys, &mut scratch[..rows * len], d);
    for (to, from) in scores.chunks_mut(width).zip(scratch.chunks_exact(len)) {
        to[..len].copy_from_slice(from);
    }
}

/// `result[r, :] (+)= Σₗ weights[r, l]·values[l, :]`, rows of the weights `width` apart.
fn weighted(weights: &[f32], width: usize, values: &[f32], d: usize, result: &mut [f32], adding: bool) {
    let (rows, len) = (result.len() / d, values.len() / d);
    if len == 0 {
        return;
    }
    if rows > FEW {
        let product = Product::new(rows, d, len).one_thread();
        let product = if adding { product.adding() } else { product };
        return product.into(Operand::rows(weights, width), Operand::rows(values, d), result, d);
    }
    if !adding {
        result.fill(0.);
    }
    for (row, result) in result.chunks_exact_mut(d).enumerate() {
        add_weighted_rows(&weights[row * width..row * width + len], values, result);
    }
}

multiversion! {
    /// `result += Σₗ weights[l]·values[l, :]`.
    fn add_weighted_rows<S>(weights: &[f32], values: &[f32], result: &mut [f32]) {
        let d = result.len();
        let mut column = 0;
        while column + 64 <= d {
            add_columns::<S, 64>(weights, values, column, result);
            column += 64;
        }
        while column + 16 <= d {
            add_columns::<S, 16>(weights, values, column, result);
            column += 16;
        }
        while column < d {
            add_columns::<S, 1>(weights, values, column, result);
            column += 1;
        }
    }
}

/// [`add_weighted_rows`] for `N` columns held in registers.
#[inline(always)]
fn add_columns<S: Isa, const N: usize>(weights: &[f32], values: &[f32], column: usize, result: &mut [f32]) {
    let mut sums = [0f32; N];
    sums.copy_from_slice(&result[column..column + N]);
    for (&weight, value) in weights.iter().zip(values.chunks_exact(result.len())) {
        for (sum, &v) in sums.iter_mut().zip(&value[column..column + N]) {
            *sum = S::fma(weight, v, *sum);
        }
    }
    result[column..column + N].copy_from_slice(&sums);
}
