//! The references: each operation composed of candle's differentiable operations.
//!
//! They define what the fused operations compute, in every float dtype and on every device, and they are the path taken for anything
//! but f32 tensors on the CPU, and bf16 ones where a fused operation takes them. Only operations with a backward are used: candle's
//! own fused `rms_norm`, `layer_norm`, `rope` and `softmax_last_dim` drop gradients silently (huggingface/candle#2168).
use candle_core::{D, DType, Result, Tensor, bail};

use crate::check;
use crate::fused::Merge;

mod vision;

pub use vision::{add_relu, batch_norm_eval, batch_norm_train, conv2d, conv2d_inference, global_avg_pool, max_pool2d};

/// Mark of a target that does not count towards the loss.
pub const IGNORED: u32 = u32::MAX;

/// √(2/π), the slope of the tanh approximation at zero (Hendrycks and Gimpel 2016, §2).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// Cubic coefficient of the tanh approximation (same source).
const GELU_CUBIC: f64 = 0.044715;

/// `max(x, 0)` as the fused operations have it: NaN stays, and no gradient passes where the result is zero. Candle's own gives 0 for
/// NaN and passes the gradient at 0.
fn relu(x: &Tensor) -> Result<Tensor> {
    x.le(0.)?.where_cond(&x.zeros_like()?, x)
}

/// Half-precision inputs are normalised and reduced in f32, as the published models do.
fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// `x·wᵀ + bias`, see [`crate::linear`].
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let dims = check::linear(x, w, bias)?;
    let rows: usize = dims[..dims.len() - 1].iter().product();
    let (out_features, in_features) = w.dims2()?;
    let mut out_dims = dims.clone();
    out_dims[dims.len() - 1] = out_features;
    let y = x.reshape((rows, in_features))?.matmul(&w.to_dtype(x.dtype())?.t()?)?; // [rows, out]
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?)?,
        None => y,
    };
    y.reshape(out_dims)
}

/// `x / √(mean(x²) + eps) · weight` over the last axis, see [`crate::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    check::norm("rms_norm", x, weight, None)?;
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    let scale = (wide_x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    wide_x.broadcast_div(&scale)?.to_dtype(x.dtype())?.broadcast_mul(&weight.to_dtype(x.dtype())?)
}

/// `(x − mean) / √(var + eps) · weight + bias` over the last axis, see [`crate::layer_norm`].
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    check::norm("layer_norm", x, weight, bias)?;
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    let centred = wide_x.broadcast_sub(&wide_x.mean_keepdim(D::Minus1)?)?;
    let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let y = centred.broadcast_div(&scale)?.to_dtype(x.dtype())?.broadcast_mul(&weight.to_dtype(x.dtype())?)?;
    match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?),
        None => Ok(y),
    }
}

/// Rotate-half rotary embedding, see [`crate::rotary`].
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, _, _, d) = check::rotary(x, cos, sin)?;
    // [T, d/2] -> [T, 1, d/2], [B, T, d/2] -> [B, T, 1, d/2]: the head axis is broadcast
    let expand = |t: &Tensor| t.detach().to_dtype(x.dtype())?.unsqueeze(t.rank() - 1);
    let (cos, sin) = (expand(cos)?, expand(sin)?);
    let (x1, x2) = (x.narrow(3, 0, d / 2)?, x.narrow(3, d / 2, d / 2)?);
    let y1 = (x1.broadcast_mul(&cos)? - x2.broadcast_mul(&sin)?)?;
    let y2 = (x2.broadcast_mul(&cos)? + x1.broadcast_mul(&sin)?)?;
    Tensor::cat(&[&y1, &y2], 3)
}

/// Softmax over the last axis; the maximum is subtracted as a constant, which leaves value and gradient unchanged.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// Causal grouped-query attention, see [`crate::causal_attention`].
pub fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
    let (b, t, heads, kv_heads, d) = check::attention(q, k, v)?;
    if b * t * d == 0 {
        return q.zeros_like();
    }
    let group = heads / kv_heads;
    let spread = |x: &Tensor| {
        let x = x.transpose(1, 2)?.unsqueeze(2)?; // [B, K, 1, T, d]
        x.expand((b, kv_heads, group, t, d))?.reshape((b, heads, t, d))
    };
    let (k, v) = (spread(k)?, spread(v)?);
    let q = q.transpose(1, 2)?.contiguous()?; // [B, H, T, d]
    let mask: Vec<f32> = (0..t * t).map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0. }).collect();
    let mask = Tensor::from_vec(mask, (t, t), q.device())?;
    let scores = (q.matmul(&k.t()?)? * scale)?;
    let scores = scores.to_dtype(wide(q.dtype()))?;
    let mask = mask.to_dtype(scores.dtype())?;
    let probabilities = softmax(&scores.broadcast_add(&mask)?)?.to_dtype(q.dtype())?;
    probabilities.matmul(&v)?.transpose(1, 2)?.contiguous() // [B, T, H, d]
}

/// `silu(gate) · up`, see [`crate::swiglu`].
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check::same_shape("swiglu", "up", gate, up)?;
    gate.silu()? * up
}

