//! Where reference packs and benchmark files lie, and JSON lines.

use std::path::PathBuf;

use serde_json::Value;

/// The folder of reference packs: `PARITY_DIR`, by default beside the workspace. `None`, and a line that says so, without it.
pub(crate) fn parity(pack: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/parity");
    let folder = std::env::var_os("PARITY_DIR").map_or_else(|| PathBuf::from(default), PathBuf::from).join(pack);
    folder.is_dir().then_some(folder).or_else(|| {
        eprintln!("skipped: no reference pack `{pack}` (set PARITY_DIR)");
        None
    })
}

/// The folder of benchmark files beside the packs.
pub(crate) fn data() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/parity");
    let folder = std::env::var_os("PARITY_DIR").map_or_else(|| PathBuf::from(default), PathBuf::from).join("../data");
    folder.is_dir().then_some(folder).or_else(|| {
        eprintln!("skipped: no folder `data` beside the reference packs");
        None
    })
}

/// The rows of a JSON-lines file.
pub(crate) fn rows(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
