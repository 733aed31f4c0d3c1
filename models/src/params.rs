//! Named parameters of one network, ordered by name.
//!
//! candle's own map of variables is a hash map: its order varies from run to run, and with it anything saved, hashed or
//! updated in that order. [`ParamStore`] keeps a sorted map behind the same interface (`SimpleBackend`), so candle
//! layers and ours build through a `VarBuilder` as usual. Asking for a name creates the variable (zeros); values come
//! afterwards, from an initialiser or from a checkpoint.
//!
//! Running statistics of batch norms ([`is_buffer`]) are stored, saved and frozen with the parameters, but they are not
//! parameters: nothing counts or trains them.
//!
//! ```
//! use candle_core::{DType, Device};
//! use models::ParamStore;
//! let store = ParamStore::new(DType::F32, &Device::Cpu);
//! let vb = store.var_builder();
//! let _weight = vb.pp("fc").get((2, 3), "weight")?;
//! assert_eq!(store.num_params(), 6);
//! # Ok::<(), candle_core::Error>(())
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use crate::error::{ModelError, Result, ShapeMismatch};
use crate::tensor_file::TensorFile;

/// Every parameter and buffer of a network by its full name; clones share them.
#[derive(Clone, Debug)]
pub struct ParamStore {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    dtype: DType,
    device: Device,
}

impl ParamStore {
    /// An empty store whose variables will have this type and device.
    pub fn new(dtype: DType, device: &Device) -> Self {
        Self { vars: Arc::default(), dtype, device: device.clone() }
    }

