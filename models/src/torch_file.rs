//! Reading `torch.save` files, `.pth` and `.th`: the tensors of a state dict, without running any code of theirs.
//!
//! ```text
//! since torch 1.6   a zip archive: data.pkl and one file per storage               read by candle
//! before            magic | version | system | object | keys (five pickles), then per key: i64 elements, raw little-endian values
//! ```
//! The object is a state dict, or a dict that holds one under `state_dict` or `model`. candle's pickle reader is a list of known
//! operations that builds plain data, so a hostile file can at worst be refused. Format: torch/serialization.py, `_legacy_save`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::pickle::{self, Object, Stack, TensorInfo};
use candle_core::{Device, Tensor};

use crate::error::{ModelError, Result};

/// The first pickle of the old format: protocol 2, the integer 0x1950a86a20f9469cfc6c, stop.
const LEGACY_MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// First bytes of a zip archive.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// Keys under which training scripts keep the state dict.
const WRAPPERS: [&str; 2] = ["state_dict", "model"];

/// Every tensor of a file's state dict, by name.
///
/// # Errors
/// When the file cannot be read, is neither format, is cut off, or holds no tensors.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut head = Vec::with_capacity(LEGACY_MAGIC.len());
    let file = File::open(path).map_err(ModelError::io("read", path))?;
    (&file).take(LEGACY_MAGIC.len() as u64).read_to_end(&mut head).map_err(ModelError::io("read", path))?;
    let damaged = |error: candle_core::Error| ModelError::corrupt(path, format!("not a readable torch file: {error}"));
    let tensors = if head.starts_with(ZIP_MAGIC) {
        read_zip(path).map_err(damaged)?
    } else if head == LEGACY_MAGIC {
        read_legacy(BufReader::new(file)).map_err(damaged)?
    } else {
        return Err(ModelError::corrupt(path, "expected a file that torch.save wrote, found other contents"));
    };
    if tensors.is_empty() {
        return Err(ModelError::corrupt(path, "expected a state dict, found no tensors")
            .with_hint("save the model's state_dict(), not the model"));
    }
    Ok(tensors)
}

fn read_zip(path: &Path) -> candle_core::Result<BTreeMap<String, Tensor>> {
    for key in std::iter::once(None).chain(WRAPPERS.map(Some)) {
        match pickle::read_all_with_key(path, key) {
            Ok(tensors) if tensors.is_empty() => {}
            Ok(tensors) => return Ok(tensors.into_iter().collect()),
            Err(error) if key.is_none() => return Err(error),
            Err(_) => {} // no such key
        }
    }
    Ok(BTreeMap::new())
}

fn read_legacy(mut reader: BufReader<File>) -> candle_core::Result<BTreeMap<String, Tensor>> {
    // The magic's ten-byte integer is the one thing candle's reader has no room for.
    reader.seek(SeekFrom::Start(LEGACY_MAGIC.len() as u64))?;
    let (_version, _system) = (next_object(&mut reader)?, next_object(&mut reader)?);
    let infos = tensor_infos(state_dict(next_object(&mut reader)?))?;
    let Object::List(keys) = next_object(&mut reader)? else { candle_core::bail!("expected the list of storage keys") };
    let mut storages = BTreeMap::new();
    for key in keys {
        let key = key.unicode()?;
        let Some(info) = infos.iter().find(|info| storage_key(info) == key) else {
            candle_core::bail!("storage `{key}` belongs to no tensor of the state dict");
        };
        let mut count = [0u8; 8];
        reader.read_exact(&mut count)?;
        if u64::from_le_bytes(count) != info.storage_size as u64 {
            candle_core::bail!("storage `{key}`: expected {} elements, found {}", info.storage_size, u64::from_le_bytes(count));
        }
        let Some(length) = (info.storage_size as u64).checked_mul(info.dtype.size_in_bytes() as u64) else {
            candle_core::bail!("storage `{key}`: expected a size that memory can hold, found {} elements", info.storage_size);
        };
        let mut bytes = Vec::new();
        (&mut reader).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            candle_core::bail!("storage `{key}`: the file is cut off: expected {length} bytes, found {}", bytes.len());
        }
        storages.insert(key, bytes);
    }
    infos.into_iter().map(|info| tensor(&info, &storages).map(|tensor| (info.name, tensor))).collect()
}

fn next_object<R: BufRead>(reader: &mut R) -> candle_core::Result<Object> {
    let mut stack = Stack::empty();
    stack.read_loop(reader)?;
    stack.finalize()
}

/// The inner dict where a training script wrapped it.
fn state_dict(object: Object) -> Object {
    let Object::Dict(entries) = object else { return object };
    let at = entries.iter().position(
        |(key, value)| matches!((key, value), (Object::Unicode(key), Object::Dict(_)) if WRAPPERS.contains(&key.as_str())),
    );
    match at {
        Some(at) => entries.into_iter().nth(at).map_or(Object::None, |(_, value)| value),
        None => Object::Dict(entries),
    }
}

