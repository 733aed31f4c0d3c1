//! Training memory of a network that is not run: accounting over two depths of it that are.
//!
//! ```text
//! rest(n)     = peak_alloc(n layers, steps ≥ 2) − 16·params(n)                                 activations, gradients' scratch, inputs
//! predicted   = 16·params(N) + rest(n₁) + (N − n₁)·(rest(n₂) − rest(n₁))/(n₂ − n₁)             n₁ = max(1, lookback), n₂ = n₁ + 1
//! ```
//! Layers are alike from the one that sees a full history on, and a step keeps its activations until its gradients exist, so the rest
//! grows by a constant per layer; the state (weights, gradients, two moments in f32) is the closed form's. Width, vocabulary, batch and
//! sequence are the real ones, so only depth is extrapolated; of a step's micro-batches two are run. The metric has a name of its own: a
//! prediction never stands among measured peaks. The tests compare it with measured peaks of a depth that fits.
//!
//! Source: measurement.md section 7.

use super::{Kind, Probe, Work};
use crate::config::{RunConfig, TrainConfig, UpdateRule};
use crate::measure::allocator;
use crate::measure::plan::train_bytes_per_param;
use crate::measure::subject::Subject;
use crate::measure::window::WindowSpec;
use laurel::AugmentConfig;
use models::{DecoderConfig, ModelConfig};
use records::metric::PEAK_ALLOC_PREDICTED_BYTES;
use records::{InnerStat, Measurement, Metric, Outcome};

/// Steps of each depth: the state is complete from the end of the first.
const STEPS: usize = 3;

/// The probe.
#[derive(Debug)]
pub struct PredictedMemory;

/// Bytes of all parameters with their gradients and moments.
fn state_bytes(config: &DecoderConfig, rule: UpdateRule) -> i64 {
    (train_bytes_per_param(rule) * config.num_params().total as u64).cast_signed()
}

/// Depths that are run for a prediction.
pub fn depths(config: &DecoderConfig) -> [usize; 2] {
    let lookback = config.residual.augment.iter().map(|term| match term {
        AugmentConfig::Previous { lookback, .. } => *lookback,
        _ => 1,
    });
    let first = lookback.max().unwrap_or(1).max(1);
    [first, first + 1]
}

/// The same network with another number of layers.
pub fn with_depth(config: &DecoderConfig, layers: usize) -> DecoderConfig {
    DecoderConfig { num_hidden_layers: layers, extra_layers: 0, ..config.clone() }
}

/// The line through two depths' rests, at a third depth.
fn extrapolate(depths: [usize; 2], rests: [i64; 2], layers: usize) -> f64 {
    let per_layer = (rests[1] - rests[0]) as f64 / (depths[1] as f64 - depths[0] as f64);
    rests[0] as f64 + (layers as f64 - depths[0] as f64) * per_layer
}

impl Probe for PredictedMemory {
    fn name(&self) -> &'static str {
        "predicted_memory"
    }

    fn is_default(&self) -> bool {
        false // it is for what does not fit
    }

    fn about(&self) -> &'static str {
        "peak allocated bytes of a training step, predicted from two depths that fit"
    }

    fn kind(&self) -> Kind {
        Kind::Memory
    }

    fn work(&self) -> Work {
        Work::Training
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![PEAK_ALLOC_PREDICTED_BYTES]
    }

    fn refuses(&self, config: &RunConfig) -> Option<&'static str> {
        matches!(config, RunConfig::Images(_))
            .then_some("the blocks of a network on images differ in width and size: two depths say nothing of a third")
    }

    fn run(&self, subject: &mut Subject, _: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let whole = subject.decoder()?.clone();
        // A third micro-batch needs no more memory than the second, whose gradients are added to those of the first.
        let config = subject.language()?;
        let config = TrainConfig { grad_accum: config.grad_accum.min(2), ..config.clone() };
        // One base for both depths: buffers that the kernels keep from one step to the next belong to the peaks of both.
        let base = allocator::read().live_bytes;
        let depths = depths(&whole);
        let mut rests = [0; 2];
        for (rest, layers) in rests.iter_mut().zip(depths) {
            let model = with_depth(&whole, layers);
            let state = state_bytes(&model, config.optimizer.kind);
            subject.config = TrainConfig { model: ModelConfig::Decoder(model), ..config.clone() }.into();
            *rest = steady_peak_bytes(subject)? - base - state;
        }
        let state = state_bytes(&whole, config.optimizer.kind);
        let value = state as f64 + extrapolate(depths, rests, whole.num_layers());
        let notes =
            format!("predicted: state in closed form, the rest from {} and {} layers run at full width", depths[0], depths[1]);
        Ok(vec![Measurement {
            notes: Some(notes),
            ..Measurement::new(PEAK_ALLOC_PREDICTED_BYTES, Outcome::of(value, InnerStat::Max, 1))
        }])
    }
}

/// Peak of the steps behind the first.
fn steady_peak_bytes(subject: &Subject) -> anyhow::Result<i64> {
    let mut training = subject.training(STEPS)?;
    for number in 0..STEPS {
        if number == 1 {
            allocator::reset_peak();
        }
        training.step(number, |_| Ok(()))?;
    }
    Ok(allocator::read().peak_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use laurel::ResidualConfig;

    #[test]
    fn the_line_goes_through_both_depths() {
        assert_eq!(extrapolate([1, 2], [100, 130], 16), 100.0 + 15.0 * 30.0);
        assert_eq!(extrapolate([3, 4], [100, 90], 4), 90.0);
    }

    #[test]
    fn depths_begin_where_the_history_is_full() {
        let one = DecoderConfig::llama_1b;
        assert_eq!(depths(&one()), [1, 2]);
        let deep = one().with_residual(ResidualConfig::preset("rw+lr+pa", 4, 3).unwrap());
        assert_eq!(depths(&deep), [3, 4]);
        let wider = with_depth(&DecoderConfig { extra_layers: 1, ..one() }, 2);
        assert_eq!((wider.num_layers(), wider.hidden_size), (2, 2048));
    }
}
