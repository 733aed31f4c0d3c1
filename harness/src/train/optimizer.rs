//! AdamW and SGD over named parameters in three groups, with global-norm clipping and state that can be saved.
//!
//! ```text
//! adamw   m ← β₁m + (1-β₁)g      v ← β₂v + (1-β₂)g²      w ← w - rate·(m̂ / (√v̂ + ε) + decay·w)      (Loshchilov and Hutter 2019)
//! sgd     g ← g + decay·w        m ← μm + g              w ← w - rate·(g + μm), or rate·m               (Sutskever et al. 2013)
//!
//! group    parameters                                              rate                    decay
//! matrix   rank two and more (embeddings, convolutions, low-rank)   learning_rate           weight_decay
//! vector   norms and biases                                        learning_rate           0
//! scalar   α and β logits, γ (`laurel::is_scalar_parameter`)       scalar_learning_rate    0
//! ```
//! Clipping scales the whole gradient by `max_grad_norm / ‖g‖` when its norm is larger; the norm is summed in name order.

use crate::config::{OptimizerConfig, UpdateRule};
use anyhow::{Context as _, bail};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use kernels::{AdamWParams, SgdParams};
use models::{ParamStore, tensor_file::TensorFile};
use std::path::Path;

/// How a parameter is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Decayed weights.
    Matrix,
    /// Norms and biases.
    Vector,
    /// α, β, γ.
    Scalar,
}

impl Group {
    /// The group of a parameter by its name and rank.
    pub fn of(name: &str, rank: usize) -> Self {
        if laurel::residual::is_scalar_parameter(name) {
            Self::Scalar
        } else if rank >= 2 {
            Self::Matrix
        } else {
            Self::Vector
        }
    }
}

#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    group: Group,
    first_moment: Vec<f32>,
    /// Empty for SGD.
    second_moment: Vec<f32>,
}

impl Slot {
    /// The moments that the rule keeps, with the prefix of their names in a checkpoint.
    fn moments(&mut self) -> impl Iterator<Item = (&'static str, &mut Vec<f32>)> {
        [("first", &mut self.first_moment), ("second", &mut self.second_moment)]
            .into_iter()
            .filter(|(_, moment)| !moment.is_empty())
    }
}

/// The update rule with its state.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    slots: Vec<Slot>,
    steps: u64,
}

/// Gradients of every parameter, summed over micro-batches, in the optimizer's order.
#[derive(Debug, Default)]
pub struct Gradients(Vec<Option<Tensor>>);

impl Optimizer {
    /// Zero moments for every distinct parameter of a store.
    pub fn new(config: &OptimizerConfig, store: &ParamStore) -> Self {
        let slots = store
            .vars()
            .into_iter()
            .map(|(name, var)| Slot {
                group: Group::of(&name, var.rank()),
                first_moment: vec![0.0; var.elem_count()],
                second_moment: match config.kind {
                    UpdateRule::Adamw => vec![0.0; var.elem_count()],
                    UpdateRule::Sgd => Vec::new(),
                },
                name,
                var,
            })
            .collect();
        Self { config: config.clone(), slots, steps: 0 }
    }

    /// Updates made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Names and groups, in name order.
    pub fn groups(&self) -> impl Iterator<Item = (&str, Group)> {
        self.slots.iter().map(|slot| (slot.name.as_str(), slot.group))
    }

    /// Adds the gradients of one micro-batch to those of the earlier ones.
    ///
    /// # Errors
    /// When a parameter's gradient changed its shape, which only a bug in an operation's backward can cause.
    pub fn accumulate(&self, sum: Gradients, mut new: GradStore) -> candle_core::Result<Gradients> {
        let mut sum = sum.0;
        sum.resize_with(self.slots.len(), || None);
        for (slot, total) in self.slots.iter().zip(&mut sum) {
            if let Some(gradient) = new.remove(slot.var.as_tensor()) {
                *total = Some(match total.take() {
                    Some(total) => (total + gradient)?,
                    None => gradient,
                });
            }
        }
        Ok(Gradients(sum))
    }

