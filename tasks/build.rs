//! Lists `definitions/` at build time, so that a task is added by adding its folder and nothing else.
//!
//! Writes `definitions.rs` and `samples.rs` into the build folder: one `Embedded { folder, text }` per folder that holds a `task.toml`, a
//! `sample.jsonl`, in the order of the folder names.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=definitions");
    let mut folders: Vec<String> = Vec::new();
    for entry in fs::read_dir("definitions")? {
        folders.push(entry?.file_name().to_string_lossy().into_owned());
    }
    folders.sort();
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is set by cargo"))?;
    for (list, file) in [("definitions.rs", "task.toml"), ("samples.rs", "sample.jsonl")] {
        let mut source = String::from("&[\n");
        for folder in &folders {
            let path = format!("definitions/{folder}/{file}");
            if Path::new(&path).is_file() {
                println!("cargo:rerun-if-changed={path}");
                let text = format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/{path}\"))");
                writeln!(source, "    Embedded {{ folder: {folder:?}, text: {text} }},").map_err(io::Error::other)?;
            }
        }
        source.push_str("]\n");
        fs::write(Path::new(&out).join(list), source)?;
    }
    Ok(())
}
