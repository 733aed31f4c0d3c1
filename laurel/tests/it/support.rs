//! A stack of LAuReL layers over `f(x) = tanh(x · W)`, with every tensor a named variable, in f64.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use laurel::{FeatureAxis, Needs, Residual, ResidualConfig, ResidualStream, init::ParameterRng};

/// The stack and its variables by name: `x0`, `layer{i}.f` and what the residual registers below `layer{i}`.
pub(crate) struct Stack {
    pub(crate) vars: BTreeMap<String, Var>,
    layers: Vec<(Tensor, Residual)>,
    needs: Needs,
}

impl Stack {
    /// Builds on the given values; every name the residuals ask for must be there.
    pub(crate) fn new(config: &ResidualConfig, layers: usize, values: BTreeMap<String, Tensor>) -> Result<Self> {
        let vars =
            values.into_iter().map(|(name, value)| Ok((name, Var::from_tensor(&value)?))).collect::<Result<BTreeMap<_, _>>>()?;
        let tensors: HashMap<String, Tensor> = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let features = tensors["x0"].dims().last().copied().unwrap_or(0);
        let vb = VarBuilder::from_tensors(tensors.clone(), DType::F64, &Device::Cpu);
        let layers = (0..layers)
            .map(|i| {
                let residual = Residual::new(config, features, FeatureAxis::Last, vb.pp(format!("layer{i}")))?;
                Ok((tensors[&format!("layer{i}.f")].clone(), residual))
            })
            .collect::<Result<Vec<_>>>()?;
        let needs = layers.iter().map(|(_, residual)| residual.needs()).fold(Needs::default(), Needs::union);
        Ok(Self { vars, layers, needs })
    }

    /// Random values for every parameter, so that no gradient is zero by accident.
    pub(crate) fn random(config: &ResidualConfig, layers: usize, features: usize) -> Result<Self> {
        let names = VarMap::new();
        let vb = VarBuilder::from_varmap(&names, DType::F64, &Device::Cpu);
        for i in 0..layers {
            Residual::new(config, features, FeatureAxis::Last, vb.pp(format!("layer{i}")))?;
        }
        let mut shapes: BTreeMap<String, Vec<usize>> =
            names.data().lock().unwrap().iter().map(|(name, var)| (name.clone(), var.dims().to_vec())).collect();
        shapes.insert("x0".into(), vec![2, 3, features]);
        for i in 0..layers {
            shapes.insert(format!("layer{i}.f"), vec![features, features]);
        }
        let draw = |(name, shape): (String, Vec<usize>)| {
            let mut rng = ParameterRng::new(11, &name);
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| 0.5 * rng.normal()).collect();
            Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
        };
        Self::new(config, layers, shapes.into_iter().map(draw).collect::<Result<_>>()?)
    }

    /// The stack's output for the variable `x0`.
    pub(crate) fn forward(&self) -> Result<Tensor> {
        let mut stream = ResidualStream::start(self.vars["x0"].as_tensor().clone(), self.needs);
        for (weight, residual) in &self.layers {
            let x = stream.read(residual)?;
            stream.observe(&(&x * 0.5)?); // stands for f's pre-norm; only the Gemma 3n term reads it
            let fx = x.broadcast_matmul(weight)?.tanh()?;
            stream.write(residual, &fx)?;
        }
        stream.finish()
    }

    /// `sum(out · weight)` and its gradients.
    pub(crate) fn loss(&self, weight: &Tensor) -> Result<(Tensor, GradStore)> {
        let loss = (self.forward()? * weight)?.sum_all()?;
        let gradients = loss.backward()?;
        Ok((loss, gradients))
    }
}

/// Largest absolute difference over the largest absolute value of `expected`.
pub(crate) fn relative_difference(actual: &Tensor, expected: &Tensor) -> Result<f64> {
    let scale = expected.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
    let difference = (actual - expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
    Ok(if scale == 0.0 { difference } else { difference / scale })
}
