//! A moving average of a network's weights, which evaluations may use in their place.
//!
//! ```text
//! average ← d·average + (1 − d)·weights        d = min(decay, (1 + t)/(10 + t)) after t steps
//! ```
//! The running statistics of batch norms are averaged like the weights. The decay grows into its value, so that the average of a
//! short run is not its initial weights (the rule of TensorFlow's `ExponentialMovingAverage`). Source: Polyak and Juditsky 1992.

use candle_core::{DType, Device};
use models::{ImageModelConfig, ParamStore, ResNet};

/// The average and its decay.
#[derive(Debug)]
pub struct Average {
    store: ParamStore,
    decay: f64,
}

impl Average {
    /// An average that starts as the weights are.
    ///
    /// # Errors
    /// When the model cannot be built.
    pub fn new(decay: f64, model: &ImageModelConfig, weights: &ParamStore) -> candle_core::Result<Self> {
        let ImageModelConfig::Resnet(shape) = model;
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        ResNet::new(shape, store.var_builder())?;
        let average = Self { store, decay };
        average.blend(weights, 0.0)?;
        Ok(average)
    }

    /// The averaged weights.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    /// Takes in the weights after `step` optimizer steps.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn update(&self, weights: &ParamStore, step: u64) -> candle_core::Result<()> {
        let step = step as f64;
        self.blend(weights, self.decay.min((1.0 + step) / (10.0 + step)))
    }

    fn blend(&self, weights: &ParamStore, decay: f64) -> candle_core::Result<()> {
        for (name, new) in weights.vars().into_iter().chain(weights.buffers()) {
            let new = new.as_detached_tensor();
            let blended = match self.store.get(&name) {
                Some(old) if decay > 0.0 => ((old.as_detached_tensor() * decay)? + (new * (1.0 - decay))?)?,
                _ => new,
            };
            self.store.set(&name, &blended)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use models::ResNetConfig;

    use super::*;

    #[test]
    fn the_average_starts_as_the_weights_and_follows_them() {
        let config = ResNetConfig { depths: vec![1], width: 4, ..ResNetConfig::cifar(1) };
        let weights = ParamStore::new(DType::F32, &Device::Cpu);
        ResNet::new(&config, weights.var_builder()).unwrap().init_weights(0).unwrap();
        let average = Average::new(0.5, &ImageModelConfig::Resnet(config), &weights).unwrap();
        assert_eq!(average.store().digest().unwrap(), weights.digest().unwrap());
        // the running variance is 1; set to 3: after step 1 the decay is min(0.5, 2/11): 1·2/11 + 3·9/11 = 29/11, after step 100 it is 0.5.
        let set = |value: f64| {
            let var = weights.get("bn1.running_var").unwrap();
            weights.set("bn1.running_var", &(var.ones_like().unwrap() * value).unwrap()).unwrap();
        };
        let read = || average.store().get("bn1.running_var").unwrap().to_vec1::<f32>().unwrap()[0];
        set(3.0);
        average.update(&weights, 1).unwrap();
        assert!((read() - 29.0 / 11.0).abs() < 1e-6);
        average.update(&weights, 100).unwrap();
        assert!((read() - (29.0 / 22.0 + 1.5)).abs() < 1e-6);
    }
}
