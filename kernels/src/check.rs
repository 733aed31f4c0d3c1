//! Shape checks shared by the fused operations and their references, with messages that name the operation, the argument,
//! what was expected and what was found.
use candle_core::{DType, Result, Tensor, bail};

use crate::fused::{Conv2dConfig, Merge};

/// `bail!` with the project's order of facts.
macro_rules! mismatch {
    ($op:expr, $arg:expr, $expected:expr, $found:expr) => {
        bail!("{}: argument `{}`: expected {}, found {:?}", $op, $arg, $expected, $found)
    };
}

/// Length of the last axis; an error for scalars and for an axis of length zero, over which nothing is defined.
fn last_axis(op: &str, arg: &str, x: &Tensor) -> Result<usize> {
    match x.dims().last() {
        Some(&d) if d > 0 => Ok(d),
        _ => mismatch!(op, arg, "a last axis of at least one feature", x.dims()),
    }
}

/// `b` has the shape of `a`.
pub(crate) fn same_shape(op: &str, arg: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        mismatch!(op, arg, format!("shape {:?}", a.dims()), b.dims());
    }
    Ok(())
}

/// Shape of `x` for `x·wᵀ + bias` with `w: [out, in]`.
pub(crate) fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Vec<usize>> {
    let in_features = last_axis("linear", "x", x)?;
    match w.dims() {
        &[_, found] if found == in_features => {}
        found => mismatch!("linear", "w", format!("shape [out, {in_features}]"), found),
    }
    if let Some(bias) = bias
        && bias.dims() != [w.dims()[0]]
    {
        mismatch!("linear", "bias", format!("shape [{}]", w.dims()[0]), bias.dims());
    }
    Ok(x.dims().to_vec())
}

/// Width of the normalised axis.
pub(crate) fn norm(op: &str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<usize> {
    let d = last_axis(op, "x", x)?;
    if weight.dims() != [d] {
        mismatch!(op, "weight", format!("shape [{d}]"), weight.dims());
    }
    if let Some(bias) = bias
        && bias.dims() != [d]
    {
        mismatch!(op, "bias", format!("shape [{d}]"), bias.dims());
    }
    Ok(d)
}

/// `(B, T, H, d)` of `x`; `cos` and `sin` are `[T, d/2]` or `[B, T, d/2]`.
pub(crate) fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<(usize, usize, usize, usize)> {
    let &[b, t, heads, d] = x.dims() else { mismatch!("rotary", "x", "shape [B, T, H, d]", x.dims()) };
    if d == 0 || d % 2 == 1 {
        mismatch!("rotary", "x", "an even head dimension", x.dims());
    }
    for (name, table) in [("cos", cos), ("sin", sin)] {
        if table.dims() != [t, d / 2] && table.dims() != [b, t, d / 2] {
            mismatch!("rotary", name, format!("shape [{t}, {}] or [{b}, {t}, {}]", d / 2, d / 2), table.dims());
        }
    }
    same_shape("rotary", "sin", cos, sin)?;
    Ok((b, t, heads, d))
}

/// `(B, T, H, K, d)` of the training form of attention.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<(usize, usize, usize, usize, usize)> {
    let &[b, t, heads, d] = q.dims() else { mismatch!("causal_attention", "q", "shape [B, T, H, d]", q.dims()) };
    let kv_heads = match k.dims() {
        &[kb, kt, kv_heads, kd] if (kb, kt, kd) == (b, t, d) && kv_heads > 0 => kv_heads,
        found => mismatch!("causal_attention", "k", format!("shape [{b}, {t}, K, {d}]"), found),
    };
    if heads % kv_heads != 0 {
        mismatch!("causal_attention", "k", format!("a number of key-value heads that divides {heads}"), k.dims());
    }
    same_shape("causal_attention", "v", k, v)?;
    Ok((b, t, heads, kv_heads, d))
}

/// `(rows, width)` of an embedding table; `ids` are u32.
pub(crate) fn embedding(table: &Tensor, ids: &Tensor) -> Result<(usize, usize)> {
    let &[rows, width] = table.dims() else { mismatch!("embedding", "table", "shape [V, D]", table.dims()) };
    if ids.dtype() != DType::U32 {
        mismatch!("embedding", "ids", "dtype u32", ids.dtype());
    }
    Ok((rows, width))
}

/// `(N, V)` of logits; `targets` are u32 `[N]`.
pub(crate) fn cross_entropy(op: &str, logits: &Tensor, targets: &Tensor) -> Result<(usize, usize)> {
    let &[n, vocab] = logits.dims() else { mismatch!(op, "logits", "shape [N, V]", logits.dims()) };
    if vocab == 0 {
        mismatch!(op, "logits", "at least one class", logits.dims());
    }
    check_targets(op, n, targets)?;
    Ok((n, vocab))
}

/// `targets` are u32 `[n]`.
pub(crate) fn check_targets(op: &str, n: usize, targets: &Tensor) -> Result<()> {
    if targets.dims() != [n] {
        mismatch!(op, "targets", format!("shape [{n}]"), targets.dims());
    }
    if targets.dtype() != DType::U32 {
        mismatch!(op, "targets", "dtype u32", targets.dtype());
    }
    Ok(())
}