    /// One update.
    ///
    /// - `rate_fraction`: of both peak rates.
    /// - `micro_batches`: the gradients are divided by it.
    /// - Returns the norm of the mean gradient before clipping. When it is not finite nothing is updated.
    ///
    /// # Errors
    /// When an update kernel refuses its tensors.
    pub fn step(&mut self, gradients: &Gradients, rate_fraction: f64, micro_batches: usize) -> candle_core::Result<f64> {
        let mut sum_of_squares = 0.0;
        for gradient in gradients.0.iter().flatten() {
            sum_of_squares += kernels::grad_sq_norm(gradient)?;
        }
        let mean = 1.0 / micro_batches as f64;
        let norm = sum_of_squares.sqrt() * mean;
        if !norm.is_finite() {
            return Ok(norm);
        }
        let limit = self.config.max_grad_norm;
        let scale = if limit > 0.0 && norm > limit { mean * limit / norm } else { mean };
        self.steps += 1;
        for (slot, gradient) in self.slots.iter_mut().zip(&gradients.0) {
            // A parameter without a gradient (the scalars of lags before the input) keeps its value and moments.
            let Some(gradient) = gradient else { continue };
            let (rate, weight_decay) = match slot.group {
                Group::Matrix => (self.config.learning_rate, self.config.weight_decay),
                Group::Vector => (self.config.learning_rate, 0.0),
                Group::Scalar => (self.config.scalar_learning_rate, 0.0),
            };
            let learning_rate = rate * rate_fraction;
            let (var, first, second) = (&slot.var, &mut slot.first_moment, &mut slot.second_moment);
            match self.config.kind {
                UpdateRule::Adamw => {
                    let [beta1, beta2] = self.config.betas;
                    let params = AdamWParams { learning_rate, beta1, beta2, eps: self.config.eps, weight_decay };
                    kernels::adamw_step(var, gradient, first, second, self.steps, &params, scale)?;
                }
                UpdateRule::Sgd => {
                    let (momentum, nesterov) = (self.config.momentum, self.config.nesterov);
                    kernels::sgd_step(
                        var,
                        gradient,
                        first,
                        &SgdParams { learning_rate, momentum, nesterov, weight_decay },
                        scale,
                    )?;
                }
            }
        }
        Ok(norm)
    }

