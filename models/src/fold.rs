//! Residual weights folded into the neighbouring matrices, for inference without them (paper.md section 12.1).
//!
//! Every *f* here starts with a scale-invariant norm, and so does the head. Write the stream as `x_s = b_s · u_s` with
//! `b_0 = 1`, `b_{s+1} = β_s · b_s`, where s counts the residual connections in the order they write. Then
//!
//! ```text
//! attention, mlp, both     u_{s+1} = u_s + (α_s / b_{s+1}) · f(u_s)          last map of f scaled, plain addition
//! layer, c = α/β           u_{s+1} = u_s + c·a + m(u_s + a)                  a's last map scaled by 1/b_s, m's by c/b_s
//! LR                       down, up unchanged
//! PA                       γ_{s,j} ← γ_{s,j} · b_{s−j} / b_s
//! a term's norm scale      divided by b_s (the norm forgets the scale of its input)
//! ```
//! Exact up to the epsilon inside the norms, for β > 0 and one weight pair per connection. With placement `layer` the
//! addition is plain only where c = 1, so c stays in the config as [`DecoderConfig::attention_carry`].

use candle_core::{DType, Tensor};
use laurel::{AugmentConfig, MissingLag, MixConfig, MixKind, Placement, Residual};

use crate::decoder::{Decoder, DecoderConfig};
use crate::error::{ModelError, Result};
use crate::params::ParamStore;

/// A network without residual weights that computes what the original does.
#[derive(Debug)]
pub struct Folded {
    /// The original's config with `mix` removed and, for placement `layer`, `attention_carry` set.
    pub config: DecoderConfig,
    /// Its parameters, in new storage.
    pub params: ParamStore,
}

/// One residual connection as the fold sees it.
struct Site {
    layer: usize,
    prefix: String,
    /// The last linear map of *f*; both parts' for placement `layer`.
    maps: Vec<String>,
    alpha: f64,
    beta: f64,
    learned: bool,
}

/// Folds α and β of every connection of a decoder into its weights; LR and PA terms stay.
///
/// # Errors
/// When a mix cannot be folded: per-channel weights, β ≤ 0, or the Gemma 3n block, whose second skip has no weight of
/// its own that could be scaled.
pub fn fold(config: &DecoderConfig, params: &ParamStore) -> Result<Folded> {
    let decoder = Decoder::new(config, params.freeze())?;
    let sites = sites(config, &decoder.residuals())?;
    let mut folded_config = config.clone();
    folded_config.residual.mix = MixConfig::default();
    let is_layer = config.residual.placement == Placement::Layer;
    if is_layer && config.residual.mix.kind != MixKind::None {
        if let Some(site) = sites.iter().find(|site| config.attention_carry.get(site.layer).is_some_and(|&c| c != 1.0)) {
            return Err(fold_error(site.layer, "it was folded before and has a residual weight again"));
        }
        folded_config.attention_carry = sites.iter().map(|site| site.alpha / site.beta).collect();
    }
    let folded = ParamStore::new(params.dtype(), params.device());
    let _names = Decoder::new(&folded_config, folded.var_builder())?;
    for (name, _) in folded.vars() {
        let original = params.get(&name).ok_or_else(|| fold_error(0, &format!("the original lacks parameter `{name}`")))?;
        folded.set(&name, original.as_tensor())?;
    }
    let mut scales = vec![1.0]; // b_0, b_1, …
    for (s, site) in sites.iter().enumerate() {
        let (b, next) = (scales[s], scales[s] * site.beta);
        if is_layer {
            scale(&folded, &site.maps[0], 1.0 / b)?;
            scale(&folded, &site.maps[1], site.alpha / next)?;
        } else {
            scale(&folded, &site.maps[0], site.alpha / next)?;
        }
        if site.learned {
            fold_terms(&folded, config, site, &scales)?;
        }
        scales.push(next);
    }
    Ok(Folded { config: folded_config, params: folded })
}

