//! One optimizer step of any network: forward and backward over the micro-batches, clip, update. And the validation pass.

use super::optimizer::{Gradients, Optimizer};
use crate::data::windows::{Batch, IGNORED};
use candle_core::{Device, Result, Tensor};
use kernels::Tape;
use models::Decoder;

/// What a step reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss over the micro-batches, nats per token; of a network on images, per image.
    pub loss: f64,
    /// Norm of the mean gradient before clipping.
    pub grad_norm: f64,
}

/// Part of a step that just ended; forward and backward come once per micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Inputs, forward pass, loss read.
    Forward,
    /// Backward pass, gradients added up.
    Backward,
    /// Clipping and update.
    Update,
}

/// Runs one optimizer step. When loss or gradient are not finite, the report says so and no parameter is changed.
///
/// - `rate_fraction`: of the peak learning rates.
///
/// # Errors
/// When the model refuses the ids.
pub fn train_step(model: &Decoder, optimizer: &mut Optimizer, batches: &[Batch], rate_fraction: f64) -> Result<StepReport> {
    train_step_in_parts(model, optimizer, batches, rate_fraction, |_| Ok(()))
}

/// [`train_step`], telling `ended` whenever a part of it is done.
///
/// # Errors
/// As [`train_step`], and those of `ended`.
pub fn train_step_in_parts(
    model: &Decoder,
    optimizer: &mut Optimizer,
    batches: &[Batch],
    rate_fraction: f64,
    ended: impl FnMut(Part) -> Result<()>,
) -> Result<StepReport> {
    let loss = |batch: &Batch| {
        let (ids, targets) = tensors(batch, model.device())?; // [B, T] each
        model.loss(&ids, &targets)
    };
    optimizer_step(optimizer, batches, rate_fraction, loss, ended)
}

/// One optimizer step over micro-batches of equal weight, whatever they hold. When loss or gradient are not finite, the report says so
/// and no parameter is changed.
///
/// - `loss`: of a micro-batch, a scalar. `ended`: told whenever a part is done.
///
/// # Errors
/// Those of `loss` and `ended`.
pub(super) fn optimizer_step<B>(
    optimizer: &mut Optimizer,
    batches: &[B],
    rate_fraction: f64,
    loss: impl Fn(&B) -> Result<Tensor>,
    mut ended: impl FnMut(Part) -> Result<()>,
) -> Result<StepReport> {
    let mut gradients = Gradients::default();
    let mut loss_sum = 0.0;
    for batch in batches {
        let tape = Tape::start();
        let loss = loss(batch)?;
        loss_sum += f64::from(loss.to_scalar::<f32>()?);
        ended(Part::Forward)?;
        gradients = optimizer.accumulate(gradients, tape.backward(&loss)?)?;
        ended(Part::Backward)?;
    }
    let loss = loss_sum / batches.len() as f64;
    if !loss.is_finite() {
        return Ok(StepReport { loss, grad_norm: f64::NAN });
    }
    let grad_norm = optimizer.step(&gradients, rate_fraction, batches.len())?;
    ended(Part::Update)?;
    Ok(StepReport { loss, grad_norm })
}

/// Mean loss over validation batches, nats per predicted token, summed in f64. The model should be built on frozen parameters.
///
/// # Errors
/// When the model refuses the ids.
pub fn validation_loss(model: &Decoder, batches: &[Batch]) -> Result<f64> {
    let (mut total, mut predicted) = (0.0, 0.0);
    for batch in batches {
        let (ids, targets) = tensors(batch, model.device())?;
        let count = batch.targets.iter().filter(|&&target| target != IGNORED).count() as f64;
        total += f64::from(model.loss(&ids, &targets)?.to_scalar::<f32>()?) * count;
        predicted += count;
    }
    Ok(total / predicted)
}

fn tensors(batch: &Batch, device: &Device) -> Result<(Tensor, Tensor)> {
    let shape = (batch.rows, batch.inputs.len() / batch.rows);
    Ok((Tensor::from_slice(&batch.inputs, shape, device)?, Tensor::from_slice(&batch.targets, shape, device)?))
}
