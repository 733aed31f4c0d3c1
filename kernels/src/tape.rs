//! Backward over the fused operations without candle's gradient store in between.
//!
//! Candle's `backward` adds every gradient to zeros, one element at a time on one thread, and keeps the whole graph until the loss
//! is dropped. While a [`Tape`] lives, the fused operations called on its thread note themselves on it instead: each result is a leaf
//! of candle's graph, and [`Tape::backward`] goes through the notes from the last to the first, moves gradients instead of adding
//! them to zeros, and frees each activation as soon as it was read. The gradients are the same numbers.
//!
//! Candle's own operations may stand anywhere between fused ones: the gradient of a fused operation's argument that candle computed
//! is handed to candle's `backward` down to the nearest leaves. [`crate::reshape`] is the one shape operation that the tape knows.
//!
//! ```
//! # use candle_core::{Device, Tensor, Var};
//! # let x = Var::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
//! # let w = Var::new(&[[0.5f32, -1.]], &Device::Cpu)?;
//! let tape = kernels::Tape::start();
//! let loss = kernels::silu(&kernels::linear(&x, &w, None)?)?.sum_all()?;
//! let gradients = tape.backward(&loss)?;
//! assert_eq!(gradients.get(&w).unwrap().dims(), [1, 2]);
//! # candle_core::Result::Ok(())
//! ```
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, TensorId, bail};

use crate::element::{elements, in_f32, variable};

/// Gradients of an operation's three arguments, each only if wanted.
pub(crate) type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Gradients of the arguments, each with its argument.
type ArgumentGradients = Vec<(Tensor, Option<Tensor>)>;

/// Gradients of an operation's arguments, from its output and the output's gradient.
type Backward = dyn FnOnce(&Tensor, &Tensor) -> Result<ArgumentGradients>;

/// A fused operation that ran.
struct Note {
    output: Tensor,
    backward: Box<Backward>,
}

struct Notes {
    /// Of the tape that they belong to.
    id: u64,
    operations: Vec<Note>,
    /// What each reshaped tensor was made of, which is no reshaped tensor itself.
    reshaped: HashMap<TensorId, Tensor>,
}

thread_local! {
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

/// Notes the fused operations of this thread until it is dropped or consumed by [`Tape::backward`]. It stays on its thread.
pub struct Tape {
    id: u64,
    _of_this_thread: PhantomData<*const ()>,
}

impl Tape {
    /// Starts noting. A tape that was already running on this thread is replaced.
    pub fn start() -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let id = STARTED.fetch_add(1, Ordering::Relaxed);
        NOTES.with(|notes| *notes.borrow_mut() = Some(Notes { id, operations: Vec::new(), reshaped: HashMap::new() }));
        Self { id, _of_this_thread: PhantomData }
    }

    /// The notes, unless a newer tape has replaced them.
    fn take(&self) -> Option<Notes> {
        NOTES.with(|notes| notes.borrow_mut().take_if(|notes| notes.id == self.id))
    }

    /// Gradients of a scalar `loss` that was computed since the start, for every variable it depends on.
    ///
    /// # Errors
    /// When an operation's backward fails.
    pub fn backward(self, loss: &Tensor) -> Result<GradStore> {
        let Some(Notes { mut operations, reshaped, .. }) = self.take() else {
            bail!("Tape::backward: a newer tape of this thread has replaced this one")
        };
        let mut gradients = Arrivals { found: HashMap::new(), reshaped };
        gradients.deliver(loss, loss.ones_like()?)?;
        while let Some(Note { output, backward }) = operations.pop() {
            let Some(gradient) = gradients.take(&output) else { continue };
            for (argument, gradient) in backward(&output, &gradient)? {
                if let Some(gradient) = gradient {
                    gradients.deliver(&argument, gradient)?;
                }
            }
        }
        let mut store = GradStore::default();
        for (id, gradient) in gradients.found {
            store.insert_id(id, gradient);
        }
        Ok(store)
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.take();
    }
}