/// Adjusts the terms of connection `scales.len() − 1`; `scales` holds `b_0..=b_s`.
fn fold_terms(folded: &ParamStore, config: &DecoderConfig, site: &Site, scales: &[f64]) -> Result<()> {
    let s = scales.len() - 1;
    for term in &config.residual.augment {
        let module = match term {
            AugmentConfig::LowRank { .. } => "low_rank",
            AugmentConfig::Previous { .. } => "previous",
            AugmentConfig::Gemma3n { .. } => return Err(fold_error(site.layer, "the Gemma 3n block cannot be folded")),
        };
        let prefix = format!("{}.{module}", site.prefix);
        if folded.get(&format!("{prefix}.norm")).is_some() {
            scale(folded, &format!("{prefix}.norm"), 1.0 / scales[s])?;
        }
        if let AugmentConfig::Previous { lookback, missing, .. } = term {
            let read = |j: usize| match missing {
                MissingLag::Drop => s.checked_sub(j),
                MissingLag::Clamp => Some(s.saturating_sub(j)),
            };
            let factors: Vec<f64> = (0..*lookback).map(|j| read(j).map_or(1.0, |at| scales[at] / scales[s])).collect();
            multiply(folded, &format!("{prefix}.gamma"), &Tensor::from_vec(factors, *lookback, folded.device())?)?;
        }
    }
    Ok(())
}

fn sites(config: &DecoderConfig, residuals: &[&Residual]) -> Result<Vec<Site>> {
    if config.residual.mix.kind == MixKind::InverseSqrt2 {
        return Err(fold_error(0, "the Gemma 3n block cannot be folded"));
    }
    let per_layer = residuals.len() / config.num_layers();
    let mut sites = Vec::with_capacity(residuals.len());
    for (s, residual) in residuals.iter().enumerate() {
        let (layer, part) = (s / per_layer, s % per_layer);
        let (alpha, beta) = weights(residual, layer)?;
        let model = format!("model.layers.{layer}");
        let (o_proj, down_proj) = (format!("{model}.self_attn.o_proj"), format!("{model}.mlp.down_proj"));
        let placement = config.residual.placement;
        let (name, maps, learned) = match (placement, part) {
            (Placement::Layer, _) => ("residual", vec![o_proj, down_proj], true),
            (Placement::Both, 0) => ("attention_residual", vec![o_proj], true),
            (Placement::Both, _) => ("mlp_residual", vec![down_proj], true),
            (_, 0) => ("residual", vec![o_proj], placement == Placement::Attention),
            (_, _) => ("residual", vec![down_proj], placement == Placement::Mlp),
        };
        sites.push(Site { layer, prefix: format!("{model}.{name}"), maps, alpha, beta, learned });
    }
    Ok(sites)
}

fn weights(residual: &Residual, layer: usize) -> Result<(f64, f64)> {
    let Some((alpha, beta)) = residual.mix().weights()? else { return Ok((1.0, 1.0)) };
    if alpha.rank() != 0 {
        return Err(fold_error(
            layer,
            "expected one weight pair, found one per channel, which a norm's mean does not pass through",
        ));
    }
    let value = |t: &Tensor| t.to_dtype(DType::F64)?.to_scalar::<f64>();
    let (alpha, beta) = (value(&alpha)?, value(&beta)?);
    if beta > 0.0 {
        Ok((alpha, beta))
    } else {
        Err(fold_error(layer, &format!("expected a positive weight of the residual side, found {beta}")))
    }
}

/// Multiplies a module's `weight` and `bias`, or a parameter of exactly that name.
fn scale(params: &ParamStore, name: &str, factor: f64) -> Result<()> {
    for full in [name.to_owned(), format!("{name}.weight"), format!("{name}.bias")] {
        if params.get(&full).is_some() {
            multiply(params, &full, &Tensor::new(factor, params.device())?)?;
        }
    }
    Ok(())
}

/// Multiplies in f64, whatever the stored type: the factors are products over depth.
fn multiply(params: &ParamStore, name: &str, factor: &Tensor) -> Result<()> {
    let var = params.get(name).ok_or_else(|| fold_error(0, &format!("the network lacks parameter `{name}`")))?;
    let product = var.as_detached_tensor().to_dtype(DType::F64)?.broadcast_mul(factor)?;
    Ok(params.set(name, &product)?)
}

fn fold_error(layer: usize, problem: &str) -> ModelError {
    ModelError::Fold { layer, problem: problem.to_owned() }
}