fn tensor_infos(object: Object) -> candle_core::Result<Vec<TensorInfo>> {
    let Object::Dict(entries) = object else { candle_core::bail!("expected a dict of tensors") };
    let infos =
        entries.into_iter().filter_map(|(name, value)| current_form(value).into_tensor_info(name, Path::new("")).transpose());
    infos.collect()
}

/// The oldest files rebuild tensors by a function whose four arguments are the first four of today's.
fn current_form(value: Object) -> Object {
    match value {
        Object::Reduce { callable, args } => match *callable {
            Object::Class { module_name, class_name } if class_name == "_rebuild_tensor" => {
                let callable = Box::new(Object::Class { module_name, class_name: "_rebuild_tensor_v2".to_owned() });
                Object::Reduce { callable, args }
            }
            callable => Object::Reduce { callable: Box::new(callable), args },
        },
        other => other,
    }
}

/// candle puts a folder before the key, which is empty here.
fn storage_key(info: &TensorInfo) -> &str {
    info.path.trim_start_matches('/')
}

fn tensor(info: &TensorInfo, storages: &BTreeMap<String, Vec<u8>>) -> candle_core::Result<Tensor> {
    let Some(bytes) = storages.get(storage_key(info)) else { candle_core::bail!("{}: its values are missing", info.name) };
    if !info.layout.is_contiguous() {
        candle_core::bail!("{}: expected a contiguous tensor, found {:?}", info.name, info.layout);
    }
    // candle gives the offset of this layout in bytes.
    let start = info.layout.start_offset();
    let dims = info.layout.shape().dims();
    let length = dims.iter().try_fold(info.dtype.size_in_bytes(), |length, &dim| length.checked_mul(dim));
    let end = length.and_then(|length| length.checked_add(start));
    let Some(bytes) = end.and_then(|end| bytes.get(start..end)) else {
        candle_core::bail!("{}: expected the bytes of {dims:?} values from {start}, found {}", info.name, bytes.len());
    };
    Tensor::from_raw_buffer(bytes, info.dtype, dims, &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python's `number` in eight bytes.
    fn long(number: u64) -> Vec<u8> {
        [&[0x8a, 8][..], &number.to_le_bytes()].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        [&[b'X'][..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    /// A tuple of 32-bit numbers.
    fn tuple(numbers: [i32; 2]) -> Vec<u8> {
        [&b"("[..], &numbers.map(|number| [&[b'J'][..], &number.to_le_bytes()].concat()).concat(), b"t"].concat()
    }

    /// A file of one f64 matrix `w` in one storage whose values are `bytes`.
    fn legacy(elements: u64, offset: u64, size: [i32; 2], stride: [i32; 2], bytes: &[u8]) -> tempfile::NamedTempFile {
        let pickle = |parts: &[&[u8]]| [&[0x80, 2][..], &parts.concat(), b"."].concat();
        let storage: [&[u8]; 8] =
            [b"(", &text("storage"), b"ctorch\nDoubleStorage\n", &text("0"), &text("cpu"), &long(elements), b"N", b"tQ"];
        let arguments: [&[u8]; 5] = [&storage.concat(), &long(offset), &tuple(size), &tuple(stride), b"tR"];
        let object = [&b"}("[..], &text("w"), b"ctorch._utils\n_rebuild_tensor_v2\n(", &arguments.concat(), b"u"].concat();
        let keys = [&b"]("[..], &text("0"), b"e"].concat();
        let parts = [&LEGACY_MAGIC[..], &pickle(&[&long(1001)]), &pickle(&[b"}"]), &pickle(&[&object]), &pickle(&[&keys])];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [&parts.concat(), &elements.to_le_bytes()[..], bytes].concat()).unwrap();
        file
    }

    #[test]
    fn a_matrix_of_the_old_format_is_read_from_its_offset() {
        let bytes: Vec<u8> = (0..5).flat_map(|value| f64::from(value).to_le_bytes()).collect();
        let file = legacy(5, 1, [2, 2], [2, 1], &bytes);
        assert_eq!(read(file.path()).unwrap()["w"].to_vec2::<f64>().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    }

    /// The byte counts of such files overflowed.
    #[test]
    fn sizes_beyond_all_memory_are_refused() {
        let error = |elements, size, stride| read(legacy(elements, 0, size, stride, &[0; 8]).path()).unwrap_err().to_string();
        let of_storage = error(1 << 61, [1, 1], [1, 1]);
        assert!(
            of_storage.contains("storage `0`: expected a size that memory can hold, found 2305843009213693952"),
            "{of_storage}"
        );
        // 2³¹ − 1 rows of 2³⁰ values of 8 bytes
        let of_tensor = error(1, [i32::MAX, 1 << 30], [1 << 30, 1]);
        assert!(of_tensor.contains("w: expected the bytes of [2147483647, 1073741824] values from 0, found 8"), "{of_tensor}");
    }
}