/// What arrived at tensors so far.
struct Arrivals {
    found: HashMap<TensorId, Tensor>,
    reshaped: HashMap<TensorId, Tensor>,
}

impl Arrivals {
    /// The gradient of an operation's output. All operations after it are through: nothing arrives at reshaped forms of the output any
    /// more, and they are forgotten, which would keep it in memory.
    fn take(&mut self, output: &Tensor) -> Option<Tensor> {
        self.reshaped.retain(|_, source| source.id() != output.id());
        self.found.remove(&output.id())
    }

    /// Adds a gradient to what arrived at `tensor`, or passes it on to the leaves `tensor` was made of.
    fn deliver(&mut self, tensor: &Tensor, gradient: Tensor) -> Result<()> {
        if tensor.is_variable() {
            match self.found.entry(tensor.id()) {
                Entry::Vacant(entry) => {
                    entry.insert(gradient);
                }
                Entry::Occupied(mut entry) => {
                    // not in place: an addition hands one gradient to both of its arguments
                    let sum = crate::add(entry.get(), &gradient)?;
                    entry.insert(sum);
                }
            }
            return Ok(());
        }
        if let Some(source) = self.reshaped.get(&tensor.id()).cloned() {
            let gradient = gradient.reshape(source.shape())?;
            return self.deliver(&source, gradient);
        }
        if !tensor.track_op() {
            return Ok(());
        }
        let seeded = tensor.apply_op1(Seed(gradient))?;
        let leaves = seeded.backward()?;
        for node in seeded.sorted_nodes() {
            if node.is_variable()
                && let Some(gradient) = leaves.get(node)
            {
                self.deliver(node, gradient.clone())?;
            }
        }
        Ok(())
    }
}

/// A scalar whose gradient with respect to its argument is the given tensor: where candle's `backward` starts.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scalar = match storage {
            CpuStorage::BF16(_) => CpuStorage::BF16(vec![half::bf16::ZERO]),
            CpuStorage::F64(_) => CpuStorage::F64(vec![0.]),
            _ => CpuStorage::F32(vec![0.]),
        };
        Ok((scalar, Shape::from(())))
    }

    fn bwd(&self, _argument: &Tensor, _result: &Tensor, _gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

/// `x` in another shape of as many elements; known to the tape.
///
/// # Errors
/// When the numbers of elements differ.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let y = x.reshape(shape.into())?;
    if x.track_op() && x.is_contiguous() && y.id() != x.id() {
        NOTES.with(|notes| {
            if let Some(notes) = &mut *notes.borrow_mut() {
                let source = notes.reshaped.get(&x.id()).unwrap_or(x).clone();
                notes.reshaped.insert(y.id(), source);
            }
        });
    }
    Ok(y)
}

/// Whether a tape runs and an argument leads to a variable.
pub(crate) fn is_noting(arguments: &[&Tensor]) -> bool {
    arguments.iter().any(|argument| argument.track_op()) && NOTES.with(|notes| notes.borrow().is_some())
}

fn cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("fused operation: expected a tensor on the CPU"),
    }
}

/// The result as a leaf, and the note that leads back to the arguments.
pub(crate) fn note(
    (storage, shape): (CpuStorage, Shape),
    backward: impl FnOnce(&Tensor, &Tensor) -> Result<ArgumentGradients> + 'static,
) -> Result<Tensor> {
    let output = variable(storage, shape)?;
    NOTES.with(|notes| {
        if let Some(notes) = &mut *notes.borrow_mut() {
            notes.operations.push(Note { output: output.clone(), backward: Box::new(backward) });
        }
    });
    Ok(output)
}

/// Applies an operation of one contiguous argument.
pub(crate) fn apply1(x: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    if !is_noting(&[x]) {
        return x.apply_op1(op);
    }
    let result = {
        let (storage, layout) = x.storage_and_layout();
        op.cpu_fwd(cpu(&storage)?, layout)?
    };
    let x = x.clone();
    note(result, move |y, gradient| {
        let dx = op.bwd(&x, y, gradient)?;
        Ok(vec![(x, dx)])
    })
}