    /// Writes the moments as one safetensors file: `first.<parameter>` and, for AdamW, `second.<parameter>`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut tensors = Vec::with_capacity(2 * self.slots.len());
        for slot in &self.slots {
            let moments = [("first", &slot.first_moment), ("second", &slot.second_moment)];
            for (prefix, moment) in moments.into_iter().filter(|(_, moment)| !moment.is_empty()) {
                tensors.push((format!("{prefix}.{}", slot.name), Tensor::from_slice(moment, moment.len(), &Device::Cpu)?));
            }
        }
        safetensors::serialize_to_file(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)), None, path)
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Restores moments and the update count.
    ///
    /// # Errors
    /// When the file is unreadable or belongs to another model.
    pub fn load(&mut self, path: &Path, steps: u64) -> anyhow::Result<()> {
        let mut file = TensorFile::open(path)?;
        let expected: usize = self.slots.iter_mut().map(|slot| slot.moments().count()).sum();
        let found = file.names().count();
        if found != expected {
            bail!("`{}` does not fit the model: expected {expected} tensors, found {found}", path.display());
        }
        for slot in &mut self.slots {
            let parameter = slot.name.clone();
            for (prefix, moment) in slot.moments() {
                let name = format!("{prefix}.{parameter}");
                match file.shape(&name) {
                    Some([length]) if *length == moment.len() => {}
                    other => bail!("`{}`: {name}: expected shape [{}], found {other:?}", path.display(), moment.len()),
                }
                *moment = file.read(&name, DType::F32, &Device::Cpu)?.to_vec1()?;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optimizer(store: &ParamStore, text: &str) -> Optimizer {
        let config: OptimizerConfig =
            toml::from_str(&format!("learning_rate = 0.1\nscalar_learning_rate = 0.3\n{text}")).unwrap();
        Optimizer::new(&config, store)
    }

    fn store() -> ParamStore {
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        let vb = store.var_builder();
        vb.get((1, 2), "matrix").unwrap();
        vb.get(1, "vector").unwrap();
        vb.get(1, "residual.previous.gamma").unwrap();
        for (name, var) in store.vars() {
            store.set(&name, &var.ones_like().unwrap()).unwrap();
        }
        store
    }

    /// Gradient of `Σ g·w` over every parameter, `g` the same everywhere.
    fn gradients(optimizer: &Optimizer, store: &ParamStore, g: f64) -> Gradients {
        let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        for (_, var) in store.vars() {
            loss = (loss + (var.as_tensor() * g).unwrap().sum_all().unwrap()).unwrap();
        }
        optimizer.accumulate(Gradients::default(), loss.backward().unwrap()).unwrap()
    }

    fn value(store: &ParamStore, name: &str) -> f32 {
        store.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
    }

    #[test]
    fn groups_follow_name_and_rank() {
        assert_eq!(Group::of("model.layers.0.mlp.up_proj.weight", 2), Group::Matrix);
        assert_eq!(Group::of("model.layers.0.residual.low_rank.down", 2), Group::Matrix);
        assert_eq!(Group::of("model.norm.weight", 1), Group::Vector);
        assert_eq!(Group::of("model.layers.0.residual.mix.a", 0), Group::Scalar);
        assert_eq!(Group::of("model.layers.0.residual.previous.gamma", 1), Group::Scalar);
    }

    #[test]
    fn first_step_moves_by_the_rate_and_decays_matrices_only() {
        // Adam's first step is rate·sign(g); decay adds rate·decay·w on matrices: 1 - 0.1 - 0.1·0.5 = 0.85.
        let store = store();
        let mut optimizer = optimizer(&store, "weight_decay = 0.5\nmax_grad_norm = 0\n");
        let gradients = gradients(&optimizer, &store, 0.01);
        optimizer.step(&gradients, 1.0, 1).unwrap();
        assert!((value(&store, "matrix") - 0.85).abs() < 1e-5);
        assert!((value(&store, "vector") - 0.9).abs() < 1e-5);
        assert!((value(&store, "residual.previous.gamma") - 0.7).abs() < 1e-5);
    }

    #[test]
    fn norm_is_of_the_mean_gradient_over_micro_batches() {
        // Four elements of gradient 3, two micro-batches: sum 6 each, mean 3 each, norm √(4·9) = 6.
        let store = store();
        let mut optimizer = optimizer(&store, "");
        let once = gradients(&optimizer, &store, 3.0);
        let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        for (_, var) in store.vars() {
            loss = (loss + (var.as_tensor() * 3.0).unwrap().sum_all().unwrap()).unwrap();
        }
        let twice = optimizer.accumulate(once, loss.backward().unwrap()).unwrap();
        assert!((optimizer.step(&twice, 1.0, 2).unwrap() - 6.0).abs() < 1e-6);
    }

    #[test]
    fn clipping_scales_the_moments() {
        // Norm 2·g over four elements; with limit 1 each clipped element is 0.5, so m = 0.1·0.5 whatever g is.
        let store = store();
        let mut optimizer = optimizer(&store, "max_grad_norm = 1\n");
        let gradients = gradients(&optimizer, &store, 50.0);
        optimizer.step(&gradients, 1.0, 1).unwrap();
        assert!((optimizer.slots[0].first_moment[0] - 0.05).abs() < 1e-6, "{:?}", optimizer.slots[0]);
    }

    #[test]
    fn a_gradient_that_is_not_finite_updates_nothing() {
        let store = store();
        let mut optimizer = optimizer(&store, "");
        let gradients = gradients(&optimizer, &store, f64::INFINITY);
        assert!(!optimizer.step(&gradients, 1.0, 1).unwrap().is_finite());
        assert_eq!((value(&store, "matrix"), optimizer.steps()), (1.0, 0));
    }

    #[test]
    fn sgd_steps_follow_the_formula_with_decay_on_matrices_only() {
        // Two steps of gradient 0.5 from w = 1 with rate 0.1, μ = 0.9, Nesterov, no decay: m is 0.5, then 0.95;
        // w = 1 − 0.1·(0.5 + 0.45) = 0.905, then 0.905 − 0.1·(0.5 + 0.855) = 0.7695.
        // The matrix decays by 0.2: g = 0.7, w = 1 − 0.1·(0.7 + 0.63) = 0.867; g = 0.6734, m = 1.3034, w = 0.867 − 0.1·(0.6734 + 1.17306).
        let store = store();
        let mut optimizer =
            optimizer(&store, "kind = \"sgd\"\nmomentum = 0.9\nnesterov = true\nweight_decay = 0.2\nmax_grad_norm = 0\n");
        for _ in 0..2 {
            let gradients = gradients(&optimizer, &store, 0.5);
            optimizer.step(&gradients, 1.0, 1).unwrap();
        }
        assert!((value(&store, "vector") - 0.7695).abs() < 1e-6);
        assert!((value(&store, "matrix") - 0.682354).abs() < 1e-6);
        // The scalars have their own rate, 0.3: 1 − 0.3·0.95, then − 0.3·1.355.
        assert!((value(&store, "residual.previous.gamma") - 0.3085).abs() < 1e-6);
    }

    #[test]
    fn saved_state_continues_bit_for_bit() {
        for rule in ["", "kind = \"sgd\"\nmomentum = 0.9\n"] {
            saved_state_continues(rule);
        }
    }

    fn saved_state_continues(rule: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        let (a, b) = (store(), store());
        let mut first = optimizer(&a, rule);
        let gradients_a = gradients(&first, &a, 0.5);
        first.step(&gradients_a, 1.0, 1).unwrap();
        first.save(&path).unwrap();
        for (name, var) in a.vars() {
            b.set(&name, &var.copy().unwrap()).unwrap();
        }
        let mut second = optimizer(&b, rule);
        second.load(&path, 1).unwrap();
        let gradients_a = gradients(&first, &a, 0.25);
        first.step(&gradients_a, 1.0, 1).unwrap();
        let gradients_b = gradients(&second, &b, 0.25);
        second.step(&gradients_b, 1.0, 1).unwrap();
        assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    }
}
