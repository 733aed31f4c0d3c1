//! Attention of runs of new tokens, each behind a chain of cached pieces that other runs may share. Forward only.
//!
//! ```text
//! few-shot block ─┬─ question 1 ─┬─ " A"        a piece per box, held once
//!                 │              └─ " B"        run " A": before = [block, question 1], own = " A"
//!                 └─ question 2                 position p of a run attends to all of `before` and to `own` up to itself
//! ```
//! The new tokens of all runs lie packed behind each other, so no position is padding. Runs that stand side by side with the same
//! chain are taken together: their queries meet the shared keys in one product, which for decoding reads them once for the whole batch.
//!
//! Sums run in the order of positions whatever the pieces are, so the bits of a run's result depend neither on its neighbours nor on how its
//! past was cut into pieces.
use candle_core::{Result, Tensor, bail};

use crate::access::F32Ref;
use crate::element::{in_f32, output, tensor};
use crate::fused::softmax_rows;
use crate::gemm::panel::{self, COLUMNS, Tile};
use crate::parallel::{self, Disjoint};
use crate::simd::LANES;

/// Rows of scores of one task.
const ROWS: usize = 6 * panel::ROWS;

/// Keys and values of a stretch of one sequence in one layer, in f32 and in the order in which products read them.
///
/// ```text
/// keys: [K, capacity / 32, d, 32]        values: [K, capacity, ⌈d⌉ to a multiple of 16]
/// ```
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
        let mut piece = Self { keys: Vec::new(), values: Vec::new(), kv_heads, head_dim, capacity: 0, len: 0 };
        piece.grow(capacity);
        piece
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

    /// Copies of the keys and values of one head, `[len, d]` each, for attention that the products below do not cover.
    pub fn head_parts(&self, head: usize) -> (Vec<f32>, Vec<f32>) {
        let (d, width) = (self.head_dim, self.value_width());
        let key = |at: usize| (head * self.capacity + at / COLUMNS * COLUMNS) * d + at % COLUMNS;
        let keys = (0..self.len).flat_map(|at| self.keys[key(at)..].iter().step_by(COLUMNS).take(d)).copied().collect();
        let value = |at: usize| (head * self.capacity + at) * width;
        let values = (0..self.len).flat_map(|at| &self.values[value(at)..value(at) + d]).copied().collect();
        (keys, values)
    }

    /// Width of a row of values.
    fn value_width(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Appends positions given as `[T, K, d]`.
    fn append(&mut self, keys: &[f32], values: &[f32]) {
        let (width, d) = (self.kv_heads * self.head_dim, self.head_dim);
        let new = keys.len() / width;
        if self.len + new > self.capacity {
            self.grow((self.len + new).max(2 * self.capacity));
        }
        let value_width = self.value_width();
        for (step, (keys, values)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            let at = self.len + step;
            for (head, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
                let panel = (head * self.capacity + at / COLUMNS * COLUMNS) * d + at % COLUMNS;
                self.keys[panel..].iter_mut().step_by(COLUMNS).zip(key).for_each(|(to, from)| *to = *from);
                let start = (head * self.capacity + at) * value_width;
                self.values[start..start + d].copy_from_slice(value);
            }
        }
        self.len += new;
    }

    /// Makes room for `capacity` positions, rounded up to whole panels.
    fn grow(&mut self, capacity: usize) {
        let capacity = capacity.next_multiple_of(COLUMNS);
        let old = self.capacity;
        for (data, width) in [(&mut self.keys, self.head_dim), (&mut self.values, self.head_dim.next_multiple_of(LANES))] {
            let mut grown = vec![0.; self.kv_heads * capacity * width];
            if old > 0 {
                for (to, from) in grown.chunks_exact_mut(capacity * width).zip(data.chunks_exact(old * width)) {
                    to[..from.len()].copy_from_slice(from);
                }
            }
            *data = grown;
        }
        self.capacity = capacity;
    }

    /// `scores[r, ..len] = queries[r]·keysᵀ` of one head for a block of queries `[d, 12]`. Whole panels are written: up to 31 columns more.
    fn scores(&self, head: usize, len: usize, block: &[f32], rows: usize, scores: &mut [f32], stride: usize) {
        if len == 0 {
            return;
        }
        let d = self.head_dim;
        let keys = &self.keys[head * self.capacity * d..(head + 1) * self.capacity * d];
        let width = len.next_multiple_of(COLUMNS);
        let tile = Tile { rows, width, k: d, panel: COLUMNS * d, b_stride: COLUMNS, c_stride: stride, adding: false };
        panel::multiply(tile, block, keys, scores);
    }

    /// `result[r, :] += Σₗ weights[l, r]·values[l, :]` of one head for a block of weights `[len, 12]`.
    fn add_weighted(&self, head: usize, len: usize, block: &[f32], rows: usize, result: &mut [f32]) {
        if len == 0 {
            return;
        }
        let width = self.value_width();
        let values = &self.values[head * self.capacity * width..(head * self.capacity + len) * width];
        let tile = Tile { rows, width, k: len, panel: COLUMNS, b_stride: width, c_stride: width, adding: true };
        panel::multiply(tile, block, values, result);
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
    let (keys, values) = (in_f32(&keys.detach())?, in_f32(&values.detach())?);
    let (keys, values) = (F32Ref::new(&keys)?, F32Ref::new(&values)?);
    let mut at = 0;
    for (piece, count) in pieces {
        let end = at + *count * kv_heads * d;
        piece.append(&keys[at..end], &values[at..end]);
        at = end;
    }
    Ok(())
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
    let Some(first) = runs.first() else {
        if n > 0 {
            bail!("attention_runs: argument `q`: expected no rows for no runs, found {:?}", q.dims());
        }
        return in_f32(&q.detach());
    };
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
    let q = in_f32(&q.detach())?;
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
        let mut queries = Vec::with_capacity(rows * d);
        positions.clone().for_each(|p| queries.extend_from_slice(&self.q[start(p)..start(p) + group * d]));
        for q in &mut queries {
            *q *= self.scale;
        }
        let before = task.parts.first().map_or(&[][..], |part| part.run.before.as_slice());
        let past: usize = before.iter().map(|piece| piece.len).sum();
        // A panel may write past the last key of its piece: the next piece, the softmax or nobody's columns come after it.
        let width = past + task.parts.iter().map(Part::visible).max().unwrap_or(0);
        let stride = width + COLUMNS;
        let value_width = d.next_multiple_of(LANES);
        let mut scores = output(rows * stride);
        let mut result = vec![0.; rows * value_width];
        let mut packed = Vec::new();

        panel::blocks(&queries, d, rows, d, &mut packed);
        for (block, queries) in packed.chunks_exact(panel::ROWS * d).enumerate() {
            let (row, count) = (block * panel::ROWS, panel::ROWS.min(rows - block * panel::ROWS));
            let mut column = row * stride;
            for piece in before {
                piece.scores(kv_head, piece.len, queries, count, &mut scores[column..], stride);
                column += piece.len;
            }
        }
        let mut row = 0;
        let mut log_sums = Vec::new();
        for part in &task.parts {
            let own_rows = part.count * group;
            panel::blocks(&queries[row * d..(row + own_rows) * d], d, own_rows, d, &mut packed);
            for (block, queries) in packed.chunks_exact(panel::ROWS * d).enumerate() {
                let (first, count) = (row + block * panel::ROWS, panel::ROWS.min(own_rows - block * panel::ROWS));
                part.run.own.scores(kv_head, part.visible(), queries, count, &mut scores[first * stride + past..], stride);
            }
            let seen = past + part.run.own.len - part.run.new_tok + part.first;
            log_sums.resize(own_rows, 0.);
            softmax_rows(&mut scores[row * stride..(row + own_rows) * stride], stride, seen, group, &mut log_sums);
            row += own_rows;
        }

        for row in (0..rows).step_by(panel::ROWS) {
            let count = panel::ROWS.min(rows - row);
            let mut column = row * stride;
            for piece in before {
                panel::blocks(&scores[column..], stride, count, piece.len, &mut packed);
                piece.add_weighted(kv_head, piece.len, &packed, count, &mut result[row * value_width..]);
                column += piece.len;
            }
        }
        let mut row = 0;
        for part in &task.parts {
            let own_rows = part.count * group;
            for first in (row..row + own_rows).step_by(panel::ROWS) {
                let count = panel::ROWS.min(row + own_rows - first);
                panel::blocks(&scores[first * stride + past..], stride, count, part.visible(), &mut packed);
                part.run.own.add_weighted(kv_head, part.visible(), &packed, count, &mut result[first * value_width..]);
            }
            row += own_rows;
        }
        for (position, result) in positions.zip(result.chunks_exact(group * value_width)) {
            for (head, result) in result.chunks_exact(value_width).enumerate() {
                let at = start(position) + head * d;
                // SAFETY: this group's heads of this position belong to this task.
                unsafe { self.o.range(at, at + d) }.copy_from_slice(&result[..d]);
            }
        }
    }
}

impl Part<'_> {
    /// Own positions that its last token sees.
    fn visible(&self) -> usize {
        self.run.own.len - self.run.new_tok + self.first + self.count
    }
}