    /// A builder that creates a variable (zeros) for every new name, and hands out the existing one for a known name.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), self.dtype, self.device.clone())
    }

    /// A builder over detached tensors: a network rebuilt on it records no graph. The tensors share storage with the
    /// variables, so no memory is spent and later updates are seen; names that do not exist are errors.
    pub fn freeze(&self) -> VarBuilder<'static> {
        let tensors = self.lock().iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        VarBuilder::from_backend(Box::new(Frozen { tensors }), self.dtype, self.device.clone())
    }

    /// Names and variables of the parameters in name order. A variable with two names (see [`Self::tie`]) comes once, under
    /// the first.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.stored().into_iter().filter(|(name, _)| !is_buffer(name)).collect()
    }

    /// Names and variables of the running statistics in name order.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        self.stored().into_iter().filter(|(name, _)| is_buffer(name)).collect()
    }

    /// Parameters and buffers in name order: what a checkpoint holds.
    pub(crate) fn stored(&self) -> Vec<(String, Var)> {
        distinct(&self.lock()).map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// The variable of that name.
    pub fn get(&self, name: &str) -> Option<Var> {
        self.lock().get(name).cloned()
    }

    /// Makes `alias` a second name of the variable `name`.
    ///
    /// # Errors
    /// When `name` does not exist, or `alias` already names another variable.
    pub fn tie(&self, alias: &str, name: &str) -> CandleResult<()> {
        let mut vars = self.lock();
        let var = vars.get(name).cloned().ok_or_else(|| no_such_parameter(name))?;
        if vars.get(alias).is_some_and(|other| other.id() != var.id()) {
            candle_core::bail!("cannot tie `{alias}` to `{name}`: it already names another parameter");
        }
        vars.insert(alias.to_owned(), var);
        Ok(())
    }

    /// Sets one parameter in place.
    ///
    /// # Errors
    /// When the name does not exist or the shape differs.
    pub fn set(&self, name: &str, value: &Tensor) -> CandleResult<()> {
        let var = self.get(name).ok_or_else(|| no_such_parameter(name))?;
        if var.dims() != value.dims() {
            candle_core::bail!("cannot set `{name}`: expected shape {:?}, found {:?}", var.dims(), value.dims());
        }
        var.set(&value.to_dtype(var.dtype())?.to_device(var.device())?)
    }

    /// Elements of all distinct parameters: a tied tensor counts once (identity by variable, not by name).
    pub fn num_params(&self) -> usize {
        self.num_params_where(|_| true)
    }

    /// Elements of the distinct parameters whose name `accept` takes.
    pub fn num_params_where(&self, accept: impl Fn(&str) -> bool) -> usize {
        let vars = self.lock();
        distinct(&vars).filter(|(name, _)| !is_buffer(name) && accept(name)).map(|(_, var)| var.elem_count()).sum()
    }

    /// Bytes of all distinct parameters and buffers in their stored type.
    pub fn weights_bytes(&self) -> usize {
        distinct(&self.lock()).map(|(_, var)| var.elem_count() * var.dtype().size_in_bytes()).sum()
    }

    /// Type of the parameters.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A 64-bit fingerprint of names, shapes, types and exact values (FNV-1a over little-endian bytes, in name order),
    /// as 16 hex digits: equal stores have equal digests, on any machine.
    ///
    /// # Errors
    /// When a value cannot be copied off its device.
    pub fn digest(&self) -> CandleResult<String> {
        let mut hash = Fnv::new();
        for (name, var) in self.stored() {
            hash.write(name.as_bytes());
            hash.write(format!("{:?}{:?}", var.dtype(), var.dims()).as_bytes());
            hash_values(&mut hash, var.as_tensor())?;
        }
        Ok(format!("{:016x}", hash.finish()))
    }

    /// Writes all distinct parameters and buffers as one safetensors file, straight to `path` (rename afterwards for atomicity).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let vars = self.stored();
        let tensors = vars.iter().map(|(name, var)| (name.as_str(), var.as_tensor()));
        safetensors::serialize_to_file(tensors, None, path).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(source) => ModelError::Io { action: "write", path: path.to_path_buf(), source },
            other => ModelError::Io { action: "write", path: path.to_path_buf(), source: std::io::Error::other(other) },
        })
    }

    /// Sets every parameter and buffer from a safetensors file. Nothing is changed unless names and shapes all match.
    ///
    /// # Errors
    /// When the file is unreadable, truncated or corrupt, or when tensors are missing, unexpected or of another shape
    /// (all are listed in one error).
    pub fn load(&self, path: &Path) -> Result<()> {
        let mut file = TensorFile::open(path)?;
        let vars = self.stored();
        let known: HashSet<&str> = vars.iter().map(|(name, _)| name.as_str()).collect();
        let aliases = self.lock().keys().filter(|name| !known.contains(name.as_str())).cloned().collect::<HashSet<_>>();
        let mut missing = Vec::new();
        let mut wrong_shape = Vec::new();
        for (name, var) in &vars {
            match file.shape(name) {
                None => missing.push(name.clone()),
                Some(found) if found != var.dims() => {
                    wrong_shape.push(ShapeMismatch { name: name.clone(), expected: var.dims().to_vec(), found: found.to_vec() });
                }
                Some(_) => {}
            }
        }
        let unexpected: Vec<String> =
            file.names().filter(|name| !known.contains(name) && !aliases.contains(*name)).map(str::to_owned).collect();
        if !(missing.is_empty() && unexpected.is_empty() && wrong_shape.is_empty()) {
            return Err(ModelError::Mismatch { path: path.to_path_buf(), missing, unexpected, wrong_shape });
        }
        for (name, var) in &vars {
            var.set(&file.read(name, var.dtype(), &self.device)?)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        // A panic while the lock is held leaves the map whole: every change is one insertion.
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for ParamStore {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                candle_core::bail!("parameter `{name}`: expected shape {shape:?}, found {:?}", var.shape());
            }
            return Ok(var.as_tensor().clone());
        }
        let var = Var::zeros(shape, dtype, device)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> CandleResult<Tensor> {
        ParamStore::get(self, name).map(|var| var.as_tensor().clone()).ok_or_else(|| no_such_parameter(name))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

/// Detached tensors by name.
struct Frozen {
    tensors: HashMap<String, Tensor>,
}

impl SimpleBackend for Frozen {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            candle_core::bail!("parameter `{name}`: expected shape {shape:?}, found {:?}", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        self.tensors.get(name).ok_or_else(|| no_such_parameter(name))?.to_device(device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// Whether a name is that of a running statistic, by the names published checkpoints use.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

fn no_such_parameter(name: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("no such parameter: `{name}`"))
}

fn distinct(vars: &BTreeMap<String, Var>) -> impl Iterator<Item = (&String, &Var)> {
    let mut seen = HashSet::new();
    vars.iter().filter(move |(_, var)| seen.insert(var.id()))
}

/// Feeds a tensor's values, little-endian and row-major, to the hash.
fn hash_values(hash: &mut Fnv, tensor: &Tensor) -> CandleResult<()> {
    let flat = tensor.flatten_all()?;
    match flat.dtype() {
        DType::F64 => flat.to_vec1::<f64>()?.iter().for_each(|v| hash.write(&v.to_le_bytes())),
        DType::BF16 => flat.to_vec1::<half::bf16>()?.iter().for_each(|v| hash.write(&v.to_le_bytes())),
        DType::F16 => flat.to_vec1::<half::f16>()?.iter().for_each(|v| hash.write(&v.to_le_bytes())),
        _ => flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.iter().for_each(|v| hash.write(&v.to_le_bytes())),
    }
    Ok(())
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): a fingerprint, not a cryptographic hash.
pub(crate) struct Fnv(u64);

impl Fnv {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    pub(crate) fn new() -> Self {
        Self(Self::OFFSET)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(Self::PRIME);
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}