/// Applies an operation of two contiguous arguments.
pub(crate) fn apply2(x1: &Tensor, x2: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    if !is_noting(&[x1, x2]) {
        return x1.apply_op2(x2, op);
    }
    let result = {
        let ((s1, l1), (s2, l2)) = (x1.storage_and_layout(), x2.storage_and_layout());
        op.cpu_fwd(cpu(&s1)?, l1, cpu(&s2)?, l2)?
    };
    let (x1, x2) = (x1.clone(), x2.clone());
    note(result, move |y, gradient| {
        let (d1, d2) = op.bwd(&x1, &x2, y, gradient)?;
        Ok(vec![(x1, d1), (x2, d2)])
    })
}

/// Applies an operation of three contiguous arguments.
pub(crate) fn apply3(x1: &Tensor, x2: &Tensor, x3: &Tensor, op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
    if !is_noting(&[x1, x2, x3]) {
        return x1.apply_op3(x2, x3, op);
    }
    let result = {
        let ((s1, l1), (s2, l2), (s3, l3)) = (x1.storage_and_layout(), x2.storage_and_layout(), x3.storage_and_layout());
        op.cpu_fwd(cpu(&s1)?, l1, cpu(&s2)?, l2, cpu(&s3)?, l3)?
    };
    let (x1, x2, x3) = (x1.clone(), x2.clone(), x3.clone());
    note(result, move |y, gradient| {
        let (d1, d2, d3) = op.bwd(&x1, &x2, &x3, y, gradient)?;
        Ok(vec![(x1, d1), (x2, d2), (x3, d3)])
    })
}

/// An operation of an input in either format, an f32 weight and perhaps an f32 bias.
pub(crate) trait Layer: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// The output; the input is contiguous.
    fn forward(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &[f32],
        w_shape: &Shape,
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)>;

    /// Gradients of the input, the weight and the bias.
    fn backward(&self, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, grad: &Tensor) -> Result<Gradients>;
}

/// Applies a layer.
pub(crate) fn apply_layer(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, layer: impl Layer) -> Result<Tensor> {
    let (x, w) = (x.contiguous()?, in_f32(w)?);
    match bias {
        Some(bias) => apply3(&x, &w, &in_f32(bias)?, LayerOp(layer)),
        None => apply2(&x, &w, LayerOp(layer)),
    }
}

/// A layer as the operation that candle knows.
struct LayerOp<L>(L);

impl<L: Layer> CustomOp2 for LayerOp<L> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.forward(s1, l1, elements(s2, l2)?, l2.shape(), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.0.backward(x, w, None, grad)?;
        Ok((dx, dw))
    }
}

impl<L: Layer> CustomOp3 for LayerOp<L> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.0.forward(s1, l1, elements(s2, l2)?, l2.shape(), Some(elements(s3, l3)?))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, bias: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        self.0.backward(x, w, Some(bias), grad)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn reshaped_forms_of_an_output_are_forgotten_with_its_gradient() -> Result<()> {
        let x = Var::new(&[1f32, 2., 3., 4.], &Device::Cpu)?;
        let tape = Tape::start();
        let (y, other) = (crate::silu(&x)?, crate::silu(&x)?);
        let twice = reshape(&reshape(&y, (2, 2))?, (4, 1))?;
        let kept = reshape(&other, (1, 4))?;
        let reshaped = tape.take().map(|notes| notes.reshaped).unwrap_or_default();
        assert_eq!(reshaped.len(), 3);
        let mut gradients = Arrivals { found: HashMap::new(), reshaped };
        gradients.deliver(&twice, twice.ones_like()?)?;
        assert_eq!(gradients.take(&y).map(|gradient| gradient.dims().to_vec()), Some(vec![4]));
        assert_eq!(gradients.reshaped.keys().collect::<Vec<_>>(), [&kept.id()]);
        Ok(())
    }
}