/// `(D, r)` of `x + (x·down)·up`.
pub(crate) fn low_rank(x: &Tensor, down: &Tensor, up: &Tensor) -> Result<(usize, usize)> {
    let features = last_axis("low_rank", "x", x)?;
    let rank = match down.dims() {
        &[found, rank] if found == features && rank > 0 => rank,
        found => mismatch!("low_rank", "down", format!("shape [{features}, r]"), found),
    };
    if up.dims() != [rank, features] {
        mismatch!("low_rank", "up", format!("shape [{rank}, {features}]"), up.dims());
    }
    Ok((features, rank))
}

/// Width of the last axis of the operands of `merge`.
pub(crate) fn merge(args: &Merge<'_>) -> Result<usize> {
    let features = last_axis("merge", "fx", args.fx)?;
    same_shape("merge", "x", args.fx, args.x)?;
    if let Some(fx2) = args.fx2 {
        same_shape("merge", "fx2", args.fx, fx2)?;
    }
    if let Some(ab) = args.ab
        && ab.dims() != [2]
        && ab.dims() != [2, features]
    {
        mismatch!("merge", "ab", format!("shape [2] or [2, {features}]"), ab.dims());
    }
    if let Some((down, up)) = args.map {
        low_rank(args.x, down, up)?;
    }
    for (z, up) in args.branches {
        let rank = last_axis("merge", "z", z)?;
        if z.dims()[..z.rank() - 1] != args.fx.dims()[..args.fx.rank() - 1] {
            mismatch!("merge", "z", format!("the rows of {:?}", args.fx.dims()), z.dims());
        }
        if up.dims() != [rank, features] {
            mismatch!("merge", "up", format!("shape [{rank}, {features}]"), up.dims());
        }
    }
    Ok(features)
}

/// `(B, Y, X, C)` of an image stored channels last, with at least one pixel and one channel.
pub(crate) fn image(op: &str, arg: &str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    match x.dims() {
        &[b, y, x, c] if y * x * c > 0 => Ok((b, y, x, c)),
        found => mismatch!(op, arg, "shape [B, Y, X, C] with at least one pixel and channel", found),
    }
}

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvSizes {
    /// Images.
    pub(crate) batch: usize,
    /// Rows of an input image.
    pub(crate) height: usize,
    /// Columns of an input image.
    pub(crate) width: usize,
    /// Channels of the input.
    pub(crate) channels: usize,
    /// Rows of an output image.
    pub(crate) out_height: usize,
    /// Columns of an output image.
    pub(crate) out_width: usize,
    /// Channels of the output.
    pub(crate) out_channels: usize,
    /// Rows of the window.
    pub(crate) kernel_height: usize,
    /// Columns of the window.
    pub(crate) kernel_width: usize,
}

/// Windows of `kernel` that fit along an axis.
fn windows(op: &str, x: &Tensor, size: usize, kernel: usize, stride: usize, padding: usize) -> Result<usize> {
    if stride == 0 || kernel == 0 {
        mismatch!(op, "config", "a stride and a window of at least 1", (stride, kernel));
    }
    if size + 2 * padding < kernel {
        mismatch!(
            op,
            "x",
            format!("an image of at least {kernel} pixels with its padding of {padding} at each border"),
            x.dims()
        );
    }
    Ok((size + 2 * padding - kernel) / stride + 1)
}

/// Sizes of `conv2d`.
pub(crate) fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: &Conv2dConfig) -> Result<ConvSizes> {
    let op = "conv2d";
    let (batch, height, width, channels) = image(op, "x", x)?;
    let groups = config.groups;
    if groups == 0 || channels % groups != 0 {
        mismatch!(op, "x", format!("a number of channels that {groups} groups divide"), x.dims());
    }
    let (out_channels, kernel_height, kernel_width) = match weight.dims() {
        &[o, i, ky, kx] if i == channels / groups && o > 0 && o % groups == 0 => (o, ky, kx),
        found => {
            mismatch!(op, "weight", format!("shape [O, {}, kY, kX] with O a multiple of {groups}", channels / groups), found)
        }
    };
    if let Some(bias) = bias
        && bias.dims() != [out_channels]
    {
        mismatch!(op, "bias", format!("shape [{out_channels}]"), bias.dims());
    }
    let out_height = windows(op, x, height, kernel_height, config.stride, config.padding)?;
    let out_width = windows(op, x, width, kernel_width, config.stride, config.padding)?;
    Ok(ConvSizes { batch, height, width, channels, out_height, out_width, out_channels, kernel_height, kernel_width })
}

/// Sizes of a pooling window, as those of a convolution that keeps the channels.
pub(crate) fn pool(op: &str, x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<ConvSizes> {
    let (batch, height, width, channels) = image(op, "x", x)?;
    if 2 * padding > kernel {
        mismatch!(op, "padding", format!("at most half the window of {kernel}"), padding);
    }
    let out_height = windows(op, x, height, kernel, stride, padding)?;
    let out_width = windows(op, x, width, kernel, stride, padding)?;
    let (out_channels, kernel_height, kernel_width) = (channels, kernel, kernel);
    Ok(ConvSizes { batch, height, width, channels, out_height, out_width, out_channels, kernel_height, kernel_width })
}

/// Number of channels of `[.., C]`; every vector is `[C]`.
pub(crate) fn batch_norm(op: &str, x: &Tensor, vectors: &[(&str, &Tensor)]) -> Result<usize> {
    let channels = last_axis(op, "x", x)?;
    for (name, vector) in vectors {
        if vector.dims() != [channels] {
            mismatch!(op, name, format!("shape [{channels}]"), vector.dims());
        }
    }
    Ok(channels)
}
