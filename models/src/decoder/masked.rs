//! Attention with a window or capped scores: what the fused kernels do not have.
//!
//! ```text
//! s = c·tanh(q·kᵀ·scale / c)      position p sees max(0, p − window + 1) ..= p      y = softmax(s)·v
//! ```
//! [`composed`] is differentiable; [`attend_pieces`] reads cached keys and values where they lie. Layers whose window covers
//! everything and whose scores are not capped never come here.

use std::borrow::Cow;

use candle_core::{D, DType, Result, Tensor};

/// How scores are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scores {
    pub(crate) scale: f64,
    pub(crate) softcap: Option<f64>,
    pub(crate) window: Option<usize>,
}

impl Scores {
    /// Whether the fused kernels give the same for sequences of up to `length` positions.
    pub(crate) fn is_plain(&self, length: usize) -> bool {
        self.softcap.is_none() && self.window.is_none_or(|window| window >= length)
    }
}

/// Causal attention of whole sequences in candle's operations: `q` `[B, T, H, d]`, `k` and `v` `[B, T, K, d]` to `[B, T, H, d]`.
pub(crate) fn composed(q: &Tensor, k: &Tensor, v: &Tensor, scores: Scores) -> Result<Tensor> {
    let (batch, length, heads, d) = q.dims4()?;
    let groups = heads / k.dim(2)?;
    let by_head = |x: &Tensor| -> Result<Tensor> {
        let x = x.transpose(1, 2)?.unsqueeze(2)?; // [B, K, 1, T, d]
        x.broadcast_as((batch, heads / groups, groups, length, d))?.contiguous()?.reshape((batch, heads, length, d))
    };
    let (k, v) = (by_head(k)?, by_head(v)?);
    let mut s = (q.transpose(1, 2)?.contiguous()?.matmul(&k.t()?.contiguous()?)? * scores.scale)?; // [B, H, T, T]
    if let Some(cap) = scores.softcap {
        s = ((s / cap)?.tanh()? * cap)?;
    }
    let window = scores.window.unwrap_or(length);
    let seen = |p: usize| (0..length).map(move |at| if at <= p && at + window > p { 0.0 } else { f32::NEG_INFINITY });
    let mask: Vec<f32> = (0..length).flat_map(seen).collect();
    let mask = Tensor::from_vec(mask, (length, length), q.device())?.to_dtype(s.dtype())?;
    let s = s.broadcast_add(&mask)?;
    let e = s.broadcast_sub(&s.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let weights = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&v)?.transpose(1, 2)?.contiguous()
}

/// Keys and values of one head, `[len, d]` each.
pub(crate) type Head<'a> = (Cow<'a, [f32]>, Cow<'a, [f32]>);

/// One sequence's new queries and everything they may see.
pub(crate) struct Sequence<'a> {
    /// Keys and values `[len, d]` of each key/value head, piece after piece from position 0.
    pub(crate) pieces: Vec<Vec<Head<'a>>>,
    /// Position of the first query.
    pub(crate) past: usize,
    /// Queries.
    pub(crate) new_tok: usize,
}

