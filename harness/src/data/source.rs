//! Reading corpus files: plain, `.gz` and `.zst`, and their SHA-256.

use crate::config::DataFormat;
use crate::error::Hint as _;
use anyhow::{Context as _, anyhow, bail};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Bytes read from disk at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Opens a text file, decompressing by its extension (`.gz`, `.tgz`, `.zst`).
///
/// # Errors
/// When the file is missing or its header is not of the named format.
pub fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    Ok(match extension {
        "gz" | "tgz" => Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::read::MultiGzDecoder::new(file))),
        "zst" => {
            let decoder = zstd::Decoder::new(file).with_context(|| format!("cannot read `{}` as zstd", path.display()))?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
        _ => Box::new(BufReader::with_capacity(BUFFER_BYTES, file)),
    })
}

/// SHA-256 of a file's bytes as they lie on disk, 64 hex digits.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer).with_context(|| format!("cannot read `{}`", path.display()))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
    }
    let mut hex = String::with_capacity(64);
    for byte in digest.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

/// Calls `visit` with each document of a corpus file, in file order.
///
/// A text file is one document, handed over in pieces of about [`PIECE_BYTES`] cut at blank lines (so that memory stays bounded);
/// `is_last` is true at the piece that ends a document.
///
/// # Errors
/// Missing file, broken compression, text that is not UTF-8, a JSONL line that is not an object with the text field.
pub fn for_each_document(
    path: &Path,
    format: DataFormat,
    text_field: &str,
    mut visit: impl FnMut(String, bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let reader = open(path)?;
    match format {
        DataFormat::Text => text_pieces(path, reader, PIECE_BYTES, &mut visit),
        DataFormat::Jsonl => {
            for (index, line) in reader.lines().enumerate() {
                let place = || format!("{}:{}", path.display(), index + 1);
                let line = line.with_context(|| format!("{}: cannot read the line", place()))?;
                if !line.trim().is_empty() {
                    visit(field(&line, text_field).with_context(place)?, true)?;
                }
            }
            Ok(())
        }
    }
}

/// Largest piece of a text file that is tokenised at once.
pub const PIECE_BYTES: usize = 4 << 20;

fn text_pieces(
    path: &Path,
    mut reader: Box<dyn BufRead>,
    piece_bytes: usize,
    visit: &mut dyn FnMut(String, bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let room = (piece_bytes + 1).saturating_sub(pending.len()) as u64;
        let read =
            reader.by_ref().take(room).read_to_end(&mut pending).with_context(|| format!("cannot read `{}`", path.display()))?;
        let is_last = (read as u64) < room;
        let end = if is_last { pending.len() } else { cut(&pending) };
        let rest = pending.split_off(end);
        let text = String::from_utf8(std::mem::replace(&mut pending, rest))
            .map_err(|error| {
                anyhow!(
                    "{}: expected UTF-8 text, found byte {:#04x}",
                    path.display(),
                    error.as_bytes()[error.utf8_error().valid_up_to()]
                )
            })
            .hint("convert the file to UTF-8 first")?;
        visit(text, is_last)?;
        if is_last {
            return Ok(());
        }
    }
}

/// End of the piece: after the last blank line, else after the last line, else before the last whole character.
fn cut(bytes: &[u8]) -> usize {
    let blank = bytes.windows(2).rposition(|pair| pair == b"\n\n").map(|at| at + 2);
    let line = || bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
    let character = || bytes.iter().rposition(|&byte| byte & 0xc0 != 0x80);
    blank.or_else(line).or_else(character).filter(|&end| end > 0).unwrap_or(bytes.len())
}

fn field(line: &str, name: &str) -> anyhow::Result<String> {
    let value: serde_json::Value = serde_json::from_str(line).context("expected a JSON object")?;
    let serde_json::Value::Object(mut object) = value else {
        bail!("expected a JSON object, found another JSON value");
    };
    match object.remove(name) {
        Some(serde_json::Value::String(text)) => Ok(text),
        Some(_) => bail!("expected a string in field `{name}`, found another JSON value"),
        None => {
            let known: Vec<&str> = object.keys().map(String::as_str).collect();
            Err(anyhow!("expected a field `{name}`, found `{}`", known.join("`, `"))).hint("name the field with data.text_field")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn documents(path: &Path, format: DataFormat) -> anyhow::Result<Vec<String>> {
        let mut all = vec![String::new()];
        for_each_document(path, format, "text", |piece, is_last| {
            all.last_mut().unwrap().push_str(&piece);
            if is_last {
                all.push(String::new());
            }
            Ok(())
        })?;
        all.pop();
        Ok(all)
    }

    #[test]
    fn plain_gz_and_zst_give_the_same_documents() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "{\"text\": \"one\"}\n\n{\"id\": 2, \"text\": \"two\\n\"}\n";
        let plain = folder.path().join("a.jsonl");
        std::fs::write(&plain, lines).unwrap();
        let gz = folder.path().join("a.jsonl.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(lines.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let zst = folder.path().join("a.jsonl.zst");
        std::fs::write(&zst, zstd::encode_all(lines.as_bytes(), 1).unwrap()).unwrap();
        for path in [plain, gz, zst] {
            assert_eq!(documents(&path, DataFormat::Jsonl).unwrap(), ["one", "two\n"]);
        }
    }

    #[test]
    fn a_missing_field_names_line_and_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "{\"text\": \"one\"}\n{\"body\": \"two\"}\n").unwrap();
        let error = crate::error::render(&documents(&path, DataFormat::Jsonl).unwrap_err());
        assert!(
            error.contains("a.jsonl:2") && error.contains("expected a field `text`, found `body`") && error.contains("hint:"),
            "{error}"
        );
    }

    #[test]
    fn pieces_join_to_the_file_and_cut_at_blank_lines() {
        let text = "aé\n\nbb\ncc\n\ndd";
        for piece_bytes in 1..20 {
            let mut pieces = Vec::new();
            text_pieces(Path::new("x"), Box::new(std::io::Cursor::new(text)), piece_bytes, &mut |piece, last| {
                pieces.push((piece, last));
                Ok(())
            })
            .unwrap();
            assert_eq!(pieces.iter().map(|(piece, _)| piece.as_str()).collect::<String>(), text, "pieces of {piece_bytes}");
            assert!(pieces[..pieces.len() - 1].iter().all(|(_, last)| !last) && pieces.last().unwrap().1);
        }
        assert_eq!(cut("aé\n\nbb\nc".as_bytes()), 5);
        assert_eq!(cut("é".as_bytes()), 2); // one character longer than the piece is still handed over whole
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, [b'a', 0xff, b'b']).unwrap();
        assert!(documents(&path, DataFormat::Text).unwrap_err().to_string().contains("found byte 0xff"));
    }

    #[test]
    fn sha256_is_the_published_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2 appendix B.1
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