/// `x · sigmoid(x)`, see [`crate::silu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    x.silu()
}

/// Tanh approximation of GELU, see [`crate::gelu_tanh`]. Composed, since candle's backward rounds the constants to six digits.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let inner = ((x + (x.sqr()? * x)?.affine(GELU_CUBIC, 0.)?)? * SQRT_2_OVER_PI)?;
    (x * 0.5)? * (inner.tanh()? + 1.)?
}

/// GELU by the error function, see [`crate::gelu_erf`].
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    let erf = (x * std::f64::consts::FRAC_1_SQRT_2)?.erf()?;
    (x * 0.5)? * (erf + 1.)?
}

/// Rows of a table, see [`crate::embedding`].
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (_, width) = check::embedding(table, ids)?;
    let mut dims = ids.dims().to_vec();
    dims.push(width);
    if ids.elem_count() == 0 {
        return Tensor::zeros(dims, table.dtype(), table.device());
    }
    table.index_select(&ids.flatten_all()?, 0)?.reshape(dims)
}

/// Negative log-likelihood of each target, `[N]`, zero where ignored, with the mask `[N]` of those that count.
fn masked_nll(logits: &Tensor, targets: &Tensor) -> Result<(Tensor, usize)> {
    let (n, _) = check::cross_entropy("cross_entropy", logits, targets)?;
    let ids = targets.to_vec1::<u32>()?;
    let counted: Vec<f32> = ids.iter().map(|&t| if t == IGNORED { 0. } else { 1. }).collect();
    let count = ids.iter().filter(|&&t| t != IGNORED).count();
    let safe: Vec<u32> = ids.into_iter().map(|t| if t == IGNORED { 0 } else { t }).collect();
    let device = logits.device();
    let logits = logits.to_dtype(wide(logits.dtype()))?;
    if n == 0 {
        return Ok((logits.sum(1)?, 0));
    }
    let maximum = logits.max_keepdim(1)?.detach();
    let shifted = logits.broadcast_sub(&maximum)?;
    let log_sum = shifted.exp()?.sum(1)?.log()?; // [N]
    let chosen = shifted.gather(&Tensor::from_vec(safe, (n, 1), device)?, 1)?.squeeze(1)?;
    let mask = Tensor::from_vec(counted, n, device)?.to_dtype(logits.dtype())?;
    Ok((((log_sum - chosen)? * mask)?, count))
}

/// Mean negative log-likelihood of the targets, see [`crate::cross_entropy`].
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (nll, count) = masked_nll(logits, targets)?;
    if count == 0 {
        bail!(
            "cross_entropy: the mean over no targets is undefined: expected a target that is not ignored, found none of {}",
            targets.elem_count()
        );
    }
    nll.sum_all()? / count as f64
}

/// Negative log-likelihood per target, see [`crate::token_nll`]. Detached.
pub fn token_nll(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(masked_nll(&logits.detach(), targets)?.0)
}

/// Cross-entropy of a linear layer's output, see [`crate::linear_cross_entropy`].
pub fn linear_cross_entropy(h: &Tensor, w: &Tensor, bias: Option<&Tensor>, targets: &Tensor) -> Result<Tensor> {
    cross_entropy(&linear(h, w, bias)?, targets)
}

/// `(x·down)·up`, see [`crate::low_rank`].
pub fn low_rank(x: &Tensor, down: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (features, _) = check::low_rank(x, down, up)?;
    let rows = x.elem_count() / features;
    let (down, up) = (down.to_dtype(x.dtype())?, up.to_dtype(x.dtype())?);
    x.reshape((rows, features))?.matmul(&down)?.matmul(&up)?.reshape(x.shape())
}

/// `α·(fx + fx2) + β·(x + (x·down)·up + Σ z_j·up_j)`, at least 0 where asked, see [`crate::merge`].
pub fn merge(args: &Merge<'_>) -> Result<Tensor> {
    let features = check::merge(args)?;
    let wide = |t: &Tensor| t.to_dtype(args.x.dtype());
    let fx = args.fx2.map_or_else(|| wide(args.fx), |fx2| wide(args.fx)? + wide(fx2)?)?;
    let mut residual = args.x.clone();
    if let Some((down, up)) = args.map {
        residual = (residual + low_rank(args.x, down, up)?)?;
    }
    for (z, up) in args.branches {
        let rows = z.reshape((args.x.elem_count() / features, up.dim(0)?))?;
        residual = (residual + wide(&rows)?.matmul(&wide(up)?)?.reshape(args.x.shape())?)?;
    }
    let merged = match args.ab {
        Some(ab) => (fx.broadcast_mul(&wide(&ab.get(0)?)?)? + residual.broadcast_mul(&wide(&ab.get(1)?)?)?)?,
        None => (fx + residual)?,
    };
    if args.relu { relu(&merged) } else { Ok(merged) }
}

/// `a + b`, see [`crate::add`].
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check::same_shape("add", "b", a, b)?;
    a + b.to_dtype(a.dtype())?
}