/// Attention of packed queries `[N, H, d]`, sequence after sequence, over cached keys and values; forward only, f32 inside.
pub(crate) fn attend_pieces(q: &Tensor, sequences: &[Sequence<'_>], scores: Scores) -> Result<Tensor> {
    let (n, heads, d) = q.dims3()?;
    let queries: Vec<f32> = q.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let mut out = vec![0f32; queries.len()];
    let mut first = 0;
    for sequence in sequences {
        for step in 0..sequence.new_tok {
            for head in 0..heads {
                let at = ((first + step) * heads + head) * d;
                attend_one(&queries[at..at + d], &mut out[at..at + d], sequence, step, head, heads, scores);
            }
        }
        first += sequence.new_tok;
    }
    Tensor::from_vec(out, (n, heads, d), q.device())?.to_dtype(q.dtype())
}

/// One query of one head: scores of what it sees, then the weighted sum, into `out` (zeros).
fn attend_one(q: &[f32], out: &mut [f32], sequence: &Sequence<'_>, step: usize, head: usize, heads: usize, scores: Scores) {
    let d = q.len();
    let end = sequence.past + step + 1;
    let begin = scores.window.map_or(0, |window| end.saturating_sub(window));
    // What each piece holds of begin..end, as ranges within the piece.
    let mut parts = Vec::with_capacity(sequence.pieces.len());
    let mut start = 0;
    for piece in &sequence.pieces {
        let (keys, values) = &piece[head * piece.len() / heads];
        let len = keys.len() / d;
        let (from, to) = (begin.saturating_sub(start).min(len), end.saturating_sub(start).min(len));
        parts.push((&keys[from * d..to * d], &values[from * d..to * d]));
        start += len;
    }
    let (scale, cap) = (scores.scale as f32, scores.softcap.map(|cap| cap as f32));
    let mut weights = Vec::with_capacity(end - begin);
    for key in parts.iter().flat_map(|(keys, _)| keys.chunks_exact(d)) {
        let score = dot(q, key) * scale;
        weights.push(cap.map_or(score, |cap| (score / cap).tanh() * cap));
    }
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f32;
    for weight in &mut weights {
        *weight = (*weight - largest).exp();
        sum += *weight;
    }
    for (value, weight) in parts.iter().flat_map(|(_, values)| values.chunks_exact(d)).zip(&weights) {
        let weight = weight / sum;
        out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
    }
}

/// Eight sums side by side, so that the loop vectorises.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let mut sum: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    let mut lanes = [0f32; 8];
    for (a, b) in a8.zip(b8) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    sum += lanes.iter().sum::<f32>();
    sum
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Deterministic values in about −1..1.
    fn noise(shape: (usize, usize, usize, usize), salt: usize) -> Tensor {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let values: Vec<f32> = (0..count).map(|i| ((i * 37 + salt * 101) as f32 * 0.7).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn apart(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn without_cap_and_window_it_is_the_fused_attention() {
        let (q, k, v) = (noise((2, 7, 4, 6), 1), noise((2, 7, 2, 6), 2), noise((2, 7, 2, 6), 3));
        let scores = Scores { scale: 0.4, softcap: None, window: None };
        let fused = kernels::causal_attention(&q, &k, &v, 0.4).unwrap();
        assert!(apart(&composed(&q, &k, &v, scores).unwrap(), &fused) < 1e-6);
    }

    #[test]
    fn a_window_of_one_returns_the_own_value() {
        let (q, k, v) = (noise((1, 5, 2, 4), 1), noise((1, 5, 2, 4), 2), noise((1, 5, 2, 4), 3));
        let scores = Scores { scale: 1.0, softcap: Some(2.0), window: Some(1) };
        assert!(apart(&composed(&q, &k, &v, scores).unwrap(), &v) < 1e-6);
    }

    #[test]
    fn cached_pieces_give_what_whole_sequences_give() {
        let (length, kv_heads, d) = (9, 2, 6);
        let (q, k, v) = (noise((1, length, 4, d), 1), noise((1, length, kv_heads, d), 2), noise((1, length, kv_heads, d), 3));
        let head = |x: &Tensor, head: usize, from: usize, to: usize| -> Vec<f32> {
            x.narrow(2, head, 1).unwrap().narrow(1, from, to - from).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        for scores in [
            Scores { scale: 0.7, softcap: Some(1.5), window: None },
            Scores { scale: 0.7, softcap: None, window: Some(3) },
            Scores { scale: 0.7, softcap: Some(1.5), window: Some(4) },
        ] {
            let whole = composed(&q, &k, &v, scores).unwrap();
            // Positions 0..5 lie in one piece, the rest in another; queries 6.. are new.
            let data: Vec<Vec<(Vec<f32>, Vec<f32>)>> = [(0, 5), (5, length)]
                .iter()
                .map(|&(from, to)| (0..kv_heads).map(|h| (head(&k, h, from, to), head(&v, h, from, to))).collect())
                .collect();
            let pieces = data
                .iter()
                .map(|piece| piece.iter().map(|(k, v)| (k.as_slice().into(), v.as_slice().into())).collect())
                .collect();
            let new = q.narrow(1, 6, 3).unwrap().squeeze(0).unwrap();
            let found = attend_pieces(&new, &[Sequence { pieces, past: 6, new_tok: 3 }], scores).unwrap();
            assert!(apart(&found, &whole.narrow(1, 6, 3).unwrap().squeeze(0).unwrap()) < 1e-6, "{scores:?}");
        }
    }
}
