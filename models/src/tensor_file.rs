//! Reading safetensors files one tensor at a time.
//!
//! ```text
//! file = n: u64 little endian | header: n bytes of JSON {name: {dtype, shape, data_offsets}} | data
//! ```
//! Tensors are read by seeking, so loading needs memory for the model and one tensor, not for the file twice; no
//! memory map, hence no `unsafe`. The file's length is checked against the header first: a download or a write that
//! was cut off is reported as such and not as a wrong number later. Format: the safetensors specification.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata};

use crate::error::{ModelError, Result};

/// Longest header that is taken seriously, in bytes (the limit of the reference implementation).
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An open safetensors file.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

impl TensorFile {
    /// Opens a file, parses its header and checks its length.
    ///
    /// # Errors
    /// When the file cannot be read, is not safetensors, or is shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(ModelError::io("read", path))?;
        let length = file.metadata().map_err(ModelError::io("read", path))?.len();
        let mut head = [0u8; 8];
        if length < 8 {
            return Err(truncated(path, "at least 8 bytes", length));
        }
        file.read_exact(&mut head).map_err(ModelError::io("read", path))?;
        let header_bytes = u64::from_le_bytes(head);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(ModelError::corrupt(
                path,
                format!("not a safetensors file: header length: expected at most {MAX_HEADER_BYTES} bytes, found {header_bytes}"),
            ));
        }
        if length < 8 + header_bytes {
            return Err(truncated(path, &format!("a header of {header_bytes} bytes"), length));
        }
        let mut header = vec![0u8; header_bytes as usize];
        file.read_exact(&mut header).map_err(ModelError::io("read", path))?;
        let parsed: Metadata = serde_json::from_slice(&header)
            .map_err(|error| ModelError::corrupt(path, format!("header is not valid safetensors JSON: {error}")))?;
        let data_start = 8 + header_bytes;
        let expected = data_start + parsed.data_len() as u64;
        if length < expected {
            return Err(truncated(path, &format!("{expected} bytes"), length));
        }
        if length > expected {
            return Err(ModelError::corrupt(path, format!("expected {expected} bytes, found {length}")));
        }
        let tensors = parsed
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                (name, Entry { dtype: info.dtype, shape: info.shape.clone(), start: start as u64, bytes: end - start })
            })
            .collect();
        let metadata = parsed.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { path: path.to_path_buf(), file, data_start, tensors, metadata })
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of one tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The `__metadata__` strings of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads one tensor and converts it to `dtype` (bf16 and f16 widen exactly to f32).
    ///
    /// # Errors
    /// When there is no such tensor, its type is not a float or u8, u32, i64, or reading fails.
    pub fn read(&mut self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let entry = self.tensors.get(name).cloned().ok_or_else(|| ModelError::Mismatch {
            path: self.path.clone(),
            missing: vec![name.to_owned()],
            unexpected: Vec::new(),
            wrong_shape: Vec::new(),
        })?;
        let stored = stored_dtype(entry.dtype).ok_or_else(|| {
            ModelError::corrupt(
                &self.path,
                format!("{name}: dtype: expected one of F64, F32, F16, BF16, U8, U32, I64, found {:?}", entry.dtype),
            )
        })?;
        let mut bytes = vec![0u8; entry.bytes];
        self.file.seek(SeekFrom::Start(self.data_start + entry.start)).map_err(ModelError::io("read", &self.path))?;
        self.file.read_exact(&mut bytes).map_err(ModelError::io("read", &self.path))?;
        Ok(Tensor::from_raw_buffer(&bytes, stored, &entry.shape, device)?.to_dtype(dtype)?)
    }
}

fn stored_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I64 => DType::I64,
        _ => return None,
    })
}

fn truncated(path: &Path, expected: &str, found: u64) -> ModelError {
    ModelError::corrupt(path, format!("file is truncated: expected {expected}, found {found} bytes"))
        .with_hint("the download or write was cut off; fetch the file again or resume from an earlier checkpoint")
}
